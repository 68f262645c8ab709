//! How a message leaves: the providers of each workspace, the first one that takes it.
//!
//! A provider gets a message with its code, so nothing here logs, traces or prints one, but for the console, which a
//! process must allow ([`Console`]). What went wrong is told by a short stable name: a provider's own words could repeat
//! the address.

mod console;
mod http;
mod plain;
mod smtp;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use safeconduct_otp_domain::address::Channel;
pub use safeconduct_otp_domain::delivery::Outgoing;
use safeconduct_otp_domain::delivery::{Provider as Spec, ProviderName};
use safeconduct_service::secrets::Secrets;
use safeconduct_types::{Clock, Deadline, SecretText, Timestamp, WorkspaceId};

pub use console::Console;

/// How long a provider that could not be reached is asked last.
const REST: Duration = Duration::from_secs(5);

/// The sender of a workspace's messages on one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The display name; empty for none.
    pub name: String,
    /// The email address, or the number or name that a text message comes from. Empty: whatever the provider puts there.
    pub address: String,
}

impl Sender {
    /// Out of what a workspace calls its sender: an address, or `Name <address>`.
    pub fn parse(from: &str) -> Self {
        let from = from.trim();
        match from.strip_suffix('>').and_then(|from| from.rsplit_once('<')) {
            Some((name, address)) => {
                Self { name: name.trim().trim_matches('"').to_owned(), address: address.trim().to_owned() }
            }
            None => Self { name: String::new(), address: from.to_owned() },
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A provider has taken it. Whether it arrives, nobody can know.
    Sent,
    /// None will ever take it.
    Refused(&'static str),
    /// None has taken it, but one may, from so long on.
    Later(&'static str, Option<Duration>),
}

/// One provider of one workspace.
#[async_trait]
trait Carry: Send + Sync + fmt::Debug {
    /// Hands the message over, once, in the time there is.
    async fn carry(&self, message: &Outgoing<'_>, from: &Sender, deadline: Deadline) -> Outcome;
}

/// How messages of one channel of a workspace travel.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Who sends them.
    pub from: Sender,
    /// Through which providers, the first one first.
    pub via: Vec<ProviderName>,
}

/// What a workspace says about its messages.
#[derive(Clone, Debug)]
pub struct WorkspaceRoutes {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// Email, if it is offered.
    pub email: Option<Route>,
    /// Text messages, if they are offered.
    pub sms: Option<Route>,
    /// The providers.
    pub providers: BTreeMap<ProviderName, Spec>,
}

/// A provider that cannot be set up. Names it, and never a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("workspace {workspace}: spec.otp.delivery.{provider}: {problem}")]
pub struct SetUpError {
    workspace: WorkspaceId,
    provider: String,
    problem: String,
}

/// All providers of all workspaces.
#[derive(Debug)]
pub struct Deliveries {
    workspaces: BTreeMap<WorkspaceId, Lines>,
    clock: Arc<dyn Clock>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Lines {
    email: Option<Line>,
    sms: Option<Line>,
}

#[derive(Debug)]
struct Line {
    from: Sender,
    via: Vec<Arc<Standing>>,
}

/// A provider, and until when it is asked last.
#[derive(Debug)]
struct Standing {
    carrier: Box<dyn Carry>,
    rests_until: AtomicI64,
}

/// How attempts ended, over all workspaces.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    sent: AtomicU64,
    fallbacks: AtomicU64,
    refused: AtomicU64,
    later: AtomicU64,
}

impl Deliveries {
    /// The providers of these workspaces; `console` if the process may print messages. A workspace with a provider that
    /// cannot be set up has none, and is told of besides: its mistake touches no other.
    pub fn new(
        workspaces: impl IntoIterator<Item = WorkspaceRoutes>,
        secrets: &Arc<Secrets>,
        console: Option<&Console>,
        clock: &Arc<dyn Clock>,
    ) -> (Self, Vec<SetUpError>) {
        let (mut found, mut errors) = (BTreeMap::new(), Vec::new());
        for one in workspaces {
            let workspace = one.workspace.clone();
            match Lines::set_up(one, secrets, console, clock) {
                Ok(lines) => drop(found.insert(workspace, lines)),
                Err(error) => errors.push(error),
            }
        }
        (Self { workspaces: found, clock: Arc::clone(clock), counts: Counts::default() }, errors)
    }

    /// Whether this workspace's messages can travel.
    pub fn serves(&self, workspace: &WorkspaceId) -> bool {
        self.workspaces.contains_key(workspace)
    }

    /// Hands the message to the first provider that takes it. All of them get what is left of the time, but none more
    /// than its share of it: one that hangs leaves some for the next.
    pub async fn send(
        &self,
        workspace: &WorkspaceId,
        channel: Channel,
        message: &Outgoing<'_>,
        within: Duration,
    ) -> Outcome {
        let lines = self.workspaces.get(workspace);
        let line = lines.and_then(|lines| match channel {
            Channel::Email => lines.email.as_ref(),
            Channel::Sms => lines.sms.as_ref(),
        });
        let Some(line) = line.filter(|line| !line.via.is_empty()) else {
            return Outcome::Refused("no provider");
        };
        let end = Deadline::within(self.clock.instant(), within);
        let now = self.clock.now();
        let mut ordered: Vec<_> = line.via.iter().collect();
        // Stable: among those that rest, and among those that do not, the workspace's order holds.
        ordered.sort_by_key(|one| one.rests(now));
        let mut outcome = Outcome::Refused("no provider");
        for (tried, one) in ordered.iter().enumerate() {
            let left = end.remaining(self.clock.instant());
            let share = left / u32::try_from(ordered.len() - tried).unwrap_or(1);
            let deadline = Deadline::within(self.clock.instant(), share);
            let carried = tokio::time::timeout(share, one.carrier.carry(message, &line.from, deadline)).await;
            let carried = carried.unwrap_or(Outcome::Later("timeout", None));
            if carried == Outcome::Sent {
                self.counts.sent.fetch_add(1, Ordering::Relaxed);
                self.counts.fallbacks.fetch_add(u64::from(tried > 0), Ordering::Relaxed);
                return Outcome::Sent;
            }
            one.failed(carried, self.clock.now());
            outcome = either(outcome, carried, tried == 0);
        }
        let counter = if matches!(outcome, Outcome::Later(..)) { &self.counts.later } else { &self.counts.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    pub(crate) fn metrics(&self, text: &mut String) {
        use std::fmt::Write as _;
        let name = "safeconduct_otp_sends_total";
        let _ = writeln!(text, "# HELP {name} Attempts to hand a code to a provider, by how they ended.");
        let _ = writeln!(text, "# TYPE {name} counter");
        let counts = &self.counts;
        for (result, counter) in [("sent", &counts.sent), ("refused", &counts.refused), ("later", &counts.later)] {
            let _ = writeln!(text, "{name}{{result=\"{result}\"}} {}", counter.load(Ordering::Relaxed));
        }
        let name = "safeconduct_otp_fallbacks_total";
        let _ = writeln!(text, "# HELP {name} Codes that another provider than the first one took.");
        let _ = writeln!(text, "# TYPE {name} counter\n{name} {}", counts.fallbacks.load(Ordering::Relaxed));
    }
}

impl Lines {
    fn set_up(
        one: WorkspaceRoutes,
        secrets: &Arc<Secrets>,
        console: Option<&Console>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, SetUpError> {
        let mut standing = BTreeMap::new();
        for (name, spec) in one.providers {
            let wrong =
                |problem: String| SetUpError { workspace: one.workspace.clone(), provider: name.to_string(), problem };
            let keys = Keys { workspace: one.workspace.clone(), secrets: Arc::clone(secrets) };
            let carrier: Box<dyn Carry> = match spec {
                Spec::Smtp(spec) => Box::new(smtp::Smtp::new(spec, keys, clock).map_err(wrong)?),
                Spec::Http(spec) => Box::new(http::Http::new(spec, keys, clock).map_err(wrong)?),
                Spec::Console => Box::new(console.cloned().ok_or_else(|| {
                    let told = "`console` prints codes; it is for development, and this process does not allow it \
                                (otp.console = true)";
                    wrong(told.to_owned())
                })?),
            };
            standing.insert(name, Arc::new(Standing { carrier, rests_until: AtomicI64::new(i64::MIN) }));
        }
        let line = |route: Option<Route>| {
            route.map(|route| Line {
                from: route.from,
                via: route.via.iter().filter_map(|name| standing.get(name).cloned()).collect(),
            })
        };
        Ok(Self { email: line(one.email), sms: line(one.sms) })
    }
}

/// Of two failures the one that leaves more hope.
fn either(before: Outcome, now: Outcome, first: bool) -> Outcome {
    match (before, now) {
        (Outcome::Later(why, one), Outcome::Later(_, other)) => Outcome::Later(why, one.min(other)),
        (Outcome::Later(..), _) if !first => before,
        _ => now,
    }
}

impl Standing {
    fn rests(&self, now: Timestamp) -> bool {
        now.as_millis() < self.rests_until.load(Ordering::Relaxed)
    }

    fn failed(&self, outcome: Outcome, now: Timestamp) {
        if let Outcome::Later(_, after) = outcome {
            let until = now.after(after.unwrap_or(REST).min(Duration::from_mins(1)));
            self.rests_until.store(until.as_millis(), Ordering::Relaxed);
        }
    }
}

/// The secrets of one workspace.
#[derive(Clone, Debug)]
struct Keys {
    workspace: WorkspaceId,
    secrets: Arc<Secrets>,
}

impl Keys {
    /// The secret as it is now, as text.
    fn text(&self, name: &str) -> Option<SecretText> {
        match self.secrets.get(&self.workspace, name) {
            Ok(secret) => String::from_utf8(secret.expose().to_vec()).ok().map(SecretText::new),
            Err(error) => {
                tracing::error!(%error, "a provider of codes lacks its secret");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
