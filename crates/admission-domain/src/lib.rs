//! The rules of admission: may this request go ahead, or has it been, or is it being, made already?
//!
//! This crate owns the record of an execution (who may act on it, until when, how it ended), the keys that lead to
//! it, and every decision about both. A decision is a pure function of the store's time, the request and the records
//! that were found; it yields an answer and the changes that make the answer true. The shell commits the changes with
//! compare-and-set and, if somebody else was faster, reads and decides again. So two requests can't both be admitted
//! for one key: the second commit fails.
//!
//! It refuses to own I/O, clocks, and the meaning of what it keeps: intent, checkpoint and outcome are sealed bytes.
//!
//! # What holds
//! - A key leads to at most one execution that is running, unknown or completed.
//! - A `SAME` key admits again only after the execution that it leads to was released, or has been forgotten after
//!   its retention.
//! - A running execution whose lease has lapsed reads as *unknown*, never as free. Only a take-over, with a higher
//!   fencing token, makes it run again.
//! - The fencing token decides whose word counts, not the lease: a lease only says from when on others may take over.
//!   So a late settle counts as long as nobody has, and one with an old token changes nothing.
//! - An execution that was taken over is not released on the word that the later executor did nothing; only on the
//!   word that the doubt about the earlier one is resolved. What was known of it is kept until somebody settles.
//! - Repeating an operation (same operation id) answers the same and changes nothing.
//!
//! The table of what the next same request gets, and how keys that disagree are resolved, are in `README.md`; the
//! tests read the table from there.

mod admit;
mod bounds;
pub mod calendar;
mod codec;
pub mod envoy;
mod execution;
mod extend;
mod held;
mod hold;
mod key;
pub mod limit;
mod list;
mod lookup;
pub mod mark;
pub mod meter;
mod record;
mod resolve;
mod settle;
mod state;
pub mod step;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod history;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

pub use admit::{Admit, AdmitAnswer, Admitted, SingleUse, Takes, TakesAnswer, decide_admit, decide_takes};
pub use bounds::{
    BRIEF, BoundsError, DEFAULT_RETENTION, Digest, Lease, MAX_KEYS, MAX_LEASE, MAX_RETENTION, MAX_SEALED,
    MAX_SINGLE_USE, MIN_LEASE, MIN_RETENTION, Retention, Sealed,
};
pub use codec::{CodecError, decode, encode};
pub use execution::{Actual, Execution, LeaseLost, Moved, NotSettled, Settlement, Standing, State, Token};
pub use extend::{Extend, Extended, decide_extend, decide_withdraw};
pub use held::{Adjusted, Held, is_shared};
pub use hold::{Ended, Fate, Hold, Promise, Take, Taken, decide_close, decide_take, decide_void, hold_reads};
pub use key::{Fingerprint, Key, KeyKind, Keys};
pub use list::{Entry, LISTED_FOR};
pub use lookup::{Lookup, LookupAnswer, Target, decide_lookup};
pub use record::{AT_WRITE, AtWrite, Change, Counted, Decision, Found, Listed, Name, Pointer, Record, from_write};
pub use resolve::Matched;
pub use settle::{Resolve, Settle, Settled, decide_resolve, decide_settle, parts};
