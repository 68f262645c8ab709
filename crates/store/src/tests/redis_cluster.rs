//! A cluster: each slot has a master, slots move, masters die.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_testkit::{RedisCluster, until};
use safeconduct_types::{Clock, SystemClock};

use super::{Bench, Ground, at, cluster_options, conformance};
use crate::{
    Change, Committed, Durability, Expected, RecordKey, Records, RedisOptions, RedisRecords, Slot, StoreError, Write,
};

/// A slot of the store for each of many contacts, and a record of it.
fn contacts(bench: &Bench, count: usize) -> Vec<(Slot, RecordKey)> {
    let contact = |n: usize| {
        let slot = bench.keyer.slot(&[b"contact", n.to_string().as_bytes()]);
        let key = bench.keyer.key(&slot, "test", &[b"a"]);
        (slot, key)
    };
    (0..count).map(contact).collect()
}

fn put(key: &RecordKey, expected: Expected, value: &'static str) -> [Change; 1] {
    [Change { key: key.clone(), expected, write: Write::put(value, None) }]
}

/// The number of the hash slot of a key, as the servers say.
async fn number(cluster: &RedisCluster, key: &RecordKey) -> u16 {
    cluster.server(0).unwrap().command(&["CLUSTER", "KEYSLOT", key.as_str()]).await.unwrap()
}

#[tokio::test]
async fn the_conformance_suite_passes_on_a_cluster() {
    let cluster = Arc::new(RedisCluster::start().await.unwrap());
    for index in 0..3 {
        // Nothing crashes here, and a thousand waits for a disk take long.
        let quick = ["CONFIG", "SET", "appendfsync", "everysec"];
        cluster.server(index).unwrap().command::<::redis::Value>(&quick).await.unwrap();
    }
    conformance::all(async || Bench::on(Ground::Cluster(Arc::clone(&cluster))).await).await;
}

#[tokio::test]
async fn a_dead_master_takes_out_its_own_slots_only_and_only_until_its_replica_takes_over() {
    let mut cluster = RedisCluster::start().await.unwrap();
    let bench = Bench::embedded().await;
    let options = RedisOptions {
        connect_timeout: Duration::from_secs(3),
        reply_timeout: Duration::from_secs(3),
        recovery_hold: Duration::from_secs(3),
        ..cluster_options(&cluster)
    };
    let store = RedisRecords::connect(options).await.unwrap();
    let contacts = contacts(&bench, 30);
    let mut masters = BTreeSet::new();
    for (slot, key) in &contacts {
        let answer = store.commit(slot, bench.operation(), &put(key, Expected::Absent, "one")).await;
        assert_eq!(answer, Ok(Committed::Done));
        masters.insert(cluster.master_of(key.as_str()).await.unwrap());
    }
    assert_eq!(masters.len(), 3);
    let (slot, key) = &contacts[0];
    let dead = cluster.master_of(key.as_str()).await.unwrap();
    let mut others = Vec::new();
    for (slot, key) in &contacts {
        if cluster.master_of(key.as_str()).await.unwrap() != dead {
            others.push((slot, key));
        }
    }
    // Nobody waits for replicas here.
    let (old, new) = (cluster.server(dead).unwrap(), cluster.server(cluster.partner(dead)).unwrap());
    let written: u64 = old.info("master_repl_offset").await.unwrap().parse().unwrap();
    until("the replica to have it", Duration::from_mins(1), async || {
        Ok((new.info("master_repl_offset").await?.parse::<u64>()? >= written).then_some(()))
    })
    .await
    .unwrap();
    let (before, other_before) = (store.store().epoch(slot), store.store().epoch(others[0].0));
    cluster.server_mut(dead).unwrap().kill().unwrap();
    until("a read from the new master", Duration::from_mins(1), async || {
        for (slot, key) in &others {
            let found = store.read(slot, std::slice::from_ref(key)).await.unwrap();
            assert!(found.records[0].is_some());
        }
        let start = SystemClock.instant();
        let found = store.read(slot, std::slice::from_ref(key)).await;
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        Ok(found.ok().map(|found| assert!(found.records[0].is_some())))
    })
    .await
    .unwrap();
    assert_ne!(store.store().epoch(slot), before);
    assert_eq!(store.store().epoch(others[0].0), other_before);
    let found = store.read(slot, std::slice::from_ref(key)).await.unwrap().records.remove(0).unwrap();
    let change = put(key, Expected::At(found.revision), "two");
    let operation = bench.operation();
    let held = store.commit(slot, operation, &change).await;
    assert!(matches!(&held, Err(StoreError::Unavailable(why)) if why.contains("recovery_hold")), "{held:?}");
    until("the hold to end", Duration::from_mins(1), async || {
        Ok(store.commit(slot, operation, &change).await.is_ok().then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_planned_fail_over_of_replicated_writes_is_not_noticed() {
    let cluster = RedisCluster::start().await.unwrap();
    let bench = Bench::embedded().await;
    let durability = Durability::Replicated { replicas: 1, timeout: Duration::from_secs(5) };
    let store = RedisRecords::connect(RedisOptions { durability, ..cluster_options(&cluster) }).await.unwrap();
    let (slot, key) = contacts(&bench, 1).remove(0);
    let first = bench.operation();
    assert_eq!(store.commit(&slot, first, &put(&key, Expected::Absent, "one")).await, Ok(Committed::Done));
    let master = cluster.master_of(key.as_str()).await.unwrap();
    cluster.fail_over(master).await.unwrap();
    cluster.until_master(cluster.partner(master)).await.unwrap();
    let (second, change) = (bench.operation(), put(&key, at(first), "two"));
    until("a write on the new master", Duration::from_mins(1), async || {
        match store.commit(&slot, second, &change).await {
            Ok(answer) => {
                assert_eq!(answer, Committed::Done);
                Ok(Some(()))
            }
            Err(error) => {
                assert!(!error.to_string().contains("recovery_hold"), "{error}");
                Ok(None)
            }
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn slots_are_followed_while_they_move_and_afterwards() {
    let cluster = RedisCluster::start().await.unwrap();
    let bench = Bench::embedded().await;
    for durability in [Durability::Local, Durability::Replicated { replicas: 1, timeout: Duration::from_secs(5) }] {
        let store = RedisRecords::connect(RedisOptions { durability, ..cluster_options(&cluster) }).await.unwrap();
        // Several: whoever has not heard of a move yet is asked sooner or later.
        for (slot, key) in contacts(&Bench::embedded().await, 6) {
            let from = cluster.master_of(key.as_str()).await.unwrap();
            let to = (from + 1) % 3;
            let (first, second) = (bench.operation(), bench.operation());
            let number = number(&cluster, &key).await;
            let (moving, change) = (put(&key, Expected::Absent, "one"), put(&key, at(first), "two"));
            let between = async || {
                // Open on both sides and not there: the new master is asked.
                assert_eq!(store.commit(&slot, first, &moving).await, Ok(Committed::Done));
                assert_eq!(store.commit(&slot, first, &moving).await, Ok(Committed::Done));
                Ok(())
            };
            cluster.move_slot(number, (from, to), between).await.unwrap();
            assert_eq!(cluster.master_of(key.as_str()).await.unwrap(), to);
            assert_eq!(store.commit(&slot, second, &change).await, Ok(Committed::Done));
            assert_eq!(store.commit(&slot, first, &moving).await, Ok(Committed::Done), "the repeat is known");
        }
    }
}

#[tokio::test]
async fn writes_wait_for_replicas_while_the_lowest_slot_of_their_master_is_on_its_way() {
    let cluster = RedisCluster::start().await.unwrap();
    let bench = Bench::embedded().await;
    let durability = Durability::Replicated { replicas: 1, timeout: Duration::from_secs(5) };
    let store = RedisRecords::connect(RedisOptions { durability, ..cluster_options(&cluster) }).await.unwrap();
    let mut of_first = None;
    for (slot, key) in contacts(&bench, 30) {
        if cluster.master_of(key.as_str()).await.unwrap() == 0 {
            of_first = Some((slot, key));
        }
    }
    let (slot, key) = of_first.unwrap();
    let (first, second) = (bench.operation(), bench.operation());
    assert_eq!(store.commit(&slot, first, &put(&key, Expected::Absent, "one")).await, Ok(Committed::Done));
    cluster.open_slot(0, (0, 1)).await.unwrap();
    cluster.carry_slot(0, (0, 1)).await.unwrap();
    assert_eq!(store.commit(&slot, second, &put(&key, at(first), "two")).await, Ok(Committed::Done));
    store.ping().await.unwrap();
    cluster.close_slot(0, (0, 1)).await.unwrap();
    assert_eq!(store.commit(&slot, bench.operation(), &put(&key, at(second), "three")).await, Ok(Committed::Done));
}

#[tokio::test]
async fn a_server_that_had_no_slot_is_followed_to_and_so_is_who_gets_it_from_there() {
    let cluster = RedisCluster::start_with_spare().await.unwrap();
    let bench = Bench::embedded().await;
    let store = RedisRecords::connect(cluster_options(&cluster)).await.unwrap();
    let nothing = async || Ok(());
    let mut moved = Vec::new();
    for (slot, key) in contacts(&bench, 12) {
        let (first, second) = (bench.operation(), bench.operation());
        assert_eq!(store.commit(&slot, first, &put(&key, Expected::Absent, "one")).await, Ok(Committed::Done));
        let from = cluster.master_of(key.as_str()).await.unwrap();
        // The last master has the highest slots: each of the others is below all of its own.
        if from < 2 {
            let number = number(&cluster, &key).await;
            cluster.move_slot(number, (from, cluster.spare()), nothing).await.unwrap();
            assert_eq!(store.commit(&slot, second, &put(&key, at(first), "two")).await, Ok(Committed::Done));
            moved.push((number, slot, key, second));
        }
    }
    moved.sort_by_key(|(number, ..)| *number);
    let (_, kept, kept_key, mut at_kept) = moved.pop().expect("some are below");
    assert!(moved.len() > 1);
    for (number, slot, key, second) in moved {
        // The lowest slot takes the note of its master along, which is not the past of who gets it. On the way nobody
        // has the note, and the master is still known by those who connect anew.
        let ways = (cluster.spare(), 2);
        cluster.open_slot(number, ways).await.unwrap();
        cluster.carry_slot(number, ways).await.unwrap();
        let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
        cluster.server(cluster.spare()).unwrap().command::<i64>(&kill).await.unwrap();
        let (third, again) = (bench.operation(), bench.operation());
        let change = put(&kept_key, at(at_kept), "again");
        assert_eq!(store.commit(&kept, again, &change).await, Ok(Committed::Done));
        at_kept = again;
        cluster.close_slot(number, ways).await.unwrap();
        assert_eq!(store.commit(&slot, third, &put(&key, at(second), "three")).await, Ok(Committed::Done));
    }
    assert_eq!(cluster.master_of(kept_key.as_str()).await.unwrap(), cluster.spare());
}

#[tokio::test]
async fn a_master_that_is_held_back_stays_so_when_it_gets_a_lower_slot() {
    let cluster = RedisCluster::start().await.unwrap();
    let bench = Bench::embedded().await;
    let store = RedisRecords::connect(cluster_options(&cluster)).await.unwrap();
    let (mut low, mut high) = (None, None);
    for (slot, key) in contacts(&bench, 30) {
        match cluster.master_of(key.as_str()).await.unwrap() {
            0 => low = Some((slot, key)),
            2 => high = Some((slot, key)),
            _ => {}
        }
    }
    let ((low, low_key), (high, high_key)) = (low.unwrap(), high.unwrap());
    for (slot, key) in [(&low, &low_key), (&high, &high_key)] {
        let written = store.commit(slot, bench.operation(), &put(key, Expected::Absent, "one")).await;
        assert_eq!(written, Ok(Committed::Done));
    }
    cluster.fail_over(2).await.unwrap();
    let promoted = cluster.partner(2);
    cluster.until_master(promoted).await.unwrap();
    let held = async |store: &RedisRecords| {
        let change = put(&high_key, Expected::Absent, "two");
        until("the new master to be found and held back", Duration::from_mins(1), async || {
            match store.commit(&high, bench.operation(), &change).await {
                Ok(answer) => panic!("it is not held back: {answer:?}"),
                Err(StoreError::Unavailable(why)) if why.contains("recovery_hold") => Ok(Some(())),
                Err(_) => Ok(None),
            }
        })
        .await
    };
    held(&store).await.unwrap();
    let number = number(&cluster, &low_key).await;
    cluster.move_slot(number, (0, promoted), async || Ok(())).await.unwrap();
    until("the slot to be found where it is", Duration::from_mins(1), async || {
        let found = store.read(&low, std::slice::from_ref(&low_key)).await;
        Ok(found.is_ok_and(|found| found.records[0].is_some()).then_some(()))
    })
    .await
    .unwrap();
    held(&store).await.unwrap();
    // Whoever starts now finds it noted where it looks.
    let started = RedisRecords::connect(cluster_options(&cluster)).await.unwrap();
    held(&started).await.unwrap();
}
