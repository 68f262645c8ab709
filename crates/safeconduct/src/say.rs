//! What a command says, and to whom nobody listens any more.
//!
//! `println!` panics when it cannot write, and whoever pipes into `head` has read enough: that is no fault. Nothing
//! else here is printed with, so it holds for all commands (a lint of this crate).

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _, stderr, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something was lost that somebody may have waited for: a full disk, not a closed pipe.
static LOST: AtomicBool = AtomicBool::new(false);

/// A line on standard output.
macro_rules! say {
    ($($what:tt)*) => { $crate::say::line(format_args!($($what)*)) };
}

/// A line on standard error.
macro_rules! complain {
    ($($what:tt)*) => { $crate::say::problem(format_args!($($what)*)) };
}

pub(crate) use {complain, say};

/// See [`say!`]. A command goes on whoever listens: what it began must end as it should.
pub(crate) fn line(what: Arguments<'_>) {
    let mut out = stdout().lock();
    if let Err(error) = out.write_fmt(format_args!("{what}\n")).and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
        && !LOST.swap(true, Ordering::Relaxed)
    {
        problem(format_args!("standard output cannot be written: {error}"));
    }
}

/// See [`complain!`]. There is nobody to tell that a problem could not be told.
pub(crate) fn problem(what: Arguments<'_>) {
    let _ = stderr().lock().write_fmt(format_args!("{what}\n"));
}

/// Whether a line could not be written although its reader had not gone.
pub(crate) fn was_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}
