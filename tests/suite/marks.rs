//! A mark closes the way for every replica within a second, also for what is under way.

use std::time::Duration;

use safeconduct_proto::admission::v1 as admission;
use safeconduct_proto::connector::v1::{
    DisableConnectorRequest, EnableConnectorRequest, ExecutionState, ExecutionTarget, GetExecutionRequest,
    execution_target,
};
use safeconduct_testkit::{Ask, Caller, Layout, Options, ShopUser, Store, Suite, token, until, user_hash};
use safeconduct_types::{OperationId, SystemRandom};
use serde_json::json;
use tonic::{Code, Request};

use crate::{refund, refused, succeeded};

/// A mark is heeded within a second; the rest is the machine's.
const SOON: Duration = Duration::from_secs(3);
const WHY: &str = "an incident at the shop";

async fn is_refused(agent: &Caller, ask: &Ask, code: Code, reason: &str) -> anyhow::Result<()> {
    let status = until("a refusal", SOON, async || Ok(agent.execute(ask).await.err())).await?;
    refused::<()>(Err(status), code, reason);
    Ok(())
}

#[tokio::test]
async fn a_disabled_connector_is_refused_by_every_replica_until_it_is_enabled_again() {
    let mut suite = Suite::start(Options::new(Layout::Separate, Store::Redis)).await.unwrap();
    suite.replicate("connector", "another").await.unwrap();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    let replicas = ["connector", "another"].map(|name| suite.caller_of(name, token::AGENT).unwrap());
    let ask = Ask::new(&ada, "list-orders", &json!({}));
    for replica in &replicas {
        succeeded(&replica.execute(&ask).await.unwrap());
    }

    let operator = suite.caller_of("connector", token::OPS).unwrap();
    let (workspace_id, connector) = ("demo-shop".to_owned(), "list-orders".to_owned());
    let disable = DisableConnectorRequest {
        workspace_id: workspace_id.clone(),
        connector: connector.clone(),
        reason: WHY.to_owned(),
        ..DisableConnectorRequest::default()
    };
    let agent = replicas[0].operate().disable_connector(disable.clone()).await;
    refused(agent, Code::PermissionDenied, "CALLER_NOT_ALLOWED");
    let misspelt = DisableConnectorRequest { connector: "list-order".to_owned(), ..disable.clone() };
    refused(operator.operate().disable_connector(misspelt).await, Code::NotFound, "CONNECTOR_UNKNOWN");
    operator.operate().disable_connector(disable).await.unwrap();
    for replica in &replicas {
        is_refused(replica, &ask, Code::FailedPrecondition, "CONNECTOR_DISABLED").await.unwrap();
    }

    let enable = EnableConnectorRequest { workspace_id, connector, reason: WHY.to_owned(), version: String::new() };
    operator.operate().enable_connector(enable).await.unwrap();
    for replica in &replicas {
        until("the connector", SOON, async || Ok(replica.execute(&ask).await.ok())).await.unwrap();
    }
    let logs = suite.logs();
    let trail = logs.lines().filter(|line| line.contains("an operator acted") && line.contains(WHY)).count();
    assert_eq!(trail, 2, "{logs}");
}

async fn set_mark(suite: &Suite, key: admission::MarkKey, reason: &str) {
    let mark = admission::Mark { key: Some(key), reason: reason.to_owned(), ..admission::Mark::default() };
    let operation_id = OperationId::generate(&SystemRandom).to_string();
    let set = admission::SetMarkRequest { mark: Some(mark), operation_id };
    suite.caller(token::SISTER).unwrap().admission().set_mark(set).await.unwrap();
}

#[tokio::test]
async fn a_revoked_session_is_refused_by_every_process_and_others_are_not() {
    let mut suite = Suite::start(Options::new(Layout::Separate, Store::Redis)).await.unwrap();
    suite.replicate("connector", "another").await.unwrap();
    let website = suite.website().unwrap();
    let prove = async || website.prove(ShopUser::Ada.id(), &user_hash(ShopUser::Ada.id()), &["support-agent"]).await;
    let (lost, kept) = (prove().await.unwrap(), prove().await.unwrap());
    let replicas = ["connector", "another"].map(|name| suite.caller_of(name, token::AGENT).unwrap());
    let ask = |assertion: &str| Ask::new(assertion, "list-orders", &json!({}));
    for replica in &replicas {
        succeeded(&replica.execute(&ask(&lost.assertion)).await.unwrap());
    }
    let key = admission::MarkKey {
        kind: admission::MarkKind::SessionRevoked.into(),
        workspace_id: "demo-shop".to_owned(),
        contact_id: lost.contact.unwrap().contact_id,
        session_id: lost.session_id,
        ..admission::MarkKey::default()
    };
    set_mark(&suite, key, "Ada lost her phone").await;
    let set_at = std::time::Instant::now();
    for replica in &replicas {
        is_refused(replica, &ask(&lost.assertion), Code::Unauthenticated, "ASSERTION_REVOKED").await.unwrap();
    }
    assert!(set_at.elapsed() < SOON, "{:?}", set_at.elapsed());
    for replica in &replicas {
        succeeded(&replica.execute(&ask(&kept.assertion)).await.unwrap());
    }
    assert!(!suite.logs().contains("Ada lost her phone"), "a reason may name people");
}

#[tokio::test]
async fn an_execution_that_is_tried_again_stops_when_its_contact_is_blocked() {
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await.unwrap();
    let prove = async || {
        let ada = ShopUser::Ada.id();
        suite.website().unwrap().prove(ada, &user_hash(ada), &["support-agent"]).await
    };
    let proven = prove().await.unwrap();
    let contact_id = proven.contact.unwrap().contact_id;
    let ask = Ask::new(&proven.assertion, "refund-order", &refund(91)).key("blocked");
    let busy = json!({"method": "POST", "path": "/refunds", "times": 50, "kind": {"retry_after": 3}});
    suite.shop.fault(&busy).await.unwrap();
    let agent = suite.agent().unwrap();
    let (execution, ()) = tokio::join!(agent.execute(&ask), async {
        suite.shop.effects_once("the first attempt", |effects| effects.refund_calls == 1).await.unwrap();
        let key = admission::MarkKey {
            kind: admission::MarkKind::ContactBlocked.into(),
            workspace_id: "demo-shop".to_owned(),
            contact_id,
            ..admission::MarkKey::default()
        };
        set_mark(&suite, key, WHY).await;
    });
    let execution = execution.unwrap();
    assert_eq!(execution.state(), ExecutionState::Failed, "{execution:?}");
    let effects = suite.shop.effects().await.unwrap();
    assert_eq!((effects.refund_calls, effects.refunds.len()), (1, 0), "no second attempt");
    is_refused(&agent, &ask, Code::Unauthenticated, "ASSERTION_REVOKED").await.unwrap();
    refused(prove().await, Code::Unauthenticated, "ASSERTION_REVOKED");
}

#[tokio::test]
async fn who_waits_for_a_refund_hears_how_it_ended_although_its_connector_was_disabled_meanwhile() {
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await.unwrap();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    let busy = json!({"method": "POST", "path": "/refunds", "times": 50, "kind": {"retry_after": 3}});
    suite.shop.fault(&busy).await.unwrap();
    let agent = suite.agent().unwrap();
    let ask = Ask::new(&ada, "refund-order", &refund(93)).key("disabled");
    let running = agent.execute(&ask.clone().at_once()).await.unwrap();
    assert_eq!(running.state(), ExecutionState::Running, "{running:?}");
    let repeat = ask.clone().patient(Duration::from_secs(20));
    let (told, ()) = tokio::join!(agent.execute(&repeat), async {
        suite.shop.effects_once("the first attempt", |effects| effects.refund_calls == 1).await.unwrap();
        let key = admission::MarkKey {
            kind: admission::MarkKind::ConnectorDisabled.into(),
            workspace_id: "demo-shop".to_owned(),
            connector: "refund-order".to_owned(),
            ..admission::MarkKey::default()
        };
        set_mark(&suite, key, WHY).await;
    });
    let told = told.unwrap();
    assert_eq!((told.state(), &told.execution_id), (ExecutionState::Failed, &running.execution_id), "{told:?}");
    assert_eq!(suite.shop.effects().await.unwrap().refund_calls, 1, "no second attempt");
    is_refused(&agent, &ask.key("anew"), Code::FailedPrecondition, "CONNECTOR_DISABLED").await.unwrap();
}

#[tokio::test]
async fn while_admission_cannot_be_heard_nothing_private_is_read() {
    let mut suite = Suite::start(Options::new(Layout::Separate, Store::Redis)).await.unwrap();
    let (agent, ada) = (suite.agent().unwrap(), suite.assertion(ShopUser::Ada).await.unwrap());
    let ask = Ask::new(&ada, "list-orders", &json!({}));
    succeeded(&agent.execute(&ask).await.unwrap());
    suite.kill("admission").unwrap();
    is_refused(&agent, &ask, Code::Unavailable, "MARKS_LAGGING").await.unwrap();
}

#[tokio::test]
async fn who_waits_for_an_execution_hears_no_more_of_it_once_the_session_is_revoked() {
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await.unwrap();
    let ada = ShopUser::Ada.id();
    let prove = async || suite.website().unwrap().prove(ada, &user_hash(ada), &["support-agent"]).await.unwrap();
    let (kept, lost) = (prove().await, prove().await);
    let busy = json!({"method": "POST", "path": "/refunds", "times": 50, "kind": {"retry_after": 3}});
    suite.shop.fault(&busy).await.unwrap();
    let agent = suite.agent().unwrap();
    let ask = |assertion: &str| Ask::new(assertion, "refund-order", &refund(92)).key("watched");
    let running = agent.execute(&ask(&kept.assertion).at_once()).await.unwrap();
    assert_eq!(running.state(), ExecutionState::Running, "{running:?}");
    let target = execution_target::Target::ExecutionId(running.execution_id.clone());
    let mut look = Request::new(GetExecutionRequest {
        target: Some(ExecutionTarget { target: Some(target) }),
        assertion: lost.assertion.clone(),
        max_wait: Some(Duration::from_secs(10).try_into().unwrap()),
        ..GetExecutionRequest::default()
    });
    look.set_timeout(Duration::from_secs(15));
    let repeat = ask(&lost.assertion).patient(Duration::from_secs(10));
    let revoked = async {
        suite.shop.effects_once("the first attempt", |effects| effects.refund_calls == 1).await.unwrap();
        let key = admission::MarkKey {
            kind: admission::MarkKind::SessionRevoked.into(),
            workspace_id: "demo-shop".to_owned(),
            contact_id: lost.contact.clone().unwrap().contact_id,
            session_id: lost.session_id.clone(),
            ..admission::MarkKey::default()
        };
        set_mark(&suite, key, WHY).await;
    };
    let mut connector = agent.connector();
    let (looked, repeated, ()) = tokio::join!(connector.get_execution(look), agent.execute(&repeat), revoked);
    refused(looked, Code::Unauthenticated, "ASSERTION_REVOKED");
    refused(repeated, Code::Unauthenticated, "ASSERTION_REVOKED");
    let goes_on = agent.get(&kept.assertion, &running.execution_id).await.unwrap();
    assert_eq!(
        goes_on.state(),
        ExecutionState::Running,
        "nobody else was shut out, and it was told long before the end"
    );
}
