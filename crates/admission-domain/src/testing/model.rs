//! The reference: every event is kept for ever in a list, and summed up anew each time, in numbers that can't overflow.
//! A rate is a bucket of tokens here, and GCRA in `meter`: two definitions of the same thing.

use std::collections::HashMap;

use safeconduct_types::OperationId;

use super::Note;
use crate::limit::Rate;
use crate::meter::cap::{Adjust, Place, Take, Window};
use crate::meter::{Meter, Reading, cap, rate};
use crate::step::{Step, Stepped};

/// What has happened, in the simplest terms.
#[derive(Clone, Debug, Default)]
pub struct Model {
    notes: HashMap<u32, OperationId>,
    buckets: HashMap<usize, Bucket>,
    events: HashMap<usize, Vec<Taken>>,
}

/// How full a bucket of tokens was after the last that was taken, in `period`-ths of a token.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: i128,
    at_us: i64,
}

/// Something that was taken, or (negative) given back, at a time; in the calendar at the beginning of a window.
#[derive(Clone, Copy, Debug)]
struct Taken {
    time_ms: i64,
    amount: i128,
}

impl Model {
    /// What must come out of `step` at `now` (microseconds). `rates` are the rates of the counters that the step's rate
    /// meters name, with the cost that the step asks for.
    pub fn apply(&mut self, step: &Step<usize, Note>, rates: &HashMap<usize, (Rate, i64)>, now: i64) -> Stepped {
        let found: Vec<OperationId> = step.changes.iter().filter_map(|note| self.notes.get(&note.0).copied()).collect();
        let repeated = found.contains(&step.operation);
        if !repeated && !found.is_empty() {
            return Stepped::Conflict { now };
        }
        let mut after = self.clone();
        let mut readings = Vec::new();
        for (counter, meter) in &step.meters {
            let reading = match meter {
                Meter::Rate(params) => {
                    let Some((rate, cost)) = rates.get(counter) else { continue };
                    Some(after.rate(*counter, params, rate, if repeated { 0 } else { *cost }, now))
                }
                Meter::Take(take) => after.take(*counter, take, if repeated { 0 } else { take.amount }, now / 1000),
                Meter::Adjust(adjust) => Some(after.adjust(*counter, adjust, repeated, now / 1000)),
            };
            let Some(reading) = reading else { return Stepped::Outside { now } };
            readings.push(reading);
        }
        if !repeated {
            if let Some(first) = readings.iter().position(|reading| !reading.passed()) {
                return Stepped::Denied { now, readings, first };
            }
            *self = after;
            self.notes.extend(step.changes.iter().map(|note| (note.0, step.operation)));
        }
        Stepped::Done { now, readings, repeated }
    }

    fn rate(&mut self, counter: usize, params: &rate::Params, rate: &Rate, cost: i64, now: i64) -> Reading {
        let (permits, period) = (i128::from(rate.permits()), i128::from(rate.period_us()));
        let full = i128::from(rate.burst()) * period;
        let level = self
            .buckets
            .get(&counter)
            .map_or(full, |bucket| full.min(bucket.level + (i128::from(now) - i128::from(bucket.at_us)) * permits));
        let passed = cost == 0 || level >= i128::from(cost) * period;
        let level = if passed { level - i128::from(cost) * period } else { level };
        if passed && cost > 0 {
            self.buckets.insert(counter, Bucket { level, at_us: now });
        }
        // The bucket is full again when as much has flowed in as is missing: that is the TAT, in permits-ths of a
        // microsecond.
        let ticks = i128::from(now) * permits + (full - level);
        let narrow = |wide: i128| i64::try_from(wide).unwrap_or(i64::MAX);
        debug_assert_eq!(params.permits(), rate.permits(), "the rate is the meter's");
        let tat = rate::Span { us: narrow(ticks.div_euclid(permits)), frac: narrow(ticks.rem_euclid(permits)) };
        Reading::Rate(rate::Reading { passed, now_us: now, tat })
    }

    fn take(&mut self, counter: usize, take: &Take, amount: i64, now_ms: i64) -> Option<Reading> {
        let events = self.events.entry(counter).or_default();
        let (used, at, ends) = match take.window {
            Window::Calendar(boundaries) => {
                let (start, end) = boundaries.window(now_ms)?;
                (sum(events, start, end), start, Ends::Calendar(end))
            }
            Window::Rolling { length_ms } => {
                (sum(events, now_ms - length_ms + 1, i64::MAX), now_ms, Ends::Rolling(length_ms))
            }
        };
        let passed = amount == 0 || used + i128::from(amount) <= i128::from(take.max);
        let retry_ms = (!passed && amount <= take.max).then(|| match ends {
            Ends::Calendar(end) => end,
            // The first millisecond at which it would pass: one at which something leaves.
            Ends::Rolling(length_ms) => {
                let mut leaves: Vec<i64> = events.iter().map(|event| event.time_ms + length_ms).collect();
                leaves.sort_unstable();
                let fits = |then: &i64| {
                    sum(events, then - length_ms + 1, i64::MAX) + i128::from(amount) <= i128::from(take.max)
                };
                leaves.into_iter().filter(|then| *then > now_ms).find(fits).unwrap_or(i64::MAX)
            }
        });
        if passed && amount > 0 {
            events.push(Taken { time_ms: at, amount: i128::from(amount) });
            if let Ends::Rolling(length_ms) = ends {
                // What had left when something was taken does not come back with a clock that is set back.
                events.retain(|event| event.time_ms > now_ms - length_ms);
            }
        }
        Some(read(passed, ends, events, at, now_ms, retry_ms))
    }

    fn adjust(&mut self, counter: usize, adjust: &Adjust, repeated: bool, now_ms: i64) -> Reading {
        let events = self.events.entry(counter).or_default();
        let amount = if repeated { 0 } else { i128::from(adjust.delta) };
        let (at, ends) = match adjust.place {
            Place::Calendar { start_ms, end_ms } => (start_ms, Ends::Calendar(end_ms)),
            Place::Rolling { length_ms, at_ms } => (at_ms, Ends::Rolling(length_ms)),
        };
        // Gives back what is there, no more.
        let amount = amount.max(-sum(events, at, at.saturating_add(1)));
        if adjust.delta != 0 && !repeated {
            events.push(Taken { time_ms: at, amount });
            if let Ends::Rolling(length_ms) = ends {
                events.retain(|event| event.time_ms > now_ms - length_ms);
            }
        }
        read(true, ends, events, at, now_ms, None)
    }
}

#[derive(Clone, Copy)]
enum Ends {
    Calendar(i64),
    Rolling(i64),
}

fn sum(events: &[Taken], start: i64, end: i64) -> i128 {
    events.iter().filter(|event| (start..end).contains(&event.time_ms)).map(|event| event.amount).sum()
}

fn read(passed: bool, ends: Ends, events: &[Taken], at: i64, now_ms: i64, retry_ms: Option<i64>) -> Reading {
    let (used, reset_ms) = match ends {
        Ends::Calendar(end) => {
            let used = sum(events, at, end);
            (used, (used > 0).then_some(end))
        }
        Ends::Rolling(length_ms) => {
            let start = now_ms - length_ms + 1;
            let times = events.iter().map(|event| event.time_ms).filter(|time| *time >= start);
            let last = times.filter(|time| sum(events, *time, *time + 1) > 0).max();
            (sum(events, start, i64::MAX), last.map(|last| last + length_ms))
        }
    };
    let used = i64::try_from(used.max(0)).unwrap_or(i64::MAX);
    Reading::Cap(cap::Reading { passed, used, reset_ms, retry_ms })
}
