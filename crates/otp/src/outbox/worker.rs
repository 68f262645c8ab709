//! Whoever sends what waits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use safeconduct_otp_domain::queue::{Fate, again, note_again};
use safeconduct_types::{Clock, Timestamp, WorkspaceId};
use tokio_util::sync::CancellationToken;

use super::store::{SHARDS, StoreOutbox, Taken};
use super::{Challenges, Delivery, Due, Message};
use crate::delivery::{Deliveries, Outcome, Outgoing};

/// Between two looks at all queues: what this process itself puts in is seen at once, this is for what others left.
const POLL: Duration = Duration::from_secs(1);
/// Messages that are handed over at the same time.
const AT_ONCE: usize = 64;
/// How long a message waits whose workspace has no place.
const WITHOUT_PLACE: Duration = Duration::from_secs(3);
/// Messages that are taken out of one queue at a time.
const BATCH: usize = 8;
/// The time for one attempt over all providers: with the reads and writes around it less than a lease.
const SEND_WITHIN: Duration = Duration::from_secs(25);

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where messages wait.
    pub outbox: Arc<StoreOutbox>,
    /// How they travel.
    pub deliveries: Arc<Deliveries>,
    /// What is in them.
    pub challenges: Arc<dyn Challenges>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Sends what waits until it is told to stop. Several may work on the same store.
pub struct Worker {
    parts: Parts,
    places: Mutex<Places>,
    /// Of the last look at all queues.
    waiting: AtomicU64,
    given_up: AtomicU64,
}

/// Who is being handed over.
#[derive(Default)]
struct Places {
    taken: usize,
    by_workspace: BTreeMap<WorkspaceId, usize>,
}

/// A place of a workspace, until it is dropped.
struct Place<'a> {
    places: &'a Mutex<Places>,
    workspace: &'a WorkspaceId,
}

impl<'a> Place<'a> {
    /// A workspace has at most as many places as it leaves free: one whose providers hang takes half of them, two take a
    /// third each, and there is always one for the others.
    fn of(places: &'a Mutex<Places>, workspace: &'a WorkspaceId) -> Option<Self> {
        let mut all = places.lock().unwrap_or_else(PoisonError::into_inner);
        let free = AT_ONCE.saturating_sub(all.taken);
        if all.by_workspace.get(workspace).copied().unwrap_or_default() >= free {
            return None;
        }
        *all.by_workspace.entry(workspace.clone()).or_default() += 1;
        all.taken += 1;
        Some(Self { places, workspace })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        all.taken = all.taken.saturating_sub(1);
        if let Some(own) = all.by_workspace.get_mut(self.workspace) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                all.by_workspace.remove(self.workspace);
            }
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker; nothing happens before it is [run](Self::run).
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self { parts, places: Mutex::default(), waiting: AtomicU64::new(0), given_up: AtomicU64::new(0) })
    }

    /// Works until told to stop; then takes nothing more, and ends when what it has taken is settled.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut under_way = FuturesUnordered::new();
        let mut look: BTreeSet<u8> = (0..SHARDS).collect();
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            let whole = look.len() == usize::from(SHARDS);
            let mut waiting = 0;
            for shard in std::mem::take(&mut look) {
                let room = AT_ONCE.saturating_sub(under_way.len()).min(BATCH);
                if room == 0 {
                    look.insert(shard);
                    continue;
                }
                match self.parts.outbox.take(shard, room).await {
                    Ok(found) => {
                        waiting += found.waiting;
                        if found.taken.len() == room {
                            look.insert(shard);
                        }
                        under_way.extend(found.taken.into_iter().map(|taken| self.handle(taken)));
                    }
                    Err(error) => {
                        tracing::warn!(error = error.name(), "the queue of codes to send cannot be read");
                    }
                }
            }
            if whole {
                self.waiting.store(u64::try_from(waiting).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
            // More than fits at once waits for a place, not for the clock.
            let more = !look.is_empty() && under_way.len() < AT_ONCE;
            tokio::select! {
                () = stop.cancelled() => {}
                () = std::future::ready(()), if more => {}
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                fresh = self.parts.outbox.fresh() => look.extend(fresh),
                _ = poll.tick() => look.extend(0..SHARDS),
            }
        }
        while under_way.next().await.is_some() {}
    }

    async fn handle(&self, taken: Taken) {
        let fate = if let Some(message) = &taken.message {
            match Place::of(&self.places, &message.workspace) {
                Some(_place) => self.attempt(&taken, message).await,
                // Nothing is sent for it any more, which takes no place.
                None if taken.at >= message.expires || taken.entry.outcome.is_some() => {
                    self.attempt(&taken, message).await
                }
                None => Fate::Back(taken.at.after(WITHOUT_PLACE)),
            }
        } else {
            tracing::error!("a message that waits cannot be opened; it is given up");
            self.given_up.fetch_add(1, Ordering::Relaxed);
            Fate::Done
        };
        if let Err(error) = self.parts.outbox.settle(taken.shard, &taken.entry, fate).await {
            // Its lease ends, and it may be sent once more.
            tracing::warn!(error = error.name(), "what became of a message cannot be noted");
        }
    }

    async fn attempt(&self, taken: &Taken, message: &Message) -> Fate {
        // Codes and queues live by the store's clock; this machine's may be another.
        let since = self.parts.clock.instant();
        let store_time = || taken.at.after(self.parts.clock.instant().saturating_duration_since(since));
        let now = store_time();
        if let Some(delivery) = taken.entry.outcome {
            return self.note(taken, message, delivery, now).await;
        }
        if now >= message.expires {
            return self.give_up(taken, message, now, "its code has ended").await;
        }
        let later = |asked| again(&taken.entry, store_time(), asked);
        let content = match self.parts.challenges.content(message).await {
            Ok(Due::Send(content)) => content,
            Ok(Due::Nothing) => return Fate::Done,
            Ok(Due::Never(why)) => return self.give_up(taken, message, now, why).await,
            Err(refusal) => {
                tracing::warn!(reason = refusal.reason().as_str(), "a code cannot be made now");
                return match later(None) {
                    Some(at) => Fate::Again(at),
                    None => self.give_up(taken, message, store_time(), "its verification cannot be read").await,
                };
            }
        };
        let outgoing = Outgoing {
            id: &taken.entry.id,
            to: message.to.as_str(),
            subject: &content.subject,
            text: &content.text,
            html: &content.html,
            code: &content.code,
        };
        let left = message.expires.since(now).min(SEND_WITHIN);
        match self.parts.deliveries.send(&message.workspace, message.to.channel(), &outgoing, left).await {
            Outcome::Sent => self.note(taken, message, Delivery::Sent, store_time()).await,
            Outcome::Refused(why) => self.give_up(taken, message, store_time(), why).await,
            Outcome::Later(why, asked) => match later(asked) {
                Some(at) => {
                    let workspace = message.workspace.as_str();
                    tracing::warn!(why, workspace, attempts = taken.entry.attempts, "no provider took a code; again");
                    Fate::Again(at)
                }
                None => self.give_up(taken, message, store_time(), why).await,
            },
        }
    }

    async fn give_up(&self, taken: &Taken, message: &Message, now: Timestamp, why: &str) -> Fate {
        let (workspace, channel) = (message.workspace.as_str(), message.to.channel().as_str());
        tracing::error!(why, workspace, channel, "a code was not delivered");
        self.given_up.fetch_add(1, Ordering::Relaxed);
        self.note(taken, message, Delivery::Failed, now).await
    }

    /// Notes what became of a message. Who cannot now does so later, and sends nothing again.
    async fn note(&self, taken: &Taken, message: &Message, delivery: Delivery, now: Timestamp) -> Fate {
        let Err(refusal) = self.parts.challenges.report(message, delivery).await else { return Fate::Done };
        tracing::warn!(reason = refusal.reason().as_str(), "the state of a delivery cannot be noted now");
        note_again(&taken.entry, now).map_or(Fate::Done, |at| Fate::Note(at, delivery))
    }

    /// Adds its counters in the form of Prometheus.
    pub fn metrics(&self, text: &mut String) {
        let name = "safeconduct_otp_outbox_messages";
        let _ = writeln!(text, "# HELP {name} Codes that wait to be sent, at the last look.\n# TYPE {name} gauge");
        let _ = writeln!(text, "{name} {}", self.waiting.load(Ordering::Relaxed));
        let name = "safeconduct_otp_undelivered_total";
        let _ = writeln!(text, "# HELP {name} Codes that no provider took before they ended.\n# TYPE {name} counter");
        let _ = writeln!(text, "{name} {}", self.given_up.load(Ordering::Relaxed));
        self.parts.deliveries.metrics(text);
    }
}
