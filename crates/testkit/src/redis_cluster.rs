//! A cluster of three masters with a replica each, of the test's own.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::redis::{Extras, LONGEST, free_ports, retry};
use crate::{Redis, until};

/// How many masters; each has one replica.
const MASTERS: usize = 3;

/// A fourth master that has no slot yet, where there is one.
const SPARE: usize = 2 * MASTERS;

const SLOTS: usize = 16_384;

/// After how many milliseconds without a word a server is given up.
const NODE_TIMEOUT: &str = "1000";

/// Three masters and three replicas. The first three servers were masters at the start; each has every write on disk
/// before it answers. All end with this value.
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<Redis>,
}

impl RedisCluster {
    /// Starts the cluster and waits until every server sees every other.
    pub async fn start() -> anyhow::Result<Self> {
        retry(async || Self::attempt(Extras::default(), SPARE).await).await
    }

    /// As `start`, with one more master, [`RedisCluster::spare`], that has no slot.
    pub async fn start_with_spare() -> anyhow::Result<Self> {
        retry(async || Self::attempt(Extras::default(), SPARE + 1).await).await
    }

    /// As `start`, and they speak TLS to each other and to their clients; see [`Redis::start_tls`].
    pub async fn start_tls(certificates: &Path) -> anyhow::Result<Self> {
        let extras = Extras { certificates: Some(certificates.to_owned()), ..Extras::default() };
        retry(async || Self::attempt(extras.clone(), SPARE).await).await
    }

    async fn attempt(extras: Extras, count: usize) -> anyhow::Result<Self> {
        let free = free_ports(3 * count)?;
        let (plain, free) = free.split_at(count);
        let (tls, buses) = free.split_at(count);
        let is_tls = extras.certificates.is_some();
        let known = if is_tls { tls } else { plain };
        let mut servers = Vec::with_capacity(count);
        for (own, ((port, tls), bus)) in plain.iter().zip(tls).zip(buses).enumerate() {
            let folder = tempfile::tempdir()?;
            // They know each other from the beginning, so that nobody waits for gossip.
            std::fs::write(folder.path().join("nodes.conf"), nodes(known, buses, own)?)?;
            let bus = bus.to_string();
            let settings = [
                &["--appendonly", "yes", "--appendfsync", "always", "--cluster-enabled", "yes"][..],
                &["--cluster-config-file", "nodes.conf", "--cluster-node-timeout", NODE_TIMEOUT],
                &["--cluster-port", &bus, "--cluster-replica-validity-factor", "0"],
                &["--cluster-require-full-coverage", "no", "--cluster-allow-replica-migration", "no"],
                if is_tls { &["--tls-cluster", "yes"] } else { &[] },
            ];
            let settings = settings.concat().iter().map(ToString::to_string).collect();
            servers.push(Redis::start_in(folder, &[*port, *tls], settings, extras.clone()).await?);
        }
        let cluster = Self { servers };
        cluster.until_well().await?;
        Ok(cluster)
    }

    /// Waits until all servers say that the cluster is well and all replicas have caught up.
    pub async fn until_well(&self) -> anyhow::Result<()> {
        until("a cluster to be well", LONGEST, async || {
            for server in &self.servers {
                let Ok(info) = server.command::<String>(&["CLUSTER", "INFO"]).await else { return Ok(None) };
                if !info.contains("cluster_state:ok") || !info.contains("cluster_slots_ok:16384") {
                    return Ok(None);
                }
                let is_replica = server.info("role").await? == "slave";
                if is_replica && server.info("master_link_status").await? != "up" {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await
    }

    /// `host:port` of each server, as they know each other.
    pub fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|one| format!("127.0.0.1:{}", one.known_port())).collect()
    }

    /// The settings of the suite that lead here: environment variables.
    pub fn settings(&self) -> Vec<(String, String)> {
        let settings = [
            ("SAFECONDUCT_STORE__KIND", "redis".to_owned()),
            ("SAFECONDUCT_STORE__CLUSTER__ADDRESSES", self.addresses().join(",")),
        ];
        settings.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// A server.
    pub fn server(&self, index: usize) -> anyhow::Result<&Redis> {
        self.servers.get(index).context("no such server")
    }

    /// The same, to kill or to restart.
    pub fn server_mut(&mut self, index: usize) -> anyhow::Result<&mut Redis> {
        self.servers.get_mut(index).context("no such server")
    }

    /// The master without a slot, if it was started with one.
    pub const fn spare(&self) -> usize {
        SPARE
    }

    /// Which server is now the master of this key's slot.
    pub async fn master_of(&self, key: &str) -> anyhow::Result<usize> {
        for (index, server) in self.servers.iter().enumerate() {
            // One that has not the slot says where it is; a replica says so too.
            if server.command::<Option<String>>(&["GET", key]).await.is_ok() {
                return Ok(index);
            }
        }
        anyhow::bail!("no server has the slot of that key")
    }

    /// The replica that this master had at the start, or the other way round.
    pub fn partner(&self, index: usize) -> usize {
        (index + MASTERS) % (2 * MASTERS)
    }

    /// Lets the partner of this master take over while the master is well.
    pub async fn fail_over(&self, master: usize) -> anyhow::Result<()> {
        let replica = self.server(self.partner(master))?;
        let answer: String = replica.command(&["CLUSTER", "FAILOVER"]).await?;
        ensure!(answer == "OK", "{answer}");
        Ok(())
    }

    /// Waits until this server is a master with slots.
    pub async fn until_master(&self, index: usize) -> anyhow::Result<()> {
        let server = self.server(index)?;
        until("a replica to take over", LONGEST, async || {
            Ok(server.info("role").await.is_ok_and(|role| role == "master").then_some(()))
        })
        .await
    }

    /// Moves one slot from one master to another, with all that is in it, in steps; `between` runs half way, when the
    /// slot is open on both sides.
    pub async fn move_slot(
        &self,
        slot: u16,
        (from, to): (usize, usize),
        between: impl AsyncFnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.open_slot(slot, (from, to)).await?;
        between().await?;
        self.carry_slot(slot, (from, to)).await?;
        self.close_slot(slot, (from, to)).await
    }

    /// The first step: opens the slot on both sides.
    pub async fn open_slot(&self, slot: u16, (from, to): (usize, usize)) -> anyhow::Result<()> {
        let (source, target) = (self.server(from)?, self.server(to)?);
        let slot = slot.to_string();
        let set = ["CLUSTER", "SETSLOT", &slot];
        // Refused until word has come that the other one is a master, which may have happened just now.
        until("two masters to know each other as such", LONGEST, async || {
            let importing = target.command::<String>(&[&set[..], &["IMPORTING", &id(from)]].concat()).await;
            let migrating = source.command::<String>(&[&set[..], &["MIGRATING", &id(to)]].concat()).await;
            Ok((importing.is_ok() && migrating.is_ok()).then_some(()))
        })
        .await
    }

    /// The second step: moves what is in it.
    pub async fn carry_slot(&self, slot: u16, (from, to): (usize, usize)) -> anyhow::Result<()> {
        let (source, to_port) = (self.server(from)?, self.server(to)?.port().to_string());
        let slot = slot.to_string();
        loop {
            let keys: Vec<String> = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let head = ["MIGRATE", "127.0.0.1", &to_port, "", "0", "5000", "KEYS"];
            source.command::<String>(&[&head[..], &keys].concat()).await?;
        }
    }

    /// The last step: tells both sides whose it is.
    pub async fn close_slot(&self, slot: u16, (from, to): (usize, usize)) -> anyhow::Result<()> {
        let slot = slot.to_string();
        for server in [to, from] {
            self.server(server)?.command::<String>(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]).await?;
        }
        Ok(())
    }
}

fn id(index: usize) -> String {
    format!("{:040x}", index + 1)
}

/// The map that a server starts with.
fn nodes(ports: &[u16], buses: &[u16], own: usize) -> anyhow::Result<String> {
    let mut lines = String::new();
    for (index, (port, bus)) in ports.iter().zip(buses).enumerate() {
        let myself = if index == own { "myself," } else { "" };
        let master = index % MASTERS;
        let epoch = if index == SPARE { MASTERS + 1 } else { master + 1 };
        let (role, slots) = if index == SPARE {
            ("master -".to_owned(), String::new())
        } else if index == master {
            let slots = format!(" {}-{}", SLOTS * master / MASTERS, SLOTS * (master + 1) / MASTERS - 1);
            ("master -".to_owned(), slots)
        } else {
            (format!("slave {}", id(master)), String::new())
        };
        writeln!(lines, "{} 127.0.0.1:{port}@{bus} {myself}{role} 0 0 {epoch} connected{slots}", id(index))?;
    }
    writeln!(lines, "vars currentEpoch {} lastVoteEpoch 0", MASTERS + 1)?;
    Ok(lines)
}
