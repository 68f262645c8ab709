//! How the process ends, and what it says when it does (exit codes after BSD's `sysexits`).

use std::fmt;
use std::io::Write as _;

/// A command that could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The command line or the process configuration is wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { code: 64, message: message.to_string() }
    }

    /// What was given to work on is wrong: definitions, inputs.
    pub(crate) fn data(message: impl fmt::Display) -> Self {
        Self { code: 65, message: message.to_string() }
    }

    /// Something that is needed is not there: a store, an address, a service.
    pub(crate) fn unavailable(message: impl fmt::Display) -> Self {
        Self { code: 69, message: message.to_string() }
    }

    /// A fault of ours, or of the machine.
    pub(crate) fn internal(message: impl fmt::Display) -> Self {
        Self { code: 70, message: message.to_string() }
    }

    /// The call was refused, or the story did not come out as told.
    pub(crate) fn refused(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    pub(crate) fn code(&self) -> Code {
        Code(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What the process leaves to whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(u8);

impl Code {
    pub(crate) const SUCCESS: Self = Self(0);
    /// It was done, and the answer is no.
    pub(crate) const FAILURE: Self = Self(1);
    /// What was to be written could not be written.
    pub(crate) const LOST: Self = Self(74);
    /// Told to stop from the keyboard.
    pub(crate) const INTERRUPTED: Self = Self(130);

    /// Ends the process here and now. Threads that nobody waits for still run, and the exit handlers of C take from
    /// under them what they use: AWS-LC frees its source of entropy, and whoever asks it then aborts the process.
    pub(crate) fn end(self) -> ! {
        let _ = std::io::stdout().flush();
        signal_hook::low_level::exit(self.0.into())
    }
}

/// How a command ends.
pub(crate) type Outcome = Result<Code, Failure>;
