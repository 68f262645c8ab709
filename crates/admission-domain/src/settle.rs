//! An executor says how it ended.

use std::sync::Arc;

use safeconduct_types::{ExecutionId, OperationId, Refusal};

use crate::bounds::Digest;
use crate::execution::{Execution, Moved, NotSettled, Settlement, State, Token};
use crate::extend::{lease_lost, unknown};
use crate::held::Adjusted;
use crate::limit::Charge;
use crate::record::{Change, Counted, Decision, Found, Listed, Name};

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

    /// What to read next, given what was found: the keys that get an end together with the record, and what it used up.
    pub fn follows(&self, found: &Found) -> Vec<Name> {
        found.execution(&self.execution).map(companions).unwrap_or_default()
    }
}

/// The record as it stands afterwards.
pub type Settled = Execution;

/// Decides whether the word counts.
pub fn decide_settle(asked: &Settle, found: &Found) -> Result<Decision<Settled>, Refusal> {
    let record = found.execution(&asked.execution).cloned().ok_or_else(unknown)?;
    let reserving = matches!(record.state(), State::Reserving { .. });
    match record.settle(asked.token, asked.operation, asked.settlement.clone()) {
        Ok(Moved::To(next, adjusted)) => Ok(ended(next, adjusted, reserving, found)),
        Ok(Moved::Nowhere(same)) => Ok(Decision::plain(same)),
        Err(NotSettled::LeaseLost) => Err(lease_lost()),
        Err(NotSettled::NoSuchCharge(index)) => Err(Refusal::invalid_field(
            format!("completed.actual[charge_index={index}]"),
            "must name a charge of the execution to a count or a sum, with an amount between 0 and 2^53 - 1",
        )),
        Err(NotSettled::InDoubt) => Err(Refusal::invalid_field(
            "released.doubt_resolved",
            "a resumed execution cannot be released unless it is known that its earlier executors did nothing either; \
             settle it as unknown, or find out and say so",
        )),
    }
}

/// A reservation that nobody reported back on: what it was has been found out in the slot of the shared limits.
#[derive(Clone, Debug)]
pub struct Resolve {
    /// The execution.
    pub execution: ExecutionId,
    /// This operation; the same in a repeat.
    pub operation: OperationId,
    /// Whether the promise was made, or may have been.
    pub promised: bool,
}

impl Resolve {
    /// What to read first.
    pub fn reads(&self) -> Vec<Name> {
        vec![Name::Execution(self.execution.clone())]
    }

    /// What to read next.
    pub fn follows(&self, found: &Found) -> Vec<Name> {
        found.execution(&self.execution).map(companions).unwrap_or_default()
    }
}

/// Makes of a reservation what it was. None: the record is gone.
pub fn decide_resolve(asked: &Resolve, found: &Found) -> Decision<Option<Settled>> {
    let Some(record) = found.execution(&asked.execution).cloned() else {
        return Decision { listed: vec![Listed::Resolved(asked.execution.clone())], ..Decision::plain(None) };
    };
    match record.resolve(asked.operation, asked.promised) {
        Moved::To(next, adjusted) => {
            let mut decided = ended(next, adjusted, true, found).map(Some);
            if !asked.promised {
                decided = decided.listing(Listed::Undone(asked.execution.clone()));
            }
            decided
        }
        Moved::Nowhere(same) => Decision::plain(Some(same)),
    }
}

/// What the execution takes from the contact's own limits.
fn own_charges(record: &Execution) -> Vec<Arc<Charge>> {
    record.charges().iter().filter(|held| !held.is_shared()).map(|held| Arc::clone(&held.charge)).collect()
}

/// The records that belong to an execution: its own, and those that end with it.
pub fn parts(record: &Execution) -> Vec<Name> {
    std::iter::once(Name::Execution(record.id().clone())).chain(companions(record)).collect()
}

/// The records that end with an execution.
fn companions(record: &Execution) -> Vec<Name> {
    let keys = record.keys.iter().copied().map(Name::Key);
    keys.chain(record.consumed.iter().copied().map(Name::Use)).collect()
}

fn ended(next: Execution, adjusted: Vec<Adjusted>, reserving: bool, found: &Found) -> Decision<Settled> {
    let mut changes = vec![Change::execution(next.clone())];
    if next.expires().is_some() {
        // Key and record are forgotten together. A key that leads elsewhere by now is somebody else's.
        changes.extend(next.keys.iter().filter_map(|key| {
            let pointer = found.pointer(key).filter(|pointer| pointer.execution == *next.id())?;
            Some(Change::pointer(*key, pointer.clone(), next.expires()))
        }));
    }
    if matches!(next.state(), State::Released { .. }) {
        let mine = |digest: &&Digest| found.used(digest).is_some_and(|by| by.as_ref() == Some(next.id()));
        changes.extend(next.consumed.iter().filter(mine).map(|digest| Change::gone(Name::Use(*digest))));
    }
    let id = next.id().clone();
    let asks = own_charges(&next);
    let decision = Decision { asks, ..Decision::with(next, changes) };
    let decision = if adjusted.is_empty() { decision } else { decision.counting(Counted::Adjusted(adjusted)) };
    if reserving { decision.listing(Listed::Resolved(id)) } else { decision }
}
