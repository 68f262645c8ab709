//! Who may call what. Nothing is allowed that is not listed.

use safeconduct_proto::admission::v1::{GetUsageRequest, LookupRequest, SettleRequest};
use safeconduct_proto::identity::v1::{GetJwksRequest, StartSessionRequest};
use safeconduct_testkit::{Ask, Layout, Options, ShopUser, Store, Suite, token};
use serde_json::json;
use tonic::Code;

use crate::{refund, refused, succeeded};

#[tokio::test]
async fn nobody_is_served_who_does_not_prove_who_they_are() {
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await.unwrap();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    for token in ["", "no-such-token", "demo-agent-toke", "Demo-agent-token"] {
        let nobody = suite.caller(token).unwrap();
        let list = nobody.execute(&Ask::new(&ada, "list-orders", &json!({}))).await;
        refused(list, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
        let keys = nobody.identity().get_jwks(GetJwksRequest {}).await;
        refused(keys, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
        let look = nobody.admission().lookup(LookupRequest::default()).await;
        refused(look, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    }
    assert_eq!(suite.shop.effects().await.unwrap().calls, 0);
}

#[tokio::test]
async fn admission_is_for_services_only() {
    let suite = Suite::start(Options::new(Layout::Separate, Store::Embedded)).await.unwrap();
    for token in [token::AGENT, token::WEBSITE] {
        let mut admission = suite.caller(token).unwrap().admission();
        let look = LookupRequest {
            workspace_id: "demo-shop".to_owned(),
            contact_id: "c".repeat(22),
            operation_id: "0123456789abcdef0123456789abcdef".to_owned(),
            ..LookupRequest::default()
        };
        refused(admission.lookup(look).await, Code::PermissionDenied, "CALLER_NOT_ALLOWED");
        let settle = SettleRequest { workspace_id: "demo-shop".to_owned(), ..SettleRequest::default() };
        let status = admission.settle(settle).await.unwrap_err();
        assert!(matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument), "{status:?}");
        assert!(admission.get_usage(GetUsageRequest::default()).await.is_err());
    }
}

#[tokio::test]
async fn a_caller_acts_only_where_and_as_it_is_listed() {
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await.unwrap();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    let list = Ask::new(&ada, "list-orders", &json!({}));
    let refund = Ask::new(&ada, "refund-order", &refund(5));

    // Of another workspace: it does not learn that there is this one.
    let status = suite.caller(token::ELSEWHERE).unwrap().execute(&list).await.unwrap_err();
    let told = safeconduct_testkit::Refused::read(&status);
    assert!(matches!(told.reason.as_str(), "WORKSPACE_UNKNOWN" | "CALLER_NOT_ALLOWED"), "{told:?}");
    let elsewhere = StartSessionRequest { workspace_id: "demo-shop".to_owned(), ..StartSessionRequest::default() };
    let status = suite.caller(token::ELSEWHERE).unwrap().identity().start_session(elsewhere).await.unwrap_err();
    let told = safeconduct_testkit::Refused::read(&status);
    assert!(matches!(told.reason.as_str(), "WORKSPACE_UNKNOWN" | "CALLER_NOT_ALLOWED"), "{told:?}");
    // Of a workspace that there is not.
    let nowhere = StartSessionRequest { workspace_id: "nowhere".to_owned(), ..StartSessionRequest::default() };
    let status = suite.website().unwrap().identity().start_session(nowhere).await.unwrap_err();
    assert!(safeconduct_testkit::has_error_info(&status), "{status:?}");
    assert_eq!(suite.shop.effects().await.unwrap().calls, 0);

    let reader = suite.caller(token::READER).unwrap();
    succeeded(&reader.execute(&list).await.unwrap());
    refused(reader.execute(&refund).await, Code::PermissionDenied, "CALLER_NOT_ALLOWED");
    let narrow = suite.caller(token::NARROW).unwrap();
    succeeded(&narrow.execute(&list).await.unwrap());
    let status = narrow.execute(&refund).await.unwrap_err();
    let told = safeconduct_testkit::Refused::read(&status);
    assert!(matches!(told.reason.as_str(), "CONNECTOR_UNKNOWN" | "CALLER_NOT_ALLOWED"), "{told:?}");
    // What it may not use, it may not read the results of either.
    let done = suite.agent().unwrap().execute(&refund).await.unwrap();
    refused(narrow.get(&ada, &done.execution_id).await, Code::NotFound, "EXECUTION_UNKNOWN");
    assert_eq!(reader.get(&ada, &done.execution_id).await.unwrap().execution_id, done.execution_id);
    // No role stands above an assertion's presenters.
    let ops = suite.caller(token::OPS).unwrap();
    assert!(ops.execute(&list).await.is_err());
    assert_eq!(suite.shop.effects().await.unwrap().refunds.len(), 1, "the one that was allowed");
}

#[tokio::test]
async fn what_is_planned_says_that_it_is_not_served_yet() {
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await.unwrap();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    let agent = suite.agent().unwrap();
    let message = safeconduct_proto::connector::v1::ListConnectorsRequest { assertion: ada, ..Default::default() };
    refused(agent.connector().list_connectors(message).await, Code::Unimplemented, "UNIMPLEMENTED");
    let entry = safeconduct_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry {
        key: "path".to_owned(),
        value: "/".to_owned(),
    };
    let limit = safeconduct_proto::envoy::service::ratelimit::v3::RateLimitRequest {
        domain: "edge".to_owned(),
        descriptors: vec![safeconduct_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor {
            entries: vec![entry],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut gateway = suite.caller(token::GATEWAY).unwrap().rate_limits();
    refused(gateway.should_rate_limit(limit.clone()).await, Code::Unimplemented, "UNIMPLEMENTED");
    let mut sister = suite.caller(token::SISTER).unwrap().rate_limits();
    refused(sister.should_rate_limit(limit).await, Code::PermissionDenied, "CALLER_NOT_ALLOWED");
}
