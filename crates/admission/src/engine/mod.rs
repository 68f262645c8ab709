//! The engine: one step on one slot, atomically, on whichever store.
//!
//! A step is what `admission_domain::step` says it is, with the store's records. On Redis it is a script (`scripts/`,
//! whose `README.md` has them by KEYS, ARGV and result); the embedded engine runs the domain's own code within a
//! transaction. A property test feeds both and the domain's model the same history.
//!
//! A step that takes from a cap also writes a record: that is what remembers the operation, so that a repeat takes
//! nothing. A step that takes from rates alone may be repeated by the client and then takes again: never too little.

mod embedded;
mod redis;
#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "what was not expected fails the test")]
mod tests;
mod wire;

use std::fmt::Debug;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;
use safeconduct_admission_domain::meter::{Meter, Reading, cap};
use safeconduct_admission_domain::step;
use safeconduct_store::{Change, Record, RecordKey, Slot, Snapshot, StoreError, Write};
use safeconduct_types::Timestamp;

pub(crate) use embedded::EmbeddedEngine;
pub(crate) use redis::RedisEngine;

/// A step on records of the store.
pub(crate) type Step = step::Step<RecordKey, Change>;

/// What became of a step. `now` is when it happened, on the store's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Stepped {
    /// All is written.
    Done {
        /// When.
        now: Timestamp,
        /// One for each meter, in their order.
        readings: Vec<Reading>,
        /// Whether an earlier call with the same operation did it. Then the readings say what is used at present, and
        /// nothing was taken again.
        repeated: bool,
    },
    /// A record is not as expected; nothing is written.
    Conflict {
        /// When.
        now: Timestamp,
        /// The records of all changes, in their order, as they are.
        records: Vec<Option<Record>>,
    },
    /// A limit does not let it pass; nothing is written.
    Denied {
        /// When.
        now: Timestamp,
        /// One for each meter: those that passed say what would be used, had the step passed.
        readings: Vec<Reading>,
        /// The first that did not pass.
        first: usize,
    },
    /// Now lies outside of a meter's calendar windows; nothing is written. To be sent again with windows around now.
    Outside {
        /// When.
        now: Timestamp,
    },
}

/// Members of an index with their scores (milliseconds).
pub(crate) type Members = Vec<(i64, Bytes)>;

/// Where steps happen. Every call ends within the store's reply time-out.
#[async_trait]
pub(crate) trait Engine: Send + Sync + Debug {
    /// Does the step, all or nothing. If a record remembers the operation, nothing is done again. A step that takes
    /// from a cap must write a record; else it is [`StoreError::Invalid`]. Records that it answers with are as durable
    /// as those of [`Engine::read`].
    async fn step(&self, slot: &Slot, step: Step) -> Result<Stepped, StoreError>;

    /// These records (1 to 64) at one moment. Those that are there are as durable as what was written by an answered
    /// step, whoever wrote them: an answer may be made of them. That there is none is told at once.
    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError>;

    /// What is used, taking nothing: `Done` with a reading for each meter, or `Outside`.
    #[cfg(test)]
    async fn usage(&self, slot: &Slot, meters: Vec<(RecordKey, Meter)>) -> Result<Stepped, StoreError> {
        let meters = meters.into_iter().map(|(key, meter)| (key, meter.asking())).collect();
        let operation = safeconduct_types::OperationId::from_bytes([0; 16]);
        self.step(slot, Step { operation, changes: Vec::new(), meters, index: Vec::new() }).await
    }

    /// Up to `limit` members of an index with scores in this range, by score and then by their bytes; in the reverse
    /// order from the end of the range, if the newest are to be first. And when that was.
    async fn index(
        &self,
        slot: &Slot,
        key: &RecordKey,
        scores: RangeInclusive<i64>,
        limit: usize,
        newest_first: bool,
    ) -> Result<(Timestamp, Members), StoreError>;

    /// Forgets these counters, rates and caps. May be repeated.
    async fn forget(&self, slot: &Slot, keys: &[RecordKey]) -> Result<(), StoreError>;

    /// Tells one history of the slot from another: it changes when what was acknowledged may be lost.
    fn epoch(&self, slot: &Slot) -> String;

    /// Until when writes to the slot were held back the last time, because others may have been lost: of what was
    /// written before, on the store's clock, some may be missing. The epoch if nothing was lost.
    fn lost_until(&self, slot: &Slot) -> Timestamp;

    /// About what time it is on the store's clock.
    fn now_estimate(&self) -> Timestamp;

    /// Whether the store answers and would take a write.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// What a step needs of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// It only asks, or takes from rates alone: its loss is harmless.
    Volatile,
    /// It changes what must be durable before it is answered.
    Durable,
}

/// What this step needs; an error if repeating it could take twice from a cap.
fn need(step: &Step) -> Result<Need, StoreError> {
    let writes = step.changes.iter().any(|change| change.write != Write::Keep);
    let takes = step.meters.iter().any(|(_, meter)| match meter {
        Meter::Rate(_) => false,
        Meter::Take(cap::Take { amount, .. }) => *amount != 0,
        Meter::Adjust(cap::Adjust { delta, .. }) => *delta != 0,
    });
    if takes && !writes {
        return Err(StoreError::Invalid("a step that takes from a cap writes a record".into()));
    }
    Ok(if writes || !step.index.is_empty() { Need::Durable } else { Need::Volatile })
}

/// The step's microseconds as a timestamp.
const fn moment(now_us: i64) -> Timestamp {
    Timestamp::from_millis(now_us.div_euclid(1000))
}

/// A step's answer, for records that were found as they are.
fn stepped(answer: step::Stepped, records: Vec<Option<Record>>) -> Stepped {
    match answer {
        step::Stepped::Done { now, readings, repeated } => Stepped::Done { now: moment(now), readings, repeated },
        step::Stepped::Conflict { now } => Stepped::Conflict { now: moment(now), records },
        step::Stepped::Denied { now, readings, first } => Stepped::Denied { now: moment(now), readings, first },
        step::Stepped::Outside { now } => Stepped::Outside { now: moment(now) },
    }
}
