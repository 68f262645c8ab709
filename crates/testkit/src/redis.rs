//! A Redis of the test's own.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use redis::{FromRedisValue, Value};

use crate::process::command;
use crate::{Process, until};

const ATTEMPTS: usize = 5;

/// Longest time for a server to come up, or for a group of them to agree.
pub(crate) const LONGEST: Duration = Duration::from_secs(20);

/// What a server does so that every write is on disk before it is answered.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// What servers of a test may have besides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    /// What `tests/tools/clock.c` makes: their clock can be set.
    pub(crate) clock: Option<PathBuf>,
    /// The folder of their certificate, see [`Redis::start_tls`].
    pub(crate) certificates: Option<PathBuf>,
}

/// A server in a folder of its own. It ends with this value.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    tls_port: Option<u16>,
    settings: Vec<String>,
    extras: Extras,
    process: Process,
    folder: tempfile::TempDir,
}

impl Redis {
    /// Starts a server that has every write on disk before it answers: the program that `TEST_REDIS_SERVER` names, or
    /// `redis-server`.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&DURABLE).await
    }

    /// Starts a server with these settings.
    pub async fn start_with(settings: &[&str]) -> anyhow::Result<Self> {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        retry(async || Self::start_in(tempfile::tempdir()?, &free_ports(2)?, settings.clone(), Extras::default()).await)
            .await
    }

    /// Starts a server that has every write on disk before it answers and also listens for TLS, where a client needs a
    /// certificate of its own. The folder has `server.pem` and `server.key`, and `ca.pem` that has signed them all.
    pub async fn start_tls(certificates: &Path) -> anyhow::Result<Self> {
        Self::start_extra(Extras { certificates: Some(certificates.to_owned()), ..Extras::default() }).await
    }

    /// Starts a server that has every write on disk before it answers, and this one for a master.
    pub async fn start_replica(&self) -> anyhow::Result<Self> {
        let master = format!("127.0.0.1 {}", self.known_port());
        let settings: Vec<_> = DURABLE.iter().chain(&["--replicaof", &master]).map(ToString::to_string).collect();
        let replica = retry(async || {
            Self::start_in(tempfile::tempdir()?, &free_ports(2)?, settings.clone(), self.extras.clone()).await
        })
        .await?;
        replica.until_replica().await?;
        Ok(replica)
    }

    /// Starts a durable server whose clock is [`Self::set_clock`]'s: `library` is what
    /// `tests/tools/clock.c` makes.
    pub async fn start_on_clock(library: &Path) -> anyhow::Result<Self> {
        Self::start_extra(Extras { clock: Some(library.to_owned()), ..Extras::default() }).await
    }

    pub(crate) async fn start_extra(extras: Extras) -> anyhow::Result<Self> {
        let settings = DURABLE.map(str::to_owned).to_vec();
        retry(async || Self::start_in(tempfile::tempdir()?, &free_ports(2)?, settings.clone(), extras.clone()).await)
            .await
    }

    /// `ports` are its own, and the one for TLS if it has certificates.
    pub(crate) async fn start_in(
        folder: tempfile::TempDir,
        ports: &[u16],
        mut settings: Vec<String>,
        extras: Extras,
    ) -> anyhow::Result<Self> {
        let [port, tls_port] = *ports else { bail!("a server has two ports") };
        if extras.clock.is_some() {
            write_clock(folder.path(), 0)?;
        }
        if let Some(certificates) = &extras.certificates {
            settings.extend(tls(certificates, tls_port));
        }
        let tls_port = extras.certificates.is_some().then_some(tls_port);
        let process = spawn(folder.path(), port, &settings, extras.clock.as_deref())?;
        let mut server = Self { port, tls_port, settings, extras, process, folder };
        server.until_ready().await?;
        Ok(server)
    }

    /// Sets its clock so many seconds ahead of the machine's, or behind; see [`Self::start_on_clock`].
    pub fn set_clock(&self, ahead: i64) -> anyhow::Result<()> {
        write_clock(self.folder.path(), ahead)
    }

    /// How the suite reaches it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port; without TLS, always.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port that others know it by: the one for TLS, if it has one.
    pub fn known_port(&self) -> u16 {
        self.tls_port.unwrap_or(self.port)
    }

    /// The operating system's number of it.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// A file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything it has printed.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    /// Starts it again, where it was, with the data that it has on disk.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = spawn(self.folder.path(), self.port, &self.settings, self.extras.clock.as_deref())?;
        self.until_ready().await
    }

    /// As `restart`, but as a replica of this server, whatever it was.
    pub async fn restart_behind(&mut self, master: u16) -> anyhow::Result<()> {
        if let Some(at) = self.settings.iter().position(|word| word == "--replicaof") {
            self.settings.drain(at..=at + 1);
        }
        self.settings.extend(["--replicaof".to_owned(), format!("127.0.0.1 {master}")]);
        self.restart().await
    }

    /// As `restart`, but does not wait until it serves: it may be loading for a while.
    pub fn restart_unready(&mut self) -> anyhow::Result<()> {
        self.process = spawn(self.folder.path(), self.port, &self.settings, self.extras.clock.as_deref())?;
        Ok(())
    }

    /// Stops it (SIGSTOP): it keeps its connections and answers nothing.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.process.signal("-STOP")
    }

    /// Lets it go on after `pause`.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.process.signal("-CONT")
    }

    /// Sends a command as an operator would.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> anyhow::Result<T> {
        let call = async {
            let mut connection = redis::Client::open(self.url())?.get_multiplexed_async_connection().await?;
            let mut command = redis::Cmd::new();
            for word in words {
                command.arg(*word);
            }
            command.query_async(&mut connection).await
        };
        let answer = tokio::time::timeout(LONGEST, call).await.context("Redis does not answer")?;
        answer.with_context(|| format!("{} to the Redis on port {}", words.join(" "), self.port))
    }

    /// A field of its INFO, empty if there is none.
    pub async fn info(&self, field: &str) -> anyhow::Result<String> {
        let info: String = self.command(&["INFO"]).await?;
        let found = info.lines().find_map(|line| line.trim_end().strip_prefix(field)?.strip_prefix(':'));
        Ok(found.unwrap_or_default().to_owned())
    }

    /// Waits until it has caught up with its master.
    pub async fn until_replica(&self) -> anyhow::Result<()> {
        until("a replica to catch up with its master", LONGEST, async || {
            let is_up = self.info("master_link_status").await.is_ok_and(|status| status == "up");
            Ok(is_up.then_some(()))
        })
        .await
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        until("Redis to answer", LONGEST, async || {
            if let Ok(status) = self.process.exit(Duration::ZERO).await {
                bail!("redis-server ended with {status}:\n{}", self.process.log());
            }
            let asked = redis::Client::open(self.url())?.get_multiplexed_async_connection().await;
            let Ok(mut connection) = asked else { return Ok(None) };
            let answer: Result<Value, _> = redis::cmd("PING").query_async(&mut connection).await;
            // It may want a password: then it is there as well.
            Ok(match answer {
                Ok(_) => Some(()),
                Err(error) => (error.code() == Some("NOAUTH")).then_some(()),
            })
        })
        .await
    }
}

/// What makes replicas follow at once.
const REPLICATION: [&str; 4] = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];

/// Tries to start something a few times: somebody may take a free port before it is bound.
pub(crate) async fn retry<T>(start: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match start().await {
            Ok(started) => return Ok(started),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no attempt was made")?)
}

/// Ports that are free now, all different.
pub(crate) fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let bound: Vec<_> = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<_, _>>()?;
    Ok(bound.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?.iter().map(SocketAddr::port).collect())
}

pub(crate) fn program() -> PathBuf {
    std::env::var_os("TEST_REDIS_SERVER").unwrap_or_else(|| OsString::from("redis-server")).into()
}

/// What a server's clock is told in: the seconds that it is ahead.
const CLOCK: &str = "clock";

/// All at once: the server may look at any moment.
fn write_clock(folder: &Path, ahead: i64) -> anyhow::Result<()> {
    let next = folder.join("clock.next");
    std::fs::write(&next, format!("{ahead}\n"))?;
    Ok(std::fs::rename(next, folder.join(CLOCK))?)
}

/// Everything that a server or a Sentinel needs to speak TLS, to clients and to its peers.
pub(crate) fn tls(certificates: &Path, port: u16) -> Vec<String> {
    let file = |name: &str| certificates.join(name).display().to_string();
    let words = [
        ("tls-port", port.to_string()),
        ("tls-cert-file", file("server.pem")),
        ("tls-key-file", file("server.key")),
        ("tls-ca-cert-file", file("ca.pem")),
        ("tls-auth-clients", "yes".to_owned()),
        ("tls-replication", "yes".to_owned()),
    ];
    words.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect()
}

fn spawn(folder: &Path, port: u16, settings: &[String], clock: Option<&Path>) -> anyhow::Result<Process> {
    let mut command = command(&program());
    if let Some(library) = clock {
        command.env("LD_PRELOAD", library).env("TEST_CLOCK_FILE", folder.join(CLOCK));
    }
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no", "--save", ""]);
    command.args(REPLICATION).arg("--dir").arg(folder).args(settings);
    Process::spawn("redis", command, folder)
        .context("Redis is needed: install redis-server, or run `make test`, which does")
}
