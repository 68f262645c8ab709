//! Replicated durability: nothing is answered that a replica does not have.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_testkit::{Redis, until};
use safeconduct_types::{Clock, SystemClock};

use super::{Bench, at, server_options};
use crate::{Committed, Durability, Expected, Records, RedisOptions, RedisRecords, StoreError};

struct Pair {
    master: Redis,
    replica: Redis,
    bench: Bench,
    store: Arc<RedisRecords>,
}

async fn pair(replicas: u16, timeout: Duration) -> Pair {
    let master = Redis::start().await.unwrap();
    let replica = master.start_replica().await.unwrap();
    let durability = Durability::Replicated { replicas, timeout };
    let options = RedisOptions { durability, ..server_options(&master) };
    let store = Arc::new(RedisRecords::connect(options).await.unwrap());
    Pair { master, replica, bench: Bench::embedded().await, store }
}

#[tokio::test]
async fn a_write_is_answered_when_the_replica_has_it() {
    let Pair { mut master, replica, bench, store } = pair(1, Duration::from_secs(5)).await;
    let mut done = 0;
    for n in 0..50 {
        let change = [bench.put(&n.to_string(), Expected::Absent, "one", None)];
        assert_eq!(store.commit(&bench.slot(), bench.operation(), &change).await, Ok(Committed::Done));
        done += 1;
    }
    master.kill().unwrap();
    for n in 0..done {
        let key = bench.key(&n.to_string());
        let found: i64 = replica.command(&["EXISTS", key.as_str()]).await.unwrap();
        assert_eq!(found, 1, "acknowledged record {n} is not on the replica");
    }
}

#[tokio::test]
async fn a_stopped_replica_leaves_one_write_in_doubt_then_refuses_and_a_repeat_tells() {
    // The master must outlive the test.
    let Pair { master: _master, replica, bench, store } = pair(1, Duration::from_secs(2)).await;
    let (first, second) = (bench.operation(), bench.operation());
    let create = [bench.put("a", Expected::Absent, "one", None)];
    assert_eq!(store.commit(&bench.slot(), first, &create).await, Ok(Committed::Done));
    replica.pause().unwrap();
    let change = [bench.put("a", at(first), "two", None)];
    let doubt = store.commit(&bench.slot(), second, &change).await.unwrap_err();
    assert!(matches!(&doubt, StoreError::Unanswered(why) if why.contains("replicas")), "{doubt}");
    let start = SystemClock.instant();
    for _ in 0..100 {
        let refused = store.commit(&bench.slot(), bench.operation(), &change).await.unwrap_err();
        assert_eq!(refused.name(), "unavailable", "{refused}");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}: a pile of time-outs", start.elapsed());
    assert_eq!(store.ping().await.unwrap_err().name(), "unavailable");
    let found = store.read(&bench.slot(), &[bench.key("a")]).await.unwrap().records.remove(0).unwrap();
    assert_eq!(found.value, "two", "reads go on");
    replica.resume().unwrap();
    until("the replica to keep up", Duration::from_mins(1), async || {
        Ok(store.commit(&bench.slot(), second, &change).await.is_ok().then_some(()))
    })
    .await
    .unwrap();
    store.ping().await.unwrap();
}

#[tokio::test]
async fn many_writes_share_a_wait() {
    const WRITES: usize = 400;
    let Pair { master, replica: _replica, bench, store } = pair(1, Duration::from_secs(5)).await;
    let bench = Arc::new(bench);
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..WRITES {
        let (bench, store) = (Arc::clone(&bench), Arc::clone(&store));
        writers.spawn(async move {
            let change = [bench.put(&n.to_string(), Expected::Absent, "one", None)];
            store.commit(&bench.slot(), bench.operation(), &change).await
        });
    }
    while let Some(answer) = writers.join_next().await {
        assert_eq!(answer.unwrap(), Ok(Committed::Done));
    }
    let stats: String = master.command(&["INFO", "commandstats"]).await.unwrap();
    let waits = stats.lines().find_map(|line| line.strip_prefix("cmdstat_wait:calls=")?.split(',').next()).unwrap();
    let waits: usize = waits.parse().unwrap();
    assert!(waits < WRITES / 4, "{waits} waits for {WRITES} writes");
}

#[tokio::test]
async fn a_missing_replica_refuses_writes_and_one_too_many_is_unsafe() {
    let Pair { master, replica: _replica, bench, store } = pair(1, Duration::from_secs(2)).await;
    let strict = Durability::Replicated { replicas: 2, timeout: Duration::from_secs(2) };
    let strict = RedisRecords::connect(RedisOptions { durability: strict, ..server_options(&master) }).await.unwrap();
    let change = [bench.put("a", Expected::Absent, "one", None)];
    let refused = strict.commit(&bench.slot(), bench.operation(), &change).await.unwrap_err();
    assert_eq!(refused.name(), "unavailable");
    let _second = master.start_replica().await.unwrap();
    assert_eq!(store.ping().await.unwrap_err().name(), "unsafe", "the second might take over");
    until("both replicas", Duration::from_mins(1), async || Ok(strict.ping().await.is_ok().then_some(())))
        .await
        .unwrap();
    assert_eq!(strict.commit(&bench.slot(), bench.operation(), &change).await, Ok(Committed::Done));
}

#[tokio::test]
async fn a_record_is_told_as_durable_when_the_replica_has_it_and_its_absence_at_once() {
    let Pair { master, replica, bench, store } = pair(1, Duration::from_secs(2)).await;
    // Somebody else has written it, and waits.
    let careless = RedisRecords::connect(server_options(&master)).await.unwrap();
    replica.pause().unwrap();
    let change = [bench.put("a", Expected::Absent, "one", None)];
    assert_eq!(careless.commit(&bench.slot(), bench.operation(), &change).await, Ok(Committed::Done));
    assert!(store.read(&bench.slot(), &[bench.key("a")]).await.unwrap().records[0].is_some(), "a plain read");
    for _ in 0..2 {
        let firm = store.read_firm(&bench.slot(), &[bench.key("a")]).await.unwrap_err();
        assert_eq!(firm.name(), "unavailable", "{firm}");
    }
    assert_eq!(store.read_firm(&bench.slot(), &[bench.key("b")]).await.unwrap().records, [None]);
    replica.resume().unwrap();
    let found = until("the replica to keep up", Duration::from_mins(1), async || {
        Ok(store.read_firm(&bench.slot(), &[bench.key("a")]).await.ok())
    });
    assert!(found.await.unwrap().records[0].is_some());
}
