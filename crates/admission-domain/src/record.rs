//! What is stored, under which names, and what a decision makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use safeconduct_types::{ExecutionId, OperationId, Timestamp};

use crate::bounds::{BRIEF, Digest};
use crate::execution::Execution;
use crate::held::Adjusted;
use crate::hold::Hold;
use crate::key::{Fingerprint, Key};
use crate::limit::Charge;
use crate::mark::Mark;

/// Stands, in a record that is yet to be written, for the moment of the write: whoever decides does not know it, the
/// store stamps it. Times counted from it are stored as such and read back as what they then are.
pub const AT_WRITE: Timestamp = Timestamp::from_millis(1 << 60);

/// From here on a time is one that is counted from the write.
const NEAR_WRITE: i64 = 1 << 59;

/// How far from the write this time is, in milliseconds, if it is counted from it.
pub fn from_write(time: Timestamp) -> Option<i64> {
    (time.as_millis() >= NEAR_WRITE).then(|| time.as_millis().saturating_sub(AT_WRITE.as_millis()))
}

/// The time that this is, now that the moment of the write is known.
pub(crate) fn known(time: Timestamp, written: Timestamp) -> Timestamp {
    from_write(time).map_or(time, |millis| Timestamp::from_millis(written.as_millis().saturating_add(millis)))
}

/// What a record is called within its slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// The pointer of a key.
    Key(Key),
    /// An execution.
    Execution(ExecutionId),
    /// The use of something that may be used once.
    Use(Digest),
    /// An operation that took something and left no execution.
    Operation(OperationId),
    /// What an execution holds of shared limits; in the slot of the workspace.
    Hold(ExecutionId),
    /// A mark on the contact, by the bytes of its key.
    Mark(Vec<u8>),
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
    /// By whom a single-use id was used. None: by a request that left no execution.
    Use(Option<ExecutionId>),
    /// An operation was applied.
    Operation,
    /// What is held of shared limits.
    Hold(Hold),
    /// A mark.
    Mark(Box<Mark>),
}

/// The records that were found, by name.
#[derive(Clone, Debug, Default)]
pub struct Found(BTreeMap<Name, Record>);

impl Found {
    /// Adds what was found under `name`.
    pub fn insert(&mut self, name: Name, record: Record) {
        self.0.insert(name, record);
    }

    /// Forgets what was found under `name`.
    pub fn remove(&mut self, name: &Name) {
        self.0.remove(name);
    }

    /// What was found under `name`.
    pub fn get(&self, name: &Name) -> Option<&Record> {
        self.0.get(name)
    }

    pub(crate) fn pointer(&self, key: &Key) -> Option<&Pointer> {
        match self.0.get(&Name::Key(*key)) {
            Some(Record::Pointer(pointer)) => Some(pointer),
            Some(_) | None => None,
        }
    }

    /// The execution, if it was found.
    pub fn execution(&self, id: &ExecutionId) -> Option<&Execution> {
        match self.0.get(&Name::Execution(id.clone())) {
            Some(Record::Execution(execution)) => Some(execution),
            Some(_) | None => None,
        }
    }

    /// Whether this single-use id was used, and by which execution, if that is known.
    pub(crate) fn used(&self, digest: &Digest) -> Option<&Option<ExecutionId>> {
        match self.0.get(&Name::Use(*digest)) {
            Some(Record::Use(by)) => Some(by),
            Some(_) | None => None,
        }
    }

    /// What the execution holds of shared limits, if a hold was found.
    pub fn hold(&self, id: &ExecutionId) -> Option<&Hold> {
        match self.0.get(&Name::Hold(id.clone())) {
            Some(Record::Hold(hold)) => Some(hold),
            Some(_) | None => None,
        }
    }
}

/// A record to be written, provided that it is still as it was found (or still absent).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which one. It was among the names that the request asked to be read.
    pub name: Name,
    /// What it says from now on. None: it is gone.
    pub record: Option<Record>,
    /// From when on it reads as absent.
    pub expires: Option<Timestamp>,
}

impl Change {
    pub(crate) fn execution(execution: Execution) -> Self {
        Self {
            name: Name::Execution(execution.id().clone()),
            expires: execution.kept(),
            record: Some(Record::Execution(Box::new(execution))),
        }
    }

    pub(crate) fn pointer(key: Key, pointer: Pointer, expires: Option<Timestamp>) -> Self {
        Self { name: Name::Key(key), record: Some(Record::Pointer(pointer)), expires }
    }

    /// The use of a single-use id. It is remembered somewhat longer than asked for: whoever was asked whether the thing
    /// is still good did so earlier, and by another clock.
    pub fn used(digest: Digest, by: Option<ExecutionId>, expires: Timestamp) -> Self {
        Self { name: Name::Use(digest), record: Some(Record::Use(by)), expires: Some(expires.after(BRIEF)) }
    }

    /// A hold, kept until it is closed, or for so long as it is closed.
    pub fn hold(id: ExecutionId, hold: Hold) -> Self {
        Self { name: Name::Hold(id), expires: hold.expires(), record: Some(Record::Hold(hold)) }
    }

    pub(crate) const fn gone(name: Name) -> Self {
        Self { name, record: None, expires: None }
    }
}

/// What is written into the ordered lists of a contact, with the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// The execution is listed among the contact's, at the time of the write.
    Begun(ExecutionId),
    /// It is not listed any more: nothing came of it.
    Undone(ExecutionId),
    /// It reserves, for so long; whoever meets it afterwards finds out what became of it.
    Reserving(ExecutionId, std::time::Duration),
    /// It reserves no longer.
    Resolved(ExecutionId),
    /// It holds of shared limits; to be looked at by whoever is denied by them, after so long.
    Holding(ExecutionId, std::time::Duration),
    /// It holds nothing any more.
    Closed(ExecutionId),
}

/// An answer that may carry times counted from the write.
pub trait AtWrite {
    /// The answer with times as they are, now that the moment of the write is known.
    #[must_use]
    fn written(self, at: Timestamp) -> Self;
}

impl<T: AtWrite> AtWrite for Option<T> {
    fn written(self, at: Timestamp) -> Self {
        self.map(|it| it.written(at))
    }
}

impl AtWrite for bool {
    fn written(self, _: Timestamp) -> Self {
        self
    }
}

impl AtWrite for () {
    fn written(self, _: Timestamp) -> Self {}
}

impl AtWrite for Record {
    fn written(self, at: Timestamp) -> Self {
        match self {
            Self::Execution(it) => Self::Execution(Box::new(it.written(at))),
            Self::Hold(it) => Self::Hold(it.written(at)),
            Self::Pointer(_) | Self::Use(_) | Self::Operation | Self::Mark(_) => self,
        }
    }
}

/// What is counted in the same stroke as the records are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Counted {
    /// Nothing.
    #[default]
    Nothing,
    /// The request's charges to the contact's own limits; if one does not pass, nothing is written.
    Charges,
    /// What was taken before turns out to be more or less.
    Adjusted(Vec<Adjusted>),
}

/// An answer, and what must be written, all or nothing, before it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an answer counts only once its changes are committed"]
pub struct Decision<A> {
    /// What to answer.
    pub answer: A,
    /// What makes the answer true. Empty: it is true already.
    pub changes: Vec<Change>,
    /// What is counted with it.
    pub counted: Counted,
    /// What is listed with it.
    pub listed: Vec<Listed>,
    /// Limits of which it is asked in the same stroke what is left.
    pub asks: Vec<Arc<Charge>>,
    /// Whether the answer is true even if the changes can't be committed because others keep changing the records:
    /// they only make something easier to find.
    pub optional: bool,
}

impl<A> Decision<A> {
    /// True already: nothing is written.
    pub(crate) const fn plain(answer: A) -> Self {
        Self::besides(answer, Vec::new())
    }

    /// Made true by these changes.
    pub(crate) fn with(answer: A, changes: Vec<Change>) -> Self {
        Self { optional: false, ..Self::besides(answer, changes) }
    }

    /// True without these changes, which only make something easier to find.
    pub(crate) const fn besides(answer: A, changes: Vec<Change>) -> Self {
        Self { answer, changes, counted: Counted::Nothing, listed: Vec::new(), asks: Vec::new(), optional: true }
    }

    pub(crate) fn map<B>(self, change: impl FnOnce(A) -> B) -> Decision<B> {
        Decision {
            answer: change(self.answer),
            changes: self.changes,
            counted: self.counted,
            listed: self.listed,
            asks: self.asks,
            optional: self.optional,
        }
    }

    pub(crate) fn counting(mut self, counted: Counted) -> Self {
        self.counted = counted;
        self
    }

    pub(crate) fn listing(mut self, listed: Listed) -> Self {
        self.listed.push(listed);
        self
    }
}
