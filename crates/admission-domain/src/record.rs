//! What is stored, under which names, and what a decision makes of it.

use std::collections::BTreeMap;

use safeconduct_types::{ExecutionId, Timestamp};

use crate::execution::Execution;
use crate::key::{Fingerprint, Key};
use crate::list::{Bucket, Listing};

/// What a record is called within the slot of its contact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// The pointer of a key.
    Key(Key),
    /// An execution.
    Execution(ExecutionId),
    /// A part of the list of the contact's executions.
    Bucket(Bucket),
}

/// Where a key leads. Judged by the execution that it leads to; a pointer whose execution has been forgotten leads
/// nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The execution.
    pub execution: ExecutionId,
    /// The request that the caller's key stands for.
    pub fingerprint: Option<Fingerprint>,
    /// The lowest generation that the next execution under this key may have.
    pub floor: u32,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Where a key leads.
    Pointer(Pointer),
    /// An execution.
    Execution(Box<Execution>),
    /// A part of a list.
    Listing(Listing),
}

/// The records that were found, by name.
#[derive(Clone, Debug, Default)]
pub struct Found(BTreeMap<Name, Record>);

impl Found {
    /// Adds what was found under `name`.
    pub fn insert(&mut self, name: Name, record: Record) {
        self.0.insert(name, record);
    }

    /// What was found under `name`.
    pub fn get(&self, name: &Name) -> Option<&Record> {
        self.0.get(name)
    }

    pub(crate) fn pointer(&self, key: &Key) -> Option<&Pointer> {
        match self.0.get(&Name::Key(*key)) {
            Some(Record::Pointer(pointer)) => Some(pointer),
            Some(Record::Execution(_) | Record::Listing(_)) | None => None,
        }
    }

    pub(crate) fn execution(&self, id: &ExecutionId) -> Option<&Execution> {
        match self.0.get(&Name::Execution(id.clone())) {
            Some(Record::Execution(execution)) => Some(execution),
            Some(Record::Pointer(_) | Record::Listing(_)) | None => None,
        }
    }

    pub(crate) fn take_execution(&mut self, id: &ExecutionId) -> Option<Execution> {
        match self.0.remove(&Name::Execution(id.clone())) {
            Some(Record::Execution(execution)) => Some(*execution),
            Some(Record::Pointer(_) | Record::Listing(_)) | None => None,
        }
    }

    pub(crate) fn listing(&self, bucket: Bucket) -> Option<&Listing> {
        match self.0.get(&Name::Bucket(bucket)) {
            Some(Record::Listing(listing)) => Some(listing),
            Some(Record::Pointer(_) | Record::Execution(_)) | None => None,
        }
    }
}

/// A record to be written, provided that it is still as it was found (or still absent).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which one. It was among the names that the request asked to be read.
    pub name: Name,
    /// What it says from now on.
    pub record: Record,
    /// From when on it reads as absent.
    pub expires: Option<Timestamp>,
}

impl Change {
    pub(crate) fn execution(execution: Execution) -> Self {
        Self {
            name: Name::Execution(execution.id().clone()),
            expires: execution.expires(),
            record: Record::Execution(Box::new(execution)),
        }
    }

    pub(crate) fn pointer(key: Key, pointer: Pointer, expires: Option<Timestamp>) -> Self {
        Self { name: Name::Key(key), record: Record::Pointer(pointer), expires }
    }
}

/// An answer, and what must be written, all or nothing, before it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an answer counts only once its changes are committed"]
pub struct Decision<A> {
    /// What to answer.
    pub answer: A,
    /// What makes the answer true. Empty: it is true already.
    pub changes: Vec<Change>,
    /// Whether the answer is true even if the changes can't be committed because others keep changing the records:
    /// they only make something easier to find.
    pub optional: bool,
}

impl<A> Decision<A> {
    pub(crate) const fn plain(answer: A) -> Self {
        Self { answer, changes: Vec::new(), optional: true }
    }

    pub(crate) const fn with(answer: A, changes: Vec<Change>) -> Self {
        Self { answer, changes, optional: false }
    }

    pub(crate) const fn besides(answer: A, changes: Vec<Change>) -> Self {
        Self { answer, changes, optional: true }
    }
}
