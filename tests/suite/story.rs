//! The same story, however the services are spread and wherever they store: a user is verified, sees her orders, gets
//! one refunded, once; and everything that is not hers is refused with nothing sent.

use safeconduct_proto::connector::v1::{Effect, ReplayBecause, SettledBy};
use safeconduct_proto::identity::v1::StartSessionRequest;
use safeconduct_testkit::{Ask, Layout, Options, ShopUser, Store, Suite, user_hash};
use serde_json::json;
use tonic::Code;

use crate::{ORDER, refund, refused, refused_field, succeeded};

#[tokio::test]
async fn in_one_process_on_the_embedded_store() {
    story(Layout::All, Store::Embedded).await.unwrap();
}

#[tokio::test]
async fn in_one_process_on_redis() {
    story(Layout::All, Store::Redis).await.unwrap();
}

#[tokio::test]
async fn in_four_processes_on_redis() {
    story(Layout::Separate, Store::Redis).await.unwrap();
}

#[tokio::test]
async fn in_four_processes_each_on_an_embedded_store_of_its_own() {
    story(Layout::Separate, Store::Embedded).await.unwrap();
}

async fn story(layout: Layout, store: Store) -> anyhow::Result<()> {
    let suite = Suite::start(Options::new(layout, store)).await?;
    verified_users_see_their_own(&suite).await?;
    one_request_is_one_refund(&suite).await?;
    what_is_not_proven_is_refused(&suite).await?;
    what_is_not_theirs_is_refused(&suite).await
}

async fn verified_users_see_their_own(suite: &Suite) -> anyhow::Result<()> {
    let (website, agent) = (suite.website()?, suite.agent()?);
    let proven = website.prove("cust_ada", &user_hash("cust_ada").to_uppercase(), &["support-agent"]).await?;
    let contact = proven.contact.clone().unwrap_or_default();
    assert!(!contact.contact_id.is_empty() && contact.contact_id != "cust_ada", "{contact:?}");
    assert!(!proven.assertion.contains("cust_ada"), "attributes travel sealed");

    let orders = agent.execute(&Ask::new(&proven.assertion, "list-orders", &json!({}))).await?;
    assert_eq!(orders.effect(), Effect::None);
    let output = succeeded(&orders);
    let first =
        json!({"id": ORDER, "title": "Brass sextant", "status": "delivered", "total": 12990, "currency": "EUR"});
    assert_eq!(output["orders"][0], first, "the declared fields and no other");
    assert_eq!(output["orders"].as_array().map(Vec::len), Some(3));
    let order = agent.execute(&Ask::new(&proven.assertion, "get-order", &json!({"order_id": ORDER}))).await?;
    assert_eq!(succeeded(&order), first);
    let parcel = agent.execute(&Ask::new(&proven.assertion, "track-parcel", &json!({"order_id": ORDER}))).await?;
    assert_eq!(succeeded(&parcel)["stops"], json!(["Dublin", "Cork"]));

    let grace = suite.assertion(ShopUser::Grace).await?;
    let orders = agent.execute(&Ask::new(&grace, "list-orders", &json!({}))).await?;
    assert_eq!(succeeded(&orders)["orders"][0]["id"], "ord_z9y8x7");
    Ok(())
}

async fn one_request_is_one_refund(suite: &Suite) -> anyhow::Result<()> {
    let agent = suite.agent()?;
    let ada = suite.assertion(ShopUser::Ada).await?;
    let ask = Ask::new(&ada, "refund-order", &refund(2450)).key("first");
    let first = agent.execute(&ask).await?;
    assert_eq!(succeeded(&first), json!({"refund_id": "ref_1", "amount": 2450, "status": "done"}));
    assert_eq!((first.effect(), first.settled_by()), (Effect::Happened, SettledBy::Response));
    assert!(first.replay.is_none() && first.attempts >= 1, "{first:?}");

    // The same key; another key for the same refund; another session of the same person, in another order of members.
    let again = agent.execute(&ask).await?;
    let same_inputs = agent.execute(&ask.clone().key("second")).await?;
    let session = suite.assertion(ShopUser::Ada).await?;
    let elsewhere = Ask {
        assertion: session.clone(),
        inputs: format!("{{\"amount\": 2450,\"order_id\":\"{ORDER}\"}}"),
        ..ask.clone()
    };
    let elsewhere = agent.execute(&elsewhere).await?;
    let unkeyed = agent.execute(&ask.clone().key("")).await?;
    for (repeat, because) in [
        (again, ReplayBecause::Key),
        (same_inputs, ReplayBecause::SameInputs),
        (elsewhere, ReplayBecause::Key),
        (unkeyed, ReplayBecause::SameInputs),
    ] {
        let replay = repeat.replay.clone().unwrap_or_default();
        assert_eq!((replay.because(), &replay.of_execution_id), (because, &first.execution_id), "{repeat:?}");
        assert_eq!((&repeat.execution_id, &repeat.output_json), (&first.execution_id, &first.output_json));
        assert_eq!(repeat.state(), first.state());
    }
    refused(
        agent.execute(&Ask::new(&ada, "refund-order", &refund(2451)).key("first")).await,
        Code::InvalidArgument,
        "IDEMPOTENCY_KEY_REUSED",
    );

    let read = agent.get(&session, &first.execution_id).await?;
    assert_eq!((&read.execution_id, &read.output_json), (&first.execution_id, &first.output_json));
    let grace = suite.assertion(ShopUser::Grace).await?;
    refused(agent.get(&grace, &first.execution_id).await, Code::NotFound, "EXECUTION_UNKNOWN");

    let effects = suite.shop.effects().await?;
    assert_eq!((effects.refunds.len(), effects.refund_calls), (1, 1), "{:?}", effects.paths);
    assert!(effects.refunds.iter().all(|refund| refund.key.is_some()), "the shop is sent a key");
    Ok(())
}

async fn what_is_not_proven_is_refused(suite: &Suite) -> anyhow::Result<()> {
    let (website, agent) = (suite.website()?, suite.agent()?);
    let before = suite.shop.effects().await?;
    let forged = website.prove("cust_ada", &user_hash("cust_grace"), &["support-agent"]).await;
    refused(forged, Code::Unauthenticated, "PROOF_INVALID");
    refused_field(website.prove("cust_ada", "beef", &[]).await, "user_hash.hash");

    let list = |assertion: &str| Ask::new(assertion, "list-orders", &json!({}));
    refused(agent.execute(&list("")).await, Code::Unauthenticated, "ASSERTION_MISSING");
    refused(agent.execute(&list("not.an.assertion")).await, Code::Unauthenticated, "ASSERTION_INVALID");
    // Whoever gets hold of another one's assertion can't present it.
    let others = website.verify(ShopUser::Ada, &["website"]).await?;
    refused(agent.execute(&list(&others)).await, Code::PermissionDenied, "AUDIENCE_MISMATCH");
    let (ada, grace) = (suite.assertion(ShopUser::Ada).await?, suite.assertion(ShopUser::Grace).await?);
    refused(agent.execute(&list(&spliced(&ada, &grace))).await, Code::Unauthenticated, "ASSERTION_INVALID");

    let visitor = StartSessionRequest {
        workspace_id: "demo-shop".to_owned(),
        presenters: vec!["support-agent".to_owned()],
        ..StartSessionRequest::default()
    };
    let visitor = website.identity().start_session(visitor).await?.into_inner().assertion;
    refused(agent.execute(&list(&visitor)).await, Code::FailedPrecondition, "VERIFICATION_REQUIRED");
    assert_eq!(suite.shop.effects().await?.calls, before.calls, "nothing was sent");
    Ok(())
}

async fn what_is_not_theirs_is_refused(suite: &Suite) -> anyhow::Result<()> {
    let agent = suite.agent()?;
    let ada = suite.assertion(ShopUser::Ada).await?;
    let before = suite.shop.effects().await?;
    for out in ["..", "../ord_z9y8x7", "ord_a1b2c3/../ord_z9y8x7", "ord_a1b2c3%2f..", "ord_a1b2c3?x=1", "."] {
        let ask = Ask::new(&ada, "get-order", &json!({"order_id": out}));
        refused_field(agent.execute(&ask).await, "order_id");
    }
    assert_eq!(suite.shop.effects().await?.calls, before.calls, "nothing was sent");

    // Somebody else's order and one that does not exist look the same, and only the person's own list was read.
    for connector in ["get-order", "refund-order"] {
        let mut inputs = json!({"order_id": "ord_z9y8x7"});
        if connector == "refund-order" {
            inputs["amount"] = json!(100);
        }
        let theirs =
            refused(agent.execute(&Ask::new(&ada, connector, &inputs)).await, Code::PermissionDenied, "NOT_YOURS");
        inputs["order_id"] = json!("ord_nobody0");
        let nobodys =
            refused(agent.execute(&Ask::new(&ada, connector, &inputs)).await, Code::PermissionDenied, "NOT_YOURS");
        assert_eq!(theirs.message, nobodys.message);
    }
    for out in ["..", "ord_a1b2c3/.."] {
        let ask = Ask::new(&ada, "track-parcel", &json!({"order_id": out}));
        assert!(agent.execute(&ask).await.is_err());
    }
    let effects = suite.shop.effects().await?;
    let sent = effects.paths.iter().skip(before.paths.len());
    for path in sent {
        assert_eq!(path, "GET /v2/customers/cust_ada/orders");
    }
    assert_eq!(effects.refunds.len(), before.refunds.len());
    Ok(())
}

/// The claims of one assertion with the signature of the other.
fn spliced(one: &str, other: &str) -> String {
    let claims = one.rsplit_once('.').map_or(one, |(claims, _)| claims);
    let signature = other.rsplit_once('.').map_or(other, |(_, signature)| signature);
    format!("{claims}.{signature}")
}
