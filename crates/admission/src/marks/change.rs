//! Setting and clearing a mark: first in the contact's own slot, then for all replicas.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use safeconduct_admission_domain::mark::{self, Mark, MarkKey, Subject, decode, encode, key_bytes};
use safeconduct_service::wire::UNSAID;
use safeconduct_store::{
    Change as Write, Committed, Ends, Expected, Record, RecordKey, Revision, Slot, StoreError, Write as Put,
};
use safeconduct_types::{ExecutionId, OperationId, Reason, Refusal, Timestamp};

use super::board::{Change, Entry};
use super::budget::Class;
use super::feed::{self, Head};
use super::{ATTEMPTS, Marks};
use crate::keys;

/// What came of a change.
#[derive(Debug)]
pub(super) enum Changed {
    /// The mark as it is now known to all replicas.
    Set(Arc<Mark>),
    /// It was there, and is cleared as of this revision.
    Cleared(u64),
    /// It was not there.
    Nothing,
    /// There are as many of its kind as all replicas can know.
    Full(usize),
}

impl Marks {
    /// The mark as stored: over what was in force, and durable wherever it is looked for.
    pub(super) async fn set(&self, asked: Mark, operation: OperationId) -> Result<Mark, Refusal> {
        let place = self.place_of(&asked.key);
        let asked = match &place {
            Some((slot, key)) if self.known(operation).await?.is_none() => {
                self.set_for_contact(slot, key, &asked, operation).await?
            }
            _ => asked,
        };
        let set = match self.change(operation, &asked.key, Some(&asked)).await? {
            Changed::Set(mark) => Mark::clone(&mark),
            Changed::Full(_) if matches!(asked.key.subject, Subject::ResourceGone(..)) => {
                tracing::warn!("more objects are gone than replicas are told of; admission knows of this one");
                return Ok(asked);
            }
            Changed::Full(most) => {
                self.settle(place, &asked.key, operation).await?;
                return Err(too_many(most));
            }
            Changed::Cleared(_) | Changed::Nothing => {
                return Err(Refusal::invalid_field("operation_id", "was used before, for another change"));
            }
        };
        self.settle(place, &asked.key, operation).await?;
        Ok(set)
    }

    /// Whether there was one, and the revision of the change.
    pub(super) async fn clear(&self, key: &MarkKey, operation: OperationId) -> Result<(bool, u64), Refusal> {
        let cleared = match self.change(operation, key, None).await? {
            Changed::Cleared(revision) => Some(revision),
            Changed::Nothing => None,
            Changed::Set(_) | Changed::Full(_) => {
                return Err(Refusal::invalid_field("operation_id", "was used before, for another change"));
            }
        };
        let was_there = self.settle(self.place_of(key), key, operation).await?;
        Ok((cleared.is_some() || was_there, cleared.unwrap_or_default()))
    }

    /// What this operation did, if it was one of the last.
    async fn known(&self, operation: OperationId) -> Result<Option<Entry>, StoreError> {
        self.sync().await?;
        Ok(self.read(|board| board.done(operation).cloned()))
    }

    /// Where the contact's own slot has the mark, if it is about a contact.
    pub(super) fn place_of(&self, key: &MarkKey) -> Option<(Slot, RecordKey)> {
        let route = ExecutionId::route_of(&key.workspace, key.contact()?);
        let slot = keys::contact_slot(&self.0.keyer, &key.workspace, &route);
        let record = keys::mark(&self.0.keyer, &slot, &key_bytes(key));
        Some((slot, record))
    }

    pub(super) async fn set_for_contact(
        &self,
        slot: &Slot,
        key: &RecordKey,
        asked: &Mark,
        operation: OperationId,
    ) -> Result<Mark, Refusal> {
        for _ in 0..ATTEMPTS {
            let (now, found) = self.find(slot, key).await?;
            let before = found.as_ref().map(|record| decode(&record.value)).transpose().map_err(feed::damaged)?;
            if let (Some(done), Some(record)) = (&before, &found)
                && record.revision == Revision::of(operation)
            {
                return Ok(done.clone());
            }
            let mark = resolve(asked, before.as_ref(), now);
            let write = Put::put(encode(&Mark { revision: 0, ..mark.clone() }), Ends::from(mark.expires));
            if self.commit(slot, operation, vec![change(key.clone(), found.as_ref(), write)]).await? {
                return Ok(mark);
            }
        }
        Err(contended())
    }

    /// Makes the contact's own slot say what all replicas hear; whether it had a mark that is cleared. Whoever changes a
    /// mark does this after the change, reads the slot before the change it compares it with, and looks again after it
    /// has written; so the last of several that are at it at once leaves the two alike.
    async fn settle(
        &self,
        place: Option<(Slot, RecordKey)>,
        key: &MarkKey,
        operation: OperationId,
    ) -> Result<bool, Refusal> {
        let Some((slot, place)) = place else { return Ok(false) };
        let mut cleared = false;
        for attempt in 0..ATTEMPTS {
            let (now, found) = self.find(&slot, &place).await?;
            self.sync().await?;
            let due = self.read(|board| board.get(key).filter(|mark| mark.in_force(now)).cloned());
            let write = match (&due, &found) {
                (None, None) => return Ok(cleared),
                (Some(due), Some(found)) if decode(&found.value).map_err(feed::damaged)? == **due => {
                    return Ok(cleared);
                }
                (Some(due), _) => Put::put(encode(due), Ends::from(due.expires)),
                (None, Some(_)) => Put::Delete,
            };
            let step = derived(operation, attempt);
            if self.commit(&slot, step, vec![change(place.clone(), found.as_ref(), write)]).await? {
                cleared = due.is_none();
            }
        }
        Err(contended())
    }

    /// Makes the change known to all replicas. `asked`: the mark to set; none to clear it.
    async fn change(&self, operation: OperationId, key: &MarkKey, asked: Option<&Mark>) -> Result<Changed, Refusal> {
        let _turn = self.0.turn.lock().await;
        if self.read(|board| board.history() == 0) {
            self.sync().await?;
        }
        for _ in 0..ATTEMPTS {
            match self.try_change(operation, key, asked).await? {
                Tried::Done(entry, known) => {
                    let changed = changed(&entry);
                    self.take_in(entry, known).await;
                    return Ok(changed);
                }
                Tried::Needless(changed) => return Ok(changed),
                Tried::Overtaken => self.sync().await?,
            }
        }
        Err(contended())
    }

    async fn try_change(&self, operation: OperationId, key: &MarkKey, asked: Option<&Mark>) -> Result<Tried, Refusal> {
        let feed = &self.0.feed;
        let known = self.read(|board| (board.revision(), board.stamp()));
        let revision = known.0 + 1;
        let keys = [feed.head_key(), feed.page_key(revision), feed.bucket_key(feed::bucket_of(key))];
        // Firmly: what was done before is as durable as if it was done now, once the head is.
        let snapshot = feed.records.read_firm(&feed.slot, &keys).await?;
        let head = feed::read_head(snapshot.records.first())?;
        // Of the very state that the store is in: what the operation did, and how many marks there are.
        let looked =
            self.read(|board| ((board.revision(), board.stamp()) == known).then(|| board.done(operation).map(changed)));
        let Some(done) = looked.filter(|_| (head.revision, head.stamp) == known) else { return Ok(Tried::Overtaken) };
        if let Some(done) = done {
            return Ok(Tried::Needless(done));
        }
        let [head_record, page_record, bucket_record] = snapshot.records.as_slice() else {
            return Err(Refusal::internal("the store answered fewer records than were asked for"));
        };
        let bucket = bucket_record.as_ref().map(feed::read_bucket).transpose()?.unwrap_or_default();
        // What has expired leaves with the next change near it.
        let mut bucket: Vec<Mark> = bucket.into_iter().filter(|mark| mark.in_force(snapshot.now)).collect();
        let place = bucket.iter().position(|mark| mark.key == *key);
        let before = place.map(|place| bucket.swap_remove(place));
        let change = match (asked, &before) {
            (Some(asked), _) => {
                let mark = Mark { revision, ..resolve(asked, before.as_ref(), snapshot.now) };
                let most = self.0.budgets.of(Class::of(&mark));
                let is_counted = before.as_ref().is_some_and(|before| Class::of(before) == Class::of(&mark));
                // All are known here, also those that have expired and lie in the store still.
                if !is_counted && self.read(|board| board.count(Class::of(&mark), snapshot.now)) >= most {
                    return Ok(Tried::Needless(Changed::Full(most)));
                }
                bucket.push(mark.clone());
                Change::Set(Arc::new(mark))
            }
            (None, Some(_)) => Change::Cleared(Arc::new(key.clone())),
            (None, None) => return Ok(Tried::Needless(Changed::Nothing)),
        };
        let page = page_record.as_ref().map(feed::read_page).transpose()?.unwrap_or_default();
        let entry = Entry { revision, operation, change };
        let head = Head { revision, stamp: Some(operation) };
        let [head_key, page_key, bucket_key] = keys;
        let write = |key, found: &Option<Record>, value: Vec<u8>| {
            self::change(key, found.as_ref(), Put::put(value, Ends::Never))
        };
        let bucket = match feed::write_bucket(bucket.iter()) {
            empty if empty.is_empty() => {
                bucket_record.as_ref().map(|found| self::change(bucket_key, Some(found), Put::Delete))
            }
            marks => Some(write(bucket_key, bucket_record, marks)),
        };
        let changes = [
            write(head_key, head_record, feed::write_head(&head)),
            write(page_key, page_record, feed::write_page(page, &entry)),
        ];
        let changes = changes.into_iter().chain(bucket).collect();
        let done = self.commit(&feed.slot, operation, changes).await?;
        Ok(if done { Tried::Done(entry, known) } else { Tried::Overtaken })
    }

    async fn find(&self, slot: &Slot, key: &RecordKey) -> Result<(Timestamp, Option<Record>), StoreError> {
        let snapshot = self.0.feed.records.read_firm(slot, std::slice::from_ref(key)).await?;
        Ok((snapshot.now, snapshot.records.into_iter().next().flatten()))
    }

    async fn commit(&self, slot: &Slot, operation: OperationId, changes: Vec<Write>) -> Result<bool, StoreError> {
        let records = &self.0.feed.records;
        let committed = match records.commit(slot, operation, &changes).await {
            // Whether it was written is found out by saying it again.
            Err(StoreError::Unanswered(_)) => records.commit(slot, operation, &changes).await?,
            answered => answered?,
        };
        Ok(committed == Committed::Done)
    }
}

enum Tried {
    /// From this state of the board.
    Done(Entry, (u64, Option<OperationId>)),
    Needless(Changed),
    Overtaken,
}

fn changed(entry: &Entry) -> Changed {
    match &entry.change {
        Change::Set(mark) => Changed::Set(Arc::clone(mark)),
        Change::Cleared(_) => Changed::Cleared(entry.revision),
    }
}

fn change(key: RecordKey, found: Option<&Record>, write: Put) -> Write {
    Write { key, expected: found.map_or(Expected::Absent, |record| Expected::At(record.revision)), write }
}

/// The mark to store: in force from now unless it says when.
fn resolve(asked: &Mark, before: Option<&Mark>, now: Timestamp) -> Mark {
    let effective = if asked.effective == UNSAID { now } else { asked.effective };
    mark::set(Mark { effective, ..asked.clone() }, before, now)
}

/// The id of a step of an operation, as each commit needs its own: the same when the operation is repeated, so that it
/// names no other step.
fn derived(operation: OperationId, step: usize) -> OperationId {
    let parts = [operation.as_bytes().as_slice(), b"settle", &step.to_be_bytes()].concat();
    OperationId::from_bytes(digest(&SHA256, &parts).as_ref().first_chunk().copied().unwrap_or_default())
}

fn contended() -> Refusal {
    Refusal::new(Reason::Overloaded, "too many marks are set at once; ask again with the same operation id")
        .with_retry_after(std::time::Duration::from_secs(1))
}

fn too_many(most: usize) -> Refusal {
    Refusal::new(
        Reason::Overloaded,
        format!("there are {most} marks of this kind in force already; give marks an `expire_time`, or clear some"),
    )
}
