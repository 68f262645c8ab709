//! An executor is still at it.

use safeconduct_types::{ExecutionId, OperationId, Reason, Refusal, Timestamp};

use crate::bounds::{Lease, Sealed};
use crate::execution::{Execution, LeaseLost, Moved, Token};
use crate::record::{Change, Decision, Found, Name};

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
pub fn decide_extend(now: Timestamp, asked: &Extend, mut found: Found) -> Result<Decision<Extended>, Refusal> {
    let record = found.take_execution(&asked.execution).ok_or_else(unknown)?;
    match record.extend(now, asked.token, asked.operation, asked.lease, asked.checkpoint.clone()) {
        Ok(Moved::To(next)) => Ok(Decision::with(next.clone(), vec![Change::execution(next)])),
        Ok(Moved::Nowhere(same)) => Ok(Decision::plain(same)),
        Err(LeaseLost) => Err(lease_lost()),
    }
}

pub(crate) fn unknown() -> Refusal {
    Refusal::new(Reason::ExecutionUnknown, "there is no such execution")
}

pub(crate) fn lease_lost() -> Refusal {
    Refusal::new(Reason::LeaseLost, "the execution has ended or another executor has it; look it up")
}
