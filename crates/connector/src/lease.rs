//! An executor's own view of its lease: it must know that it lapsed without anybody telling it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Until when this executor may act. Counted from before admission was asked, so it ends here before it ends there.
#[derive(Debug)]
pub(crate) struct Lease {
    length: Duration,
    end: Mutex<Option<Instant>>,
}

impl Lease {
    /// A lease that was asked for at `asked`.
    pub(crate) fn from(asked: Instant, length: Duration) -> Self {
        Self { length, end: Mutex::new(asked.checked_add(length)) }
    }

    /// It was extended, as was asked for at `asked`.
    pub(crate) fn extend(&self, asked: Instant) {
        let mut end = self.lock();
        // Lost is lost.
        if end.is_some() {
            *end = asked.checked_add(self.length);
        }
    }

    /// Somebody else has it.
    pub(crate) fn lose(&self) {
        *self.lock() = None;
    }

    /// Whether the holder may act at `now`.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.lock().is_some_and(|end| now < end)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use safeconduct_types::{Clock as _, ManualClock, Timestamp};

    use super::*;

    #[test]
    fn a_lease_ends_by_itself_and_is_extended_from_when_that_was_asked() {
        let clock = ManualClock::at(Timestamp::from_seconds(0));
        let (second, asked) = (Duration::from_secs(1), clock.instant());
        let lease = Lease::from(asked, second * 3);
        clock.advance(second * 2);
        assert!(lease.holds(clock.instant()));
        lease.extend(clock.instant());
        clock.advance(second * 2);
        assert!(lease.holds(clock.instant()));
        clock.advance(second);
        assert!(!lease.holds(clock.instant()));
    }

    #[test]
    fn a_lost_lease_does_not_come_back() {
        let clock = ManualClock::at(Timestamp::from_seconds(0));
        let lease = Lease::from(clock.instant(), Duration::from_secs(3));
        lease.lose();
        lease.extend(clock.instant());
        assert!(!lease.holds(clock.instant()));
    }
}
