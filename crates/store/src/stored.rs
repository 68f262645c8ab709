//! The bytes of a record in a store, and the rule that decides a commit.
//!
//! Both stores keep the same bytes. The embedded engine decides here; on Redis the same rule runs as
//! `redis/commit.lua`, and a property test feeds both the same history.
//!
//! ```text
//! '1'  'V' or 'D'  expires: 16 digits, 0 = never  count: '1'..'8'  count x 16 bytes of revision  value
//! ```
//! The newest revision comes first. `D` marks a deleted record: it has no value, reads as absent, and remembers
//! who deleted it.

use std::time::Duration;

use bytes::Bytes;
use safeconduct_types::{OperationId, Timestamp};

use crate::{Change, Committed, Expected, Record, Revision, StoreError, Write};

/// How long the bytes of an expired or deleted record stay.
pub const GRACE: Duration = Duration::from_mins(10);

/// How many of its last revisions a record remembers.
pub const REVISIONS: usize = 8;

/// The last moment that Lua's numbers can tell from the next.
const LAST_MOMENT: i64 = 9_007_199_254_740_991;

const FORMAT: u8 = b'1';
const VALUE: u8 = b'V';
const DELETED: u8 = b'D';

/// A stored record, taken apart but not copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    deleted: bool,
    expires: Option<Timestamp>,
    revisions: &'a [[u8; 16]],
    value: &'a [u8],
}

impl<'a> Stored<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, StoreError> {
        Self::parts(bytes).ok_or(StoreError::Corrupt("a record has an unknown format".into()))
    }

    fn parts(bytes: &'a [u8]) -> Option<Self> {
        let (&[format, kind], rest) = bytes.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk::<16>()?;
        let (&count, rest) = rest.split_first()?;
        let count = usize::from(count.checked_sub(b'0')?);
        let (revisions, value) = rest.split_at_checked(count.checked_mul(16)?)?;
        let (revisions, []) = revisions.as_chunks::<16>() else { return None };
        let expires: i64 = std::str::from_utf8(expires).ok()?.parse().ok()?;
        if format != FORMAT || !matches!(kind, VALUE | DELETED) || !(1..=REVISIONS).contains(&count) {
            return None;
        }
        let expires = (expires != 0).then_some(Timestamp::from_millis(expires));
        Some(Self { deleted: kind == DELETED, expires, revisions, value })
    }

    /// The revision of the record, if there is a record at `now`.
    fn revision(&self, now: Timestamp) -> Option<Revision> {
        let here = !self.deleted && self.expires.is_none_or(|expires| now < expires);
        here.then(|| self.revisions.first().copied().map(Revision)).flatten()
    }

    /// When its bytes may be collected.
    pub(crate) fn collected(&self) -> Option<Timestamp> {
        self.expires.map(|expires| expires.after(GRACE))
    }
}

/// The record in these bytes, if there is one at `now`.
pub(crate) fn visible(bytes: &Bytes, now: Timestamp) -> Result<Option<Record>, StoreError> {
    let stored = Stored::parse(bytes)?;
    Ok(stored.revision(now).map(|revision| Record {
        value: bytes.slice_ref(stored.value),
        revision,
        expires: stored.expires,
    }))
}

/// What a commit comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every record is as expected: write.
    Apply,
    /// It was done before.
    Repeated,
    /// Some record is not as expected.
    Conflict,
}

impl From<Verdict> for Committed {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Apply | Verdict::Repeated => Self::Done,
            Verdict::Conflict => Self::Conflict,
        }
    }
}

/// Decides a commit. `found` are the stored records in the order of `changes`.
pub(crate) fn judge(
    found: &[Option<Stored<'_>>],
    changes: &[Change],
    operation: OperationId,
    now: Timestamp,
) -> Verdict {
    // First: what was done stays done, whatever has happened to the records since.
    if found.iter().flatten().any(|stored| stored.revisions.contains(operation.as_bytes())) {
        return Verdict::Repeated;
    }
    let as_expected = |(stored, change): (&Option<Stored<'_>>, &Change)| {
        let current = stored.as_ref().and_then(|stored| stored.revision(now));
        match change.expected {
            Expected::Absent => current.is_none(),
            Expected::At(revision) => current == Some(revision),
        }
    };
    if found.iter().zip(changes).all(as_expected) { Verdict::Apply } else { Verdict::Conflict }
}

/// The bytes that follow `found` once `write` is applied by `operation`.
pub(crate) fn successor(found: Option<&Stored<'_>>, write: &Write, operation: OperationId, now: Timestamp) -> Vec<u8> {
    let (kind, expires, value): (u8, i64, &[u8]) = match write {
        Write::Put { value, expires } => (VALUE, digits(*expires), value),
        Write::Delete => (DELETED, digits(Some(now)), &[]),
    };
    let past = found.map_or(&[][..], |stored| stored.revisions);
    let past = past.get(..past.len().min(REVISIONS - 1)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(19 + 16 * (past.len() + 1) + value.len());
    bytes.extend([FORMAT, kind]);
    bytes.extend(format!("{expires:016}{}", past.len() + 1).bytes());
    bytes.extend(operation.as_bytes());
    bytes.extend(past.as_flattened());
    bytes.extend(value);
    bytes
}

/// An end as it is stored: 0 for none. What lies before the epoch or beyond exact numbers is moved to the edge.
pub(crate) fn digits(expires: Option<Timestamp>) -> i64 {
    expires.map_or(0, |expires| expires.as_millis().clamp(1, LAST_MOMENT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn operation(n: u8) -> OperationId {
        OperationId::from_bytes([n; 16])
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            value in prop::collection::vec(any::<u8>(), 0..64),
            expires in prop::option::of(1_i64..LAST_MOMENT),
            writes in 1_u8..20,
        ) {
            let now = Timestamp::from_millis(0);
            let expires = expires.map(Timestamp::from_millis);
            let write = Write::Put { value: value.clone().into(), expires };
            let mut bytes = successor(None, &write, operation(0), now);
            for n in 1..writes {
                bytes = successor(Some(&Stored::parse(&bytes).unwrap()), &write, operation(n), now);
            }
            let stored = Stored::parse(&bytes).unwrap();
            prop_assert_eq!(stored.revisions.len(), usize::from(writes).min(REVISIONS));
            let record = visible(&bytes.clone().into(), now).unwrap().unwrap();
            prop_assert_eq!(record, Record { value: value.into(), revision: Revision::of(operation(writes - 1)), expires });
        }

        #[test]
        fn foreign_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assume!(bytes.first() != Some(&FORMAT));
            prop_assert!(Stored::parse(&bytes).is_err());
        }
    }

    #[test]
    fn a_record_ends_at_its_end() {
        let end = Timestamp::from_seconds(10);
        let write = Write::Put { value: Bytes::new(), expires: Some(end) };
        let bytes: Bytes = successor(None, &write, operation(1), Timestamp::from_seconds(1)).into();
        assert!(visible(&bytes, end.before(Duration::from_millis(1))).unwrap().is_some());
        assert!(visible(&bytes, end).unwrap().is_none());
    }
}
