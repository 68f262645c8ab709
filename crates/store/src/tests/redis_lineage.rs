//! A server that may lack what was acknowledged takes no writes for a while, and everybody knows.

use std::time::Duration;

use ::redis::Value;
use safeconduct_testkit::{Redis, until};
use safeconduct_types::Timestamp;

use super::{Bench, server_options};
use crate::{Change, Committed, Expected, Records, RedisOptions, RedisRecords, StoreError};

const EVERY_SECOND: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "everysec"];

fn change(bench: &Bench, name: &str) -> [Change; 1] {
    [bench.put(name, Expected::Absent, "one", None)]
}

async fn commit(store: &RedisRecords, bench: &Bench, name: &str) -> Result<Committed, StoreError> {
    store.commit(&bench.slot(), bench.operation(), &change(bench, name)).await
}

async fn restart(server: &mut Redis, store: &RedisRecords) {
    let before = epoch(store);
    server.kill().unwrap();
    server.restart().await.unwrap();
    until("the store to find the server again", Duration::from_mins(1), async || {
        Ok((epoch(store) != before).then_some(()))
    })
    .await
    .unwrap();
}

fn epoch(store: &RedisRecords) -> String {
    store.store().health().remove(0).epoch
}

fn is_held(answer: &Result<Committed, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable(why)) if why.contains("recovery_hold"))
}

#[tokio::test]
async fn a_restart_that_may_have_lost_a_second_holds_writes_back_and_reads_go_on() {
    let mut server = Redis::start_with(&EVERY_SECOND).await.unwrap();
    let bench = Bench::embedded().await;
    let options = RedisOptions { recovery_hold: Duration::from_secs(3), ..server_options(&server) };
    let store = RedisRecords::connect(options.clone()).await.unwrap();
    assert_eq!(commit(&store, &bench, "a").await, Ok(Committed::Done));
    // On disk, so that the note is: everysec may take two seconds, a rewrite does not.
    server.command::<Value>(&["CONFIG", "SET", "appendfsync", "always"]).await.unwrap();
    assert_eq!(commit(&store, &bench, "b").await, Ok(Committed::Done));
    assert_eq!(store.store().lost_until(&bench.slot()), Timestamp::default());
    let before = store.store().pace().estimate();
    restart(&mut server, &store).await;
    let held = commit(&store, &bench, "c").await;
    assert!(is_held(&held), "{held:?}");
    let lost_until = store.store().lost_until(&bench.slot());
    assert!(lost_until > before.after(options.recovery_hold), "{lost_until:?} {before:?}");
    assert!(store.ping().await.unwrap_err().to_string().contains("recovery_hold"));
    let health = store.store().health().remove(0);
    assert!(health.hold > Duration::ZERO && health.refuses_writes.is_some(), "{health:?}");
    assert_eq!((health.unavailable_for, health.losses), (None, 1));
    store.read(&bench.slot(), &[bench.key("a")]).await.unwrap();
    // A process that starts now was told nothing, and finds it noted.
    let other = RedisRecords::connect(options.clone()).await.unwrap();
    let told = commit(&other, &bench, "d").await;
    assert!(is_held(&told), "{told:?}");
    assert_eq!(other.store().lost_until(&bench.slot()), lost_until);
    // One that does not care writes.
    let careless = RedisRecords::connect(RedisOptions { allow_unsafe: true, ..options }).await.unwrap();
    assert_eq!(commit(&careless, &bench, "e").await, Ok(Committed::Done));
    until("the hold to end", Duration::from_mins(1), async || {
        Ok(commit(&store, &bench, "c").await.is_ok().then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(commit(&other, &bench, "d").await, Ok(Committed::Done));
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_restart_that_lost_nothing_is_not_noticed_but_by_its_epoch() {
    for (settings, trust) in [(["--appendonly", "yes", "--appendfsync", "always"], false), (EVERY_SECOND, true)] {
        let mut server = Redis::start_with(&settings).await.unwrap();
        let bench = Bench::embedded().await;
        let options = RedisOptions { hold_after_restart: !trust, ..server_options(&server) };
        let store = RedisRecords::connect(options).await.unwrap();
        assert_eq!(commit(&store, &bench, "a").await, Ok(Committed::Done));
        let before = store.store().epoch(&bench.slot());
        assert_eq!(before.len(), 16);
        restart(&mut server, &store).await;
        assert_ne!(store.store().epoch(&bench.slot()), before);
        assert_eq!(commit(&store, &bench, "b").await, Ok(Committed::Done), "{settings:?}");
    }
}

#[tokio::test]
async fn another_history_on_the_same_connection_is_noticed_within_a_look() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::embedded().await;
    let store = RedisRecords::connect(server_options(&server)).await.unwrap();
    let before = epoch(&store);
    assert_eq!(commit(&store, &bench, "a").await, Ok(Committed::Done));
    server.command::<Value>(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
    server.command::<Value>(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    until("another epoch", Duration::from_mins(1), async || Ok((epoch(&store) != before).then_some(()))).await.unwrap();
    let held = commit(&store, &bench, "b").await;
    assert!(is_held(&held), "{held:?}");
}
