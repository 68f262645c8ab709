//! From protobuf to domain values, all violations at once, and back.

use std::time::Duration;

use prost::bytes::Bytes;
use safeconduct_admission_domain::{
    Admit, BoundsError, Digest, Entry, Execution, Extend, Fingerprint, Key, KeyKind, Keys, Lease, Lookup, Matched,
    Retention, Sealed, Settle, Settlement, Standing, State, Target, Token,
};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_service::wire::{Fields, duration, to_timestamp};
use safeconduct_types::{ContactId, ExecutionId, OperationId, Reason, Refusal, Timestamp, WorkspaceId};

const MAX_PAGE: usize = 100;
const DEFAULT_PAGE: usize = 20;

/// A request of one contact's slot.
#[derive(Debug)]
pub(crate) struct Parsed<T> {
    pub(crate) workspace: WorkspaceId,
    pub(crate) route: String,
    pub(crate) operation: OperationId,
    pub(crate) asked: T,
    /// Whether the execution that is asked for belongs to the contact that is named.
    pub(crate) owned: bool,
}

/// A request for a page of the list.
#[derive(Debug)]
pub(crate) struct ListPage {
    pub(crate) workspace: WorkspaceId,
    pub(crate) route: String,
    pub(crate) standings: Vec<Standing>,
    pub(crate) size: usize,
    pub(crate) after: Option<Entry>,
}

pub(crate) fn not_yet(what: &str) -> Refusal {
    Refusal::new(Reason::Unimplemented, format!("{what}: not served by this version; nothing was admitted or counted"))
}

pub(crate) fn parse_lookup(from: proto::LookupRequest) -> Result<Parsed<Lookup>, Refusal> {
    refuse_extras(&[("charges", from.charges.is_empty()), ("marks", from.marks.is_empty())])?;
    let mut fields = Fields::new();
    let workspace = fields.parse::<WorkspaceId>("workspace_id", &from.workspace_id);
    let operation = fields.parse::<OperationId>("operation_id", &from.operation_id);
    let contact = fields.optional::<ContactId>("contact_id", &from.contact_id);
    let target = match from.target {
        Some(proto::lookup_request::Target::Idempotency(asked)) => {
            if from.contact_id.is_empty() {
                fields.wrong("contact_id", "is required to look for keys");
            }
            let keys = parse_keys(&mut fields, &asked);
            let fingerprint = parse_fingerprint(&mut fields, &asked.fingerprint);
            keys.map(|keys| Target::Keys { keys, fingerprint })
        }
        Some(proto::lookup_request::Target::ExecutionId(id)) => {
            fields.parse("execution_id", &id).map(Target::Execution)
        }
        None => {
            fields.wrong("target", "is required, as rates and marks are not served yet");
            None
        }
    };
    fields.finish()?;
    let (Some(workspace), Some(operation), Some(target)) = (workspace, operation, target) else { return missed() };
    let route_of = contact.map(|contact| ExecutionId::route_of(&workspace, &contact));
    let (route, owned) = match &target {
        Target::Execution(id) => (id.route().to_owned(), route_of.is_none_or(|route| route == id.route())),
        Target::Keys { .. } => (route_of.unwrap_or_default(), true),
    };
    Ok(Parsed { workspace, route, operation, asked: Lookup { target }, owned })
}

pub(crate) fn parse_admit(from: proto::AdmitRequest) -> Result<Parsed<Admit>, Refusal> {
    refuse_extras(&[
        ("charges", from.charges.is_empty()),
        ("marks", from.marks.is_empty()),
        ("consume", from.consume.is_empty()),
        ("wait", from.wait.is_none_or(|wait| duration(&wait) == Some(Duration::ZERO))),
    ])?;
    let mut fields = Fields::new();
    let workspace = fields.parse::<WorkspaceId>("workspace_id", &from.workspace_id);
    let contact = fields.parse::<ContactId>("contact_id", &from.contact_id);
    let operation = fields.parse::<OperationId>("operation_id", &from.operation_id);
    let execution = fields.parse::<ExecutionId>("execution_id", &from.execution_id);
    let resume = fields.optional::<ExecutionId>("resume_execution_id", &from.resume_execution_id);
    let intent = bounded(&mut fields, "intent", Sealed::parse(from.intent.into()));
    let idempotency = fields.required("idempotency", from.idempotency).unwrap_or_default();
    let keys = parse_keys(&mut fields, &idempotency);
    let fingerprint = parse_fingerprint(&mut fields, &idempotency.fingerprint);
    let retain = match &idempotency.retain {
        Some(length) => length_of(&mut fields, "idempotency.retain", length, Retention::parse),
        None => Some(Retention::default()),
    };
    let lease = fields
        .required("idempotency.lease", idempotency.lease)
        .and_then(|length| length_of(&mut fields, "idempotency.lease", &length, Lease::parse));
    if keys.as_ref().is_some_and(Keys::has_caller) && idempotency.fingerprint.is_empty() {
        fields.wrong("idempotency.fingerprint", "is required with a key of kind CALLER");
    }
    let route = match (&workspace, &contact) {
        (Some(workspace), Some(contact)) => Some(ExecutionId::route_of(workspace, contact)),
        _ => None,
    };
    if let Some(route) = &route {
        for (field, id) in [("execution_id", &execution), ("resume_execution_id", &resume)] {
            if id.as_ref().is_some_and(|id| id.route() != route) {
                fields.wrong(field, "belongs to another contact");
            }
        }
    }
    fields.finish()?;
    let (Some(workspace), Some(route), Some(operation), Some(execution)) = (workspace, route, operation, execution)
    else {
        return missed();
    };
    let (Some(keys), Some(retain), Some(lease), Some(intent)) = (keys, retain, lease, intent) else { return missed() };
    let asked = Admit { execution, operation, keys, fingerprint, retain, lease, intent, resume };
    Ok(Parsed { workspace, route, operation, asked, owned: true })
}

pub(crate) fn parse_extend(from: proto::ExtendRequest) -> Result<Parsed<Extend>, Refusal> {
    refuse_extras(&[("charges", from.charges.is_empty()), ("marks", from.marks.is_empty())])?;
    let mut fields = Fields::new();
    let held = parse_held(&mut fields, &from.workspace_id, &from.contact_id, &from.execution_id, &from.operation_id);
    let lease = from.lease.and_then(|length| length_of(&mut fields, "lease", &length, Lease::parse));
    let checkpoint = from.checkpoint.and_then(|bytes| bounded(&mut fields, "checkpoint", Sealed::parse(bytes.into())));
    let token = parse_token(&mut fields, from.fencing_token);
    fields.finish()?;
    let (Some(held), Some(token)) = (held, token) else { return missed() };
    Ok(held.with(|execution, operation| Extend { execution, operation, token, lease, checkpoint }))
}

pub(crate) fn parse_settle(from: proto::SettleRequest) -> Result<Parsed<Settle>, Refusal> {
    use proto::settle_request::Settlement as Wire;
    match &from.settlement {
        Some(Wire::Completed(it)) => refuse_extras(&[("completed.actual", it.actual.is_empty())])?,
        Some(Wire::Released(it)) => refuse_extras(&[("released.free_completed", !it.free_completed)])?,
        Some(Wire::Unknown(_)) | None => {}
    }
    let mut fields = Fields::new();
    let held = parse_held(&mut fields, &from.workspace_id, &from.contact_id, &from.execution_id, &from.operation_id);
    let token = parse_token(&mut fields, from.fencing_token);
    let settlement = fields.required("settlement", from.settlement).and_then(|settlement| match settlement {
        Wire::Completed(it) => {
            let retain =
                it.retain.and_then(|length| length_of(&mut fields, "completed.retain", &length, Retention::parse));
            let outcome = bounded(&mut fields, "completed.outcome", Sealed::parse(it.outcome.into()))?;
            Some(Settlement::Completed { outcome, retain })
        }
        Wire::Released(it) => {
            if it.keep_for_caller_key && it.outcome.is_empty() {
                fields.wrong("released.outcome", "is required to be kept for the caller's key");
            }
            Some(Settlement::Released {
                bytes_sent: it.bytes_sent,
                outcome: parse_outcome(&mut fields, "released.outcome", it.outcome),
                keep_for_caller_key: it.keep_for_caller_key,
                doubt_resolved: it.doubt_resolved,
            })
        }
        Wire::Unknown(it) => {
            Some(Settlement::Unknown { outcome: parse_outcome(&mut fields, "unknown.outcome", it.outcome) })
        }
    });
    fields.finish()?;
    let (Some(held), Some(token), Some(settlement)) = (held, token, settlement) else { return missed() };
    Ok(held.with(|execution, operation| Settle { execution, operation, token, settlement }))
}

pub(crate) fn parse_list(from: &proto::ListRecordsRequest) -> Result<ListPage, Refusal> {
    let mut fields = Fields::new();
    let workspace = fields.parse::<WorkspaceId>("workspace_id", &from.workspace_id);
    let contact = fields.parse::<ContactId>("contact_id", &from.contact_id);
    let size = match usize::try_from(from.page_size) {
        Ok(0) => DEFAULT_PAGE,
        Ok(size) if size <= MAX_PAGE => size,
        _ => {
            fields.wrong("page_size", "must be between 0 and 100");
            DEFAULT_PAGE
        }
    };
    let mut standings = Vec::new();
    for state in &from.states {
        match fields.known::<proto::RecordState>("states", *state) {
            Some(proto::RecordState::Running) => standings.push(Standing::Running),
            Some(proto::RecordState::Completed) => standings.push(Standing::Completed),
            Some(proto::RecordState::Released) => standings.push(Standing::Released),
            Some(proto::RecordState::Unknown) => standings.push(Standing::Unknown),
            Some(proto::RecordState::Reserving) => fields.wrong("states", "RESERVING is not served yet"),
            Some(proto::RecordState::Unspecified) | None => {}
        }
    }
    let after = parse_page_token(&from.page_token);
    if after.is_none() && !from.page_token.is_empty() {
        fields.wrong("page_token", "must be as `next_page_token` gave it");
    }
    fields.finish()?;
    let (Some(workspace), Some(contact)) = (workspace, contact) else { return missed() };
    let route = ExecutionId::route_of(&workspace, &contact);
    Ok(ListPage { workspace, route, standings, size, after })
}

pub(crate) fn page_token(entry: &Entry) -> String {
    format!("{}.{}", entry.admitted.as_millis(), entry.execution)
}

fn parse_page_token(token: &str) -> Option<Entry> {
    let (millis, execution) = token.split_once('.')?;
    Some(Entry { admitted: Timestamp::from_millis(millis.parse().ok()?), execution: execution.parse().ok()? })
}

/// The record as it stands at `now`.
pub(crate) fn to_record(now: Timestamp, from: &Execution, matched: Matched) -> proto::ExecutionRecord {
    let sealed = |sealed: Option<&Sealed>| sealed.map(|it| Bytes::copy_from_slice(it.as_bytes())).unwrap_or_default();
    let state = match from.standing(now) {
        Standing::Running => proto::RecordState::Running,
        Standing::Unknown => proto::RecordState::Unknown,
        Standing::Completed => proto::RecordState::Completed,
        Standing::Released => proto::RecordState::Released,
    };
    let settled = !matches!(from.state(), State::Running { .. });
    proto::ExecutionRecord {
        execution_id: from.id().to_string(),
        state: state.into(),
        fencing_token: from.token().number(),
        generation: from.generation(),
        intent: sealed(Some(from.intent())),
        checkpoint: sealed(from.checkpoint()),
        outcome: sealed(from.outcome()),
        lease_expire_time: from.lease_ends().map(to_timestamp),
        create_time: Some(to_timestamp(from.admitted())),
        settle_time: settled.then(|| to_timestamp(from.changed())),
        expire_time: from.expires().map(to_timestamp),
        revision: from.revision().into(),
        matched_key: matched_key(matched),
        // The stores do not name their history yet.
        store_epoch: String::new(),
    }
}

fn matched_key(matched: Matched) -> u32 {
    match matched {
        Matched::Key(place) => u32::try_from(place).unwrap_or_default(),
        Matched::Id => 0,
    }
}

/// The caller's key was used for another request. Of that one, not even its id is told.
pub(crate) fn to_key_reused(place: usize) -> proto::KeyReused {
    proto::KeyReused { execution_id: String::new(), matched_key: matched_key(Matched::Key(place)) }
}

struct Held {
    workspace: WorkspaceId,
    execution: ExecutionId,
    operation: OperationId,
    owned: bool,
}

impl Held {
    fn with<T>(self, asked: impl FnOnce(ExecutionId, OperationId) -> T) -> Parsed<T> {
        Parsed {
            route: self.execution.route().to_owned(),
            workspace: self.workspace,
            operation: self.operation,
            owned: self.owned,
            asked: asked(self.execution, self.operation),
        }
    }
}

fn parse_held(fields: &mut Fields, workspace: &str, contact: &str, execution: &str, operation: &str) -> Option<Held> {
    let workspace = fields.parse::<WorkspaceId>("workspace_id", workspace);
    let contact = fields.parse::<ContactId>("contact_id", contact);
    let execution = fields.parse::<ExecutionId>("execution_id", execution);
    let operation = fields.parse::<OperationId>("operation_id", operation);
    let (workspace, contact, execution) = (workspace?, contact?, execution?);
    let owned = ExecutionId::route_of(&workspace, &contact) == execution.route();
    Some(Held { workspace, execution, operation: operation?, owned })
}

fn parse_keys(fields: &mut Fields, from: &proto::Idempotency) -> Option<Keys> {
    let mut keys = Vec::new();
    for key in &from.keys {
        let kind = match fields.known::<proto::IdempotencyKeyKind>("idempotency.keys.kind", key.kind) {
            Some(proto::IdempotencyKeyKind::Caller) => Some(KeyKind::Caller),
            Some(proto::IdempotencyKeyKind::Same) => Some(KeyKind::Same),
            Some(proto::IdempotencyKeyKind::Unspecified) | None => None,
        };
        let digest = bounded(fields, "idempotency.keys.digest", Digest::parse(&key.digest));
        keys.extend(kind.zip(digest).map(|(kind, digest)| Key { kind, digest }));
    }
    if keys.len() == from.keys.len() { bounded(fields, "idempotency.keys", Keys::parse(keys)) } else { None }
}

fn parse_fingerprint(fields: &mut Fields, bytes: &[u8]) -> Option<Fingerprint> {
    if bytes.is_empty() {
        return None;
    }
    bounded(fields, "idempotency.fingerprint", Digest::parse(bytes)).map(Fingerprint::new)
}

fn parse_token(fields: &mut Fields, number: u64) -> Option<Token> {
    if number == 0 {
        fields.wrong("fencing_token", "is required");
        return None;
    }
    Some(Token::new(number))
}

fn parse_outcome(fields: &mut Fields, field: &str, bytes: Bytes) -> Option<Sealed> {
    if bytes.is_empty() { None } else { bounded(fields, field, Sealed::parse(bytes.into())) }
}

fn length_of<T>(
    fields: &mut Fields,
    field: &str,
    length: &prost_types::Duration,
    parse: impl FnOnce(Duration) -> Result<T, BoundsError>,
) -> Option<T> {
    if let Some(length) = duration(length) {
        bounded(fields, field, parse(length))
    } else {
        fields.wrong(field, "must be a length of time, not negative");
        None
    }
}

fn bounded<T>(fields: &mut Fields, field: &str, parsed: Result<T, BoundsError>) -> Option<T> {
    parsed.map_err(|error| fields.wrong(field, error.to_string())).ok()
}

/// Refuses what would have to be taken or checked, and can't be yet.
fn refuse_extras(extras: &[(&str, bool)]) -> Result<(), Refusal> {
    match extras.iter().find(|(_, absent)| !absent) {
        Some((field, _)) => Err(not_yet(field)),
        None => Ok(()),
    }
}

fn missed<T>() -> Result<T, Refusal> {
    // Each `None` has left a violation behind.
    Err(Refusal::internal("a field was not parsed and not refused"))
}
