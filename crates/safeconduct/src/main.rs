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

use clap::Parser as _;

/// A call allocates a few dozen times, on one thread and frees on another: the system's allocator takes a tenth of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ! {
    let cli = cli::Cli::parse();
    let code = match cli.run() {
        Ok(_) if say::was_lost() => exit::Code::LOST,
        Ok(code) => code,
        Err(failure) => {
            say::complain!("{failure}");
            failure.code()
        }
    };
    code.end()
}
