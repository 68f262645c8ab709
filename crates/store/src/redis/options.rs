//! How to reach a Redis and what to ask of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::redis::io::tcp::TcpSettings;
use ::redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates,
};
use safeconduct_types::{Clock, SecretText};

use crate::StoreError;

/// How a Redis is reached and trusted.
///
/// Each service needs a user of its own with these rights (Redis 7; `{*}:*` are the keys of the store, so a service may
/// share its Redis with other programs):
///
/// ```text
/// user NAME on >PASSWORD ~{*}:* resetchannels -@all +eval +evalsha +mget +set +time +info +config|get
/// ```
///
/// and besides `+wait` with [`Durability::Replicated`], `+cluster|slots +asking` on a cluster, `+client|setinfo` to be
/// told apart in `CLIENT LIST`, and whatever the scripts of the service call. Without `config|get` whether the server
/// persists is judged by `INFO` alone, and a restart counts as one that may have lost something. A user of the
/// Sentinels needs `+sentinel|get-master-addr-by-name`.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Which servers.
    pub servers: RedisServers,
    /// The ACL user of the servers that hold data, unless the URL names one.
    pub user: Option<String>,
    /// The user's password (the `default` user's without [`RedisOptions::user`]).
    pub password: Option<SecretText>,
    /// Whether servers found by Sentinels or in a cluster are spoken to over TLS; a standalone URL says it itself.
    pub tls: bool,
    /// Certificates (PEM) that may have signed the servers'; the system's if `None`. Only with TLS.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate chain and its key (PEM). Only with TLS.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Longest time to find the server, connect, sign in and check it.
    pub connect_timeout: Duration,
    /// Longest time for a call, its repeat on a new connection and the wait for replicas included.
    pub reply_timeout: Duration,
    /// When a write is answered.
    pub durability: Durability,
    /// How long writes are refused after a server has taken over that may lack what its predecessor had acknowledged:
    /// at least the longest lease, so that whatever was promised and forgotten has ended. Zero: not at all.
    pub recovery_hold: Duration,
    /// Whether a server that was restarted may have lost something if it does not write its log to disk before it
    /// answers (`appendfsync` is not `always`). It may: up to a second.
    pub hold_after_restart: bool,
    /// Write even to a server that evicts, persists nothing or has lost its past.
    pub allow_unsafe: bool,
    /// Decides the time instead of the server's clock. For tests.
    pub clock: Option<Arc<dyn Clock>>,
}

/// Where the servers are.
#[derive(Clone, Debug)]
pub enum RedisServers {
    /// One server: `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS.
    Standalone {
        /// Its address.
        url: SecretText,
    },
    /// The master that Sentinels name; another one after a fail-over.
    Sentinel {
        /// Of the Sentinels: `host` or `host:port`, port 26379 if there is none.
        addresses: Vec<String>,
        /// By which name they know it.
        master: String,
        /// The user of the Sentinels themselves.
        user: Option<String>,
        /// That user's password.
        password: Option<SecretText>,
        /// Whether the Sentinels are spoken to over TLS.
        tls: bool,
    },
    /// A cluster: each slot has a master.
    Cluster {
        /// Of some of its servers: `host` or `host:port`, port 6379 if there is none.
        addresses: Vec<String>,
    },
}

/// When a write is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As soon as the master has it. A fail-over can lose the newest writes; writes are then refused for
    /// [`RedisOptions::recovery_hold`].
    Local,
    /// When all replicas have it as well, so that whichever takes over knows it.
    Replicated {
        /// How many replicas each master has.
        replicas: u16,
        /// How long to wait for them. A write that they have not acknowledged by then is not answered as done, and
        /// while they acknowledge nothing writes are refused at once.
        timeout: Duration,
    },
}

impl RedisOptions {
    /// The defaults for one server: 1 s to connect, 2 s for a call, 10 min of hold, safe.
    pub fn new(url: SecretText) -> Self {
        Self::of(RedisServers::Standalone { url })
    }

    /// The same for these servers.
    pub fn of(servers: RedisServers) -> Self {
        Self {
            servers,
            user: None,
            password: None,
            tls: false,
            ca_file: None,
            certificate: None,
            connect_timeout: Duration::from_secs(1),
            reply_timeout: Duration::from_secs(2),
            durability: Durability::Local,
            recovery_hold: Duration::from_mins(10),
            hold_after_restart: true,
            allow_unsafe: false,
            clock: None,
        }
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// `host`, `host:port`, `[::1]:port`, or `::1`.
    pub(super) fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()?),
            Some(_) | None => (text, default_port),
        };
        let host = host.strip_prefix('[').map_or(Some(host), |host| host.strip_suffix(']'))?;
        let is_clean = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/@?#[]".contains(c));
        is_clean.then(|| Self::new(host, port))
    }

    /// Where a server sends its callers: `host:port`, an IPv6 host without brackets; or `:port`, on the same host.
    pub(super) fn redirected(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::new(host, port.parse().ok()?))
    }

    /// On this host, if it has none of its own.
    pub(super) fn beside(&self, other: &Self) -> Self {
        if self.host.is_empty() { Self::new(&other.host, self.port) } else { self.clone() }
    }
}

/// How to speak to servers of one kind.
#[derive(Clone)]
pub(super) struct Reach {
    settings: RedisConnectionInfo,
    tls: Option<TlsCertificates>,
}

impl Reach {
    fn new(user: Option<&str>, password: Option<&SecretText>, tls: Option<TlsCertificates>) -> Self {
        let mut settings = RedisConnectionInfo::default();
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
        if let Some(password) = password {
            settings = settings.set_password(password.expose());
        }
        Self { settings, tls }
    }

    /// A client for the server at this address.
    pub(super) fn client(&self, address: &Address) -> Result<Client, StoreError> {
        // The client's own error could quote what it was given.
        let cannot = |_| invalid("the address of Redis cannot be used");
        let (host, port) = (address.host.to_string(), address.port);
        let address = match &self.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        };
        let info: ConnectionInfo = address.into_connection_info().map_err(cannot)?;
        let info = info
            .set_redis_settings(self.settings.clone())
            // Many calls share the connection: none may wait for the acknowledgement of another.
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        match &self.tls {
            Some(tls) if tls.root_cert.is_some() || tls.client_tls.is_some() => {
                Client::build_with_tls(info, tls.clone())
                    .map_err(|_| invalid("a certificate file for Redis holds no PEM certificate or key"))
            }
            Some(_) | None => Client::open(info).map_err(cannot),
        }
    }
}

/// Where the servers are, and how to speak to them.
pub(super) enum Route {
    Standalone(Address, Reach),
    Sentinel { sentinels: Vec<Address>, to_sentinels: Reach, master: String, to_master: Reach },
    Cluster(Vec<Address>, Reach),
}

impl Route {
    /// Checks the options and reads the files that they name.
    pub(super) async fn of(options: &RedisOptions) -> Result<Self, StoreError> {
        if let Durability::Replicated { replicas, timeout } = options.durability {
            if replicas == 0 {
                return Err(invalid("replicated durability needs at least one replica"));
            }
            if timeout.is_zero() || timeout >= options.reply_timeout {
                return Err(invalid("the time to wait for replicas must be shorter than the reply time-out"));
            }
        }
        let (user, password) = (options.user.as_deref(), options.password.as_ref());
        let needs_password = "a user of Redis needs a password besides";
        if user.is_some() && password.is_none() {
            return Err(invalid(needs_password));
        }
        match &options.servers {
            RedisServers::Standalone { url } => {
                let (address, reach, tls) = Self::url(url, user, password)?;
                let tls = certificates(options, tls).await?;
                Ok(Self::Standalone(address, Reach { tls, ..reach }))
            }
            RedisServers::Sentinel { addresses, master, user: own_user, password: own_password, tls } => {
                if own_user.is_some() && own_password.is_none() {
                    return Err(invalid(needs_password));
                }
                let files = certificates(options, options.tls || *tls).await?;
                let reach = |user, password, tls| Reach::new(user, password, files.clone().filter(|_| tls));
                Ok(Self::Sentinel {
                    sentinels: parse(addresses, 26379)?,
                    to_sentinels: reach(own_user.as_deref(), own_password.as_ref(), *tls),
                    master: master.clone(),
                    to_master: reach(user, password, options.tls),
                })
            }
            RedisServers::Cluster { addresses } => {
                let tls = certificates(options, options.tls).await?;
                Ok(Self::Cluster(parse(addresses, 6379)?, Reach::new(user, password, tls)))
            }
        }
    }

    fn url(
        url: &SecretText,
        user: Option<&str>,
        password: Option<&SecretText>,
    ) -> Result<(Address, Reach, bool), StoreError> {
        let url = url.expose();
        if !url.starts_with("redis://") && !url.starts_with("rediss://") {
            return Err(invalid("the url of Redis begins with redis:// or rediss://"));
        }
        if url.contains('#') {
            return Err(invalid("the url of Redis has no fragment; a `#` in the password is written %23"));
        }
        let info = url.into_connection_info().map_err(|_| invalid("the url of Redis cannot be read"))?;
        #[allow(clippy::wildcard_enum_match_arm, reason = "the client's enum is not exhaustive")]
        let (host, port, tls) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (host, *port, false),
            ConnectionAddr::TcpTls { host, port, .. } => (host, *port, true),
            _ => return Err(invalid("the url of Redis names a host")),
        };
        let named = info.redis_settings();
        if password.is_some() && (named.password().is_some() || named.username().is_some()) {
            return Err(invalid("the url of Redis names a user or a password, and so do the other settings"));
        }
        let settings = match password {
            Some(_) => Reach::new(user, password, None).settings.set_db(named.db()),
            None => named.clone(),
        };
        Ok((Address::new(host, port), Reach { settings, tls: None }, tls))
    }
}

fn parse(addresses: &[String], default_port: u16) -> Result<Vec<Address>, StoreError> {
    if addresses.is_empty() {
        return Err(invalid("Redis needs at least one address"));
    }
    let parsed = addresses.iter().map(|text| Address::parse(text, default_port)).collect::<Option<_>>();
    parsed.ok_or(invalid("an address of Redis is not of the form host:port"))
}

async fn certificates(options: &RedisOptions, tls: bool) -> Result<Option<TlsCertificates>, StoreError> {
    if !tls {
        return match (&options.ca_file, &options.certificate) {
            (None, None) => Ok(None),
            _ => Err(invalid("certificate files need a Redis that is spoken to over TLS")),
        };
    }
    // Errs if the process has chosen a provider already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let root_cert = match &options.ca_file {
        Some(path) => Some(read(path, "ca_file").await?),
        None => None,
    };
    let client_tls = match &options.certificate {
        Some((cert, key)) => Some(ClientTlsConfig {
            client_cert: read(cert, "client's certificate").await?,
            client_key: read(key, "client's key").await?,
        }),
        None => None,
    };
    Ok(Some(TlsCertificates { client_tls, root_cert }))
}

async fn read(path: &Path, what: &str) -> Result<Vec<u8>, StoreError> {
    let read = tokio::fs::read(path).await;
    read.map_err(|error| StoreError::Invalid(format!("cannot read the {what} for Redis: {error}").into()))
}

fn invalid(why: &'static str) -> StoreError {
    StoreError::Invalid(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_people_write_them() {
        for (text, host, port) in [
            ("redis", "redis", 6379),
            ("10.0.0.1:7000", "10.0.0.1", 7000),
            ("[::1]:7000", "::1", 7000),
            ("[::1]", "::1", 6379),
            ("fe80::1", "fe80::1", 6379),
        ] {
            assert_eq!(Address::parse(text, 6379), Some(Address::new(host, port)), "{text}");
        }
        for text in ["", ":1", "a:b", "a:70000", "redis://a", "u@a", "a b", "[::1"] {
            assert_eq!(Address::parse(text, 6379), None, "{text}");
        }
    }
}
