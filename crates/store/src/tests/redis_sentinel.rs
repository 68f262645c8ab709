//! The master that Sentinels name.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_testkit::{RedisSentinel, until};
use safeconduct_types::{Clock, SystemClock};

use super::{Bench, Ground, conformance, sentinel_options};
use crate::{Committed, Durability, Expected, Records, RedisOptions, RedisRecords, StoreError};

#[tokio::test]
async fn the_conformance_suite_passes_on_sentinel() {
    let set = Arc::new(RedisSentinel::start(1).await.unwrap());
    // Nothing crashes here, and a thousand waits for a disk take long.
    let quick = ["CONFIG", "SET", "appendfsync", "everysec"];
    set.server(0).unwrap().command::<::redis::Value>(&quick).await.unwrap();
    conformance::all(async || Bench::on(Ground::Sentinel(Arc::clone(&set))).await).await;
}

#[tokio::test]
async fn after_a_lost_master_reads_go_on_and_writes_are_held_back_for_a_while() {
    let mut set = RedisSentinel::start(2).await.unwrap();
    let bench = Bench::embedded().await;
    let options = RedisOptions {
        connect_timeout: Duration::from_secs(2),
        reply_timeout: Duration::from_secs(2),
        recovery_hold: Duration::from_secs(3),
        ..sentinel_options(&set)
    };
    let store = RedisRecords::connect(options).await.unwrap();
    let before = store.store().epoch(&bench.slot());
    let first = [bench.put("a", Expected::Absent, "one", None)];
    assert_eq!(store.commit(&bench.slot(), bench.operation(), &first).await, Ok(Committed::Done));
    let master = set.master().await.unwrap();
    // Nobody waits for replicas here, and either may take over.
    let written: u64 = set.server(master).unwrap().info("master_repl_offset").await.unwrap().parse().unwrap();
    for index in 0..3 {
        until("the replicas to have it", Duration::from_secs(20), async || {
            Ok((set.server(index)?.info("master_repl_offset").await?.parse::<u64>()? >= written).then_some(()))
        })
        .await
        .unwrap();
    }
    set.server_mut(master).unwrap().kill().unwrap();
    until("a read from another master", Duration::from_mins(1), async || {
        let start = SystemClock.instant();
        let found = store.read(&bench.slot(), &[bench.key("a")]).await;
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        Ok(found.ok().map(|found| assert!(found.records[0].is_some())))
    })
    .await
    .unwrap();
    assert_ne!(store.store().epoch(&bench.slot()), before);
    let second = [bench.put("b", Expected::Absent, "one", None)];
    let held = store.commit(&bench.slot(), bench.operation(), &second).await;
    assert!(matches!(&held, Err(StoreError::Unavailable(why)) if why.contains("recovery_hold")), "{held:?}");
    let operation = bench.operation();
    until("the hold to end", Duration::from_mins(1), async || {
        Ok(store.commit(&bench.slot(), operation, &second).await.is_ok().then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn replicated_writes_survive_a_fail_over_and_nobody_holds_back() {
    let set = RedisSentinel::start(1).await.unwrap();
    let bench = Bench::embedded().await;
    let durability = Durability::Replicated { replicas: 1, timeout: Duration::from_secs(2) };
    let options = RedisOptions {
        durability,
        connect_timeout: Duration::from_secs(2),
        reply_timeout: Duration::from_secs(4),
        ..sentinel_options(&set)
    };
    let store = RedisRecords::connect(options).await.unwrap();
    let master = set.master().await.unwrap();
    let mut written = 0;
    let mut put = async || {
        let change = [bench.put(&written.to_string(), Expected::Absent, "one", None)];
        let operation = bench.operation();
        until("a write to be done", Duration::from_mins(1), async || {
            match store.commit(&bench.slot(), operation, &change).await {
                Ok(Committed::Done) => Ok(Some(())),
                Ok(Committed::Conflict) => panic!("a write was lost and forgotten"),
                Err(error) => {
                    assert!(!error.to_string().contains("recovery_hold"), "{error}");
                    Ok(None)
                }
            }
        })
        .await
        .unwrap();
        written += 1;
        written
    };
    for _ in 0..50 {
        put().await;
    }
    set.fail_over().await.unwrap();
    set.until_failed_over(master).await.unwrap();
    let mut count = 0;
    for _ in 0..50 {
        count = put().await;
    }
    for n in 0..count {
        let found = store.read(&bench.slot(), &[bench.key(&n.to_string())]).await.unwrap();
        assert!(found.records[0].is_some(), "acknowledged record {n} is lost");
    }
}
