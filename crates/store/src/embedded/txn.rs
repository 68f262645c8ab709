//! What a job sees of the file: a transaction that writes, or a moment to read.

use std::ops::RangeInclusive;

use bytes::Bytes;
use redb::{ReadableTable, StorageError};
use safeconduct_types::{OperationId, Timestamp};

use super::disk::fault;
use super::tables::{self, Kind, Moment, NEVER, Tables};
use crate::envelope::{self, Stored, Verdict, judge, successor};
use crate::{Change, GRACE, Record, RecordKey, StoreError};

/// A transaction, as one job sees it: with everything that earlier jobs have done, and alone. What it writes is
/// durable before the job is answered; if the job errs, none of it is.
pub struct Txn<'t> {
    tables: Tables<'t>,
    now_us: i64,
    /// How to take back what the job has done, the latest last.
    undo: Vec<Undo>,
    /// The disk failed: nothing in this transaction can be relied on.
    broken: Option<StoreError>,
}

enum Undo {
    Record(RecordKey, Option<Vec<u8>>),
    Value(RecordKey, tables::Held),
    Member(RecordKey, Vec<u8>, Option<i64>),
    End(RecordKey, Option<i64>),
    Due(i64, Kind, RecordKey, bool),
}

impl<'t> Txn<'t> {
    pub(super) fn new(tables: Tables<'t>, now_us: i64) -> Self {
        Self { tables, now_us, undo: Vec::new(), broken: None }
    }

    /// The time that everything here happens at, in microseconds since the epoch.
    pub fn now_us(&self) -> i64 {
        self.now_us
    }

    /// The same time.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_us.div_euclid(1000))
    }

    /// Whether the records are as these changes expect them.
    pub fn judge(&mut self, operation: OperationId, changes: &[Change]) -> Result<Verdict, StoreError> {
        let guards = changes.iter().map(|change| self.tables.records.get(change.key.as_str()));
        let guards = guards.collect::<Result<Vec<_>, _>>();
        let guards = guards.map_err(|error| broken(&mut self.broken, error))?;
        let found = guards.iter().map(|guard| guard.as_ref().map(|bytes| Stored::parse(bytes.value())).transpose());
        let found = found.collect::<Result<Vec<_>, _>>()?;
        Ok(judge(&found, changes, operation, Timestamp::from_millis(self.now_us.div_euclid(1000))))
    }

    /// Makes these changes, which [`Self::judge`] has let pass.
    pub fn apply(&mut self, operation: OperationId, changes: &[Change]) -> Result<(), StoreError> {
        for change in changes {
            let bytes = self.bytes(&change.key)?;
            let found = bytes.as_deref().map(Stored::parse).transpose()?;
            let Some(next) = successor(found.as_ref(), &change.write, operation, self.now()) else { continue };
            let old = found.as_ref().and_then(Stored::collected);
            let new = Stored::parse(&next)?.collected();
            let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
            self.due(Kind::Record, &change.key, millis(old), millis(new))?;
            let before = self.tables.set_record(change.key.as_str(), Some(&next));
            let before = before.map_err(|error| broken(&mut self.broken, error))?;
            self.undo.push(Undo::Record(change.key.clone(), before));
        }
        Ok(())
    }

    /// A record, if it is there.
    pub fn read(&mut self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let now = self.now();
        self.bytes(key)?.map_or(Ok(None), |bytes| envelope::visible(&bytes.into(), now))
    }

    /// A value that [`Self::put`] has written, if it is there and has not ended.
    pub fn get(&mut self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let now = self.now();
        value(&self.tables.values, key, now).map_err(|error| broken(&mut self.broken, error))
    }

    /// Writes a value. Values are apart from records: they have no revision, and expect nothing.
    pub fn put(&mut self, key: &RecordKey, value: &[u8], expires: Option<Timestamp>) -> Result<(), StoreError> {
        let end = expires.map_or(NEVER, Timestamp::as_millis);
        self.set_value(key, Some((end, value)))
    }

    /// Removes a value.
    pub fn delete(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        self.set_value(key, None)
    }

    /// Adds a member to an index, or moves it to another score. Scores are exact up to 2^53 on either side of zero.
    pub fn index_add(&mut self, key: &RecordKey, score: i64, member: &[u8]) -> Result<(), StoreError> {
        self.empty_if_ended(key)?;
        self.set_member(key, member, Some(score))
    }

    /// Removes a member of an index, if it is there.
    pub fn index_remove(&mut self, key: &RecordKey, member: &[u8]) -> Result<(), StoreError> {
        self.set_member(key, member, None)
    }

    /// Up to `limit` members of an index with scores in this range, by score and then by their bytes; from the end
    /// of the range, if the newest are to be first.
    pub fn index_range(
        &mut self,
        key: &RecordKey,
        scores: RangeInclusive<i64>,
        limit: usize,
        newest_first: bool,
    ) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let now = self.now();
        range(&self.tables.ends, &self.tables.index, key, scores, limit, newest_first, now)
            .map_err(|error| broken(&mut self.broken, error))
    }

    /// Removes the members of an index with scores below this one.
    pub fn index_trim(&mut self, key: &RecordKey, below: i64) -> Result<(), StoreError> {
        let Some(last) = below.checked_sub(1) else { return Ok(()) };
        self.clear(key, last)
    }

    /// From when on a whole index is absent; never, if `None`.
    pub fn index_expires(&mut self, key: &RecordKey, at: Option<Timestamp>) -> Result<(), StoreError> {
        self.empty_if_ended(key)?;
        self.set_end(key, at.map(Timestamp::as_millis))
    }

    fn bytes(&mut self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes = self.tables.records.get(key.as_str()).map_err(|error| broken(&mut self.broken, error))?;
        Ok(bytes.map(|bytes| bytes.value().to_vec()))
    }

    fn set_value(&mut self, key: &RecordKey, value: Option<(i64, &[u8])>) -> Result<(), StoreError> {
        let before = self.tables.set_value(key.as_str(), value).map_err(|error| broken(&mut self.broken, error))?;
        let collected = |end: i64| (end != NEVER).then(|| Timestamp::from_millis(end).after(GRACE).as_millis());
        let (old, new) = (before.as_ref().map(|held| held.0), value.map(|value| value.0));
        self.undo.push(Undo::Value(key.clone(), before));
        self.due(Kind::Value, key, old.and_then(collected), new.and_then(collected))
    }

    fn set_member(&mut self, key: &RecordKey, member: &[u8], score: Option<i64>) -> Result<(), StoreError> {
        let before = self.tables.set_member(key.as_str(), member, score);
        let before = before.map_err(|error| broken(&mut self.broken, error))?;
        if before != score {
            self.undo.push(Undo::Member(key.clone(), member.to_vec(), before));
        }
        Ok(())
    }

    fn set_end(&mut self, key: &RecordKey, end: Option<i64>) -> Result<(), StoreError> {
        let before = self.tables.set_end(key.as_str(), end).map_err(|error| broken(&mut self.broken, error))?;
        self.undo.push(Undo::End(key.clone(), before));
        let collected = |end: i64| Timestamp::from_millis(end).after(GRACE).as_millis();
        self.due(Kind::Index, key, before.map(collected), end.map(collected))
    }

    /// An index whose end has come begins anew.
    fn empty_if_ended(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        let end = self.tables.ends.get(key.as_str()).map(|end| end.map(|end| end.value()));
        let end = end.map_err(|error| broken(&mut self.broken, error))?;
        if end.is_some_and(|end| end <= self.now().as_millis()) {
            self.clear(key, i64::MAX)?;
            self.set_end(key, None)?;
        }
        Ok(())
    }

    fn clear(&mut self, key: &RecordKey, last: i64) -> Result<(), StoreError> {
        let gone = tables::members(&self.tables.index, key.as_str(), i64::MIN..=last, usize::MAX, false);
        for (_, member) in gone.map_err(|error| broken(&mut self.broken, error))? {
            self.set_member(key, &member, None)?;
        }
        Ok(())
    }

    /// Moves the moment at which something may be collected.
    fn due(&mut self, kind: Kind, key: &RecordKey, old: Option<i64>, new: Option<i64>) -> Result<(), StoreError> {
        if old == new {
            return Ok(());
        }
        for (at, due) in [(old, false), (new, true)] {
            let Some(at) = at else { continue };
            let before = self.tables.set_due(at, kind, key.as_str(), due);
            let before = before.map_err(|error| broken(&mut self.broken, error))?;
            self.undo.push(Undo::Due(at, kind, key.clone(), before));
        }
        Ok(())
    }

    /// Ends a job. Says how much it has written; a job that has failed has written nothing.
    pub(super) fn settle(&mut self, failed: bool) -> Result<usize, StoreError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        if !failed {
            return Ok(self.undo.drain(..).len());
        }
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Record(key, before) => self.tables.set_record(key.as_str(), before.as_deref()).map(drop),
                Undo::Value(key, before) => {
                    let before = before.as_ref().map(|(end, value)| (*end, &value[..]));
                    self.tables.set_value(key.as_str(), before).map(drop)
                }
                Undo::Member(key, member, score) => self.tables.set_member(key.as_str(), &member, score).map(drop),
                Undo::End(key, before) => self.tables.set_end(key.as_str(), before).map(drop),
                Undo::Due(at, kind, key, due) => self.tables.set_due(at, kind, key.as_str(), due).map(drop),
            }
            .map_err(fault)?;
        }
        Ok(0)
    }

    /// Removes up to `most` things whose bytes may go. Says how many.
    pub(super) fn sweep(&mut self, most: usize) -> Result<usize, StorageError> {
        let mut count = 0;
        for (at, kind, key) in self.tables.due(self.now().as_millis(), most)? {
            if count >= most {
                break;
            }
            count += 1;
            match kind {
                Kind::Record => drop(self.tables.set_record(&key, None)?),
                Kind::Value => drop(self.tables.set_value(&key, None)?),
                Kind::Index => {
                    let members = tables::members(&self.tables.index, &key, i64::MIN..=i64::MAX, most, false)?;
                    count += members.len();
                    for (_, member) in &members {
                        self.tables.set_member(&key, member, None)?;
                    }
                    if members.len() == most {
                        // There may be more of it.
                        continue;
                    }
                    self.tables.set_end(&key, None)?;
                }
            }
            self.tables.set_due(at, kind, &key, false)?;
        }
        Ok(count)
    }
}

/// The file at one moment. Waits for no writer.
pub struct View<'t> {
    moment: &'t Moment,
    now_us: i64,
}

impl<'t> View<'t> {
    pub(super) fn new(moment: &'t Moment, now_us: i64) -> Self {
        Self { moment, now_us }
    }

    /// The time that it is read at, in microseconds since the epoch.
    pub fn now_us(&self) -> i64 {
        self.now_us
    }

    /// The same time.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_us.div_euclid(1000))
    }

    /// These records, in their order; `None` for one that is not there.
    pub fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<Record>>, StoreError> {
        let records = self.moment.records().map_err(fault)?;
        let read = |key: &RecordKey| {
            let Some(bytes) = records.get(key.as_str()).map_err(fault)? else { return Ok(None) };
            envelope::visible(&Bytes::copy_from_slice(bytes.value()), self.now())
        };
        keys.iter().map(read).collect()
    }

    /// A value that [`Txn::put`] has written, if it is there and has not ended.
    pub fn get(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let values = self.moment.values().map_err(fault)?;
        value(values, key, self.now()).map_err(fault)
    }

    /// As [`Txn::index_range`].
    pub fn index_range(
        &self,
        key: &RecordKey,
        scores: RangeInclusive<i64>,
        limit: usize,
        newest_first: bool,
    ) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let (ends, index) = (self.moment.ends().map_err(fault)?, self.moment.index().map_err(fault)?);
        range(ends, index, key, scores, limit, newest_first, self.now()).map_err(fault)
    }
}

fn value(
    values: &impl ReadableTable<&'static str, (i64, &'static [u8])>,
    key: &RecordKey,
    now: Timestamp,
) -> Result<Option<Vec<u8>>, StorageError> {
    let held = values.get(key.as_str())?;
    Ok(held.filter(|held| now.as_millis() < held.value().0).map(|held| held.value().1.to_vec()))
}

fn range(
    ends: &impl ReadableTable<&'static str, i64>,
    index: &impl ReadableTable<(&'static str, i64, &'static [u8]), ()>,
    key: &RecordKey,
    scores: RangeInclusive<i64>,
    limit: usize,
    newest_first: bool,
    now: Timestamp,
) -> Result<tables::Members, StorageError> {
    let ended = ends.get(key.as_str())?.is_some_and(|end| end.value() <= now.as_millis());
    if ended { Ok(Vec::new()) } else { tables::members(index, key.as_str(), scores, limit, newest_first) }
}

/// Remembers that the disk failed, whatever the job makes of it.
fn broken(to: &mut Option<StoreError>, error: StorageError) -> StoreError {
    let error = fault(error);
    to.get_or_insert(error).clone()
}
