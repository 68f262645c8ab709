//! The thread that writes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use redb::Database;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::disk::{Disk, commit_fault, fault};
use super::tables::Tables;
use super::txn::Txn;
use crate::{Pace, StoreError};

/// Most jobs that share a transaction, and so an fsync.
const BATCH: usize = 256;

/// Things collected with a transaction, besides two for each change in it: more than a change can leave behind, so
/// that garbage shrinks under any load, and few enough that nobody waits for it.
const SWEEP: usize = 64;

/// How often an idle writer collects.
const IDLE: Duration = Duration::from_secs(5);

/// A job that waits for the writer, and whoever waits for its answer.
pub(super) trait Job: Send {
    /// Runs it, once. Says whether it has failed.
    fn run(&mut self, txn: &mut Txn<'_>) -> bool;

    /// Answers with what it came to, or with why nothing did.
    fn answer(self: Box<Self>, failed: Option<&StoreError>);
}

/// A job of any kind.
pub(super) struct Task<T, F> {
    job: Option<F>,
    outcome: Result<T, StoreError>,
    answer: oneshot::Sender<Result<T, StoreError>>,
    /// Held until the job is answered: bounds how many wait.
    _room: OwnedSemaphorePermit,
}

impl<T, F> Task<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
{
    pub(super) fn new(job: F, answer: oneshot::Sender<Result<T, StoreError>>, room: OwnedSemaphorePermit) -> Self {
        let outcome = Err(StoreError::Unavailable("the job was not run".into()));
        Self { job: Some(job), outcome, answer, _room: room }
    }
}

impl<T, F> Job for Task<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
{
    fn run(&mut self, txn: &mut Txn<'_>) -> bool {
        // Whoever asked may have given up: what is done for nobody is done late, and in doubt for nothing.
        if let Some(job) = self.job.take().filter(|_| !self.answer.is_closed()) {
            // What a panic leaves half done is taken back like what an error leaves.
            self.outcome = catch_unwind(AssertUnwindSafe(|| job(txn)))
                .unwrap_or_else(|_| Err(StoreError::Invalid("a job has panicked".into())));
        }
        self.outcome.is_err()
    }

    fn answer(self: Box<Self>, failed: Option<&StoreError>) {
        // Whoever asked may have gone.
        let _ = self.answer.send(failed.map_or(self.outcome, |error| Err(error.clone())));
    }
}

/// Writes until every sender is gone and everything sent is answered.
pub(super) fn write(disk: &Disk, pace: &Pace, jobs: &Receiver<Box<dyn Job>>) {
    loop {
        let mut batch = match jobs.recv_timeout(IDLE) {
            Ok(job) => vec![job],
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        batch.extend(jobs.try_iter().take(BATCH.saturating_sub(batch.len())));
        let failed = guarded(|| attempt(disk, &mut batch, pace)).err();
        if let Some(error) = &failed {
            tracing::error!(error = %error, jobs = batch.len(), "the store could not write");
        }
        for job in batch {
            job.answer(failed.as_ref());
        }
        if failed.is_some() {
            // Now, not with the next job: readers need it too. If it fails, each batch tries again.
            let _ = guarded(|| disk.reopen());
        }
    }
}

/// A panic of the engine's own, outside of any job, is a failure like another: the file is opened anew, and if that
/// fails too, each batch says so and tries again.
fn guarded(work: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreError::Unanswered("the engine has panicked; its file is opened anew".into())))
}

fn attempt(disk: &Disk, batch: &mut [Box<dyn Job>], pace: &Pace) -> Result<(), StoreError> {
    if disk.is_closed() {
        disk.reopen()?;
    }
    disk.write(|database| transact(database, batch, pace.here()))
}

/// One transaction: each job in its order, seeing the ones before it, then some garbage.
fn transact(database: &Database, batch: &mut [Box<dyn Job>], now_us: i64) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(fault)?;
    let mut txn = Txn::new(Tables::of(&transaction).map_err(fault)?, now_us);
    let mut changes = 0;
    for job in batch {
        let failed = job.run(&mut txn);
        changes += txn.settle(failed)?;
    }
    let swept = txn.sweep(SWEEP + 2 * changes).map_err(fault)?;
    drop(txn);
    if changes + swept > 0 { transaction.commit().map_err(commit_fault) } else { transaction.abort().map_err(fault) }
}
