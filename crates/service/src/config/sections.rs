//! Which settings there are, their bounds, and the rules between them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use super::callers::{self, CallerConfig, Credential};
use super::reader::Reader;
use super::{
    AssertionConfig, Config, DrainConfig, EnvoyConfig, GatewayHeaders, LimitsConfig, ListenerConfig, LogConfig,
    LogFormat, OperationsConfig, RuntimeConfig, RuntimeKind, SistersConfig, TlsConfig, store,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// Reads everything, so that everything wrong is told at once. `None` only if the reader noted a problem.
pub(super) fn read(reader: &Reader, config_dir: PathBuf, file: Option<PathBuf>) -> Option<Config> {
    let data_dir = reader.path("data_dir");
    let keyring_dir = reader.optional_path("keyring_dir").unwrap_or_else(|| data_dir.join("keys"));
    let secrets_dir = reader.optional_path("secrets_dir").unwrap_or_else(|| config_dir.join("secrets"));
    let workspaces_dir = reader.optional_path("workspaces.dir").unwrap_or_else(|| config_dir.join("workspaces"));
    let issuers = callers::issuers(reader);
    let callers = callers::callers(reader, &issuers);
    let runtime = runtime(reader);
    let log = log(reader);
    let [identity, otp, connector, admission] =
        ["identity", "otp", "connector", "admission"].map(|section| listener(reader, section, &callers));
    let signing_period = signing_period(reader);
    let otp_console = reader.flag("otp.console");
    let envoy = envoy(reader);
    let lease = reader.duration("connector.lease", SECOND..=10 * MINUTE);
    let store = store::read(reader, &data_dir, lease);
    let operations = operations(reader);
    let assertion = AssertionConfig {
        issuer: reader.name("assertion.issuer"),
        audience: reader.name("assertion.audience"),
        lifetime: reader.duration("assertion.lifetime", MINUTE..=HOUR),
    };
    let sisters = sisters(reader);
    let limits = limits(reader);
    let drain = drain(reader);
    let config = Config {
        config_dir,
        file,
        data_dir,
        keyring_dir,
        workspaces_dir,
        secrets_dir,
        runtime: runtime?,
        log: log?,
        store: store?,
        identity: identity?,
        signing_period,
        otp: otp?,
        otp_console,
        connector: connector?,
        admission: admission?,
        envoy: envoy?,
        lease,
        operations: operations?,
        assertion,
        sisters: sisters?,
        limits,
        drain,
        callers,
        issuers,
    };
    certificates_are_asked_for(reader, &config);
    Some(config)
}

/// None: the key file's keys sign.
fn signing_period(reader: &Reader) -> Option<Duration> {
    let kept_in_store = reader.choice("identity.signing", &[("file", false), ("store", true)]);
    let period = reader.duration("identity.signing_period", HOUR..=365 * 24 * HOUR);
    kept_in_store.unwrap_or_default().then_some(period)
}

fn runtime(reader: &Reader) -> Option<RuntimeConfig> {
    let kind = reader.choice("runtime.kind", &[("per-core", RuntimeKind::PerCore), ("shared", RuntimeKind::Shared)]);
    let workers = usize::try_from(reader.count("runtime.workers", 0..=1024)).ok().filter(|count| *count > 0);
    Some(RuntimeConfig { kind: kind?, workers })
}

fn log(reader: &Reader) -> Option<LogConfig> {
    let formats = [("auto", LogFormat::Auto), ("json", LogFormat::Json), ("human", LogFormat::Human)];
    let (format, level) = (reader.choice("log.format", &formats), reader.name("log.level"));
    Some(LogConfig { format: format?, level })
}

fn listener(reader: &Reader, section: &str, callers: &[CallerConfig]) -> Option<ListenerConfig> {
    let key = |name: &str| format!("{section}.{name}");
    let listen = reader.address(&key("listen"));
    let insecure = reader.flag(&key("insecure"));
    let cert = reader.optional_path(&key("tls.cert"));
    let private = reader.optional_path(&key("tls.key"));
    let client_ca = reader.optional_path(&key("tls.client_ca"));
    let client_required = reader.flag(&key("tls.client_required"));
    if client_required && client_ca.is_none() {
        reader.wrong(&key("tls.client_required"), "needs tls.client_ca, the CA of the clients' certificates");
    }
    let tls = match (cert, private) {
        (Some(cert), Some(key)) => Some(TlsConfig { cert, key, client_ca, client_required }),
        (None, None) => {
            if client_ca.is_some() {
                reader.wrong(&key("tls.client_ca"), "needs tls.cert and tls.key of the server besides");
            }
            None
        }
        (Some(_), None) => {
            reader.wrong(&key("tls.key"), "is missing, but tls.cert is set; name the key of that certificate");
            None
        }
        (None, Some(_)) => {
            reader.wrong(&key("tls.cert"), "is missing, but tls.key is set; name the certificate of that key");
            None
        }
    };
    let listen = listen?;
    if !listen.ip().is_loopback() && !insecure {
        if tls.is_none() {
            reader.wrong(&key("listen"), exposed("without TLS", "set tls.cert and tls.key", section));
        }
        if callers.is_empty() && reader.is_right(&["callers"]) {
            reader.wrong(&key("listen"), exposed("and no caller is configured", "add [[callers]]", section));
        }
    }
    Some(ListenerConfig { listen, insecure, tls })
}

fn envoy(reader: &Reader) -> Option<EnvoyConfig> {
    let styles = [
        ("draft", GatewayHeaders::Draft),
        ("legacy", GatewayHeaders::Legacy),
        ("both", GatewayHeaders::Both),
        ("none", GatewayHeaders::None),
    ];
    let descriptors = reader.optional_path("admission.envoy.descriptors");
    Some(EnvoyConfig { descriptors, headers: reader.choice("admission.envoy.headers", &styles)? })
}

fn exposed(how: &str, remedy: &str, section: &str) -> String {
    format!(
        "this address is not loopback {how}; {remedy}, or listen on 127.0.0.1, or set {section}.insecure = true if \
         something in front provides it"
    )
}

fn operations(reader: &Reader) -> Option<OperationsConfig> {
    let listen: Option<SocketAddr> = reader.address("operations.listen");
    let insecure = reader.flag("operations.insecure");
    let listen = listen?;
    if !listen.ip().is_loopback() && !insecure {
        let message = "this address is not loopback, and these pages have neither TLS nor callers; listen on \
                       127.0.0.1, or set operations.insecure = true if only your platform can reach them";
        reader.wrong("operations.listen", message);
    }
    Some(OperationsConfig { listen, insecure })
}

fn sisters(reader: &Reader) -> Option<SistersConfig> {
    let insecure = reader.flag("sisters.insecure");
    let ca = reader.optional_path("sisters.ca");
    let token_file = reader.optional_path("sisters.token_file");
    let [identity, admission] = ["sisters.identity", "sisters.admission"].map(|key| {
        let url = reader.parsed::<Url>(key, "http://host:port or https://host:port")?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.username().is_empty();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_bare {
            reader.wrong(key, "expected http://host:port or https://host:port, without path, query or user");
        } else if url.scheme() == "http" && !is_loopback(&url) && !insecure {
            let message = "goes over the network without TLS; use https://, or set sisters.insecure = true if \
                           something in between encrypts";
            reader.wrong(key, message);
        } else if url.scheme() == "https" && ca.is_none() {
            reader.wrong(key, "is https; name the CA that vouches for it in sisters.ca");
        }
        Some(url)
    });
    let client = match (reader.optional_path("sisters.cert"), reader.optional_path("sisters.key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            reader.wrong("sisters.key", "is missing, but sisters.cert is set");
            None
        }
        (None, Some(_)) => {
            reader.wrong("sisters.cert", "is missing, but sisters.key is set");
            None
        }
    };
    Some(SistersConfig { identity: identity?, admission: admission?, ca, client, token_file })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

fn limits(reader: &Reader) -> LimitsConfig {
    let count = |key| usize::try_from(reader.count(key, 1..=1_000_000)).unwrap_or(usize::MAX);
    let limits = LimitsConfig {
        connections: count("limits.connections"),
        header_bytes: u32::try_from(reader.size("limits.header_bytes", 1 << 12..=1 << 20)).unwrap_or(u32::MAX),
        handshake_timeout: reader.duration("limits.handshake_timeout", 100 * MS..=MINUTE),
        message_bytes: reader.size("limits.message_bytes", 1 << 10..=1 << 26),
        concurrent_streams: reader.count("limits.concurrent_streams", 1..=10_000),
        in_flight: count("limits.in_flight"),
        default_deadline: reader.duration("limits.default_deadline", 100 * MS..=HOUR),
        max_deadline: reader.duration("limits.max_deadline", 100 * MS..=HOUR),
        keepalive_interval: reader.duration("limits.keepalive_interval", SECOND..=HOUR),
        keepalive_timeout: reader.duration("limits.keepalive_timeout", SECOND..=HOUR),
    };
    let deadlines = ["limits.default_deadline", "limits.max_deadline"];
    if limits.default_deadline > limits.max_deadline && reader.is_right(&deadlines) {
        reader.wrong("limits.default_deadline", "is longer than limits.max_deadline; shorten it or raise the other");
    }
    limits
}

fn drain(reader: &Reader) -> DrainConfig {
    let drain = DrainConfig {
        grace: reader.duration("drain.grace", Duration::ZERO..=HOUR),
        hard_deadline: reader.duration("drain.hard_deadline", 100 * MS..=HOUR),
    };
    if drain.grace >= drain.hard_deadline && reader.is_right(&["drain.grace", "drain.hard_deadline"]) {
        reader
            .wrong("drain.hard_deadline", "must be longer than drain.grace, so that calls can still be ended in order");
    }
    drain
}

/// A caller known by its certificate only can't get in where no listener asks for one.
fn certificates_are_asked_for(reader: &Reader, config: &Config) {
    let listeners = [&config.identity, &config.otp, &config.connector, &config.admission];
    let asked = listeners.iter().any(|one| one.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()));
    for caller in config.callers.iter().filter(|one| matches!(one.credential, Credential::San(_)) && !asked) {
        let message = format!(
            "`{}` is known by a certificate, but no listener asks for one; set tls.client_ca of the listeners it calls",
            caller.name
        );
        reader.wrong("callers", message);
    }
}
