//! Where the record of an execution can be, and what can be said about it.

use safeconduct_types::{OperationId, Timestamp};

use crate::bounds::{Retention, Sealed};
use crate::execution::Execution;
use crate::held::Adjusted;

/// Whose word counts: rises with every take-over of an execution, starting at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    pub(crate) const FIRST: Self = Self(1);

    /// The token with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Above all that were given before this moment, which count up from one or from an earlier moment.
    pub(crate) fn after(lost_until: Timestamp) -> Self {
        Self(u64::try_from(lost_until.as_millis()).unwrap_or(0))
    }

    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Somebody has taken the execution over, or it has ended: this executor's word no longer counts. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLost;

/// Why the word on how an execution ended does not count. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSettled {
    /// It is not this executor's to say any more.
    LeaseLost,
    /// The execution was taken over, so an earlier executor may have acted; that the later one did nothing does not
    /// say that nothing happened.
    InDoubt,
    /// It is told what a charge really was, and there is no such charge, or it can't be counted otherwise.
    NoSuchCharge(usize),
}

/// What was really used of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actual {
    /// Its place among the charges of the execution: those of its admission, then those of each extension.
    pub index: usize,
    /// How much; not negative.
    pub amount: i64,
}

/// How an executor says that an execution ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Something happened, and this came of it. Keeps all keys.
    Completed {
        /// What is replayed.
        outcome: Sealed,
        /// How long it is kept; absent: as said when it was admitted.
        retain: Option<Retention>,
        /// Charges that turned out other than they were reserved.
        actual: Vec<Actual>,
    },
    /// Nothing happened. Frees the keys.
    Released {
        /// Whether a byte left for the upstream: the next execution then counts as another generation.
        bytes_sent: bool,
        /// What to answer who asks for this execution.
        outcome: Option<Sealed>,
        /// Whether the caller's own key keeps answering with this outcome.
        keep_for_caller_key: bool,
        /// Whether it was found out that no earlier executor did anything either. Asked only of an execution that was
        /// taken over.
        doubt_resolved: bool,
        /// Whether an operator frees the keys of one that is completed.
        free_completed: bool,
    },
    /// It can't be known whether something happened. Keeps all keys, for ever.
    Unknown {
        /// What is known nevertheless. None: what was known before.
        outcome: Option<Sealed>,
    },
}

/// Where the record is in its life. Final states carry when they began, by which operation, and when they end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// What belongs to the contact is taken, shared limits are not yet. Nothing was promised.
    Reserving {
        /// From here on whoever meets it finds out whether the promise was made all the same.
        lease_ends: Timestamp,
        /// The history of the store that has the shared limits, as it was known before.
        epoch: Box<str>,
    },
    /// An executor acts, until the lease lapses at least.
    Running {
        /// From here on it reads as unknown, and others may take over.
        lease_ends: Timestamp,
        /// What the executor before this one knew, where it was taken over; kept until somebody settles, because this
        /// one may not report back either.
        known: Option<Sealed>,
    },
    /// Something happened.
    Completed {
        /// What is replayed.
        outcome: Sealed,
        /// Which operation said so.
        settled_by: OperationId,
        /// When the record is forgotten.
        expires: Timestamp,
    },
    /// Nothing happened: a tombstone, so that whoever asks by id is answered and the generation is not lost.
    Released {
        /// Whether a byte left for the upstream.
        bytes_sent: bool,
        /// What to answer who asks for this execution.
        outcome: Option<Sealed>,
        /// Whether the caller's own key keeps answering with the outcome.
        keep_for_caller_key: bool,
        /// Which operation said so.
        settled_by: OperationId,
        /// When the record is forgotten.
        expires: Timestamp,
    },
    /// The executor said that it can't know. Never expires.
    Unknown {
        /// What is known nevertheless.
        outcome: Option<Sealed>,
        /// Which operation said so.
        settled_by: OperationId,
    },
}

/// What the record says at a given time: the state, with a lapsed lease read as what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody is about to make it run.
    Reserving,
    /// Somebody was about to, and has not reported back: whether it may run is to be found out.
    Stuck,
    /// An executor holds the lease.
    Running,
    /// Nobody holds it, and what happened is not known.
    Unknown,
    /// It happened.
    Completed,
    /// It did not happen.
    Released,
}

/// What an operation made of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// This, which is to be stored; with it, these charges turn out otherwise.
    To(Execution, Vec<Adjusted>),
    /// Nothing: the operation had been applied before.
    Nowhere(Execution),
}
