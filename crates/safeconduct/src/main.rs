//! The one binary: `serve` runs the suite's services, the other commands are for the people around it.
//!
//! Everything here is assembly: which service gets which store, keys, channel and listener, and how a command's answer
//! looks. A rule found here is in the wrong place.

mod cli;
mod command;
mod exit;
mod say;
mod serve;
mod workspaces;

use std::process::ExitCode;

use clap::Parser as _;

/// A call allocates a few dozen times, on one thread and frees on another: the system's allocator takes a tenth of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.run() {
        Ok(_) if say::was_lost() => ExitCode::from(74),
        Ok(code) => code,
        Err(failure) => {
            say::complain!("{failure}");
            failure.code()
        }
    }
}
