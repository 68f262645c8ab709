//! Rates: GCRA, exact in whole numbers.
//!
//! A rate of `permits` in `period` gives a permit every `period / permits` microseconds, which is rarely a whole
//! number; so a time is a whole number of microseconds and a *fraction* in `permits`-ths of one. The state is the
//! theoretical arrival time (TAT): the moment at which all that was taken is paid off. A request of cost `c` passes if
//! `TAT + c * period / permits <= now + burst * period / permits` (with a TAT that lies in the past read as now), and
//! moves the TAT that far. Nothing is rounded, so no rounding is ever admitted.
//!
//! Stored: 13 bytes, big endian: TAT (7 bytes, microseconds), fraction (3), `permits` (3). If the permits of a rate
//! change, a fraction of the old ones is rounded up to a whole microsecond. What was taken before a change of permits,
//! period or burst is kept as the *time* that it has still to wait; what is admitted after the change never exceeds
//! the new rate and burst.

use safeconduct_types::Timestamp;

use super::{Corrupt, Keep, MAX_NUMBER, Remaining, number, put};
use crate::limit::Rate;

/// Bytes of a state.
const LENGTH: usize = 13;

/// A moment or a length of time: whole microseconds, and a fraction in `permits`-ths of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Whole microseconds.
    pub us: i64,
    /// Permits-ths of a microsecond, below `permits`.
    pub frac: i64,
}

impl Span {
    fn plus(self, other: Self, permits: i64) -> Self {
        let frac = self.frac.saturating_add(other.frac);
        let carry = i64::from(frac >= permits);
        Self {
            us: self.us.saturating_add(other.us).saturating_add(carry),
            frac: if carry == 1 { frac.saturating_sub(permits) } else { frac },
        }
    }
}

/// A rate and what a request takes from it, reckoned so far that a store only adds and compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    permits: i64,
    period_us: i64,
    burst: i64,
    cost: i64,
    full: Span,
    increment: Span,
}

impl Params {
    /// `cost` permits of `rate`. A cost above the burst never passes; a cost of 0 only asks.
    pub fn new(rate: &Rate, cost: i64) -> Self {
        let (permits, period_us) = (rate.permits(), rate.period_us());
        let length = |count: i64| {
            let ticks = i128::from(count).saturating_mul(i128::from(period_us));
            let per = i128::from(permits.max(1));
            let narrow = |wide: i128| i64::try_from(wide).unwrap_or(MAX_NUMBER);
            Span { us: narrow(ticks.div_euclid(per)), frac: narrow(ticks.rem_euclid(per)) }
        };
        // More than the burst never passes, however much more: the first that does not stands for all, and no sum
        // gets larger than Lua can hold.
        let counted = cost.clamp(0, rate.burst().saturating_add(1));
        let full = length(rate.burst());
        let increment =
            if counted > rate.burst() { Span { us: full.us.saturating_add(1), ..full } } else { length(counted) };
        Self { permits, period_us, burst: rate.burst(), cost: counted, full, increment }
    }

    /// The same rate, taking nothing.
    #[must_use]
    pub const fn asking(&self) -> Self {
        Self { cost: 0, increment: Span { us: 0, frac: 0 }, ..*self }
    }

    /// Permits in a period: what fractions are counted in.
    pub const fn permits(&self) -> i64 {
        self.permits
    }

    /// The debt of a full burst: `burst * period / permits`.
    pub const fn full(&self) -> Span {
        self.full
    }

    /// What the request adds to the debt: `cost * period / permits`; zero if it only asks.
    pub const fn increment(&self) -> Span {
        self.increment
    }

    /// What `reading`, a reading of this rate, means to people.
    pub(super) fn remaining(&self, reading: &Reading) -> Remaining {
        let ticks = |span: Span| {
            i128::from(span.us).saturating_mul(i128::from(self.permits)).saturating_add(i128::from(span.frac))
        };
        let now = ticks(Span { us: reading.now_us, frac: 0 });
        let debt = ticks(reading.tat).saturating_sub(now);
        let free = ticks(self.full).saturating_sub(debt).max(0);
        // A permit is `period` microseconds, counted in permits-ths.
        let left = i64::try_from(free.div_euclid(i128::from(self.period_us.max(1)))).unwrap_or(0);
        let resets = (debt > 0).then(|| millis_up(reading.tat.us.saturating_add(i64::from(reading.tat.frac > 0))));
        let retry = self.retry_us(reading).map(millis_up);
        Remaining { left, max: self.burst, resets, retry }
    }

    /// From when on, in microseconds and at most one too late, a request that did not pass would pass if nothing else
    /// is taken. `None`: it passed, or it never will.
    pub fn retry_us(&self, reading: &Reading) -> Option<i64> {
        if reading.passed || self.cost > self.burst {
            return None;
        }
        let needed = reading.tat.plus(self.increment, self.permits);
        // `needed - full`, rounded up.
        let whole = needed.us.saturating_sub(self.full.us);
        Some(whole.saturating_add(i64::from(needed.frac > self.full.frac)))
    }

    /// Decides at `now_us` (within `0..=MAX_NOW`), and what to keep if the request passes.
    pub(super) fn judge(&self, now_us: i64, state: Option<State>) -> (Reading, Option<Keep>) {
        let now = Span { us: now_us, frac: 0 };
        let tat = state.map_or(now, |state| state.tat(self.permits)).max(now);
        if self.increment == (Span { us: 0, frac: 0 }) {
            return (Reading { passed: true, now_us, tat }, None);
        }
        let next = tat.plus(self.increment, self.permits);
        if next > now.plus(self.full, self.permits) {
            return (Reading { passed: false, now_us, tat }, None);
        }
        let state = State { tat: next, permits: self.permits };
        // Rounded up, so that the state outlives its meaning, never the reverse.
        let expires_ms = next.us.div_euclid(1000).saturating_add(1);
        (Reading { passed: true, now_us, tat: next }, Some(Keep::Put { state: state.to_bytes(), expires_ms }))
    }
}

/// What was stored of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    tat: Span,
    permits: i64,
}

impl State {
    /// The state in these bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Corrupt> {
        let (us, rest) = bytes.split_first_chunk::<7>().ok_or(Corrupt)?;
        let (frac, permits) = rest.split_first_chunk::<3>().ok_or(Corrupt)?;
        let state = Self { tat: Span { us: number(us), frac: number(frac) }, permits: number(permits) };
        let sound = bytes.len() == LENGTH
            && state.tat.us <= MAX_NUMBER
            && (1..=Rate::MAX_PERMITS).contains(&state.permits)
            && state.tat.frac < state.permits;
        if sound { Ok(state) } else { Err(Corrupt) }
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        put(&mut bytes, self.tat.us, 7);
        put(&mut bytes, self.tat.frac, 3);
        put(&mut bytes, self.permits, 3);
        bytes
    }

    /// The TAT, with its fraction in `permits`-ths: a fraction of something else counts as a whole.
    fn tat(self, permits: i64) -> Span {
        if self.permits == permits || self.tat.frac == 0 {
            self.tat
        } else {
            Span { us: self.tat.us.saturating_add(1), frac: 0 }
        }
    }
}

/// What is answered of a rate: the TAT after the request if it passed, before it if not; at least now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Whether the request passes.
    pub passed: bool,
    /// The time it was judged at, in microseconds: the step's now.
    pub now_us: i64,
    /// When all that is taken is paid off, with the fraction in permits-ths of a microsecond.
    pub tat: Span,
}

/// The first millisecond that is not before this microsecond.
fn millis_up(us: i64) -> Timestamp {
    Timestamp::from_millis(us.saturating_add(999).div_euclid(1000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::meter::{Judged, MAX_NOW, Meter, Reading as AnyReading};
    use crate::testing;

    const NOW: i64 = 1_800_000_000_000_000;

    fn judge(rate: &Rate, cost: i64, now: i64, state: &mut Option<Vec<u8>>) -> (Params, Reading) {
        let params = Params::new(rate, cost);
        let judged = Meter::Rate(params).judge(now, state.as_deref()).unwrap();
        let Judged::Read { reading: AnyReading::Rate(reading), keep } = judged else { panic!("no reading of a rate") };
        assert!(keep.is_none() || reading.passed && cost > 0, "only what is admitted is kept");
        if let Some(Keep::Put { state: bytes, expires_ms }) = keep {
            assert!(expires_ms * 1000 >= reading.tat.us, "kept as long as it says anything");
            *state = Some(bytes);
        }
        (params, reading)
    }

    fn passes(rate: &Rate, cost: i64, now: i64, state: Option<&Vec<u8>>) -> bool {
        judge(rate, cost, now, &mut state.cloned()).1.passed
    }

    #[test]
    fn ten_a_minute_and_five_at_once() {
        let rate = Rate::parse(10, 60_000_000, 5).unwrap();
        let mut state = None;
        for left in (0..5).rev() {
            let (params, reading) = judge(&rate, 1, NOW, &mut state);
            assert_eq!((reading.passed, params.remaining(&reading).left), (true, left));
        }
        let (params, reading) = judge(&rate, 1, NOW, &mut state);
        let remaining = params.remaining(&reading);
        assert!(!reading.passed);
        assert_eq!(remaining.retry, Some(Timestamp::from_millis(NOW / 1000 + 6_000)));
        assert_eq!(remaining.resets, Some(Timestamp::from_millis(NOW / 1000 + 30_000)));
        assert!(!passes(&rate, 1, NOW + 5_999_999, state.as_ref()));
        assert!(passes(&rate, 1, NOW + 6_000_000, state.as_ref()));
    }

    #[test]
    fn a_third_of_a_second_is_never_rounded() {
        let rate = Rate::parse(3, 1_000_000, 1).unwrap();
        let mut state = None;
        let mut at = NOW;
        let mut admitted = 0;
        while at <= NOW + 300_000_000 {
            admitted += i64::from(judge(&rate, 1, at, &mut state).1.passed);
            at += 333_333;
        }
        // Asked a third of a microsecond too early each time, each is denied, and each second one passes.
        assert_eq!(admitted, 451);
        let (params, reading) = judge(&rate, 1, at, &mut None);
        assert_eq!((params.increment.us, params.increment.frac, reading.tat.frac), (333_333, 1, 1));
    }

    #[test]
    fn more_than_the_burst_never_passes_however_long_one_waits() {
        let rate = Rate::parse(1_000_000, 1_000, 7).unwrap();
        for cost in [8, 9, 1_000_000, MAX_NUMBER, i64::MAX] {
            let (params, reading) = judge(&rate, cost, NOW, &mut None);
            assert_eq!((reading.passed, params.remaining(&reading).retry), (false, None), "{cost}");
        }
    }

    #[test]
    fn bytes_that_are_no_state_are_refused() {
        let good = State { tat: Span { us: NOW, frac: 2 }, permits: 3 }.to_bytes();
        assert!(State::parse(&good).is_ok());
        let with = |place: usize, byte: u8| {
            let mut bad = good.clone();
            bad[place] = byte;
            bad
        };
        for bad in [
            vec![],
            vec![0; 13],
            good[..12].to_vec(),
            [&good[..], &[0]].concat(),
            with(9, 3),
            with(12, 0),
            with(0, 255),
        ] {
            assert_eq!(State::parse(&bad), Err(Corrupt), "{bad:?}");
        }
    }

    #[test]
    fn a_fraction_of_other_permits_counts_as_a_whole() {
        let state = State { tat: Span { us: NOW, frac: 1 }, permits: 3 };
        assert_eq!(state.tat(3), Span { us: NOW, frac: 1 });
        assert_eq!(state.tat(1_000_000), Span { us: NOW + 1, frac: 0 });
    }

    fn requests() -> impl Strategy<Value = Vec<(i64, i64)>> {
        let gap =
            prop_oneof![2 => Just(0_i64), 3 => 0..2_000_i64, 3 => 0..3_000_000_i64, 1 => 0..4_000_000_000_000_i64];
        let cost = prop_oneof![6 => 1..4_i64, 1 => 0..1_000_000_i64, 1 => 0..=MAX_NUMBER];
        prop::collection::vec((gap, cost), 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_stretch_of_time_admits_more_than_the_burst_and_what_flowed_in(
            rate in testing::rate(), other in testing::rate(), requests in requests(), change in 0..60_usize,
        ) {
            let (mut now, mut state, mut admitted) = (NOW, None, Vec::new());
            for (place, (gap, cost)) in requests.into_iter().enumerate() {
                now = (now + gap).min(MAX_NOW);
                // The rate may have been another one before: what is admitted after the change keeps to the new one.
                let present = if place < change { &other } else { &rate };
                let (_, reading) = judge(present, cost, now, &mut state);
                if reading.passed && place >= change {
                    admitted.push((i128::from(now), i128::from(cost)));
                }
            }
            let (permits, period, burst) =
                (i128::from(rate.permits()), i128::from(rate.period_us()), i128::from(rate.burst()));
            for (first, (from, _)) in admitted.iter().enumerate() {
                let mut sum = 0;
                for (to, cost) in &admitted[first..] {
                    sum += cost;
                    prop_assert!(sum * period <= burst * period + (to - from) * permits);
                }
            }
        }

        #[test]
        fn what_is_said_of_a_rate_is_true(
            rate in testing::rate(), other in testing::rate(), requests in requests(), cost in 1..1_000_000_i64,
            back in 0..4_000_000_000_i64, changed in any::<bool>(),
        ) {
            let (mut now, mut state) = (NOW, None);
            for (gap, cost) in requests {
                now = (now + gap).min(MAX_NOW / 2);
                judge(if changed { &other } else { &rate }, cost, now, &mut state);
            }
            now -= back;
            let (params, asked) = judge(&rate, 0, now, &mut state.clone());
            let remaining = params.remaining(&asked);
            prop_assert!(asked.passed && remaining.left <= remaining.max);
            prop_assert!(remaining.left == 0 || passes(&rate, remaining.left, now, state.as_ref()));
            prop_assert!(!passes(&rate, remaining.left + 1, now, state.as_ref()));
            if let Some(reset) = remaining.resets {
                prop_assert!(passes(&rate, rate.burst(), reset.as_millis() * 1000, state.as_ref()));
            } else {
                prop_assert_eq!(remaining.left, rate.burst());
            }
            let (params, reading) = judge(&rate, cost, now, &mut state.clone());
            match params.retry_us(&reading) {
                Some(retry) => {
                    prop_assert!(!reading.passed && retry > now);
                    prop_assert!(passes(&rate, cost, retry, state.as_ref()), "a retry then passes");
                    prop_assert!(!passes(&rate, cost, retry - 1, state.as_ref()), "and none before");
                }
                None => prop_assert!(reading.passed || cost > rate.burst()),
            }
        }

        #[test]
        fn no_number_gets_larger_than_lua_can_hold(
            rate in testing::rate(), cost in 0..=MAX_NUMBER, now in prop_oneof![Just(MAX_NOW), Just(0), 0..=MAX_NOW],
        ) {
            let params = Params::new(&rate, cost);
            for span in [params.full, params.increment] {
                prop_assert!((0..=MAX_NUMBER / 2).contains(&span.us) && (0..rate.permits()).contains(&span.frac));
            }
            // The largest sum there is: a full debt, and one request more.
            let full = Span { us: now, frac: 0 }.plus(params.full, rate.permits());
            prop_assert!(full.plus(params.increment, rate.permits()).us <= MAX_NUMBER);
        }

        #[test]
        fn bytes_are_a_state_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            if let Ok(state) = State::parse(&bytes) {
                prop_assert_eq!(state.to_bytes(), bytes);
            }
        }
    }
}
