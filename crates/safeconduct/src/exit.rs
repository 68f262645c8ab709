//! How the process ends, and what it says when it does (exit codes after BSD's `sysexits`).

use std::fmt;
use std::process::ExitCode;

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

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// How a command ends.
pub(crate) type Outcome = Result<ExitCode, Failure>;
