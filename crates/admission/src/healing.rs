//! Looks after reservations that nobody reported back on, for whoever was denied.
//!
//! In rounds of [`AT_A_TIME`], one at a time for each slot: whoever is denied meanwhile waits for the round that is under
//! way, or for the next one, and asks again if it was of use. So a limit that is used up costs a process one look at a
//! time, however many ask for it; and each of them is answered within [`PATIENCE`] more than it would be.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use safeconduct_admission_domain::Name;
use safeconduct_store::{RecordKey, Slot};
use safeconduct_types::{ExecutionId, Refusal, Timestamp};

use crate::keys;
use crate::ledger::{Ledger, Page, RETRY_AFTER, refusal};
use crate::view::View;

/// How many reservations that are due are looked after at a time, before who was denied asks once more.
pub(crate) const AT_A_TIME: usize = 32;
/// How many of them at once.
const AT_ONCE: usize = 8;
/// How many rounds somebody who was denied waits for. A process that dies leaves as many reservations as it had requests
/// under way. Fewer in tests, where each costs commits on a busy disk.
pub(crate) const ROUNDS: u32 = if cfg!(test) { 6 } else { 32 };
/// And for how long in all.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many are remembered as not to be had, for [`RETRY_AFTER`]: they are left alone, and those behind them are not.
const LEFT: usize = 1024;
/// How many slots are remembered when nobody waits for a round there.
const KEPT: usize = 256;

/// What somebody who was denied has waited for.
#[derive(Debug, Default)]
pub(crate) struct Healing {
    rounds: u32,
    until: Option<Timestamp>,
}

/// The rounds of all slots.
#[derive(Debug, Default)]
pub(crate) struct Healers(Mutex<HashMap<Slot, Arc<Healer>>>);

/// The rounds of one slot. They are numbered.
#[derive(Debug, Default)]
struct Healer {
    /// The last that began.
    begun: AtomicU64,
    /// The last that ended.
    ended: AtomicU64,
    found: tokio::sync::Mutex<Found>,
}

/// What the rounds have found; whoever has it locked makes the next one.
#[derive(Debug, Default)]
struct Found {
    /// The last round that looked after something.
    useful: u64,
    /// What is due and could not be looked after.
    left: HashSet<ExecutionId>,
    /// Until when those are left alone.
    left_until: Timestamp,
}

impl Healers {
    fn of(&self, slot: &Slot) -> Arc<Healer> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT && !all.contains_key(slot) {
            all.retain(|_, healer| Arc::strong_count(healer) > 1);
        }
        Arc::clone(all.entry(slot.clone()).or_default())
    }
}

impl Ledger {
    /// Looks after some reservations of this page that are due. Whether it is worth while to ask once more.
    pub(crate) async fn heal(&self, page: &Page<'_>, healing: &mut Healing) -> Result<bool, Refusal> {
        let now = self.engine.now_estimate();
        let until = *healing.until.get_or_insert(now.after(PATIENCE));
        if healing.rounds >= ROUNDS || until <= now {
            return Ok(false);
        }
        healing.rounds = healing.rounds.saturating_add(1);
        let healer = self.healers.of(&page.slot);
        tokio::time::timeout(until.since(now), self.join_round(page, &healer)).await.unwrap_or(Ok(false))
    }

    async fn join_round(&self, page: &Page<'_>, healer: &Healer) -> Result<bool, Refusal> {
        let ended = healer.ended.load(Ordering::Acquire);
        let begun = healer.begun.load(Ordering::Acquire);
        // Held while the round is made: that is what others wait for.
        let mut found = healer.found.lock().await;
        if found.useful > ended {
            return Ok(true);
        }
        if healer.ended.load(Ordering::Acquire) > begun {
            // Another round, begun after this request was denied, has found nothing.
            return Ok(false);
        }
        let round = healer.begun.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let looked_after = self.round(page, &mut found).await?;
        if looked_after {
            found.useful = round;
        }
        healer.ended.store(round, Ordering::Release);
        Ok(looked_after)
    }

    /// Whether anything was looked after.
    async fn round(&self, page: &Page<'_>, found: &mut Found) -> Result<bool, Refusal> {
        let shared = page.route.is_empty();
        let index =
            if shared { keys::holds(&self.keyer, &page.slot) } else { keys::reserving(&self.keyer, &page.slot) };
        if found.left_until <= self.engine.now_estimate() {
            found.left.clear();
        }
        let most = AT_A_TIME.min(LEFT.saturating_sub(found.left.len()));
        let mut due = self.due(&page.slot, &index, most.saturating_add(found.left.len())).await?;
        due.retain(|id| !found.left.contains(id));
        due.truncate(most);
        if found.left.is_empty() {
            found.left_until = self.engine.now_estimate().after(RETRY_AFTER);
        }
        // Before it is known: a shard that says nothing holds up this round, but not the next one too.
        found.left.extend(due.iter().cloned());
        let looks = due.into_iter().map(|id| async move {
            let looked =
                if shared { self.look_after(page, &id).await } else { self.resolve(page.workspace, &id).await };
            (id, looked)
        });
        let looks: Vec<_> = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
        let any = !looks.is_empty();
        for (id, looked) in looks {
            let done = looked.unwrap_or_else(|refusal| {
                // Another shard of the store may be gone. Whoever was denied is denied all the same.
                tracing::warn!(reason = refusal.reason().as_str(), "a reservation was not looked after yet");
                false
            });
            if done {
                found.left.remove(&id);
            }
        }
        Ok(any)
    }

    /// Closes a hold if its record says so, or looks again later.
    async fn look_after(&self, shared: &Page<'_>, id: &ExecutionId) -> Result<bool, Refusal> {
        let page = self.page(shared.workspace, id.route());
        let mut view = View::blank();
        page.read(&mut view, &[Name::Execution(id.clone())]).await?;
        self.close(shared.workspace, View::blank(), view.now, id, view.found.execution(id)).await.map(|_| true)
    }

    async fn due(&self, slot: &Slot, index: &RecordKey, most: usize) -> Result<Vec<ExecutionId>, Refusal> {
        let now = self.engine.now_estimate().as_millis();
        let (_, due) = self.engine.index(slot, index, 0..=now, most, false).await.map_err(refusal)?;
        let id = |(_, member): (i64, bytes::Bytes)| std::str::from_utf8(&member).ok()?.parse().ok();
        Ok(due.into_iter().filter_map(id).collect())
    }
}
