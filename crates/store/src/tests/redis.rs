//! What is special to Redis: servers that go, come back, or cannot be trusted.

use std::time::{Duration, Instant};

use ::redis::Value;
use safeconduct_testkit::Redis;
use safeconduct_types::{Clock, SystemClock};

use super::{Bench, Ground, START, at, server_options};
use crate::{Committed, Expected, Records, RedisRecords, StoreError};

const WITHOUT_DISK: [&str; 2] = ["--appendonly", "no"];

/// A store with short time-outs, and a bench for its keys.
async fn hasty() -> (Bench, RedisRecords) {
    let bench = Bench::redis().await;
    let mut options = server_options(server(&bench));
    options.connect_timeout = Duration::from_secs(1);
    options.reply_timeout = Duration::from_secs(1);
    options.recovery_hold = Duration::ZERO;
    let store = RedisRecords::connect(options).await.unwrap();
    (bench, store)
}

fn server(bench: &Bench) -> &Redis {
    match &bench.ground {
        Ground::Server(server) => server,
        Ground::File(_) | Ground::Sentinel(_) | Ground::Cluster(_) => unreachable!("a bench on Redis"),
    }
}

fn server_mut(bench: &mut Bench) -> &mut Redis {
    match &mut bench.ground {
        Ground::Server(server) => server,
        Ground::File(_) | Ground::Sentinel(_) | Ground::Cluster(_) => unreachable!("a bench on Redis"),
    }
}

fn instant() -> Instant {
    SystemClock.instant()
}

#[tokio::test]
async fn a_silent_server_costs_one_time_out_and_then_calls_fail_at_once_until_it_speaks() {
    let (bench, store) = hasty().await;
    let operation = bench.operation();
    let changes = [bench.put("a", Expected::Absent, "one", None)];
    server(&bench).pause().unwrap();
    let start = instant();
    let first = store.commit(&bench.slot(), operation, &changes).await.unwrap_err();
    assert_eq!(first.name(), "unanswered", "the server has it and may yet do it");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());

    store.store().only_link().wait(false).await;
    let start = instant();
    for _ in 0..100 {
        let next = store.commit(&bench.slot(), bench.operation(), &changes).await.unwrap_err();
        assert_eq!(next.name(), "unavailable");
        assert_eq!(store.read(&bench.slot(), &[bench.key("a")]).await.unwrap_err().name(), "unavailable");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}: a pile of time-outs", start.elapsed());

    server(&bench).resume().unwrap();
    store.store().only_link().wait(true).await;
    assert_eq!(store.commit(&bench.slot(), operation, &changes).await, Ok(Committed::Done));
    assert_eq!(bench.value("a").await.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let (mut bench, store) = hasty().await;
    server_mut(&mut bench).kill().unwrap();
    assert!(store.ping().await.is_err());
    store.store().only_link().wait(false).await;
    assert_eq!(store.ping().await.unwrap_err().name(), "unavailable");
    server_mut(&mut bench).restart().await.unwrap();
    store.store().only_link().wait(true).await;
    store.ping().await.unwrap();
    let change = [bench.put("a", Expected::Absent, "one", None)];
    assert_eq!(store.commit(&bench.slot(), bench.operation(), &change).await, Ok(Committed::Done));
}

#[tokio::test]
async fn a_dropped_connection_and_forgotten_scripts_are_not_noticed() {
    let bench = Bench::redis().await;
    for command in [&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"][..], &["SCRIPT", "FLUSH"]] {
        let operation = bench.operation();
        let found = bench.get("a").await.map_or(Expected::Absent, |record| Expected::At(record.revision));
        server(&bench).command::<Value>(command).await.unwrap();
        assert_eq!(bench.commit(operation, &[bench.put("a", found, "one", None)]).await, Committed::Done);
        assert_eq!(bench.get("a").await.map(|record| Expected::At(record.revision)), Some(at(operation)));
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_killed_server() {
    let mut bench = Bench::redis().await;
    let pid = server(&bench).process_id().to_string();
    let mut acknowledged = 0;
    // Killed by another process at whatever moment that comes.
    let mut killer = None;
    loop {
        let change = bench.put(&format!("n{acknowledged}"), Expected::Absent, "x", None);
        match bench.try_commit(bench.operation(), &[change]).await {
            Ok(answer) => assert_eq!(answer, Committed::Done),
            Err(_) => break,
        }
        acknowledged += 1;
        if acknowledged == 200 {
            killer = Some(std::process::Command::new("kill").args(["-KILL", &pid]).spawn().unwrap());
        }
    }
    assert!(killer.unwrap().wait().unwrap().success());
    bench.restart().await;
    assert!(acknowledged >= 200);
    for n in 0..acknowledged {
        assert_eq!(bench.value(&format!("n{n}")).await.as_deref(), Some("x"), "acknowledged record {n} is lost");
    }
}

#[tokio::test]
async fn a_server_that_persists_nothing_is_read_but_not_written_until_that_is_mended() {
    let bench = Bench::on(Ground::Server(Redis::start_with(&WITHOUT_DISK).await.unwrap())).await;
    let change = [bench.put("a", Expected::Absent, "one", None)];
    let operation = bench.operation();
    assert!(matches!(bench.try_commit(operation, &change).await, Err(StoreError::Unsafe(_))));
    assert!(matches!(bench.store().ping().await, Err(StoreError::Unsafe(_))));
    assert_eq!(bench.value("a").await, None);

    server(&bench).command::<Value>(&["CONFIG", "SET", "appendonly", "yes"]).await.unwrap();
    bench.store().ping().await.unwrap();
    assert_eq!(bench.commit(operation, &change).await, Committed::Done);

    server(&bench).command::<Value>(&["CONFIG", "SET", "maxmemory", "1gb"]).await.unwrap();
    server(&bench).command::<Value>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await.unwrap();
    assert!(matches!(bench.store().ping().await, Err(StoreError::Unsafe(_))), "it evicts");
}

#[tokio::test]
async fn an_unsafe_server_is_written_to_if_that_is_allowed() {
    let bench = Bench::on(Ground::Server(Redis::start_with(&WITHOUT_DISK).await.unwrap())).await;
    let mut options = server_options(server(&bench));
    options.allow_unsafe = true;
    let store = RedisRecords::connect(options).await.unwrap();
    let change = [bench.put("a", Expected::Absent, "one", None)];
    assert_eq!(store.commit(&bench.slot(), bench.operation(), &change).await, Ok(Committed::Done));
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_without_memory_left_is_full_and_takes_nothing_of_a_commit() {
    let bench = Bench::redis().await;
    server(&bench).command::<Value>(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    let changes = [bench.put("a", Expected::Absent, "one", None), bench.put("b", Expected::Absent, "one", None)];
    let operation = bench.operation();
    assert!(matches!(bench.try_commit(operation, &changes).await, Err(StoreError::Full(_))));
    assert_eq!((bench.value("a").await, bench.value("b").await), (None, None));
    server(&bench).command::<Value>(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    assert_eq!(bench.commit(operation, &changes).await, Committed::Done);
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_not_used() {
    let (bench, store) = hasty().await;
    server(&bench).command::<Value>(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
    let change = [bench.put("a", Expected::Absent, "one", None)];
    let operation = bench.operation();
    let refused = store.commit(&bench.slot(), operation, &change).await.unwrap_err();
    assert_eq!(refused, StoreError::Unavailable("this Redis is a replica".into()));
    assert_eq!(store.read(&bench.slot(), &[bench.key("a")]).await.unwrap_err().name(), "unavailable");
    server(&bench).command::<Value>(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    store.store().only_link().wait(true).await;
    assert_eq!(store.commit(&bench.slot(), operation, &change).await, Ok(Committed::Done));
}

#[tokio::test]
async fn only_records_with_an_end_are_collected_by_the_server() {
    let bench = Bench::redis().await;
    let end = START.after(Duration::from_secs(30));
    let changes =
        [bench.put("ends", Expected::Absent, "x", Some(end)), bench.put("stays", Expected::Absent, "x", None)];
    assert_eq!(bench.commit(bench.operation(), &changes).await, Committed::Done);
    let client = ::redis::Client::open(server(&bench).url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut left = Vec::new();
    for name in ["ends", "stays"] {
        let key = bench.key(name);
        left.push(::redis::cmd("PTTL").arg(key.as_str()).query_async::<i64>(&mut connection).await.unwrap());
    }
    let longest = i64::try_from((crate::GRACE + Duration::from_secs(30)).as_millis()).unwrap();
    assert!(left[0] > longest - 60_000 && left[0] <= longest, "{left:?}");
    assert_eq!(left[1], -1);
}

#[tokio::test]
async fn a_record_that_the_store_did_not_write_is_corrupt() {
    let bench = Bench::redis().await;
    let key = bench.key("a");
    server(&bench).command::<Value>(&["SET", key.as_str(), "something else"]).await.unwrap();
    let read = bench.store().read(&bench.slot(), &[key]).await;
    assert_eq!(read.unwrap_err().name(), "corrupt");
    let commit = bench.try_commit(bench.operation(), &[bench.put("a", Expected::Absent, "x", None)]).await;
    assert_eq!(commit.unwrap_err().name(), "corrupt");
}

#[tokio::test]
async fn a_full_server_is_seen_by_its_health_before_a_write_finds_out() {
    let bench = Bench::redis().await;
    server(&bench).command::<Value>(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    assert_eq!(bench.store().ping().await.unwrap_err().name(), "full");
    server(&bench).command::<Value>(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    bench.store().ping().await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_save_is_unsafe_until_it_can() {
    let settings = ["--save", "3600 1", "--enable-protected-configs", "yes"];
    let bench = Bench::on(Ground::Server(Redis::start_with(&settings).await.unwrap())).await;
    let (gone, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let set_folder = async |path: &std::path::Path| {
        server(&bench).command::<Value>(&["CONFIG", "SET", "dir", path.to_str().unwrap()]).await.unwrap();
    };
    let saved = async |status: &str| {
        server(&bench).command::<Value>(&["BGSAVE"]).await.unwrap();
        let is = async || Ok((server(&bench).info("rdb_last_bgsave_status").await? == status).then_some(()));
        safeconduct_testkit::until("a snapshot", Duration::from_mins(1), is).await.unwrap();
    };
    set_folder(gone.path()).await;
    drop(gone);
    saved("err").await;
    let change = [bench.put("a", Expected::Absent, "one", None)];
    let operation = bench.operation();
    assert_eq!(bench.try_commit(operation, &change).await.unwrap_err().name(), "unsafe");
    assert_eq!(bench.store().ping().await.unwrap_err().name(), "unsafe");
    assert_eq!(bench.value("a").await, None);
    set_folder(back.path()).await;
    saved("ok").await;
    bench.store().ping().await.unwrap();
    assert_eq!(bench.commit(operation, &change).await, Committed::Done);
}

#[tokio::test]
async fn a_server_that_is_loading_is_waited_for_and_nobody_hangs_on_it() {
    let slow = ["--appendonly", "yes", "--appendfsync", "always", "--key-load-delay", "20000"];
    let often = ["--loading-process-events-interval-bytes", "1024"];
    let ground = Ground::Server(Redis::start_with(&[&slow[..], &often].concat()).await.unwrap());
    let mut bench = Bench::on(ground).await;
    for n in 0..60 {
        let change = bench.put(&n.to_string(), Expected::Absent, &"x".repeat(2_000), None);
        assert_eq!(bench.commit(bench.operation(), &[change]).await, Committed::Done);
    }
    // Only what comes from a snapshot is loaded slowly.
    server(&bench).command::<Value>(&["BGREWRITEAOF"]).await.unwrap();
    let rewritten = async || Ok((server(&bench).info("aof_last_rewrite_time_sec").await? != "-1").then_some(()));
    safeconduct_testkit::until("a new log", Duration::from_mins(1), rewritten).await.unwrap();
    let mut options = server_options(server(&bench));
    options.reply_timeout = Duration::from_millis(500);
    let store = RedisRecords::connect(options).await.unwrap();
    server_mut(&mut bench).kill().unwrap();
    server_mut(&mut bench).restart_unready().unwrap();
    let mut seen_loading = false;
    loop {
        let start = instant();
        let found = store.read(&bench.slot(), &[bench.key("7")]).await;
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        match found {
            Ok(found) => {
                assert!(found.records[0].is_some());
                break;
            }
            Err(error) => seen_loading |= error.to_string().contains("loading"),
        }
        tokio::task::yield_now().await;
    }
    assert!(seen_loading);
}

#[tokio::test]
async fn a_late_reply_breaks_nothing_off() {
    let bench = Bench::redis().await;
    let mut options = server_options(server(&bench));
    options.reply_timeout = Duration::from_millis(300);
    let store = RedisRecords::connect(options).await.unwrap();
    let before = store.store().epoch(&bench.slot());
    // Longer than a call waits, shorter than it takes to believe that nobody is there.
    server(&bench).command::<Value>(&["CLIENT", "PAUSE", "1500", "ALL"]).await.unwrap();
    let late = store.read(&bench.slot(), &[bench.key("a")]).await.unwrap_err();
    assert_eq!(late.name(), "unavailable");
    safeconduct_testkit::until("a reply", Duration::from_mins(1), async || {
        Ok(store.read(&bench.slot(), &[bench.key("a")]).await.ok())
    })
    .await
    .unwrap();
    let health = store.store().health().remove(0);
    assert_eq!((health.losses, health.unavailable_for, health.epoch), (0, None, before));
}

#[tokio::test]
async fn each_thread_that_serves_calls_gets_a_connection_of_its_own_to_the_same_server() {
    let bench = Bench::redis().await;
    let store = RedisRecords::connect(server_options(server(&bench))).await.unwrap();
    let (slot, key) = (bench.slot(), bench.key("a"));
    assert_eq!(store.read(&slot, std::slice::from_ref(&key)).await.unwrap().records, [None]);
    assert_eq!(store.store().only_link().pipes(), 1, "this one's own");
    let (change, operation) = ([bench.put("a", Expected::Absent, "one", None)], bench.operation());
    let calls = store.clone();
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(calls.commit(&slot, operation, &change).await, Ok(Committed::Done), "over the first");
            safeconduct_testkit::until("a connection", Duration::from_mins(1), async || {
                calls.read(&slot, std::slice::from_ref(&key)).await.unwrap();
                Ok((calls.store().only_link().pipes() == 2).then_some(()))
            })
            .await
            .unwrap();
            assert!(calls.read(&slot, std::slice::from_ref(&key)).await.unwrap().records[0].is_some(), "over its own");
        });
    });
    // This runtime must go on meanwhile: it drives the first.
    tokio::task::spawn_blocking(|| other.join().unwrap()).await.unwrap();
    assert!(bench.get("a").await.is_some());
}
