//! Who may use a Redis, and how it is spoken to.

use std::path::Path;
use std::time::Duration;

use ::redis::Value;
use safeconduct_testkit::{Redis, RedisCluster, RedisSentinel};
use safeconduct_types::SecretText;

use super::{Bench, cluster_options, sentinel_options, server_options};
use crate::{Committed, Durability, Expected, Records, RedisOptions, RedisRecords, RedisServers, StoreError};

/// The rights that `RedisOptions` documents, for any durability and kind.
const RIGHTS: &str = "~{*}:* resetchannels -@all +eval +evalsha +mget +set +time +info +config|get +wait \
                      +cluster|slots +asking";

/// A commit and a read over this store.
async fn works(bench: &Bench, options: RedisOptions) {
    let store = RedisRecords::connect(options).await.unwrap();
    let change = [bench.put("a", Expected::Absent, "one", None)];
    assert_eq!(store.commit(&bench.slot(), bench.operation(), &change).await, Ok(Committed::Done));
    let found = store.read(&bench.slot(), &[bench.key("a")]).await.unwrap().records.remove(0).unwrap();
    assert_eq!(found.value, "one");
    store.ping().await.unwrap();
}

async fn allow(server: &Redis, name: &str, rights: &str) {
    let words: Vec<&str> = ["ACL", "SETUSER", name, "on", ">s#same"].into_iter().chain(rights.split(' ')).collect();
    server.command::<Value>(&words).await.unwrap();
}

fn as_user(options: RedisOptions, name: &str) -> RedisOptions {
    RedisOptions { user: Some(name.to_owned()), password: Some(SecretText::new("s#same".to_owned())), ..options }
}

/// A CA, and certificates of it for the server (`server`) and the client (`client`).
fn certificates(folder: &Path) {
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    // Otherwise all have the same name and seem to have signed themselves.
    ca.distinguished_name.push(rcgen::DnType::CommonName, "a CA");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = rcgen::CertifiedIssuer::self_signed(ca, key).unwrap();
    std::fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    for name in ["server", "client"] {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &ca).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test]
async fn tls_with_its_own_ca_a_client_certificate_and_a_user_with_few_rights_will_do() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("no-certificate"), "none").unwrap();
    let server = Redis::start_tls(folder.path()).await.unwrap();
    allow(&server, "safe", RIGHTS).await;
    let port = server.known_port();
    let client = || Some((file("client.pem"), file("client.key")));
    let with = |password: &str, ca: Option<&str>, certificate| RedisOptions {
        servers: RedisServers::Standalone {
            url: SecretText::new(format!("rediss://safe:{password}@localhost:{port}")),
        },
        ca_file: ca.map(&file),
        certificate,
        ..server_options(&server)
    };
    let bench = Bench::embedded().await;
    works(&bench, with("s%23same", Some("ca.pem"), client())).await;
    for options in [
        with("wr0ng", Some("ca.pem"), client()),
        with("s%23same", None, client()),
        with("s%23same", Some("ca.pem"), None),
        with("s%23same", Some("no-certificate"), client()),
        with("s%23same", Some("ca.pem"), Some((file("client.pem"), file("no-certificate")))),
    ] {
        let error = RedisRecords::connect(options.clone()).await.unwrap_err();
        let shown = format!("{error} {error:?} {options:?}");
        assert!(matches!(error.name(), "unavailable" | "invalid"), "{shown}");
        assert!(!shown.contains("wr0ng") && !shown.contains("same"), "{shown}");
    }
}

/// Speaks TLS, with a certificate of its own.
fn over_tls(options: RedisOptions, folder: &Path) -> RedisOptions {
    let servers = match options.servers {
        RedisServers::Sentinel { addresses, master, user, password, .. } => {
            RedisServers::Sentinel { addresses, master, user, password, tls: true }
        }
        servers @ (RedisServers::Standalone { .. } | RedisServers::Cluster { .. }) => servers,
    };
    RedisOptions {
        servers,
        tls: true,
        ca_file: Some(folder.join("ca.pem")),
        certificate: Some((folder.join("client.pem"), folder.join("client.key"))),
        ..options
    }
}

#[tokio::test]
async fn sentinels_and_the_servers_that_they_name_are_spoken_to_over_tls_also_after_a_fail_over() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let set = RedisSentinel::start_tls(folder.path(), 1).await.unwrap();
    let options = over_tls(sentinel_options(&set), folder.path());
    works(&Bench::embedded().await, RedisOptions { recovery_hold: Duration::ZERO, ..options.clone() }).await;
    set.fail_over().await.unwrap();
    set.until_failed_over(0).await.unwrap();
    works(&Bench::embedded().await, RedisOptions { recovery_hold: Duration::ZERO, ..options.clone() }).await;
    let plain = RedisOptions { tls: false, ..sentinel_options(&set) };
    assert_eq!(RedisRecords::connect(plain).await.unwrap_err().name(), "unavailable");
}

#[tokio::test]
async fn every_server_of_a_cluster_is_spoken_to_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let cluster = RedisCluster::start_tls(folder.path()).await.unwrap();
    for index in 0..6 {
        allow(cluster.server(index).unwrap(), "safe", RIGHTS).await;
    }
    let options = over_tls(as_user(cluster_options(&cluster), "safe"), folder.path());
    // Slots of all three masters.
    for _ in 0..8 {
        works(&Bench::embedded().await, options.clone()).await;
    }
    assert_eq!(RedisRecords::connect(cluster_options(&cluster)).await.unwrap_err().name(), "unavailable");
    let stranger = RedisOptions { certificate: None, ..options };
    assert_eq!(RedisRecords::connect(stranger).await.unwrap_err().name(), "unavailable");
}

#[tokio::test]
async fn sentinels_and_servers_have_users_of_their_own() {
    let set = RedisSentinel::start(1).await.unwrap();
    for index in 0..2 {
        allow(set.server(index).unwrap(), "safe", RIGHTS).await;
    }
    set.command_sentinels(&["ACL", "SETUSER", "watch", "on", ">other", "-@all", "+sentinel|get-master-addr-by-name"])
        .await
        .unwrap();
    let with = |user: &str| {
        let options = as_user(sentinel_options(&set), "safe");
        let password = Some(SecretText::new("other".to_owned()));
        let RedisServers::Sentinel { addresses, master, tls, .. } = options.servers.clone() else { unreachable!() };
        let servers = RedisServers::Sentinel { addresses, master, user: Some(user.to_owned()), password, tls };
        RedisOptions { servers, ..options }
    };
    works(&Bench::embedded().await, with("watch")).await;
    assert_eq!(RedisRecords::connect(with("nobody")).await.unwrap_err().name(), "unavailable");
}

#[tokio::test]
async fn a_cluster_is_used_by_a_user_with_few_rights() {
    let cluster = RedisCluster::start().await.unwrap();
    for index in 0..6 {
        allow(cluster.server(index).unwrap(), "safe", RIGHTS).await;
    }
    let timeout = Duration::from_secs(5);
    let durability = Durability::Replicated { replicas: 1, timeout };
    works(&Bench::embedded().await, RedisOptions { durability, ..as_user(cluster_options(&cluster), "safe") }).await;
}

#[tokio::test]
async fn a_user_without_a_right_is_told_so_and_reads_go_on() {
    let server = Redis::start().await.unwrap();
    allow(&server, "safe", &RIGHTS.replace("+set ", "")).await;
    let bench = Bench::embedded().await;
    let store = RedisRecords::connect(as_user(server_options(&server), "safe")).await.unwrap();
    let change = [bench.put("a", Expected::Absent, "one", None)];
    let error = store.commit(&bench.slot(), bench.operation(), &change).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("permission")), "{error}");
    assert_eq!(store.read(&bench.slot(), &[bench.key("a")]).await.unwrap().records, [None]);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_without_a_connection() {
    let plain = || RedisOptions::new(SecretText::new("redis://127.0.0.1".to_owned()));
    let urls = ["http://127.0.0.1", "redis://", "rediss://127.0.0.1/#insecure", "redis://u:hunter2@host/x"];
    let mut all: Vec<_> = urls.map(|url| RedisOptions::new(SecretText::new(url.to_owned()))).to_vec();
    let cluster = |addresses: &[&str]| {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        RedisOptions::of(RedisServers::Cluster { addresses })
    };
    let replicated = |replicas, timeout| RedisOptions {
        durability: Durability::Replicated { replicas, timeout: Duration::from_secs(timeout) },
        ..plain()
    };
    let twice = RedisOptions::new(SecretText::new("redis://u:hunter2@127.0.0.1".to_owned()));
    all.extend([
        RedisOptions { ca_file: Some("ca.pem".into()), ..plain() },
        RedisOptions { certificate: Some(("c".into(), "k".into())), ..plain() },
        RedisOptions { user: Some("u".to_owned()), ..plain() },
        as_user(twice, "safe"),
        cluster(&[]),
        cluster(&["redis://127.0.0.1:1"]),
        replicated(0, 1),
        replicated(1, 2),
    ]);
    for options in all {
        let error = RedisRecords::connect(options).await.unwrap_err();
        assert_eq!(error.name(), "invalid", "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }
}
