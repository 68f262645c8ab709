//! The end of a process.

use safeconduct_types::Deadline;

use super::accept::Accepting;
use super::worker::Workers;
use super::{DrainOptions, until};
use crate::process::Process;

/// What was still going on at the hard deadline, and was cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Calls.
    pub calls_cut: u64,
    /// Tasks beside the calls.
    pub tasks_cut: usize,
}

pub(super) async fn drain(
    options: &DrainOptions,
    process: &Process,
    accepting: Accepting,
    workers: &Workers,
) -> Drained {
    let clock = &*process.clock;
    let deadline = Deadline::within(clock.instant(), options.hard_deadline);
    // Stage 1: say so, and go on serving, because whoever sends the calls needs time to hear it.
    tracing::info!(calls = process.metrics.in_flight(), "stopping");
    process.health.drain().await;
    tokio::time::sleep(options.grace.min(until(clock, deadline))).await;
    // Stage 2: take what has knocked already, then finish.
    accepting.stop().await;
    process.draining.cancel();
    let finished = tokio::time::timeout(until(clock, deadline), async {
        workers.idle().await;
        process.tasks.finish().await;
    });
    let drained = match finished.await {
        Ok(()) => Drained::default(),
        Err(_) => Drained { calls_cut: process.metrics.in_flight(), tasks_cut: process.tasks.running() },
    };
    workers.end();
    tracing::info!(calls_cut = drained.calls_cut, tasks_cut = drained.tasks_cut, "stopped");
    drained
}
