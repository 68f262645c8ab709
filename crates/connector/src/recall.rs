//! What an earlier execution answers to the same request.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{Admit, AdmitAnswer, Lookup, LookupAnswer, Record, RecordState, Target};
use safeconduct_connector_domain::bind::BoundInputs;
use safeconduct_types::{ContactId, Deadline, ExecutionId, OperationId, Refusal, WorkspaceId};

use crate::Service;
use crate::admit::{Begun, Prepared};
use crate::execute::{Request, effect_of};
use crate::render::Seen;
use crate::run::unknown_execution;
use crate::vault::Owner;

impl Service {
    /// Opens a record. `contact`: whose it must be, where that is known. `replay`: another request began it.
    pub(crate) fn open(
        &self,
        workspace: &WorkspaceId,
        contact: Option<&ContactId>,
        record: Record,
        replay: bool,
    ) -> Result<Seen, Refusal> {
        let owner = Owner { workspace, execution: &record.execution };
        let intent = self.vault.open_intent(owner, &record.intent)?;
        if contact.is_some_and(|contact| *contact != intent.contact) {
            return Err(unknown_execution());
        }
        let outcome = self.vault.open_outcome(owner, &record.outcome)?;
        tracing::Span::current().record(
            "safeconduct.decision",
            match record.state {
                RecordState::Running => "running",
                RecordState::Completed | RecordState::Released => "replay",
                RecordState::Unknown => "unknown",
            },
        );
        Ok(Seen::of(record, intent, outcome, replay))
    }

    /// What a record says.
    pub(crate) async fn find(
        &self,
        workspace: &WorkspaceId,
        execution: &ExecutionId,
        contact: Option<&ContactId>,
        deadline: Deadline,
    ) -> Result<Seen, Refusal> {
        let target = Target::Execution { execution: execution.clone(), contact: contact.cloned() };
        self.look(workspace, contact, target, deadline).await
    }

    pub(crate) async fn look(
        &self,
        workspace: &WorkspaceId,
        contact: Option<&ContactId>,
        target: Target,
        deadline: Deadline,
    ) -> Result<Seen, Refusal> {
        let operation = OperationId::generate(&*self.random);
        let asked = Lookup::only(workspace.clone(), operation, target);
        match self.admission.lookup(asked, deadline).await? {
            LookupAnswer::Replay(record) | LookupAnswer::Running(record) | LookupAnswer::Unknown(record) => {
                self.open(workspace, contact, record, false)
            }
            LookupAnswer::Absent(_) | LookupAnswer::KeyReused | LookupAnswer::Denied(_) | LookupAnswer::Marked(_) => {
                Err(unknown_execution())
            }
        }
    }

    /// An earlier execution of this request's keys.
    pub(crate) fn replay(&self, request: &Request, record: Record) -> Result<Seen, Refusal> {
        self.open(request.tenant.id(), Some(&request.contact.id), record, true)
    }

    /// An execution of which nobody knows how it ended: if sending it again can do no harm, that finds out; otherwise
    /// the caller is told that it is not known.
    pub(crate) async fn recall(self: &Arc<Self>, request: &Request, record: Record) -> Result<Seen, Refusal> {
        let seen = self.replay(request, record)?;
        let Some(prepared) = self.prepare_resume(request, &seen) else { return Ok(seen) };
        let answer = match self.begin(request, prepared).await {
            Ok(Begun::Made(found)) => {
                tracing::Span::current().record("safeconduct.decision", "resumed");
                return Ok(Seen { replay: seen.replay, created: seen.created, ..*found });
            }
            Ok(Begun::Answered(answer)) => *answer,
            // What is known is worth more than why no more could be found out.
            Err(_) => return Ok(seen),
        };
        match answer {
            // Somebody else was faster.
            AdmitAnswer::Replay(record) | AdmitAnswer::Running(record) | AdmitAnswer::Unknown(record) => {
                self.replay(request, record)
            }
            AdmitAnswer::Admitted(_)
            | AdmitAnswer::KeyReused
            | AdmitAnswer::Denied(_)
            | AdmitAnswer::Marked(_)
            | AdmitAnswer::Consumed { .. } => Ok(seen),
        }
    }

    /// The same call once more: for the same caller's rights, to the same upstream, under the definition that was in
    /// force then, with the inputs of then. None if any of that is not to be had.
    fn prepare_resume(&self, request: &Request, seen: &Seen) -> Option<Prepared> {
        let intent = &seen.intent;
        if !intent.can_be_resent(self.clock.now()) {
            return None;
        }
        let connector = Arc::clone(request.tenant.connector(&intent.connector, Some(&intent.version)).ok()?);
        request.caller.require_connector(&connector.name, effect_of(&connector)).ok()?;
        let upstream = request.tenant.upstream(&connector).ok()?;
        if upstream.base.as_str() != intent.upstream {
            return None;
        }
        Some(Prepared {
            inputs: BoundInputs::from_intent(&connector, intent)?,
            credential: request.tenant.credential(upstream).ok()?,
            call_deadline: self.call_deadline(request.deadline).ok()?,
            admit: self.take_over(request, seen).ok()?,
            intent: intent.clone(),
            connector,
            limits: Vec::new(),
        })
    }

    fn take_over(&self, request: &Request, seen: &Seen) -> Result<Admit, Refusal> {
        let owner = Owner { workspace: request.tenant.id(), execution: &seen.execution };
        Ok(Admit {
            workspace: request.tenant.id().clone(),
            contact: request.contact.id.clone(),
            execution: seen.execution.clone(),
            operation: OperationId::generate(&*self.random),
            keys: request.keys.clone(),
            fingerprint: *request.fingerprint.as_bytes(),
            retain: None,
            lease: self.settings.lease,
            intent: self.vault.seal_intent(owner, &seen.intent)?,
            resume: Some(seen.execution.clone()),
            // Its charges were taken when it was first admitted.
            charges: Vec::new(),
            marks: request.marks.checks.to_vec(),
            wait: Duration::ZERO,
            consume: Vec::new(),
        })
    }
}
