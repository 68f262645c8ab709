//! `ReleaseKey`: the same request may have an effect again.

use safeconduct_admission_client::{RecordState, Settlement};
use safeconduct_connector_domain::execution::{Effect, State, StoredOutcome};
use safeconduct_proto::connector::v1 as proto;
use safeconduct_service::caller::Caller;
use safeconduct_types::{Deadline, Refusal};

use super::{Looked, audit};
use crate::Service;
use crate::vault::Owner;

pub(crate) fn parse(request: proto::ReleaseKeyRequest) -> Result<Looked, Refusal> {
    Looked::parse(&request.workspace_id, &request.execution_id, request.revision, request.reason)
}

impl Service {
    /// Frees the keys of an execution that has ended, or of which nobody knows whether it did anything: then the
    /// operator has found out that it did not. Whether keys were freed by this call.
    pub(crate) async fn release_key(
        &self,
        caller: &Caller,
        looked: Looked,
        deadline: Deadline,
    ) -> Result<bool, Refusal> {
        let span = tracing::info_span!("release_key", safeconduct.execution = %looked.execution);
        tracing::Instrument::instrument(self.release(caller, &looked, deadline), span).await
    }

    async fn release(&self, caller: &Caller, looked: &Looked, deadline: Deadline) -> Result<bool, Refusal> {
        let record = self.looked_at(caller, looked, deadline).await?;
        if record.state == RecordState::Released {
            audit("release_key", caller, looked, "was free");
            return Ok(false);
        }
        let (token, happened) = (record.token, record.state == RecordState::Completed);
        let owner = Owner { workspace: &looked.workspace, execution: &looked.execution };
        let outcome = if happened {
            // What it did stays what it did; only its keys no longer lead there.
            Some(record.outcome.clone())
        } else {
            let known = self.vault.open_outcome(owner, &record.outcome)?;
            let found = StoredOutcome::found_out(known.as_ref(), State::Failed, Effect::None, None, self.clock.now());
            Some(self.vault.seal_outcome(owner, &found)?)
        };
        let seen = self.open(&looked.workspace, None, record, false)?;
        self.overrule(looked, &seen, token, Settlement::Freed { outcome }, deadline).await?;
        audit("release_key", caller, looked, if happened { "freed, had happened" } else { "freed, had not happened" });
        Ok(true)
    }
}
