//! From requests on the wire to what is asked, all violations at once.

use std::time::Duration;

use safeconduct_proto::connector::v1 as proto;
use safeconduct_service::wire::{Fields, duration};
use safeconduct_types::{ConnectorName, ContactId, ExecutionId, Reason, Refusal, Version, WorkspaceId};

/// The longest label or key, in bytes.
const MAX_LABEL: usize = 128;
const KEY_FORM: &str = "must be 1 to 128 printable ASCII characters";

/// What `Execute` asks for.
pub(crate) struct Asked {
    pub(crate) assertion: String,
    pub(crate) connector: ConnectorName,
    pub(crate) version: Option<Version>,
    pub(crate) inputs: String,
    pub(crate) caller_inputs: String,
    pub(crate) key: Option<String>,
    pub(crate) request_id: String,
    pub(crate) conversation_id: String,
    pub(crate) says_client_context: bool,
    /// How long to wait for a running one; none: as long as the deadline allows.
    pub(crate) max_wait: Option<Duration>,
}

pub(crate) fn execute(request: proto::ExecuteRequest) -> Result<Asked, Refusal> {
    let mut wrong = Fields::new();
    let connector = wrong.parse("connector", &request.connector);
    let version = wrong.optional("version", &request.version);
    let key = key(&mut wrong, "idempotency_key", request.idempotency_key);
    let request_id = wrong.text("request_id", request.request_id, MAX_LABEL);
    let conversation_id = wrong.text("conversation_id", request.conversation_id, MAX_LABEL);
    wrong.text("locale", request.locale, MAX_LABEL);
    let max_wait = length(&mut wrong, "max_wait", request.max_wait);
    wrong.finish()?;
    let Some(connector) = connector else { return Err(Refusal::invalid_field("connector", "is required")) };
    // What is not served yet is refused rather than ignored: each of these changes what the caller means.
    for (field, text) in
        [("confirmation_id", &request.confirmation_id), ("repeat_of", &request.repeat_of), ("notify", &request.notify)]
    {
        if !text.is_empty() {
            let detail = format!("this version does not serve `{field}` yet; leave it out");
            return Err(Refusal::new(Reason::Unimplemented, detail).with_metadata("field", field));
        }
    }
    Ok(Asked {
        assertion: request.assertion,
        connector,
        version,
        inputs: request.inputs_json,
        caller_inputs: request.caller_inputs_json,
        key,
        request_id,
        conversation_id,
        says_client_context: request.client_context.is_some(),
        max_wait,
    })
}

/// Which execution is meant.
pub(crate) enum Which {
    Id(ExecutionId),
    Key(ConnectorName, String),
}

/// What `GetExecution` asks for.
pub(crate) struct Wanted {
    pub(crate) which: Which,
    pub(crate) assertion: String,
    pub(crate) workspace: Option<WorkspaceId>,
    pub(crate) contact: Option<ContactId>,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) after_revision: u64,
}

pub(crate) fn get(request: proto::GetExecutionRequest) -> Result<Wanted, Refusal> {
    let mut wrong = Fields::new();
    let workspace = wrong.optional("workspace_id", &request.workspace_id);
    let contact = wrong.optional("contact_id", &request.contact_id);
    let max_wait = length(&mut wrong, "max_wait", request.max_wait);
    wrong.text("locale", request.locale, MAX_LABEL);
    let which = match request.target.and_then(|target| target.target) {
        None => {
            wrong.wrong("target", "must name an execution_id or a key");
            None
        }
        Some(proto::execution_target::Target::ExecutionId(id)) => {
            wrong.parse("target.execution_id", &id).map(Which::Id)
        }
        Some(proto::execution_target::Target::Key(one)) => {
            let connector = wrong.parse("target.key.connector", &one.connector);
            let key = key(&mut wrong, "target.key.idempotency_key", one.idempotency_key);
            if key.is_none() {
                wrong.wrong("target.key.idempotency_key", KEY_FORM);
            }
            connector.zip(key).map(|(connector, key)| Which::Key(connector, key))
        }
    };
    wrong.finish()?;
    let Some(which) = which else { return Err(Refusal::invalid_field("target", "is required")) };
    Ok(Wanted {
        which,
        assertion: request.assertion,
        workspace,
        contact,
        max_wait,
        after_revision: request.after_revision,
    })
}

fn key(wrong: &mut Fields, field: &str, key: String) -> Option<String> {
    if key.is_empty() {
        return None;
    }
    if key.len() > MAX_LABEL || !key.bytes().all(|c| (0x20..0x7f).contains(&c)) {
        wrong.wrong(field, KEY_FORM);
    }
    Some(key)
}

fn length(wrong: &mut Fields, field: &str, length: Option<prost_types::Duration>) -> Option<Duration> {
    let length = duration(&length?);
    if length.is_none() {
        wrong.wrong(field, "must be a length of time that is not negative");
    }
    length
}
