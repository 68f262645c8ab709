//! What is special to Redis: servers that go, come back, or cannot be trusted.

use std::time::{Duration, Instant};

use bytes::Bytes;
use safeconduct_types::{Clock, SecretText, SystemClock};

use super::redis_server::RedisServer;
use super::{Bench, Ground, START, at};
use crate::{Committed, Expected, Records, RedisOptions, RedisRecords, StoreError};

const WITHOUT_DISK: [&str; 2] = ["--appendonly", "no"];

/// A store with short time-outs, and a bench for its keys.
async fn hasty() -> (Bench, RedisRecords) {
    let bench = Bench::redis().await;
    let mut options = server(&bench).options();
    options.connect_timeout = Duration::from_millis(300);
    options.reply_timeout = Duration::from_millis(500);
    let store = RedisRecords::connect(options).await.unwrap();
    (bench, store)
}

fn server(bench: &Bench) -> &RedisServer {
    match &bench.ground {
        Ground::Server(server) => server,
        Ground::File(_) => unreachable!("a bench on Redis"),
    }
}

fn server_mut(bench: &mut Bench) -> &mut RedisServer {
    match &mut bench.ground {
        Ground::Server(server) => server,
        Ground::File(_) => unreachable!("a bench on Redis"),
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
    server(&bench).signal("-STOP");
    let start = instant();
    let first = store.commit(&bench.slot(), operation, &changes).await.unwrap_err();
    assert_eq!(first.name(), "unanswered", "the server has it and may yet do it");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

    store.link().wait(false).await;
    let start = instant();
    for _ in 0..100 {
        let next = store.commit(&bench.slot(), bench.operation(), &changes).await.unwrap_err();
        assert_eq!(next.name(), "unavailable");
        assert_eq!(store.read(&bench.slot(), &[bench.key("a")]).await.unwrap_err().name(), "unavailable");
    }
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}: a pile of time-outs", start.elapsed());

    server(&bench).signal("-CONT");
    store.link().wait(true).await;
    assert_eq!(store.commit(&bench.slot(), operation, &changes).await, Ok(Committed::Done));
    assert_eq!(bench.value("a").await.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let (mut bench, store) = hasty().await;
    server_mut(&mut bench).kill();
    assert!(store.ping().await.is_err());
    store.link().wait(false).await;
    assert_eq!(store.ping().await.unwrap_err().name(), "unavailable");
    server_mut(&mut bench).restart();
    store.link().wait(true).await;
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
        server(&bench).command(command).await;
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
    let bench = Bench::on(Ground::Server(RedisServer::start_with(&WITHOUT_DISK, |_| Vec::new()))).await;
    let change = [bench.put("a", Expected::Absent, "one", None)];
    let operation = bench.operation();
    assert!(matches!(bench.try_commit(operation, &change).await, Err(StoreError::Unsafe(_))));
    assert!(matches!(bench.store().ping().await, Err(StoreError::Unsafe(_))));
    assert_eq!(bench.value("a").await, None);

    server(&bench).command(&["CONFIG", "SET", "appendonly", "yes"]).await;
    bench.store().ping().await.unwrap();
    assert_eq!(bench.commit(operation, &change).await, Committed::Done);

    server(&bench).command(&["CONFIG", "SET", "maxmemory", "1gb"]).await;
    server(&bench).command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    assert!(matches!(bench.store().ping().await, Err(StoreError::Unsafe(_))), "it evicts");
}

#[tokio::test]
async fn an_unsafe_server_is_written_to_if_that_is_allowed() {
    let bench = Bench::on(Ground::Server(RedisServer::start_with(&WITHOUT_DISK, |_| Vec::new()))).await;
    let mut options = server(&bench).options();
    options.allow_unsafe = true;
    let store = RedisRecords::connect(options).await.unwrap();
    let change = [bench.put("a", Expected::Absent, "one", None)];
    assert_eq!(store.commit(&bench.slot(), bench.operation(), &change).await, Ok(Committed::Done));
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_without_memory_left_is_full_and_takes_nothing_of_a_commit() {
    let bench = Bench::redis().await;
    server(&bench).command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let changes = [bench.put("a", Expected::Absent, "one", None), bench.put("b", Expected::Absent, "one", None)];
    let operation = bench.operation();
    assert!(matches!(bench.try_commit(operation, &changes).await, Err(StoreError::Full(_))));
    assert_eq!((bench.value("a").await, bench.value("b").await), (None, None));
    server(&bench).command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(bench.commit(operation, &changes).await, Committed::Done);
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_not_used() {
    let (bench, store) = hasty().await;
    server(&bench).command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let change = [bench.put("a", Expected::Absent, "one", None)];
    let operation = bench.operation();
    let refused = store.commit(&bench.slot(), operation, &change).await.unwrap_err();
    assert_eq!(refused, StoreError::Unavailable("this Redis is a replica".into()));
    assert_eq!(store.read(&bench.slot(), &[bench.key("a")]).await.unwrap_err().name(), "unavailable");
    server(&bench).command(&["REPLICAOF", "NO", "ONE"]).await;
    store.link().wait(true).await;
    assert_eq!(store.commit(&bench.slot(), operation, &change).await, Ok(Committed::Done));
}

#[tokio::test]
async fn only_records_with_an_end_are_collected_by_the_server() {
    let bench = Bench::redis().await;
    let end = START.after(Duration::from_secs(30));
    let changes =
        [bench.put("ends", Expected::Absent, "x", Some(end)), bench.put("stays", Expected::Absent, "x", None)];
    assert_eq!(bench.commit(bench.operation(), &changes).await, Committed::Done);
    let client = ::redis::Client::open(server(&bench).options().url.expose()).unwrap();
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
    server(&bench).command(&["SET", key.as_str(), "something else"]).await;
    let read = bench.store().read(&bench.slot(), &[key]).await;
    assert_eq!(read.unwrap_err().name(), "corrupt");
    let commit = bench.try_commit(bench.operation(), &[bench.put("a", Expected::Absent, "x", None)]).await;
    assert_eq!(commit.unwrap_err().name(), "corrupt");
}

#[tokio::test]
async fn tls_with_its_own_ca_and_an_acl_user_with_few_rights_will_do() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let server = RedisServer::start_with(&["--appendonly", "yes"], |folder| {
        std::fs::write(folder.join("cert.pem"), certified.cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        std::fs::write(folder.join("tls-port"), port.to_string()).unwrap();
        let users = "user default on nopass ~* &* +@all\n\
            user safe on >s#same ~* -@all +eval +evalsha +script|load +mget +set +time +info +ping\n";
        std::fs::write(folder.join("users.acl"), users).unwrap();
        let mut settings = vec!["--tls-port".to_owned(), port.to_string(), "--tls-auth-clients".into(), "no".into()];
        for (name, file) in [("tls-cert-file", "cert.pem"), ("tls-key-file", "key.pem"), ("aclfile", "users.acl")] {
            settings.extend([format!("--{name}"), folder.join(file).display().to_string()]);
        }
        settings
    });
    let port = std::fs::read_to_string(server.path("tls-port")).unwrap();
    let with = |password: &str, ca: Option<&str>| {
        let url = format!("rediss://safe:{password}@localhost:{port}");
        let mut options = RedisOptions { ca_file: ca.map(|name| server.path(name)), ..server.options() };
        options.url = SecretText::new(url);
        options
    };
    let bench = Bench::embedded().await;
    let store = RedisRecords::connect(with("s%23same", Some("cert.pem"))).await.unwrap();
    let change = [bench.put("a", Expected::Absent, "one", None)];
    assert_eq!(store.commit(&bench.slot(), bench.operation(), &change).await, Ok(Committed::Done));
    let found = store.read(&bench.slot(), &[bench.key("a")]).await.unwrap().records.remove(0).unwrap();
    assert_eq!(found.value, Bytes::from("one"));

    for options in [with("wr0ng", Some("cert.pem")), with("s%23same", None), with("s%23same", Some("tls-port"))] {
        let error = RedisRecords::connect(options.clone()).await.unwrap_err();
        let shown = format!("{error} {error:?} {options:?}");
        assert!(matches!(error.name(), "unavailable" | "invalid"), "{shown}");
        assert!(!shown.contains("wr0ng") && !shown.contains("same"), "{shown}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_without_a_connection() {
    let plain_with_ca = RedisOptions {
        ca_file: Some("ca.pem".into()),
        ..RedisOptions::new(SecretText::new("redis://127.0.0.1".to_owned()))
    };
    let urls = ["http://127.0.0.1", "redis://", "rediss://127.0.0.1/#insecure", "redis://u:hunter2@host/x"];
    let mut all: Vec<_> = urls.map(|url| RedisOptions::new(SecretText::new(url.to_owned()))).to_vec();
    all.push(plain_with_ca);
    for options in all {
        let error = RedisRecords::connect(options).await.unwrap_err();
        assert_eq!(error.name(), "invalid", "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }
}
