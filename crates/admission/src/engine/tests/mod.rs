//! Both engines, with a Redis of the tests' own.

mod histories;
mod records;
mod special;

use std::sync::Arc;

use safeconduct_admission_domain::meter::Meter;
use safeconduct_admission_domain::step::IndexOp;
use safeconduct_store::{
    Arg, Change, EmbeddedStore, RecordKey, RedisOptions, RedisStore, Reply, Script, Slot, StoreError, StoreKeyer, Use,
};
use safeconduct_testkit::Redis;
use safeconduct_types::{ManualClock, OperationId, Secret, SecretText, Timestamp};

use super::wire::Bounds;
use super::{EmbeddedEngine, RedisEngine, Step, Stepped};

/// Both engines at a time of the test's choice.
struct Bench {
    clock: Arc<ManualClock>,
    keyer: StoreKeyer,
    redis: RedisEngine,
    redis_store: RedisStore,
    embedded: EmbeddedEngine,
    file: EmbeddedStore,
    server: Redis,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        // Tests here ask for answers, not for what survives a crash.
        Self::with(&["--appendonly", "yes", "--appendfsync", "no"]).await
    }

    async fn with(settings: &[&str]) -> Self {
        let server = Redis::start_with(settings).await.unwrap();
        // At the beginning of times: from there on it goes wherever a history wants.
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let folder = tempfile::tempdir().unwrap();
        let file = EmbeddedStore::open(folder.path().join("store"), clock.clone()).await.unwrap();
        let redis_store = connect(&server, clock.clone()).await;
        Self {
            keyer: StoreKeyer::new(&Secret::new(vec![7; 32])),
            redis: RedisEngine::new(redis_store.clone()),
            redis_store,
            embedded: EmbeddedEngine::new(file.clone()),
            file,
            clock,
            server,
            _folder: folder,
        }
    }

    fn slot(&self, name: u64) -> Slot {
        self.keyer.slot(&[&name.to_be_bytes()])
    }

    fn key(&self, slot: &Slot, space: &'static str, name: u64) -> RecordKey {
        self.keyer.key(slot, space, &[&name.to_be_bytes()])
    }

    /// The step on Redis, at this time in microseconds.
    async fn on_redis(&self, slot: &Slot, now_us: i64, step: &Step) -> Result<Stepped, StoreError> {
        self.redis.go(slot, step, Bounds(now_us, now_us)).await.map(|(stepped, _)| stepped)
    }

    /// The step on the embedded engine, at this time.
    async fn on_embedded(&self, now_us: i64, step: &Step) -> Result<Stepped, StoreError> {
        self.clock.set(Timestamp::from_millis(now_us / 1000));
        self.embedded.go(step.clone(), Some(now_us)).await
    }

    /// What a command with one key says on Redis.
    async fn ask(&self, slot: &Slot, command: &'static str, key: &RecordKey, more: &[&[u8]]) -> Reply {
        let script = Script::new("return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))");
        let args: Vec<Arg<'_>> =
            std::iter::once(command.as_bytes()).chain(more.iter().copied()).map(Arg::Bytes).collect();
        self.redis_store.run(slot, &script, std::slice::from_ref(key), &args, Use::Write).await.unwrap()
    }

    /// The state of a cap on Redis.
    async fn redis_state(&self, slot: &Slot, key: &RecordKey) -> Option<Vec<u8>> {
        match self.ask(slot, "GET", key, &[]).await {
            Reply::Bytes(bytes) => Some(bytes.to_vec()),
            Reply::Nil => None,
            other => panic!("{other:?}"),
        }
    }

    /// The state of a cap on the embedded engine.
    async fn embedded_state(&self, key: &RecordKey) -> Option<Vec<u8>> {
        let key = key.clone();
        self.file.view(move |view| view.get(&key)).await.unwrap()
    }

    /// A command on the server itself.
    async fn command(&self, words: &[&[u8]]) -> ::redis::Value {
        let client = ::redis::Client::open(self.server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = ::redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query_async(&mut connection).await.unwrap()
    }
}

async fn connect(server: &Redis, clock: Arc<ManualClock>) -> RedisStore {
    let mut options = RedisOptions::new(SecretText::new(server.url()));
    options.clock = Some(clock);
    options.reply_timeout = std::time::Duration::from_secs(10);
    options.connect_timeout = std::time::Duration::from_secs(10);
    RedisStore::connect(options).await.unwrap()
}

fn operation(n: u64) -> OperationId {
    OperationId::from_bytes(u128::from(n).to_be_bytes())
}

fn step(n: u64, changes: Vec<Change>, meters: Vec<(RecordKey, Meter)>, index: Vec<IndexOp<RecordKey>>) -> Step {
    Step { operation: operation(n), changes, meters, index }
}
