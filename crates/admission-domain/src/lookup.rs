//! Has this request been made before?

use safeconduct_types::{ExecutionId, Refusal, Timestamp};

use crate::execution::{Execution, Standing};
use crate::key::{Fingerprint, Keys};
use crate::record::{AtWrite, Decision, Found, Name};
use crate::resolve::{Matched, Resolved, resolve, targets};

/// What to look for.
#[derive(Clone, Debug)]
pub enum Target {
    /// The execution that the keys lead to.
    Keys {
        /// The keys.
        keys: Keys,
        /// What the caller's key is compared by. None: whoever asks has the key only, and it is not compared.
        fingerprint: Option<Fingerprint>,
    },
    /// This execution.
    Execution(ExecutionId),
}

/// A question for what is known of a request.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// What to look for.
    pub target: Target,
}

impl Lookup {
    /// What to read first.
    pub fn reads(&self) -> Vec<Name> {
        match &self.target {
            Target::Keys { keys, .. } => keys.iter().copied().map(Name::Key).collect(),
            Target::Execution(id) => vec![Name::Execution(id.clone())],
        }
    }

    /// What to read next, given what was found.
    pub fn follows(&self, found: &Found) -> Vec<Name> {
        match &self.target {
            Target::Keys { keys, .. } => targets(keys, found),
            Target::Execution(_) => Vec::new(),
        }
    }
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupAnswer {
    /// Nothing: it may be admitted.
    Absent,
    /// It ended: this came of it.
    Replay(Execution, Matched),
    /// An executor has it.
    Running(Execution, Matched),
    /// Nobody knows whether it happened.
    Unknown(Execution, Matched),
    /// The caller's key, at this place, stands for another request. Of which nothing is told.
    KeyReused(usize),
    /// The record of somebody who began and did not report back: find out what it means, then ask again.
    Stuck(Execution),
}

/// Says what is known of a request. Nothing is admitted by it; a free caller's key may be linked to what was found.
pub fn decide_lookup(now: Timestamp, asked: &Lookup, found: &Found) -> Result<Decision<LookupAnswer>, Refusal> {
    match &asked.target {
        Target::Execution(id) => {
            Ok(Decision::plain(match found.execution(id).filter(|execution| !execution.is_over(now)) {
                Some(execution) => answer(now, execution.clone(), Matched::Id),
                None => LookupAnswer::Absent,
            }))
        }
        Target::Keys { keys, fingerprint } => match resolve(now, keys, *fingerprint, found) {
            Resolved::Free { .. } => Ok(Decision::plain(LookupAnswer::Absent)),
            Resolved::Reused { matched } => Ok(Decision::plain(LookupAnswer::KeyReused(matched))),
            Resolved::Taken { execution, matched, links } => {
                let execution = found
                    .execution(&execution)
                    .cloned()
                    .ok_or_else(|| Refusal::internal("an execution that a key led to was not at hand"))?;
                Ok(Decision::besides(answer(now, execution, matched), links))
            }
        },
    }
}

impl AtWrite for LookupAnswer {
    fn written(self, _: Timestamp) -> Self {
        // Found, not written.
        self
    }
}

fn answer(now: Timestamp, execution: Execution, matched: Matched) -> LookupAnswer {
    match execution.standing(now) {
        Standing::Stuck => LookupAnswer::Stuck(execution),
        Standing::Reserving | Standing::Running => LookupAnswer::Running(execution, matched),
        Standing::Unknown => LookupAnswer::Unknown(execution, matched),
        Standing::Completed | Standing::Released => LookupAnswer::Replay(execution, matched),
    }
}
