//! How often a proof may fail.
//!
//! The proof is verified first, always: **a valid one passes whatever was counted before it**, so that nobody locks
//! anybody out by failing in their name. What failed is charged afterwards, at admission and so over all processes:
//! to the session, to the network (or, where the caller does not see it, to the caller), and only then to the contact
//! that was claimed. All is taken or nothing, so that a flood from one session or network stops counting against the
//! contact as soon as its own budget is gone. Whoever is past a budget is told to wait instead of what was wrong.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use safeconduct_admission_client::{Admission, Charge, Limit, LimitScope, Shape, Take, TakeAnswer};
use safeconduct_telemetry::ContactHasher as Hasher;
use safeconduct_types::{
    CallerName, Clock, ContactId, Deadline, OperationId, Random, Reason, Refusal, SessionId, WorkspaceId,
};

/// The length over which the budgets are given.
const PERIOD: Duration = Duration::from_mins(10);
/// How long a refusal waits to be counted.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);
/// Longest that somebody is known here to be past a budget.
const LONGEST_REST: Duration = Duration::from_mins(10);
/// Most of those that are known here; who does not fit is counted at admission again.
const MOST_RESTING: usize = 4096;

/// Whose budget, from the one that is charged first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Budget {
    Session,
    Network,
    Caller,
    Contact,
}

impl Budget {
    const fn name(self) -> &'static str {
        match self {
            Self::Session => "identity-failures-session",
            Self::Network => "identity-failures-network",
            Self::Caller => "identity-failures-caller",
            Self::Contact => "identity-failures-contact",
        }
    }

    /// Failures in [`PERIOD`], all of which may come at once. A caller stands for all of its users.
    const fn failures(self) -> u32 {
        match self {
            Self::Session => 10,
            Self::Contact => 30,
            Self::Network => 60,
            Self::Caller => 6_000,
        }
    }
}

/// Who failed.
#[derive(Debug)]
pub(crate) struct Failed<'a> {
    pub(crate) workspace: &'a WorkspaceId,
    pub(crate) caller: &'a CallerName,
    pub(crate) session: Option<&'a SessionId>,
    pub(crate) network: Option<IpAddr>,
    /// As whom.
    pub(crate) claimed: Option<&'a ContactId>,
}

/// A keyed digest of one budget's owner.
type Owner = [u8; 32];

/// Counts what failed.
#[derive(Debug)]
pub(crate) struct Rejections {
    admission: Arc<dyn Admission>,
    hasher: Hasher,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Who is past the budget of their own, and until when: they are not asked about again before.
    resting: Mutex<HashMap<Owner, Instant>>,
}

impl Rejections {
    pub(crate) fn new(
        admission: Arc<dyn Admission>,
        hasher: Hasher,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { admission, hasher, clock, random, resting: Mutex::default() }
    }

    /// What whoever failed is told: the verdict, or to wait.
    pub(crate) async fn told(&self, who: &Failed<'_>, verdict: Refusal) -> Refusal {
        let budgets = self.budgets(who);
        let now = self.clock.instant();
        if let Some(until) = self.resting(&budgets, now) {
            return slower(until.saturating_duration_since(now));
        }
        let charge =
            |&(budget, owner): &(Budget, Owner)| Charge { limit: limit(budget, owner), amount: 1, unit: String::new() };
        let asked = Take {
            workspace: who.workspace.clone(),
            contact: None,
            operation: OperationId::generate(&*self.random),
            charges: budgets.iter().map(charge).collect(),
            marks: Vec::new(),
        };
        match self.admission.take(asked, Deadline::within(now, COUNTED_WITHIN)).await {
            Ok(TakeAnswer::Denied(denied)) => {
                let wait = denied.retry_after.unwrap_or(LONGEST_REST).min(LONGEST_REST);
                let own = budgets.iter().find(|(budget, _)| budget.name() == denied.limit.name);
                if let Some((_, owner)) = own.filter(|(budget, _)| *budget != Budget::Contact) {
                    self.rest(*owner, now, wait);
                }
                slower(wait)
            }
            // Refused either way; without admission nobody counts.
            Ok(TakeAnswer::Taken(_) | TakeAnswer::Marked(_)) => verdict,
            Err(error) => {
                tracing::debug!(%error, "a rejected proof was not counted");
                verdict
            }
        }
    }

    fn budgets(&self, who: &Failed<'_>) -> Vec<(Budget, Owner)> {
        let owner = |budget: Budget, text: &str| {
            let text = self.hasher.hash(who.workspace, &format!("{} {text}", budget.name()));
            let mut owner = Owner::default();
            for (to, from) in owner.iter_mut().zip(text.bytes()) {
                *to = from;
            }
            (budget, owner)
        };
        let session = who.session.map(|session| owner(Budget::Session, session.as_str()));
        let source = match who.network {
            Some(address) => owner(Budget::Network, &network(address)),
            None => owner(Budget::Caller, who.caller.as_str()),
        };
        let contact = who.claimed.map(|contact| owner(Budget::Contact, contact.as_str()));
        session.into_iter().chain([source]).chain(contact).collect()
    }

    fn resting(&self, budgets: &[(Budget, Owner)], now: Instant) -> Option<Instant> {
        let resting = self.locked();
        budgets.iter().filter_map(|(_, owner)| resting.get(owner)).copied().filter(|until| *until > now).max()
    }

    fn rest(&self, owner: Owner, now: Instant, wait: Duration) {
        let mut resting = self.locked();
        if resting.len() >= MOST_RESTING {
            resting.retain(|_, until| *until > now);
        }
        if let Some(until) = now.checked_add(wait)
            && resting.len() < MOST_RESTING
        {
            resting.insert(owner, until);
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Owner, Instant>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limit(budget: Budget, owner: Owner) -> Limit {
    Limit {
        name: budget.name().to_owned(),
        scope: LimitScope::Workspace,
        per_contact: false,
        dimensions: Some(owner),
        shape: Shape::Rate { permits: budget.failures(), period: PERIOD, burst: budget.failures() },
    }
}

/// What one customer of a network usually has: an IPv4 address, or a /64 of IPv6 (RFC 6177).
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{:x}/64", address.to_bits() >> 64),
    }
}

fn slower(wait: Duration) -> Refusal {
    Refusal::new(Reason::RateLimited, "too many proofs were not accepted; wait as long as told, and send a valid one")
        .with_retry_after(wait)
}
