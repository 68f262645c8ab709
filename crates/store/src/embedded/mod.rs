//! Records in one file of this machine, by redb.
//!
//! A durable transaction costs milliseconds however much is in it. So one thread writes: it takes all commits that
//! wait, decides them one after the other in one transaction, makes that durable, and answers them together.
//! Reads go to their own snapshot on the runtime's blocking threads and wait for no writer.

mod disk;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use safeconduct_types::{Clock, OperationId};
use tokio::sync::{Semaphore, oneshot};

use crate::record::{check_commit, check_read};
use crate::steady::Steady;
use crate::stored::visible;
use crate::trace::traced;
use crate::{Change, Committed, RecordKey, Records, Slot, Snapshot, StoreError};
use disk::Disk;
#[cfg(test)]
pub(crate) use disk::{Opener, RECORDS};
use writer::{Job, Task, write};

/// Commits that may wait for the writer; further ones wait before they are handed over.
const WAITING: usize = 1024;

/// Records in one file. One process has it open at a time; a second one is told so.
pub struct EmbeddedRecords {
    disk: Arc<Disk>,
    clock: Arc<dyn Clock>,
    steady: Arc<Steady>,
    room: Arc<Semaphore>,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedRecords {
    /// Opens the file, and creates it, readable by its owner only, if it is not there. After a crash this may take
    /// a while, in proportion to the file.
    pub async fn open(path: PathBuf, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Self::open_with(Box::new(move |opening| disk::open(&path, opening)), clock).await
    }

    pub(crate) async fn open_with(opener: disk::Opener, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let disk = Arc::new(blocking(move || Disk::open(opener)).await?);
        let steady = Arc::new(Steady::new());
        let (jobs, waiting) = mpsc::channel();
        let writer = {
            let (disk, clock, steady) = (Arc::clone(&disk), Arc::clone(&clock), Arc::clone(&steady));
            std::thread::Builder::new()
                .name("store-writer".to_owned())
                .spawn(move || write(&disk, &*clock, &steady, &waiting))
                .map_err(|error| StoreError::Unavailable(format!("no thread for the writer: {error}").into()))?
        };
        let room = Arc::new(Semaphore::new(WAITING));
        Ok(Self { disk, clock, steady, room, jobs: Some(jobs), writer: Some(writer) })
    }

    async fn hand_over(&self, task: impl FnOnce(oneshot::Sender<writer::Answer>) -> Task) -> writer::Answer {
        let closed = || StoreError::Unavailable("the store is closing".into());
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| closed())?;
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(closed)?;
        jobs.send(Job { task: task(answer), _room: room }).map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(StoreError::Unanswered("the writer has ended".into())))
    }
}

impl Drop for EmbeddedRecords {
    /// Waits for what was handed over to be written, so that the file is free afterwards.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to say.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for EmbeddedRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedRecords").finish_non_exhaustive()
    }
}

#[async_trait]
impl Records for EmbeddedRecords {
    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        traced("redb", "read", keys.len(), async {
            check_read(slot, keys)?;
            let (disk, keys) = (Arc::clone(&self.disk), keys.to_vec());
            let found: Vec<Option<Bytes>> = blocking(move || disk.read(&keys)).await?;
            let now = self.steady.at(self.clock.now());
            let records = found
                .into_iter()
                .map(|bytes| bytes.map_or(Ok(None), |bytes| visible(&bytes, now)))
                .collect::<Result<_, _>>()?;
            Ok(Snapshot { now, records })
        })
        .await
    }

    async fn commit(&self, slot: &Slot, operation: OperationId, changes: &[Change]) -> Result<Committed, StoreError> {
        traced("redb", "commit", changes.len(), async {
            check_commit(slot, changes)?;
            let changes = changes.to_vec();
            self.hand_over(|answer| Task::Commit { operation, changes, answer }).await
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        traced("redb", "ping", 0, async { self.hand_over(|answer| Task::Ping { answer }).await.map(drop) }).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("the runtime is closing".into())))
}
