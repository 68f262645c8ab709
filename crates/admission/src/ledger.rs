//! From names to records and back: tries what a decision would write, or reads what it needs, commits what it changes
//! in one stroke with what it counts, and decides again if others were faster.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};
use safeconduct_admission_domain::calendar::Calendars;
use safeconduct_admission_domain::limit::{Charge, Kind, Shape, Window};
use safeconduct_admission_domain::mark::{Mark, MarkCheck};
use safeconduct_admission_domain::meter::{Meter, Reading, Remaining};
use safeconduct_admission_domain::step::{IndexOp, Step, When};
use safeconduct_admission_domain::{
    Adjusted, AtWrite, Change, Counted, Decision, Found, LISTED_FOR, Listed, Name, encode, from_write,
};
use safeconduct_store::{
    Change as Write, Ends, Expected, RecordKey, Revision, Slot, StoreError, StoreKeyer, Write as Put,
};
use safeconduct_types::{ExecutionId, OperationId, Reason, Refusal, Timestamp, WorkspaceId};

use crate::cache::Cache;
use crate::counts::{self, Denial};
use crate::engine::{Engine, Stepped};
use crate::healing::Healers;
use crate::keys;
use crate::view::{View, mark_name};

/// How often a decision is made anew before the caller is told that too many want the same. Each time somebody else
/// has got ahead, so among as many rivals for one record all get through.
const ATTEMPTS: u32 = 64;
/// How often for changes that the answer does not depend on.
const OPTIONAL_ATTEMPTS: u32 = 3;
/// How long the contact's list is kept at least: as long as its longest cap may count.
const LIST_KEPT_FOR: Duration = Duration::from_hours(24 * 404);
/// How much longer than its window a counter is kept at most.
const BEYOND_WINDOW: Duration = Duration::from_hours(24 * 4);
/// Records in one call to the store.
const BATCH: usize = safeconduct_store::MAX_RECORDS;
/// When to ask again after a fault of the store.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The records and counters of all contacts and workspaces.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) keyer: StoreKeyer,
    pub(crate) calendars: Calendars,
    /// What counters and lists are called.
    common: keys::Common,
    /// The contact's records of executions.
    pub(crate) executions: Cache,
    /// What executions hold of shared limits.
    pub(crate) holds: Cache,
    /// Who looks after reservations that nobody reported back on.
    pub(crate) healers: Healers,
}

/// Those of one slot: of a contact, or what is shared over the contacts of a workspace.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) workspace: &'a WorkspaceId,
    /// Of the contact; empty for what is shared.
    pub(crate) route: &'a str,
    pub(crate) slot: Slot,
    /// The contact's list, once it was named.
    list: OnceLock<RecordKey>,
}

/// A question to one page.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) operation: OperationId,
    /// The records that are needed in any case.
    pub(crate) first: &'a [Name],
    /// Marks on the contact that must not be met.
    pub(crate) marks: &'a [MarkCheck],
    /// What is taken where the decision says so; all of it counted in this slot.
    pub(crate) charges: &'a [Arc<Charge>],
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Ruled<A> {
    /// An answer, true at that time of the store, and what is left of what was taken or asked for.
    Answer { now: Timestamp, answer: A, left: Vec<Remaining>, view: View },
    /// A limit did not let it pass; nothing was written.
    Denied(Denial),
    /// A mark was met; nothing was written.
    Marked(Mark),
}

impl Ledger {
    pub(crate) fn new(engine: Arc<dyn Engine>, keyer: StoreKeyer) -> Self {
        let (calendars, common) = (Calendars::new(), keys::Common::default());
        let (executions, holds) = (Cache::default(), Cache::default());
        Self { engine, keyer, calendars, common, executions, holds, healers: Healers::default() }
    }

    /// The page of the contact whose execution ids carry `route`.
    pub(crate) fn page<'a>(&'a self, workspace: &'a WorkspaceId, route: &'a str) -> Page<'a> {
        let slot = keys::contact_slot(&self.keyer, workspace, route);
        Page { ledger: self, workspace, route, slot, list: OnceLock::new() }
    }

    /// The page of what is counted over all contacts of the workspace.
    pub(crate) fn shared<'a>(&'a self, workspace: &'a WorkspaceId) -> Page<'a> {
        let slot = keys::shared_slot(&self.keyer, workspace);
        Page { ledger: self, workspace, route: "", slot, list: OnceLock::new() }
    }
}

impl Page<'_> {
    /// What most requests find: nothing.
    pub(crate) fn suppose_nothing(&self, asked: &Asked<'_>) -> View {
        let mut view = View::of_nothing(self.ledger.engine.now_estimate(), asked.first);
        view.suppose_absent(asked.marks.iter().map(mark_name));
        view
    }

    /// Lets `decide` decide from what `view` supposes, or from what `asked.first` and then `follow` name, and commits
    /// what it changes. The answer is true at the store's time that comes with it.
    pub(crate) async fn decide<A: AtWrite>(
        &self,
        asked: &Asked<'_>,
        mut view: View,
        follow: impl Fn(&Found) -> Vec<Name> + Send + Sync,
        decide: impl Fn(Timestamp, &Found) -> Result<Decision<A>, Refusal> + Send + Sync,
    ) -> Result<Ruled<A>, Refusal> {
        let marks: Vec<Name> = asked.marks.iter().map(mark_name).collect();
        let mut around = None;
        let mut repeated = Vec::new();
        let mut done: Option<(OperationId, u32)> = None;
        for attempt in 1..=ATTEMPTS {
            self.read(&mut view, asked.first.iter().chain(&marks)).await?;
            let next = follow(&view.found);
            self.read(&mut view, &next).await?;
            if let Some(mark) = view.met(asked.marks) {
                return Ok(Ruled::Marked(mark.clone()));
            }
            let decision = match decide(view.now, &view.found) {
                Ok(decision) => decision,
                // What was only supposed is no ground for a refusal.
                Err(_) if !view.seen => {
                    view = View::blank();
                    continue;
                }
                Err(refusal) => return Err(refusal),
            };
            let now = around.unwrap_or_else(|| self.ledger.engine.now_estimate());
            let draft = self.draft(asked, &view, &decision, now);
            if draft.is_empty() {
                if view.seen {
                    return Ok(Ruled::Answer { now: view.now, answer: decision.answer, left: repeated, view });
                }
                view = View::blank();
                continue;
            }
            let Draft { mut step, names, meters, skip } = draft;
            let write = step.operation;
            let times = done.filter(|(before, _)| *before == write).map_or(0, |(_, times)| times);
            if times > 0 {
                // It was done before, what it wrote has expired since, and the store remembers the write a while
                // longer: to be done again it needs another name.
                step.operation = named(&[b"again", write.as_bytes(), &times.to_be_bytes()]);
            }
            let revision = Revision::of(step.operation);
            match self.ledger.engine.step(&self.slot, step).await {
                Ok(Stepped::Done { now, readings, repeated: false }) => {
                    let answer = decision.answer.written(now);
                    view.wrote(now, revision, decision.changes);
                    return Ok(Ruled::Answer { now, answer, left: remaining(&meters, &readings, skip), view });
                }
                Ok(Stepped::Done { readings, repeated: true, .. }) => {
                    // It was applied before; what the records say since is what is answered.
                    repeated = remaining(&meters, &readings, skip);
                    done = Some((write, times.saturating_add(1)));
                    view = View::blank();
                }
                Ok(Stepped::Conflict { .. }) if decision.optional && attempt >= OPTIONAL_ATTEMPTS && view.seen => {
                    return Ok(Ruled::Answer { now: view.now, answer: decision.answer, left: repeated, view });
                }
                Ok(Stepped::Conflict { now, records }) => {
                    tracing::debug!(attempt, "the records are not as supposed, deciding again");
                    let unnamed = view.names().filter(|name| !names.contains(name)).count();
                    if unnamed > 0 {
                        // What was not looked at with the others is of another moment.
                        view = View::blank();
                    }
                    view.now = now;
                    view.seen = true;
                    for (name, record) in names.iter().zip(records) {
                        view.see(name, record)?;
                    }
                }
                Ok(Stepped::Denied { now, readings, first }) => {
                    let left = counts::left(&meters, &readings);
                    let by_cap = matches!(meters.get(first), Some(Meter::Take(_)));
                    return Ok(Ruled::Denied(Denial { now, first, left, by_cap }));
                }
                Ok(Stepped::Outside { now }) => around = Some(now),
                Err(error) if decision.optional && view.seen => {
                    tracing::warn!(error = %error, "a key could not be linked; it is linked by the next request");
                    return Ok(Ruled::Answer { now: view.now, answer: decision.answer, left: repeated, view });
                }
                Err(error) => return Err(refusal(error)),
            }
            if attempt > 1 {
                // Whoever was faster may need this thread to get on.
                tokio::task::yield_now().await;
            }
        }
        Err(Refusal::new(Reason::Overloaded, "too many requests want the same record; ask again with the same key")
            .with_retry_after(RETRY_AFTER))
    }

    /// Adds these records to the view, as far as it does not have them.
    pub(crate) async fn read(
        &self,
        view: &mut View,
        names: impl IntoIterator<Item = &Name> + Send,
    ) -> Result<(), Refusal> {
        let mut missing: Vec<&Name> = names.into_iter().filter(|name| !view.knows(name)).collect();
        missing.dedup();
        for batch in missing.chunks(BATCH) {
            let keys: Vec<RecordKey> = batch.iter().map(|name| self.key(name)).collect();
            let snapshot = self.ledger.engine.read(&self.slot, &keys).await.map_err(refusal)?;
            view.now = snapshot.now;
            for (name, record) in batch.iter().zip(snapshot.records) {
                view.see(name, record)?;
            }
        }
        Ok(())
    }

    /// The step that makes a decision true.
    fn draft<A>(&self, asked: &Asked<'_>, view: &View, decision: &Decision<A>, now: Timestamp) -> Draft {
        let calendars = &self.ledger.calendars;
        let counter = |charge: &Charge| self.ledger.common.counter(&self.ledger.keyer, &self.slot, charge);
        let mut meters: Vec<(RecordKey, Meter)> = Vec::new();
        let mut skip = 0;
        match &decision.counted {
            Counted::Nothing => {}
            Counted::Charges => {
                meters.extend(asked.charges.iter().map(|one| (counter(one), counts::take(one, now, calendars))));
            }
            Counted::Adjusted(adjusted) => {
                let adjust = |one: &Adjusted| Some((counter(&one.held.charge), counts::adjust(one, calendars)?));
                meters.extend(adjusted.iter().filter_map(adjust));
                skip = meters.len();
            }
        }
        meters.extend(decision.asks.iter().map(|one| (counter(one), counts::ask(one, now, calendars))));
        let writes = !decision.changes.is_empty() || !meters.is_empty() || !decision.listed.is_empty();
        if !writes {
            return Draft::default();
        }
        let (names, changes) = self.changes(view, &decision.changes);
        let listed = decision.listed.iter().flat_map(|listed| self.indexed(asked.operation, listed));
        Draft {
            skip,
            names,
            meters: meters.iter().map(|(_, meter)| meter.clone()).collect(),
            step: Step {
                operation: write_id(asked.operation, &changes),
                changes,
                meters,
                index: self.counters(asked, decision).chain(listed).collect(),
            },
        }
    }

    /// What is written, and that everything else that was looked at, or supposed, is still as it was. A record that only
    /// led to the decision counts as much as one that is written: a fail-over between look and write may have brought
    /// back a pointer as it was seen, and with it an execution that was seen to have ended or to be gone.
    fn changes(&self, view: &View, changes: &[Change]) -> (Vec<Name>, Vec<Write>) {
        let mut names = Vec::with_capacity(view.names().count());
        let mut writes = Vec::with_capacity(names.capacity());
        let expected = |name: &Name| view.revision(name).map_or(Expected::Absent, Expected::At);
        for change in changes {
            let write = match &change.record {
                Some(record) => Put::Put { value: encode(record).into(), ends: ends(change.expires), written: None },
                None => Put::Delete,
            };
            writes.push(Write { key: self.key(&change.name), expected: expected(&change.name), write });
            names.push(change.name.clone());
        }
        for name in view.names() {
            if !changes.iter().any(|change| change.name == *name) {
                writes.push(Write { key: self.key(name), expected: expected(name), write: Put::Keep });
                names.push(name.clone());
            }
        }
        (names, writes)
    }

    /// The counters of the contact's caps are listed with its executions, for as long as they may count.
    fn counters<'b, A>(
        &'b self,
        asked: &'b Asked<'_>,
        decision: &Decision<A>,
    ) -> impl Iterator<Item = IndexOp<RecordKey>> + 'b {
        let taken = decision.counted == Counted::Charges && !self.route.is_empty();
        let caps = asked.charges.iter().filter(move |charge| taken && charge.limit().kind() != Kind::Rate);
        caps.flat_map(move |charge| {
            let (score, member) = (ahead(counted_for(charge)), keys::counter_member(charge));
            let add = IndexOp::Add { key: self.list().clone(), score, member };
            [add, IndexOp::Expire { key: self.list().clone(), at: ahead(LIST_KEPT_FOR) }]
        })
    }

    fn indexed(&self, operation: OperationId, listed: &Listed) -> Vec<IndexOp<RecordKey>> {
        let (keyer, slot) = (&self.ledger.keyer, &self.slot);
        let member = |id: &ExecutionId| id.as_str().as_bytes().to_vec();
        let add = |key, score, id| IndexOp::Add { key, score, member: member(id) };
        match listed {
            Listed::Begun(id) => {
                let below = When::Now(0_i64.saturating_sub(i64::try_from(LISTED_FOR.as_millis()).unwrap_or(i64::MAX)));
                let key = self.list();
                let trim = is_chosen(operation).then(|| IndexOp::Trim { key: key.clone(), below });
                let expire = IndexOp::Expire { key: key.clone(), at: ahead(LIST_KEPT_FOR) };
                trim.into_iter().chain([add(key.clone(), When::Now(0), id), expire]).collect()
            }
            Listed::Undone(id) => vec![IndexOp::Remove { key: self.list().clone(), member: member(id) }],
            Listed::Reserving(id, length) => vec![add(keys::reserving(keyer, slot), ahead(*length), id)],
            Listed::Resolved(id) => vec![IndexOp::Remove { key: keys::reserving(keyer, slot), member: member(id) }],
            Listed::Holding(id, length) => vec![add(keys::holds(keyer, slot), ahead(*length), id)],
            Listed::Closed(id) => vec![IndexOp::Remove { key: keys::holds(keyer, slot), member: member(id) }],
        }
    }

    fn list(&self) -> &RecordKey {
        self.list.get_or_init(|| self.ledger.common.list(&self.ledger.keyer, &self.slot))
    }

    pub(crate) fn key(&self, name: &Name) -> RecordKey {
        keys::record(&self.ledger.keyer, &self.slot, name)
    }

    /// The store's history as it is known.
    pub(crate) fn epoch(&self) -> String {
        self.ledger.engine.epoch(&self.slot)
    }

    /// Of what was written here before this moment, some may be lost.
    pub(crate) fn lost_until(&self) -> Timestamp {
        self.ledger.engine.lost_until(&self.slot)
    }
}

/// A step, and what its parts are about.
#[derive(Debug)]
struct Draft {
    step: Step<RecordKey, Write>,
    /// The names of the records, in the order of the step's changes.
    names: Vec<Name>,
    meters: Vec<Meter>,
    /// Meters at the beginning that nobody asked about.
    skip: usize,
}

impl Default for Draft {
    fn default() -> Self {
        let step = Step { operation: OperationId::from_bytes([0; 16]), changes: vec![], meters: vec![], index: vec![] };
        Self { step, names: Vec::new(), meters: Vec::new(), skip: 0 }
    }
}

impl Draft {
    fn is_empty(&self) -> bool {
        self.step.changes.is_empty() && self.step.meters.is_empty() && self.step.index.is_empty()
    }
}

/// Whether this operation, one of sixteen, tidies the contact's list: what is listed too long is passed over by whoever
/// reads it, and each may leave it to a later one.
fn is_chosen(operation: OperationId) -> bool {
    operation.as_bytes().last().is_none_or(|last| last % 16 == 0)
}

/// How long the counter of this charge may count, from its last change on: its window, and what is kept beyond.
fn counted_for(charge: &Charge) -> Duration {
    let window = match &charge.limit().shape {
        Shape::Cap(cap) => match cap.window() {
            Window::Calendar(unit, _) => unit.longest(),
            Window::Rolling(millis) => Duration::from_millis(u64::try_from(*millis).unwrap_or_default()),
        },
        Shape::Rate(_) => Duration::ZERO,
    };
    window.saturating_add(BEYOND_WINDOW)
}

fn ahead(length: Duration) -> When {
    When::Now(i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
}

fn remaining(meters: &[Meter], readings: &[Reading], skip: usize) -> Vec<Remaining> {
    counts::left(meters.iter().skip(skip), readings.get(skip..).unwrap_or_default())
}

fn ends(expires: Option<Timestamp>) -> Ends {
    match expires {
        None => Ends::Never,
        Some(time) => match from_write(time) {
            Some(millis) => Ends::After(Duration::from_millis(u64::try_from(millis).unwrap_or_default())),
            None => Ends::At(time),
        },
    }
}

/// The store's name for these writes. It takes a second step of one name for a repeat of the first, so the name is
/// made of what is written over what: another decision under the same operation (a key that was linked, then freed,
/// then is admitted with) is another step. That an operation is applied once is for the records themselves to know.
fn write_id(operation: OperationId, writes: &[Write]) -> OperationId {
    let values = writes.iter().map(|write| match &write.write {
        Put::Put { value, .. } => 24 + value.len(),
        Put::Delete | Put::Keep => 16,
    });
    // Put together first: a call of the library costs more than the bytes.
    let mut text = Vec::with_capacity(16 + values.sum::<usize>());
    text.extend(operation.as_bytes());
    for write in writes {
        match write.expected {
            Expected::Absent => text.push(0),
            Expected::At(revision) => text.extend(revision.as_bytes()),
        }
        if let Put::Put { value, .. } = &write.write {
            text.extend((value.len() as u64).to_be_bytes());
            text.extend_from_slice(value);
        }
    }
    operation_of(&digest(&SHA256, &text))
}

/// The operation that these parts stand for; the first says what kind it is, all but the last have a fixed length then.
pub(crate) fn named(parts: &[&[u8]]) -> OperationId {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    operation_of(&context.finish())
}

fn operation_of(digest: &Digest) -> OperationId {
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    OperationId::from_bytes(id)
}

pub(crate) fn refusal(error: StoreError) -> Refusal {
    let reason = error.reason();
    let refusal = Refusal::from(error);
    if reason == Reason::StoreUnavailable { refusal.with_retry_after(RETRY_AFTER) } else { refusal }
}
