//! Section `store`: which keys go together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use safeconduct_types::SecretText;
use url::Url;

use super::reader::Reader;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Which store, and how to reach it.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum StoreConfig {
    /// In files of this process, in this directory.
    Embedded {
        /// The directory; the data directory.
        dir: PathBuf,
    },
    /// Redis.
    Redis(RedisConfig),
}

/// How Redis is reached and trusted.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "see config.default.toml")]
pub struct RedisConfig {
    pub servers: RedisServersConfig,
    pub user: Option<String>,
    pub password: Option<SecretText>,
    pub tls: bool,
    pub ca: Option<PathBuf>,
    /// Certificate and key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    pub connect_timeout: Duration,
    pub reply_timeout: Duration,
    /// How many replicas a write waits for, and how long; `None`: for none.
    pub replicated: Option<(u16, Duration)>,
    pub recovery_hold: Duration,
    pub hold_after_restart: bool,
    pub allow_unsafe: bool,
}

/// Where the servers of Redis are.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "see config.default.toml")]
pub enum RedisServersConfig {
    /// One server.
    Standalone {
        /// May carry a password.
        url: SecretText,
    },
    /// The master that Sentinels name.
    Sentinel { addresses: Vec<String>, master: String, user: Option<String>, password: Option<SecretText>, tls: bool },
    /// A cluster.
    Cluster { addresses: Vec<String> },
}

/// What says where Redis is; exactly one of them does.
const PLACES: [&str; 3] = ["store.url", "store.sentinel.addresses", "store.cluster.addresses"];

/// `lease` is the connector's: what may have been promised and forgotten has ended after it.
pub(super) fn read(reader: &Reader, data_dir: &Path, lease: Duration) -> Option<StoreConfig> {
    let redis = reader.choice("store.kind", &[("embedded", false), ("redis", true)]);
    let url = reader.text(PLACES[0]);
    let sentinels = addresses(reader, PLACES[1]);
    let cluster = addresses(reader, PLACES[2]);
    let sentinel = RedisServersConfig::Sentinel {
        addresses: sentinels.clone(),
        master: reader.text("store.sentinel.master"),
        user: optional(reader, "store.sentinel.user"),
        password: optional(reader, "store.sentinel.password").map(SecretText::new),
        tls: reader.flag("store.sentinel.tls"),
    };
    let durability = reader.choice("store.durability", &[("local", false), ("replicated", true)]);
    let replicas = u16::try_from(reader.count("store.replicas", 1..=16)).unwrap_or(u16::MAX);
    let replica_timeout = reader.duration("store.replica_timeout", 10 * MS..=30 * SECOND);
    let config = RedisConfig {
        servers: RedisServersConfig::Standalone { url: SecretText::new(url.clone()) },
        user: optional(reader, "store.user"),
        password: optional(reader, "store.password").map(SecretText::new),
        tls: reader.flag("store.tls"),
        ca: reader.optional_path("store.ca"),
        certificate: certificate(reader),
        connect_timeout: reader.duration("store.connect_timeout", 10 * MS..=30 * SECOND),
        reply_timeout: reader.duration("store.reply_timeout", 10 * MS..=30 * SECOND),
        replicated: durability.and_then(|replicated| replicated.then_some((replicas, replica_timeout))),
        recovery_hold: reader.duration("store.recovery_hold", Duration::ZERO..=Duration::from_hours(1)),
        hold_after_restart: reader.flag("store.hold_after_restart"),
        allow_unsafe: reader.flag("store.allow_unsafe"),
    };
    let given = [!url.is_empty(), !sentinels.is_empty(), !cluster.is_empty()];
    let given: Vec<&str> = PLACES.into_iter().zip(given).filter_map(|(key, given)| given.then_some(key)).collect();
    durability?;
    if !redis? {
        for key in given {
            // Silence here would mean records on one machine that somebody believes to be shared.
            reader.wrong(key, "is set, but store.kind is \"embedded\"; set store.kind to \"redis\", or remove it");
        }
        return Some(StoreConfig::Embedded { dir: data_dir.to_owned() });
    }
    let servers = match given.as_slice() {
        [] if reader.is_right(&PLACES) => {
            let expected = "expected redis://[user:password@]host[:port][/db] or rediss://, as store.kind is redis; or \
                            name the servers in store.sentinel.addresses or store.cluster.addresses";
            reader.wrong(PLACES[0], expected);
            config.servers.clone()
        }
        [first, second, ..] => {
            reader.wrong(second, format!("is set, and so is {first}; Redis is at one of them: remove the other"));
            config.servers.clone()
        }
        ["store.sentinel.addresses"] => sentinel.clone(),
        ["store.cluster.addresses"] => RedisServersConfig::Cluster { addresses: cluster },
        _ => config.servers.clone(),
    };
    let config = RedisConfig { servers, ..config };
    servers_go_together(reader, &config, &sentinel);
    durations_go_together(reader, &config, lease);
    Some(StoreConfig::Redis(config))
}

fn servers_go_together(reader: &Reader, config: &RedisConfig, sentinel: &RedisServersConfig) {
    if config.user.is_some() && config.password.is_none() {
        reader.wrong("store.password", "is missing, but store.user is set; set that user's password");
    }
    let mut tls = config.tls;
    match &config.servers {
        RedisServersConfig::Standalone { url } if !url.expose().is_empty() => {
            let parsed = Url::parse(url.expose()).ok();
            let parsed = parsed.filter(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host());
            let Some(url) = parsed else {
                let expected = "expected redis://[user:password@]host[:port][/db] or rediss://, as store.kind is redis";
                return reader.wrong("store.url", expected);
            };
            if config.password.is_some() && (url.password().is_some() || !url.username().is_empty()) {
                reader
                    .wrong("store.password", "is set, and store.url names a user or a password; remove one of the two");
            }
            if config.tls && url.scheme() == "redis" {
                reader.wrong("store.tls", "is set, but store.url is redis://; write rediss:// instead");
            }
            tls = url.scheme() == "rediss";
        }
        RedisServersConfig::Sentinel { master, tls: to_sentinels, .. } => {
            if master.is_empty() && reader.is_right(&["store.sentinel.master"]) {
                reader.wrong("store.sentinel.master", "is empty; set the name that the Sentinels give to the master");
            }
            tls |= to_sentinels;
        }
        RedisServersConfig::Standalone { .. } | RedisServersConfig::Cluster { .. } => {}
    }
    if let RedisServersConfig::Sentinel { addresses, master, user, password, tls } = sentinel {
        let keys =
            [("master", !master.is_empty()), ("user", user.is_some()), ("password", password.is_some()), ("tls", *tls)];
        for (name, _) in keys.into_iter().filter(|(_, is_set)| *is_set && addresses.is_empty()) {
            reader.wrong(&format!("store.sentinel.{name}"), "is set, but store.sentinel.addresses names no Sentinel");
        }
        if user.is_some() && password.is_none() {
            reader.wrong("store.sentinel.password", "is missing, but store.sentinel.user is set; set it");
        }
    }
    if !tls && reader.is_right(&PLACES) {
        for (key, _) in [("store.ca", config.ca.is_some()), ("store.cert", config.certificate.is_some())]
            .into_iter()
            .filter(|(_, is_set)| *is_set)
        {
            reader.wrong(key, "is set, but Redis is not spoken to over TLS; use rediss://, or set store.tls = true");
        }
    }
}

fn durations_go_together(reader: &Reader, config: &RedisConfig, lease: Duration) {
    let keys = ["store.replica_timeout", "store.reply_timeout"];
    if config.replicated.is_some_and(|(_, timeout)| timeout >= config.reply_timeout) && reader.is_right(&keys) {
        reader.wrong(keys[0], "must be shorter than store.reply_timeout, which the wait for replicas is a part of");
    }
    let keys = ["store.recovery_hold", "connector.lease"];
    if config.recovery_hold < lease && !config.allow_unsafe && reader.is_right(&keys) {
        let message = "is shorter than connector.lease: what a lost master had promised could still be running; raise it, \
                       or set store.allow_unsafe = true";
        reader.wrong(keys[0], message);
    }
}

fn optional(reader: &Reader, key: &str) -> Option<String> {
    Some(reader.text(key)).filter(|text| !text.is_empty())
}

/// A list of addresses; what is not of that form is told and left out.
fn addresses(reader: &Reader, key: &str) -> Vec<String> {
    let all: Vec<_> = reader.list(key).into_iter().filter(|text| !text.is_empty()).collect();
    // An IPv6 address has colons of its own; the store reads these more closely.
    let is_address = |text: &String| !text.contains(|c: char| c.is_whitespace() || "/@?#".contains(c));
    if !all.iter().all(is_address) {
        reader.wrong(key, "expected a list of host:port, without scheme, user or password");
        return Vec::new();
    }
    all
}

fn certificate(reader: &Reader) -> Option<(PathBuf, PathBuf)> {
    match (reader.optional_path("store.cert"), reader.optional_path("store.key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            reader.wrong("store.key", "is missing, but store.cert is set; name the key of that certificate");
            None
        }
        (None, Some(_)) => {
            reader.wrong("store.cert", "is missing, but store.key is set; name the certificate of that key");
            None
        }
    }
}
