//! May this request go ahead?

use std::sync::Arc;

use safeconduct_types::{ExecutionId, OperationId, Refusal, Timestamp};

use crate::bounds::{BRIEF, Digest, Lease, Retention, Sealed};
use crate::execution::{Execution, Standing, Start, Token};
use crate::held::{Held, is_shared};
use crate::key::{Fingerprint, Key, KeyKind, Keys};
use crate::limit::Charge;
use crate::record::{AT_WRITE, AtWrite, Change, Counted, Decision, Found, Listed, Name, Pointer, Record};
use crate::resolve::{Matched, Resolved, resolve, targets};

/// Something that may be used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SingleUse {
    /// What stands for it.
    pub digest: Digest,
    /// Until when its use must be remembered.
    pub expires: Timestamp,
}

/// A request to go ahead.
#[derive(Clone, Debug)]
pub struct Admit {
    /// The id of the execution that this begins.
    pub execution: ExecutionId,
    /// This operation; the same in a repeat.
    pub operation: OperationId,
    /// How the request is recognised when it comes again. None: it never is.
    pub keys: Keys,
    /// What the caller's key is compared by; must be there if such a key is.
    pub fingerprint: Option<Fingerprint>,
    /// How long the record is kept once final.
    pub retain: Retention,
    /// How long the executor may stay silent.
    pub lease: Lease,
    /// What the executor is about to do.
    pub intent: Sealed,
    /// The execution to take over, once its lease has lapsed, instead of beginning one.
    pub resume: Option<ExecutionId>,
    /// What it takes.
    pub charges: Vec<Arc<Charge>>,
    /// What it uses up.
    pub consume: Vec<SingleUse>,
    /// The history of the store of the shared limits as it is known before anything is taken; asked for if there are
    /// charges to such limits.
    pub epoch: Box<str>,
    /// Of what was written before this moment the store may have lost some; the epoch if nothing was ever lost.
    pub lost_until: Timestamp,
    /// Whether it is listed among the contact's executions.
    pub listed: bool,
}

impl Admit {
    /// What to read first. A request is usually a new one, and then none of it is there: see [`decide_admit`].
    pub fn reads(&self) -> Vec<Name> {
        let mut names: Vec<Name> = Vec::with_capacity(self.keys.iter().len() + self.consume.len() + 2);
        names.extend(self.keys.iter().copied().map(Name::Key));
        names.push(Name::Execution(self.execution.clone()));
        if let Some(resumed) = self.resume.as_ref().filter(|id| **id != self.execution) {
            names.push(Name::Execution(resumed.clone()));
        }
        names.extend(self.consume.iter().map(|one| Name::Use(one.digest)));
        names
    }

    /// What to read next, given what was found; may name again what was read.
    pub fn follows(&self, found: &Found) -> Vec<Name> {
        targets(&self.keys, found)
    }

    /// Whether some of what it takes is counted beside the contact's own.
    pub fn has_shared(&self) -> bool {
        self.charges.iter().any(|charge| is_shared(charge))
    }
}

/// The permission to act. What was admitted must be settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The record: its token shows that nobody has taken over.
    pub execution: Execution,
    /// Whether it was taken over from an executor that did not report back.
    pub resumed: bool,
}

/// What a request to go ahead is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdmitAnswer {
    /// Go ahead.
    Admitted(Admitted),
    /// What is the contact's is taken; go ahead once the shared limits have been taken, too.
    Reserved(Execution),
    /// It ended before: answer with its outcome.
    Replay(Execution, Matched),
    /// Another executor has it.
    Running(Execution, Matched),
    /// Nobody knows whether it happened.
    Unknown(Execution, Matched),
    /// The caller's key, at this place, stands for another request. Of which nothing is told.
    KeyReused(usize),
    /// The single-use id at this place was used, by this execution if that is known.
    Consumed(usize, Option<ExecutionId>),
    /// The record of somebody who began and did not report back: find out what it means, then ask again.
    Stuck(Execution),
}

/// Decides whether the request may go ahead.
///
/// With nothing found it decides for a request that was never seen, without knowing the time: all times are then
/// counted from the write. The store checks that nothing is there and takes it in one stroke, or says what is there.
pub fn decide_admit(now: Timestamp, asked: &Admit, found: &Found) -> Result<Decision<AdmitAnswer>, Refusal> {
    if asked.keys.has_caller() && asked.fingerprint.is_none() {
        return Err(Refusal::invalid_field("idempotency.fingerprint", "must be there for a key of kind CALLER"));
    }
    match &asked.resume {
        Some(id) => take_over(now, asked, id, found),
        None => match found
            .execution(&asked.execution)
            .filter(|own| !own.was_denied_to(asked.operation) && !own.is_over(now))
        {
            Some(own) => repeat(now, asked, own.clone()),
            None => begin(now, asked, found),
        },
    }
}

/// The execution exists: this operation was applied before, or somebody numbers executions wrongly.
fn repeat(now: Timestamp, asked: &Admit, own: Execution) -> Result<Decision<AdmitAnswer>, Refusal> {
    if own.keys != asked.keys {
        return Err(Refusal::invalid_field("execution_id", "names an execution of another request; choose a new one"));
    }
    let standing = own.standing(now);
    if own.is_held_by(asked.operation) && standing == Standing::Running {
        let resumed = own.token() > Token::FIRST;
        return Ok(Decision::plain(AdmitAnswer::Admitted(Admitted { execution: own, resumed })));
    }
    Ok(Decision::plain(if own.is_held_by(asked.operation) && standing == Standing::Reserving {
        AdmitAnswer::Reserved(own)
    } else {
        answer(now, own, Matched::Id)
    }))
}

fn begin(now: Timestamp, asked: &Admit, found: &Found) -> Result<Decision<AdmitAnswer>, Refusal> {
    let generation = match resolve(now, &asked.keys, asked.fingerprint, found) {
        Resolved::Reused { matched } => return Ok(Decision::plain(AdmitAnswer::KeyReused(matched))),
        Resolved::Taken { execution, matched, links } => {
            let execution = found.execution(&execution).cloned().ok_or_else(lost)?;
            return Ok(Decision::besides(answer(now, execution, matched), links));
        }
        Resolved::Free { generation } => generation,
    };
    for (place, one) in asked.consume.iter().enumerate() {
        if let Some(by) = found.used(&one.digest) {
            return Ok(Decision::plain(AdmitAnswer::Consumed(place, by.clone())));
        }
    }
    let execution = Execution::begin(Start {
        id: asked.execution.clone(),
        keys: asked.keys.clone(),
        generation,
        operation: asked.operation,
        lease: asked.lease,
        retain: asked.retain,
        intent: asked.intent.clone(),
        charges: Held::all(asked.operation, &asked.charges, AT_WRITE).collect(),
        consumed: asked.consume.iter().map(|one| one.digest).collect(),
        epoch: asked.has_shared().then(|| asked.epoch.clone()),
    });
    Ok(creation(asked, execution))
}

/// A new execution, all its keys pointing to it, what it uses up, and its place in the contact's list.
fn creation(asked: &Admit, execution: Execution) -> Decision<AdmitAnswer> {
    let point = |key: &Key| {
        let fingerprint = asked.fingerprint.filter(|_| key.kind == KeyKind::Caller);
        let pointer = Pointer { execution: execution.id().clone(), fingerprint, floor: execution.generation() };
        // No end: it may become unknown, and then its keys stay taken. Settling gives them one.
        Change::pointer(*key, pointer, None)
    };
    let mut changes = Vec::with_capacity(asked.keys.iter().len() + asked.consume.len() + 1);
    changes.extend(execution.keys.iter().map(point));
    let used = |one: &SingleUse| Change::used(one.digest, Some(execution.id().clone()), one.expires);
    changes.extend(asked.consume.iter().map(used));
    changes.push(Change::execution(execution.clone()));
    let shared = asked.has_shared();
    let id = execution.id().clone();
    let answer = if shared {
        AdmitAnswer::Reserved(execution)
    } else {
        AdmitAnswer::Admitted(Admitted { execution, resumed: false })
    };
    let mut decision = Decision::with(answer, changes);
    if !asked.charges.is_empty() {
        decision = decision.counting(Counted::Charges);
    }
    if asked.listed {
        decision = decision.listing(Listed::Begun(id.clone()));
    }
    if shared { decision.listing(Listed::Reserving(id, asked.lease.length())) } else { decision }
}

fn take_over(now: Timestamp, asked: &Admit, id: &ExecutionId, found: &Found) -> Result<Decision<AdmitAnswer>, Refusal> {
    let mut links = Vec::new();
    if !asked.keys.is_empty() {
        match resolve(now, &asked.keys, asked.fingerprint, found) {
            Resolved::Reused { matched } => return Ok(Decision::plain(AdmitAnswer::KeyReused(matched))),
            Resolved::Taken { execution, matched, links: mine } if execution != *id => {
                let execution = found.execution(&execution).cloned().ok_or_else(lost)?;
                return Ok(Decision::besides(answer(now, execution, matched), mine));
            }
            Resolved::Taken { links: mine, .. } => links = mine,
            Resolved::Free { .. } => {
                // It may have been released since the caller looked. Otherwise its keys would lead to it.
                let released = found.execution(id).is_none_or(|target| target.standing(now) == Standing::Released);
                if !released {
                    return Err(Refusal::invalid_field("resume_execution_id", "none of the keys leads to it"));
                }
            }
        }
    }
    let Some(target) = found.execution(id).filter(|target| !target.is_over(now)).cloned() else {
        return Err(Refusal::new(
            safeconduct_types::Reason::ExecutionUnknown,
            "there is no such execution to take over; ask again without resuming",
        ));
    };
    if target.is_held_by(asked.operation) {
        // A repeat. Once the lease has lapsed it is no permission to act any more; another operation may take over.
        return Ok(if target.standing(now) == Standing::Running {
            Decision::plain(AdmitAnswer::Admitted(Admitted { execution: target, resumed: true }))
        } else {
            Decision::plain(answer(now, target, Matched::Id))
        });
    }
    match target.resume(now, asked.operation, asked.lease, asked.lost_until) {
        Ok(execution) => {
            links.push(Change::execution(execution.clone()));
            Ok(Decision::with(AdmitAnswer::Admitted(Admitted { execution, resumed: true }), links))
        }
        Err(target) => Ok(Decision::besides(answer(now, target, Matched::Id), links)),
    }
}

fn answer(now: Timestamp, execution: Execution, matched: Matched) -> AdmitAnswer {
    match execution.standing(now) {
        Standing::Stuck => AdmitAnswer::Stuck(execution),
        Standing::Reserving | Standing::Running => AdmitAnswer::Running(execution, matched),
        Standing::Unknown => AdmitAnswer::Unknown(execution, matched),
        Standing::Completed | Standing::Released => AdmitAnswer::Replay(execution, matched),
    }
}

/// A request that takes something and leaves no record of an execution: nothing is to be settled, and nothing comes
/// back.
#[derive(Clone, Debug)]
pub struct Takes {
    /// This operation; the same in a repeat.
    pub operation: OperationId,
    /// What it uses up.
    pub consume: Vec<SingleUse>,
    /// Whether the operation is remembered, so that a repeat takes nothing.
    pub remembered: bool,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakesAnswer {
    /// All of it is taken.
    Taken,
    /// The single-use id at this place was used, by this execution if that is known.
    Consumed(usize, Option<ExecutionId>),
}

impl Takes {
    /// What to read.
    pub fn reads(&self) -> Vec<Name> {
        let operation = self.remembered.then_some(Name::Operation(self.operation));
        operation.into_iter().chain(self.consume.iter().map(|one| Name::Use(one.digest))).collect()
    }
}

/// Decides whether the request may take it.
pub fn decide_takes(asked: &Takes, found: &Found) -> Decision<TakesAnswer> {
    let operation = Name::Operation(asked.operation);
    if found.get(&operation).is_some() {
        return Decision::plain(TakesAnswer::Taken);
    }
    for (place, one) in asked.consume.iter().enumerate() {
        if let Some(by) = found.used(&one.digest) {
            return Decision::plain(TakesAnswer::Consumed(place, by.clone()));
        }
    }
    let mut changes: Vec<Change> =
        asked.consume.iter().map(|one| Change::used(one.digest, None, one.expires)).collect();
    if asked.remembered {
        let record = Some(Record::Operation);
        changes.push(Change { name: operation, record, expires: Some(AT_WRITE.after(BRIEF)) });
    }
    Decision::with(TakesAnswer::Taken, changes).counting(Counted::Charges)
}

impl AtWrite for TakesAnswer {
    fn written(self, _: Timestamp) -> Self {
        self
    }
}

impl AtWrite for AdmitAnswer {
    fn written(self, at: Timestamp) -> Self {
        match self {
            Self::Admitted(it) => Self::Admitted(Admitted { execution: it.execution.written(at), ..it }),
            Self::Reserved(it) => Self::Reserved(it.written(at)),
            // Found, not written.
            Self::Replay(..)
            | Self::Running(..)
            | Self::Unknown(..)
            | Self::KeyReused(_)
            | Self::Consumed(..)
            | Self::Stuck(_) => self,
        }
    }
}

fn lost() -> Refusal {
    Refusal::internal("an execution that a key led to was not at hand")
}
