//! Makes connections that lead to a master and have been checked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, cmd};
use safeconduct_types::Clock;

use super::barrier::{Barrier, Waiting};
use super::fault::{Fault, is_elsewhere};
use super::inspect::{Server, inspect};
use super::lineage::{Finding, Lineage, Memory, Note, Policy, short};
use super::link::{Condition, Up};
use super::options::{Address, Durability, Reach};
use super::pipes::Pipes;
use super::sentinel::Sentinels;
use crate::{Pace, StoreError};

/// Calls that may be queued on a connection; the client's own 50 makes a burst wait in line twice.
const PIPELINE: usize = 1024;

/// How often a note is tried to be replaced before others are left to do it.
const ATTEMPTS: usize = 5;

/// How long after the first process has found a new master the last one may still write to the old one: a glance, the
/// Sentinels' answer, and the calls that were under way. A hold is longer by it, so that what was promised then is over
/// too.
const STRAGGLERS: Duration = Duration::from_secs(5);

const LINEAGE: &str = include_str!("lineage.lua");

/// What all links of a store have in common.
pub(super) struct Terms {
    pub(super) connect_timeout: Duration,
    pub(super) durability: Durability,
    pub(super) recovery_hold: Duration,
    pub(super) hold_after_restart: bool,
    pub(super) allow_unsafe: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pace: Pace,
    pub(super) memory: Memory,
    /// Which servers are masters, on a cluster.
    pub(super) masters: Mutex<Vec<Address>>,
}

impl Terms {
    /// How long a shard is held back.
    fn hold(&self) -> Duration {
        if self.recovery_hold.is_zero() { Duration::ZERO } else { self.recovery_hold + STRAGGLERS }
    }

    /// The master whose address has this hash, if it is one now.
    fn master(&self, hash: &str) -> Option<Address> {
        let masters = self.masters.lock().unwrap_or_else(PoisonError::into_inner);
        masters.iter().find(|address| place(address) == hash).cloned()
    }
}

/// Where a master is.
pub(super) enum Target {
    Fixed(Address),
    Sentinels(Sentinels),
}

/// A running server, in one of its histories.
#[derive(Clone, Debug)]
pub(super) struct Process {
    run: Arc<str>,
    id: Arc<str>,
}

/// Makes the connections of one link.
pub(super) struct Dialer {
    pub(super) target: Target,
    pub(super) reach: Reach,
    /// The hash tag of a slot that this master has, for the keys of the store itself; `None`: it has no slot.
    pub(super) tag: Option<String>,
    /// That of another slot of a cluster's master: when its lowest goes elsewhere, which is where resharding begins, this
    /// one stays for a while.
    pub(super) other_tag: Option<String>,
    pub(super) terms: Arc<Terms>,
    /// Where the last connection led.
    last: Mutex<Option<Address>>,
}

impl Dialer {
    pub(super) fn new(target: Target, reach: Reach, tag: Option<String>, terms: Arc<Terms>) -> Self {
        let last = match &target {
            Target::Fixed(address) => Some(address.clone()),
            Target::Sentinels(_) => None,
        };
        Self { target, reach, tag, other_tag: None, terms, last: Mutex::new(last) }
    }

    pub(super) fn instant(&self) -> Instant {
        self.terms.clock.instant()
    }

    pub(super) fn timeout(&self) -> Duration {
        self.terms.connect_timeout
    }

    /// Until when writes were held back the last time, in microseconds on the store's clock; 0 if never.
    pub(super) fn lost(&self) -> i64 {
        self.tag.as_ref().map_or(0, |tag| self.terms.memory.lost(tag))
    }

    pub(super) fn last_address(&self) -> Option<Address> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A connection to the master as it now is.
    pub(super) async fn dial(&self, generation: u64) -> Result<Up, StoreError> {
        let dial = async {
            let address = self.find().await?;
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(address.clone());
            let mut connection = self.connect(&address).await?;
            let server = inspect(&mut connection, &place(&address)).await?;
            let condition = self.condition(&mut connection, &server).await?;
            let process = Process { run: server.lineage.run.as_str().into(), id: Arc::clone(&condition.id) };
            let barrier = self.barrier(&address, &process).await?;
            let pipes = Arc::new(Pipes::beside(connection));
            Ok(Up { pipes, generation, condition, barrier, address, process })
        };
        tokio::time::timeout(self.timeout(), dial)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("no connection within the connect time-out".into())))
    }

    async fn find(&self) -> Result<Address, StoreError> {
        match &self.target {
            Target::Fixed(address) => Ok(address.clone()),
            Target::Sentinels(sentinels) => sentinels.ask(self.timeout() / 2).await,
        }
    }

    async fn connect(&self, address: &Address) -> Result<MultiplexedConnection, StoreError> {
        // Our own time-outs cover whole calls.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE);
        let client = self.reach.client(address)?;
        client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| Fault::of(&error).into())
    }

    /// An error if the Sentinels name another master by now. If they name none, nothing follows from it.
    pub(super) async fn confirm(&self, address: &Address) -> Result<(), StoreError> {
        match &self.target {
            Target::Sentinels(sentinels) => match sentinels.ask(self.timeout() / 2).await {
                Ok(master) if master != *address => {
                    Err(StoreError::Unavailable("the Sentinels name another master".into()))
                }
                Ok(_) | Err(_) => Ok(()),
            },
            Target::Fixed(_) => Ok(()),
        }
    }

    /// Judges the server behind a connection anew.
    pub(super) async fn examine_again(&self, up: &Up) -> Result<Condition, StoreError> {
        let mut connection = up.pipes.first().clone();
        let server = inspect(&mut connection, &place(&up.address)).await?;
        if *server.lineage.id != *up.condition.id {
            return Err(StoreError::Unavailable("Redis has begun another history".into()));
        }
        self.condition(&mut connection, &server).await
    }

    async fn condition(
        &self,
        connection: &mut MultiplexedConnection,
        server: &Server,
    ) -> Result<Condition, StoreError> {
        let (hold, unnoted) = self.history(connection, server).await?;
        let mut hazard = server.hazard.clone().or(unnoted);
        if let Durability::Replicated { replicas, .. } = self.terms.durability
            && server.replicas > u64::from(replicas)
        {
            hazard = hazard.or(Some(StoreError::Unsafe(
                "Redis has more replicas than store.replicas says; one that has not acknowledged a write could take over"
                    .into(),
            )));
        }
        Ok(Condition {
            id: server.lineage.id.as_str().into(),
            hazard: hazard.filter(|_| !self.terms.allow_unsafe),
            hold: hold.filter(|_| !self.terms.allow_unsafe),
            full: server.full.clone(),
        })
    }

    /// Until when writes are held back, and why the server's note could not be written.
    async fn history(
        &self,
        connection: &mut MultiplexedConnection,
        server: &Server,
    ) -> Result<(Option<Instant>, Option<StoreError>), StoreError> {
        let terms = &self.terms;
        let policy =
            Policy { replicated: terms.durability != Durability::Local, hold_after_restart: terms.hold_after_restart };
        let name = self.tag.as_ref().map_or_else(|| server.lineage.place.clone(), String::clone);
        let (mut old, mut new) = (String::new(), String::new());
        let (mut unnoted, mut judged) = (None, None);
        // By another slot it may have been seen before.
        let (held, lost_before) = terms.memory.of(&server.lineage);
        for _ in 0..ATTEMPTS {
            let band = terms.pace.band();
            let answer: (Option<String>, i64) = match &self.tag {
                None => (None, terms.pace.estimate().as_millis().saturating_mul(1000)),
                Some(tag) => {
                    let mut call = cmd("EVAL");
                    call.arg(LINEAGE).arg(1).arg(format!("{{{tag}}}:lineage")).arg(&old).arg(&new);
                    match call.query_async(connection).await {
                        Ok(answer) => answer,
                        // The note is on its way with its slot, or gone. What was found out before stands.
                        Err(error) if is_elsewhere(&error) && terms.memory.has_judged(&server.lineage) => {
                            return Ok((held, None));
                        }
                        Err(error) => {
                            // It cannot be noted now: nothing is written either, until the next look.
                            unnoted = Some(Fault::of(&error).refusal()?);
                            break;
                        }
                    }
                }
            };
            let (text, told) = answer;
            if self.tag.is_some() {
                terms.pace.observe(band, told);
            }
            let now = band.clamp(told);
            let note = text.as_deref().and_then(Note::parse);
            let finding = match &note {
                Some(note) if self.came_with_a_slot(note, &server.lineage, policy).await => {
                    Finding::Replace(note.adopted(&server.lineage))
                }
                _ => terms.memory.judge(&name, note.as_ref(), &server.lineage, policy, now),
            };
            match finding {
                Finding::Stands(note) => {
                    judged = Some((note.left(terms.hold(), now), note.ends(terms.hold())));
                    break;
                }
                Finding::Replace(note) => {
                    let note = note.until(lost_before, terms.hold());
                    judged = Some((note.left(terms.hold(), now), note.ends(terms.hold())));
                    if self.tag.is_none() {
                        break;
                    }
                    old = text.unwrap_or_else(|| "-".to_owned());
                    new = note.text();
                }
            }
        }
        // What was not compared is not taken for known.
        let Some((left, lost)) = judged else { return Ok((None, unnoted)) };
        let until = Some(left).filter(|left| !left.is_zero()).and_then(|left| self.instant().checked_add(left));
        let until = terms.memory.keep(&name, &server.lineage, until.max(held), lost.max(lost_before));
        if server.replicas > 0 && !new.is_empty() && unnoted.is_none() {
            // The replicas that are there should know it before the first record. Best effort.
            let _ = cmd("WAIT").arg(server.replicas).arg(100).query_async::<i64>(connection).await;
        }
        Ok((until, unnoted))
    }

    /// Whether a note is not of this server's past, but of another master's that is there and well.
    async fn came_with_a_slot(&self, note: &Note, now: &Lineage, policy: Policy) -> bool {
        let terms = &self.terms;
        // Both are masters by the same map: one from before a fail-over has the new master nowhere.
        let listed = terms.master(&now.place).is_some();
        if !note.may_be_of_another(now) || !listed || !terms.memory.vouches_for(now, policy) {
            return false;
        }
        let Some(address) = terms.master(note.place()) else { return false };
        let asked = async {
            let mut connection = self.connect(&address).await?;
            inspect(&mut connection, &place(&address)).await
        };
        let there = tokio::time::timeout(self.timeout() / 2, asked).await;
        there.is_ok_and(|there| there.is_ok_and(|there| note.is_of(&there.lineage, policy)))
    }

    /// One more connection to this process, and to none that has taken its place since.
    pub(super) async fn another(
        &self,
        address: &Address,
        process: &Process,
    ) -> Result<MultiplexedConnection, StoreError> {
        tokio::time::timeout(self.timeout(), self.beside(address, process))
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("no connection within the connect time-out".into())))
    }

    async fn beside(&self, address: &Address, process: &Process) -> Result<MultiplexedConnection, StoreError> {
        let mut connection = self.connect(address).await?;
        let again = inspect(&mut connection, &place(address)).await?.lineage;
        if (again.run.as_str(), again.id.as_str()) != (&*process.run, &*process.id) {
            return Err(StoreError::Unavailable("Redis was replaced while connecting".into()));
        }
        Ok(connection)
    }

    async fn barrier(&self, address: &Address, process: &Process) -> Result<Option<Barrier>, StoreError> {
        let keys = self.touched();
        let Durability::Replicated { replicas, timeout } = self.terms.durability else { return Ok(None) };
        if keys.is_empty() {
            return Ok(None);
        }
        let connection = self.beside(address, process).await?;
        let mut waiting = Waiting { connection, keys, replicas, timeout: timeout.min(self.timeout() / 4) };
        let keeps_up = matches!(waiting.count().await, Ok(count) if count >= replicas);
        Ok(Some(Barrier::new(Waiting { timeout, ..waiting }, !keeps_up)))
    }

    /// A write that means nothing: whether one is taken.
    pub(super) async fn touch(&self, connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let mut answer = Ok(());
        for key in self.touched() {
            let mut write = cmd("SET");
            write.arg(key).arg(0).arg("PX").arg(60_000);
            answer = write.exec_async(connection).await;
            if !answer.as_ref().is_err_and(is_elsewhere) {
                break;
            }
        }
        answer.map_err(|error| Fault::of(&error).into())
    }

    /// Keys that mean nothing, in slots of this master.
    fn touched(&self) -> Vec<String> {
        self.tag.iter().chain(&self.other_tag).map(|tag| format!("{{{tag}}}:touched")).collect()
    }
}

fn place(address: &Address) -> String {
    short(&format!("{}:{}", address.host, address.port))
}
