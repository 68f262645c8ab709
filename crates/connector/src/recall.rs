//! What an earlier execution answers to the same request.

use std::sync::Arc;

use safeconduct_admission_client::{Admit, AdmitAnswer, Record, RecordState};
use safeconduct_connector_domain::bind::BoundInputs;
use safeconduct_connector_domain::execution::StoredIntent;
use safeconduct_types::{OperationId, Refusal, WorkspaceId};

use crate::Service;
use crate::execute::{ANSWER_MARGIN, Request};
use crate::render::Seen;
use crate::run::Job;
use crate::vault::Owner;

impl Service {
    /// Opens a record. `replay`: another request began it.
    pub(crate) fn open(&self, workspace: &WorkspaceId, record: Record, replay: bool) -> Result<Seen, Refusal> {
        let owner = Owner { workspace, execution: &record.execution };
        let intent = self.vault.open_intent(owner, &record.intent)?;
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

    /// An execution of which nobody knows how it ended: if sending it again can do no harm, that finds out; otherwise
    /// the caller is told that it is not known.
    pub(crate) async fn recall(self: &Arc<Self>, request: &Request, record: Record) -> Result<Seen, Refusal> {
        let seen = self.open(request.tenant.id(), record, true)?;
        match self.resume(request, &seen).await? {
            Some(found) => Ok(found),
            None => Ok(seen),
        }
    }

    async fn resume(self: &Arc<Self>, request: &Request, seen: &Seen) -> Result<Option<Seen>, Refusal> {
        let intent = &seen.intent;
        if !intent.can_be_resent(self.clock.now()) {
            return Ok(None);
        }
        // The very definition that was in force then, and the very inputs: a repeat, not a new request.
        let Ok(connector) = request.tenant.connector(&intent.connector, Some(&intent.version)).map(Arc::clone) else {
            return Ok(None);
        };
        let Some(inputs) = BoundInputs::from_intent(&connector, intent) else { return Ok(None) };
        let Ok(call_deadline) = self.call_deadline(request.deadline) else { return Ok(None) };
        let credential = request.tenant.credential(request.tenant.upstream(&connector)?)?;
        let admit = self.take_over(request, seen, intent)?;
        match self.admission.admit(admit, request.deadline.sooner(ANSWER_MARGIN)).await? {
            AdmitAnswer::Admitted(admitted) => {
                tracing::Span::current().record("safeconduct.decision", "resumed");
                let job = Job {
                    tenant: Arc::clone(&request.tenant),
                    connector,
                    contact: request.contact.id.clone(),
                    inputs,
                    intent: intent.clone(),
                    credential,
                    admitted,
                    call_deadline,
                };
                let found = self.launch(job, request).await;
                Ok(Some(Seen { replay: seen.replay, created: seen.created, ..found }))
            }
            // Somebody else was faster.
            AdmitAnswer::Replay(record) | AdmitAnswer::Running(record) | AdmitAnswer::Unknown(record) => {
                self.open(request.tenant.id(), record, true).map(Some)
            }
            AdmitAnswer::KeyReused => Ok(None),
        }
    }

    fn take_over(&self, request: &Request, seen: &Seen, intent: &StoredIntent) -> Result<Admit, Refusal> {
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
            intent: self.vault.seal_intent(owner, intent)?,
            resume: Some(seen.execution.clone()),
        })
    }
}
