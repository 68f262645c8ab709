//! Setting and clearing a mark: first in the contact's own slot, then for all replicas.

use std::sync::Arc;

use safeconduct_admission_domain::mark::{self, Mark, MarkKey, Subject, decode, encode, key_bytes};
use safeconduct_service::wire::UNSAID;
use safeconduct_store::{
    Change as Write, Committed, Ends, Expected, Record, RecordKey, Revision, Slot, StoreError, Write as Put,
};
use safeconduct_types::{ExecutionId, OperationId, Reason, Refusal, Timestamp};

use super::board::{Change, Entry};
use super::feed::{self, Head};
use super::{ATTEMPTS, MAX_GONE, MAX_OTHERS, Marks};
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
    /// There are too many of its kind for all replicas to know.
    Full,
}

impl Marks {
    /// The mark as stored: over what was in force, and durable wherever it is looked for.
    pub(super) async fn set(&self, asked: Mark, operation: OperationId) -> Result<Mark, Refusal> {
        let asked = match self.place_of(&asked.key) {
            Some((slot, key)) => self.set_for_contact(&slot, &key, &asked, operation).await?,
            None => asked,
        };
        match self.change(operation, &asked.key, Some(&asked)).await? {
            Changed::Set(mark) => Ok(Mark::clone(&mark)),
            Changed::Full if matches!(asked.key.subject, Subject::ResourceGone(..)) => {
                tracing::warn!("more objects are gone than replicas are told of; admission knows of this one");
                Ok(asked)
            }
            Changed::Full => Err(too_many()),
            Changed::Cleared(_) | Changed::Nothing => {
                Err(Refusal::invalid_field("operation_id", "was used before, for another change"))
            }
        }
    }

    /// Whether there was one, and the revision of the change.
    pub(super) async fn clear(&self, key: &MarkKey, operation: OperationId) -> Result<(bool, u64), Refusal> {
        let was_there = match self.place_of(key) {
            Some((slot, place)) => self.clear_for_contact(&slot, &place, operation).await?,
            None => false,
        };
        match self.change(operation, key, None).await? {
            Changed::Cleared(revision) => Ok((true, revision)),
            Changed::Nothing => Ok((was_there, 0)),
            Changed::Set(_) | Changed::Full => {
                Err(Refusal::invalid_field("operation_id", "was used before, for another change"))
            }
        }
    }

    /// Where the contact's own slot has the mark, if it is about a contact.
    fn place_of(&self, key: &MarkKey) -> Option<(Slot, RecordKey)> {
        let route = ExecutionId::route_of(&key.workspace, key.contact()?);
        let slot = keys::contact_slot(&self.0.keyer, &key.workspace, &route);
        let record = keys::mark(&self.0.keyer, &slot, &key_bytes(key));
        Some((slot, record))
    }

    async fn set_for_contact(
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

    /// Whether it was there.
    async fn clear_for_contact(&self, slot: &Slot, key: &RecordKey, operation: OperationId) -> Result<bool, Refusal> {
        for _ in 0..ATTEMPTS {
            let (_, found) = self.find(slot, key).await?;
            let Some(record) = found else { return Ok(false) };
            if self.commit(slot, operation, vec![change(key.clone(), Some(&record), Put::Delete)]).await? {
                return Ok(true);
            }
        }
        Err(contended())
    }

    /// Makes the change known to all replicas. `asked`: the mark to set; none to clear it.
    async fn change(&self, operation: OperationId, key: &MarkKey, asked: Option<&Mark>) -> Result<Changed, Refusal> {
        let _turn = self.0.turn.lock().await;
        for _ in 0..ATTEMPTS {
            let _ = self.catch_up().await?;
            if let Some(done) = self.read(|board| board.done(operation).cloned()) {
                return Ok(changed(&done));
            }
            match self.try_change(operation, key, asked).await? {
                Tried::Done(entry) => {
                    let changed = changed(&entry);
                    self.write(|board| board.apply(entry));
                    // Whoever watches here hears of it at once.
                    self.0.progress.send_modify(|_| {});
                    return Ok(changed);
                }
                Tried::Needless(changed) => return Ok(changed),
                Tried::Overtaken => tokio::task::yield_now().await,
            }
        }
        Err(contended())
    }

    async fn try_change(&self, operation: OperationId, key: &MarkKey, asked: Option<&Mark>) -> Result<Tried, Refusal> {
        let feed = &self.0.feed;
        let (known, stamp) = self.read(|board| (board.revision(), board.stamp()));
        let revision = known + 1;
        let keys = [feed.head_key(), feed.page_key(revision), feed.bucket_key(feed::bucket_of(key))];
        let snapshot = feed.records.read(&feed.slot, &keys).await?;
        let head = feed::read_head(snapshot.records.first())?;
        if (head.revision, head.stamp) != (known, stamp) {
            return Ok(Tried::Overtaken);
        }
        let [head_record, page_record, bucket_record] = snapshot.records.as_slice() else {
            return Err(Refusal::internal("the store answered fewer records than were asked for"));
        };
        let bucket = bucket_record.as_ref().map(feed::read_bucket).transpose()?.unwrap_or_default();
        let stored = tally(&bucket);
        // What has expired leaves with the next change near it.
        let mut bucket: Vec<Mark> = bucket.into_iter().filter(|mark| mark.in_force(snapshot.now)).collect();
        let place = bucket.iter().position(|mark| mark.key == *key);
        let before = place.map(|place| bucket.swap_remove(place));
        let change = match (asked, &before) {
            (Some(asked), _) => {
                let mark = Mark { revision, ..resolve(asked, before.as_ref(), snapshot.now) };
                bucket.push(mark.clone());
                Change::Set(Arc::new(mark))
            }
            (None, Some(_)) => Change::Cleared(Arc::new(key.clone())),
            (None, None) => return Ok(Tried::Needless(Changed::Nothing)),
        };
        if asked.is_some() && before.is_none() && is_full(&head, key) {
            return Ok(Tried::Needless(Changed::Full));
        }
        let page = page_record.as_ref().map(feed::read_page).transpose()?.unwrap_or_default();
        let entry = Entry { revision, operation, change };
        let kept = tally(&bucket);
        let head = Head {
            revision,
            stamp: Some(operation),
            gone: (head.gone + kept.0).saturating_sub(stored.0),
            others: (head.others + kept.1).saturating_sub(stored.1),
        };
        let [head_key, page_key, bucket_key] = keys;
        let write = |key, found: &Option<Record>, value: Vec<u8>| {
            self::change(key, found.as_ref(), Put::put(value, Ends::Never))
        };
        let changes = vec![
            write(head_key, head_record, feed::write_head(&head)),
            write(page_key, page_record, feed::write_page(page, &entry)),
            write(bucket_key, bucket_record, feed::write_bucket(bucket.iter())),
        ];
        let done = self.commit(&feed.slot, operation, changes).await?;
        Ok(if done { Tried::Done(entry) } else { Tried::Overtaken })
    }

    async fn find(&self, slot: &Slot, key: &RecordKey) -> Result<(Timestamp, Option<Record>), StoreError> {
        let snapshot = self.0.feed.records.read(slot, std::slice::from_ref(key)).await?;
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
    Done(Entry),
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

const fn is_object(key: &MarkKey) -> bool {
    matches!(key.subject, Subject::ResourceGone(..))
}

/// How many are on single objects, and how many are not.
fn tally(marks: &[Mark]) -> (u64, u64) {
    let gone = marks.iter().filter(|mark| is_object(&mark.key)).count();
    (gone as u64, (marks.len() - gone) as u64)
}

const fn is_full(head: &Head, key: &MarkKey) -> bool {
    if is_object(key) { head.gone >= MAX_GONE } else { head.others >= MAX_OTHERS }
}

fn contended() -> Refusal {
    Refusal::new(Reason::Overloaded, "too many marks are set at once; ask again with the same operation id")
        .with_retry_after(std::time::Duration::from_secs(1))
}

fn too_many() -> Refusal {
    Refusal::new(
        Reason::Overloaded,
        format!("there are {MAX_OTHERS} marks in force already; give marks an `expire_time`, or clear some"),
    )
}
