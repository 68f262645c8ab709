//! What operators do. Each act says who did it and why, in a log line and on the trace: that is the audit. It names the
//! object by its id, never by what is in it.

pub(crate) mod close;
pub(crate) mod release_key;
pub(crate) mod settle_execution;

use safeconduct_admission_client::{Lookup, LookupAnswer, Record, Settle, Settlement, Target};
use safeconduct_service::caller::{Caller, Role};
use safeconduct_service::wire::Fields;
use safeconduct_types::{Deadline, ExecutionId, OperationId, Reason, Refusal, WorkspaceId};

use crate::Service;
use crate::render::Seen;
use crate::run::unknown_execution;

/// The longest reason, in characters.
const MAX_REASON: usize = 256;

/// Why an operator does something: 1 to 256 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Why(String);

impl Why {
    /// Notes what is wrong with the field `reason`.
    pub(crate) fn parse(wrong: &mut Fields, text: String) -> Self {
        let is_right = (1..=MAX_REASON).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if !is_right {
            wrong.wrong("reason", "must say why, in 1 to 256 characters without control characters");
        }
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// An execution as an operator looked at it.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    workspace: WorkspaceId,
    execution: ExecutionId,
    revision: u64,
    why: Why,
}

impl Looked {
    fn parse(workspace: &str, execution: &str, revision: u64, reason: String) -> Result<Self, Refusal> {
        let mut wrong = Fields::new();
        let workspace = wrong.parse("workspace_id", workspace);
        let execution = wrong.parse("execution_id", execution);
        if revision == 0 {
            wrong.wrong("revision", "must be the revision of the execution that you looked at (GetExecution has it)");
        }
        let why = Why::parse(&mut wrong, reason);
        wrong.finish()?;
        let (Some(workspace), Some(execution)) = (workspace, execution) else {
            return Err(Refusal::invalid_field("execution_id", "is required, and workspace_id"));
        };
        Ok(Self { workspace, execution, revision, why })
    }
}

impl Service {
    /// The record that the operator looked at, if it still is as it was then.
    async fn looked_at(&self, caller: &Caller, looked: &Looked, deadline: Deadline) -> Result<Record, Refusal> {
        caller.require(&[Role::Operator], Some(&looked.workspace))?;
        let target = Target::Execution { execution: looked.execution.clone(), contact: None };
        let asked = Lookup::only(looked.workspace.clone(), OperationId::generate(&*self.random), target);
        let record = match self.admission.lookup(asked, deadline).await? {
            LookupAnswer::Replay(record) | LookupAnswer::Unknown(record) => record,
            LookupAnswer::Running(_) => return Err(not_as_looked_at("it is running; wait until it has ended")),
            LookupAnswer::Absent(_) | LookupAnswer::KeyReused | LookupAnswer::Denied(_) | LookupAnswer::Marked(_) => {
                return Err(unknown_execution());
            }
        };
        if record.revision != looked.revision {
            return Err(not_as_looked_at("it has changed since; look at it again"));
        }
        Ok(record)
    }

    /// Says what became of a record. Somebody who was faster since it was looked up wins: `LEASE_LOST`.
    async fn overrule(
        &self,
        looked: &Looked,
        seen: &Seen,
        token: u64,
        settlement: Settlement,
        deadline: Deadline,
    ) -> Result<Record, Refusal> {
        let asked = Settle {
            workspace: looked.workspace.clone(),
            contact: seen.intent.contact.clone(),
            execution: looked.execution.clone(),
            operation: OperationId::generate(&*self.random),
            token,
            settlement,
        };
        Ok(self.admission.settle(asked, deadline).await?.record)
    }
}

fn not_as_looked_at(why: &'static str) -> Refusal {
    Refusal::new(Reason::LeaseLost, format!("the execution is not as you looked at it: {why}"))
}

/// Leaves the trail of what an operator did to an execution.
fn audit(act: &'static str, caller: &Caller, looked: &Looked, result: &'static str) {
    tracing::info!(
        safeconduct.audit = act,
        safeconduct.actor = %caller.name(),
        safeconduct.workspace = %looked.workspace,
        safeconduct.execution = %looked.execution,
        safeconduct.audit_reason = looked.why.as_str(),
        safeconduct.audit_result = result,
        "an operator acted"
    );
}
