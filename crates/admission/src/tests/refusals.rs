//! What is refused, and that nothing came of it.

use std::time::Duration;

use safeconduct_admission_client::{Admission as _, LookupAnswer};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::admission_service_client::AdmissionServiceClient;
use safeconduct_service::status::refusal_in;
use safeconduct_service::wire::to_duration;
use safeconduct_types::{ExecutionId, Reason};
use tonic::{Code, Request};

use super::fixture::{AGENT_TOKEN, Fixture, contact, same, workspace};

fn good(fixture: &Fixture) -> proto::AdmitRequest {
    proto::AdmitRequest {
        workspace_id: workspace().into(),
        contact_id: contact().into(),
        execution_id: ExecutionId::generate(&workspace(), &contact(), &fixture.random).into(),
        operation_id: fixture.operation().to_string(),
        idempotency: Some(proto::Idempotency {
            keys: vec![proto::IdempotencyKey {
                kind: proto::IdempotencyKeyKind::Same.into(),
                digest: same(1).digest.to_vec().into(),
            }],
            lease: Some(to_duration(Duration::from_secs(10))),
            ..proto::Idempotency::default()
        }),
        ..proto::AdmitRequest::default()
    }
}

#[tokio::test]
async fn a_request_with_anything_wrong_is_refused_as_a_whole_and_never_admitted_without() {
    let fixture = Fixture::new().await;
    let charges = proto::AdmitRequest { charges: vec![proto::Charge::default()], ..good(&fixture) };
    let marks = proto::AdmitRequest { marks: vec![proto::MarkCheck::default()], ..good(&fixture) };
    let consume = proto::AdmitRequest { consume: vec![proto::SingleUse::default()], ..good(&fixture) };
    let wait = proto::AdmitRequest { wait: Some(to_duration(Duration::from_secs(16))), ..good(&fixture) };
    for request in [charges, marks, consume, wait] {
        assert_eq!(fixture.admission.admit(request).await.unwrap_err().reason(), Reason::InputInvalid);
    }
    let found = fixture.client.lookup(fixture.find(&[same(1)]), fixture.deadline()).await;
    assert!(matches!(found, Ok(LookupAnswer::Absent(_))), "{found:?}");
    assert!(fixture.admission.admit(good(&fixture)).await.is_ok(), "the request itself is good");
}

#[tokio::test]
async fn all_wrong_fields_are_told_at_once() {
    let fixture = Fixture::new().await;
    let key = |kind: proto::IdempotencyKeyKind, length: usize| proto::IdempotencyKey {
        kind: kind.into(),
        digest: vec![0; length].into(),
    };
    let request = proto::AdmitRequest {
        workspace_id: "ACME".to_owned(),
        contact_id: String::new(),
        execution_id: "exe_1".to_owned(),
        operation_id: "x".to_owned(),
        intent: vec![0; 256 * 1024 + 1].into(),
        idempotency: Some(proto::Idempotency {
            keys: vec![key(proto::IdempotencyKeyKind::Unspecified, 32), key(proto::IdempotencyKeyKind::Same, 31)],
            fingerprint: vec![0; 3].into(),
            retain: Some(to_duration(Duration::from_hours(31 * 24))),
            lease: Some(to_duration(Duration::from_millis(999))),
        }),
        ..proto::AdmitRequest::default()
    };
    let refusal = fixture.admission.admit(request).await.unwrap_err();
    let mut named: Vec<_> = refusal.violations().iter().map(|one| one.field.as_str()).collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [
            "contact_id",
            "execution_id",
            "idempotency.fingerprint",
            "idempotency.keys.digest",
            "idempotency.keys.kind",
            "idempotency.lease",
            "idempotency.retain",
            "intent",
            "operation_id",
            "workspace_id",
        ]
    );
}

#[tokio::test]
async fn an_execution_id_of_another_contact_is_refused() {
    let fixture = Fixture::new().await;
    let other = safeconduct_types::ContactId::from_digest(&[9; 16]);
    let request = proto::AdmitRequest {
        execution_id: ExecutionId::generate(&workspace(), &other, &fixture.random).into(),
        ..good(&fixture)
    };
    assert_eq!(fixture.admission.admit(request).await.unwrap_err().violations()[0].field, "execution_id");
}

#[tokio::test]
async fn only_sister_services_are_served() {
    let fixture = Fixture::new().await;
    let mut client = AdmissionServiceClient::new(fixture.layered.clone());
    let nobody = client.admit(good(&fixture)).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);

    let mut request = Request::new(good(&fixture));
    request.metadata_mut().insert("authorization", format!("Bearer {AGENT_TOKEN}").parse().unwrap());
    let agent = client.admit(request).await.unwrap_err();
    assert_eq!(refusal_in(&agent).map(|refusal| refusal.reason()), Some(Reason::CallerNotAllowed));

    let mut request = Request::new(proto::WatchMarksRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {AGENT_TOKEN}").parse().unwrap());
    let agent = client.watch_marks(request).await.unwrap_err();
    assert_eq!(refusal_in(&agent).map(|refusal| refusal.reason()), Some(Reason::CallerNotAllowed));
}
