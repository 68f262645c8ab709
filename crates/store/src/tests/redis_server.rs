//! A Redis of the test's own.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use safeconduct_types::{ManualClock, SecretText};

use crate::{RedisOptions, RedisRecords, StoreError};

const ATTEMPTS: usize = 5;

/// A server process in a folder of its own; it ends with this value.
pub(super) struct RedisServer {
    folder: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
    process: Child,
}

impl RedisServer {
    /// A server that has every write on disk before it answers.
    pub(super) fn start() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"], |_| Vec::new())
    }

    /// A server with these settings and those that `more` makes of its folder.
    pub(super) fn start_with(settings: &[&str], more: impl FnOnce(&std::path::Path) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        settings.extend(more(folder.path()));
        for _ in 0..ATTEMPTS {
            // Somebody may take the port between the two; then the server ends, and the next port is tried.
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            if let Some(process) = spawn(folder.path(), port, &settings) {
                return Self { folder, port, settings, process };
            }
        }
        panic!("redis-server does not start; is it installed? (TEST_REDIS_SERVER, PATH)");
    }

    /// Kills the server without warning.
    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, where it was, with the data that it has on disk.
    pub(super) fn restart(&mut self) {
        self.process = spawn(self.folder.path(), self.port, &self.settings).expect("redis-server starts again");
    }

    /// Stops or continues the process: a stopped one keeps its connections and answers nothing.
    pub(super) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    pub(super) fn options(&self) -> RedisOptions {
        let mut options = RedisOptions::new(SecretText::new(format!("redis://127.0.0.1:{}", self.port)));
        options.connect_timeout = Duration::from_secs(10);
        options.reply_timeout = Duration::from_secs(10);
        options
    }

    pub(super) fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) async fn connect(&self, clock: Option<Arc<ManualClock>>) -> Result<RedisRecords, StoreError> {
        let mut options = self.options();
        options.clock = clock.map(|clock| clock as _);
        RedisRecords::connect(options).await
    }

    /// Sends a command as an operator would.
    pub(super) async fn command(&self, words: &[&str]) {
        let client = ::redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = ::redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query_async::<::redis::Value>(&mut connection).await.unwrap();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the server and waits until it says that it is ready; `None` if it ends before.
fn spawn(folder: &std::path::Path, port: u16, settings: &[String]) -> Option<Child> {
    let program = std::env::var_os("TEST_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
    let mut process = Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(folder)
        .args(["--save", "", "--daemonize", "no", "--logfile", ""])
        .args(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut lines = BufReader::new(process.stdout.take()?).lines();
    let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("Ready to accept connections"));
    if !ready {
        let _ = process.wait();
        return None;
    }
    // Nobody reads its log further, but a closed pipe would end it.
    std::thread::spawn(move || lines.for_each(drop));
    Some(process)
}
