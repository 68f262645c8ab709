//! Refusals on the wire: one table from reasons to statuses, and back.
//!
//! A status that carries our `ErrorInfo` says that the call had no effect. One without it says nothing; so
//! [`refusal_in`] is `None` for it, and [`from_sister`] may only be used where nothing has been sent yet.
//!
//! Facts in a refusal's metadata also fill the typed guidance: `limit`, `left`, `unit`, `resets` (a limit; RFC 3339), `connector` and
//! `input` (choices), `attribute`, `purpose`, `methods` (verification; methods separated by commas, as `EMAIL_CODE`),
//! `credential` (authorization), `confirmation_id` (confirmation), `decision_id`.

mod guidance;

use std::collections::HashMap;

use prost::Message as _;
use prost::bytes::Bytes;
use prost_types::Any;
use safeconduct_proto::common::v1 as proto;
use safeconduct_types::{Reason, Refusal, StatusCode, Violation};
use tonic::{Code, Status};
use tonic_types::pb::{BadRequest, ErrorInfo, QuotaFailure, RetryInfo, bad_request, quota_failure};

use crate::wire;

/// `ErrorInfo.domain` of every refusal of this suite.
pub const DOMAIN: &str = "safeconduct.dev";

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const QUOTA_FAILURE: &str = "type.googleapis.com/google.rpc.QuotaFailure";
const GUIDANCE: &str = "type.googleapis.com/safeconduct.common.v1.Guidance";

/// Details are a header, and clients bound headers (gRPC core: 8 KiB for all): in bytes, before base64.
const LONGEST_DETAILS: usize = 4096;
/// The longest text in a status, in characters.
const LONGEST_TEXT: usize = 500;
/// The longest text in a part of the details, in characters.
const LONGEST_PART: usize = 200;
/// The most violations that are told at once.
const MOST_VIOLATIONS: usize = 100;

/// The status that tells a refusal: code, what to do next, and the details.
pub fn to_status(refusal: &Refusal) -> Status {
    let code = code(refusal.reason().code());
    let message = message(refusal);
    let mut most = MOST_VIOLATIONS.min(refusal.violations().len());
    let details = loop {
        let details = details(refusal, code, &message, most);
        if details.len() <= LONGEST_DETAILS || most == 0 {
            break details;
        }
        most /= 2;
    };
    Status::with_details(code, message, Bytes::from(details))
}

/// The gRPC code of a reason's code.
const fn code(code: StatusCode) -> Code {
    match code {
        StatusCode::InvalidArgument => Code::InvalidArgument,
        StatusCode::NotFound => Code::NotFound,
        StatusCode::PermissionDenied => Code::PermissionDenied,
        StatusCode::Unauthenticated => Code::Unauthenticated,
        StatusCode::FailedPrecondition => Code::FailedPrecondition,
        StatusCode::ResourceExhausted => Code::ResourceExhausted,
        StatusCode::Aborted => Code::Aborted,
        StatusCode::DeadlineExceeded => Code::DeadlineExceeded,
        StatusCode::Unavailable => Code::Unavailable,
        StatusCode::Unimplemented => Code::Unimplemented,
        StatusCode::Internal => Code::Internal,
    }
}

fn message(refusal: &Refusal) -> String {
    if refusal.reason() == Reason::Internal {
        // What broke is for operators; this is the last place that knows it.
        tracing::error!(detail = refusal.detail(), "internal fault");
        return refusal.reason().summary().to_owned();
    }
    cut(&refusal.to_string(), LONGEST_TEXT)
}

fn details(refusal: &Refusal, code: Code, message: &str, most: usize) -> Vec<u8> {
    let violations = refusal.violations().get(..most).unwrap_or_default();
    let mut details =
        vec![any(ERROR_INFO, &error_info(refusal)), any(GUIDANCE, &guidance::render(refusal, message, violations))];
    if !violations.is_empty() {
        details.push(any(BAD_REQUEST, &bad_request(violations)));
    }
    if let Some(after) = refusal.retry_after() {
        details.push(any(RETRY_INFO, &RetryInfo { retry_delay: Some(wire::to_duration(after)) }));
    }
    if matches!(refusal.reason(), Reason::CapReached | Reason::RateLimited) {
        let subject = fact(refusal, "limit").map_or_else(|| "request".to_owned(), |limit| cut(limit, LONGEST_PART));
        let violation = quota_failure::Violation {
            subject,
            description: message.to_owned(),
            ..quota_failure::Violation::default()
        };
        details.push(any(QUOTA_FAILURE, &QuotaFailure { violations: vec![violation] }));
    }
    tonic_types::Status { code: code.into(), message: message.to_owned(), details }.encode_to_vec()
}

fn error_info(refusal: &Refusal) -> ErrorInfo {
    let metadata =
        refusal.metadata().iter().map(|(key, value)| (key.clone().into_owned(), cut(value, LONGEST_PART))).collect();
    ErrorInfo { reason: refusal.reason().as_str().to_owned(), domain: DOMAIN.to_owned(), metadata }
}

fn bad_request(violations: &[Violation]) -> BadRequest {
    let field_violations = violations
        .iter()
        .map(|violation| bad_request::FieldViolation {
            field: cut(&violation.field, LONGEST_PART),
            description: cut(&violation.description, LONGEST_PART),
            ..bad_request::FieldViolation::default()
        })
        .collect();
    BadRequest { field_violations }
}

fn any(type_url: &str, message: &impl prost::Message) -> Any {
    Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

fn fact<'a>(refusal: &'a Refusal, key: &str) -> Option<&'a str> {
    refusal.metadata().iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The reason with this name in `ErrorInfo.reason`.
pub fn reason_named(name: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == name)
}

/// The refusal that a status of this suite carries: only then is it known that the call had no effect.
pub fn refusal_in(status: &Status) -> Option<Refusal> {
    let details = tonic_types::Status::decode(status.details()).ok()?.details;
    let info: ErrorInfo = find(&details, ERROR_INFO).filter(|info: &ErrorInfo| info.domain == DOMAIN)?;
    let reason = reason_named(&info.reason)?;
    if code(reason.code()) != status.code() {
        // A reason under a foreign code was put together by something else.
        return None;
    }
    let mut refusal = Refusal::new(reason, status.message());
    if let Some(next) = find(&details, GUIDANCE).and_then(|found: proto::Guidance| guidance::next_action(&found)) {
        refusal = refusal.with_next_action(next);
    }
    if let Some(bad) = find::<BadRequest>(&details, BAD_REQUEST) {
        let violations = bad.field_violations.into_iter().map(|one| Violation::new(one.field, one.description));
        refusal = refusal.with_violations(violations.collect());
    }
    let retry = find::<RetryInfo>(&details, RETRY_INFO).and_then(|retry| retry.retry_delay);
    if let Some(after) = retry.and_then(|delay| wire::duration(&delay)) {
        refusal = refusal.with_retry_after(after);
    }
    Some(sorted(info.metadata).into_iter().fold(refusal, |refusal, (key, value)| refusal.with_metadata(key, value)))
}

/// The guidance that a status of this suite carries.
pub fn guidance_in(status: &Status) -> Option<proto::Guidance> {
    find(&tonic_types::Status::decode(status.details()).ok()?.details, GUIDANCE)
}

fn sorted(metadata: HashMap<String, String>) -> Vec<(String, String)> {
    let mut metadata: Vec<_> = metadata.into_iter().collect();
    metadata.sort_unstable();
    metadata
}

fn find<M: prost::Message + Default>(details: &[Any], type_url: &str) -> Option<M> {
    let found = details.iter().find(|any| any.type_url == type_url)?;
    M::decode(found.value.as_slice()).ok()
}

/// What to tell our own caller when `sister` answered with a status: its refusal, or, where the status says nothing,
/// the nearest one. Only for calls whose effect does not matter or that can be repeated; the text of a foreign
/// status is not passed on.
pub fn from_sister(status: &Status, sister: &str) -> Refusal {
    if let Some(refusal) = refusal_in(status) {
        return refusal;
    }
    let (reason, detail) = match status.code() {
        // The contract has no reason of its own for this; the store is what a sister stands for.
        Code::Unavailable | Code::Cancelled => {
            (Reason::StoreUnavailable, format!("{sister} cannot be reached; ask again with the same key"))
        }
        Code::DeadlineExceeded => (
            Reason::DeadlineTooShort,
            format!("{sister} did not answer in time; ask again with the same key and more time"),
        ),
        Code::ResourceExhausted => {
            (Reason::Overloaded, format!("{sister} has more to do than it can; ask again with the same key"))
        }
        Code::Unimplemented => {
            (Reason::Unimplemented, format!("{sister} is of a version that does not serve this call"))
        }
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => {
            (Reason::Internal, format!("{sister} answered {:?} without a reason", status.code()))
        }
    };
    Refusal::new(reason, detail)
}

#[cfg(test)]
mod tests;
