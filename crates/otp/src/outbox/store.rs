//! The queues in the store.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use safeconduct_otp_domain::queue::{Entry, Fate, Queue};
use safeconduct_service::keyring::Sealer;
use safeconduct_store::{
    Change, Committed, Ends, Expected, Record, RecordKey, Records, Slot, StoreError, StoreKeyer, Write,
};
use safeconduct_types::{OperationId, Random, Reason, Refusal, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{Message, Outbox};

/// Into how many slots the queues are spread.
pub const SHARDS: u8 = 16;
/// How often a change is tried against others that change the same queue.
const ATTEMPTS: usize = 16;
/// How long a record outlives the code that it is about, so that its end can be reported.
const AFTERLIFE: Duration = Duration::from_mins(10);
/// How long a message that was taken belongs to whoever took it.
pub(super) const LEASE: Duration = Duration::from_secs(45);

/// The outbox of otp, in its own keyspace.
pub struct StoreOutbox {
    records: Arc<dyn Records>,
    keyer: StoreKeyer,
    sealer: Sealer,
    random: Arc<dyn Random>,
    /// Shards that somebody in this process has just put something into.
    fresh: Mutex<BTreeSet<u8>>,
    wake: Notify,
}

impl fmt::Debug for StoreOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreOutbox")
    }
}

/// The record's form. Another form needs another number; an unknown one is refused, never guessed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    form: u8,
    queue: Queue,
}

const FORM: u8 = 1;

/// A queue as it was read.
struct Read {
    slot: Slot,
    key: RecordKey,
    expected: Expected,
    queue: Queue,
    now: Timestamp,
}

/// What was taken out of one shard.
pub(super) struct Taken {
    pub(super) shard: u8,
    pub(super) entry: Entry,
    /// `None`: the record is gone, or cannot be opened.
    pub(super) message: Option<Message>,
    /// When it was taken, on the store's clock.
    pub(super) at: Timestamp,
}

/// What one look at a shard found.
#[derive(Default)]
pub(super) struct Look {
    pub(super) taken: Vec<Taken>,
    /// How many messages are left in the queue, those taken included.
    pub(super) waiting: usize,
}

impl StoreOutbox {
    /// Queues in `records`, which belong to otp alone. `sealer` seals addresses (purpose record-sealing).
    pub fn new(records: Arc<dyn Records>, keyer: StoreKeyer, sealer: Sealer, random: Arc<dyn Random>) -> Self {
        Self { records, keyer, sealer, random, fresh: Mutex::default(), wake: Notify::new() }
    }

    /// Back when something was put in here, with the shards where to look.
    pub(super) async fn fresh(&self) -> BTreeSet<u8> {
        self.wake.notified().await;
        std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes at most `most` messages out of a shard.
    pub(super) async fn take(&self, shard: u8, most: usize) -> Result<Look, StoreError> {
        for _ in 0..ATTEMPTS {
            let mut read = self.read(shard).await?;
            let waiting = read.queue.len();
            let entries = read.queue.take(read.now, LEASE, most);
            if entries.is_empty() {
                return Ok(Look { taken: Vec::new(), waiting });
            }
            if self.write(&read, Vec::new()).await? == Committed::Done {
                return Ok(Look { taken: self.open(shard, &read, entries).await?, waiting });
            }
        }
        // Others are at it.
        Ok(Look::default())
    }

    /// Says what is to become of a message that was taken.
    pub(super) async fn settle(&self, shard: u8, entry: &Entry, fate: Fate) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let mut read = self.read(shard).await?;
            if !read.queue.settle(entry, fate) {
                return Ok(());
            }
            let forgotten = match fate {
                Fate::Done => self.forget(&read.slot, &entry.id).await?,
                Fate::Again(_) | Fate::Back(_) | Fate::Note(..) => Vec::new(),
            };
            if self.write(&read, forgotten).await? == Committed::Done {
                return Ok(());
            }
        }
        // It is due again when its lease ends.
        Ok(())
    }

    async fn put_into_one_of(&self, shards: impl Fn(u8, u8) -> u8 + Send, message: &Message) -> Result<(), Refusal> {
        let id = message.id();
        for attempt in 0..u8::try_from(ATTEMPTS).unwrap_or(u8::MAX) {
            let shard = shards(home(&id), attempt);
            match self.put(shard, &id, message).await? {
                Some(Committed::Done) => {
                    self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(shard);
                    self.wake.notify_one();
                    return Ok(());
                }
                Some(Committed::Conflict) | None => {}
            }
        }
        Err(Refusal::new(Reason::Overloaded, "too many codes wait to be sent; try again")
            .with_retry_after(Duration::from_secs(1)))
    }

    async fn put(&self, shard: u8, id: &str, message: &Message) -> Result<Option<Committed>, Refusal> {
        let mut read = self.read(shard).await?;
        if read.queue.holds(id) {
            return Ok(Some(Committed::Done));
        }
        if read.queue.add(id.to_owned(), message.expires, read.now).is_err() {
            return Ok(None);
        }
        let plain = zeroize::Zeroizing::new(
            serde_json::to_vec(message).map_err(|_| Refusal::internal("a message cannot be written"))?,
        );
        let sealed = self.sealer.seal(&plain, &context(id));
        let sealed = sealed.map_err(|_| Refusal::internal("a message cannot be sealed"))?;
        let change = Change {
            key: self.message_key(&read.slot, id),
            expected: Expected::Absent,
            write: Write::put(sealed, Ends::At(message.expires.after(AFTERLIFE))),
        };
        Ok(Some(self.write(&read, vec![change]).await?))
    }

    async fn read(&self, shard: u8) -> Result<Read, StoreError> {
        let slot = self.keyer.slot(&[b"outbox", &[shard]]);
        let key = self.keyer.key(&slot, "outbox-queue", &[]);
        let snapshot = self.records.read(&slot, std::slice::from_ref(&key)).await?;
        let (queue, expected) = match snapshot.records.into_iter().next().flatten() {
            None => (Queue::default(), Expected::Absent),
            Some(record) => (decode(&record)?, Expected::At(record.revision)),
        };
        Ok(Read { slot, key, expected, queue, now: snapshot.now })
    }

    async fn write(&self, read: &Read, mut changes: Vec<Change>) -> Result<Committed, StoreError> {
        let write = match (read.queue.ends(), read.expected) {
            (Some(ends), _) => {
                let stored = Stored { form: FORM, queue: read.queue.clone() };
                let value = serde_json::to_vec(&stored).map_err(|_| StoreError::Invalid("a queue".into()))?;
                Write::put(value, Ends::At(ends.after(AFTERLIFE)))
            }
            (None, Expected::At(_)) => Write::Delete,
            (None, Expected::Absent) => return Ok(Committed::Done),
        };
        changes.push(Change { key: read.key.clone(), expected: read.expected, write });
        let operation = OperationId::generate(&*self.random);
        match self.records.commit(&read.slot, operation, &changes).await {
            // It may have been written; the same operation tells.
            Err(StoreError::Unanswered(_)) => self.records.commit(&read.slot, operation, &changes).await,
            other => other,
        }
    }

    /// The change that removes a message, if it is still there.
    async fn forget(&self, slot: &Slot, id: &str) -> Result<Vec<Change>, StoreError> {
        let key = self.message_key(slot, id);
        let found = self.records.read(slot, std::slice::from_ref(&key)).await?.records.into_iter().next().flatten();
        let gone = |record: Record| Change { key, expected: Expected::At(record.revision), write: Write::Delete };
        Ok(found.map(gone).into_iter().collect())
    }

    async fn open(&self, shard: u8, read: &Read, entries: Vec<Entry>) -> Result<Vec<Taken>, StoreError> {
        let keys: Vec<_> = entries.iter().map(|entry| self.message_key(&read.slot, &entry.id)).collect();
        let found = self.records.read(&read.slot, &keys).await?.records;
        let open = |entry: Entry, record: Option<Record>| {
            let message = record.and_then(|record| {
                let plain = self.sealer.open(&record.value, &context(&entry.id)).ok()?;
                serde_json::from_slice(&plain).ok()
            });
            Taken { shard, entry, message, at: read.now }
        };
        Ok(entries.into_iter().zip(found).map(|(entry, record)| open(entry, record)).collect())
    }

    fn message_key(&self, slot: &Slot, id: &str) -> RecordKey {
        self.keyer.key(slot, "outbox-message", &[id.as_bytes()])
    }
}

#[async_trait]
impl Outbox for StoreOutbox {
    async fn enqueue(&self, message: Message) -> Result<(), Refusal> {
        // Where others write at the same moment, or where there is no room, the next shard does as well.
        self.put_into_one_of(|home, attempt| home.wrapping_add(attempt) % SHARDS, &message).await
    }

    async fn enqueue_again(&self, message: Message) -> Result<(), Refusal> {
        // Always the same shard, where it is found if it waits.
        self.put_into_one_of(|home, _| home, &message).await
    }
}

/// The shard in which a message is put first.
fn home(id: &str) -> u8 {
    // Ids are random, so any mixing of their bytes spreads them.
    id.bytes().fold(0, |sum: u8, byte| sum.wrapping_mul(31).wrapping_add(byte)) % SHARDS
}

fn context(id: &str) -> Vec<u8> {
    [b"safeconduct-otp/outbox/v1/".as_slice(), id.as_bytes()].concat()
}

fn decode(record: &Record) -> Result<Queue, StoreError> {
    match serde_json::from_slice(&record.value) {
        Ok(Stored { form: FORM, queue }) => Ok(queue),
        Ok(_) | Err(_) => Err(StoreError::Corrupt("the record of a queue is not one of this version".into())),
    }
}
