//! A step: one atomic operation on one slot.
//!
//! Expectations and writes of records, meters, and ordered indexes: if every expectation holds and every meter lets the
//! request pass, all is written; else nothing. The order is: expectations (all are looked at), meters (all are judged,
//! without a short cut, so that a denial says what is left of each), writes.
//!
//! What a record is, and what it is expected to be, belongs to the store: the shelf judges that.

use safeconduct_types::OperationId;

use crate::meter::{Corrupt, Judged, Keep, Kind, MAX_NOW, Meter, Reading};

/// One atomic operation on one slot. `K` names counters and indexes, `C` is a change of a record with its expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<K, C> {
    /// Who asks: a step with changes is done once for one id, however often it is sent.
    pub operation: OperationId,
    /// The records. Without any, nothing remembers the operation.
    pub changes: Vec<C>,
    /// The limits, each with the key of its counter. They are judged in this order; one that names a counter again
    /// sees what the earlier one did.
    pub meters: Vec<(K, Meter)>,
    /// The indexes, changed in this order.
    pub index: Vec<IndexOp<K>>,
}

/// A change of an ordered index: members with a score, each member once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexOp<K> {
    /// Adds a member, or moves it to another score.
    Add {
        /// Which index.
        key: K,
        /// Where in the order.
        score: When,
        /// The member.
        member: Vec<u8>,
    },
    /// Removes a member, if it is there.
    Remove {
        /// Which index.
        key: K,
        /// The member.
        member: Vec<u8>,
    },
    /// Removes all members with a lower score.
    Trim {
        /// Which index.
        key: K,
        /// The lowest score that stays.
        below: When,
    },
    /// Lets a whole index go at some time, unless it is told otherwise before: what nobody asks for any more.
    Expire {
        /// Which index.
        key: K,
        /// From when on its members may be gone.
        at: When,
    },
}

/// A time that may depend on when the step happens, which its writer can't know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This time, in milliseconds since the epoch.
    At(i64),
    /// So many milliseconds after the step's now (negative: before it).
    Now(i64),
}

impl When {
    /// The time, in milliseconds, if the step happens at `now_us`.
    pub const fn resolve(self, now_us: i64) -> i64 {
        match self {
            Self::At(millis) => millis,
            Self::Now(plus) => now_us.div_euclid(1000).saturating_add(plus),
        }
    }
}

/// What the records say to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every record is as expected.
    Apply,
    /// The operation was done before.
    Repeated,
    /// Some record is not as expected.
    Conflict,
}

/// What became of a step. `now` is when it happened, in microseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Stepped {
    /// All is written.
    Done {
        /// When.
        now: i64,
        /// One for each meter.
        readings: Vec<Reading>,
        /// Whether it was done by an earlier call with the same operation. Then the readings say what is used at
        /// present.
        repeated: bool,
    },
    /// A record is not as expected; nothing is written.
    Conflict {
        /// When.
        now: i64,
    },
    /// A limit does not let it pass; nothing is written.
    Denied {
        /// When.
        now: i64,
        /// One for each meter: those that passed say what would be used, had the step passed.
        readings: Vec<Reading>,
        /// The first that did not pass.
        first: usize,
    },
    /// Now lies outside the calendar boundaries of some meter; nothing is written. To be sent again with boundaries
    /// around this now.
    Outside {
        /// When.
        now: i64,
    },
}

/// Where a step happens: the records, counters and indexes of one slot, while nobody else changes them.
///
/// [`apply`] reads everything before it writes anything, so that a shelf that fails to read has written nothing.
pub trait Shelf {
    /// Names a counter or an index.
    type Key: Eq + Clone;
    /// A change of a record, with its expectation.
    type Change;
    /// Why it could not be read or written.
    type Error: From<Corrupt>;

    /// What the records say. Looks at all of them.
    fn judge(&mut self, operation: OperationId, changes: &[Self::Change]) -> Result<Verdict, Self::Error>;

    /// The state of a counter, if there is one that has not expired.
    fn state(&mut self, key: &Self::Key, kind: Kind) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Writes the records at `now_us`.
    fn write(&mut self, operation: OperationId, changes: &[Self::Change], now_us: i64) -> Result<(), Self::Error>;

    /// Writes the state of a counter.
    fn keep(&mut self, key: &Self::Key, kind: Kind, keep: &Keep) -> Result<(), Self::Error>;

    /// Changes an index; its times are to be resolved with `now_us`.
    fn index(&mut self, change: &IndexOp<Self::Key>, now_us: i64) -> Result<(), Self::Error>;
}

/// Does the step at `now_us` (microseconds since the epoch, clamped to `0..=MAX_NOW`), or nothing of it.
pub fn apply<S: Shelf>(step: &Step<S::Key, S::Change>, now_us: i64, shelf: &mut S) -> Result<Stepped, S::Error> {
    let now = now_us.clamp(0, MAX_NOW);
    let repeated = match shelf.judge(step.operation, &step.changes)? {
        Verdict::Conflict => return Ok(Stepped::Conflict { now }),
        Verdict::Repeated => true,
        Verdict::Apply => false,
    };
    let mut readings = Vec::with_capacity(step.meters.len());
    let mut kept: Vec<(&S::Key, Kind, Keep)> = Vec::with_capacity(step.meters.len());
    for (key, meter) in &step.meters {
        let asking = repeated.then(|| meter.asking());
        let meter = asking.as_ref().unwrap_or(meter);
        let earlier = kept.iter_mut().find(|(name, kind, _)| *name == key && *kind == meter.kind());
        let judged = match &earlier {
            Some((_, _, Keep::Put { state, .. })) => meter.judge(now, Some(state))?,
            Some((_, _, Keep::Delete)) => meter.judge(now, None)?,
            None => meter.judge(now, shelf.state(key, meter.kind())?.as_deref())?,
        };
        match (judged, earlier) {
            (Judged::Outside, _) => return Ok(Stepped::Outside { now }),
            (Judged::Read { reading, keep: Some(keep) }, Some(entry)) => {
                entry.2 = keep;
                readings.push(reading);
            }
            (Judged::Read { reading, keep: Some(keep) }, None) => {
                kept.push((key, meter.kind(), keep));
                readings.push(reading);
            }
            (Judged::Read { reading, keep: None }, _) => readings.push(reading),
        }
    }
    if repeated {
        return Ok(Stepped::Done { now, readings, repeated });
    }
    if let Some(first) = readings.iter().position(|reading| !reading.passed()) {
        return Ok(Stepped::Denied { now, readings, first });
    }
    shelf.write(step.operation, &step.changes, now)?;
    for (key, kind, keep) in &kept {
        shelf.keep(key, *kind, keep)?;
    }
    for change in &step.index {
        shelf.index(change, now)?;
    }
    Ok(Stepped::Done { now, readings, repeated })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Rate;
    use crate::meter::{cap, rate};
    use crate::testing::{Memory, Note};

    const NOW: i64 = 1_800_000_000_000_000;

    fn take(amount: i64) -> Meter {
        Meter::Take(cap::Take { window: cap::Window::Rolling { length_ms: 1_000 }, max: 5, amount })
    }

    fn give_back(amount: i64) -> Meter {
        let place = cap::Place::Rolling { length_ms: 1_000, at_ms: NOW / 1000 };
        Meter::Adjust(cap::Adjust { place, delta: -amount })
    }

    fn step(number: u8, notes: &[u32], meters: Vec<(usize, Meter)>) -> Step<usize, Note> {
        let changes = notes.iter().map(|note| Note(*note)).collect();
        Step { operation: OperationId::from_bytes([number; 16]), changes, meters, index: Vec::new() }
    }

    fn used(stepped: &Stepped) -> Vec<i64> {
        let (Stepped::Done { readings, .. } | Stepped::Denied { readings, .. }) = stepped else { return Vec::new() };
        let used = |reading: &Reading| match reading {
            Reading::Cap(reading) => reading.used,
            Reading::Rate(reading) => reading.tat.us,
        };
        readings.iter().map(used).collect()
    }

    #[test]
    fn a_denial_writes_nothing_and_says_what_is_left_of_every_limit() {
        let mut shelf = Memory { now_ms: NOW / 1000, ..Memory::default() };
        let rate = Meter::Rate(rate::Params::new(&Rate::parse(1, 1_000_000, 1).unwrap(), 1));
        let denied = apply(&step(1, &[1], vec![(0, rate), (1, take(6)), (2, take(5))]), NOW, &mut shelf).unwrap();
        assert!(matches!(denied, Stepped::Denied { first: 1, .. }));
        assert_eq!(used(&denied), [NOW + 1_000_000, 0, 5]);
        assert!(shelf.states.is_empty() && shelf.notes.is_empty());
    }

    #[test]
    fn a_repeat_takes_nothing_and_another_operation_conflicts() {
        let mut shelf = Memory { now_ms: NOW / 1000, ..Memory::default() };
        for repeated in [false, true, true] {
            let done = apply(&step(1, &[1, 2], vec![(0, take(3))]), NOW, &mut shelf).unwrap();
            assert_eq!(used(&done), [3]);
            assert!(matches!(done, Stepped::Done { repeated: again, .. } if again == repeated));
        }
        let other = apply(&step(2, &[2, 3], vec![(0, take(1))]), NOW, &mut shelf).unwrap();
        assert_eq!(other, Stepped::Conflict { now: NOW });
        assert_eq!(used(&apply(&step(3, &[], vec![(0, take(0))]), NOW, &mut shelf).unwrap()), [3]);
    }

    #[test]
    fn a_meter_that_names_a_counter_again_sees_what_the_earlier_one_did() {
        let mut shelf = Memory { now_ms: NOW / 1000, ..Memory::default() };
        let both = apply(&step(1, &[], vec![(0, take(3)), (0, take(2))]), NOW, &mut shelf).unwrap();
        assert_eq!(used(&both), [3, 5]);
        let back = apply(&step(2, &[], vec![(0, give_back(5)), (0, take(4))]), NOW, &mut shelf).unwrap();
        assert_eq!(used(&back), [0, 4]);
        let over = apply(&step(3, &[], vec![(1, take(3)), (1, take(3))]), NOW, &mut shelf).unwrap();
        assert!(matches!(over, Stepped::Denied { first: 1, .. }));
    }

    #[test]
    fn a_corrupt_state_stops_the_step_before_anything_is_written() {
        let mut shelf = Memory { now_ms: NOW / 1000, ..Memory::default() };
        shelf.states.insert((1, Kind::Cap), (vec![0; 12], i64::MAX));
        let before = shelf.states.clone();
        assert_eq!(apply(&step(1, &[1], vec![(0, take(1)), (1, take(1))]), NOW, &mut shelf), Err(Corrupt));
        assert!(shelf.states == before && shelf.notes.is_empty());
    }

    #[test]
    fn a_time_may_depend_on_when_the_step_happens() {
        assert_eq!(When::Now(-5).resolve(NOW + 999), NOW / 1000 - 5);
        assert_eq!(When::At(7).resolve(NOW), 7);
    }
}
