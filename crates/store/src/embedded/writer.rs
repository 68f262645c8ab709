//! The thread that writes.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use redb::{Database, ReadableTable, Table, WriteTransaction};
use safeconduct_types::{Clock, OperationId, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::disk::{COLLECTED, Disk, RECORDS, commit_fault, fault};
use crate::steady::Steady;
use crate::stored::{Stored, Verdict, judge, successor};
use crate::{Change, Committed, StoreError};

/// Most commits that share a transaction, and so an fsync.
const BATCH: usize = 256;

/// Records collected with a transaction, besides two for each change in it: more than a change can leave behind,
/// so that garbage shrinks under any load, and few enough that nobody waits for it.
const SWEEP: usize = 64;

/// How often an idle writer collects.
const IDLE: Duration = Duration::from_secs(5);

pub(super) type Answer = Result<Committed, StoreError>;

pub(super) struct Job {
    pub(super) task: Task,
    /// Held until the job is answered: bounds how many wait.
    pub(super) _room: OwnedSemaphorePermit,
}

pub(super) enum Task {
    Commit { operation: OperationId, changes: Vec<Change>, answer: oneshot::Sender<Answer> },
    Ping { answer: oneshot::Sender<Answer> },
}

impl Task {
    fn changes(&self) -> usize {
        match self {
            Self::Commit { changes, .. } => changes.len(),
            Self::Ping { .. } => 0,
        }
    }

    fn answer(self, with: Answer) {
        match self {
            // Whoever asked may have gone.
            Self::Commit { answer, .. } | Self::Ping { answer } => drop(answer.send(with)),
        }
    }
}

/// Writes until every sender is gone and everything sent is answered.
pub(super) fn write(disk: &Disk, clock: &dyn Clock, steady: &Steady, jobs: &Receiver<Job>) {
    loop {
        let mut batch = match jobs.recv_timeout(IDLE) {
            Ok(job) => vec![job],
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        batch.extend(jobs.try_iter().take(BATCH.saturating_sub(batch.len())));
        let now = steady.at(clock.now());
        match attempt(disk, &batch, now) {
            Ok(verdicts) => {
                for (job, verdict) in batch.into_iter().zip(verdicts) {
                    job.task.answer(verdict);
                }
            }
            Err(error) => {
                tracing::error!(error = %error, commits = batch.len(), "the store could not write");
                for job in batch {
                    job.task.answer(Err(error.clone()));
                }
                // Now, not with the next commit: readers need it too. If it fails, each batch tries again.
                let _ = disk.reopen();
            }
        }
    }
}

fn attempt(disk: &Disk, batch: &[Job], now: Timestamp) -> Result<Vec<Answer>, StoreError> {
    if disk.is_closed() {
        disk.reopen()?;
    }
    disk.with(|database| transact(database, batch, now))
}

/// One transaction: each commit in its order, seeing the ones before it, then some garbage.
fn transact(database: &Database, batch: &[Job], now: Timestamp) -> Result<Vec<Answer>, StoreError> {
    let transaction = database.begin_write().map_err(fault)?;
    let mut tables = Tables::of(&transaction)?;
    let mut dirty = false;
    let mut answers = Vec::with_capacity(batch.len());
    for job in batch {
        answers.push(match &job.task {
            Task::Ping { .. } => Ok(Committed::Done),
            Task::Commit { operation, changes, .. } => match tables.apply(*operation, changes, now) {
                Ok(verdict) => {
                    dirty |= verdict == Verdict::Apply;
                    Ok(verdict.into())
                }
                // This record is unreadable; the others in the batch are not to blame.
                Err(Unfit::Record(error)) => Err(error),
                Err(Unfit::Disk(error)) => return Err(error),
            },
        });
    }
    let changes: usize = batch.iter().map(|job| job.task.changes()).sum();
    dirty |= tables.sweep(SWEEP + 2 * changes, now)?;
    drop(tables);
    if dirty {
        transaction.commit().map_err(commit_fault)?;
    } else {
        transaction.abort().map_err(fault)?;
    }
    Ok(answers)
}

/// Why a commit could not be decided.
enum Unfit {
    /// What is stored under one of its keys is not a record.
    Record(StoreError),
    /// The disk, for everybody.
    Disk(StoreError),
}

struct Tables<'txn> {
    records: Table<'txn, &'static str, &'static [u8]>,
    collected: Table<'txn, (i64, &'static str), ()>,
}

impl<'txn> Tables<'txn> {
    fn of(transaction: &'txn WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            records: transaction.open_table(RECORDS).map_err(fault)?,
            collected: transaction.open_table(COLLECTED).map_err(fault)?,
        })
    }

    fn apply(&mut self, operation: OperationId, changes: &[Change], now: Timestamp) -> Result<Verdict, Unfit> {
        let disk = |error: redb::StorageError| Unfit::Disk(fault(error));
        let mut next = Vec::new();
        let verdict = {
            let guards = changes
                .iter()
                .map(|change| self.records.get(change.key.as_str()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(disk)?;
            let found = guards
                .iter()
                .map(|guard| guard.as_ref().map(|bytes| Stored::parse(bytes.value())).transpose())
                .collect::<Result<Vec<_>, _>>()
                .map_err(Unfit::Record)?;
            let verdict = judge(&found, changes, operation, now);
            if verdict == Verdict::Apply {
                for (stored, change) in found.iter().zip(changes) {
                    let old = stored.as_ref().and_then(Stored::collected);
                    next.push((change.key.as_str(), old, successor(stored.as_ref(), &change.write, operation, now)));
                }
            }
            verdict
        };
        for (key, old, bytes) in next {
            if let Some(old) = old {
                self.collected.remove((old.as_millis(), key)).map_err(disk)?;
            }
            if let Some(new) = Stored::parse(&bytes).map_err(Unfit::Record)?.collected() {
                self.collected.insert((new.as_millis(), key), ()).map_err(disk)?;
            }
            self.records.insert(key, bytes.as_slice()).map_err(disk)?;
        }
        Ok(verdict)
    }

    /// Removes up to `most` records whose bytes may go. Says whether it did any.
    fn sweep(&mut self, most: usize, now: Timestamp) -> Result<bool, StoreError> {
        let mut due = Vec::new();
        let until = now.as_millis().saturating_add(1);
        for entry in self.collected.range((i64::MIN, "")..(until, "")).map_err(fault)?.take(most) {
            let (entry, _) = entry.map_err(fault)?;
            let (at, key) = entry.value();
            due.push((at, key.to_owned()));
        }
        for (at, key) in &due {
            self.collected.remove((*at, key.as_str())).map_err(fault)?;
            self.records.remove(key.as_str()).map_err(fault)?;
        }
        Ok(!due.is_empty())
    }
}
