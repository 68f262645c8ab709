//! Many callers at once ask for the same refund: it happens once, and every one of them gets that execution.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_proto::connector::v1::{Execution, ExecutionState};
use safeconduct_testkit::{Ask, Layout, Options, ShopUser, Store, Suite, until};
use tokio::task::JoinSet;

use crate::{refund, succeeded};

const CALLERS: usize = 200;
/// A connection carries 256 calls at most, and callers have their own.
const CONNECTIONS: usize = 8;

#[tokio::test]
async fn one_key_is_one_effect_on_the_embedded_store() {
    race(Layout::All, Store::Embedded, |_| "the-key".to_owned()).await.unwrap();
}

#[tokio::test]
async fn one_key_is_one_effect_on_redis() {
    race(Layout::Separate, Store::Redis, |_| "the-key".to_owned()).await.unwrap();
}

#[tokio::test]
async fn the_same_inputs_under_different_keys_are_one_effect_on_the_embedded_store() {
    race(Layout::All, Store::Embedded, |n| format!("key-{n}")).await.unwrap();
}

#[tokio::test]
async fn the_same_inputs_under_different_keys_are_one_effect_on_redis() {
    race(Layout::Separate, Store::Redis, |n| format!("key-{n}")).await.unwrap();
}

async fn race(layout: Layout, store: Store, key: fn(usize) -> String) -> anyhow::Result<()> {
    let suite = Suite::start(Options::new(layout, store)).await?;
    let ada = suite.assertion(ShopUser::Ada).await?;
    let ask = Ask::new(&ada, "refund-order", &refund(777));
    let agents = (0..CONNECTIONS).map(|_| suite.agent().map(Arc::new)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut calls = JoinSet::new();
    for n in 0..CALLERS {
        let agent = Arc::clone(&agents[n % CONNECTIONS]);
        let ask = ask.clone().key(key(n));
        calls.spawn(async move { agent.execute(&ask).await });
    }
    let mut answers: Vec<Execution> = Vec::new();
    for answer in calls.join_all().await {
        answers.push(answer?);
    }

    let ids: BTreeSet<&str> = answers.iter().map(|one| one.execution_id.as_str()).collect();
    assert_eq!((answers.len(), ids.len()), (CALLERS, 1), "every caller gets the one execution");
    assert_eq!(answers.iter().filter(|one| one.replay.is_none()).count(), 1, "one of them is no repeat");
    for answer in &answers {
        assert!(matches!(answer.state(), ExecutionState::Running | ExecutionState::Succeeded), "{answer:?}");
    }
    let stored = until("the stored result", Duration::from_secs(10), async || {
        let stored = suite.agent()?.execute(&ask.clone().key(key(0))).await?;
        Ok(Some(stored).filter(|one| one.state() != ExecutionState::Running))
    })
    .await?;
    succeeded(&stored);
    assert!(ids.contains(stored.execution_id.as_str()));
    for answer in answers.iter().filter(|one| one.state() == ExecutionState::Succeeded) {
        assert_eq!(answer.output_json, stored.output_json);
    }
    let effects = suite.shop.effects().await?;
    assert_eq!((effects.refunds.len(), effects.refund_calls), (1, 1), "one effect");
    Ok(())
}
