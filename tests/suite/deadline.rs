//! A caller that runs out of time, or goes away, or asks twice meanwhile: what was begun is finished once, and whoever
//! asks is told what is known.

use std::time::Duration;

use safeconduct_proto::connector::v1::{Effect, Execution, ExecutionState};
use safeconduct_testkit::{Ask, Caller, Layout, Options, ShopUser, Store, Suite, has_error_info, until};
use safeconduct_types::{Clock as _, SystemClock};
use serde_json::json;
use tonic::Code;

use crate::{refund, refused, succeeded};

async fn slow_shop(millis: u32) -> anyhow::Result<(Suite, String)> {
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await?;
    let ada = suite.assertion(ShopUser::Ada).await?;
    suite.shop.fault(&json!({"method": "POST", "path": "/refunds", "kind": {"delay_ms": millis}})).await?;
    Ok((suite, ada))
}

/// Asks again until it is running no longer.
async fn ended(agent: &Caller, ask: &Ask) -> anyhow::Result<Execution> {
    until("the end", Duration::from_secs(15), async || {
        Ok(Some(agent.execute(ask).await?).filter(|one| one.state() != ExecutionState::Running))
    })
    .await
}

#[tokio::test]
async fn a_deadline_that_ends_during_the_call_is_told_what_is_known_and_asking_again_finds_out() {
    let (suite, ada) = slow_shop(3000).await.unwrap();
    let agent = suite.agent().unwrap();
    let ask = Ask::new(&ada, "refund-order", &refund(10)).key("late");
    let (timeout, began) = (Duration::from_secs(2), SystemClock.instant());
    let first = agent.execute(&ask.clone().within(timeout)).await.unwrap();
    assert!(began.elapsed() < timeout, "it is answered before the deadline: {:?}", began.elapsed());
    assert!(matches!(first.state(), ExecutionState::Running | ExecutionState::OutcomeUnknown), "{first:?}");
    assert_eq!((first.effect(), first.r#final), (Effect::Possible, false), "{first:?}");
    let done = ended(&agent, &ask).await.unwrap();
    assert_eq!((succeeded(&done)["amount"].as_i64(), &done.execution_id), (Some(10), &first.execution_id));
    assert_eq!(suite.shop.effects().await.unwrap().refunds.len(), 1, "one effect");
}

#[tokio::test]
async fn a_deadline_that_leaves_no_room_is_refused_and_nothing_is_sent() {
    let (suite, ada) = slow_shop(0).await.unwrap();
    let agent = suite.agent().unwrap();
    let ask = Ask::new(&ada, "refund-order", &refund(11));
    let refusal = agent.execute(&ask.clone().within(Duration::from_millis(260))).await;
    // A client's own clock may be the first to say so.
    match refusal {
        Err(status) if !has_error_info(&status) => {
            assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled));
        }
        other => drop(refused(other, Code::DeadlineExceeded, "DEADLINE_TOO_SHORT")),
    }
    let effects = suite.shop.effects().await.unwrap();
    assert_eq!((effects.refund_calls, effects.refunds.len()), (0, 0), "{:?}", effects.paths);
    succeeded(&agent.execute(&ask).await.unwrap());
}

#[tokio::test]
async fn a_repeat_of_a_running_request_gets_that_execution() {
    let (suite, ada) = slow_shop(2000).await.unwrap();
    let agent = suite.agent().unwrap();
    let ask = Ask::new(&ada, "refund-order", &refund(12)).key("running");
    let first = agent.execute(&ask);
    let repeats = async {
        suite.shop.effects_once("the call", |effects| effects.refund_calls == 1).await?;
        let at_once = agent.execute(&ask.clone().at_once()).await?;
        let other_key = agent.execute(&ask.clone().key("another").at_once()).await?;
        let patient = agent.execute(&ask.clone().patient(Duration::from_secs(10))).await?;
        let later = ended(&agent, &ask).await?;
        anyhow::Ok((at_once, other_key, patient, later))
    };
    let (first, repeats) = tokio::join!(first, repeats);
    let (first, (at_once, other_key, patient, later)) = (first.unwrap(), repeats.unwrap());
    succeeded(&first);
    for repeat in [&at_once, &other_key] {
        assert_eq!(repeat.state(), ExecutionState::Running, "{repeat:?}");
        assert!(repeat.replay.is_some() && repeat.execution_id == first.execution_id, "{repeat:?}");
    }
    assert!(patient.replay.is_some(), "{patient:?}");
    for found in [&patient, &later] {
        assert_eq!((found.state(), &found.output_json), (first.state(), &first.output_json));
    }
    assert_eq!(suite.shop.effects().await.unwrap().refund_calls, 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_undo_what_it_began() {
    let (suite, ada) = slow_shop(1000).await.unwrap();
    let agent = suite.agent().unwrap();
    let ask = Ask::new(&ada, "refund-order", &refund(13)).key("gone");
    tokio::select! {
        answer = agent.execute(&ask) => panic!("too early: {answer:?}"),
        seen = suite.shop.effects_once("the call", |effects| effects.refund_calls == 1) => drop(seen.unwrap()),
    }
    drop(agent);
    let found = ended(&suite.agent().unwrap(), &ask).await.unwrap();
    assert_eq!(succeeded(&found)["amount"], 13);
    assert!(found.replay.is_some(), "{found:?}");
    assert_eq!(suite.shop.effects().await.unwrap().refund_calls, 1);
}
