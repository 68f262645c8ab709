//! The bytes of a record in a store, and the rule that decides a commit.
//!
//! Both stores keep the same bytes. The embedded engine decides here; on Redis the same rule runs in `envelope.lua`,
//! for `redis/commit.lua` and for the scripts of services ([`LUA`]). A property test feeds both the same history.
//!
//! ```text
//! '2'  'V' or 'D'  expires: 16 digits, 0 = never  written: 16 digits  count: '1'..'8'  count x 16 bytes of revision  value
//! ```
//! Times are milliseconds since the epoch. The newest revision comes first. `D` marks a deleted record: it has no
//! value, reads as absent, and remembers who deleted it.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use safeconduct_types::{OperationId, Timestamp};

use crate::{Change, Committed, Ends, Expected, Record, Revision, StoreError, Write};

/// How long the bytes of an expired or deleted record stay.
pub const GRACE: Duration = Duration::from_mins(10);

/// How many of its last revisions a record remembers.
pub const REVISIONS: usize = 8;

/// The twin in Lua: a script begins with this text and then has its local functions. Its head says what they take.
pub const LUA: &str = include_str!("envelope.lua");

/// The last moment that Lua's numbers can tell from the next.
const LAST_MOMENT: i64 = 9_007_199_254_740_991;

const FORMAT: u8 = b'2';
const VALUE: u8 = b'V';
const DELETED: u8 = b'D';

/// Bytes before the revisions.
const HEAD: usize = 35;

/// A stored record, taken apart but not copied.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    deleted: bool,
    expires: Option<Timestamp>,
    written: Timestamp,
    revisions: &'a [[u8; 16]],
    value: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Takes these bytes apart.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, StoreError> {
        if bytes.first() == Some(&b'1') {
            return Err(StoreError::Corrupt("a record is of an earlier version; begin with an empty store".into()));
        }
        Self::parts(bytes).ok_or(StoreError::Corrupt("a record has an unknown format".into()))
    }

    fn parts(bytes: &'a [u8]) -> Option<Self> {
        let (&[format, kind], rest) = bytes.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk::<16>()?;
        let (written, rest) = rest.split_first_chunk::<16>()?;
        let (&count, rest) = rest.split_first()?;
        let count = usize::from(count.checked_sub(b'0')?);
        let (revisions, value) = rest.split_at_checked(count.checked_mul(16)?)?;
        let (revisions, []) = revisions.as_chunks::<16>() else { return None };
        if format != FORMAT || !matches!(kind, VALUE | DELETED) || !(1..=REVISIONS).contains(&count) {
            return None;
        }
        let expires = Some(moment(expires)?).filter(|expires| expires.as_millis() != 0);
        Some(Self { deleted: kind == DELETED, expires, written: moment(written)?, revisions, value })
    }

    /// The revision of the record, if there is a record at `now`.
    pub fn revision(&self, now: Timestamp) -> Option<Revision> {
        let here = !self.deleted && self.expires.is_none_or(|expires| now < expires);
        here.then(|| self.revisions.first().copied().map(Revision)).flatten()
    }

    /// Whether it remembers that this operation wrote it.
    pub fn remembers(&self, operation: OperationId) -> bool {
        self.revisions.contains(operation.as_bytes())
    }

    /// From when on its bytes may be collected.
    pub fn collected(&self) -> Option<Timestamp> {
        self.expires.map(|expires| expires.after(GRACE))
    }
}

fn moment(digits: &[u8; 16]) -> Option<Timestamp> {
    let number = digits.iter().try_fold(0_i64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        Some(number * 10 + i64::from(digit))
    });
    number.map(Timestamp::from_millis)
}

/// The record in these bytes, if there is one at `now`.
pub fn visible(bytes: &Bytes, now: Timestamp) -> Result<Option<Record>, StoreError> {
    let stored = Stored::parse(bytes)?;
    Ok(stored.revision(now).map(|revision| Record {
        value: bytes.slice_ref(stored.value),
        revision,
        written: stored.written,
        expires: stored.expires,
    }))
}

/// What a commit comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
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
pub fn judge(found: &[Option<Stored<'_>>], changes: &[Change], operation: OperationId, now: Timestamp) -> Verdict {
    // First: what was done stays done, whatever has happened to the records since. A kept record was not written
    // by this commit, so it cannot tell.
    let remembers = |(stored, change): (&Option<Stored<'_>>, &Change)| {
        change.write != Write::Keep && stored.is_some_and(|stored| stored.remembers(operation))
    };
    if found.iter().zip(changes).any(remembers) {
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

/// The bytes that follow `found` once `operation` has applied `write` at `now`; `None` if it keeps what is there.
pub fn successor(found: Option<&Stored<'_>>, write: &Write, operation: OperationId, now: Timestamp) -> Option<Vec<u8>> {
    let (kind, expires, written, value): (u8, i64, i64, &[u8]) = match write {
        Write::Put { value, ends, written } => {
            let written = exact(written.unwrap_or(now));
            let expires = match ends {
                Ends::Never => 0,
                Ends::At(at) => exact(*at),
                Ends::After(lives) => exact(Timestamp::from_millis(written).after(*lives)),
            };
            (VALUE, expires, written, value)
        }
        Write::Delete => (DELETED, exact(now), exact(now), &[]),
        Write::Keep => return None,
    };
    let past = found.map_or(&[][..], |stored| stored.revisions);
    let past = past.get(..past.len().min(REVISIONS - 1)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEAD + 16 * (past.len() + 1) + value.len());
    bytes.extend([FORMAT, kind]);
    bytes.extend(format!("{expires:016}{written:016}{}", past.len() + 1).bytes());
    bytes.extend(operation.as_bytes());
    bytes.extend(past.as_flattened());
    bytes.extend(value);
    Some(bytes)
}

/// A moment as it is stored. What lies before the epoch or beyond exact numbers is moved to the edge.
fn exact(moment: Timestamp) -> i64 {
    moment.as_millis().clamp(1, LAST_MOMENT)
}

/// A change in the two words that [`LUA`] reads, whose head has them: what is to be done, and the value.
pub fn words(change: &Change) -> [Cow<'_, [u8]>; 2] {
    let (kind, how, ends, written, value): (u8, u8, i64, i64, &[u8]) = match &change.write {
        Write::Put { value, ends, written } => {
            let (how, ends) = match ends {
                Ends::Never => (0, 0),
                Ends::At(at) => (1, exact(*at)),
                Ends::After(lives) => (2, i64::try_from(lives.as_millis()).unwrap_or(i64::MAX).min(LAST_MOMENT)),
            };
            (VALUE, how, ends, written.map_or(0, exact), value)
        }
        Write::Delete => (DELETED, 0, 0, 0, &[]),
        Write::Keep => (b'K', 0, 0, 0, &[]),
    };
    let mut what = Vec::with_capacity(32);
    what.extend([kind, how]);
    for number in [ends, written] {
        // Seven bytes: below 2^53.
        what.extend_from_slice(number.to_be_bytes().get(1..).unwrap_or_default());
    }
    if let Expected::At(revision) = &change.expected {
        what.extend(revision.0);
    }
    [Cow::Owned(what), Cow::Borrowed(value)]
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
            expires in prop::option::of(2_i64..LAST_MOMENT),
            writes in 1_u8..20,
        ) {
            let now = Timestamp::from_millis(1);
            let expires = expires.map(Timestamp::from_millis);
            let write = Write::put(value.clone(), expires);
            let mut bytes = successor(None, &write, operation(0), now).unwrap();
            for n in 1..writes {
                bytes = successor(Some(&Stored::parse(&bytes).unwrap()), &write, operation(n), now).unwrap();
            }
            let stored = Stored::parse(&bytes).unwrap();
            prop_assert_eq!(stored.revisions.len(), usize::from(writes).min(REVISIONS));
            let record = visible(&bytes.clone().into(), now).unwrap().unwrap();
            let revision = Revision::of(operation(writes - 1));
            prop_assert_eq!(record, Record { value: value.into(), revision, written: now, expires });
        }

        #[test]
        fn foreign_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assume!(bytes.first() != Some(&FORMAT));
            prop_assert!(Stored::parse(&bytes).is_err());
        }

        #[test]
        fn damaged_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..80), digits in "[0-9]{32}[0-9]") {
            let bytes = [b"2V", digits.as_bytes(), &tail].concat();
            let _ = Stored::parse(&bytes);
        }
    }

    #[test]
    fn a_record_ends_at_its_end() {
        let end = Timestamp::from_seconds(10);
        let start = Timestamp::from_seconds(1);
        for ends in [Ends::At(end), Ends::After(end.since(start))] {
            let bytes: Bytes = successor(None, &Write::put("", ends), operation(1), start).unwrap().into();
            assert!(visible(&bytes, end.before(Duration::from_millis(1))).unwrap().is_some());
            assert!(visible(&bytes, end).unwrap().is_none());
        }
    }

    #[test]
    fn a_length_counts_from_the_time_that_the_writer_gave() {
        let (given, now) = (Timestamp::from_seconds(5), Timestamp::from_seconds(7));
        let ends = Ends::After(Duration::from_secs(10));
        let write = Write::Put { value: Bytes::new(), ends, written: Some(given) };
        let bytes: Bytes = successor(None, &write, operation(1), now).unwrap().into();
        let record = visible(&bytes, now).unwrap().unwrap();
        assert_eq!((record.written, record.expires), (given, Some(Timestamp::from_seconds(15))));
    }
}
