//! The conformance suite, run on every store, and what is special to each.

mod conformance;
mod embedded;
mod history;
mod redis;
mod redis_access;
mod redis_cluster;
mod redis_lineage;
mod redis_replicas;
mod redis_sentinel;
mod spans;
mod transact;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use safeconduct_testkit::{Redis, RedisCluster, RedisSentinel};
use safeconduct_types::{ManualClock, OperationId, Secret, SecretText, Timestamp};

use crate::{
    Change, Committed, EmbeddedStore, Expected, Record, RecordKey, Records, RedisOptions, RedisRecords, RedisServers,
    Revision, Slot, StoreError, StoreKeyer, Write,
};

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
    Server(Redis),
    Sentinel(Arc<RedisSentinel>),
    Cluster(Arc<RedisCluster>),
}

/// Benches that share a ground have keys of their own.
static BENCHES: AtomicU64 = AtomicU64::new(1);

const START: Timestamp = Timestamp::from_seconds(1_000_000);

impl Bench {
    async fn embedded() -> Self {
        Self::on(Ground::File(tempfile::tempdir().unwrap())).await
    }

    async fn redis() -> Self {
        Self::on(Ground::Server(Redis::start().await.unwrap())).await
    }

    async fn on(ground: Ground) -> Self {
        let mut bench = Self {
            store: None,
            ground,
            clock: Arc::new(ManualClock::at(START)),
            keyer: StoreKeyer::new(&Secret::new(BENCHES.fetch_add(1, Ordering::Relaxed).to_be_bytes().repeat(4))),
            operations: AtomicU64::new(1),
        };
        bench.open().await;
        bench
    }

    async fn open(&mut self) {
        let store: Arc<dyn Records> = match &self.ground {
            Ground::File(folder) => {
                let path = folder.path().join("records");
                Arc::new(EmbeddedStore::open(path, self.clock.clone()).await.unwrap())
            }
            Ground::Server(server) => self.connect(server_options(server)).await,
            Ground::Sentinel(set) => self.connect(sentinel_options(set)).await,
            Ground::Cluster(cluster) => self.connect(cluster_options(cluster)).await,
        };
        self.store = Some(store);
    }

    async fn connect(&self, options: RedisOptions) -> Arc<dyn Records> {
        let options = RedisOptions { clock: Some(self.clock.clone()), ..options };
        Arc::new(RedisRecords::connect(options).await.unwrap())
    }

    /// Ends the store, and a server of its own without warning, and starts both again.
    async fn restart(&mut self) {
        self.store = None;
        if let Ground::Server(server) = &mut self.ground {
            server.kill().unwrap();
            server.restart().await.unwrap();
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
        self.write(name, expected, Write::put(value.to_owned(), expires))
    }

    fn keep(&self, name: &str, expected: Expected) -> Change {
        self.write(name, expected, Write::Keep)
    }

    fn write(&self, name: &str, expected: Expected, write: Write) -> Change {
        Change { key: self.key(name), expected, write }
    }

    fn delete(&self, name: &str, expected: Expected) -> Change {
        self.write(name, expected, Write::Delete)
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

fn server_options(server: &Redis) -> RedisOptions {
    patient(RedisOptions::new(SecretText::new(server.url())))
}

fn sentinel_options(set: &RedisSentinel) -> RedisOptions {
    patient(RedisOptions::of(RedisServers::Sentinel {
        addresses: set.addresses(),
        master: set.name().to_owned(),
        user: None,
        password: None,
        tls: false,
    }))
}

fn cluster_options(cluster: &RedisCluster) -> RedisOptions {
    patient(RedisOptions::of(RedisServers::Cluster { addresses: cluster.addresses() }))
}

/// Time-outs that a busy machine keeps.
fn patient(options: RedisOptions) -> RedisOptions {
    let long = Duration::from_secs(10);
    RedisOptions { connect_timeout: long, reply_timeout: long, ..options }
}

fn operation(n: u64) -> OperationId {
    OperationId::from_bytes(u128::from(n).to_be_bytes())
}

fn at(operation: OperationId) -> Expected {
    Expected::At(Revision::of(operation))
}
