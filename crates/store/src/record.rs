//! What goes in and what comes out.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use safeconduct_types::{OperationId, Timestamp};

use crate::{RecordKey, Slot, StoreError};

/// Most records that one call may name.
pub const MAX_RECORDS: usize = 64;

/// Longest value of a record, in bytes.
pub const MAX_VALUE: usize = 8 * 1024 * 1024;

/// Which write a record stems from: the operation that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Revision(pub(crate) [u8; 16]);

impl Revision {
    /// The revision that a commit of this operation writes.
    pub const fn of(operation: OperationId) -> Self {
        Self(*operation.as_bytes())
    }

    /// The bytes of that operation's id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A record as it was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The caller's bytes.
    pub value: Bytes,
    /// The operation that wrote it.
    pub revision: Revision,
    /// When it was written, on the store's clock, or the time that its writer gave instead. Times inside of the
    /// value may count from it.
    pub written: Timestamp,
    /// From when on it is absent; never, if `None`.
    pub expires: Option<Timestamp>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("bytes", &self.value.len())
            .field("revision", &self.revision)
            .field("written", &self.written)
            .field("expires", &self.expires)
            .finish()
    }
}

/// Records at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// That moment, on the store's clock.
    pub now: Timestamp,
    /// The records, in the order asked for; `None` for one that does not exist, was deleted or has expired.
    pub records: Vec<Option<Record>>,
}

/// One record's part in a commit.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which record.
    pub key: RecordKey,
    /// What it must be for the commit to happen.
    pub expected: Expected,
    /// What it becomes.
    pub write: Write,
}

/// What a record must be for a commit to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Not there: never written, deleted or expired.
    Absent,
    /// There, and written by just this operation.
    At(Revision),
}

/// What a record becomes.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// These bytes.
    Put {
        /// At most [`MAX_VALUE`] bytes.
        value: Bytes,
        /// From when on the record is absent.
        ends: Ends,
        /// What [`Record::written`] says: the moment of the commit, if `None`.
        written: Option<Timestamp>,
    },
    /// Absent.
    Delete,
    /// What it is: only the expectation counts, and the record does not remember the operation.
    Keep,
}

/// From when on a record is absent. What lies before the epoch or beyond the year 287,000 is moved to that edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// It stays until it is deleted.
    Never,
    /// From this moment on.
    At(Timestamp),
    /// So long after [`Record::written`].
    After(Duration),
}

impl From<Option<Timestamp>> for Ends {
    fn from(expires: Option<Timestamp>) -> Self {
        expires.map_or(Self::Never, Self::At)
    }
}

impl Write {
    /// These bytes, written at the moment of the commit.
    pub fn put(value: impl Into<Bytes>, ends: impl Into<Ends>) -> Self {
        Self::Put { value: value.into(), ends: ends.into(), written: None }
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { value, ends, written } => f
                .debug_struct("Put")
                .field("bytes", &value.len())
                .field("ends", ends)
                .field("written", written)
                .finish(),
            Self::Delete => f.write_str("Delete"),
            Self::Keep => f.write_str("Keep"),
        }
    }
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Committed {
    /// Every change is made, now or by an earlier call with the same operation id.
    Done,
    /// Some record was not as expected; nothing was changed.
    Conflict,
}

pub(crate) fn check_read(slot: &Slot, keys: &[RecordKey]) -> Result<(), StoreError> {
    check_keys(slot, keys.len(), keys.iter())
}

pub(crate) fn check_commit(slot: &Slot, changes: &[Change]) -> Result<(), StoreError> {
    check_keys(slot, changes.len(), changes.iter().map(|change| &change.key))?;
    let distinct: HashSet<_> = changes.iter().map(|change| &change.key).collect();
    if distinct.len() != changes.len() {
        return Err(StoreError::Invalid("a commit names each record once".into()));
    }
    let too_long = |change: &Change| matches!(&change.write, Write::Put { value, .. } if value.len() > MAX_VALUE);
    if changes.iter().any(too_long) {
        return Err(StoreError::Invalid("a record is longer than the store takes".into()));
    }
    Ok(())
}

fn check_keys<'a>(slot: &Slot, count: usize, mut keys: impl Iterator<Item = &'a RecordKey>) -> Result<(), StoreError> {
    if count == 0 || count > MAX_RECORDS {
        return Err(StoreError::Invalid("a call names 1 to 64 records".into()));
    }
    if !keys.all(|key| key.is_in(slot)) {
        return Err(StoreError::Invalid("a call names records of one slot".into()));
    }
    Ok(())
}
