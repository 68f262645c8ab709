//! What is asked of admission.

use std::fmt;
use std::time::Duration;

use safeconduct_types::{ContactId, ExecutionId, MarkCheck, OperationId, Timestamp, WorkspaceId};

use crate::limit::{Charge, Limit};

/// What a key is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// The caller's own key: another request under it is refused.
    Caller,
    /// The inputs that make two requests the same.
    Same,
}

/// One key of a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// What it is made of.
    pub kind: KeyKind,
    /// A keyed digest of workspace, contact, family and the key.
    pub digest: [u8; 32],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What to look for.
#[derive(Clone, Debug)]
pub enum Target {
    /// The execution that the keys (at most four, the caller's first) lead to.
    Keys {
        /// The contact whose keys they are.
        contact: ContactId,
        /// The keys.
        keys: Vec<Key>,
        /// What the caller's key is compared by. None: it is not compared (whoever asks has the key only).
        fingerprint: Option<[u8; 32]>,
    },
    /// This execution.
    Execution {
        /// Its id.
        execution: ExecutionId,
        /// If named, an execution of another contact is not found.
        contact: Option<ContactId>,
    },
    /// Nothing: rates are taken and marks are checked.
    Nothing {
        /// The contact whose rates and marks they are.
        contact: Option<ContactId>,
    },
}

/// A question for what is known of a request.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// This operation; new for each question.
    pub operation: OperationId,
    /// What to look for.
    pub target: Target,
    /// Rates to take if nothing is found; at most 32. A cap is refused.
    pub charges: Vec<Charge>,
    /// Marks to check first; at most 16.
    pub marks: Vec<MarkCheck>,
}

impl Lookup {
    /// A look that takes nothing and checks nothing.
    pub const fn only(workspace: WorkspaceId, operation: OperationId, target: Target) -> Self {
        Self { workspace, operation, target, charges: Vec::new(), marks: Vec::new() }
    }
}

/// A request to take limits that leaves no record: nothing is to be settled, nothing comes back.
#[derive(Clone, Debug)]
pub struct Take {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The contact; needed if a limit is per contact.
    pub contact: Option<ContactId>,
    /// This operation; the same if the caller repeats it.
    pub operation: OperationId,
    /// What to take; at most 32.
    pub charges: Vec<Charge>,
    /// Marks to check first; at most 16.
    pub marks: Vec<MarkCheck>,
}

/// A question for what is left of limits.
#[derive(Clone, Debug)]
pub struct Usage {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The contact; needed if a limit is per contact.
    pub contact: Option<ContactId>,
    /// The limits, 1 to 32.
    pub limits: Vec<Limit>,
}

/// Something that may be used once, such as a confirmation. A release gives it back.
#[derive(Clone, PartialEq, Eq)]
pub struct SingleUse {
    /// A keyed digest of kind and id.
    pub digest: [u8; 32],
    /// Until when the use must be remembered.
    pub expires: Timestamp,
}

impl fmt::Debug for SingleUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleUse").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// A request to go ahead.
#[derive(Clone)]
pub struct Admit {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The contact.
    pub contact: ContactId,
    /// The id of the execution that this begins, made for this contact.
    pub execution: ExecutionId,
    /// This operation; the same if the caller repeats it.
    pub operation: OperationId,
    /// At most four keys, the caller's first. None: the request is never found as a repeat.
    pub keys: Vec<Key>,
    /// What the caller's key is compared by.
    pub fingerprint: [u8; 32],
    /// How long the record is kept once it is final: 1 min to 30 days. None: 72 h.
    pub retain: Option<Duration>,
    /// How long the executor may stay silent: 1 s to 10 min.
    pub lease: Duration,
    /// Sealed: what the executor is about to do; at most 256 KiB.
    pub intent: Vec<u8>,
    /// The execution to take over, once its lease has lapsed, instead of beginning one.
    pub resume: Option<ExecutionId>,
    /// What to take: all of it or nothing; at most 32. Nothing of a take-over.
    pub charges: Vec<Charge>,
    /// Marks to check first; at most 16.
    pub marks: Vec<MarkCheck>,
    /// How long to wait for the end of another executor's, 0 to 15 s.
    pub wait: Duration,
    /// What to use up; at most 4.
    pub consume: Vec<SingleUse>,
}

impl fmt::Debug for Admit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admit")
            .field("workspace", &self.workspace)
            .field("execution", &self.execution)
            .field("operation", &self.operation)
            .field("keys", &self.keys)
            .field("resume", &self.resume)
            .field("charges", &self.charges)
            .finish_non_exhaustive()
    }
}

/// A request for more time.
#[derive(Clone)]
pub struct Extend {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The contact.
    pub contact: ContactId,
    /// The execution.
    pub execution: ExecutionId,
    /// This operation; the same if the caller repeats it.
    pub operation: OperationId,
    /// The token that admission gave.
    pub token: u64,
    /// The length of the lease from now. None: unchanged.
    pub lease: Option<Duration>,
    /// Sealed: the steps done; at most 256 KiB. None: unchanged.
    pub checkpoint: Option<Vec<u8>>,
    /// What to take before a later step; at most 32 over the whole execution.
    pub charges: Vec<Charge>,
    /// Marks to check before that step; at most 16.
    pub marks: Vec<MarkCheck>,
}

impl fmt::Debug for Extend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extend")
            .field("execution", &self.execution)
            .field("operation", &self.operation)
            .field("token", &self.token)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// What was really used of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActualAmount {
    /// Which charge: its place in those of `Admit`, followed by those of each `Extend`.
    pub charge: u32,
    /// How much, in the charge's unit; never negative.
    pub amount: i64,
}

/// How an execution ended.
#[derive(Clone)]
pub enum Settlement {
    /// Something happened, or it is final otherwise: the outcome is replayed.
    Completed {
        /// Sealed; at most 256 KiB.
        outcome: Vec<u8>,
        /// How long it is kept from now. None: as said when it was admitted.
        retain: Option<Duration>,
        /// Amounts that differ from what was reserved.
        actual: Vec<ActualAmount>,
    },
    /// Nothing happened: the keys are free again.
    Released {
        /// Whether a byte left for the upstream: the next execution is another generation then.
        bytes_sent: bool,
        /// Sealed; what whoever asks for this execution is answered.
        outcome: Option<Vec<u8>>,
        /// Whether the caller's own key keeps answering with the outcome.
        keep_for_caller_key: bool,
        /// Whether it was found out that no earlier executor did anything either: without it, an execution that was
        /// taken over (token above 1) is not released.
        doubt_resolved: bool,
    },
    /// An operator frees the keys, whoever has had it and whatever came of it: an unknown one because nothing happened
    /// after all, a completed one although it did. What comes next under the keys is another generation.
    Freed {
        /// Sealed; what whoever asks for this execution is answered. None: that nothing happened.
        outcome: Option<Vec<u8>>,
    },
    /// It can't be known whether something happened: the keys stay taken.
    Unknown {
        /// Sealed; what is known nevertheless.
        outcome: Option<Vec<u8>>,
    },
}

impl fmt::Debug for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completed { .. } => "Completed",
            Self::Released { .. } => "Released",
            Self::Freed { .. } => "Freed",
            Self::Unknown { .. } => "Unknown",
        })
    }
}

/// The word on how an execution ended.
#[derive(Clone, Debug)]
pub struct Settle {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The contact.
    pub contact: ContactId,
    /// The execution.
    pub execution: ExecutionId,
    /// This operation; the same if the caller repeats it.
    pub operation: OperationId,
    /// The latest token.
    pub token: u64,
    /// The word.
    pub settlement: Settlement,
}
