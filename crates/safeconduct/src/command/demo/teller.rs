//! How the story looks.

use std::io::IsTerminal as _;

use crate::say::say;

/// Prints the story and counts what did not come out as told.
pub(crate) struct Teller {
    colours: bool,
    step: u32,
    failures: u32,
}

impl Teller {
    pub(crate) fn new() -> Self {
        Self { colours: std::io::stdout().is_terminal(), step: 0, failures: 0 }
    }

    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn title(&self, text: &str) {
        say!("\n{}", self.paint("1", text));
    }

    #[allow(clippy::unused_self, reason = "whoever tells the story says this, too")]
    pub(crate) fn say(&self, text: &str) {
        say!("{text}");
    }

    /// A new step: who does what.
    pub(crate) fn step(&mut self, text: &str) {
        self.step += 1;
        say!("\n{} {text}", self.paint("1", &format!("{}.", self.step)));
    }

    /// What is sent, or what somebody tries.
    pub(crate) fn sent(&self, text: &str) {
        say!("   {} {text}", self.paint("2", "->"));
    }

    /// What came back.
    pub(crate) fn got(&self, text: &str) {
        say!("   {} {}", self.paint("2", "<-"), text.replace('\n', "\n      "));
    }

    /// What must be so for the story to be true.
    pub(crate) fn check(&mut self, true_so_far: bool, claim: &str) {
        if true_so_far {
            say!("   {} {claim}", self.paint("32", "ok"));
        } else {
            self.failures += 1;
            say!("   {} {claim}", self.paint("31", "NOT SO:"));
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
