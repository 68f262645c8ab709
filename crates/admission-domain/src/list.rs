//! The executions of one contact, newest first.
//!
//! The list is kept in parts, chosen by the execution's id, so that many admissions of one contact at a time do not
//! all change the same record. It serves people who look back: what is not found here is still found by id or key.

use std::time::Duration;

use safeconduct_types::{ExecutionId, Timestamp};

use crate::bounds::{MAX_LEASE, MAX_RETENTION};
use crate::record::Found;

/// How many parts the list of one contact has.
pub const BUCKETS: u8 = 64;

/// The most executions that one part remembers; older ones drop out.
const MAX_ENTRIES: usize = 64;

/// One part of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u8);

impl Bucket {
    /// The part that lists this execution.
    pub fn of(id: &ExecutionId) -> Self {
        // The end of an id is random.
        let number = id.as_str().bytes().rev().take(4).fold(0_u32, |sum, byte| {
            sum.wrapping_mul(16).wrapping_add(char::from(byte).to_digit(16).unwrap_or_default())
        });
        Self(u8::try_from(number % u32::from(BUCKETS)).unwrap_or_default())
    }

    /// All parts.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..BUCKETS).map(Self)
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// When it was admitted.
    pub admitted: Timestamp,
    /// Which execution.
    pub execution: ExecutionId,
}

/// What one part of the list says, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing(pub(crate) Vec<Entry>);

impl Listing {
    pub(crate) fn with(mut self, entry: Entry) -> Self {
        self.0.push(entry);
        let over = self.0.len().saturating_sub(MAX_ENTRIES);
        self.0.drain(..over);
        self
    }

    /// When a part that was changed at `now` lists nothing any more that could still be found.
    pub(crate) fn expires(now: Timestamp) -> Timestamp {
        const DAY: Duration = Duration::from_hours(24);
        now.after(MAX_RETENTION).after(MAX_LEASE).after(DAY)
    }
}

/// Where a page ended.
pub type Position = Entry;

/// All that is listed, newest first, below `after`.
pub fn entries(found: &Found, after: Option<&Position>) -> Vec<Entry> {
    let mut all: Vec<Entry> = Bucket::all()
        .filter_map(|bucket| found.listing(bucket))
        .flat_map(|listing| listing.0.iter())
        .filter(|entry| after.is_none_or(|position| *entry < position))
        .cloned()
        .collect();
    all.sort_unstable_by(|one, other| other.cmp(one));
    all
}
