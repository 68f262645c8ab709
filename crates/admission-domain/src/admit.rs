//! May this request go ahead?

use safeconduct_types::{ExecutionId, OperationId, Refusal, Timestamp};

use crate::bounds::{Lease, Retention, Sealed};
use crate::execution::{Execution, Standing, Start, Token};
use crate::key::{Fingerprint, Key, KeyKind, Keys};
use crate::list::{Bucket, Entry, Listing};
use crate::record::{Change, Decision, Found, Name, Pointer, Record};
use crate::resolve::{Matched, Resolved, resolve, targets};

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
}

impl Admit {
    /// What to read first.
    pub fn reads(&self) -> Vec<Name> {
        let mut names: Vec<Name> = self.keys.iter().copied().map(Name::Key).collect();
        names.push(Name::Execution(self.execution.clone()));
        if let Some(resumed) = self.resume.as_ref().filter(|id| **id != self.execution) {
            names.push(Name::Execution(resumed.clone()));
        }
        names.push(Name::Bucket(Bucket::of(&self.execution)));
        names
    }

    /// What to read next, given what was found; may name again what was read.
    pub fn follows(&self, found: &Found) -> Vec<Name> {
        targets(&self.keys, found)
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
    /// It ended before: answer with its outcome.
    Replay(Execution, Matched),
    /// Another executor has it.
    Running(Execution, Matched),
    /// Nobody knows whether it happened.
    Unknown(Execution, Matched),
    /// The caller's key, at this place, stands for another request. Of which nothing is told.
    KeyReused(usize),
}

/// Decides whether the request may go ahead.
pub fn decide_admit(now: Timestamp, asked: &Admit, mut found: Found) -> Result<Decision<AdmitAnswer>, Refusal> {
    if asked.keys.has_caller() && asked.fingerprint.is_none() {
        return Err(Refusal::invalid_field("idempotency.fingerprint", "must be there for a key of kind CALLER"));
    }
    match &asked.resume {
        Some(id) => take_over(now, asked, id, found),
        None => match found.take_execution(&asked.execution) {
            Some(own) => repeat(now, asked, own),
            None => begin(now, asked, found),
        },
    }
}

/// The execution exists: this operation was applied before, or somebody numbers executions wrongly.
fn repeat(now: Timestamp, asked: &Admit, own: Execution) -> Result<Decision<AdmitAnswer>, Refusal> {
    if own.keys != asked.keys {
        return Err(Refusal::invalid_field("execution_id", "names an execution of another request; choose a new one"));
    }
    if own.is_held_by(asked.operation) && own.standing(now) == Standing::Running {
        let resumed = own.token() > Token::FIRST;
        return Ok(Decision::plain(AdmitAnswer::Admitted(Admitted { execution: own, resumed })));
    }
    Ok(Decision::plain(answer(now, own, Matched::Id)))
}

fn begin(now: Timestamp, asked: &Admit, mut found: Found) -> Result<Decision<AdmitAnswer>, Refusal> {
    match resolve(now, &asked.keys, asked.fingerprint, &found) {
        Resolved::Reused { matched } => Ok(Decision::plain(AdmitAnswer::KeyReused(matched))),
        Resolved::Taken { execution, matched, links } => {
            let execution = found.take_execution(&execution).ok_or_else(lost)?;
            Ok(Decision::besides(answer(now, execution, matched), links))
        }
        Resolved::Free { generation } => {
            let execution = Execution::begin(
                now,
                Start {
                    id: asked.execution.clone(),
                    keys: asked.keys.clone(),
                    generation,
                    operation: asked.operation,
                    lease: asked.lease,
                    retain: asked.retain,
                    intent: asked.intent.clone(),
                },
            );
            let changes = creation(now, &execution, asked.fingerprint, &found);
            Ok(Decision::with(AdmitAnswer::Admitted(Admitted { execution, resumed: false }), changes))
        }
    }
}

/// A new execution, all its keys pointing to it, and its place in the contact's list.
fn creation(now: Timestamp, execution: &Execution, fingerprint: Option<Fingerprint>, found: &Found) -> Vec<Change> {
    let point = |key: &Key| {
        let fingerprint = fingerprint.filter(|_| key.kind == KeyKind::Caller);
        let pointer = Pointer { execution: execution.id().clone(), fingerprint, floor: execution.generation() };
        // No end: it may become unknown, and then its keys stay taken. Settling gives them one.
        Change::pointer(*key, pointer, None)
    };
    let mut changes: Vec<Change> = execution.keys.iter().map(point).collect();
    let bucket = Bucket::of(execution.id());
    let listing = found.listing(bucket).cloned().unwrap_or_default();
    changes.push(Change {
        name: Name::Bucket(bucket),
        record: Record::Listing(listing.with(Entry { admitted: now, execution: execution.id().clone() })),
        expires: Some(Listing::expires(now)),
    });
    changes.push(Change::execution(execution.clone()));
    changes
}

fn take_over(
    now: Timestamp,
    asked: &Admit,
    id: &ExecutionId,
    mut found: Found,
) -> Result<Decision<AdmitAnswer>, Refusal> {
    let mut links = Vec::new();
    if !asked.keys.is_empty() {
        match resolve(now, &asked.keys, asked.fingerprint, &found) {
            Resolved::Reused { matched } => return Ok(Decision::plain(AdmitAnswer::KeyReused(matched))),
            Resolved::Taken { execution, matched, links: mine } if execution != *id => {
                let execution = found.take_execution(&execution).ok_or_else(lost)?;
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
    let Some(target) = found.take_execution(id) else {
        return Err(Refusal::new(
            safeconduct_types::Reason::ExecutionUnknown,
            "there is no such execution to take over; ask again without resuming",
        ));
    };
    if target.is_held_by(asked.operation) {
        // A repeat. Once the lease has lapsed it is no permission to act any more; another operation may take over.
        let standing = target.standing(now);
        return Ok(Decision::plain(match standing {
            Standing::Running => AdmitAnswer::Admitted(Admitted { execution: target, resumed: true }),
            Standing::Unknown | Standing::Completed | Standing::Released => answer(now, target, Matched::Id),
        }));
    }
    match target.resume(now, asked.operation, asked.lease) {
        Ok(execution) => {
            links.push(Change::execution(execution.clone()));
            Ok(Decision::with(AdmitAnswer::Admitted(Admitted { execution, resumed: true }), links))
        }
        Err(target) => Ok(Decision::besides(answer(now, target, Matched::Id), links)),
    }
}

fn answer(now: Timestamp, execution: Execution, matched: Matched) -> AdmitAnswer {
    match execution.standing(now) {
        Standing::Running => AdmitAnswer::Running(execution, matched),
        Standing::Unknown => AdmitAnswer::Unknown(execution, matched),
        Standing::Completed | Standing::Released => AdmitAnswer::Replay(execution, matched),
    }
}

fn lost() -> Refusal {
    Refusal::internal("an execution that a key led to was not at hand")
}
