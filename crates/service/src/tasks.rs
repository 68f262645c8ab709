//! Work that outlives the request that started it. Everything that runs beside the calls starts here, so that the
//! drain can wait for all of it.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Starts tasks and knows which have not ended. Clones share their tasks.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` on the current runtime, whatever becomes of the caller, inside the caller's span. A drain waits for
    /// it, up to the hard deadline; it must end by itself.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn(task.in_current_span())
    }

    /// Runs a task that lasts as long as the process serves. `stop` fires once the calls are over; the drain then
    /// waits for the task.
    pub fn spawn_background<F>(&self, task: impl FnOnce(CancellationToken) -> F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn(task(self.stop.clone()))
    }

    /// Runs blocking work on a thread of its own; as [`Tasks::spawn`] otherwise.
    pub fn spawn_blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let span = tracing::Span::current();
        self.tracker.spawn_blocking(move || span.in_scope(work))
    }

    /// How many have not ended.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Tells background tasks to stop and waits until every task has ended.
    pub async fn finish(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finishing_waits_for_tasks_whose_handle_was_dropped() {
        let tasks = Tasks::new();
        let (done, mut over) = tokio::sync::oneshot::channel();
        drop(tasks.spawn(async move {
            tokio::task::yield_now().await;
            done.send(()).ok();
        }));
        tasks.finish().await;
        assert!(over.try_recv().is_ok());
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn finishing_stops_background_tasks() {
        let tasks = Tasks::new();
        let task = tasks.spawn_background(|stop| async move { stop.cancelled().await });
        tasks.finish().await;
        assert!(task.is_finished());
    }
}
