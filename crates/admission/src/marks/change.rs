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
use super::feed;
use super::{ATTEMPTS, Marks};
use crate::keys;

/// What came of a change.
#[derive(Clone, Debug)]
pub(super) enum Changed {
    /// The mark as it is now known to all replicas.
    Set(Arc<Mark>),
    /// It was there, and is cleared as of this revision.
    Cleared(u64),
    /// It was not there.
    Nothing,
    /// There are as many of its kind as all replicas can know.
    Full(usize),
    /// The operation has changed another mark before.
    Other,
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
            Changed::Cleared(_) | Changed::Nothing | Changed::Other => return Err(used_before()),
        };
        self.settle(place, &asked.key, operation).await?;
        Ok(set)
    }

    /// Whether there was one, and the revision of the change.
    pub(super) async fn clear(&self, key: &MarkKey, operation: OperationId) -> Result<(bool, u64), Refusal> {
        let cleared = match self.change(operation, key, None).await? {
            Changed::Cleared(revision) => Some(revision),
            Changed::Nothing => None,
            Changed::Set(_) | Changed::Full(_) | Changed::Other => return Err(used_before()),
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

    async fn find(&self, slot: &Slot, key: &RecordKey) -> Result<(Timestamp, Option<Record>), StoreError> {
        let snapshot = self.0.feed.records.read_firm(slot, std::slice::from_ref(key)).await?;
        Ok((snapshot.now, snapshot.records.into_iter().next().flatten()))
    }

    pub(super) async fn commit(
        &self,
        slot: &Slot,
        operation: OperationId,
        changes: Vec<Write>,
    ) -> Result<bool, StoreError> {
        let records = &self.0.feed.records;
        let committed = match records.commit(slot, operation, &changes).await {
            // Whether it was written is found out by saying it again.
            Err(StoreError::Unanswered(_)) => records.commit(slot, operation, &changes).await?,
            answered => answered?,
        };
        Ok(committed == Committed::Done)
    }
}

fn used_before() -> Refusal {
    Refusal::invalid_field("operation_id", "was used before, for another change")
}

impl Changed {
    /// What this entry did for whoever asks about this mark.
    pub(super) fn of(entry: &Entry, key: &MarkKey) -> Self {
        match &entry.change {
            other if other.key() != key => Self::Other,
            Change::Set(mark) => Self::Set(Arc::clone(mark)),
            Change::Cleared(_) => Self::Cleared(entry.revision),
        }
    }
}

pub(super) fn change(key: RecordKey, found: Option<&Record>, write: Put) -> Write {
    Write { key, expected: found.map_or(Expected::Absent, |record| Expected::At(record.revision)), write }
}

/// The mark to store: in force from now unless it says when.
pub(super) fn resolve(asked: &Mark, before: Option<&Mark>, now: Timestamp) -> Mark {
    let effective = if asked.effective == UNSAID { now } else { asked.effective };
    mark::set(Mark { effective, ..asked.clone() }, before, now)
}

/// The id of a step of an operation, as each commit needs its own: the same when the operation is repeated, so that it
/// names no other step.
fn derived(operation: OperationId, step: usize) -> OperationId {
    let parts = [operation.as_bytes().as_slice(), b"settle", &step.to_be_bytes()].concat();
    OperationId::from_bytes(digest(&SHA256, &parts).as_ref().first_chunk().copied().unwrap_or_default())
}

pub(super) fn contended() -> Refusal {
    Refusal::new(Reason::Overloaded, "too many marks are set at once; ask again with the same operation id")
        .with_retry_after(std::time::Duration::from_secs(1))
}

fn too_many(most: usize) -> Refusal {
    Refusal::new(
        Reason::Overloaded,
        format!("there are {most} marks of this kind in force already; give marks an `expire_time`, or clear some"),
    )
}
