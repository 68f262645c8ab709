//! A page that somebody fetches: a customer's key set.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::mail::take;

/// A web server of one page, within this process; it ends with the process.
#[derive(Debug)]
pub struct Page {
    port: u16,
    shown: Arc<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    text: Mutex<String>,
    fetched: AtomicUsize,
}

impl Page {
    /// Shows `text`, which may be kept for so long (`cache-control`).
    pub fn start(text: &str, cache_control: &'static str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shown = Arc::new(Shown { text: Mutex::new(text.to_owned()), fetched: AtomicUsize::new(0) });
        let showing = Arc::clone(&shown);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = || {
                    showing.fetched.fetch_add(1, Ordering::SeqCst);
                    let text = showing.text.lock().unwrap_or_else(PoisonError::into_inner);
                    format!("200 OK\r\ncache-control: {cache_control}\r\ncontent-length: {}\r\n\r\n{text}", text.len())
                };
                let _ = take(stream, answer);
            }
        });
        Ok(Self { port, shown })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/keys.json", self.port)
    }

    /// Shows this from now on: no answer that begins later shows anything else.
    pub fn show(&self, text: &str) {
        text.clone_into(&mut self.shown.text.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How often it was fetched.
    pub fn fetched(&self) -> usize {
        self.shown.fetched.load(Ordering::SeqCst)
    }
}
