//! Marks: facts that close something for all replicas within a second.
//!
//! They are rare, and everything asks for them, so every process holds all of them: in the store they have one order
//! (`feed`), each process keeps what it has read of it (`board`) and looks for more five times a second (`follow`).
//! Changes that wait for each other in a process are made in one commit (`turns`).
//! Whoever watches has a cursor into that (`watch`).
//!
//! What is about a contact (`MarkKey::contact`) lies in the contact's own slot besides, so that `Admit` and `Extend` see
//! it in the very decision. It is written there first, and once all replicas can hear of the change the slot is made to
//! say what they hear (`settle`): so both agree at rest, whoever set and cleared at once, and in between what is closed
//! in one of them is closed for writes. A mark is answered as set once it is durable in both places; if this process ends
//! in between, repeating the operation mends it, and so does clearing it.
//!
//! # Bounds
//! Each class of marks has a budget of its own ([`Budgets`]), and what has expired does not count. Beyond it, a mark on
//! an object is kept in the contact's slot only, so that nothing is written to it, and a read hears the 410 from the
//! upstream again; any other mark is refused. A mark takes up to a kilobyte here, and half of that in each mirror.

mod board;
mod budget;
mod change;
mod feed;
mod rpc;
#[cfg(test)]
mod tests;
mod turns;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use safeconduct_admission_domain::mark::{Mark, MarkCheck};
use safeconduct_store::{Records, StoreError, StoreKeyer};
use safeconduct_types::{Clock, OperationId, Timestamp};
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::sync::CancellationToken;

use board::{Board, Entry};
use budget::Budgets;
use feed::{BUCKETS, BUCKETS_AT_ONCE, Feed, Since};
use turns::Turns;

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
    budgets: Budgets,
    turns: Turns,
    /// Held while the board is brought up to the store, so that changes are taken in in their order.
    looking: tokio::sync::Mutex<Looked>,
    /// How many looks have begun.
    begun: AtomicU64,
    progress: Sender<Progress>,
}

/// The last look, whatever came of it.
#[derive(Debug)]
struct Looked {
    number: u64,
    result: Result<(), StoreError>,
}

/// How far the board is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// How many looks have succeeded that whoever watches is told of.
    looks: u64,
    /// The store's time of the last look of all.
    time: Timestamp,
    /// When that was begun.
    at: Option<Instant>,
}

impl Marks {
    pub(crate) fn new(records: Arc<dyn Records>, keyer: StoreKeyer, clock: Arc<dyn Clock>) -> Self {
        Self::within(records, keyer, clock, Budgets::default())
    }

    fn within(records: Arc<dyn Records>, keyer: StoreKeyer, clock: Arc<dyn Clock>, budgets: Budgets) -> Self {
        Self(Arc::new(Shared {
            feed: Feed::new(records, keyer.clone()),
            keyer,
            clock,
            board: RwLock::default(),
            budgets,
            turns: Turns::default(),
            looking: tokio::sync::Mutex::new(Looked { number: 0, result: Ok(()) }),
            begun: AtomicU64::new(0),
            progress: Sender::new(Progress::default()),
        }))
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

    /// Takes in what has changed, and tells whoever watches that everything until then is known.
    async fn look(&self) -> Result<(), StoreError> {
        self.sync().await?;
        self.0.progress.send_modify(|progress| progress.looks += 1);
        Ok(())
    }

    /// Takes in what has changed until now. Those who ask at once share one look.
    async fn sync(&self) -> Result<(), StoreError> {
        // One that begins later than this has all that this caller has seen.
        let due = self.0.begun.load(Ordering::SeqCst) + 1;
        let mut looked = self.0.looking.lock().await;
        if looked.number < due {
            let number = self.0.begun.fetch_add(1, Ordering::SeqCst) + 1;
            *looked = Looked { number, result: self.sync_now().await };
        }
        looked.result.clone()
    }

    async fn sync_now(&self) -> Result<(), StoreError> {
        let began = self.0.clock.instant();
        let now = self.catch_up().await?;
        self.write(|board| board.expire(now));
        self.0.progress.send_if_modified(|progress| {
            (progress.time, progress.at) = (now, Some(began));
            false
        });
        Ok(())
    }

    /// Takes in changes that were made from the state `known` of the board.
    async fn take_in(&self, entries: Vec<Entry>, known: (u64, Option<OperationId>)) {
        let _looking = self.0.looking.lock().await;
        self.write(|board| {
            // Whoever is further has it, or another history.
            if (board.revision(), board.stamp()) == known {
                for entry in entries {
                    board.apply(entry);
                }
            }
        });
        // Whoever watches here hears of it at once.
        self.0.progress.send_modify(|_| {});
    }

    /// The store's time at which the board had everything.
    async fn catch_up(&self) -> Result<Timestamp, StoreError> {
        let (revision, stamp, history) = self.read(|board| (board.revision(), board.stamp(), board.history()));
        let (now, since) = self.0.feed.since(revision, stamp).await?;
        match since {
            Since::Nothing if history > 0 || revision == 0 => {}
            Since::Changes(entries) if history > 0 => {
                self.write(|board| entries.into_iter().for_each(|entry| board.apply(entry)));
            }
            Since::Nothing | Since::Changes(_) | Since::Lost => self.load().await?,
        }
        Ok(now)
    }

    /// Reads everything. Nobody sees it before it is one state of the store: a mark that was written while others were
    /// read must not be told before those that precede it.
    async fn load(&self) -> Result<(), StoreError> {
        let feed = &self.0.feed;
        // First the head: what changes while the buckets are read is in the log after it.
        let (head, log) = feed.log().await?;
        let mut marks = Vec::new();
        for from in (0..BUCKETS).step_by(BUCKETS_AT_ONCE.into()) {
            marks.extend(feed.buckets(from).await?);
        }
        let count = marks.len();
        let history = self.read(Board::history) + 1;
        let mut board = Board::load(marks, log, (head.revision, head.stamp), history);
        match feed.since(board.revision(), board.stamp()).await?.1 {
            Since::Nothing => {}
            Since::Changes(entries) => entries.into_iter().for_each(|entry| board.apply(entry)),
            Since::Lost => {
                return Err(StoreError::Unavailable("the marks change faster than they are read".into()));
            }
        }
        tracing::info!(marks = count, revision = board.revision(), "read all marks");
        self.write(|current| *current = board);
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
