//! Marks: facts that close something for all replicas within a second.
//!
//! They are rare, and everything asks for them, so every process holds all of them: in the store they have one order
//! (`feed`), each process keeps what it has read of it (`board`) and looks for more five times a second (`follow`).
//! Whoever watches has a cursor into that (`watch`).
//!
//! What is about a contact (`MarkKey::contact`) lies in the contact's own slot besides, and is written there first: so
//! `Admit` and `Extend` see it in the very decision. A mark is answered as set once it is durable in both places; if
//! this process ends in between, repeating the operation mends it.
//!
//! # Bounds
//! At most [`MAX_OTHERS`] marks, and besides [`MAX_GONE`] on single objects (the upstream's 410), which go by
//! themselves. Beyond that, a mark on an object is kept in the contact's slot only, so that nothing is written to it,
//! and a read hears the 410 from the upstream again; any other mark is refused. A mark takes about half a kilobyte here
//! and in each mirror.

mod board;
mod change;
mod feed;
mod rpc;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use safeconduct_admission_domain::mark::{Mark, MarkCheck};
use safeconduct_store::{Records, StoreError, StoreKeyer};
use safeconduct_types::{Clock, Timestamp};
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::sync::CancellationToken;

use board::Board;
use feed::{BUCKETS, BUCKETS_AT_ONCE, Feed};

/// Most marks on single objects that replicas are told of.
const MAX_GONE: u64 = 50_000;
/// Most other marks.
const MAX_OTHERS: u64 = 100_000;
/// Between two looks at the store. Each is followed by a heartbeat to everybody who watches.
const PAUSE: Duration = Duration::from_millis(150);
/// What was last looked at longer ago than this is looked at again before it decides anything.
const FRESH: Duration = Duration::from_secs(1);
/// How often it is begun anew when others change the marks in the meantime.
const ATTEMPTS: usize = 64;

/// The marks of the deployment. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Marks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    feed: Feed,
    keyer: StoreKeyer,
    clock: Arc<dyn Clock>,
    board: RwLock<Board>,
    /// Held while the store is looked at or changed, so that changes are taken in in their order.
    turn: tokio::sync::Mutex<()>,
    progress: Sender<Progress>,
}

/// How far the board is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// How many looks have succeeded.
    looks: u64,
    /// The store's time of the last one.
    time: Timestamp,
    /// When that was begun.
    at: Option<Instant>,
}

impl Marks {
    pub(crate) fn new(records: Arc<dyn Records>, keyer: StoreKeyer, clock: Arc<dyn Clock>) -> Self {
        let feed = Feed::new(records, keyer.clone());
        let (board, progress) = (RwLock::default(), Sender::new(Progress::default()));
        Self(Arc::new(Shared { feed, keyer, clock, board, turn: tokio::sync::Mutex::default(), progress }))
    }

    /// Looks for changes until `stop`. While the store cannot be read, nobody who watches hears anything.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        let mut was_read = true;
        loop {
            let looked = self.look().await;
            match (&looked, was_read) {
                (Err(error), true) => tracing::warn!(%error, "the marks cannot be read; nobody hears of new ones"),
                (Ok(()), false) => tracing::info!("the marks can be read again"),
                _ => {}
            }
            was_read = looked.is_ok();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// The first mark that closes what one of the checks asks for: all that was durable a second ago is known, and what
    /// this process has set itself at once. The store is asked only if this process does not follow.
    pub(crate) async fn met(&self, checks: &[MarkCheck]) -> Result<Option<Mark>, StoreError> {
        if checks.is_empty() {
            return Ok(None);
        }
        let is_fresh = |at: Instant| self.0.clock.instant().saturating_duration_since(at) <= FRESH;
        if !self.0.progress.borrow().at.is_some_and(is_fresh) {
            self.look().await?;
        }
        let now = self.0.progress.borrow().time;
        Ok(self.read(|board| board.met(checks, now)).map(|mark| Mark::clone(&mark)))
    }

    /// Takes in what has changed.
    async fn look(&self) -> Result<(), StoreError> {
        let turn = self.0.turn.lock().await;
        let began = self.0.clock.instant();
        let now = self.catch_up().await?;
        self.write(|board| board.expire(now));
        self.0.progress.send_modify(|progress| {
            *progress = Progress { looks: progress.looks + 1, time: now, at: Some(began) };
        });
        drop(turn);
        Ok(())
    }

    /// The store's time at which the board had everything.
    async fn catch_up(&self) -> Result<Timestamp, StoreError> {
        let feed = &self.0.feed;
        for _ in 0..ATTEMPTS {
            let (now, head) = feed.head().await?;
            let (revision, stamp, history) = self.read(|board| (board.revision(), board.stamp(), board.history()));
            if (head.revision, head.stamp) == (revision, stamp) && (history > 0 || revision == 0) {
                return Ok(now);
            }
            if history == 0 || head.revision < revision {
                self.load().await?;
                continue;
            }
            // From what is known on, to see that it is the same history.
            let (now, head, entries) = feed.changes(revision.max(1), head.revision).await?;
            let same = |entries: &[board::Entry]| {
                revision == 0 || entries.first().is_some_and(|entry| Some(entry.operation) == stamp)
            };
            match entries.filter(|entries| same(entries)) {
                Some(entries) => {
                    self.write(|board| entries.into_iter().for_each(|entry| board.apply(entry)));
                    if self.read(Board::revision) >= head.revision {
                        return Ok(now);
                    }
                }
                None => self.load().await?,
            }
        }
        Err(StoreError::Unavailable("the marks change faster than they are read".into()))
    }

    /// Reads everything.
    async fn load(&self) -> Result<(), StoreError> {
        let feed = &self.0.feed;
        // First the head: what changes while the buckets are read is in the log after it, and is taken in again.
        let (head, log) = feed.log().await?;
        let mut marks = Vec::new();
        for from in (0..BUCKETS).step_by(BUCKETS_AT_ONCE) {
            marks.extend(feed.buckets(from).await?);
        }
        let count = marks.len();
        self.write(|board| *board = Board::load(marks, log, (head.revision, head.stamp), board.history() + 1));
        tracing::info!(marks = count, revision = head.revision, "read all marks");
        Ok(())
    }

    fn subscribe(&self) -> Receiver<Progress> {
        self.0.progress.subscribe()
    }

    fn read<T>(&self, look: impl FnOnce(&Board) -> T) -> T {
        look(&self.0.board.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Board) -> T) -> T {
        change(&mut self.0.board.write().unwrap_or_else(PoisonError::into_inner))
    }
}
