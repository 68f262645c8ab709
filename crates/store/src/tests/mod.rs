//! The conformance suite, run on every store, and what is special to each.

mod conformance;
mod embedded;
mod history;
mod redis;
mod redis_server;
mod spans;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use safeconduct_types::{ManualClock, OperationId, Secret, Timestamp};

use crate::{
    Change, Committed, EmbeddedRecords, Expected, Record, RecordKey, Records, Revision, Slot, StoreError, StoreKeyer,
    Write,
};
use redis_server::RedisServer;

/// A store, what it stands on, and a clock that decides its time.
struct Bench {
    store: Option<Arc<dyn Records>>,
    ground: Ground,
    clock: Arc<ManualClock>,
    keyer: StoreKeyer,
    operations: AtomicU64,
}

enum Ground {
    File(tempfile::TempDir),
    Server(RedisServer),
}

const START: Timestamp = Timestamp::from_seconds(1_000_000);

impl Bench {
    async fn embedded() -> Self {
        Self::on(Ground::File(tempfile::tempdir().unwrap())).await
    }

    async fn redis() -> Self {
        Self::on(Ground::Server(RedisServer::start())).await
    }

    async fn on(ground: Ground) -> Self {
        let mut bench = Self {
            store: None,
            ground,
            clock: Arc::new(ManualClock::at(START)),
            keyer: StoreKeyer::new(&Secret::new(vec![7; 32])),
            operations: AtomicU64::new(1),
        };
        bench.open().await;
        bench
    }

    async fn open(&mut self) {
        let store: Arc<dyn Records> = match &self.ground {
            Ground::File(folder) => {
                let path = folder.path().join("records");
                Arc::new(EmbeddedRecords::open(path, self.clock.clone()).await.unwrap())
            }
            Ground::Server(server) => Arc::new(server.connect(Some(self.clock.clone())).await.unwrap()),
        };
        self.store = Some(store);
    }

    /// Ends the store, and the server without warning, and starts both again.
    async fn restart(&mut self) {
        self.store = None;
        if let Ground::Server(server) = &mut self.ground {
            server.kill();
            server.restart();
        }
        self.open().await;
    }

    fn store(&self) -> &Arc<dyn Records> {
        self.store.as_ref().unwrap()
    }

    fn slot(&self) -> Slot {
        self.keyer.slot(&[b"acme", b"contact"])
    }

    fn key(&self, name: &str) -> RecordKey {
        self.keyer.key(&self.slot(), "test", &[name.as_bytes()])
    }

    fn operation(&self) -> OperationId {
        operation(self.operations.fetch_add(1, Ordering::Relaxed))
    }

    fn put(&self, name: &str, expected: Expected, value: &str, expires: Option<Timestamp>) -> Change {
        let write = Write::Put { value: Bytes::copy_from_slice(value.as_bytes()), expires };
        Change { key: self.key(name), expected, write }
    }

    fn delete(&self, name: &str, expected: Expected) -> Change {
        Change { key: self.key(name), expected, write: Write::Delete }
    }

    async fn commit(&self, operation: OperationId, changes: &[Change]) -> Committed {
        self.try_commit(operation, changes).await.unwrap()
    }

    async fn try_commit(&self, operation: OperationId, changes: &[Change]) -> Result<Committed, StoreError> {
        self.store().commit(&self.slot(), operation, changes).await
    }

    async fn get(&self, name: &str) -> Option<Record> {
        self.store().read(&self.slot(), &[self.key(name)]).await.unwrap().records.remove(0)
    }

    async fn value(&self, name: &str) -> Option<String> {
        self.get(name).await.map(|record| String::from_utf8(record.value.to_vec()).unwrap())
    }
}

fn operation(n: u64) -> OperationId {
    OperationId::from_bytes(u128::from(n).to_be_bytes())
}

fn at(operation: OperationId) -> Expected {
    Expected::At(Revision::of(operation))
}
