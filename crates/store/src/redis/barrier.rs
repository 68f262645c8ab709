//! Waits until replicas have what was written.
//!
//! `WAIT` holds up everything behind it on its connection, so it has one of its own to the same process. There a key
//! is written and then waited for. Replicas take a master's writes in one order, so whoever has that one has all that
//! were answered before it was sent, on whichever connection. All calls that come while one such wait is under way
//! share the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Pipeline, RedisResult};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::fault::{Fault, is_elsewhere};
use crate::StoreError;

/// Callers that may stand before it; more wait in line to.
const LINE: usize = 1024;

/// How much longer than for the replicas to wait for the master's answer.
const SPARE: Duration = Duration::from_millis(500);

/// How many replicas must acknowledge, and how.
#[derive(Clone)]
pub(super) struct Waiting {
    pub(super) connection: MultiplexedConnection,
    /// Keys of slots that this master has: the next one while the slot of one is on its way elsewhere.
    pub(super) keys: Vec<String>,
    pub(super) replicas: u16,
    pub(super) timeout: Duration,
}

impl Waiting {
    /// How many replicas have everything that was written before.
    pub(super) async fn count(&mut self) -> RedisResult<u16> {
        let mut answer = Ok(0);
        for index in 0..self.keys.len() {
            answer = self.count_by(index).await;
            if !answer.as_ref().is_err_and(is_elsewhere) {
                break;
            }
        }
        answer
    }

    async fn count_by(&mut self, index: usize) -> RedisResult<u16> {
        let mut both = Pipeline::new();
        both.cmd("SET").arg(self.keys.get(index)).arg(0).arg("PX").arg(60_000).ignore();
        // 0 would be for ever.
        both.cmd("WAIT").arg(self.replicas).arg(u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX).max(1));
        let answer = tokio::time::timeout(self.timeout + SPARE, both.query_async(&mut self.connection)).await;
        let (count,): (u16,) =
            answer.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))?;
        Ok(count)
    }
}

/// The line of calls that wait for replicas. Ends with its last clone.
#[derive(Clone)]
pub(super) struct Barrier {
    line: mpsc::Sender<oneshot::Sender<Result<(), Fault>>>,
    behind: Arc<AtomicBool>,
    _waiter: Arc<JoinSet<()>>,
}

impl Barrier {
    /// A barrier; `behind` says whether the replicas are known not to keep up.
    pub(super) fn new(waiting: Waiting, behind: bool) -> Self {
        let (line, callers) = mpsc::channel(LINE);
        let behind = Arc::new(AtomicBool::new(behind));
        let mut waiter = JoinSet::new();
        waiter.spawn(serve(waiting, callers, Arc::clone(&behind)));
        Self { line, behind, _waiter: Arc::new(waiter) }
    }

    /// An error while the replicas acknowledge nothing: a write would only be left in doubt.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.behind.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("the replicas of Redis do not keep up; writes wait for all".into()));
        }
        Ok(())
    }

    /// Comes back when the replicas have what was answered before this was called.
    pub(super) async fn pass(&self) -> Result<(), Fault> {
        let (answer, answered) = oneshot::channel();
        let gone = || Fault::Lost(StoreError::Unavailable("the connection to Redis failed".into()));
        self.line.send(answer).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

async fn serve(
    mut waiting: Waiting,
    mut callers: mpsc::Receiver<oneshot::Sender<Result<(), Fault>>>,
    behind: Arc<AtomicBool>,
) {
    let mut these = Vec::new();
    loop {
        // While the replicas are behind nobody need come to find out that they have caught up.
        if !behind.load(Ordering::Relaxed) {
            let Some(caller) = callers.recv().await else { return };
            these.push(caller);
        }
        while let Ok(caller) = callers.try_recv() {
            these.push(caller);
        }
        let answer = match waiting.count().await {
            Ok(count) if count >= waiting.replicas => Ok(()),
            Ok(count) => Err(Fault::Alone(StoreError::Unanswered(
                format!("written, but {count} of {} replicas have acknowledged it in time", waiting.replicas).into(),
            ))),
            Err(error) => Err(Fault::of(&error)),
        };
        let alone = matches!(answer, Err(Fault::Alone(_)));
        if behind.swap(alone, Ordering::Relaxed) != alone {
            if alone {
                tracing::warn!("replicas of the store do not keep up; writes are refused");
            } else {
                tracing::info!("the replicas of the store keep up again");
            }
        }
        for caller in these.drain(..) {
            // It may have given up.
            let _ = caller.send(answer.clone());
        }
        if matches!(answer, Err(Fault::Lost(_))) {
            return;
        }
    }
}
