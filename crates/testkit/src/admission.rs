//! Messages to admission, as the suite's services send them.

use std::time::Duration;

use safeconduct_proto::admission::v1::{
    AdmitRequest, CalendarUnit, CalendarWindow, Cap, Charge, Completed, Idempotency, IdempotencyKey,
    IdempotencyKeyKind, LimitScope, LimitSpec, LookupRequest, Rate, Released, SettleRequest, UnitMax, cap, limit_spec,
    settle_request,
};
use safeconduct_proto::common::v1::LimitKind;
use safeconduct_types::{ContactId, ExecutionId, OperationId, SystemRandom, WorkspaceId};

/// The workspace of the sample.
pub const WORKSPACE: &str = crate::site::WORKSPACE;

/// The contact with this number.
pub fn contact(number: u64) -> ContactId {
    ContactId::from_digest(&u128::from(number).to_be_bytes())
}

/// A new id of an operation.
pub fn operation() -> String {
    OperationId::generate(&SystemRandom).to_string()
}

/// A new id of an execution of this contact.
pub fn execution(contact: &ContactId) -> anyhow::Result<String> {
    let workspace: WorkspaceId = WORKSPACE.parse()?;
    Ok(ExecutionId::generate(&workspace, contact, &SystemRandom).to_string())
}

/// A whole duration of the protocol.
pub fn duration(length: Duration) -> Option<prost_types::Duration> {
    length.try_into().ok()
}

/// A limit of the family `refund-order`.
fn limit(name: &str, per_contact: bool, kind: LimitKind, shape: limit_spec::Shape) -> LimitSpec {
    LimitSpec {
        name: name.to_owned(),
        scope: LimitScope::Family as i32,
        family: "refund-order".to_owned(),
        per_contact,
        kind: kind as i32,
        shape: Some(shape),
        ..LimitSpec::default()
    }
}

/// One request of a rate.
pub fn rate(name: &str, per_contact: bool, permits: i64, period: Duration, burst: i64) -> Charge {
    let shape = limit_spec::Shape::Rate(Rate { permits, period: duration(period), burst });
    Charge { limit: Some(limit(name, per_contact, LimitKind::Rate, shape)), amount: 1, unit: String::new() }
}

/// This much of a sum in EUR per day in Dublin.
pub fn daily(name: &str, per_contact: bool, amount: i64, max: i64) -> Charge {
    let window =
        cap::Window::Calendar(CalendarWindow { unit: CalendarUnit::Day as i32, time_zone: "Europe/Dublin".to_owned() });
    sum(name, per_contact, amount, max, window)
}

/// This much of a sum in EUR within the last while.
pub fn rolling(name: &str, per_contact: bool, amount: i64, max: i64, window: Duration) -> Charge {
    sum(name, per_contact, amount, max, cap::Window::Rolling(duration(window).unwrap_or_default()))
}

fn sum(name: &str, per_contact: bool, amount: i64, max: i64, window: cap::Window) -> Charge {
    let maxima = vec![UnitMax { unit: "EUR".to_owned(), max }];
    let shape = limit_spec::Shape::Cap(Cap { maxima, window: Some(window) });
    Charge { limit: Some(limit(name, per_contact, LimitKind::Sum, shape)), amount, unit: "EUR".to_owned() }
}

/// A request to execute something under the `SAME` key with this number, leased for 30 s.
pub fn admit(contact: &ContactId, key: u64, charges: Vec<Charge>) -> anyhow::Result<AdmitRequest> {
    let mut digest = vec![0; 24];
    digest.extend(key.to_be_bytes());
    let same = IdempotencyKey { kind: IdempotencyKeyKind::Same as i32, digest: digest.clone().into() };
    Ok(AdmitRequest {
        workspace_id: WORKSPACE.to_owned(),
        contact_id: contact.to_string(),
        execution_id: execution(contact)?,
        operation_id: operation(),
        idempotency: Some(Idempotency {
            keys: vec![same],
            fingerprint: digest.into(),
            retain: duration(Duration::from_hours(72)),
            lease: duration(Duration::from_secs(30)),
        }),
        charges,
        intent: vec![7; 400].into(),
        ..AdmitRequest::default()
    })
}

/// Rates only.
pub fn lookup(contact: &ContactId, charges: Vec<Charge>) -> LookupRequest {
    LookupRequest {
        workspace_id: WORKSPACE.to_owned(),
        contact_id: contact.to_string(),
        operation_id: operation(),
        charges,
        ..LookupRequest::default()
    }
}

/// How what this request began ended.
pub fn settle(admitted: &AdmitRequest, fencing_token: u64, happened: bool) -> SettleRequest {
    let settlement = if happened {
        settle_request::Settlement::Completed(Completed { outcome: vec![9; 200].into(), ..Completed::default() })
    } else {
        settle_request::Settlement::Released(Released::default())
    };
    SettleRequest {
        workspace_id: admitted.workspace_id.clone(),
        contact_id: admitted.contact_id.clone(),
        execution_id: admitted.execution_id.clone(),
        operation_id: operation(),
        fencing_token,
        settlement: Some(settlement),
    }
}
