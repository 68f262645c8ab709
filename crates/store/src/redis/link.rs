//! The connection to one master, kept alive.
//!
//! Up -> Connecting (a call or a look found it broken) -> Up, or Down (an attempt failed) -> Up.
//!
//! While Connecting, calls wait for the outcome, so that a dropped connection is not noticed; while Down they fail
//! at once, so that a dead server does not cost each of them a time-out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::barrier::Barrier;
use super::dial::{Dialer, Process};
use super::inspect;
use super::lineage::short;
use super::options::Address;
use super::pipes::Pipes;
use crate::StoreError;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How often the replication id is looked at.
const GLANCE: Duration = Duration::from_secs(1);

/// At how many glances the server is examined whole.
const WHOLE: u32 = 5;

/// What a call is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It changes nothing.
    Read,
    /// It writes what must not be lost.
    Write,
    /// It writes what may be lost, such as rates: any server will do, nobody waits for its replicas, and an attempt
    /// that may have been carried out unseen is no doubt.
    Volatile,
    /// As `Volatile`, but it tells of records, and not before they are as durable as after a write: they may have been
    /// written by somebody who waits for replicas still.
    Firm,
    /// As `Firm` if it answers with bytes, as `Read` if it finds nothing: that is no promise.
    FirmIfAny,
}

#[derive(Clone)]
enum State {
    Up(Arc<Up>),
    Connecting,
    Down(StoreError),
}

/// A live connection.
pub(super) struct Up {
    pub(super) pipes: Arc<Pipes>,
    /// Tells this connection from those before: who reports it broken names it.
    pub(super) generation: u64,
    pub(super) condition: Condition,
    pub(super) barrier: Option<Barrier>,
    /// Where it leads.
    pub(super) address: Address,
    pub(super) process: Process,
}

/// What is known of the server behind a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// The replication id.
    pub(super) id: Arc<str>,
    /// Why nothing may be written to it.
    pub(super) hazard: Option<StoreError>,
    /// Until when nothing is written to it, because it may lack what its predecessor had acknowledged.
    pub(super) hold: Option<Instant>,
    /// Why it takes no writes just now; they are tried all the same.
    pub(super) full: Option<StoreError>,
}

impl Up {
    fn check(&self, now: impl FnOnce() -> Instant) -> Result<(), StoreError> {
        if let Some(hazard) = &self.condition.hazard {
            return Err(hazard.clone());
        }
        if let Some(left) = self.condition.hold.and_then(|until| until.checked_duration_since(now()))
            && !left.is_zero()
        {
            return Err(StoreError::Unavailable(
                format!(
                    "another Redis has taken over, which may lack what was acknowledged before; writes are refused for \
                     another {} s (store.recovery_hold)",
                    left.as_secs() + 1
                )
                .into(),
            ));
        }
        self.barrier.as_ref().map_or(Ok(()), Barrier::check)
    }
}

/// How a link has fared.
#[derive(Debug, Default)]
struct Record {
    losses: AtomicU64,
    down_since: Mutex<Option<Instant>>,
    epoch: Mutex<Arc<str>>,
}

/// The state of one master's link, for operators and tests.
#[derive(Clone, Debug)]
pub struct LinkHealth {
    /// `host:port` of the server, or of the last one.
    pub address: Option<String>,
    /// As [`RedisStore::epoch`](crate::RedisStore::epoch).
    pub epoch: String,
    /// How long there has been no connection; `None` if there is one.
    pub unavailable_for: Option<Duration>,
    /// How often a connection was lost.
    pub losses: u64,
    /// Why no write is taken; `None` if one is.
    pub refuses_writes: Option<StoreError>,
    /// How long writes are held back because another server has taken over.
    pub hold: Duration,
}

pub(crate) struct Link {
    state: Arc<watch::Sender<State>>,
    dialer: Arc<Dialer>,
    record: Arc<Record>,
    /// Connections that owe somebody a reply, with the generation they are of.
    doubts: mpsc::Sender<(u64, MultiplexedConnection)>,
    /// Ends with the link.
    _keeper: JoinSet<()>,
}

impl Link {
    /// A link that begins to connect. `trouble` is told whenever a connection is lost.
    pub(super) fn start(dialer: Dialer, trouble: Arc<Notify>) -> Self {
        let state = Arc::new(watch::Sender::new(State::Connecting));
        let record = Arc::new(Record { down_since: Mutex::new(Some(dialer.instant())), ..Record::default() });
        let dialer = Arc::new(dialer);
        let (doubts, doubted) = mpsc::channel(1);
        let keeper = Keeper {
            state: Arc::clone(&state),
            dialer: Arc::clone(&dialer),
            record: Arc::clone(&record),
            doubted,
            trouble,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.keep());
        Self { state, dialer, record, doubts, _keeper: tasks }
    }

    /// The connection, or why there is none. Waits only while the first attempt at a new one is under way.
    pub(super) async fn get(&self, purpose: Use) -> Result<Arc<Up>, StoreError> {
        // Most calls find the link settled and need not subscribe.
        let mut found = settled(&self.state.borrow());
        if found.is_none() {
            let mut changes = self.state.subscribe();
            while found.is_none() {
                found = settled(&changes.borrow_and_update());
                if found.is_none() && changes.changed().await.is_err() {
                    break;
                }
            }
        }
        let up = found.unwrap_or_else(|| Err(StoreError::Unavailable("the store is closing".into())))?;
        if purpose == Use::Write {
            up.check(|| self.dialer.instant())?;
        }
        Ok(up)
    }

    /// The connection if there is one.
    pub(super) fn now(&self) -> Option<Arc<Up>> {
        settled(&self.state.borrow()).and_then(Result::ok)
    }

    /// The connection for a call from here.
    pub(super) fn pipe(&self, up: &Up) -> MultiplexedConnection {
        up.pipes.here(&self.dialer, &up.address, &up.process)
    }

    /// Reports that this connection owes a reply. One that is late is no reason to break off all others, so it is
    /// asked something that takes no time; silent, it is lost.
    pub(super) fn doubt(&self, generation: u64, connection: MultiplexedConnection) {
        // One at a time will do: whoever is not heard asks again.
        let _ = self.doubts.try_send((generation, connection));
    }

    /// Reports that the connection of this generation is of no use. Said twice, or of an older one, it does nothing.
    pub(super) fn lost(&self, generation: u64, why: &StoreError) {
        lose(&self.state, generation, why);
    }

    /// The hash of the last replication id.
    pub(super) fn epoch(&self) -> String {
        self.record.epoch.lock().unwrap_or_else(PoisonError::into_inner).to_string()
    }

    /// As [`Dialer::lost`].
    pub(super) fn lost_until(&self) -> i64 {
        self.dialer.lost()
    }

    /// Looks at the server anew and writes to it: mended or gone bad, it is known afterwards.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let up = self.get(Use::Read).await?;
        examine(&self.state, &self.dialer, &up).await;
        let up = self.get(Use::Write).await?;
        up.condition.full.clone().map_or(Ok(()), Err)?;
        let touched = self.dialer.touch(&mut up.pipes.first().clone()).await;
        let reached = match (&touched, &up.barrier) {
            (Ok(()), Some(barrier)) => barrier.pass().await.map_err(StoreError::from),
            _ => touched,
        };
        // A write that nobody needs is in no doubt.
        reached.map_err(StoreError::without_doubt)
    }

    pub(super) fn health(&self) -> LinkHealth {
        let state = self.state.borrow().clone();
        let now = self.dialer.instant();
        let since = *self.record.down_since.lock().unwrap_or_else(PoisonError::into_inner);
        let (refuses_writes, hold) = match &state {
            State::Up(up) => {
                let hold = up.condition.hold.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
                (up.check(|| now).err().or(up.condition.full.clone()), hold)
            }
            State::Connecting => {
                (Some(StoreError::Unavailable("a new connection is under way".into())), Duration::ZERO)
            }
            State::Down(why) => (Some(why.clone()), Duration::ZERO),
        };
        LinkHealth {
            address: self.dialer.last_address().map(|address| format!("{}:{}", address.host, address.port)),
            epoch: self.epoch(),
            unavailable_for: since.map(|since| now.saturating_duration_since(since)),
            losses: self.record.losses.load(Ordering::Relaxed),
            refuses_writes,
            hold,
        }
    }

    /// How many connections there are to the server.
    #[cfg(test)]
    pub(crate) fn pipes(&self) -> usize {
        self.now().map_or(0, |up| up.pipes.count())
    }

    /// Waits until the link is up, or until it is known to be down.
    #[cfg(test)]
    pub(crate) async fn wait(&self, up: bool) {
        let mut changes = self.state.subscribe();
        let wanted = |state: &State| match state {
            State::Up(_) => up,
            State::Down(_) => !up,
            State::Connecting => false,
        };
        changes.wait_for(wanted).await.unwrap();
    }
}

fn settled(state: &State) -> Option<Result<Arc<Up>, StoreError>> {
    match state {
        State::Up(up) => Some(Ok(Arc::clone(up))),
        State::Down(why) => Some(Err(why.clone())),
        State::Connecting => None,
    }
}

fn lose(state: &watch::Sender<State>, generation: u64, why: &StoreError) {
    let was_up = state.send_if_modified(|state| {
        let is_up = matches!(state, State::Up(up) if up.generation == generation);
        if is_up {
            *state = State::Connecting;
        }
        is_up
    });
    if was_up {
        tracing::warn!(error = %why, "connection to the store lost");
    }
}

fn warn_of(condition: &Condition) {
    if let Some(hazard) = &condition.hazard {
        tracing::warn!(error = %hazard, "writes to the store are refused");
    }
}

/// Asks the server for its replication id; another one than before is reason to connect anew and judge it.
async fn glance(state: &watch::Sender<State>, dialer: &Dialer, up: &Up, mut connection: MultiplexedConnection) {
    let look = tokio::time::timeout(dialer.timeout(), inspect::glance(&mut connection)).await;
    let why = match look {
        Ok(Ok(id)) if *id == *up.condition.id => return,
        Ok(Ok(_)) => StoreError::Unavailable("Redis has begun another history".into()),
        Ok(Err(why)) => why,
        Err(_) => StoreError::Unavailable("no reply to a check".into()),
    };
    lose(state, up.generation, &why);
}

/// Judges the server anew.
async fn examine(state: &watch::Sender<State>, dialer: &Dialer, up: &Up) {
    match tokio::time::timeout(dialer.timeout(), dialer.examine_again(up)).await {
        Ok(Ok(condition)) => {
            let mut changed = false;
            state.send_if_modified(|state| {
                if let State::Up(now) = state
                    && now.generation == up.generation
                    && now.condition != condition
                {
                    changed = now.condition.hazard != condition.hazard;
                    *now = Arc::new(Up {
                        pipes: Arc::clone(&now.pipes),
                        generation: now.generation,
                        condition: condition.clone(),
                        barrier: now.barrier.clone(),
                        address: now.address.clone(),
                        process: now.process.clone(),
                    });
                    return true;
                }
                false
            });
            if changed {
                warn_of(&condition);
            }
        }
        Ok(Err(why)) => lose(state, up.generation, &why),
        Err(_) => lose(state, up.generation, &StoreError::Unavailable("no reply to a check".into())),
    }
}

struct Keeper {
    state: Arc<watch::Sender<State>>,
    dialer: Arc<Dialer>,
    record: Arc<Record>,
    doubted: mpsc::Receiver<(u64, MultiplexedConnection)>,
    trouble: Arc<Notify>,
}

impl Keeper {
    /// Keeps the link up, for as long as it is polled.
    async fn keep(mut self) {
        let mut changes = self.state.subscribe();
        let mut ticks = tokio::time::interval(GLANCE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut generation, mut glances, mut pause) = (0, 0, FIRST_PAUSE);
        loop {
            let current = changes.borrow_and_update().clone();
            match current {
                State::Up(up) => {
                    tokio::select! {
                        _ = changes.changed() => {}
                        Some((generation, connection)) = self.doubted.recv() => {
                            if generation == up.generation {
                                glance(&self.state, &self.dialer, &up, connection).await;
                            }
                        }
                        _ = ticks.tick() => {
                            glances += 1;
                            self.look(&up, glances % WHOLE == 0).await;
                        }
                    }
                    if matches!(*changes.borrow(), State::Connecting) {
                        self.note_loss();
                    }
                }
                State::Connecting | State::Down(_) => match self.dialer.dial(generation).await {
                    Ok(up) => {
                        if generation > 0 {
                            tracing::info!("connection to the store is back");
                        }
                        generation += 1;
                        pause = FIRST_PAUSE;
                        warn_of(&up.condition);
                        *self.record.epoch.lock().unwrap_or_else(PoisonError::into_inner) =
                            short(&up.condition.id).into();
                        *self.record.down_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
                        self.state.send_replace(State::Up(Arc::new(up)));
                        ticks.reset();
                    }
                    Err(why) => {
                        self.state.send_replace(State::Down(why));
                        self.trouble.notify_one();
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                },
            }
        }
    }

    async fn look(&self, up: &Up, whole: bool) {
        // Each time: a master that was replaced as planned takes writes until it is told, and a process that stays with
        // it promises what the new one does not know.
        match self.dialer.confirm(&up.address).await {
            Err(why) => lose(&self.state, up.generation, &why),
            Ok(()) if whole => examine(&self.state, &self.dialer, up).await,
            Ok(()) => glance(&self.state, &self.dialer, up, up.pipes.first().clone()).await,
        }
    }

    fn note_loss(&self) {
        let mut since = self.record.down_since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            *since = Some(self.dialer.instant());
            self.record.losses.fetch_add(1, Ordering::Relaxed);
            self.trouble.notify_one();
        }
    }
}
