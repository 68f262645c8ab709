//! A clock that does not step back a little.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use safeconduct_types::Timestamp;

/// How far back a clock may step and be taken to stand still instead. A step further back is believed: the clock
/// had been wrong.
pub const CLOCK_STEP: Duration = Duration::from_mins(1);

/// The latest time that this process has seen on a store's clock. After a fail-over another machine's clock
/// answers, and what had expired should not come back for a moment.
#[derive(Debug)]
pub(crate) struct Steady(AtomicI64);

impl Steady {
    pub(crate) const fn new() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }

    /// The latest time seen.
    pub(crate) fn latest(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }

    /// What time it is when the clock says `now`. The commit script decides the same way.
    pub(crate) fn at(&self, now: Timestamp) -> Timestamp {
        let latest = self.latest();
        if now < latest && latest.since(now) <= CLOCK_STEP {
            return latest;
        }
        // Answers overtake each other by milliseconds; whichever is kept is one that was seen.
        self.0.store(now.as_millis(), Ordering::Relaxed);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_step_back_stands_still_and_a_large_one_is_believed() {
        let steady = Steady::new();
        let start = Timestamp::from_seconds(1_000);
        assert_eq!(steady.at(start), start);
        assert_eq!(steady.at(start.before(CLOCK_STEP)), start);
        let mended = start.before(CLOCK_STEP).before(Duration::from_millis(1));
        assert_eq!(steady.at(mended), mended);
        assert_eq!(steady.at(start), start);
    }
}
