//! What admission answers.

use std::fmt;

use safeconduct_types::{ExecutionId, Mark, Timestamp};

use crate::limit::{Denied, Remaining};

/// Where a record stands, by the store's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// An executor holds the lease.
    Running,
    /// It happened, or is final otherwise.
    Completed,
    /// Nothing happened.
    Released,
    /// Nobody knows whether it happened.
    Unknown,
}

/// How a record was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// By the caller's own key.
    CallerKey,
    /// By the same inputs.
    SameInputs,
    /// By its id.
    Id,
}

/// The record of an execution. What is sealed is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The execution.
    pub execution: ExecutionId,
    /// Where it stands.
    pub state: RecordState,
    /// The latest token.
    pub token: u64,
    /// Rises with each release after bytes were sent; part of the key that the upstream sees.
    pub generation: u32,
    /// Sealed: what the executor was about to do.
    pub intent: Vec<u8>,
    /// Sealed: the steps done; empty if none was reported.
    pub checkpoint: Vec<u8>,
    /// Sealed: what came of it; empty if nothing was said.
    pub outcome: Vec<u8>,
    /// When the lease lapses, or lapsed; only of one that nobody has settled.
    pub lease_ends: Option<Timestamp>,
    /// When it was admitted.
    pub admitted: Timestamp,
    /// When it was last settled.
    pub settled: Option<Timestamp>,
    /// When it is forgotten. None: never, as it stands.
    pub expires: Option<Timestamp>,
    /// Rises with every change.
    pub revision: u64,
    /// How it was found.
    pub matched: Matched,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("execution", &self.execution)
            .field("state", &self.state)
            .field("token", &self.token)
            .field("generation", &self.generation)
            .field("revision", &self.revision)
            .field("matched", &self.matched)
            .finish_non_exhaustive()
    }
}

/// What was taken, and what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// What is left of each charged limit, in the order of the charges.
    pub remaining: Vec<Remaining>,
    /// Names the unbroken history of the store.
    pub store_epoch: String,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupAnswer {
    /// Nothing; the rates are taken.
    Absent(Taken),
    /// It ended: this came of it (completed, or released and asked for by id or the caller's key).
    Replay(Record),
    /// An executor has it.
    Running(Record),
    /// Nobody knows whether it happened.
    Unknown(Record),
    /// The caller's key stands for another request.
    KeyReused,
    /// A rate is used up.
    Denied(Denied),
    /// A mark closes the way.
    Marked(Mark),
}

/// What came of a request to take limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeAnswer {
    /// All of it is taken.
    Taken(Taken),
    /// A limit is used up; nothing was taken.
    Denied(Denied),
    /// A mark closes the way; nothing was taken.
    Marked(Mark),
}

/// The permission to act. It ends with the lease; what was admitted must be settled, or it will read as unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "what was admitted must be settled"]
pub struct Admitted {
    /// The execution: the one that was asked for, or the one that was taken over.
    pub execution: ExecutionId,
    /// To be shown with every further word on it.
    pub token: u64,
    /// Part of the key that the upstream sees.
    pub generation: u32,
    /// When the lease lapses, by the store's clock.
    pub lease_ends: Option<Timestamp>,
    /// The record as the earlier executor left it, if it was taken over.
    pub resumed: Option<Record>,
    /// What is left of the limits that were charged.
    pub taken: Taken,
}

/// What a request to go ahead is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "what was admitted must be settled"]
pub enum AdmitAnswer {
    /// Go ahead.
    Admitted(Admitted),
    /// It ended before: answer with what came of it.
    Replay(Record),
    /// Another executor has it.
    Running(Record),
    /// Nobody knows whether it happened: resume, reconcile, or say so.
    Unknown(Record),
    /// The caller's key stands for another request.
    KeyReused,
    /// A limit is used up; nothing was taken.
    Denied(Denied),
    /// A mark closes the way; nothing was taken.
    Marked(Mark),
    /// Something that may be used once was used by another execution; nothing was taken.
    Consumed {
        /// Which one: its place in what was to be consumed.
        place: u32,
        /// The execution that used it, as far as it is told.
        execution: Option<ExecutionId>,
    },
}

/// The lease as it was extended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    /// When it lapses, by the store's clock.
    pub lease_ends: Option<Timestamp>,
    /// Revision of the record.
    pub revision: u64,
    /// What is left of the limits that were charged.
    pub taken: Taken,
}

/// What came of a request for more time. If it was not given, the old lease still runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtendAnswer {
    /// It was given.
    Extended(Extended),
    /// A limit is used up; nothing was taken.
    Denied(Denied),
    /// A mark closes the way; nothing was taken.
    Marked(Mark),
}

/// The record as it was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The record afterwards.
    pub record: Record,
    /// What is left of each limit of the execution.
    pub remaining: Vec<Remaining>,
}
