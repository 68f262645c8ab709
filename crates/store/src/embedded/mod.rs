//! Records in one file of this machine, by redb.
//!
//! A durable transaction costs milliseconds however much is in it. So one thread writes: it takes all jobs that
//! wait, runs them one after the other in one transaction, makes that durable, and answers them together. Reads see the
//! file as the last commit left it and wait for no writer. What may be lost is in memory ([`Ephemeral`]).

mod disk;
mod ephemeral;
mod tables;
mod txn;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use safeconduct_types::{Clock, OperationId};
use tokio::sync::{Semaphore, oneshot};

use crate::envelope::Verdict;
use crate::record::{check_commit, check_read};
use crate::trace::traced;
use crate::{Change, Committed, Pace, RecordKey, Records, Slot, Snapshot, StoreError};
use disk::Disk;
#[cfg(test)]
pub(crate) use disk::Opener;
pub use ephemeral::{Ephemeral, Small};
#[cfg(test)]
pub(crate) use tables::{RECORDS, VALUES};
pub use txn::{Txn, View};
use writer::{Job, Task, write};

/// Jobs that may wait for the writer; further ones wait before they are handed over.
const WAITING: usize = 1024;

/// A read that took longer than this had to wait for the disk.
const SLOW: Duration = Duration::from_millis(2);

/// Reads after a slow one that are kept off the runtime's own threads.
const WARY: u32 = 256;

/// Records, values and indexes in one file, and small things in memory. One process has the file open at a time; a
/// second one is told so. Cheap to clone; the file is free once the last clone is gone.
#[derive(Clone)]
pub struct EmbeddedStore(Arc<Inner>);

struct Inner {
    disk: Arc<Disk>,
    pace: Arc<Pace>,
    clock: Arc<dyn Clock>,
    ephemeral: Ephemeral,
    room: Arc<Semaphore>,
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    writer: Option<JoinHandle<()>>,
    /// How many of the next reads go to the runtime's blocking threads.
    wary: AtomicU32,
}

impl EmbeddedStore {
    /// Opens the file, and creates it, readable by its owner only, if it is not there. After a crash this may take
    /// a while, in proportion to the file.
    pub async fn open(path: PathBuf, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Self::open_with(Box::new(move |opening| disk::open(&path, opening)), clock).await
    }

    pub(crate) async fn open_with(opener: disk::Opener, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let disk = Arc::new(blocking(move || Disk::open(opener)).await?);
        let pace = Arc::new(Pace::new(Arc::clone(&clock)));
        let (jobs, waiting) = mpsc::channel();
        let writer = {
            let (disk, pace) = (Arc::clone(&disk), Arc::clone(&pace));
            std::thread::Builder::new()
                .name("store-writer".to_owned())
                .spawn(move || write(&disk, &pace, &waiting))
                .map_err(|error| StoreError::Unavailable(format!("no thread for the writer: {error}").into()))?
        };
        Ok(Self(Arc::new(Inner {
            disk,
            pace,
            clock,
            ephemeral: Ephemeral::new(),
            room: Arc::new(Semaphore::new(WAITING)),
            jobs: Some(jobs),
            writer: Some(writer),
            wary: AtomicU32::new(0),
        })))
    }

    /// Runs a job in a transaction, after those that were handed over before it. What it writes is durable before it
    /// is answered; if it errs or panics, it has written nothing, and the jobs that share its transaction go on. It
    /// runs on the one thread that writes: it must be quick and wait for nothing.
    ///
    /// After [`StoreError::Unanswered`] what it wrote may be there.
    pub async fn transact<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        traced("redb", "transact", 0, self.submit(job)).await
    }

    /// Reads the file as it is at one moment. Waits for no writer. The job reads little: it may run on the thread
    /// of the caller.
    pub async fn view<T: Send + 'static>(
        &self,
        job: impl FnOnce(&View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        traced("redb", "view", 0, self.look(job)).await
    }

    /// What is kept in memory only.
    pub fn ephemeral(&self) -> &Ephemeral {
        &self.0.ephemeral
    }

    /// The guard of the store's clock, which is the process's: [`Pace::here`] is the time.
    pub fn pace(&self) -> &Pace {
        &self.0.pace
    }

    /// Tells this file from every other, made when it was created: what is missing in it was never there.
    pub fn epoch(&self) -> String {
        self.0.disk.epoch().to_owned()
    }

    async fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::Unavailable("the store is closing".into());
        let room = Arc::clone(&self.0.room).acquire_owned().await.map_err(|_| closed())?;
        let (answer, answered) = oneshot::channel();
        let jobs = self.0.jobs.as_ref().ok_or_else(closed)?;
        jobs.send(Box::new(Task::new(job, answer, room))).map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(StoreError::Unanswered("the writer has ended".into())))
    }

    async fn look<T: Send + 'static>(
        &self,
        job: impl FnOnce(&View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = &self.0;
        let wary = inner.wary.load(Ordering::Relaxed);
        if wary == 0 && !inner.disk.is_busy() {
            let start = inner.clock.instant();
            let answer = inner.read(job);
            if inner.clock.instant().saturating_duration_since(start) > SLOW {
                inner.wary.store(WARY, Ordering::Relaxed);
            }
            return answer;
        }
        inner.wary.store(wary.saturating_sub(1), Ordering::Relaxed);
        let inner = Arc::clone(inner);
        blocking(move || inner.read(job)).await
    }
}

impl Inner {
    fn read<T>(&self, job: impl FnOnce(&View<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.disk.read(|moment| job(&View::new(moment, self.pace.here())))
    }
}

impl Drop for Inner {
    /// Waits for what was handed over to be written, so that the file is free afterwards.
    fn drop(&mut self) {
        drop(self.jobs.take());
        // The last clone may have been in a job: the writer cannot wait for itself.
        let writer = self.writer.take().filter(|writer| writer.thread().id() != std::thread::current().id());
        if let Some(writer) = writer {
            // A writer that panicked has nothing left to say.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Records for EmbeddedStore {
    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        traced("redb", "read", keys.len(), async {
            check_read(slot, keys)?;
            let keys = keys.to_vec();
            self.look(move |view| Ok(Snapshot { now: view.now(), records: view.read(&keys)? })).await
        })
        .await
    }

    async fn commit(&self, slot: &Slot, operation: OperationId, changes: &[Change]) -> Result<Committed, StoreError> {
        traced("redb", "commit", changes.len(), async {
            check_commit(slot, changes)?;
            let changes = changes.to_vec();
            self.submit(move |txn| {
                let verdict = txn.judge(operation, &changes)?;
                if verdict == Verdict::Apply {
                    txn.apply(operation, &changes)?;
                }
                Ok(verdict.into())
            })
            .await
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        traced("redb", "ping", 0, self.submit(|_| Ok(()))).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("the runtime is closing".into())))
}
