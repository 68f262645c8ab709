//! A Redis of the test's own.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::command;
use crate::{Process, until};

const ATTEMPTS: usize = 5;

/// A server in a folder of its own that has every write on disk before it answers.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// Starts a server: the program that `TEST_REDIS_SERVER` names, or `redis-server`.
    pub async fn start() -> anyhow::Result<Self> {
        let program = std::env::var_os("TEST_REDIS_SERVER").unwrap_or_else(|| OsString::from("redis-server"));
        let program = PathBuf::from(program);
        let mut last = None;
        for _ in 0..ATTEMPTS {
            // Somebody may take the port between the two; then the server ends, and the next port is tried.
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            let folder = tempfile::tempdir()?;
            let mut command = command(&program);
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no", "--save", ""]);
            command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(folder.path());
            let mut process = Process::spawn("redis", command, folder.path())
                .context("Redis is needed: install redis-server, or run `make test`, which does")?;
            let answering = until("Redis to answer", Duration::from_secs(10), async || {
                if let Ok(status) = process.exit(Duration::ZERO).await {
                    bail!("redis-server ended with {status}:\n{}", process.log());
                }
                Ok(answers(port).await.then_some(()))
            });
            match answering.await {
                Ok(()) => return Ok(Self { port, _process: process, _folder: folder }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt was made")?)
    }

    /// How the suite reaches it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

async fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    let mut answer = [0; 7];
    stream.write_all(b"PING\r\n").await.is_ok()
        && stream.read_exact(&mut answer).await.is_ok()
        && answer.starts_with(b"+PONG")
}
