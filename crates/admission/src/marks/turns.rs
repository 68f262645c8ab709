//! Changes that all replicas hear of are made one after the other. Those that wait meanwhile are made together, in one
//! commit, which costs what the commit of one costs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use safeconduct_admission_domain::mark::{Mark, MarkKey};
use safeconduct_store::{Record, RecordKey, Write as Put};
use safeconduct_types::{OperationId, Refusal, Timestamp};
use tokio::sync::oneshot;

use super::board::{Change, Entry};
use super::budget::Class;
use super::change::{Changed, change, contended, resolve};
use super::feed::{self, Head};
use super::{ATTEMPTS, Marks};

/// Most changes in one commit: each may touch a bucket of its own, and they, the head and two pages fit into one.
const TOGETHER: usize = 48;

/// Those who wait for their change to be made.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: Mutex<VecDeque<Wish>>,
    /// Held by whoever makes changes, so that those of this process do not overtake each other in vain. Never waited
    /// for by a look.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Wish {
    operation: OperationId,
    key: MarkKey,
    /// The mark to set; none to clear it.
    asked: Option<Mark>,
    answer: oneshot::Sender<Result<Changed, Refusal>>,
}

/// The state of the store that changes are made from.
type Known = (u64, Option<OperationId>);

impl Turns {
    fn wait(&self, wish: Wish) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(wish);
    }

    /// How many wait for somebody to make their change.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The first of those who have not given up.
    fn next(&self) -> Vec<Wish> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|wish| !wish.answer.is_closed());
        let count = waiting.len().min(TOGETHER);
        waiting.drain(..count).collect()
    }
}

impl Marks {
    /// Makes the change known to all replicas. `asked`: the mark to set; none to clear it.
    pub(super) async fn change(
        &self,
        operation: OperationId,
        key: &MarkKey,
        asked: Option<&Mark>,
    ) -> Result<Changed, Refusal> {
        let turns = &self.0.turns;
        let wish = || {
            let (answer, answered) = oneshot::channel();
            turns.wait(Wish { operation, key: key.clone(), asked: asked.cloned(), answer });
            answered
        };
        let mut answered = wish();
        loop {
            let _turn = tokio::select! {
                biased;
                answer = &mut answered => {
                    if let Ok(answer) = answer {
                        return answer;
                    }
                    // Whoever had it has left in the middle. Whether it was made is found out by asking again.
                    answered = wish();
                    continue;
                }
                turn = turns.turn.lock() => turn,
            };
            self.grant(turns.next()).await;
        }
    }

    async fn grant(&self, wishes: Vec<Wish>) {
        if wishes.is_empty() {
            return;
        }
        let answers = self.make(&wishes).await;
        for (place, wish) in wishes.into_iter().enumerate() {
            let answer = match &answers {
                Ok(answers) => answers.get(place).cloned().ok_or_else(|| Refusal::internal("a change was forgotten")),
                Err(refusal) => Err(refusal.clone()),
            };
            // Whoever asked may have left.
            let _ = wish.answer.send(answer);
        }
    }

    /// What became of each of these.
    async fn make(&self, wishes: &[Wish]) -> Result<Vec<Changed>, Refusal> {
        if self.read(|board| board.history() == 0) {
            self.sync().await?;
        }
        for _ in 0..ATTEMPTS {
            if let Some(answers) = self.try_make(wishes).await? {
                return Ok(answers);
            }
            self.sync().await?;
        }
        Err(contended())
    }

    /// None: others have made changes meanwhile.
    async fn try_make(&self, wishes: &[Wish]) -> Result<Option<Vec<Changed>>, Refusal> {
        let feed = &self.0.feed;
        let known: Known = self.read(|board| (board.revision(), board.stamp()));
        let last = known.0.saturating_add(wishes.len() as u64);
        let places: BTreeSet<u16> = wishes.iter().map(|wish| feed::bucket_of(&wish.key)).collect();
        let pages = BTreeSet::from([feed::page_of(known.0 + 1), feed::page_of(last)]);
        let keys = std::iter::once(feed.head_key())
            .chain(pages.iter().map(|page| feed.page_key(*page)))
            .chain(places.iter().map(|place| feed.bucket_key(*place)));
        let keys: Vec<RecordKey> = keys.collect();
        // Firmly: what was done before is as durable as if it was done now, once the head is.
        let snapshot = feed.records.read_firm(&feed.slot, &keys).await?;
        let head = feed::read_head(snapshot.records.first())?;
        // Of the very state that the store is in: what the operations did, and how many marks there are.
        let done = self.read(|board| {
            let done = |wish: &Wish| board.done(wish.operation).map(|entry| Changed::of(entry, &wish.key));
            ((board.revision(), board.stamp()) == known).then(|| wishes.iter().map(done).collect::<Vec<_>>())
        });
        let Some(done) = done.filter(|_| (head.revision, head.stamp) == known) else { return Ok(None) };
        let mut records = keys.iter().cloned().zip(snapshot.records);
        let head_record = records.next();
        let page_records: Vec<_> = records.by_ref().take(pages.len()).collect();
        let mut draft = Draft {
            marks: self,
            now: snapshot.now,
            revision: known.0,
            entries: vec![],
            balance: BTreeMap::new(),
            buckets: BTreeMap::new(),
        };
        for (place, (_, record)) in places.iter().zip(records.by_ref()) {
            let marks = record.as_ref().map(feed::read_bucket).transpose()?.unwrap_or_default();
            // What has expired leaves with the next change near it.
            let marks = marks.into_iter().filter(|mark| mark.in_force(snapshot.now)).collect();
            draft.buckets.insert(*place, Bucket { record, marks, is_changed: false });
        }
        let answers: Vec<Changed> =
            wishes.iter().zip(done).map(|(wish, done)| done.unwrap_or_else(|| draft.grant(wish))).collect();
        let Draft { entries, buckets, .. } = draft;
        let Some(newest) = entries.last() else { return Ok(Some(answers)) };
        let mut changes = Vec::with_capacity(keys.len());
        let head = Head { revision: newest.revision, stamp: Some(newest.operation) };
        let mut write = |key: RecordKey, found: Option<&Record>, value: Vec<u8>| {
            // Gone with the last mark of a bucket, and not there before.
            if !value.is_empty() {
                changes.push(change(key, found, Put::put(value, safeconduct_store::Ends::Never)));
            } else if found.is_some() {
                changes.push(change(key, found, Put::Delete));
            }
        };
        if let Some((key, record)) = head_record {
            write(key, record.as_ref(), feed::write_head(&head));
        }
        for (page, (key, record)) in pages.iter().zip(page_records) {
            let mine: Vec<&Entry> = entries.iter().filter(|entry| feed::page_of(entry.revision) == *page).collect();
            if !mine.is_empty() {
                let before = record.as_ref().map(feed::read_page).transpose()?.unwrap_or_default();
                write(key, record.as_ref(), feed::write_page(&before, &mine));
            }
        }
        for (place, bucket) in buckets.iter().filter(|(_, bucket)| bucket.is_changed) {
            write(feed.bucket_key(*place), bucket.record.as_ref(), feed::write_bucket(bucket.marks.iter()));
        }
        if !self.commit(&feed.slot, together(known, &entries), changes).await? {
            return Ok(None);
        }
        self.take_in(entries, known).await;
        Ok(Some(answers))
    }
}

#[derive(Debug)]
struct Bucket {
    record: Option<Record>,
    marks: Vec<Mark>,
    is_changed: bool,
}

/// Changes to be made at once.
struct Draft<'a> {
    marks: &'a Marks,
    now: Timestamp,
    revision: u64,
    entries: Vec<Entry>,
    /// By how many marks they change each class.
    balance: BTreeMap<Class, isize>,
    buckets: BTreeMap<u16, Bucket>,
}

impl Draft<'_> {
    fn grant(&mut self, wish: &Wish) -> Changed {
        // The same operation, said twice at once.
        if let Some(entry) = self.entries.iter().find(|entry| entry.operation == wish.operation) {
            return Changed::of(entry, &wish.key);
        }
        let Some(bucket) = self.buckets.get_mut(&feed::bucket_of(&wish.key)) else { return Changed::Nothing };
        let place = bucket.marks.iter().position(|mark| mark.key == wish.key);
        let before = place.and_then(|place| bucket.marks.get(place));
        let revision = self.revision.saturating_add(1);
        let leaves = before.map(Class::of);
        let change = if let Some(asked) = &wish.asked {
            let mark = Mark { revision, ..resolve(asked, before, self.now) };
            let class = Class::of(&mark);
            let most = self.marks.0.budgets.of(class);
            let balance = self.balance.entry(class).or_default();
            // All are known here, also those that have expired and lie in the store still.
            let known = || self.marks.read(|board| board.count(class, self.now));
            if leaves != Some(class) && known().saturating_add_signed(*balance) >= most {
                return Changed::Full(most);
            }
            *balance += 1;
            Change::Set(Arc::new(mark))
        } else {
            if leaves.is_none() {
                return Changed::Nothing;
            }
            Change::Cleared(Arc::new(wish.key.clone()))
        };
        if let Some(class) = leaves {
            *self.balance.entry(class).or_default() -= 1;
        }
        if let Some(place) = place {
            bucket.marks.swap_remove(place);
        }
        if let Change::Set(mark) = &change {
            bucket.marks.push(Mark::clone(mark));
        }
        bucket.is_changed = true;
        self.revision = revision;
        let entry = Entry { revision, operation: wish.operation, change };
        let changed = Changed::of(&entry, &wish.key);
        self.entries.push(entry);
        changed
    }
}

/// The commit of these changes: another one for any other changes, or the same ones over another state, so that the
/// store takes none for a repeat that is not.
fn together(known: Known, entries: &[Entry]) -> OperationId {
    let mut context = Context::new(&SHA256);
    context.update(b"marks together");
    context.update(&known.0.to_be_bytes());
    context.update(known.1.as_ref().map_or(&[], |stamp| stamp.as_bytes()));
    for entry in entries {
        context.update(entry.operation.as_bytes());
    }
    OperationId::from_bytes(context.finish().as_ref().first_chunk().copied().unwrap_or_default())
}
