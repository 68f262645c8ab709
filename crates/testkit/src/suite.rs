//! The suite as real processes: all four services in one, or each in its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::process::{command, run};
use crate::{Caller, Process, Redis, RedisCluster, RedisSentinel, Shop, ShopUser, Site, token};

/// How the services are spread over processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `serve all`.
    All,
    /// Each service a process of its own; they reach each other over TCP.
    Separate,
    /// One service, which needs no sister.
    Only(&'static str),
}

/// What the suite stores in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Files of each process.
    Embedded,
    /// A Redis of the test's own.
    Redis,
    /// A master with so many replicas, named by three Sentinels.
    Sentinel(usize),
    /// Three masters with a replica each.
    Cluster,
}

/// The servers that a suite stores in; they end with it.
#[derive(Debug)]
pub enum Servers {
    /// There are none, or they are lost.
    None,
    /// A single one.
    One(Redis),
    /// A master that Sentinels name.
    Sentinel(RedisSentinel),
    /// A cluster.
    Cluster(RedisCluster),
}

impl Servers {
    async fn start(store: Store) -> anyhow::Result<Self> {
        Ok(match store {
            Store::Embedded => Self::None,
            Store::Redis => Self::One(Redis::start().await?),
            Store::Sentinel(replicas) => Self::Sentinel(RedisSentinel::start(replicas).await?),
            Store::Cluster => Self::Cluster(RedisCluster::start().await?),
        })
    }

    fn settings(&self) -> Vec<(String, String)> {
        match self {
            Self::None => Vec::new(),
            Self::One(redis) => {
                [("SAFECONDUCT_STORE__KIND", "redis".to_owned()), ("SAFECONDUCT_STORE__URL", redis.url())]
                    .map(|(name, value)| (name.to_owned(), value))
                    .to_vec()
            }
            Self::Sentinel(set) => set.settings(),
            Self::Cluster(cluster) => cluster.settings(),
        }
    }
}

/// What a test wants of its suite.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the services are spread.
    pub layout: Layout,
    /// Where they store.
    pub store: Store,
    /// Further settings: environment variables of every process.
    pub settings: Vec<(String, String)>,
    /// Further files of workspaces: name and text.
    pub workspaces: Vec<(String, String)>,
}

impl Options {
    /// This layout on this store.
    pub fn new(layout: Layout, store: Store) -> Self {
        Self { layout, store, settings: Vec::new(), workspaces: Vec::new() }
    }

    /// With a setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this text instead of the sample's workspace file; the shop's address is written in.
    #[must_use]
    pub fn workspace(self, text: &str) -> Self {
        self.file("workspace.yaml", text)
    }

    /// With a file of workspaces.
    #[must_use]
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.workspaces.push((name.to_owned(), text.to_owned()));
        self
    }
}

struct Running {
    service: &'static str,
    process: Process,
    addresses: BTreeMap<String, String>,
}

/// A running suite with its upstream.
pub struct Suite {
    options: Options,
    site: Site,
    /// The upstream.
    pub shop: Shop,
    servers: Servers,
    processes: BTreeMap<&'static str, Running>,
    // Last, so that it outlives the processes that write into it.
    folder: tempfile::TempDir,
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suite").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The services in the order in which they need each other.
const SEPARATE: [&str; 4] = ["admission", "identity", "otp", "connector"];

impl Suite {
    /// Starts everything and waits until it is ready.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        Self::start_with(options, |_| Ok(())).await
    }

    /// The same, after `prepare` has changed the configuration.
    pub async fn start_with(
        options: Options,
        prepare: impl FnOnce(&Site) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let servers = Servers::start(options.store).await?;
        Self::start_prepared(options, servers, prepare).await
    }

    /// The same on these servers; `options.store` says what kind they are.
    pub async fn start_on(options: Options, servers: Servers) -> anyhow::Result<Self> {
        Self::start_prepared(options, servers, |_| Ok(())).await
    }

    async fn start_prepared(
        options: Options,
        servers: Servers,
        prepare: impl FnOnce(&Site) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let shop = Shop::start(folder.path()).await?;
        let config = Site::write(&folder.path().join("config"), shop.address())?;
        for (name, text) in &options.workspaces {
            config.workspace_file(name, &Site::with_shop(text, shop.address()))?;
        }
        prepare(&config)?;
        let mut suite = Self { options, site: config, shop, servers, processes: BTreeMap::new(), folder };
        if suite.shares_keys() {
            let keys = suite.keys();
            let made = run(&["keys", "init", "--dir", text(&keys)?], &[]).await?;
            ensure!(made.code == Some(0), "no keys: {}", made.text());
        }
        match suite.options.layout {
            Layout::All => suite.start_process("all", "all").await?,
            Layout::Separate => {
                for service in SEPARATE {
                    suite.start_process(service, service).await?;
                }
            }
            Layout::Only(service) => suite.start_process(service, service).await?,
        }
        Ok(suite)
    }

    /// The name of the process that executes: what a crash of the executor kills.
    pub fn executor(&self) -> &'static str {
        match self.options.layout {
            Layout::All => "all",
            Layout::Separate => "connector",
            Layout::Only(service) => service,
        }
    }

    /// The configuration folder.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Where a service listens now.
    pub fn address(&self, service: &str) -> anyhow::Result<String> {
        let found = self.processes.values().find_map(|one| one.addresses.get(service));
        found.cloned().with_context(|| format!("no process of the suite serves {service}"))
    }

    /// Where a process serves something.
    pub fn address_of(&self, process: &str, service: &str) -> anyhow::Result<String> {
        let found = self.processes.get(process).and_then(|one| one.addresses.get(service));
        found.cloned().with_context(|| format!("{process} does not serve {service}"))
    }

    /// The folder of a process's own data.
    pub fn data(&self, process: &str) -> PathBuf {
        self.folder.path().join("data").join(process)
    }

    /// A caller that shows this token; none if it is empty.
    pub fn caller(&self, token: &str) -> anyhow::Result<Caller> {
        Caller::new(token, |service| self.address(service))
    }

    /// The agent.
    pub fn agent(&self) -> anyhow::Result<Caller> {
        self.caller(token::AGENT)
    }

    /// The website.
    pub fn website(&self) -> anyhow::Result<Caller> {
        self.caller(token::WEBSITE)
    }

    /// An assertion of this customer that the agents may present.
    pub async fn assertion(&self, user: ShopUser) -> anyhow::Result<String> {
        Ok(self.website()?.verify(user, &["support-agent", "reader", "narrow", "elsewhere"]).await?)
    }

    /// How the suite reaches its Redis, if it has one.
    pub fn redis_url(&self) -> Option<String> {
        match &self.servers {
            Servers::One(redis) => Some(redis.url()),
            Servers::None | Servers::Sentinel(_) | Servers::Cluster(_) => None,
        }
    }

    /// What the suite stores in, to kill or to restart.
    pub fn servers(&mut self) -> &mut Servers {
        &mut self.servers
    }

    /// Kills a process without warning.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.running(name)?.process.kill()
    }

    /// Ends the servers of the suite; what they held is gone.
    pub fn lose_store(&mut self) {
        self.servers = Servers::None;
    }

    /// Asks a process to end.
    pub fn terminate(&mut self, name: &str) -> anyhow::Result<()> {
        self.running(name)?.process.terminate()
    }

    /// Waits for the end of a process.
    pub async fn exit(&mut self, name: &str, within: Duration) -> anyhow::Result<ExitStatus> {
        self.running(name)?.process.exit(within).await
    }

    /// Starts a process again that has ended, on the data that it left.
    pub async fn restart(&mut self, name: &'static str) -> anyhow::Result<()> {
        let service = self.running(name)?.service;
        self.start_process(name, service).await
    }

    /// Starts one more process of a service, under a name of its own, on the same store.
    pub async fn replicate(&mut self, service: &'static str, name: &'static str) -> anyhow::Result<()> {
        self.start_process(name, service).await
    }

    /// A caller that shows this token to this process only.
    pub fn caller_of(&self, process: &str, token: &str) -> anyhow::Result<Caller> {
        let running = self.processes.get(process).with_context(|| format!("no process {process}"))?;
        // What it does not serve, nobody answers.
        let nobody = "127.0.0.1:9".to_owned();
        Caller::new(token, |service| Ok(running.addresses.get(service).cloned().unwrap_or(nobody.clone())))
    }

    /// Everything that all processes have printed so far.
    pub fn logs(&self) -> String {
        self.processes.values().map(|one| one.process.log()).collect()
    }

    /// The operating system's number of a running process, to ask what it has cost.
    pub fn process_id(&self, name: &str) -> Option<u32> {
        self.processes.get(name).map(|one| one.process.id())
    }

    fn running(&mut self, name: &str) -> anyhow::Result<&mut Running> {
        self.processes.get_mut(name).with_context(|| format!("no process {name}"))
    }

    /// Whether key files must be there before: one process on a new embedded store makes its own.
    fn shares_keys(&self) -> bool {
        self.options.layout != Layout::All || self.options.store != Store::Embedded
    }

    /// The folder of the key files; one process on a new embedded store keeps its own elsewhere.
    pub fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    async fn start_process(&mut self, name: &'static str, service: &'static str) -> anyhow::Result<()> {
        let ready = self.folder.path().join(format!("{name}.ready"));
        // A process that was killed left its own.
        if ready.exists() {
            std::fs::remove_file(&ready)?;
        }
        let mut command = command(&crate::safeconduct()?);
        command.args(["serve", service, "--config"]).arg(self.site.folder());
        command.arg("--data-dir").arg(self.data(name));
        command.arg("--ready-file").arg(&ready).current_dir(self.folder.path());
        for service in ["IDENTITY", "OTP", "CONNECTOR", "ADMISSION", "OPERATIONS"] {
            command.env(format!("SAFECONDUCT_{service}__LISTEN"), "127.0.0.1:0");
        }
        command.envs(self.servers.settings());
        if self.shares_keys() {
            command.env("SAFECONDUCT_KEYRING_DIR", self.keys());
        }
        if service != "all" {
            command.env("SAFECONDUCT_SISTERS__TOKEN_FILE", self.site.sister_token());
            for sister in ["identity", "admission"] {
                if let Ok(address) = self.address(sister) {
                    let setting = format!("SAFECONDUCT_SISTERS__{}", sister.to_uppercase());
                    command.env(setting, format!("http://{address}"));
                }
            }
        }
        command.envs(self.options.settings.iter().map(|(name, value)| (name, value)));
        let mut process = Process::spawn(name, command, self.folder.path())?;
        let addresses = process.ready(&ready).await?;
        self.processes.insert(name, Running { service, process, addresses });
        Ok(())
    }
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is no text")
}
