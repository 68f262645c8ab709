//! An executor is still at it.

use std::sync::Arc;

use safeconduct_types::{ExecutionId, OperationId, Reason, Refusal, Timestamp};

use crate::bounds::{Lease, Sealed};
use crate::execution::{Execution, LeaseLost, Moved, State, Token};
use crate::limit::{Charge, MAX_CHARGES};
use crate::record::{Change, Counted, Decision, Found, Listed, Name};

/// A request for more time, and to remember the steps done.
#[derive(Clone, Debug)]
pub struct Extend {
    /// The execution.
    pub execution: ExecutionId,
    /// This operation; the same in a repeat.
    pub operation: OperationId,
    /// The token that admission gave.
    pub token: Token,
    /// The length of the lease from now. None: unchanged.
    pub lease: Option<Lease>,
    /// The steps done. None: unchanged.
    pub checkpoint: Option<Sealed>,
    /// What a later step takes.
    pub charges: Vec<Arc<Charge>>,
}

impl Extend {
    /// What to read.
    pub fn reads(&self) -> Vec<Name> {
        vec![Name::Execution(self.execution.clone())]
    }
}

/// The record with its new lease.
pub type Extended = Execution;

/// Decides whether the executor may go on.
pub fn decide_extend(now: Timestamp, asked: &Extend, found: &Found) -> Result<Decision<Extended>, Refusal> {
    let record = found.execution(&asked.execution).cloned().ok_or_else(unknown)?;
    let has_taken = record.charges().iter().any(|held| held.by == asked.operation);
    if !has_taken && record.charges().len().saturating_add(asked.charges.len()) > MAX_CHARGES {
        return Err(Refusal::invalid_field("charges", "must be at most 32 over the whole execution"));
    }
    if record.is_held_by(asked.operation) {
        // What each operation takes is known by its id.
        return Err(Refusal::invalid_field("operation_id", "must not be that of the admission"));
    }
    let reserving = matches!(record.state(), State::Reserving { .. });
    match record.extend(now, asked.token, asked.operation, asked.lease, asked.checkpoint.clone(), &asked.charges) {
        Ok(Moved::To(next, _)) => {
            let decision = Decision::with(next.clone(), vec![Change::execution(next)]);
            let decision = if asked.charges.is_empty() { decision } else { decision.counting(Counted::Charges) };
            Ok(if reserving { decision.listing(Listed::Resolved(asked.execution.clone())) } else { decision })
        }
        Ok(Moved::Nowhere(same)) => Ok(Decision::plain(same)),
        Err(LeaseLost) => Err(lease_lost()),
    }
}

/// The charges of an extension were denied by a shared limit: takes back what it took of the contact's own.
pub fn decide_withdraw(asked: &Extend, found: &Found) -> Result<Decision<Extended>, Refusal> {
    let record = found.execution(&asked.execution).cloned().ok_or_else(unknown)?;
    Ok(match record.withdraw(asked.operation) {
        Moved::To(next, adjusted) => {
            let decision = Decision::with(next.clone(), vec![Change::execution(next)]);
            if adjusted.is_empty() { decision } else { decision.counting(Counted::Adjusted(adjusted)) }
        }
        Moved::Nowhere(same) => Decision::plain(same),
    })
}

pub(crate) fn unknown() -> Refusal {
    Refusal::new(Reason::ExecutionUnknown, "there is no such execution")
}

pub(crate) fn lease_lost() -> Refusal {
    Refusal::new(Reason::LeaseLost, "the execution has ended or another executor has it; look it up")
}
