//! Duplicates of a request that runs wait for what comes of it.
//!
//! A wake-up is a hint, the record is the truth: whoever is woken decides anew. In this process a settle wakes them at
//! once. For what other processes settle, one waiter of each execution looks at its record now and then, for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use safeconduct_admission_domain::{Admit, Name};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::admit_response::Decision;
use safeconduct_service::wire::to_mark;
use safeconduct_types::{ExecutionId, Refusal};
use tokio::sync::{Semaphore, watch};

use crate::Admission;
use crate::ledger::{Page, refusal};
use crate::view::View;
use crate::wire::Checks;

/// Most requests that wait at a time; more are answered `running` at once.
const MAX_WAITERS: usize = 10_000;
/// The first pause between two looks at a record, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// Who waits for which execution.
#[derive(Debug)]
pub(crate) struct Waiters {
    rooms: Mutex<HashMap<ExecutionId, Arc<Room>>>,
    places: Semaphore,
}

/// Those who wait for one execution.
#[derive(Debug)]
struct Room {
    /// Counts wake-ups.
    woken: watch::Sender<u64>,
    /// Held by the one who looks at the record for all.
    turn: tokio::sync::Mutex<()>,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self { rooms: Mutex::default(), places: Semaphore::new(MAX_WAITERS) }
    }

    /// The execution has changed.
    pub(crate) fn wake(&self, id: &ExecutionId) {
        // Under the lock: another holder of the room would keep the last one who leaves from closing it.
        if let Some(room) = self.rooms().get(id) {
            room.woken.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<ExecutionId, Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn rooms_open(&self) -> usize {
        self.rooms().len()
    }

    /// Comes in and leaves at once.
    #[cfg(test)]
    pub(crate) fn visit(&self, id: &ExecutionId) {
        drop(self.enter(id.clone()));
    }

    fn enter(&self, id: ExecutionId) -> Seat<'_> {
        let fresh = || Arc::new(Room { woken: watch::Sender::new(0), turn: tokio::sync::Mutex::new(()) });
        let room = Arc::clone(self.rooms().entry(id.clone()).or_insert_with(fresh));
        Seat { waiters: self, id, woken: room.woken.subscribe(), room }
    }
}

/// A place in a room; whoever leaves last closes it.
struct Seat<'a> {
    waiters: &'a Waiters,
    id: ExecutionId,
    woken: watch::Receiver<u64>,
    room: Arc<Room>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut rooms = self.waiters.rooms();
        // The map's, and this one.
        if rooms.get(&self.id).is_some_and(|room| Arc::strong_count(room) <= 2) {
            rooms.remove(&self.id);
        }
    }
}

impl Admission {
    /// Waits until the execution that stands in the way has ended, and decides anew; at most so long.
    pub(crate) async fn join(
        &self,
        page: &Page<'_>,
        asked: &mut Admit,
        marks: &Checks,
        running: proto::ExecutionRecord,
        wait: Duration,
    ) -> Result<Decision, Refusal> {
        let Ok(_place) = self.waiters.places.try_acquire() else { return Ok(Decision::Running(running)) };
        let mut over = std::pin::pin!(tokio::time::sleep(wait));
        let mut record = running;
        loop {
            let Ok(id) = record.execution_id.parse::<ExecutionId>() else { return Ok(Decision::Running(record)) };
            let mut seat = self.waiters.enter(id);
            // What happened before the seat was taken is found by looking first.
            tokio::select! {
                changed = self.changed(page, &mut seat, record.revision) => changed?,
                () = &mut over => return Ok(Decision::Running(record)),
            }
            // Only the waiting is broken off, never a decision: what it has written nobody would know of.
            if let Some(mark) = self.marks.met(&marks.others).await.map_err(refusal)? {
                if !mark.key.subject.shuts_out() {
                    // It closes what would begin now. What is waited for goes on, and its end can be looked for.
                    return Ok(Decision::Running(record));
                }
                return Ok(Decision::Marked(proto::Marked { mark: Some(to_mark(mark)) }));
            }
            let decision = self.admit_recorded(page, asked, marks).await?;
            let Decision::Running(still) = decision else { return Ok(decision) };
            record = still;
        }
    }

    /// Waits until the record is another one than that of this revision, or somebody says that it may be.
    async fn changed(&self, page: &Page<'_>, seat: &mut Seat<'_>, revision: u64) -> Result<(), Refusal> {
        let room = Arc::clone(&seat.room);
        tokio::select! {
            woken = seat.woken.changed() => woken.map_err(|_| Refusal::internal("a waiting room was closed")),
            looked = self.look_for_all(page, &room, &seat.id, revision) => looked,
        }
    }

    async fn look_for_all(&self, page: &Page<'_>, room: &Room, id: &ExecutionId, revision: u64) -> Result<(), Refusal> {
        let _turn = room.turn.lock().await;
        let (mut pause, longest) = PAUSES;
        loop {
            let mut view = View::blank();
            page.read(&mut view, &[Name::Execution(id.clone())]).await?;
            let same = view.found.execution(id).is_some_and(|record| {
                u64::from(record.revision()) == revision && record.lease_ends().is_some_and(|end| view.now < end)
            });
            if !same {
                room.woken.send_modify(|count| *count = count.wrapping_add(1));
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(3).div_f32(2.0).min(longest);
        }
    }
}
