//! A master, its replicas and three Sentinels of the test's own.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::process::command;
use crate::redis::{Extras, LONGEST, free_ports, program, retry, tls};
use crate::{Process, Redis, until};

/// The name of the master among its Sentinels.
const NAME: &str = "suite";

/// How many Sentinels there are; two must agree.
const SENTINELS: usize = 3;

/// After how long without a word the master is given up.
const DOWN_AFTER: Duration = Duration::from_millis(500);

/// A master with replicas, watched by three Sentinels. All end with this value.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<Redis>,
    sentinels: Vec<Process>,
    ports: Vec<u16>,
    known: Vec<u16>,
    _folder: tempfile::TempDir,
}

impl RedisSentinel {
    /// Starts a master with so many replicas, all of which have every write on disk before they answer.
    pub async fn start(replicas: usize) -> anyhow::Result<Self> {
        Self::start_extra(Extras::default(), replicas).await
    }

    /// As `start`, and all speak TLS to each other and to their clients; see [`Redis::start_tls`].
    pub async fn start_tls(certificates: &Path, replicas: usize) -> anyhow::Result<Self> {
        Self::start_extra(Extras { certificates: Some(certificates.to_owned()), ..Extras::default() }, replicas).await
    }

    /// As `start`, and each server has a clock that can be set; see [`Redis::start_on_clock`].
    pub async fn start_on_clocks(library: &Path, replicas: usize) -> anyhow::Result<Self> {
        Self::start_extra(Extras { clock: Some(library.to_owned()), ..Extras::default() }, replicas).await
    }

    async fn start_extra(extras: Extras, replicas: usize) -> anyhow::Result<Self> {
        retry(async || Self::attempt(&extras, replicas).await).await
    }

    async fn attempt(extras: &Extras, replicas: usize) -> anyhow::Result<Self> {
        let master = Redis::start_extra(extras.clone()).await?;
        let mut servers = Vec::with_capacity(replicas + 1);
        for _ in 0..replicas {
            servers.push(master.start_replica().await?);
        }
        servers.insert(0, master);
        let folder = tempfile::tempdir()?;
        let free = free_ports(2 * SENTINELS)?;
        let (ports, tls_ports) = free.split_at(SENTINELS);
        let known = if extras.certificates.is_some() { tls_ports } else { ports };
        let mut sentinels = Vec::with_capacity(SENTINELS);
        for (index, (port, tls_port)) in ports.iter().zip(tls_ports).enumerate() {
            let file = folder.path().join(format!("sentinel-{index}.conf"));
            std::fs::write(&file, settings(&servers, *port, known, index))?;
            let mut command = command(&program());
            command.arg(&file).arg("--sentinel").current_dir(folder.path());
            if let Some(certificates) = &extras.certificates {
                command.args(tls(certificates, *tls_port));
            }
            sentinels.push(Process::spawn(&format!("sentinel-{index}"), command, folder.path())?);
        }
        let set = Self { servers, sentinels, ports: ports.to_vec(), known: known.to_vec(), _folder: folder };
        set.until_watched(replicas).await?;
        Ok(set)
    }

    /// Waits until all Sentinels see the master, all its replicas and each other.
    async fn until_watched(&self, replicas: usize) -> anyhow::Result<()> {
        until("three Sentinels to agree", LONGEST, async || {
            for port in &self.ports {
                let Ok(state) = ask::<Vec<String>>(*port, &["SENTINEL", "MASTER", NAME]).await else { return Ok(None) };
                let field = |name: &str| {
                    let at = state.iter().position(|word| word == name)?;
                    state.get(at + 1).cloned()
                };
                let expected = [
                    ("flags", "master".to_owned()),
                    ("num-slaves", replicas.to_string()),
                    ("num-other-sentinels", (SENTINELS - 1).to_string()),
                ];
                if expected.iter().any(|(name, value)| field(name).as_ref() != Some(value)) {
                    return Ok(None);
                }
                if ask::<String>(*port, &["SENTINEL", "CKQUORUM", NAME]).await.is_err() {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await
    }

    /// `host:port` of each Sentinel, as they know each other.
    pub fn addresses(&self) -> Vec<String> {
        self.known.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// The name of the master.
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// The settings of the suite that lead here: environment variables.
    pub fn settings(&self) -> Vec<(String, String)> {
        let settings = [
            ("SAFECONDUCT_STORE__KIND", "redis".to_owned()),
            ("SAFECONDUCT_STORE__SENTINEL__ADDRESSES", self.addresses().join(",")),
            ("SAFECONDUCT_STORE__SENTINEL__MASTER", NAME.to_owned()),
        ];
        settings.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// The server that most Sentinels name as the master.
    pub async fn master(&self) -> anyhow::Result<usize> {
        let mut votes = vec![0_usize; self.servers.len()];
        for port in &self.ports {
            let named: Result<(String, u16), _> = ask(*port, &["SENTINEL", "get-master-addr-by-name", NAME]).await;
            let index = named.ok().and_then(|(_, port)| self.servers.iter().position(|one| one.known_port() == port));
            if let Some(vote) = index.and_then(|index| votes.get_mut(index)) {
                *vote += 1;
            }
        }
        votes.iter().position(|votes| *votes > SENTINELS / 2).context("the Sentinels do not agree on a master")
    }

    /// Waits until the Sentinels name another master than this one and it is one.
    pub async fn until_failed_over(&self, from: usize) -> anyhow::Result<usize> {
        until("another master", LONGEST, async || {
            let Ok(master) = self.master().await else { return Ok(None) };
            let server = self.server(master)?;
            let is_master = master != from && server.info("role").await.is_ok_and(|role| role == "master");
            Ok(is_master.then_some(master))
        })
        .await
    }

    /// Asks for a fail-over while the master is well.
    pub async fn fail_over(&self) -> anyhow::Result<()> {
        let port = *self.ports.first().context("no Sentinel")?;
        ask::<String>(port, &["SENTINEL", "FAILOVER", NAME]).await.map(drop)
    }

    /// Sends a command to all Sentinels.
    pub async fn command_sentinels(&self, words: &[&str]) -> anyhow::Result<()> {
        for port in &self.ports {
            ask::<redis::Value>(*port, words).await?;
        }
        Ok(())
    }

    /// A server; the first was the master at the start.
    pub fn server(&self, index: usize) -> anyhow::Result<&Redis> {
        self.servers.get(index).context("no such server")
    }

    /// The same, to kill or to restart.
    pub fn server_mut(&mut self, index: usize) -> anyhow::Result<&mut Redis> {
        self.servers.get_mut(index).context("no such server")
    }

    /// Everything that the Sentinels have printed.
    pub fn log(&self) -> String {
        self.sentinels.iter().map(Process::log).collect()
    }
}

/// The file of one Sentinel. All is known from the beginning, so that nobody waits for discovery.
fn settings(servers: &[Redis], plain: u16, ports: &[u16], own: usize) -> String {
    let id = |index: usize| format!("{:040x}", index + 1);
    let port = |index: usize| ports.get(index).copied().unwrap_or_default();
    let master = servers.first().map(Redis::known_port).unwrap_or_default();
    let mut lines = vec![
        format!("port {plain}"),
        "bind 127.0.0.1".to_owned(),
        format!("sentinel myid {}", id(own)),
        format!("sentinel monitor {NAME} 127.0.0.1 {master} 2"),
        format!("sentinel down-after-milliseconds {NAME} {}", DOWN_AFTER.as_millis()),
        format!("sentinel failover-timeout {NAME} 3000"),
    ];
    lines.extend(
        servers.iter().skip(1).map(|one| format!("sentinel known-replica {NAME} 127.0.0.1 {}", one.known_port())),
    );
    let others = (0..ports.len()).filter(|other| *other != own);
    lines.extend(others.map(|other| format!("sentinel known-sentinel {NAME} 127.0.0.1 {} {}", port(other), id(other))));
    lines.join("\n") + "\n"
}

async fn ask<T: redis::FromRedisValue>(port: u16, words: &[&str]) -> anyhow::Result<T> {
    let client = redis::Client::open(("127.0.0.1", port))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    Ok(command.query_async(&mut connection).await?)
}
