//! One slot of a store in memory, and the service's loop around the decisions, one stroke of the store at a time.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use safeconduct_types::{ExecutionId, OperationId, Refusal, Timestamp};

use crate::calendar::Calendars;
use crate::codec::{decode, encode};
use crate::limit::{Charge, Shape};
use crate::meter::{Corrupt, Keep, Kind, Meter, Reading, cap};
use crate::record::{AtWrite, Counted, Decision, Found, Listed, Name, Record, known};
use crate::step::{self, IndexOp, Step, Stepped, Verdict, When};

/// The counter of a slot, and its list of what is to be looked after.
const COUNTER: u8 = 0;
const DUE: u8 = 1;
/// How many writes a record remembers.
const REMEMBERED: usize = 8;

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stored {
    value: Bytes,
    written: Timestamp,
    expires: Option<Timestamp>,
    /// The writes that made it, newest first.
    revisions: Vec<OperationId>,
}

impl Stored {
    pub(super) fn record(&self) -> Record {
        decode(&self.value, self.written).unwrap()
    }
}

/// What is expected of a record, and what is written over it; `None`: it is kept.
#[derive(Clone, Debug)]
pub(super) struct Write {
    name: Name,
    expected: Option<OperationId>,
    put: Option<(Bytes, Option<Timestamp>)>,
}

/// One slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) records: BTreeMap<Name, Stored>,
    counter: Option<Vec<u8>>,
    due: BTreeMap<Vec<u8>, i64>,
}

impl Slot {
    fn get(&self, name: &Name, now: Timestamp) -> Option<Stored> {
        self.records.get(name).filter(|stored| stored.expires.is_none_or(|end| now < end)).cloned()
    }

    pub(super) fn record(&self, name: &Name) -> Option<Record> {
        self.records.get(name).map(Stored::record)
    }

    /// The executions that are due to be looked after.
    pub(super) fn due(&self, now: Timestamp) -> Vec<ExecutionId> {
        let due = self.due.iter().filter(|(_, score)| **score <= now.as_millis());
        due.map(|(member, _)| std::str::from_utf8(member).unwrap().parse().unwrap()).collect()
    }

    /// What is counted.
    pub(super) fn used(&self, charge: &Charge, now: Timestamp) -> i64 {
        let asking = charge.meter(now, &Calendars::new()).asking();
        match asking.judge(now.as_millis() * 1000, self.counter.as_deref()).unwrap() {
            crate::meter::Judged::Read { reading: Reading::Cap(reading), .. } => reading.used,
            other => panic!("{other:?}"),
        }
    }
}

impl step::Shelf for Slot {
    type Key = u8;
    type Change = Write;
    type Error = Corrupt;

    fn judge(&mut self, operation: OperationId, changes: &[Write]) -> Result<Verdict, Corrupt> {
        let stored = |change: &Write| self.records.get(&change.name);
        let remembers = |change: &Write| stored(change).is_some_and(|stored| stored.revisions.contains(&operation));
        if changes.iter().any(|change| change.put.is_some() && remembers(change)) {
            return Ok(Verdict::Repeated);
        }
        // Nothing expires in the time that is looked at.
        let as_expected = |change: &Write| stored(change).map(|stored| stored.revisions[0]) == change.expected;
        Ok(if changes.iter().all(as_expected) { Verdict::Apply } else { Verdict::Conflict })
    }

    fn state(&mut self, _: &u8, _: Kind) -> Result<Option<Vec<u8>>, Corrupt> {
        Ok(self.counter.clone())
    }

    fn write(&mut self, operation: OperationId, changes: &[Write], now_us: i64) -> Result<(), Corrupt> {
        let written = Timestamp::from_millis(now_us / 1000);
        for Write { name, put, .. } in changes {
            let Some((value, expires)) = put else { continue };
            let mut revisions = self.records.get(name).map(|stored| stored.revisions.clone()).unwrap_or_default();
            revisions.insert(0, operation);
            revisions.truncate(REMEMBERED);
            let expires = expires.map(|end| known(end, written));
            self.records.insert(name.clone(), Stored { value: value.clone(), written, expires, revisions });
        }
        Ok(())
    }

    fn keep(&mut self, _: &u8, _: Kind, keep: &Keep) -> Result<(), Corrupt> {
        self.counter = match keep {
            Keep::Put { state, .. } => Some(state.clone()),
            Keep::Delete => None,
        };
        Ok(())
    }

    fn index(&mut self, change: &IndexOp<u8>, now_us: i64) -> Result<(), Corrupt> {
        match change {
            IndexOp::Add { score, member, .. } => drop(self.due.insert(member.clone(), score.resolve(now_us))),
            IndexOp::Remove { member, .. } => drop(self.due.remove(member)),
            IndexOp::Trim { .. } | IndexOp::Expire { .. } => {}
        }
        Ok(())
    }
}

/// What a request has seen of a slot, or supposes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct View {
    now: Timestamp,
    known: BTreeMap<Name, Option<Stored>>,
    seen: bool,
}

impl View {
    pub(super) fn blank() -> Self {
        Self { now: Timestamp::default(), known: BTreeMap::new(), seen: true }
    }

    pub(super) fn of_nothing(names: &[Name]) -> Self {
        Self { now: Timestamp::default(), known: names.iter().map(|name| (name.clone(), None)).collect(), seen: false }
    }

    /// As it was left by an earlier call.
    pub(super) fn remembered(mut self) -> Self {
        self.seen = false;
        self
    }

    /// Takes in this record as it is. Whether there is one.
    pub(super) fn read(&mut self, slot: &Slot, name: &Name, now: Timestamp) -> bool {
        self.now = now;
        let found = slot.get(name, now);
        let is_there = found.is_some();
        self.known.insert(name.clone(), found);
        is_there
    }

    pub(super) fn get(&self, name: &Name) -> Option<Stored> {
        self.known.get(name).cloned().flatten()
    }

    /// Only these records of it.
    pub(super) fn only(mut self, names: &[Name]) -> Self {
        self.known.retain(|name, _| names.contains(name));
        self
    }

    fn found(&self) -> Found {
        let mut found = Found::default();
        for (name, stored) in &self.known {
            if let Some(stored) = stored {
                found.insert(name.clone(), stored.record());
            }
        }
        found
    }

    fn unknown(&self, names: &[Name]) -> Vec<Name> {
        names.iter().filter(|name| !self.known.contains_key(name)).cloned().collect()
    }
}

/// A question to a slot.
pub(super) struct Asked<'a> {
    pub(super) operation: OperationId,
    pub(super) first: &'a [Name],
    pub(super) charges: &'a [Arc<Charge>],
}

/// How far it got.
pub(super) enum Progress<A> {
    /// Another stroke is needed.
    Goes,
    /// Done, true at that time.
    Answered(A, Timestamp),
    /// A limit did not let it pass.
    Denied,
    /// No.
    Refused,
}

/// A slot at a moment.
pub(super) struct At<'a> {
    pub(super) slot: &'a mut Slot,
    pub(super) now: Timestamp,
    /// Nothing may be written.
    pub(super) held: bool,
    /// Whether the answer waits for the replicas: that of a step does, also if it wrote nothing, and that of a read that
    /// found something.
    pub(super) waits: &'a mut bool,
}

/// Does the next stroke, and whatever follows from it without another one.
pub(super) fn play<A: AtWrite>(
    At { slot, now, held, waits }: At<'_>,
    view: &mut View,
    asked: &Asked<'_>,
    follow: impl Fn(&Found) -> Vec<Name>,
    decide: impl Fn(Timestamp, &Found) -> Result<Decision<A>, Refusal>,
) -> Progress<A> {
    let mut spent = false;
    loop {
        if !view.seen {
            view.now = now;
        }
        let found = view.found();
        let mut missing = view.unknown(asked.first);
        if missing.is_empty() {
            missing = view.unknown(&follow(&found));
        }
        if !missing.is_empty() {
            if spent {
                return Progress::Goes;
            }
            spent = true;
            for name in &missing {
                *waits |= view.read(slot, name, now);
            }
            continue;
        }
        let decision = match decide(view.now, &found) {
            Ok(decision) => decision,
            Err(_) if !view.seen => {
                *view = View::blank();
                continue;
            }
            Err(_) => return Progress::Refused,
        };
        let step = draft(asked, view, &decision, now);
        if step.changes.is_empty() && step.meters.is_empty() && step.index.is_empty() {
            if view.seen {
                return Progress::Answered(decision.answer, view.now);
            }
            *view = View::blank();
            continue;
        }
        if spent || held {
            return Progress::Goes;
        }
        spent = true;
        *waits = true;
        match step::apply(&step, now.as_millis() * 1000, slot).unwrap() {
            Stepped::Done { repeated: false, .. } => {
                view.now = now;
                for write in step.changes.iter().filter(|write| write.put.is_some()) {
                    view.known.insert(write.name.clone(), slot.get(&write.name, now));
                }
                return Progress::Answered(decision.answer.written(now), now);
            }
            Stepped::Done { repeated: true, .. } => *view = View::blank(),
            Stepped::Conflict { .. } => {
                let named = |name: &Name| step.changes.iter().any(|write| write.name == *name);
                if !view.known.keys().all(named) {
                    *view = View::blank();
                }
                view.now = now;
                view.seen = true;
                let seen = step.changes.iter().map(|write| (write.name.clone(), slot.get(&write.name, now)));
                view.known.extend(seen);
            }
            Stepped::Denied { .. } => return Progress::Denied,
            Stepped::Outside { .. } => panic!("there is no calendar here"),
        }
    }
}

fn draft<A>(asked: &Asked<'_>, view: &View, decision: &Decision<A>, now: Timestamp) -> Step<u8, Write> {
    let calendars = Calendars::new();
    let meters: Vec<(u8, Meter)> = match &decision.counted {
        Counted::Nothing => Vec::new(),
        Counted::Charges => asked.charges.iter().map(|one| (COUNTER, one.meter(now, &calendars))).collect(),
        Counted::Adjusted(adjusted) => adjusted
            .iter()
            .map(|one| {
                let Shape::Cap(cap) = &one.held.charge.limit().shape else { panic!("{one:?}") };
                let place = cap.window().place(one.held.at, &calendars);
                (COUNTER, Meter::Adjust(cap::Adjust { place, delta: one.delta }))
            })
            .collect(),
    };
    let index: Vec<_> = decision.listed.iter().filter_map(indexed).collect();
    if decision.changes.is_empty() && meters.is_empty() && index.is_empty() {
        return Step { operation: asked.operation, changes: Vec::new(), meters, index };
    }
    let expected = |name: &Name| view.known.get(name).and_then(|stored| Some(stored.as_ref()?.revisions[0]));
    let mut changes: Vec<Write> = Vec::new();
    for change in &decision.changes {
        let record = change.record.as_ref().expect("nothing is deleted here");
        let put = Some((encode(record).into(), change.expires));
        changes.push(Write { name: change.name.clone(), expected: expected(&change.name), put });
    }
    // Whatever led to the decision must still be so.
    for name in view.known.keys() {
        if !changes.iter().any(|write| write.name == *name) {
            changes.push(Write { name: name.clone(), expected: expected(name), put: None });
        }
    }
    Step { operation: write_id(asked.operation, &changes), changes, meters, index }
}

/// The store's name for these writes: what is written over what.
fn write_id(operation: OperationId, writes: &[Write]) -> OperationId {
    let mut hasher = DefaultHasher::new();
    operation.hash(&mut hasher);
    for write in writes {
        write.expected.hash(&mut hasher);
        write.put.as_ref().map(|(value, _)| value).hash(&mut hasher);
    }
    OperationId::from_bytes(u128::from(hasher.finish()).to_be_bytes())
}

fn indexed(listed: &Listed) -> Option<IndexOp<u8>> {
    let member = |id: &ExecutionId| id.as_str().as_bytes().to_vec();
    match listed {
        Listed::Begun(_) | Listed::Undone(_) => None,
        Listed::Reserving(id, length) | Listed::Holding(id, length) => {
            let score = When::Now(i64::try_from(length.as_millis()).unwrap());
            Some(IndexOp::Add { key: DUE, score, member: member(id) })
        }
        Listed::Resolved(id) | Listed::Closed(id) => Some(IndexOp::Remove { key: DUE, member: member(id) }),
    }
}
