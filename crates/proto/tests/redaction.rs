//! What the contracts mark as secret stays out of `{:?}`, and reflection knows every service.

use prost::Message as _;
use safeconduct_proto::FILE_DESCRIPTOR_SET;
use safeconduct_proto::admission::v1::ExecutionRecord;
use safeconduct_proto::connector::v1::{ConfirmExecutionRequest, ConfirmationDecision, ExecuteRequest};
use safeconduct_proto::identity::v1::{
    UpdateAttributesRequest, UserHash, VerifyIdentityRequest, user_hash, verify_identity_request::Proof,
};

#[test]
fn marked_fields_are_hidden_and_others_are_shown() {
    let request = ExecuteRequest {
        assertion: "SECRET".into(),
        inputs_json: "SECRET".into(),
        connector: "refund-order".into(),
        ..ExecuteRequest::default()
    };
    let shown = format!("{request:?}");
    assert!(!shown.contains("SECRET"), "{shown}");
    assert!(shown.contains("assertion: [redacted]") && shown.contains("refund-order"), "{shown}");
}

#[test]
fn marked_variants_bytes_and_maps_are_hidden() {
    let jwt = VerifyIdentityRequest { proof: Some(Proof::Jwt("SECRET".into())), ..VerifyIdentityRequest::default() };
    let hash = UserHash { hash: "SECRET".into(), subject: Some(user_hash::Subject::UserId("SECRET".into())) };
    let hash = VerifyIdentityRequest { proof: Some(Proof::UserHash(hash)), ..VerifyIdentityRequest::default() };
    let map = [("nickname".to_owned(), "SECRET".to_owned())].into();
    let map = UpdateAttributesRequest { attributes: map, ..UpdateAttributesRequest::default() };
    let record = ExecutionRecord { intent: b"SECRET".as_slice().into(), ..ExecutionRecord::default() };
    for shown in [format!("{jwt:?}"), format!("{hash:?}"), format!("{map:?}"), format!("{record:?}")] {
        assert!(!shown.contains("SECRET") && shown.contains("[redacted]"), "{shown}");
    }
}

#[test]
fn enums_are_shown_by_name_beside_a_secret() {
    let request = ConfirmExecutionRequest {
        decision: ConfirmationDecision::Approve.into(),
        ..ConfirmExecutionRequest::default()
    };
    assert!(format!("{request:?}").contains("Approve"));
}

#[test]
fn reflection_knows_every_service() {
    let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET);
    let services = set.map(|set| set.file.iter().map(|file| file.service.len()).sum::<usize>());
    assert_eq!(services.ok(), Some(7));
}
