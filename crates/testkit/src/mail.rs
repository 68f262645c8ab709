//! Where codes arrive: a real mail server, and somebody's API.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use crate::process::command;
use crate::{Process, until};

/// How long a message may take to arrive: a debug build on a busy machine, and a retry or two.
const ARRIVES: Duration = Duration::from_secs(90);

/// A mail that arrived.
#[derive(Clone, Debug, Deserialize)]
pub struct Mail {
    /// Envelope recipients.
    pub to: Vec<String>,
    /// Headers by name.
    pub headers: Vec<(String, String)>,
    /// The part without markup.
    pub text: String,
    /// The part with markup.
    pub html: String,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Whom the client signed in as.
    pub login: Option<String>,
}

impl Mail {
    /// The first six digits in a row of the text.
    pub fn code(&self) -> anyhow::Result<String> {
        code_in(&self.text)
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The first six digits in a row.
fn code_in(text: &str) -> anyhow::Result<String> {
    let found = text.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 6);
    found.map(str::to_owned).with_context(|| format!("no code in: {text}"))
}

/// How a mail server encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// By STARTTLS.
    StartTls,
    /// From the first byte.
    Tls,
}

impl MailTls {
    /// As a definition says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartTls => "starttls",
            Self::Tls => "tls",
        }
    }
}

/// A mail server of the test's own (Python's aiosmtpd), which ends with it.
#[derive(Debug)]
pub struct MailSink {
    port: u16,
    mails: PathBuf,
    _process: Process,
}

impl MailSink {
    /// Starts it with the script `server`; a certificate and its key (PEM) make it encrypt so, and demand a login.
    pub async fn start(folder: &Path, server: &Path, tls: Option<(MailTls, &Path, &Path)>) -> anyhow::Result<Self> {
        let (ready, mails) = (folder.join("mail.ready"), folder.join("mails.jsonl"));
        let mut python = command(Path::new("python3"));
        python.arg(server).arg("--ready-file").arg(&ready).arg("--mails").arg(&mails);
        if let Some(path) = std::env::var_os("PYTHONPATH") {
            python.env("PYTHONPATH", path);
        }
        if let Some((mode, certificate, key)) = tls {
            python.args(["--mode", mode.as_str()]).arg("--certificate").arg(certificate).arg("--key").arg(key);
        }
        let mut process = Process::spawn("mail", python, folder)?;
        let address = process.ready(&ready).await?.remove("smtp").context("the ready file names no port")?;
        let port = address.rsplit_once(':').context("no port")?.1.parse()?;
        Ok(Self { port, mails, _process: process })
    }

    /// Where it listens on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Everything that arrived so far.
    pub fn mails(&self) -> anyhow::Result<Vec<Mail>> {
        let text = std::fs::read_to_string(&self.mails).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The `number`th mail (from 1), once it is there.
    pub async fn mail(&self, number: usize) -> anyhow::Result<Mail> {
        until("a mail", ARRIVES, async || Ok(self.mails()?.get(number - 1).cloned())).await
    }
}

/// An API that takes any request and answers with one status, within this process.
#[derive(Debug)]
pub struct HttpSink {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl HttpSink {
    /// Starts it; it ends with the process.
    pub fn start(status: u16) -> anyhow::Result<Self> {
        Self::start_at(0, status)
    }

    /// Starts it on a port that the test had before.
    pub fn start_at(port: u16, status: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let port = listener.local_addr()?.port();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // One at a time will do.
                if let Some(request) = take(stream, || format!("{status} x\r\ncontent-length: 0\r\n\r\n")) {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                }
            }
        });
        Ok(Self { port, requests })
    }

    /// Where it listens on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// All requests so far, head and body.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The `number`th request (from 1), once it is there.
    pub async fn request(&self, number: usize) -> anyhow::Result<String> {
        until("a request", ARRIVES, async || Ok(self.requests().get(number - 1).cloned())).await
    }
}

/// Reads a request and answers with what follows the protocol's version, made once the request is there.
pub(crate) fn take(mut stream: TcpStream, answer: impl FnOnce() -> String) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = |line: &str| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok();
            if body.len() >= head.lines().find_map(length).unwrap_or(0) {
                break;
            }
        }
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        text.push_str(&String::from_utf8_lossy(buffer.get(..read)?));
    }
    let (status, rest) = answer().split_once("\r\n").map(|(status, rest)| (status.to_owned(), rest.to_owned()))?;
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{rest}");
    stream.write_all(answer.as_bytes()).ok()?;
    Some(text)
}
