//! From protobuf to domain values, all violations at once, and back.

mod limit;
mod mark;

use std::sync::Arc;
use std::time::Duration;

use prost::bytes::Bytes;
use safeconduct_admission_domain::limit::{Charge, Kind};
use safeconduct_admission_domain::{
    Actual, Admit, BoundsError, Digest, Entry as Listed, Execution, Extend, Fingerprint, Key, KeyKind, Keys, Lease,
    Lookup, MAX_SINGLE_USE, Matched, Retention, Sealed, Settle, Settlement, SingleUse, Standing, State, Target, Token,
};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_service::wire::{Fields, duration, timestamp, to_timestamp};
use safeconduct_types::{ContactId, ExecutionId, OperationId, Refusal, Timestamp, WorkspaceId};

use limit::parse_charges;
pub(crate) use limit::parse_limit;
pub(crate) use mark::Checks;
use mark::parse_checks;

/// The longest wait for a duplicate's outcome.
const MAX_WAIT: Duration = Duration::from_secs(15);
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
    pub(crate) marks: Checks,
}

/// A question for what is known of a request, and the rates to take if that is nothing.
#[derive(Debug)]
pub(crate) struct Question {
    /// None: only marks are checked and rates taken.
    pub(crate) lookup: Option<Lookup>,
    pub(crate) charges: Vec<Arc<Charge>>,
}

/// A request to go ahead.
#[derive(Debug)]
pub(crate) enum Entry {
    /// With a record, which must be settled.
    Recorded(Box<Admit>, Duration),
    /// Without one.
    Unrecorded(Takes),
}

/// What a request takes that leaves no record of an execution.
#[derive(Debug)]
pub(crate) struct Takes {
    pub(crate) charges: Vec<Arc<Charge>>,
    pub(crate) consume: Vec<SingleUse>,
}

/// A request for a page of the list.
#[derive(Debug)]
pub(crate) struct ListPage {
    pub(crate) workspace: WorkspaceId,
    pub(crate) route: String,
    pub(crate) states: Vec<proto::RecordState>,
    pub(crate) size: usize,
    pub(crate) after: Option<Listed>,
}

pub(crate) fn parse_lookup(from: proto::LookupRequest) -> Result<Parsed<Question>, Refusal> {
    let mut fields = Fields::new();
    let workspace = fields.parse::<WorkspaceId>("workspace_id", &from.workspace_id);
    let operation = fields.parse::<OperationId>("operation_id", &from.operation_id);
    let contact = fields.optional::<ContactId>("contact_id", &from.contact_id);
    let lookup = match from.target {
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
        None => None,
    }
    .map(|target| Lookup { target });
    let charges = parse_charges(&mut fields, from.charges, contact.is_some());
    if charges.iter().flatten().any(|charge| charge.limit().kind() != Kind::Rate) {
        fields.wrong("charges", "must be rates");
    }
    let marks = parse_checks(&mut fields, &from.marks, workspace.as_ref(), contact.as_ref());
    fields.finish()?;
    let (Some(workspace), Some(operation)) = (workspace, operation) else { return missed() };
    let (Some(charges), Some(marks)) = (charges, marks) else { return missed() };
    let route_of = contact.map(|contact| ExecutionId::route_of(&workspace, &contact));
    // The slot is that of the contact who is named: there, an execution of somebody else is not, and no rate of
    // somebody else is spent by asking for it.
    let route = route_of.unwrap_or_else(|| match &lookup {
        Some(Lookup { target: Target::Execution(id) }) => id.route().to_owned(),
        Some(Lookup { target: Target::Keys { .. } }) | None => String::new(),
    });
    Ok(Parsed { workspace, route, operation, asked: Question { lookup, charges }, owned: true, marks })
}

pub(crate) fn parse_admit(from: proto::AdmitRequest) -> Result<Parsed<Entry>, Refusal> {
    let mut fields = Fields::new();
    let workspace = fields.parse::<WorkspaceId>("workspace_id", &from.workspace_id);
    let contact = fields.optional::<ContactId>("contact_id", &from.contact_id);
    let operation = fields.parse::<OperationId>("operation_id", &from.operation_id);
    let charges = parse_charges(&mut fields, from.charges, contact.is_some());
    let consume = parse_consume(&mut fields, &from.consume);
    let marks = parse_checks(&mut fields, &from.marks, workspace.as_ref(), contact.as_ref());
    let wait = from.wait.as_ref().map_or(Some(Duration::ZERO), duration).filter(|wait| *wait <= MAX_WAIT);
    if wait.is_none() {
        fields.wrong("wait", "must be between 0 and 15 s");
    }
    let Some(idempotency) = from.idempotency else {
        if from.contact_id.is_empty() && !from.consume.is_empty() {
            fields.wrong("contact_id", "is required to use something up");
        }
        fields.finish()?;
        let (Some(workspace), Some(operation)) = (workspace, operation) else { return missed() };
        let (Some(charges), Some(consume), Some(marks)) = (charges, consume, marks) else { return missed() };
        let route = contact.map(|contact| ExecutionId::route_of(&workspace, &contact)).unwrap_or_default();
        let asked = Entry::Unrecorded(Takes { charges, consume });
        return Ok(Parsed { workspace, route, operation, asked, owned: true, marks });
    };
    if from.contact_id.is_empty() {
        fields.wrong("contact_id", "is required");
    }
    let execution = fields.parse::<ExecutionId>("execution_id", &from.execution_id);
    let resume = fields.optional::<ExecutionId>("resume_execution_id", &from.resume_execution_id);
    let intent = bounded(&mut fields, "intent", Sealed::parse(from.intent));
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
    let (Some(charges), Some(consume), Some(marks), Some(wait)) = (charges, consume, marks, wait) else {
        return missed();
    };
    let asked = Admit {
        execution,
        operation,
        keys,
        fingerprint,
        retain,
        lease,
        intent,
        resume,
        charges,
        consume,
        epoch: Box::default(),
        lost_until: Timestamp::default(),
        listed: true,
    };
    let asked = Entry::Recorded(Box::new(asked), wait);
    Ok(Parsed { workspace, route, operation, asked, owned: true, marks })
}

fn parse_consume(fields: &mut Fields, from: &[proto::SingleUse]) -> Option<Vec<SingleUse>> {
    if from.len() > MAX_SINGLE_USE {
        fields.wrong("consume", "must be at most 4");
        return None;
    }
    let mut all: Vec<SingleUse> = Vec::with_capacity(from.len());
    for (place, one) in from.iter().enumerate() {
        let digest = bounded(fields, &format!("consume[{place}].digest"), Digest::parse(&one.digest))?;
        let Some(expires) = one.expire_time.as_ref().and_then(timestamp) else {
            fields.wrong(&format!("consume[{place}].expire_time"), "is required");
            return None;
        };
        if all.iter().any(|other| other.digest == digest) {
            fields.wrong("consume", "must not name anything twice");
            return None;
        }
        all.push(SingleUse { digest, expires });
    }
    Some(all)
}

pub(crate) fn parse_extend(from: proto::ExtendRequest) -> Result<Parsed<Extend>, Refusal> {
    let mut fields = Fields::new();
    let held = parse_held(&mut fields, &from.workspace_id, &from.contact_id, &from.execution_id, &from.operation_id);
    let lease = from.lease.and_then(|length| length_of(&mut fields, "lease", &length, Lease::parse));
    let checkpoint = from.checkpoint.and_then(|bytes| bounded(&mut fields, "checkpoint", Sealed::parse(bytes)));
    let token = parse_token(&mut fields, from.fencing_token);
    let charges = parse_charges(&mut fields, from.charges, true);
    let (workspace, contact) = (from.workspace_id.parse().ok(), from.contact_id.parse().ok());
    let marks = parse_checks(&mut fields, &from.marks, workspace.as_ref(), contact.as_ref());
    fields.finish()?;
    let (Some(held), Some(token), Some(charges), Some(marks)) = (held, token, charges, marks) else { return missed() };
    Ok(held.with(marks, |execution, operation| Extend { execution, operation, token, lease, checkpoint, charges }))
}

pub(crate) fn parse_settle(from: proto::SettleRequest) -> Result<Parsed<Settle>, Refusal> {
    use proto::settle_request::Settlement as Wire;
    let mut fields = Fields::new();
    let held = parse_held(&mut fields, &from.workspace_id, &from.contact_id, &from.execution_id, &from.operation_id);
    let token = parse_token(&mut fields, from.fencing_token);
    let settlement = fields.required("settlement", from.settlement).and_then(|settlement| match settlement {
        Wire::Completed(it) => {
            let retain =
                it.retain.and_then(|length| length_of(&mut fields, "completed.retain", &length, Retention::parse));
            let outcome = bounded(&mut fields, "completed.outcome", Sealed::parse(it.outcome))?;
            let actual = it
                .actual
                .iter()
                .map(|one| Actual {
                    index: usize::try_from(one.charge_index).unwrap_or(usize::MAX),
                    amount: one.amount,
                })
                .collect();
            Some(Settlement::Completed { outcome, retain, actual })
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
                free_completed: it.free_completed,
            })
        }
        Wire::Unknown(it) => {
            Some(Settlement::Unknown { outcome: parse_outcome(&mut fields, "unknown.outcome", it.outcome) })
        }
    });
    fields.finish()?;
    let (Some(held), Some(token), Some(settlement)) = (held, token, settlement) else { return missed() };
    Ok(held.with(Checks::default(), |execution, operation| Settle { execution, operation, token, settlement }))
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
    let known = |state: &i32| fields.known::<proto::RecordState>("states", *state);
    let states: Vec<proto::RecordState> = from.states.iter().filter_map(known).collect();
    let after = parse_page_token(&from.page_token);
    if after.is_none() && !from.page_token.is_empty() {
        fields.wrong("page_token", "must be as `next_page_token` gave it");
    }
    fields.finish()?;
    let (Some(workspace), Some(contact)) = (workspace, contact) else { return missed() };
    let route = ExecutionId::route_of(&workspace, &contact);
    Ok(ListPage { workspace, route, states, size, after })
}

pub(crate) fn page_token(entry: &Listed) -> String {
    format!("{}.{}", entry.admitted.as_millis(), entry.execution)
}

fn parse_page_token(token: &str) -> Option<Listed> {
    let (millis, execution) = token.split_once('.')?;
    Some(Listed { admitted: Timestamp::from_millis(millis.parse().ok()?), execution: execution.parse().ok()? })
}

/// The record as it stands at `now`.
pub(crate) fn to_record(now: Timestamp, from: &Execution, matched: Matched, epoch: &str) -> proto::ExecutionRecord {
    let sealed = |sealed: Option<&Sealed>| sealed.map(Sealed::to_bytes).unwrap_or_default();
    let state = to_state(from.standing(now));
    let settled = !matches!(from.state(), State::Reserving { .. } | State::Running { .. });
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
        store_epoch: epoch.to_owned(),
    }
}

pub(crate) const fn to_state(standing: Standing) -> proto::RecordState {
    match standing {
        Standing::Reserving | Standing::Stuck => proto::RecordState::Reserving,
        Standing::Running => proto::RecordState::Running,
        Standing::Unknown => proto::RecordState::Unknown,
        Standing::Completed => proto::RecordState::Completed,
        Standing::Released => proto::RecordState::Released,
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
    fn with<T>(self, marks: Checks, asked: impl FnOnce(ExecutionId, OperationId) -> T) -> Parsed<T> {
        Parsed {
            route: self.execution.route().to_owned(),
            workspace: self.workspace,
            operation: self.operation,
            owned: self.owned,
            marks,
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
    if bytes.is_empty() { None } else { bounded(fields, field, Sealed::parse(bytes)) }
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

fn missed<T>() -> Result<T, Refusal> {
    // Each `None` has left a violation behind.
    Err(Refusal::internal("a field was not parsed and not refused"))
}
