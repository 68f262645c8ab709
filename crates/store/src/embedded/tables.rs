//! The tables of the file: the only place that reads and writes them.

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use redb::{
    AccessGuard, Key, ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition, TableError,
    Value, WriteTransaction,
};

/// Key of the record -> its bytes, as in `envelope.rs`.
pub(crate) const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("records");

/// Key of the value -> its end (milliseconds; [`NEVER`]) and its bytes.
pub(crate) const VALUES: TableDefinition<&str, (i64, &[u8])> = TableDefinition::new("values");

/// Key of the index, score, member: in the order in which they are listed.
const INDEX: TableDefinition<(&str, i64, &[u8]), ()> = TableDefinition::new("index");

/// Key of the index, member -> its score.
const MEMBERS: TableDefinition<(&str, &[u8]), i64> = TableDefinition::new("members");

/// Key of the index -> its end (milliseconds), if it has one.
const ENDS: TableDefinition<&str, i64> = TableDefinition::new("ends");

/// When the bytes of something may be collected (milliseconds), what kind of thing it is, and its key.
const DUE: TableDefinition<(i64, u8, &str), ()> = TableDefinition::new("due");

/// The end of what has none.
pub(super) const NEVER: i64 = i64::MAX;

/// Scores are exact on every store up to here, on either side of zero.
const SCORE: i64 = 9_007_199_254_740_991;

/// What may be collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Record = 0,
    Value = 1,
    Index = 2,
}

pub(super) fn create(transaction: &WriteTransaction) -> Result<(), TableError> {
    Tables::of(transaction).map(drop)
}

/// A value with its end, if it is there.
pub(super) type Held = Option<(i64, Vec<u8>)>;

/// Members of an index with their scores.
pub(super) type Members = Vec<(i64, Vec<u8>)>;

/// The tables of a transaction that writes. Every change answers what was there before.
pub(super) struct Tables<'t> {
    pub(super) records: Table<'t, &'static str, &'static [u8]>,
    pub(super) values: Table<'t, &'static str, (i64, &'static [u8])>,
    pub(super) index: Table<'t, (&'static str, i64, &'static [u8]), ()>,
    members: Table<'t, (&'static str, &'static [u8]), i64>,
    pub(super) ends: Table<'t, &'static str, i64>,
    due: Table<'t, (i64, u8, &'static str), ()>,
}

impl<'t> Tables<'t> {
    pub(super) fn of(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            values: transaction.open_table(VALUES)?,
            index: transaction.open_table(INDEX)?,
            members: transaction.open_table(MEMBERS)?,
            ends: transaction.open_table(ENDS)?,
            due: transaction.open_table(DUE)?,
        })
    }

    pub(super) fn set_record(&mut self, key: &str, bytes: Option<&[u8]>) -> Result<Option<Vec<u8>>, StorageError> {
        let before = match bytes {
            Some(bytes) => self.records.insert(key, bytes)?,
            None => self.records.remove(key)?,
        };
        Ok(before.map(|bytes| bytes.value().to_vec()))
    }

    pub(super) fn set_value(&mut self, key: &str, value: Option<(i64, &[u8])>) -> Result<Held, StorageError> {
        let before = match value {
            Some(value) => self.values.insert(key, value)?,
            None => self.values.remove(key)?,
        };
        Ok(before.map(|held| (held.value().0, held.value().1.to_vec())))
    }

    /// Gives a member this score, or takes it away.
    pub(super) fn set_member(
        &mut self,
        key: &str,
        member: &[u8],
        score: Option<i64>,
    ) -> Result<Option<i64>, StorageError> {
        let score = score.map(|score| score.clamp(-SCORE, SCORE));
        let before = match score {
            Some(score) => self.members.insert((key, member), score)?,
            None => self.members.remove((key, member))?,
        };
        let before = before.map(|score| score.value());
        if before == score {
            return Ok(before);
        }
        if let Some(before) = before {
            self.index.remove((key, before, member))?;
        }
        if let Some(score) = score {
            self.index.insert((key, score, member), ())?;
        }
        Ok(before)
    }

    pub(super) fn set_end(&mut self, key: &str, end: Option<i64>) -> Result<Option<i64>, StorageError> {
        let before = match end {
            Some(end) => self.ends.insert(key, end)?,
            None => self.ends.remove(key)?,
        };
        Ok(before.map(|end| end.value()))
    }

    /// Says whether it was due then.
    pub(super) fn set_due(&mut self, at: i64, kind: Kind, key: &str, due: bool) -> Result<bool, StorageError> {
        let entry = (at, kind as u8, key);
        let before = if due { self.due.insert(entry, ())? } else { self.due.remove(entry)? };
        Ok(before.is_some())
    }

    /// Up to `most` of what may be collected at `now`.
    pub(super) fn due(&self, now: i64, most: usize) -> Result<Vec<(i64, Kind, String)>, StorageError> {
        let until = (now.saturating_add(1), 0, "");
        let entries = self.due.range((i64::MIN, 0, "")..until)?.take(most);
        entries
            .map(|entry| {
                let (entry, _) = entry?;
                let (at, kind, key) = entry.value();
                let kind = match kind {
                    0 => Kind::Record,
                    1 => Kind::Value,
                    _ => Kind::Index,
                };
                Ok((at, kind, key.to_owned()))
            })
            .collect()
    }
}

/// The file as it is after a commit, with the tables that somebody has read.
pub(super) struct Moment {
    transaction: ReadTransaction,
    records: Once<&'static str, &'static [u8]>,
    values: Once<&'static str, (i64, &'static [u8])>,
    index: Once<Place, ()>,
    ends: Once<&'static str, i64>,
}

type Once<K, V> = OnceLock<ReadOnlyTable<K, V>>;

/// What [`INDEX`] is ordered by.
type Place = (&'static str, i64, &'static [u8]);

impl Moment {
    pub(super) fn new(transaction: ReadTransaction) -> Self {
        Self {
            transaction,
            records: OnceLock::new(),
            values: OnceLock::new(),
            index: OnceLock::new(),
            ends: OnceLock::new(),
        }
    }

    pub(super) fn records(&self) -> Result<&ReadOnlyTable<&'static str, &'static [u8]>, TableError> {
        self.table(&self.records, RECORDS)
    }

    pub(super) fn values(&self) -> Result<&ReadOnlyTable<&'static str, (i64, &'static [u8])>, TableError> {
        self.table(&self.values, VALUES)
    }

    pub(super) fn index(&self) -> Result<&ReadOnlyTable<Place, ()>, TableError> {
        self.table(&self.index, INDEX)
    }

    pub(super) fn ends(&self) -> Result<&ReadOnlyTable<&'static str, i64>, TableError> {
        self.table(&self.ends, ENDS)
    }

    fn table<'m, K: Key + 'static, V: Value + 'static>(
        &self,
        opened: &'m Once<K, V>,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<&'m ReadOnlyTable<K, V>, TableError> {
        match opened.get() {
            Some(table) => Ok(table),
            None => self.transaction.open_table(definition).map(|table| opened.get_or_init(|| table)),
        }
    }
}

/// Up to `limit` members of an index with scores in this range, in their order or from its end.
pub(super) fn members(
    index: &impl ReadableTable<(&'static str, i64, &'static [u8]), ()>,
    key: &str,
    scores: RangeInclusive<i64>,
    limit: usize,
    newest_first: bool,
) -> Result<Members, StorageError> {
    let (low, high) = ((*scores.start()).clamp(-SCORE, SCORE), (*scores.end()).clamp(-SCORE, SCORE));
    if scores.is_empty() {
        return Ok(Vec::new());
    }
    let entries = index.range((key, low, &[][..])..(key, high.saturating_add(1), &[][..]))?;
    if newest_first {
        entries.rev().take(limit).map(member).collect()
    } else {
        entries.take(limit).map(member).collect()
    }
}

type Entry<'t> = (AccessGuard<'t, (&'static str, i64, &'static [u8])>, AccessGuard<'t, ()>);

fn member(entry: Result<Entry<'_>, StorageError>) -> Result<(i64, Vec<u8>), StorageError> {
    let (entry, _) = entry?;
    let (_, score, member) = entry.value();
    Ok((score, member.to_vec()))
}
