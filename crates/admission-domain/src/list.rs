//! The executions of one contact, newest first.
//!
//! An ordered list beside the records, by the time of admission. It serves people who look back: what is not found here
//! is still found by id or key.

use std::time::Duration;

use safeconduct_types::{ExecutionId, Timestamp};

use crate::bounds::{MAX_LEASE, MAX_RETENTION};

/// How long an execution is listed at least: as long as its record could be kept if it ended at once, and a day more.
/// One that is never settled is found by its id or key afterwards.
pub const LISTED_FOR: Duration = Duration::from_secs(MAX_RETENTION.as_secs() + MAX_LEASE.as_secs() + 86_400);

/// One line of the list, and where a page ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// When it was admitted.
    pub admitted: Timestamp,
    /// Which execution.
    pub execution: ExecutionId,
}
