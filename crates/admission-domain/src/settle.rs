//! An executor says how it ended.

use safeconduct_types::{ExecutionId, OperationId, Refusal, Timestamp};

use crate::execution::{Execution, Moved, NotSettled, Settlement, Token};
use crate::extend::{lease_lost, unknown};
use crate::record::{Change, Decision, Found, Name};

/// How an execution ended.
#[derive(Clone, Debug)]
pub struct Settle {
    /// The execution.
    pub execution: ExecutionId,
    /// This operation; the same in a repeat.
    pub operation: OperationId,
    /// The token of who says so.
    pub token: Token,
    /// What is said.
    pub settlement: Settlement,
}

impl Settle {
    /// What to read first.
    pub fn reads(&self) -> Vec<Name> {
        vec![Name::Execution(self.execution.clone())]
    }

    /// What to read next, given what was found: the keys that get an end together with the record.
    pub fn follows(&self, found: &Found) -> Vec<Name> {
        found
            .execution(&self.execution)
            .map(|record| record.keys.iter().copied().map(Name::Key).collect())
            .unwrap_or_default()
    }
}

/// The record as it stands afterwards.
pub type Settled = Execution;

/// Decides whether the word counts.
pub fn decide_settle(now: Timestamp, asked: &Settle, mut found: Found) -> Result<Decision<Settled>, Refusal> {
    let record = found.take_execution(&asked.execution).ok_or_else(unknown)?;
    match record.settle(now, asked.token, asked.operation, asked.settlement.clone()) {
        Ok(Moved::To(next)) => {
            let changes = ending(&next, &found);
            Ok(Decision::with(next, changes))
        }
        Ok(Moved::Nowhere(same)) => Ok(Decision::plain(same)),
        Err(NotSettled::LeaseLost) => Err(lease_lost()),
        Err(NotSettled::InDoubt) => Err(Refusal::invalid_field(
            "released.doubt_resolved",
            "a resumed execution cannot be released unless it is known that its earlier executors did nothing either; \
             settle it as unknown, or find out and say so",
        )),
    }
}

fn ending(record: &Execution, found: &Found) -> Vec<Change> {
    let mut changes = vec![Change::execution(record.clone())];
    if record.expires().is_some() {
        // Key and record are forgotten together. A key that leads elsewhere by now is somebody else's.
        changes.extend(record.keys.iter().filter_map(|key| {
            let pointer = found.pointer(key).filter(|pointer| pointer.execution == *record.id())?;
            Some(Change::pointer(*key, pointer.clone(), record.expires()))
        }));
    }
    changes
}
