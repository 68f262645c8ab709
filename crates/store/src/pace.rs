//! A guard against clocks that jump.
//!
//! Expiry, leases and limits follow the store's clock, and that clock can be set wrong, set right, or become another
//! machine's with a fail-over. So each process keeps an estimate of it against its own monotonic clock. Every call
//! carries a [`Band`] around the estimate, and the store keeps the time that it decides with inside of it. The
//! estimate follows a clock that is less than [`STEP`] away at once; one that has jumped further it follows only 1 %
//! faster or slower than real time.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use safeconduct_types::{Clock, Timestamp};

/// How far the store's clock may be from the estimate and be followed at once: what drift and a fail-over between
/// machines with disciplined clocks come to.
pub const STEP: Duration = Duration::from_secs(1);

const STEP_US: i64 = 1_000_000;

/// One part in this many: how much faster or slower than real time a clock that has jumped is followed.
const SLEW: i64 = 100;

/// No estimate yet.
const NONE: i64 = i64::MIN;

/// The last moment that Lua's numbers can tell from the next, in microseconds since the epoch.
const LAST_US: i64 = 9_007_199_254_740_991;

/// Bounds of the time that a call is decided with, in microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// The earliest.
    pub not_before: i64,
    /// The latest; not before `not_before`.
    pub not_after: i64,
    /// When it was made: the store looks at its clock later than this.
    made: Instant,
}

impl Band {
    /// The time that is taken when the store's clock says `told`.
    pub fn clamp(&self, told: i64) -> i64 {
        told.max(self.not_before).min(self.not_after)
    }
}

/// The estimate of a store's clock. Cheap: a call costs a look at the monotonic clock and a few loads.
#[derive(Debug)]
pub struct Pace {
    clock: Arc<dyn Clock>,
    /// The process's clock is the time, whatever the store says.
    forced: bool,
    origin: Instant,
    /// The store's clock less the process's (microseconds since `origin`).
    offset: AtomicI64,
    /// How far off the store's clock was when it was last seen, in microseconds; 0: followed.
    skew: AtomicU64,
    slewing: Mutex<Option<Slewing>>,
}

/// A jump that is being followed.
#[derive(Debug)]
struct Slewing {
    /// When the estimate was last moved, in microseconds since the origin.
    moved: i64,
    /// How far off the store's clock still was then; a sign says to which side.
    gap: i64,
}

impl Pace {
    /// A guard that has not seen the store's clock yet: the first that it sees it adopts.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let origin = clock.instant();
        let (offset, skew) = (AtomicI64::new(NONE), AtomicU64::new(0));
        Self { clock, forced: false, origin, offset, skew, slewing: Mutex::new(None) }
    }

    /// The time is what this clock says, whatever the store's says. For tests.
    pub fn forced(clock: Arc<dyn Clock>) -> Self {
        Self { forced: true, ..Self::new(clock) }
    }

    /// The bounds for a call that is sent now.
    pub fn band(&self) -> Band {
        let made = self.clock.instant();
        if self.forced {
            let now = micros(self.clock.now());
            return Band { not_before: now, not_after: now, made };
        }
        let offset = self.offset.load(Ordering::Relaxed);
        if offset == NONE {
            return Band { not_before: 0, not_after: LAST_US, made };
        }
        let estimate = self.at(made).saturating_add(offset);
        Band { not_before: (estimate - STEP_US).max(0), not_after: (estimate + STEP_US).max(0), made }
    }

    /// Takes in what the store's clock said, itself and not what the band made of it, in the answer to a call that
    /// went out with `band`.
    pub fn observe(&self, band: Band, told: i64) {
        if self.forced {
            return;
        }
        // It looked at its clock between the call and now; anywhere in between is as likely.
        let now = self.at(self.clock.instant());
        self.fit(told.saturating_sub(now), told.saturating_sub(self.at(band.made)), now);
    }

    /// The time, in microseconds since the epoch, where the process's own clock is the store's.
    pub fn here(&self) -> i64 {
        let told = micros(self.clock.now());
        if self.forced {
            return told;
        }
        let now = self.at(self.clock.instant());
        // It says no more than milliseconds.
        self.fit(told.saturating_sub(now), told.saturating_add(999).saturating_sub(now), now);
        now.saturating_add(self.offset.load(Ordering::Relaxed))
    }

    /// The estimate of the store's clock; the process's own clock before the first contact.
    pub fn estimate(&self) -> Timestamp {
        let offset = self.offset.load(Ordering::Relaxed);
        if self.forced || offset == NONE {
            return self.clock.now();
        }
        Timestamp::from_millis(self.at(self.clock.instant()).saturating_add(offset).div_euclid(1000))
    }

    /// How far off the store's clock is after a jump; zero when it is followed.
    pub fn skew(&self) -> Duration {
        Duration::from_micros(self.skew.load(Ordering::Relaxed))
    }

    fn at(&self, instant: Instant) -> i64 {
        i64::try_from(instant.saturating_duration_since(self.origin).as_micros()).unwrap_or(i64::MAX)
    }

    /// The true offset is between `low` and `high`, as seen at `now`.
    fn fit(&self, low: i64, high: i64, now: i64) {
        let high = high.max(low);
        let offset = self.offset.load(Ordering::Relaxed);
        let followed = self.skew.load(Ordering::Relaxed) == 0;
        if followed && (low..=high).contains(&offset) {
            return;
        }
        let mut slewing = self.lock();
        let offset = self.offset.load(Ordering::Relaxed);
        let width = high.saturating_sub(low);
        if offset == NONE {
            // An answer that took too long would be wrong by more than what is followed at once.
            if width <= 2 * STEP_US {
                // In the middle, unless that is finer than what the clock tells.
                let middle = if width < 1000 { 0 } else { width / 2 };
                self.offset.store(low.saturating_add(middle), Ordering::Relaxed);
            }
            return;
        }
        let gap = offset.clamp(low, high).saturating_sub(offset);
        if gap == 0 && width > STEP_US {
            // An answer that took so long fits a clock that is followed, and one that is not.
            return;
        }
        if gap.abs() <= STEP_US {
            self.offset.store(offset.saturating_add(gap), Ordering::Relaxed);
            self.skew.store(0, Ordering::Relaxed);
            *slewing = None;
            return;
        }
        let last = slewing.as_ref().map_or(Slewing { moved: now, gap: 0 }, |last| Slewing { ..*last });
        // A negative length is an answer that was overtaken.
        let step = now.saturating_sub(last.moved).max(0) / SLEW;
        self.offset.store(offset.saturating_add(gap.signum() * step.min(gap.abs())), Ordering::Relaxed);
        self.skew.store(gap.unsigned_abs(), Ordering::Relaxed);
        if gap.saturating_sub(last.gap).abs() > STEP_US {
            tracing::warn!(
                ahead_ms = gap / 1000,
                "the store's clock has jumped; it is followed 1 % faster or slower until it is met, or adopted by a restart"
            );
        }
        // Whole steps only: what is less than one is not lost.
        let moved = if step == 0 { last.moved } else { last.moved.saturating_add(step * SLEW) };
        *slewing = Some(Slewing { moved, gap: gap.saturating_sub(gap.signum() * step) });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Slewing>> {
        self.slewing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Timestamp) -> i64 {
    time.as_millis().saturating_mul(1000).clamp(0, LAST_US)
}

#[cfg(test)]
mod tests {
    use safeconduct_types::{ManualClock, SystemClock};

    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const START: i64 = 1_700_000_000_000_000;

    /// A store whose clock is not the process's.
    struct Bench {
        clock: Arc<ManualClock>,
        pace: Pace,
        /// The store's clock less the process's.
        ahead: i64,
    }

    impl Bench {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(50)));
            let bench = Self { pace: Pace::new(clock.clone()), clock, ahead: START };
            bench.ask();
            bench
        }

        fn told(&self) -> i64 {
            self.ahead + micros(self.clock.now())
        }

        /// One call; what time it was decided with.
        fn ask(&self) -> i64 {
            let band = self.pace.band();
            let told = self.told();
            self.pace.observe(band, told);
            band.clamp(told)
        }

        fn wait(&self, millis: u64) {
            self.clock.advance(Duration::from_millis(millis));
        }
    }

    #[test]
    fn the_first_clock_is_adopted_and_time_runs_with_it() {
        let bench = Bench::new();
        for _ in 0..10 {
            bench.wait(700);
            assert_eq!(bench.ask(), bench.told());
        }
        assert_eq!(bench.pace.skew(), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_drifts_is_followed_at_once() {
        let mut bench = Bench::new();
        for drift in [1, 400, 900_000, -5, -800_000, -1_000_000].into_iter().cycle().take(60) {
            bench.ahead += drift;
            bench.wait(3);
            assert_eq!(bench.ask(), bench.told());
            assert_eq!(bench.pace.skew(), Duration::ZERO);
        }
    }

    #[test]
    fn a_jump_is_followed_one_percent_faster_or_slower_until_it_is_met() {
        for jump in [HOUR, -HOUR, 10_000_000, -10_000_000] {
            let mut bench = Bench::new();
            let before = bench.told();
            bench.ahead += jump;
            let start = bench.ask();
            assert!((start - before).abs() <= STEP_US, "{jump}: {}", start - before);
            let mut last = start;
            for _ in 0..90 {
                bench.wait(1_000);
                let now = bench.ask();
                let ran = now - last;
                assert!((990_000..=1_010_000).contains(&ran), "{jump}: {ran} of 1,000,000");
                assert_ne!(bench.pace.skew(), Duration::ZERO);
                last = now;
            }
            // Time to meet it, and then some.
            for _ in 0..=jump.abs() / 10_000 / 60 {
                bench.wait(60_000);
                bench.ask();
            }
            assert_eq!(bench.ask(), bench.told());
            assert_eq!(bench.pace.skew(), Duration::ZERO);
        }
    }

    #[test]
    fn many_calls_follow_no_faster_than_few() {
        let mut bench = Bench::new();
        bench.ahead += HOUR;
        let start = bench.ask();
        for _ in 0..10_000 {
            bench.wait(1);
            bench.ask();
        }
        let ran = bench.ask() - start;
        assert!((10_090_000..=10_100_000).contains(&ran), "{ran} of 10,000,000");
    }

    #[test]
    fn a_clock_that_was_mended_is_met_at_once() {
        let mut bench = Bench::new();
        bench.ahead += HOUR;
        bench.ask();
        bench.wait(1000);
        bench.ahead -= HOUR;
        bench.ask();
        assert_eq!(bench.pace.skew(), Duration::ZERO);
        assert_eq!(bench.ask(), bench.told());
    }

    #[test]
    fn late_answers_that_overtake_each_other_are_no_jump() {
        let bench = Bench::new();
        let mut calls = Vec::new();
        for n in 0..200 {
            calls.push((bench.pace.band(), bench.told()));
            bench.wait(50);
            if n % 3 == 0 {
                // The oldest is up to 7 s late.
                let (band, told) = calls.remove(n % calls.len());
                bench.pace.observe(band, told);
            }
            assert_eq!(bench.pace.skew(), Duration::ZERO);
            let band = bench.pace.band();
            assert_eq!(band.clamp(bench.told()), bench.told());
            assert!((band.not_before + STEP_US - bench.told()).abs() <= 1000);
        }
    }

    #[test]
    fn a_slow_answer_is_neither_adopted_nor_the_end_of_a_jump() {
        let mut bench = Bench::new();
        let slow = |bench: &Bench| {
            let (band, told) = (bench.pace.band(), bench.told());
            bench.wait(5_000);
            bench.pace.observe(band, told);
        };
        bench.ahead += 4_000_000;
        bench.ask();
        let skew = bench.pace.skew();
        assert_ne!(skew, Duration::ZERO);
        slow(&bench);
        assert_eq!(bench.pace.skew(), skew);

        let fresh = Pace::new(bench.clock.clone());
        let (band, told) = (fresh.band(), bench.told());
        bench.wait(5_000);
        fresh.observe(band, told);
        assert_eq!(fresh.band().not_after, LAST_US);
        for took in [1_900, 0, 300] {
            let (band, told) = (fresh.band(), bench.told());
            bench.wait(took);
            fresh.observe(band, told);
            assert_eq!(fresh.skew(), Duration::ZERO);
        }
        assert_eq!(fresh.band().clamp(bench.told()), bench.told());
    }

    #[test]
    fn a_forced_time_is_the_clock_and_nothing_else() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(50)));
        let pace = Pace::forced(clock.clone());
        pace.observe(pace.band(), START);
        for at in [50_000_000, 7_000_000, 90_000_000] {
            clock.set(Timestamp::from_millis(at / 1000));
            let band = pace.band();
            assert_eq!((band.not_before, band.not_after, pace.here()), (at, at, at));
            assert_eq!(pace.estimate(), clock.now());
        }
    }

    #[test]
    fn the_own_clock_is_told_to_the_microsecond_and_never_runs_back() {
        let pace = Pace::new(Arc::new(SystemClock));
        let first = pace.here();
        let mut last = first;
        while last < first + 20_000 {
            let now = pace.here();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
        let wall = micros(SystemClock.now());
        assert!((pace.here() - wall).abs() < 500_000);
    }

    /// The wall clock jumps, the monotonic one does not.
    #[derive(Debug)]
    struct Wall(ManualClock, AtomicI64);

    impl Clock for Wall {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.now().as_millis() + self.1.load(Ordering::Relaxed))
        }

        fn instant(&self) -> Instant {
            self.0.instant()
        }
    }

    #[test]
    fn the_own_clock_is_guarded_as_well() {
        let clock = Arc::new(Wall(ManualClock::at(Timestamp::from_seconds(50)), AtomicI64::new(0)));
        let pace = Pace::new(clock.clone());
        let start = pace.here();
        for jump in [3_600_000, -40_000] {
            clock.1.store(jump, Ordering::Relaxed);
            assert_eq!(pace.here(), start);
        }
        clock.0.advance(Duration::from_secs(10));
        let now = pace.here();
        assert!((9_900_000..=10_100_000).contains(&(now - start)), "{}", now - start);
    }
}
