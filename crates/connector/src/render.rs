//! From records to what the caller sees.

use safeconduct_admission_client::{Matched, Record, RecordState, Remaining};
use safeconduct_connector_domain::execution::{Effect, Failure, FailureClass, State, StoredIntent, StoredOutcome};
use safeconduct_connector_domain::projection::{Finding, OutputError, Untrusted};
use safeconduct_proto::common::v1 as common;
use safeconduct_proto::connector::v1 as proto;
use safeconduct_service::wire::{to_duration, to_timestamp};
use safeconduct_types::{ExecutionId, Timestamp};

use crate::limits;

/// What is known of an execution when it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) execution: ExecutionId,
    pub(crate) intent: StoredIntent,
    /// What came of it; none while it runs, or if its executor was lost.
    pub(crate) outcome: Option<StoredOutcome>,
    /// Whether an executor still has it.
    pub(crate) running: bool,
    /// Whether it was given back: nothing happened.
    pub(crate) released: bool,
    pub(crate) revision: u64,
    pub(crate) created: Timestamp,
    pub(crate) settled: Option<Timestamp>,
    pub(crate) expires: Option<Timestamp>,
    /// Set when another request began it.
    pub(crate) replay: Option<Matched>,
    /// Whether a second executor brought it to its end.
    pub(crate) resent: bool,
    /// What is left of the limits that this request was charged to.
    pub(crate) limits: Vec<Remaining>,
}

impl Seen {
    pub(crate) fn of(record: Record, intent: StoredIntent, outcome: Option<StoredOutcome>, replay: bool) -> Self {
        Self {
            running: record.state == RecordState::Running,
            released: record.state == RecordState::Released,
            replay: replay.then_some(record.matched),
            revision: record.revision,
            created: record.admitted,
            settled: record.settled,
            expires: record.expires,
            resent: record.token > 1,
            execution: record.execution,
            intent,
            outcome,
            limits: Vec::new(),
        }
    }

    pub(crate) fn state(&self) -> proto::ExecutionState {
        match &self.outcome {
            _ if self.running => proto::ExecutionState::Running,
            None if self.released => proto::ExecutionState::Failed,
            None => proto::ExecutionState::OutcomeUnknown,
            Some(outcome) => match outcome.state {
                State::Succeeded => proto::ExecutionState::Succeeded,
                State::Failed => proto::ExecutionState::Failed,
                State::OutcomeUnknown => proto::ExecutionState::OutcomeUnknown,
            },
        }
    }

    fn effect(&self) -> proto::Effect {
        match self.outcome.as_ref().filter(|_| !self.running).map(|outcome| outcome.effect) {
            Some(Effect::Possible) => proto::Effect::Possible,
            Some(Effect::Happened) => proto::Effect::Happened,
            // Nobody has said: a write may have left, a read changes nothing.
            None if self.intent.write && !self.released => proto::Effect::Possible,
            Some(Effect::None) | None => proto::Effect::None,
        }
    }
}

pub(crate) fn execution(seen: &Seen) -> proto::Execution {
    let state = seen.state();
    let outcome = seen.outcome.as_ref().filter(|_| !seen.running);
    let replay = seen.replay.map(|matched| proto::Replay {
        of_execution_id: seen.execution.to_string(),
        because: match matched {
            Matched::CallerKey | Matched::Id => proto::ReplayBecause::Key.into(),
            Matched::SameInputs => proto::ReplayBecause::SameInputs.into(),
        },
    });
    let settled_by = match outcome {
        None => proto::SettledBy::Unspecified,
        Some(outcome) if outcome.by_operator => proto::SettledBy::Operator,
        Some(_) if seen.resent => proto::SettledBy::Resend,
        Some(_) => proto::SettledBy::Response,
    };
    proto::Execution {
        execution_id: seen.execution.to_string(),
        connector: seen.intent.connector.to_string(),
        version: seen.intent.version.to_string(),
        state: state.into(),
        r#final: matches!(state, proto::ExecutionState::Succeeded | proto::ExecutionState::Failed),
        revision: seen.revision,
        settled_by: settled_by.into(),
        effect: seen.effect().into(),
        output_json: outcome.and_then(|one| one.output_json.clone()).unwrap_or_default(),
        output_error: outcome.and_then(|one| one.output_error.as_ref()).map(output_error),
        untrusted: outcome.map(|one| one.untrusted.iter().map(untrusted).collect()).unwrap_or_default(),
        replay,
        limits: seen.limits.iter().map(limits::shown).collect(),
        attempts: outcome.map(|one| u32::from(one.attempts)).unwrap_or_default(),
        create_time: Some(to_timestamp(seen.created)),
        update_time: Some(to_timestamp(seen.settled.unwrap_or(seen.created))),
        settle_time: seen.settled.map(to_timestamp),
        expire_time: seen.expires.map(to_timestamp),
        trace_id: seen.intent.trace_id.clone().unwrap_or_default(),
        guidance: Some(guidance(seen, state)),
        failure: outcome.and_then(|one| one.failure.as_ref()).map(failure),
        request_id: seen.intent.request_id.clone().unwrap_or_default(),
        conversation_id: seen.intent.conversation_id.clone().unwrap_or_default(),
        ..proto::Execution::default()
    }
}

fn output_error(error: &OutputError) -> proto::OutputError {
    proto::OutputError { path: error.path.clone(), problem: error.problem.clone() }
}

fn untrusted(text: &Untrusted) -> proto::UntrustedText {
    let findings = text.findings.iter().map(|finding| {
        let finding = match finding {
            Finding::Control => proto::UntrustedFinding::Control,
            Finding::Bidi => proto::UntrustedFinding::Bidi,
            Finding::ZeroWidth => proto::UntrustedFinding::ZeroWidth,
            Finding::Ansi => proto::UntrustedFinding::Ansi,
            Finding::Link => proto::UntrustedFinding::Link,
            Finding::Instruction => proto::UntrustedFinding::Instruction,
        };
        finding.into()
    });
    proto::UntrustedText { pointer: text.pointer.clone(), findings: findings.collect() }
}

fn failure(failure: &Failure) -> proto::Failure {
    let class = match failure.class {
        FailureClass::Retryable => proto::FailureClass::Retryable,
        FailureClass::Gone => proto::FailureClass::Gone,
        FailureClass::Unauthorized => proto::FailureClass::Unauthorized,
        FailureClass::Rejected => proto::FailureClass::Rejected,
        FailureClass::InvalidResponse => proto::FailureClass::InvalidResponse,
        FailureClass::Timeout => proto::FailureClass::Timeout,
    };
    proto::Failure {
        class: class.into(),
        http_status: failure.http_status.map(u32::from).unwrap_or_default(),
        retry_after: failure.retry_after_ms.map(|ms| to_duration(std::time::Duration::from_millis(ms))),
        problem_json: failure.problem.as_ref().map(ToString::to_string).unwrap_or_default(),
        step: String::new(),
    }
}

/// What the agent does next, and what it may tell the person.
fn guidance(seen: &Seen, state: proto::ExecutionState) -> common::Guidance {
    use common::NextAction as Next;
    use proto::ExecutionState as Is;
    let class = seen.outcome.as_ref().and_then(|one| one.failure.as_ref()).map(|one| one.class);
    let (next, agent, contact) = match (state, class) {
        (Is::Succeeded, _) if seen.replay.is_some() => (
            Next::None,
            "This was done before; here is the first result. Nothing was done again.",
            "This has already been done.",
        ),
        (Is::Succeeded, _) => (Next::None, "It is done.", "It is done."),
        (Is::Running, _) => (
            Next::Wait,
            "It is still running. Ask again with GetExecution, or repeat the request with the same key.",
            "This is still in progress.",
        ),
        (Is::OutcomeUnknown, _) => (
            Next::HandOver,
            "It is not known whether the upstream acted. Do not try another way; repeat the same request later, or hand over to a person.",
            "I could not confirm whether this went through. Somebody will look into it.",
        ),
        (_, Some(FailureClass::Retryable | FailureClass::Timeout)) => (
            Next::Wait,
            "The upstream could not do it now, and nothing was changed. The same request may be repeated later.",
            "The system cannot be reached right now. Nothing was changed.",
        ),
        (_, Some(FailureClass::Gone)) => (
            Next::Stop,
            "The upstream says that this is gone for good. Do not repeat it.",
            "This is no longer available.",
        ),
        (_, Some(FailureClass::Rejected)) => (
            Next::FixInput,
            "The upstream refused; `failure.problem_json` has what it said. Repeating the same request gets the same answer.",
            "The system did not accept this. Nothing was changed.",
        ),
        (_, Some(FailureClass::Unauthorized | FailureClass::InvalidResponse) | None) => (
            Next::HandOver,
            "The upstream cannot be used as configured; an operator has to look at it. Nothing was changed.",
            "The system cannot be used right now. Nothing was changed.",
        ),
    };
    common::Guidance {
        next_action: next.into(),
        agent_text: agent.to_owned(),
        contact_text: contact.to_owned(),
        locale: "en".to_owned(),
        ..common::Guidance::default()
    }
}
