//! How much work a worker's own connections ask for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// After each of these what was asked for before counts half.
const HALF_LIFE: Duration = Duration::from_millis(50);

/// A point in time, in half-lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick(u32);

impl Tick {
    /// This long after the beginning. Goes round after seven years.
    pub(super) fn after(beginning: Duration) -> Self {
        let ticks = beginning.as_millis() / HALF_LIFE.as_millis() % (1 << 32);
        Self(u32::try_from(ticks).unwrap_or_default())
    }
}

/// Work that was asked for lately, wherever it is done. Written by its worker, read by all: who reads amid a change may
/// be wrong about where one call is done best, and no more.
#[derive(Debug, Default)]
pub(super) struct Demand {
    micros: AtomicU32,
    then: AtomicU32,
}

impl Demand {
    /// Microseconds of work, the older the less.
    pub(super) fn at(&self, now: Tick) -> u32 {
        let halvings = now.0.wrapping_sub(self.then.load(Ordering::Relaxed));
        self.micros.load(Ordering::Relaxed).checked_shr(halvings).unwrap_or(0)
    }

    /// Adds a call that takes this much.
    pub(super) fn add(&self, now: Tick, work: Duration) {
        let work = u32::try_from(work.as_micros()).unwrap_or(u32::MAX);
        self.micros.store(self.at(now).saturating_add(work), Ordering::Relaxed);
        self.then.store(now.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_counts_half_after_each_half_life() {
        let demand = Demand::default();
        let at = |millis| Tick::after(Duration::from_millis(millis));
        demand.add(at(10), Duration::from_micros(300));
        demand.add(at(20), Duration::from_micros(100));
        let asked: Vec<u32> = [20, 49, 50, 100, 150, 1_000, 10_000].map(|millis| demand.at(at(millis))).to_vec();
        assert_eq!(asked, [400, 400, 200, 100, 50, 0, 0]);
        demand.add(at(100), Duration::from_micros(1));
        assert_eq!(demand.at(at(100)), 101);
    }

    #[test]
    fn ticks_go_round_and_the_latest_counts() {
        let demand = Demand::default();
        let round = HALF_LIFE * u32::MAX;
        demand.add(Tick::after(round), Duration::from_micros(800));
        assert_eq!(demand.at(Tick::after(round + HALF_LIFE)), 400);
    }
}
