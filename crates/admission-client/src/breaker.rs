//! Not asking an admission that does not answer.
//!
//! Counts calls in a row that nobody answered. After a few of them, calls are refused at once instead of after a
//! time-out each; one call at a time goes through to find out whether that is over. A refusal by admission itself, for
//! instance because its store is gone, is an answer: there it is admission that must be quick.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use safeconduct_types::{Reason, Refusal};

/// Calls in a row that nobody answered, after which no more are made.
const UNANSWERED: u32 = 3;
/// Between two calls that try again.
const PAUSE: Duration = Duration::from_millis(500);
/// What a refused caller is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    unanswered: u32,
    /// When the next call may try, once it is open.
    next: Option<Instant>,
}

impl Breaker {
    /// Whether a call may be made at `now`.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.unanswered < UNANSWERED {
            return Ok(());
        }
        if state.next.is_none_or(|next| next <= now) {
            // This one tries; the others wait for what it finds.
            state.next = now.checked_add(PAUSE);
            return Ok(());
        }
        Err(unreachable())
    }

    /// What came of a call that ended at `now`.
    pub(crate) fn ended(&self, answered: bool, now: Instant) {
        let mut state = self.lock();
        if answered {
            if state.unanswered >= UNANSWERED {
                tracing::info!("admission answers again");
            }
            *state = State::default();
            return;
        }
        state.unanswered = state.unanswered.saturating_add(1);
        if state.unanswered == UNANSWERED {
            tracing::warn!("admission does not answer: calls are refused at once until it does");
        }
        if state.unanswered >= UNANSWERED {
            state.next = now.checked_add(PAUSE);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreachable() -> Refusal {
    let detail = "admission cannot be reached, so nothing was done; ask again with the same key";
    Refusal::new(Reason::StoreUnavailable, detail).with_retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use safeconduct_types::{Clock as _, ManualClock, Timestamp};

    use super::*;

    #[test]
    fn after_a_few_unanswered_calls_one_at_a_time_tries() {
        let clock = ManualClock::at(Timestamp::from_seconds(0));
        let breaker = Breaker::default();
        for _ in 0..UNANSWERED {
            breaker.admit(clock.instant()).unwrap();
            breaker.ended(false, clock.instant());
        }
        let refusal = breaker.admit(clock.instant()).unwrap_err();
        assert_eq!((refusal.reason(), refusal.retry_after()), (Reason::StoreUnavailable, Some(RETRY_AFTER)));
        clock.advance(PAUSE);
        breaker.admit(clock.instant()).unwrap();
        assert!(breaker.admit(clock.instant()).is_err());
        breaker.ended(false, clock.instant());
        assert!(breaker.admit(clock.instant()).is_err());
        clock.advance(PAUSE);
        breaker.admit(clock.instant()).unwrap();
        breaker.ended(true, clock.instant());
        breaker.admit(clock.instant()).unwrap();
        breaker.admit(clock.instant()).unwrap();
    }

    #[test]
    fn an_answer_in_between_counts() {
        let clock = ManualClock::at(Timestamp::from_seconds(0));
        let breaker = Breaker::default();
        for n in 0..20 {
            breaker.admit(clock.instant()).unwrap();
            breaker.ended(n % 2 == 0, clock.instant());
        }
    }
}
