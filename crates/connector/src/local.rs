//! Rates as this process alone counts them: what holds reads back while the store is gone.
//!
//! The same smoothed rates (GCRA) as admission's, on the process's own clock, forgotten with it. With several processes
//! a caller gets each one's share; that is what a definition accepts that says `on_store_failure: allow`. A library for
//! one fixed rate does not fit: each limit of each definition has a rate of its own, and the counters are bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use safeconduct_admission_client::{Charge, Denied, LimitKind, LimitScope, Remaining, Shape};
use safeconduct_connector_domain::fingerprint::Digest;
use safeconduct_types::{ContactId, WorkspaceId};

/// The most counters. When they are used up, and none has come to rest, whoever has no counter waits.
const MOST: usize = 50_000;
/// How long somebody without a counter waits.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct LocalRates {
    /// When each would be at rest: the theoretical arrival time of the next request.
    rests: Mutex<HashMap<Digest, Instant>>,
}

impl LocalRates {
    /// Takes all of these rates, or none: then which one denies.
    pub(crate) fn take(
        &self,
        (workspace, contact): (&WorkspaceId, &ContactId),
        charges: &[Charge],
        now: Instant,
    ) -> Result<Vec<Remaining>, Box<Denied>> {
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        if rests.len().saturating_add(charges.len()) > MOST {
            rests.retain(|_, rest| *rest > now);
        }
        let mut taken = Vec::with_capacity(charges.len());
        let mut left = Vec::with_capacity(charges.len());
        for charge in charges {
            // Caps are not counted here, so nothing is let through for them.
            let Shape::Rate { permits, period, burst } = charge.limit.shape else {
                return Err(no(charge, 0, None).into());
            };
            let key = key(workspace, contact, charge);
            let known = rests.get(&key).copied();
            if known.is_none() && rests.len() >= MOST {
                return Err(no(charge, burst.into(), Some(FULL_PAUSE)).into());
            }
            let each = period / permits.max(1);
            let debt = known.map_or(Duration::ZERO, |rest| rest.saturating_duration_since(now)) + each;
            let most = each.saturating_mul(burst);
            if let Some(wait) = debt.checked_sub(most).filter(|wait| !wait.is_zero()) {
                return Err(no(charge, burst.into(), Some(wait)).into());
            }
            let free = most.saturating_sub(debt).as_nanos().checked_div(each.as_nanos()).unwrap_or_default();
            left.push(remaining(charge, i64::try_from(free).unwrap_or_default(), burst.into()));
            taken.push((key, now.checked_add(debt).unwrap_or(now)));
        }
        rests.extend(taken);
        Ok(left)
    }
}

fn no(charge: &Charge, max: i64, retry_after: Option<Duration>) -> Denied {
    Denied { limit: remaining(charge, 0, max), retry_after, remaining: Vec::new() }
}

fn remaining(charge: &Charge, left: i64, max: i64) -> Remaining {
    let name = charge.limit.name.clone();
    Remaining { name, kind: LimitKind::Rate, unit: String::new(), left, max, resets: None }
}

fn key(workspace: &WorkspaceId, contact: &ContactId, charge: &Charge) -> Digest {
    let limit = &charge.limit;
    let family: &[u8] = match &limit.scope {
        LimitScope::Family(family) => family.as_str().as_bytes(),
        LimitScope::Workspace => b"",
    };
    let contact: &[u8] = if limit.per_contact { contact.as_str().as_bytes() } else { b"" };
    let dimensions: &[u8] = limit.dimensions.as_ref().map_or(b"", |digest| digest);
    let parts = [workspace.as_str().as_bytes(), family, limit.name.as_bytes(), contact, dimensions];
    Digest::of("safeconduct/local-rate/v1", &parts)
}

#[cfg(test)]
mod tests {
    use safeconduct_admission_client::{Limit, Window};
    use safeconduct_types::{Clock as _, ManualClock, Timestamp};

    use super::*;

    fn rate(name: &str, permits: u32, burst: u32) -> Charge {
        let shape = Shape::Rate { permits, period: Duration::from_secs(10), burst };
        let scope = LimitScope::Family("list".parse().unwrap());
        let limit = Limit { name: name.to_owned(), scope, per_contact: true, dimensions: None, shape };
        Charge { limit, amount: 1, unit: String::new() }
    }

    fn who(n: u8) -> (WorkspaceId, ContactId) {
        ("acme".parse().unwrap(), ContactId::from_digest(&[n; 16]))
    }

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let (clock, rates) = (ManualClock::at(Timestamp::from_seconds(0)), LocalRates::default());
        let (ada, grace) = (who(1), who(2));
        let ask = |who: &(WorkspaceId, ContactId)| rates.take((&who.0, &who.1), &[rate("r", 5, 3)], clock.instant());
        let left: Vec<_> = (0..3).map(|_| ask(&ada).unwrap()[0].left).collect();
        assert_eq!(left, [2, 1, 0]);
        assert_eq!(ask(&ada).unwrap_err().retry_after, Some(Duration::from_secs(2)));
        assert!(ask(&grace).is_ok(), "each contact has a counter");
        clock.advance(Duration::from_secs(2));
        assert!(ask(&ada).is_ok());
        assert!(ask(&ada).is_err());
        clock.advance(Duration::from_mins(5));
        let passed = (0..10).filter(|_| ask(&ada).is_ok()).count();
        assert_eq!(passed, 3, "rest is not saved up beyond a burst");
    }

    #[test]
    fn all_are_taken_or_none() {
        let (clock, rates) = (ManualClock::at(Timestamp::from_seconds(0)), LocalRates::default());
        let ada = who(1);
        let ask = |charges: &[Charge]| rates.take((&ada.0, &ada.1), charges, clock.instant());
        ask(&[rate("narrow", 1, 1)]).unwrap();
        for _ in 0..5 {
            let denied = ask(&[rate("wide", 5, 2), rate("narrow", 1, 1)]).unwrap_err();
            assert_eq!(denied.limit.name, "narrow");
        }
        assert!(ask(&[rate("wide", 5, 2)]).is_ok() && ask(&[rate("wide", 5, 2)]).is_ok());
    }

    #[test]
    fn counters_are_bounded_and_come_free_when_they_are_at_rest() {
        let (clock, rates) = (ManualClock::at(Timestamp::from_seconds(0)), LocalRates::default());
        let workspace: WorkspaceId = "acme".parse().unwrap();
        let take = |n: usize| {
            let mut digest = [0; 16];
            digest[..8].copy_from_slice(&n.to_be_bytes());
            rates.take((&workspace, &ContactId::from_digest(&digest)), &[rate("r", 5, 3)], clock.instant())
        };
        assert!((0..MOST).all(|n| take(n).is_ok()));
        assert_eq!(take(MOST).unwrap_err().retry_after, Some(FULL_PAUSE));
        assert!(take(0).is_ok(), "who has a counter keeps it");
        assert_eq!(rates.rests.lock().unwrap().len(), MOST);
        clock.advance(Duration::from_secs(2));
        assert!(take(MOST).is_ok(), "most are at rest");
        assert_eq!(rates.rests.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_cap_is_never_let_through() {
        let (clock, rates, ada) = (ManualClock::at(Timestamp::from_seconds(0)), LocalRates::default(), who(1));
        let mut cap = rate("cap", 1, 1);
        cap.limit.shape = Shape::Count { window: Window::Rolling(Duration::from_mins(1)), max: 100 };
        assert!(rates.take((&ada.0, &ada.1), &[cap], clock.instant()).is_err());
    }
}
