use std::collections::BTreeSet;
use std::time::Duration;

use safeconduct_types::NextAction;

use super::*;

fn details(status: &Status) -> Vec<Any> {
    tonic_types::Status::decode(status.details()).unwrap().details
}

#[test]
fn the_reasons_and_the_contract_agree_name_by_name() {
    for reason in Reason::ALL {
        let named = proto::ErrorReason::from_str_name(&format!("ERROR_REASON_{}", reason.as_str()));
        assert!(named.is_some(), "{} is not in the contract", reason.as_str());
        assert_eq!(Some(guidance::error_reason(*reason)), named);
    }
    let ours: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    for value in 1..1000 {
        if let Ok(reason) = proto::ErrorReason::try_from(value) {
            let name = reason.as_str_name().strip_prefix("ERROR_REASON_").unwrap();
            assert!(ours.contains(name), "{name} is not among the reasons");
        }
    }
}

#[test]
fn every_refusal_comes_back_from_its_status() {
    for reason in Reason::ALL.iter().filter(|reason| **reason != Reason::Internal) {
        let refusal = Refusal::new(*reason, "do something else")
            .with_next_action(NextAction::HandOver)
            .with_violations(vec![Violation::new("inputs.amount", "must be at least 1")])
            .with_retry_after(Duration::from_millis(1500))
            .with_metadata("limit", "money-out")
            .with_metadata("zone", "b");
        assert_eq!(refusal_in(&to_status(&refusal)), Some(refusal));
    }
}

#[test]
fn a_status_says_code_reason_and_what_to_do() {
    let refusal = Refusal::new(Reason::CapReached, "hand over: the day's limit is reached")
        .with_metadata("limit", "money-out")
        .with_metadata("left", "250")
        .with_metadata("unit", "EUR")
        .with_retry_after(Duration::from_mins(1));
    let status = to_status(&refusal);
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "hand over: the day's limit is reached");
    let details = details(&status);
    let info: ErrorInfo = find(&details, ERROR_INFO).unwrap();
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("safeconduct.dev", "CAP_REACHED"));
    let quota: QuotaFailure = find(&details, QUOTA_FAILURE).unwrap();
    assert_eq!(quota.violations[0].subject, "money-out");
    assert_eq!(find::<RetryInfo>(&details, RETRY_INFO).unwrap().retry_delay.unwrap().seconds, 60);
    let guidance: proto::Guidance = find(&details, GUIDANCE).unwrap();
    assert_eq!(guidance.reason(), proto::ErrorReason::CapReached);
    assert_eq!(guidance.next_action(), proto::NextAction::HandOver);
    match guidance.detail {
        Some(proto::guidance::Detail::Limit(limit)) => assert_eq!((limit.left, limit.unit.as_str()), (250, "EUR")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_violation_is_told_in_both_forms() {
    let refusal = Refusal::invalid(vec![Violation::new("a", "must be there"), Violation::new("b", "must not")]);
    let details = details(&to_status(&refusal));
    assert_eq!(find::<BadRequest>(&details, BAD_REQUEST).unwrap().field_violations.len(), 2);
    match find::<proto::Guidance>(&details, GUIDANCE).unwrap().detail {
        Some(proto::guidance::Detail::Violations(violations)) => assert_eq!(violations.violations.len(), 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_long_refusal_still_fits_into_a_header() {
    let violations = (0..500).map(|n| Violation::new(format!("inputs.field_{n}"), "é".repeat(1000))).collect();
    let status = to_status(&Refusal::invalid(violations).with_metadata("limit", "x".repeat(5000)));
    assert!(status.details().len() <= LONGEST_DETAILS, "{}", status.details().len());
    assert!(status.message().len() <= 2 * LONGEST_TEXT + 3);
    assert!(!refusal_in(&status).unwrap().violations().is_empty());
}

#[test]
fn what_broke_inside_is_not_told_outside() {
    let status = to_status(&Refusal::internal("record 7 of shard 3 cannot be opened"));
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(refusal_in(&status).unwrap().reason(), Reason::Internal);
    assert!(!format!("{status:?}").contains("shard 3"));
    assert!(!String::from_utf8_lossy(status.details()).contains("shard 3"));
}

#[test]
fn a_status_without_our_error_info_is_no_refusal() {
    assert_eq!(refusal_in(&Status::unavailable("x")), None);
    let foreign = |domain: &str, reason: &str, code: Code| {
        let info = ErrorInfo { domain: domain.to_owned(), reason: reason.to_owned(), ..ErrorInfo::default() };
        let status = tonic_types::Status { details: vec![any(ERROR_INFO, &info)], ..tonic_types::Status::default() };
        Status::with_details(code, "x", Bytes::from(status.encode_to_vec()))
    };
    assert_eq!(refusal_in(&foreign("example.org", "NOT_YOURS", Code::PermissionDenied)), None);
    assert_eq!(refusal_in(&foreign(DOMAIN, "UNHEARD_OF", Code::PermissionDenied)), None);
    assert_eq!(refusal_in(&foreign(DOMAIN, "NOT_YOURS", Code::Unavailable)), None);
    assert!(refusal_in(&foreign(DOMAIN, "NOT_YOURS", Code::PermissionDenied)).is_some());
    assert_eq!(refusal_in(&Status::with_details(Code::Internal, "x", Bytes::from_static(b"garbage"))), None);
}

#[test]
fn a_foreign_status_of_a_sister_becomes_the_nearest_refusal_without_its_text() {
    for (code, reason) in [
        (Code::Unavailable, Reason::StoreUnavailable),
        (Code::Cancelled, Reason::StoreUnavailable),
        (Code::DeadlineExceeded, Reason::DeadlineTooShort),
        (Code::ResourceExhausted, Reason::Overloaded),
        (Code::Unknown, Reason::Internal),
        (Code::Internal, Reason::Internal),
    ] {
        let refusal = from_sister(&Status::new(code, "hunter2"), "admission");
        assert_eq!(refusal.reason(), reason);
        assert!(refusal.detail().contains("admission") && !refusal.detail().contains("hunter2"), "{refusal}");
    }
}
