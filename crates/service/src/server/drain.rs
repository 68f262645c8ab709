//! The end of a process.

use safeconduct_types::Deadline;

use super::accept::Accepting;
use super::worker::Workers;
use super::{DrainOptions, until};
use crate::process::Process;

/// What was still going on at the hard deadline, and was cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Calls that were not answered to the end.
    pub calls_cut: u64,
    /// Connections; a peer that does not read keeps one open after its calls are answered.
    pub connections_cut: usize,
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
        Err(_) => Drained {
            calls_cut: process.metrics.in_flight(),
            connections_cut: workers.connections(),
            tasks_cut: process.tasks.running(),
        },
    };
    workers.end();
    let Drained { calls_cut, connections_cut, tasks_cut } = drained;
    tracing::info!(calls_cut, connections_cut, tasks_cut, "stopped");
    drained
}
