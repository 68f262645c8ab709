//! A doubt about an effect is ended by the upstream's own word and by nothing else, and no caller can leave one behind
//! by going away.

use std::time::Duration;

use safeconduct_proto::connector::v1::{Effect, ExecutionState, FailureClass};
use safeconduct_testkit::{Ask, Layout, Options, ShopUser, Store, Suite, until};
use serde_json::{Value, json};

use crate::{refund, succeeded};

async fn fault(suite: &Suite, times: u32, after_effect: bool, kind: Value) {
    let fault =
        json!({"method": "POST", "path": "/refunds", "times": times, "after_effect": after_effect, "kind": kind});
    suite.shop.fault(&fault).await.unwrap();
}

#[tokio::test]
async fn a_refusal_of_a_repeat_does_not_say_that_the_first_request_did_nothing() {
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await.unwrap();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    let agent = suite.agent().unwrap();
    let ask = Ask::new(&ada, "refund-order", &refund(77));
    // The shop pays and says 500, to all three attempts.
    fault(&suite, 3, true, json!({"status": 500})).await;
    let first = agent.execute(&ask).await.unwrap();
    assert_eq!((first.state(), first.effect()), (ExecutionState::OutcomeUnknown, Effect::Possible), "{first:?}");
    // What stands in front of it, or a passing fault, refuses the repeats.
    for (status, times) in [(429, 3), (401, 1), (403, 1), (404, 1), (413, 1)] {
        fault(&suite, times, false, json!({"status": status})).await;
        let repeat = agent.execute(&ask).await.unwrap();
        let known = (repeat.state(), repeat.effect(), repeat.r#final);
        assert_eq!(known, (ExecutionState::OutcomeUnknown, Effect::Possible, false), "{status}: {repeat:?}");
        assert_eq!(repeat.execution_id, first.execution_id, "{status}");
    }
    let last = agent.execute(&ask).await.unwrap();
    assert_eq!(succeeded(&last)["refund_id"], "ref_1");
    assert_eq!((last.effect(), &last.execution_id), (Effect::Happened, &first.execution_id));
    let effects = suite.shop.effects().await.unwrap();
    assert_eq!(effects.refunds.len(), 1, "money moved once: {:?}", effects.refunds);
}

#[tokio::test]
async fn what_surely_did_nothing_may_be_asked_for_again() {
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await.unwrap();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    let agent = suite.agent().unwrap();
    let ask = Ask::new(&ada, "refund-order-unkeyed", &refund(78)).key("again");
    fault(&suite, 1, false, json!({"status": 429})).await;
    let first = agent.execute(&ask).await.unwrap();
    assert_eq!((first.state(), first.effect()), (ExecutionState::Failed, Effect::None), "{first:?}");
    assert_eq!(first.failure.unwrap().class(), FailureClass::Retryable);
    let second = agent.execute(&ask).await.unwrap();
    succeeded(&second);
    assert_ne!(second.execution_id, first.execution_id);
    assert!(second.replay.is_none());
    // What was given back says so, and not that nobody knows.
    let found = agent.get(&ada, &first.execution_id).await.unwrap();
    assert_eq!((found.state(), found.effect()), (ExecutionState::Failed, Effect::None), "{found:?}");
    assert_eq!(suite.shop.effects().await.unwrap().refunds.len(), 1);
}

#[tokio::test]
async fn a_caller_that_leaves_at_any_moment_blocks_nothing() {
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await.unwrap();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    let agent = suite.agent().unwrap();
    let amounts: Vec<u32> = (1000..1040).collect();
    for (step, amount) in amounts.iter().enumerate() {
        let ask = Ask::new(&ada, "refund-order-unkeyed", &refund(*amount));
        let patience = Duration::from_micros(500 * step as u64);
        // Dropping the call resets its stream, wherever it has got to.
        let _ = tokio::time::timeout(patience, agent.execute(&ask)).await;
    }
    for amount in &amounts {
        let ask = Ask::new(&ada, "refund-order-unkeyed", &refund(*amount));
        let ended = until("the end", Duration::from_secs(20), async || {
            Ok(Some(agent.execute(&ask).await?).filter(|one| one.state() != ExecutionState::Running))
        })
        .await
        .unwrap();
        succeeded(&ended);
    }
    let effects = suite.shop.effects().await.unwrap();
    let mut paid: Vec<i64> = effects.refunds.iter().map(|refund| refund.amount).collect();
    paid.sort_unstable();
    assert_eq!(paid, amounts.iter().map(|amount| i64::from(*amount)).collect::<Vec<_>>(), "each once");
}

const READ_MUCH: &str = r"
apiVersion: safeconduct.dev/v1
kind: Connector
metadata: {workspace: demo-shop, name: read-much, version: v1}
spec:
  title: Read much
  description: Reads more than a record holds.
  effect: read
  audience: {kinds: [user]}
  inputs:
    customer_id: {from: contact.attributes.user_id, accept: [SIGNED], identifies: true}
  request: {upstream: shop, method: GET, path: '/v2/customers/${inputs.customer_id}/orders'}
  response: {max_bytes: 1048576, output: {padding: {path: $.padding, type: string}}}
";

#[tokio::test]
async fn an_answer_that_is_too_long_to_keep_does_not_cost_what_is_known() {
    let options = Options::new(Layout::All, Store::Embedded).file("read-much.yaml", READ_MUCH);
    let suite = Suite::start(options).await.unwrap();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    let agent = suite.agent().unwrap();
    suite.shop.fault(&json!({"kind": {"huge": 400_000}})).await.unwrap();
    let ask = Ask::new(&ada, "read-much", &json!({})).key("much");
    let first = agent.execute(&ask).await.unwrap();
    assert_eq!((first.state(), first.r#final), (ExecutionState::Succeeded, true));
    assert!(first.output_error.is_some(), "it says why there is no output");
    let again = agent.execute(&ask).await.unwrap();
    assert_eq!((again.state(), &again.execution_id), (ExecutionState::Succeeded, &first.execution_id));
    assert_eq!((&again.output_error, suite.shop.effects().await.unwrap().calls), (&first.output_error, 1));
    // Where nothing has to be kept, nothing is cut.
    suite.shop.fault(&json!({"kind": {"huge": 400_000}})).await.unwrap();
    let unkept = agent.execute(&Ask::new(&ada, "read-much", &json!({}))).await.unwrap();
    assert!(succeeded(&unkept)["padding"].as_str().unwrap().len() == 400_000);
}
