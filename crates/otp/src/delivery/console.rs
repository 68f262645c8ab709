//! For development: the message on the process's standard output.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use safeconduct_types::Deadline;

use super::{Carry, Outcome, Outgoing, Sender};

/// Prints messages, codes included. Only what a process was told to allow; nothing else makes one.
#[derive(Clone)]
pub struct Console(Arc<Mutex<dyn Write + Send>>);

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console")
    }
}

impl Console {
    /// Prints to the standard output of this process.
    pub fn standard_output() -> Self {
        Self::to(io::stdout())
    }

    /// Prints to this.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(out)))
    }
}

#[async_trait]
impl Carry for Console {
    async fn carry(&self, message: &Outgoing<'_>, _: &Sender, _: Deadline) -> Outcome {
        let title = if message.subject.is_empty() { "text message" } else { "email" };
        let subject =
            if message.subject.is_empty() { String::new() } else { format!("subject: {}\n", message.subject) };
        let block = format!(
            "---- {title} (console, for development) ----\nto: {}\n{subject}\n{}\n---- end ----\n",
            message.to,
            message.text.trim_end()
        );
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One write: lines of the log do not come between.
        match out.write_all(block.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Outcome::Sent,
            Err(_) => Outcome::Later("console", None),
        }
    }
}
