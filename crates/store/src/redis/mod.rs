//! Redis: one server, the master that Sentinels name, or a cluster; and the way to run scripts on it.
//!
//! - `options.rs`, `sentinel.rs`, `cluster.rs`: where the masters are. `dial.rs`, `link.rs`, `pipes.rs`: the connections
//!   to one.
//! - `inspect.rs`, `lineage.rs`: may it be trusted, and does it know what was acknowledged?
//! - `barrier.rs`: the wait for replicas. `fault.rs`: what an error means. `script.rs`, `records.rs`: what is run.

mod barrier;
mod cluster;
mod dial;
mod fault;
mod hash_slot;
mod inspect;
mod lineage;
mod link;
mod options;
mod pipes;
mod records;
mod script;
mod sentinel;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, Pipeline, RedisError, Value};
use safeconduct_types::{SystemClock, Timestamp};
use tokio::sync::Notify;

use crate::trace::traced;
use crate::{Pace, RecordKey, Slot, StoreError};
use cluster::Cluster;
use dial::{Dialer, Target, Terms};
use fault::Fault;
use lineage::Memory;
use link::{Link, Up};
pub use link::{LinkHealth, Use};
use options::Route;
pub use options::{Durability, RedisOptions, RedisServers};
pub use records::RedisRecords;
pub use script::{Arg, Reply, Script};
use sentinel::Sentinels;

/// How often one call follows a slot to another server.
const MOVES: u8 = 4;

/// How long to wait before a call whose keys are on two servers is tried again.
const BETWEEN: Duration = Duration::from_millis(20);

/// The tag of the store's own keys where all slots are on one server.
const TAG: &str = "safeconduct";

/// A Redis, and the way to run scripts on it. Cheap to clone.
///
/// A lost connection is mended in the background; calls that come meanwhile wait for the first attempt, and once
/// that has failed they fail at once until there is a master again. Reads are served by a server that is not safe to
/// write to; writes are not.
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    masters: Masters,
    terms: Arc<Terms>,
    reply_timeout: Duration,
}

enum Masters {
    One(Arc<Link>),
    Cluster(Cluster),
}

impl RedisStore {
    /// Connects, checks the servers, and keeps the connections from then on. Fails if the first attempt does.
    pub async fn connect(options: RedisOptions) -> Result<Self, StoreError> {
        let route = Route::of(&options).await?;
        let pace = options.clock.clone().map_or_else(|| Pace::new(Arc::new(SystemClock)), Pace::forced);
        let terms = Arc::new(Terms {
            connect_timeout: options.connect_timeout,
            durability: options.durability,
            recovery_hold: options.recovery_hold,
            hold_after_restart: options.hold_after_restart,
            allow_unsafe: options.allow_unsafe,
            clock: options.clock.unwrap_or_else(|| Arc::new(SystemClock)),
            pace,
            memory: Memory::default(),
            masters: Mutex::default(),
        });
        let one = async |target, reach| {
            let dialer = Dialer::new(target, reach, Some(TAG.to_owned()), Arc::clone(&terms));
            let link = Arc::new(Link::start(dialer, Arc::new(Notify::new())));
            link.get(Use::Read).await?;
            Ok::<_, StoreError>(Masters::One(link))
        };
        let masters = match route {
            Route::Standalone(address, reach) => one(Target::Fixed(address), reach).await?,
            Route::Sentinel { sentinels, to_sentinels, master, to_master } => {
                let sentinels = Sentinels { addresses: sentinels, reach: to_sentinels, master };
                one(Target::Sentinels(sentinels), to_master).await?
            }
            Route::Cluster(seeds, reach) => Masters::Cluster(Cluster::open(seeds, reach, Arc::clone(&terms)).await?),
        };
        Ok(Self(Arc::new(Inner { masters, terms, reply_timeout: options.reply_timeout })))
    }

    /// Runs a script on the master of `slot`, whose keys these are (a script without keys will not find its way in a
    /// cluster). It is sent once more if the connection broke, so a script that writes must be idempotent.
    ///
    /// [`Use::Write`] is answered when it is as durable as the options ask for. It is refused by a server that is
    /// unsafe or held back, and [`StoreError::Unanswered`] if it may have been done.
    pub async fn run(
        &self,
        slot: &Slot,
        script: &Script,
        keys: &[RecordKey],
        args: &[Arg<'_>],
        purpose: Use,
    ) -> Result<Reply, StoreError> {
        traced("redis", script.name(), keys.len(), self.call(slot, script, keys, args, purpose)).await
    }

    /// The estimate of the store's clock.
    pub fn pace(&self) -> &Pace {
        &self.0.terms.pace
    }

    /// A short name of the history that the slot's master writes; another one after a fail-over or a restart. Empty
    /// while no master of the slot has ever been reached.
    pub fn epoch(&self, slot: &Slot) -> String {
        self.0.link(slot).map(|link| link.epoch()).unwrap_or_default()
    }

    /// Until when, on the store's clock, writes to this slot were held back the last time because others may have been
    /// lost: of what was written before, some may be missing. The epoch if nothing can have been lost, as far as is
    /// known.
    pub fn lost_until(&self, slot: &Slot) -> Timestamp {
        let micros = self.0.link(slot).map_or(0, |link| link.lost_until());
        Timestamp::from_millis(micros.saturating_add(999).div_euclid(1000))
    }

    /// Whether all masters answer and would take a write.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let every = async {
            let mut pings = tokio::task::JoinSet::new();
            for link in self.0.links() {
                pings.spawn(async move { link.ping().await });
            }
            let mut first = Ok(());
            while let Some(answer) = pings.join_next().await {
                first = first.and(answer.unwrap_or_else(|_| Err(StoreError::Unavailable("a check broke off".into()))));
            }
            first
        };
        let bounded =
            async { tokio::time::timeout(self.0.reply_timeout, every).await.unwrap_or_else(|_| Err(timed_out())) };
        traced("redis", "ping", 0, bounded).await
    }

    /// How the link to each master fares; in a cluster, those of the present map.
    pub fn health(&self) -> Vec<LinkHealth> {
        self.0.links().iter().map(|link| link.health()).collect()
    }

    /// As `run`, without a span.
    async fn call(
        &self,
        slot: &Slot,
        script: &Script,
        keys: &[RecordKey],
        args: &[Arg<'_>],
        purpose: Use,
    ) -> Result<Reply, StoreError> {
        let mut call = Call { inner: &self.0, slot, script, keys, args, purpose, sent_on: None, in_doubt: false };
        let error = match tokio::time::timeout(self.0.reply_timeout, call.answer()).await {
            Ok(Ok(answer)) => return Reply::from_value(answer),
            Ok(Err(error)) => error,
            Err(_) => {
                let why = timed_out();
                if let Some((link, generation, connection)) = call.sent_on.take() {
                    call.in_doubt = true;
                    link.doubt(generation, connection);
                }
                why
            }
        };
        Err(match purpose {
            Use::Write if call.in_doubt => error.in_doubt(),
            Use::Write => error,
            Use::Read | Use::Volatile | Use::Firm | Use::FirmIfAny => error.without_doubt(),
        })
    }

    #[cfg(test)]
    pub(crate) fn only_link(&self) -> Arc<Link> {
        self.0.links().remove(0)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

impl Inner {
    fn link(&self, slot: &Slot) -> Result<Arc<Link>, StoreError> {
        match &self.masters {
            Masters::One(link) => Ok(Arc::clone(link)),
            Masters::Cluster(cluster) => cluster.link(slot),
        }
    }

    fn links(&self) -> Vec<Arc<Link>> {
        match &self.masters {
            Masters::One(link) => vec![Arc::clone(link)],
            Masters::Cluster(cluster) => cluster.links(),
        }
    }
}

/// One call and its repeats.
struct Call<'a> {
    inner: &'a Inner,
    slot: &'a Slot,
    script: &'a Script,
    keys: &'a [RecordKey],
    args: &'a [Arg<'a>],
    purpose: Use,
    /// On which connection it was last sent, if its answer has not come.
    sent_on: Option<(Arc<Link>, u64, MultiplexedConnection)>,
    /// Whether an attempt may have been carried out unseen.
    in_doubt: bool,
}

impl Call<'_> {
    async fn answer(&mut self) -> Result<Value, StoreError> {
        let command = self.script.call(self.keys, self.args);
        let mut repeat = true;
        let mut moves = MOVES;
        let mut detour = None;
        loop {
            let (link, ask) = match detour.take() {
                Some(link) => (link, true),
                None => (self.inner.link(self.slot)?, false),
            };
            let up = link.get(self.purpose).await?;
            let fault = match self.attempt(&link, &up, &command, ask).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            match (fault, &self.inner.masters) {
                (Fault::Demoted(why) | Fault::Lost(why), masters) => {
                    link.lost(up.generation, &why);
                    if let Masters::Cluster(cluster) = masters {
                        cluster.doubt();
                    }
                    if !std::mem::take(&mut repeat) {
                        return Err(why);
                    }
                }
                (Fault::Moved(to), Masters::Cluster(cluster)) if moves > 0 => {
                    moves -= 1;
                    cluster.moved(self.slot, &up.address, &to.beside(&up.address)).await?;
                }
                (Fault::Ask(to), Masters::Cluster(cluster)) if moves > 0 => {
                    moves -= 1;
                    detour = Some(cluster.newcomer(&to.beside(&up.address)));
                }
                // Bounded by the reply time-out: a slot is moved in moments.
                (Fault::Between, Masters::Cluster(_)) => tokio::time::sleep(BETWEEN).await,
                (Fault::Masterless(why), Masters::Cluster(cluster)) => {
                    cluster.doubt();
                    return Err(why);
                }
                (Fault::Moved(_) | Fault::Ask(_), Masters::Cluster(_)) => {
                    let why = "the servers of the cluster do not agree on who has the record";
                    return Err(StoreError::Unavailable(why.into()));
                }
                (fault, _) => return Err(fault.into()),
            }
        }
    }

    /// Sends the call once and waits for the answer, and for replicas if it needs them.
    async fn attempt(&mut self, link: &Arc<Link>, up: &Up, command: &Cmd, ask: bool) -> Result<Value, Fault> {
        let mut connection = link.pipe(up);
        self.sent_on = Some((Arc::clone(link), up.generation, connection.clone()));
        let answer = if ask {
            self.asking(&mut connection, command).await
        } else {
            let answer = connection.send_packed_command(command).await.and_then(Value::extract_error);
            if answer.as_ref().is_err_and(is_unknown) {
                let command = self.script.teach(self.keys, self.args);
                connection.send_packed_command(&command).await.and_then(Value::extract_error)
            } else {
                answer
            }
        };
        self.sent_on = None;
        let answer = answer.map_err(|error| {
            let fault = Fault::of(&error);
            self.in_doubt |= matches!(fault, Fault::Lost(_));
            fault
        })?;
        if let Some(barrier) = up.barrier.as_ref().filter(|_| self.waits(&answer)) {
            if self.purpose != Use::Write {
                // It has changed nothing, and need not find out once more that they do not keep up.
                barrier.check().map_err(Fault::Refused)?;
            }
            self.in_doubt = true;
            barrier.pass().await?;
        }
        Ok(answer)
    }

    /// Whether the answer is given when the replicas have what it is about.
    fn waits(&self, answer: &Value) -> bool {
        match self.purpose {
            Use::Write | Use::Firm => true,
            Use::FirmIfAny => {
                matches!(answer, Value::Array(items) if items.iter().any(|item| matches!(item, Value::BulkString(_))))
            }
            Use::Read | Use::Volatile => false,
        }
    }

    /// The same for a slot that is on its way to this server.
    async fn asking(&self, connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Value, RedisError> {
        let replicas = match self.inner.terms.durability {
            Durability::Replicated { replicas, timeout } if !matches!(self.purpose, Use::Read | Use::Volatile) => {
                Some((replicas, timeout))
            }
            Durability::Replicated { .. } | Durability::Local => None,
        };
        let all = |command: &Cmd| {
            let mut all = Pipeline::new();
            all.cmd("ASKING").ignore().add_command(command.clone());
            if let Some((replicas, timeout)) = replicas {
                if self.purpose != Use::Write {
                    // Waiting is for what this connection has written.
                    let mut touch = ::redis::cmd("SET");
                    touch.arg(format!("{{{}}}:touched", self.slot.as_str())).arg(0).arg("PX").arg(60_000);
                    all.cmd("ASKING").ignore().add_command(touch).ignore();
                }
                // The server has no slot yet, and so no key to write for a barrier: everything behind waits as well.
                all.cmd("WAIT").arg(replicas).arg(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1));
            }
            all
        };
        let mut answer: Result<Vec<Value>, _> = all(command).query_async(connection).await;
        if answer.as_ref().is_err_and(is_unknown) {
            answer = all(&self.script.teach(self.keys, self.args)).query_async(connection).await;
        }
        let mut answer = answer?.into_iter();
        let (value, reached) = (answer.next().unwrap_or_default(), answer.next());
        match (replicas, reached) {
            (Some((replicas, _)), Some(Value::Int(reached))) if reached < i64::from(replicas) => {
                Err(std::io::Error::other("replicas did not acknowledge a write in time").into())
            }
            _ => Ok(value),
        }
    }
}

fn is_unknown(error: &RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

fn timed_out() -> StoreError {
    StoreError::Unavailable("no reply within the reply time-out".into())
}
