//! `SettleExecution`: an operator has found out what became of an execution.

use safeconduct_admission_client::{RecordState, Settlement};
use safeconduct_connector_domain::execution::{Effect, KeptKeys, State, StoredOutcome};
use safeconduct_connector_domain::schema::Schema;
use safeconduct_proto::connector::v1 as proto;
use safeconduct_service::caller::Caller;
use safeconduct_service::wire::Fields;
use safeconduct_types::{Deadline, Refusal};
use serde_json::Value;

use super::{Looked, audit, not_as_looked_at};
use crate::Service;
use crate::render::Seen;
use crate::vault::Owner;

/// The longest output, in bytes.
const MAX_OUTPUT: usize = 64 * 1024;

/// What was found out.
#[derive(Debug)]
pub(crate) struct FoundOut {
    looked: Looked,
    state: State,
    effect: Effect,
    /// JSON text of an object.
    output: Option<String>,
}

pub(crate) fn parse(request: proto::SettleExecutionRequest) -> Result<FoundOut, Refusal> {
    let (asked_state, asked_effect) = (request.state(), request.effect());
    let looked = Looked::parse(&request.workspace_id, &request.execution_id, request.revision, request.reason);
    let mut wrong = Fields::new();
    let state = match asked_state {
        proto::ExecutionState::Succeeded => Some(State::Succeeded),
        proto::ExecutionState::Failed => Some(State::Failed),
        proto::ExecutionState::Unspecified
        | proto::ExecutionState::Running
        | proto::ExecutionState::Pending
        | proto::ExecutionState::OutcomeUnknown
        | proto::ExecutionState::Cancelled
        | proto::ExecutionState::Expired => {
            wrong.wrong("state", "must be SUCCEEDED or FAILED: what has been found out");
            None
        }
    };
    let effect = match asked_effect {
        proto::Effect::None => Some(Effect::None),
        proto::Effect::Happened => Some(Effect::Happened),
        proto::Effect::Unspecified | proto::Effect::Possible => {
            wrong.wrong("effect", "must be NONE or HAPPENED: what has been found out");
            None
        }
        proto::Effect::Partial => {
            wrong.wrong("effect", "must be NONE or HAPPENED: this version has no connectors of several steps");
            None
        }
    };
    let output = Some(request.output_json).filter(|text| !text.is_empty());
    if let Some(text) = &output {
        let is_object = text.len() <= MAX_OUTPUT && matches!(serde_json::from_str(text), Ok(Value::Object(_)));
        if !is_object || state != Some(State::Succeeded) {
            wrong.wrong("output_json", "must be a JSON object of at most 64 KiB, and only with SUCCEEDED");
        }
    }
    wrong.finish()?;
    let (Some(state), Some(effect)) = (state, effect) else {
        return Err(Refusal::invalid_field("state", "is required, and effect"));
    };
    Ok(FoundOut { looked: looked?, state, effect, output })
}

impl Service {
    /// Makes an unknown execution final.
    pub(crate) async fn settle_execution(
        &self,
        caller: &Caller,
        found: FoundOut,
        deadline: Deadline,
    ) -> Result<Seen, Refusal> {
        let span = tracing::info_span!("settle_execution", safeconduct.execution = %found.looked.execution);
        tracing::Instrument::instrument(self.settle_found_out(caller, found, deadline), span).await
    }

    async fn settle_found_out(&self, caller: &Caller, found: FoundOut, deadline: Deadline) -> Result<Seen, Refusal> {
        let FoundOut { looked, state, effect, output } = found;
        let record = self.looked_at(caller, &looked, deadline).await?;
        if record.state != RecordState::Unknown {
            return Err(not_as_looked_at("what became of it is known already"));
        }
        let token = record.token;
        let seen = self.open(&looked.workspace, None, record, false)?;
        if state == State::Succeeded && seen.intent.write && effect == Effect::None {
            return Err(Refusal::invalid_field("effect", "must be HAPPENED where a write has succeeded"));
        }
        if let Some(output) = &output {
            self.fits(&looked, &seen, output)?;
        }
        let outcome = StoredOutcome::found_out(seen.outcome.as_ref(), state, effect, output, self.clock.now());
        let owner = Owner { workspace: &looked.workspace, execution: &looked.execution };
        let sealed = self.vault.seal_outcome(owner, &outcome)?;
        let settlement = match outcome.kept_keys() {
            KeptKeys::All => Settlement::Completed { outcome: sealed, retain: None, actual: Vec::new() },
            kept @ (KeptKeys::CallersOnly | KeptKeys::None) => Settlement::Released {
                bytes_sent: true,
                outcome: Some(sealed),
                keep_for_caller_key: kept == KeptKeys::CallersOnly,
                doubt_resolved: true,
            },
        };
        let record = self.overrule(&looked, &seen, token, settlement, deadline).await?;
        audit(
            "settle_execution",
            caller,
            &looked,
            if effect == Effect::None { "nothing happened" } else { "it happened" },
        );
        let resent = seen.resent;
        Ok(Seen { resent, ..Seen::of(record, seen.intent, Some(outcome), false) })
    }

    /// Whether the output is one that the connector could have given: whoever is replayed it reads it as such.
    fn fits(&self, looked: &Looked, seen: &Seen, output: &str) -> Result<(), Refusal> {
        let intent = &seen.intent;
        let tenant = self.workspaces.get(&looked.workspace)?;
        let connector = tenant.connector(&intent.connector, Some(&intent.version)).map_err(|_| {
            Refusal::invalid_field(
                "output_json",
                "can't be checked, for the definition that it belongs to is gone; settle without it",
            )
        })?;
        let schema = Schema::compile(&connector.response.output.output_schema())
            .map_err(|_| Refusal::internal("an output schema does not compile"))?;
        let output =
            serde_json::from_str(output).map_err(|_| Refusal::invalid_field("output_json", "must be a JSON object"))?;
        let wrong = schema.check("output_json", &output);
        if wrong.is_empty() { Ok(()) } else { Err(Refusal::invalid(wrong)) }
    }
}
