//! The typed detail that tells an agent what to do next.

use safeconduct_proto::common::v1 as proto;
use safeconduct_types::{NextAction, Reason, Refusal, Violation};

use super::{LONGEST_PART, cut, fact};

/// The guidance of a refusal.
pub(super) fn render(refusal: &Refusal, message: &str, violations: &[Violation]) -> proto::Guidance {
    proto::Guidance {
        reason: error_reason(refusal.reason()).into(),
        next_action: to_proto(refusal.next_action()).into(),
        agent_text: message.to_owned(),
        decision_id: owned(refusal, "decision_id").unwrap_or_default(),
        detail: detail(refusal, violations),
        ..proto::Guidance::default()
    }
}

/// The contract's name of a reason. A test holds the two lists together.
pub(super) fn error_reason(reason: Reason) -> proto::ErrorReason {
    proto::ErrorReason::from_str_name(&format!("ERROR_REASON_{}", reason.as_str())).unwrap_or_default()
}

/// What the next action needs, as far as the refusal's facts say.
fn detail(refusal: &Refusal, violations: &[Violation]) -> Option<proto::guidance::Detail> {
    use proto::guidance::Detail;
    let get = |key| owned(refusal, key);
    if !violations.is_empty() {
        let violations = violations.iter().map(violation).collect();
        return Some(Detail::Violations(proto::Violations { violations }));
    }
    if let Some(name) = get("limit") {
        let left = fact(refusal, "left").and_then(|left| left.parse().ok()).unwrap_or_default();
        let unit = get("unit").unwrap_or_default();
        let reset_time = fact(refusal, "resets").and_then(|at| at.parse().ok());
        return Some(Detail::Limit(proto::LimitReached { name, left, unit, reset_time }));
    }
    match refusal.next_action() {
        NextAction::Verify => get("attribute").map(|attribute| {
            let purpose = get("purpose").unwrap_or_default();
            Detail::Verification(proto::VerificationNeeded { attribute, methods: methods(refusal), purpose })
        }),
        NextAction::Authorize => get("credential").map(|credential| {
            Detail::Authorization(proto::AuthorizationNeeded { credential, ..proto::AuthorizationNeeded::default() })
        }),
        NextAction::Confirm | NextAction::Wait => get("confirmation_id")
            .map(|id| Detail::Confirmation(proto::ConfirmationNeeded { id, ..proto::ConfirmationNeeded::default() })),
        NextAction::Pick => get("input").map(|input| {
            Detail::Choices(proto::ChoicesNeeded { connector: get("connector").unwrap_or_default(), input })
        }),
        NextAction::FixInput | NextAction::HandOver | NextAction::Stop | NextAction::None => None,
    }
}

fn violation(violation: &Violation) -> proto::Violation {
    proto::Violation {
        field: cut(&violation.field, LONGEST_PART),
        description: cut(&violation.description, LONGEST_PART),
        ..proto::Violation::default()
    }
}

fn methods(refusal: &Refusal) -> Vec<i32> {
    fact(refusal, "methods")
        .unwrap_or_default()
        .split(',')
        .filter_map(|name| proto::VerificationMethod::from_str_name(&format!("VERIFICATION_METHOD_{}", name.trim())))
        .map(i32::from)
        .collect()
}

fn owned(refusal: &Refusal, key: &str) -> Option<String> {
    fact(refusal, key).map(|value| cut(value, LONGEST_PART))
}

const fn to_proto(next: NextAction) -> proto::NextAction {
    match next {
        NextAction::Verify => proto::NextAction::Verify,
        NextAction::Authorize => proto::NextAction::Authorize,
        NextAction::Confirm => proto::NextAction::Confirm,
        NextAction::Pick => proto::NextAction::Pick,
        NextAction::FixInput => proto::NextAction::FixInput,
        NextAction::Wait => proto::NextAction::Wait,
        NextAction::HandOver => proto::NextAction::HandOver,
        NextAction::Stop => proto::NextAction::Stop,
        NextAction::None => proto::NextAction::None,
    }
}

/// The next action that a guidance names; `None` for one of a newer version.
pub(super) fn next_action(guidance: &proto::Guidance) -> Option<NextAction> {
    match guidance.next_action() {
        proto::NextAction::Unspecified => None,
        proto::NextAction::None => Some(NextAction::None),
        proto::NextAction::Verify => Some(NextAction::Verify),
        proto::NextAction::Authorize => Some(NextAction::Authorize),
        proto::NextAction::Confirm => Some(NextAction::Confirm),
        proto::NextAction::Pick => Some(NextAction::Pick),
        proto::NextAction::FixInput => Some(NextAction::FixInput),
        proto::NextAction::Wait => Some(NextAction::Wait),
        proto::NextAction::HandOver => Some(NextAction::HandOver),
        proto::NextAction::Stop => Some(NextAction::Stop),
    }
}
