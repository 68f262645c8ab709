//! A crash between sending and settling: nobody gets a second refund, and nobody is told what cannot be known.

use std::time::Duration;

use safeconduct_proto::connector::v1::{Effect, Execution, ExecutionState};
use safeconduct_testkit::{Ask, Layout, Options, ShopUser, Store, Suite, until};
use serde_json::json;

use crate::{refund, succeeded};

/// Long enough to be seen running after a restart, short enough to wait for.
const LEASE: &str = "3s";

#[tokio::test]
async fn with_a_key_for_the_upstream_the_one_true_result_is_found_on_redis() {
    let execution = crash(Layout::Separate, Store::Redis, "refund-order").await.unwrap();
    assert_eq!(succeeded(&execution)["refund_id"], "ref_1");
    assert_eq!(execution.effect(), Effect::Happened);
}

#[tokio::test]
async fn with_a_key_for_the_upstream_the_one_true_result_is_found_on_the_embedded_store() {
    let execution = crash(Layout::All, Store::Embedded, "refund-order").await.unwrap();
    assert_eq!(succeeded(&execution)["refund_id"], "ref_1");
    assert_eq!(execution.effect(), Effect::Happened);
}

#[tokio::test]
async fn without_one_the_outcome_is_unknown_on_redis() {
    let execution = crash(Layout::Separate, Store::Redis, "refund-order-unkeyed").await.unwrap();
    unknown(&execution);
}

#[tokio::test]
async fn without_one_the_outcome_is_unknown_on_the_embedded_store() {
    let execution = crash(Layout::All, Store::Embedded, "refund-order-unkeyed").await.unwrap();
    unknown(&execution);
}

fn unknown(execution: &Execution) {
    assert_eq!(execution.state(), ExecutionState::OutcomeUnknown, "{execution:?}");
    assert_eq!(execution.effect(), Effect::Possible);
    assert!(execution.output_json.is_empty() && !execution.r#final, "{execution:?}");
}

/// Kills the executor after the shop has refunded and before it has answered, starts it again, and asks the same until
/// that is no longer running.
async fn crash(layout: Layout, store: Store, connector: &str) -> anyhow::Result<Execution> {
    let options = Options::new(layout, store).set("SAFECONDUCT_CONNECTOR__LEASE", LEASE);
    let mut suite = Suite::start(options).await?;
    let ada = suite.assertion(ShopUser::Ada).await?;
    let ask = Ask::new(&ada, connector, &refund(1299)).key("crash");
    let hang = json!({"method": "POST", "path": "/refunds", "after_effect": true, "kind": "hang"});
    suite.shop.fault(&hang).await?;

    let agent = suite.agent()?;
    let sent = {
        let ask = ask.clone();
        async move { agent.execute(&ask).await }
    };
    let killed = async {
        suite.shop.effects_once("the refund", |effects| effects.refunds.len() == 1).await?;
        suite.kill(suite.executor())?;
        anyhow::Ok(())
    };
    let (lost, killed) = tokio::join!(sent, killed);
    killed?;
    let lost = lost.expect_err("whoever asked sees the connection break");
    assert!(!safeconduct_testkit::has_error_info(&lost), "it may have happened: {lost:?}");

    let executor = suite.executor();
    suite.restart(executor).await?;
    let agent = suite.agent()?;
    let execution = until("an execution that is no longer running", Duration::from_secs(25), async || {
        let execution = agent.execute(&ask).await?;
        assert!(execution.replay.is_some(), "it is not executed anew: {execution:?}");
        Ok(Some(execution).filter(|one| one.state() != ExecutionState::Running))
    })
    .await?;

    // Whoever asks from now on, by whichever key, is told the same.
    let again = agent.execute(&ask.clone().key("other")).await?;
    assert_eq!((again.state(), &again.execution_id), (execution.state(), &execution.execution_id));
    let read = agent.get(&ada, &execution.execution_id).await?;
    assert_eq!((read.state(), &read.output_json), (execution.state(), &execution.output_json));
    assert_eq!(suite.shop.effects().await?.refunds.len(), 1, "one effect");
    Ok(execution)
}
