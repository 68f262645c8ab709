//! How marks lie in the store: one slot for the whole deployment.
//!
//! - `head`: the revision, the operation of the last change, the format of all this.
//! - `log`: a ring of pages with the last changes, so that a look reads only what is new.
//! - `marks`: all marks, spread over buckets by the hash of their keys, so that a change rewrites a small part.
//!
//! Every change expects the head as it was read, so changes are in one order, over all processes.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use safeconduct_admission_domain::CodecError;
use safeconduct_admission_domain::mark::{Mark, MarkKey, decode, decode_key, encode, exact, key_bytes, parts, put};
use safeconduct_store::{Record, RecordKey, Records, Slot, StoreError, StoreKeyer};
use safeconduct_types::{OperationId, Timestamp};

use super::board::{Change, Entry};

/// Changes on a page of the log.
const PAGE: u64 = 64;
/// Pages of the log; with the head they fit one read.
pub(super) const PAGES: u64 = 16;
/// Buckets of marks.
pub(super) const BUCKETS: u16 = 4096;
/// Buckets in one read: at the most marks that are kept, some megabytes.
pub(super) const BUCKETS_AT_ONCE: u16 = 64;
/// The format of the records. Whoever finds another one reads nothing.
const FORMAT: &[u8] = &[2];

/// What stands at the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) revision: u64,
    pub(super) stamp: Option<OperationId>,
}

/// What changed after a state that is known.
#[derive(Debug)]
pub(super) enum Since {
    Nothing,
    /// All changes up to now, or a little longer; perhaps some that were known.
    Changes(Vec<Entry>),
    /// The log does not reach so far back, or that state is not of this history.
    Lost,
}

/// Reads the deployment's marks.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    pub(super) records: Arc<dyn Records>,
    keyer: StoreKeyer,
    pub(super) slot: Slot,
}

impl Feed {
    pub(super) fn new(records: Arc<dyn Records>, keyer: StoreKeyer) -> Self {
        let slot = keyer.slot(&[b"marks"]);
        Self { records, keyer, slot }
    }

    pub(super) fn head_key(&self) -> RecordKey {
        self.keyer.key(&self.slot, "head", &[])
    }

    pub(super) fn page_key(&self, page: u64) -> RecordKey {
        self.keyer.key(&self.slot, "log", &[&(page % PAGES).to_be_bytes()])
    }

    pub(super) fn bucket_key(&self, bucket: u16) -> RecordKey {
        self.keyer.key(&self.slot, "marks", &[&bucket.to_be_bytes()])
    }

    async fn head(&self) -> Result<(Timestamp, Head), StoreError> {
        let snapshot = self.records.read(&self.slot, &[self.head_key()]).await?;
        Ok((snapshot.now, read_head(snapshot.records.first())?))
    }

    /// What changed after this state, and the store's time when nothing else had changed yet.
    pub(super) async fn since(
        &self,
        revision: u64,
        stamp: Option<OperationId>,
    ) -> Result<(Timestamp, Since), StoreError> {
        let (now, head) = self.head().await?;
        if (head.revision, head.stamp) == (revision, stamp) {
            return Ok((now, Since::Nothing));
        }
        // From what is known on, to see that it is the same history.
        let entries = self.changes(revision.max(1), head.revision).await?;
        let is_same =
            |entries: &Vec<Entry>| revision == 0 || entries.first().is_some_and(|entry| Some(entry.operation) == stamp);
        Ok((now, entries.filter(is_same).map_or(Since::Lost, Since::Changes)))
    }

    /// The changes from revision `from` to `to`, both included; `None` if the log has them not all.
    async fn changes(&self, from: u64, to: u64) -> Result<Option<Vec<Entry>>, StoreError> {
        let (first, last) = (page_of(from), page_of(to));
        if from > to || last - first >= PAGES {
            return Ok(None);
        }
        let keys: Vec<_> = (first..=last).map(|page| self.page_key(page)).collect();
        let snapshot = self.records.read(&self.slot, &keys).await?;
        let mut entries = Vec::new();
        for record in snapshot.records.iter().flatten() {
            let page = read_page(record)?;
            entries.extend(page.into_iter().filter(|entry| entry.revision >= from));
        }
        entries.sort_by_key(|entry| entry.revision);
        // Whatever is not there without a gap was overwritten.
        let is_whole = (from..).zip(&entries).all(|(expected, entry)| entry.revision == expected);
        let reaches = entries.last().is_some_and(|entry| entry.revision >= to);
        Ok((is_whole && reaches).then_some(entries))
    }

    /// The head, and the last changes: all that the log has without a gap.
    pub(super) async fn log(&self) -> Result<(Head, Vec<Entry>), StoreError> {
        let pages = (0..PAGES).map(|page| self.page_key(page));
        let keys: Vec<_> = [self.head_key()].into_iter().chain(pages).collect();
        let snapshot = self.records.read(&self.slot, &keys).await?;
        let head = read_head(snapshot.records.first())?;
        let mut entries = Vec::new();
        for record in snapshot.records.iter().skip(1).flatten() {
            entries.extend(read_page(record)?);
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.revision));
        let unbroken =
            (0..=head.revision).rev().zip(&entries).take_while(|(due, entry)| entry.revision == *due).count();
        entries.truncate(unbroken);
        entries.reverse();
        Ok((head, entries))
    }

    pub(super) async fn buckets(&self, from: u16) -> Result<Vec<Mark>, StoreError> {
        let keys: Vec<_> =
            (from..BUCKETS.min(from.saturating_add(BUCKETS_AT_ONCE))).map(|bucket| self.bucket_key(bucket)).collect();
        let snapshot = self.records.read(&self.slot, &keys).await?;
        let mut marks = Vec::new();
        for record in snapshot.records.iter().flatten() {
            marks.extend(read_bucket(record)?);
        }
        Ok(marks)
    }
}

/// The bucket of a mark.
pub(super) fn bucket_of(key: &MarkKey) -> u16 {
    let hash = digest(&SHA256, &key_bytes(key));
    hash.as_ref().first_chunk().map_or(0, |start| u16::from_be_bytes(*start) % BUCKETS)
}

pub(super) fn read_head(record: Option<&Option<Record>>) -> Result<Head, StoreError> {
    let Some(Some(record)) = record else { return Ok(Head::default()) };
    let list = parts(&record.value).map_err(damaged)?;
    let [FORMAT, revision, stamp] = list.as_slice() else { return Err(damaged(CodecError::Version)) };
    Ok(Head {
        revision: exact(revision).map(u64::from_be_bytes).map_err(damaged)?,
        stamp: Some(OperationId::from_bytes(exact(stamp).map_err(damaged)?)),
    })
}

pub(super) fn write_head(head: &Head) -> Vec<u8> {
    let mut list = Vec::new();
    put(&mut list, FORMAT);
    put(&mut list, &head.revision.to_be_bytes());
    put(&mut list, head.stamp.as_ref().map_or(&[], |stamp| stamp.as_bytes()));
    list
}

pub(super) fn read_page(record: &Record) -> Result<Vec<Entry>, StoreError> {
    parts(&record.value).map_err(damaged)?.into_iter().map(|entry| read_entry(entry).map_err(damaged)).collect()
}

fn read_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    let list = parts(bytes)?;
    let [revision, operation, set, cleared] = list.as_slice() else { return Err(CodecError::Damaged) };
    let change = if cleared.is_empty() {
        Change::Set(Arc::new(decode(set)?))
    } else {
        Change::Cleared(Arc::new(decode_key(cleared)?))
    };
    let operation = OperationId::from_bytes(exact(operation)?);
    Ok(Entry { revision: u64::from_be_bytes(exact(revision)?), operation, change })
}

/// The page of the log that this change is on.
pub(super) const fn page_of(revision: u64) -> u64 {
    revision / PAGE
}

/// The page with these entries after those that it has. A new page begins without those that stood in its place.
pub(super) fn write_page(before: &[Entry], new: &[&Entry]) -> Vec<u8> {
    let first = new.first().map_or(u64::MAX, |entry| entry.revision);
    let kept = before.iter().filter(|old| page_of(old.revision) == page_of(first) && old.revision < first);
    let mut list = Vec::new();
    for entry in kept.chain(new.iter().copied()) {
        let (set, cleared) = match &entry.change {
            Change::Set(mark) => (encode(mark), Vec::new()),
            Change::Cleared(key) => (Vec::new(), key_bytes(key)),
        };
        let mut one = Vec::new();
        for part in [&entry.revision.to_be_bytes()[..], entry.operation.as_bytes(), &set, &cleared] {
            put(&mut one, part);
        }
        put(&mut list, &one);
    }
    list
}

pub(super) fn read_bucket(record: &Record) -> Result<Vec<Mark>, StoreError> {
    parts(&record.value).map_err(damaged)?.into_iter().map(|mark| decode(mark).map_err(damaged)).collect()
}

pub(super) fn write_bucket<'a>(marks: impl Iterator<Item = &'a Mark>) -> Vec<u8> {
    let mut list = Vec::new();
    for mark in marks {
        put(&mut list, &encode(mark));
    }
    list
}

pub(super) fn damaged(_: CodecError) -> StoreError {
    StoreError::Corrupt("the marks have an unknown format".into())
}
