//! Limits that are shared over contacts: taken in another slot than the contact's, by a protocol that never admits too
//! much and promises nothing that it could take back.
//!
//! # The protocol
//! One stroke of the store changes one slot. *C* is the contact's slot with the execution's record, *W* the workspace's
//! slot with the shared counters. A *hold* in W says what an execution has taken there; it is written in one stroke
//! with those counters.
//!
//! 1. C: the record, `RESERVING`, with all of the contact's own charges, and with the history (*epoch*) of W's store as
//!    it was known before.
//! 2. W: the hold, expected absent, with the shared charges. **The hold is the promise**: `ADMITTED` is answered if and
//!    only if this stroke was done. Denied, it wrote nothing; then
//!    C: the record becomes `RELEASED` and what it took is given back.
//! 3. The first word of the executor (extend, settle) makes the record `RUNNING` or final. A settle ends the record in
//!    C first (that is the truth), then closes the hold in W: what it took and the record does not say, or says
//!    otherwise, is given back or counted more, and the hold is *closed*: whatever is still on its way meets it.
//!
//! Whoever meets a `RESERVING` record whose lease has lapsed (*stuck*) finds out what it is before deciding anything:
//! W: is the hold there? Yes: promised. No: it is closed, in one stroke with looking, so that step 2 can't happen any
//! more; if the epoch is still the record's, nothing was promised, else the hold may have been lost with the old
//! history, and it counts as promised. Then C: promised makes it `RUNNING` with its lapsed lease, which reads as
//! unknown; not promised makes it `RELEASED`, and what it took is given back.
//!
//! Whoever is denied by a cap first looks after reservations of that slot that are due, and tries once more, until it
//! passes, none is due, or it has done so often or long enough (`healing.rs`). So what leaked is there for the first who
//! asks after its lease.
//!
//! # Why it holds
//! - *Never too much.* A counter rises in the stroke that checks its maximum, in C with the record, in W with the hold.
//!   It falls only (a) in C in the stroke that makes the record released or adjusted, expected as it was read, so once;
//!   (b) in W in the stroke that closes the hold, expected open, so once, and only after the record is final or was
//!   found not promised. A closed hold is never opened. A record that is gone (its retention over, erased, or lost by
//!   its store) says nothing: its hold is closed, and what it took stays counted.
//! - *Nothing promised is freed.* A promise is a hold. A stuck record is released only after its hold was found absent
//!   and closed in one stroke, under the history in which it would have been written.
//! - *A crash at any point.* Before 1: nothing. Between 1 and 2: stuck after one lease, found not promised, given back.
//!   After 2, answered or not: stuck after one lease, found promised, unknown, as after any crash of an executor.
//!   Between 2 (denied) and the release: as between 1 and 2. Between settling C and closing W: the hold is due when its
//!   lease has lapsed, and closed by whoever is denied next. Between closing W and C while finding out: the next one
//!   finds it closed. Every stroke may come twice: the store remembers its operation, and the second changes nothing.
//! - *A late arrival.* Step 1 late: nobody makes step 2, as above. Step 2 late: it expects no hold; it finds one of its
//!   own (done before), or a closed one (too late, not admitted). A closed hold is kept longer than a lease and the
//!   longest way of a request together.
//! - *A repeat while the first call is still at it.* It never takes: it might be promised what the first one, denied
//!   before, then gives back. It looks for the hold in the way that binds; without one it refuses, and the first one,
//!   if it comes to step 2 after all, is too late.
//! - *Too little, for a while.* Between a crash and the end of the lease what was taken is counted although nobody will
//!   use it. A hold that leaked when its record was released is given back as long as the record is kept (at least a
//!   day, see `SHARED_TOMBSTONE`).
//!
//! An operator who frees the keys of a *completed* execution gives back what it used, too. Its hold is closed by then,
//! so the record keeps saying how much that is; the hold is marked as *freed* in the stroke that gives it back, so once.
//! Before the record is changed the hold is listed as one to look after, in case nobody comes to the second stroke.
//!
//! An extension that takes from shared limits goes the same way: C with the record that says what is taken, then W with
//! the hold grown by it; denied in W, C takes it back. The hold says what was really taken, so a settle is exact also
//! after a crash in between.
//!
//! Charges that leave no record but touch both slots use the same protocol under an execution of their own that is
//! settled at once.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_domain::limit::Charge;
use safeconduct_admission_domain::meter::Remaining;
use safeconduct_admission_domain::{
    Decision, Ended, Execution, Found, Held, Hold, Listed, Name, Promise, Resolve, Standing, State, Take, Taken,
    decide_close, decide_resolve, decide_take, decide_void, hold_reads,
};
use safeconduct_types::{ExecutionId, OperationId, Refusal, Timestamp, WorkspaceId};

use crate::counts::Denial;
use crate::healing::Healing;
use crate::ledger::{Asked, Ledger, Page, Ruled, named};
use crate::view::View;

/// When to look after a hold whose execution is being freed by an operator.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// What became of taking from shared limits.
#[derive(Debug)]
pub(crate) enum Shared {
    /// Held: promised. What is left of each.
    Held(Vec<Remaining>),
    /// A limit is used up; nothing was taken there.
    Denied(Denial),
    /// The execution has ended, or was found not promised, meanwhile.
    TooLate,
}

impl Ledger {
    /// Takes what the record of this execution says that `operation` takes from shared limits.
    pub(crate) async fn take_shared(
        &self,
        workspace: &WorkspaceId,
        record: &Execution,
        operation: OperationId,
        lease: Duration,
    ) -> Result<Shared, Refusal> {
        let page = self.shared(workspace);
        let mine = |held: &&Held| held.is_shared() && held.by == operation;
        let held: Vec<Held> = record.charges().iter().filter(mine).cloned().collect();
        let charges: Vec<Arc<Charge>> = held.iter().map(|held| Arc::clone(&held.charge)).collect();
        let take = Take { execution: record.id().clone(), charges: held, lease };
        let names = hold_reads(record.id());
        let asked = Asked { operation, first: &names, marks: &[], charges: &charges };
        let mut view = match self.holds.take(record.id()) {
            Some(view) => view.remembered(self.engine.now_estimate()),
            None => View::of_nothing(self.engine.now_estimate(), &names),
        };
        let mut healing = Healing::default();
        loop {
            match page.decide(&asked, view, no_more, |_, found| Ok(decide_take(&take, found))).await? {
                Ruled::Answer { answer: Taken::Held, left, view, .. } => {
                    self.holds.put(record.id().clone(), view);
                    return Ok(Shared::Held(left));
                }
                Ruled::Answer { answer: Taken::Closed, .. } => return Ok(Shared::TooLate),
                Ruled::Denied(denial) => {
                    if !denial.by_cap || !self.heal(&page, &mut healing).await? {
                        return Ok(Shared::Denied(denial));
                    }
                    view = View::blank();
                }
                Ruled::Marked(_) => return Err(Refusal::internal("a mark was met where none was asked for")),
            }
        }
    }

    /// Gives back what an execution took that was denied by a shared limit.
    pub(crate) async fn give_back(
        &self,
        page: &Page<'_>,
        view: View,
        execution: &ExecutionId,
        operation: OperationId,
    ) -> Result<(), Refusal> {
        let asked = Resolve { execution: execution.clone(), operation, promised: false };
        resolve_at(page, view, &asked).await.map(drop)
    }

    /// Closes the hold of an execution that has ended. What is left of each of its shared limits.
    pub(crate) async fn close_shared(
        &self,
        workspace: &WorkspaceId,
        now: Timestamp,
        record: &Execution,
    ) -> Result<Vec<Remaining>, Refusal> {
        let view = match self.holds.take(record.id()) {
            Some(view) => view.remembered(self.engine.now_estimate()),
            None => View::blank(),
        };
        self.close(workspace, view, now, record.id(), Some(record)).await
    }

    /// Lists the hold of this execution, which was closed, as one to look after.
    pub(crate) async fn announce_closing(&self, workspace: &WorkspaceId, id: &ExecutionId) -> Result<(), Refusal> {
        let page = self.shared(workspace);
        let listed = || Decision { optional: false, ..listing(Listed::Holding(id.clone(), LOOK_AGAIN)) };
        let list = |_: Timestamp, _: &Found| Ok(listed());
        let asked = Asked { operation: naming("announce", id), first: &[], marks: &[], charges: &[] };
        page.decide(&asked, View::blank(), no_more, list).await.map(drop)
    }

    /// Closes the hold of an execution whose record was erased. What it took stays counted.
    pub(crate) async fn close_erased(
        &self,
        workspace: &WorkspaceId,
        now: Timestamp,
        id: &ExecutionId,
    ) -> Result<(), Refusal> {
        drop(self.holds.take(id));
        self.close(workspace, View::blank(), now, id, None).await.map(drop)
    }

    pub(crate) async fn close(
        &self,
        workspace: &WorkspaceId,
        view: View,
        now: Timestamp,
        id: &ExecutionId,
        record: Option<&Execution>,
    ) -> Result<Vec<Remaining>, Refusal> {
        let page = self.shared(workspace);
        let names = hold_reads(id);
        let asked = Asked { operation: naming("close", id), first: &names, marks: &[], charges: &[] };
        // Asked only where it matters.
        let is_released = record.is_some_and(|record| matches!(record.state(), State::Released { .. }));
        let lost_until = if is_released { page.lost_until() } else { Timestamp::default() };
        let ended = Ended { id, record, lost_until };
        match page.decide(&asked, view, no_more, |_, found| Ok(decide_close(now, &ended, found))).await? {
            Ruled::Answer { left, .. } => Ok(left),
            Ruled::Denied(_) | Ruled::Marked(_) => Err(Refusal::internal("closing a hold was denied")),
        }
    }

    /// Finds out what a reservation is that nobody reported back on, if its lease has lapsed. Whether it has.
    pub(crate) async fn resolve(&self, workspace: &WorkspaceId, id: &ExecutionId) -> Result<bool, Refusal> {
        let page = self.page(workspace, id.route());
        let mut view = View::blank();
        page.read(&mut view, &[Name::Execution(id.clone())]).await?;
        let epoch = match view.found.execution(id).map(|record| (record.standing(view.now), record.state())) {
            Some((Standing::Stuck, State::Reserving { epoch, .. })) => epoch.clone(),
            Some((Standing::Reserving, _)) => return Ok(false),
            Some(_) | None => {
                // It reserves nothing; only the list says so still.
                let unlist = |_: Timestamp, _: &Found| Ok(listing(Listed::Resolved(id.clone())));
                let asked = Asked { operation: naming("unlist", id), first: &[], marks: &[], charges: &[] };
                return page.decide(&asked, view, no_more, unlist).await.map(|_| true);
            }
        };
        let (promise, same) = self.void(workspace, id, &epoch).await?;
        let promised = promise == Promise::Made || !same;
        tracing::info!(execution = id.as_str(), promised, "a reservation was not reported back on");
        let asked = Resolve { execution: id.clone(), operation: naming("resolve", id), promised };
        resolve_at(&page, view, &asked).await.map(|_| true)
    }

    /// Whether the promise was made of a reservation that an earlier call of the same operation began. If not, it never
    /// will be, and what was taken for it is given back.
    pub(crate) async fn is_promised(&self, page: &Page<'_>, record: &Execution) -> Result<bool, Refusal> {
        let State::Reserving { epoch, .. } = record.state() else { return Ok(false) };
        let (promise, same) = self.void(page.workspace, record.id(), epoch).await?;
        if promise == Promise::Never && same {
            let operation = naming("resolve", record.id());
            let asked = Resolve { execution: record.id().clone(), operation, promised: false };
            resolve_at(page, View::blank(), &asked).await?;
        }
        Ok(promise == Promise::Made)
    }

    /// Whether the hold of this execution has what its record says that `operation` takes.
    pub(crate) async fn is_held(
        &self,
        workspace: &WorkspaceId,
        record: &Execution,
        operation: OperationId,
    ) -> Result<bool, Refusal> {
        let page = self.shared(workspace);
        let mut view = View::blank();
        page.read(&mut view, &hold_reads(record.id())).await?;
        let Some(Hold::Open { charges, .. }) = view.found.hold(record.id()) else { return Ok(false) };
        let mut mine = record.charges().iter().filter(|held| held.is_shared() && held.by == operation).peekable();
        Ok(mine.peek().is_some() && mine.all(|one| charges.iter().any(|held| held.is(one))))
    }

    /// Finds out whether the promise was made, and if not, sees to it that it never is. And whether the store of the
    /// shared limits has still the history that the record names.
    async fn void(&self, workspace: &WorkspaceId, id: &ExecutionId, epoch: &str) -> Result<(Promise, bool), Refusal> {
        let shared = self.shared(workspace);
        let names = hold_reads(id);
        let asked = Asked { operation: naming("void", id), first: &names, marks: &[], charges: &[] };
        let found = shared.decide(&asked, View::blank(), no_more, |_, found| Ok(decide_void(id, found))).await?;
        let Ruled::Answer { answer: promise, .. } = found else {
            return Err(Refusal::internal("looking for a hold was denied"));
        };
        // Asked after the stroke: that one was made under this history, or an earlier one.
        Ok((promise, shared.epoch() == epoch))
    }
}

async fn resolve_at(page: &Page<'_>, view: View, asked: &Resolve) -> Result<Option<Execution>, Refusal> {
    let names = asked.reads();
    let question = Asked { operation: asked.operation, first: &names, marks: &[], charges: &[] };
    let follow = |found: &Found| asked.follows(found);
    match page.decide(&question, view, follow, |_, found| Ok(decide_resolve(asked, found))).await? {
        Ruled::Answer { answer, .. } => Ok(answer),
        Ruled::Denied(_) | Ruled::Marked(_) => Err(Refusal::internal("resolving a reservation was denied")),
    }
}

pub(crate) fn no_more(_: &Found) -> Vec<Name> {
    Vec::new()
}

fn listing(listed: Listed) -> Decision<()> {
    Decision {
        answer: (),
        changes: Vec::new(),
        counted: safeconduct_admission_domain::Counted::Nothing,
        listed: vec![listed],
        asks: Vec::new(),
        optional: true,
    }
}

/// The operation that does this with an execution, whoever does it.
fn naming(what: &str, id: &ExecutionId) -> OperationId {
    named(&[what.as_bytes(), id.as_str().as_bytes()])
}
