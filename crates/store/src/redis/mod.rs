//! Records on Redis: two scripts over one connection that many calls share.

mod fault;
mod inspect;
mod link;
mod scripts;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, TlsCertificates, Value};
use async_trait::async_trait;
use safeconduct_types::{Clock, OperationId, SecretText};

use crate::record::{check_commit, check_read};
use crate::steady::Steady;
use crate::trace::traced;
use crate::{Change, Committed, RecordKey, Records, Slot, Snapshot, StoreError};
use fault::Fault;
use link::{Link, Use};
use scripts::Scripts;

/// Calls that may be queued on the connection; the client's own 50 makes a burst wait in line twice.
const PIPELINE: usize = 1024;

/// How to reach a Redis and what to ask of it.
///
/// The ACL user needs, on all keys: `eval`, `evalsha`, `script|load`, `mget`, `set`, `time`, `info`, `ping`, and
/// if possible `config|get`.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS.
    pub url: SecretText,
    /// Certificates (PEM) that may have signed the server's; the system's if `None`. Only with `rediss://`.
    pub ca_file: Option<PathBuf>,
    /// Longest time to connect, sign in and check the server.
    pub connect_timeout: Duration,
    /// Longest time for a call, its one repeat on a new connection included.
    pub reply_timeout: Duration,
    /// Write even to a server that evicts or persists nothing.
    pub allow_unsafe: bool,
    /// Decides the time instead of the server's clock. For tests.
    pub clock: Option<Arc<dyn Clock>>,
}

impl RedisOptions {
    /// The defaults for this URL: 1 s to connect, 2 s for a call, safe.
    pub fn new(url: SecretText) -> Self {
        Self {
            url,
            ca_file: None,
            connect_timeout: Duration::from_secs(1),
            reply_timeout: Duration::from_secs(2),
            allow_unsafe: false,
            clock: None,
        }
    }
}

/// Records on one Redis server.
///
/// A lost connection is mended in the background; calls that come meanwhile wait for the first attempt, and once
/// that has failed they fail at once until the server is back. Reads are served by a server that is not safe to
/// write to; commits are not.
pub struct RedisRecords {
    link: Link,
    scripts: Scripts,
    steady: Steady,
    reply_timeout: Duration,
    clock: Option<Arc<dyn Clock>>,
}

impl RedisRecords {
    /// Connects, checks the server, and keeps the connection from then on. Fails if the first attempt does.
    pub async fn connect(options: RedisOptions) -> Result<Self, StoreError> {
        let dialer = Dialer {
            client: client(&options).await?,
            timeout: options.connect_timeout,
            allow_unsafe: options.allow_unsafe,
        };
        Ok(Self {
            link: Link::open(dialer).await?,
            scripts: Scripts::new(),
            steady: Steady::new(),
            reply_timeout: options.reply_timeout,
            clock: options.clock,
        })
    }

    /// Runs a script, once more if the connection broke: both scripts may run twice.
    async fn run(&self, script: &::redis::ScriptInvocation<'_>, purpose: Use) -> Result<Value, StoreError> {
        // On which connection it was last sent, and whether an attempt may have been carried out unseen.
        let mut sent_on = None;
        let mut in_doubt = false;
        let call = async {
            let mut repeat = true;
            loop {
                let mut up = self.link.get(purpose).await?;
                sent_on = Some(up.generation);
                let error = match script.invoke_async(&mut up.connection).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                let why = match Fault::of(&error) {
                    Fault::Refused(error) => return Err(error),
                    Fault::Demoted(why) => why,
                    Fault::Lost(why) => {
                        in_doubt = true;
                        why
                    }
                };
                self.link.lost(up.generation, &why);
                sent_on = None;
                if !std::mem::take(&mut repeat) {
                    return Err(why);
                }
            }
        };
        let error = match tokio::time::timeout(self.reply_timeout, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => {
                let why = StoreError::Unavailable("no reply within the reply time-out".into());
                if let Some(generation) = sent_on {
                    in_doubt = true;
                    self.link.lost(generation, &why);
                }
                why
            }
        };
        if let StoreError::Unavailable(why) = error {
            let unseen = in_doubt && purpose == Use::Write;
            return Err(if unseen { StoreError::Unanswered(why) } else { StoreError::Unavailable(why) });
        }
        Err(error)
    }

    #[cfg(test)]
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }
}

impl fmt::Debug for RedisRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRecords").finish_non_exhaustive()
    }
}

#[async_trait]
impl Records for RedisRecords {
    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        traced("redis", "read", keys.len(), async {
            check_read(slot, keys)?;
            let script = self.scripts.read(keys, self.clock.as_deref());
            scripts::snapshot(self.run(&script, Use::Read).await?, keys.len(), &self.steady)
        })
        .await
    }

    async fn commit(&self, slot: &Slot, operation: OperationId, changes: &[Change]) -> Result<Committed, StoreError> {
        traced("redis", "commit", changes.len(), async {
            check_commit(slot, changes)?;
            let script = self.scripts.commit(operation, changes, self.clock.as_deref(), &self.steady);
            scripts::committed(self.run(&script, Use::Write).await?, &self.steady)
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        traced("redis", "ping", 0, self.link.ping(self.reply_timeout)).await
    }
}

async fn client(options: &RedisOptions) -> Result<Client, StoreError> {
    let invalid = |why: &'static str| StoreError::Invalid(why.into());
    let url = options.url.expose();
    if !url.starts_with("redis://") && !url.starts_with("rediss://") {
        return Err(invalid("the url of Redis begins with redis:// or rediss://"));
    }
    if url.contains('#') {
        return Err(invalid("the url of Redis has no fragment; a `#` in the password is written %23"));
    }
    // The client's own error could quote the URL.
    let info = url.into_connection_info().map_err(|_| invalid("the url of Redis cannot be read"))?;
    let tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    if tls {
        // Errs if the process has chosen a provider already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    match &options.ca_file {
        Some(_) if !tls => Err(invalid("a ca_file needs a rediss:// url")),
        Some(path) => {
            let pem = tokio::fs::read(path)
                .await
                .map_err(|error| StoreError::Invalid(format!("cannot read the ca_file: {error}").into()))?;
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(pem) })
                .map_err(|_| invalid("the ca_file holds no PEM certificate"))
        }
        None => Client::open(info).map_err(|_| invalid("the url of Redis cannot be used")),
    }
}

/// Makes connections that have been checked.
#[derive(Clone)]
pub(crate) struct Dialer {
    client: Client,
    timeout: Duration,
    allow_unsafe: bool,
}

impl Dialer {
    /// A connection, and what makes its server unsafe to write to.
    async fn dial(&self) -> Result<(MultiplexedConnection, Option<StoreError>), StoreError> {
        // Our own time-outs cover whole calls.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE);
        let dial = async {
            let mut connection = self
                .client
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map_err(|error| StoreError::from(Fault::of(&error)))?;
            let hazard = self.inspect(&mut connection).await?;
            Ok((connection, hazard))
        };
        tokio::time::timeout(self.timeout, dial)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("no connection within the connect time-out".into())))
    }

    async fn inspect(&self, connection: &mut MultiplexedConnection) -> Result<Option<StoreError>, StoreError> {
        let hazard = inspect::inspect(connection).await?;
        Ok(if self.allow_unsafe { None } else { hazard })
    }
}
