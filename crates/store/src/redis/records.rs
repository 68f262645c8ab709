//! Records over the store's two scripts.

use std::fmt;

use async_trait::async_trait;
use safeconduct_types::{OperationId, Timestamp};

use super::{Arg, RedisOptions, RedisStore, Reply, Script, Use};
use crate::envelope::{self, LUA, words};
use crate::record::{check_commit, check_read};
use crate::trace::traced;
use crate::{Change, Committed, GRACE, REVISIONS, RecordKey, Records, Slot, Snapshot, StoreError};

/// Records on a [`RedisStore`].
#[derive(Clone)]
pub struct RedisRecords {
    store: RedisStore,
    read: Script,
    commit: Script,
}

impl RedisRecords {
    /// Connects first, as [`RedisStore::connect`] does.
    pub async fn connect(options: RedisOptions) -> Result<Self, StoreError> {
        Ok(Self::on(RedisStore::connect(options).await?))
    }

    /// Records on this store.
    pub fn on(store: RedisStore) -> Self {
        let script = |text: &str| Script::new(&format!("{LUA}{text}"));
        Self { store, read: script(include_str!("read.lua")), commit: script(include_str!("commit.lua")) }
    }

    /// The store beneath.
    pub const fn store(&self) -> &RedisStore {
        &self.store
    }

    async fn snapshot(&self, slot: &Slot, keys: &[RecordKey], purpose: Use) -> Result<Snapshot, StoreError> {
        check_read(slot, keys)?;
        let band = self.store.pace().band();
        let args = [Arg::Int(band.not_before), Arg::Int(band.not_after)];
        let Reply::List(items) = self.store.call(slot, &self.read, keys, &args, purpose).await? else {
            return Err(Reply::strange());
        };
        let mut items = items.into_iter();
        let (Some(Reply::Int(now)), Some(Reply::Int(told))) = (items.next(), items.next()) else {
            return Err(Reply::strange());
        };
        self.store.pace().observe(band, told);
        let now = Timestamp::from_millis(now.div_euclid(1000));
        let records = items.map(|item| match item {
            Reply::Bytes(bytes) => envelope::visible(&bytes, now),
            Reply::Nil => Ok(None),
            Reply::Int(_) | Reply::List(_) => Err(Reply::strange()),
        });
        let records = records.collect::<Result<Vec<_>, _>>()?;
        if records.len() != keys.len() {
            return Err(Reply::strange());
        }
        Ok(Snapshot { now, records })
    }

    async fn change(&self, slot: &Slot, operation: OperationId, changes: &[Change]) -> Result<Committed, StoreError> {
        check_commit(slot, changes)?;
        let band = self.store.pace().band();
        let grace = i64::try_from(GRACE.as_millis()).unwrap_or(i64::MAX);
        let revisions = i64::try_from(REVISIONS).unwrap_or(i64::MAX);
        let head = [band.not_before, band.not_after, grace, revisions].map(Arg::Int);
        let keys: Vec<_> = changes.iter().map(|change| change.key.clone()).collect();
        let tail: Vec<_> = changes.iter().flat_map(words).collect();
        let mut args = Vec::with_capacity(head.len() + 1 + tail.len());
        args.extend(head);
        args.push(Arg::Bytes(operation.as_bytes()));
        args.extend(tail.iter().map(|word| Arg::Bytes(word)));
        let Reply::List(answer) = self.store.call(slot, &self.commit, &keys, &args, Use::Write).await? else {
            return Err(Reply::strange());
        };
        let [Reply::Int(done @ (0 | 1)), Reply::Int(_), Reply::Int(told)] = answer.as_slice() else {
            return Err(Reply::strange());
        };
        self.store.pace().observe(band, *told);
        Ok(if *done == 1 { Committed::Done } else { Committed::Conflict })
    }
}

impl fmt::Debug for RedisRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRecords").finish_non_exhaustive()
    }
}

#[async_trait]
impl Records for RedisRecords {
    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        traced("redis", "read", keys.len(), self.snapshot(slot, keys, Use::Read)).await
    }

    async fn read_firm(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        traced("redis", "read", keys.len(), self.snapshot(slot, keys, Use::FirmIfAny)).await
    }

    async fn commit(&self, slot: &Slot, operation: OperationId, changes: &[Change]) -> Result<Committed, StoreError> {
        traced("redis", "commit", changes.len(), self.change(slot, operation, changes)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }
}
