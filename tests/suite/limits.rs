//! Limits as definitions write them: never exceeded, told with what is left, and what becomes of writes and reads when
//! nobody can count.

use std::collections::BTreeSet;
use std::time::Duration;

use safeconduct_proto::common::v1::guidance::Detail;
use safeconduct_proto::common::v1::{LimitReached, LimitRemaining, NextAction};
use safeconduct_proto::connector::v1::{Execution, ExecutionState};
use safeconduct_testkit::{Ask, Caller, Layout, Options, Refused, ShopUser, Store, Suite, token, until};
use safeconduct_types::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use crate::{ORDER, refused, succeeded};

/// What "at once" may take on a busy machine; each time-out on the way is longer.
const AT_ONCE: Duration = Duration::from_secs(2);

fn read(name: &str, more: &str) -> String {
    format!(
        "apiVersion: safeconduct.dev/v1
kind: Connector
metadata: {{workspace: demo-shop, name: {name}, version: v1}}
spec:
  effect: read
  audience: {{kinds: [user]}}
  {more}
  inputs:
    customer_id: {{from: contact.attributes.user_id, accept: [SIGNED], identifies: true}}
  request: {{upstream: shop, method: GET, path: '/v2/customers/${{inputs.customer_id}}/orders'}}
  response:
    mode: task
    output:
      orders: {{path: $.orders, type: array, max_items: 50, items: {{fields: {{id: {{path: $.id, type: string}}}}}}}}
---
"
    )
}

fn write(name: &str, list: &str, limits: &str) -> String {
    format!(
        "apiVersion: safeconduct.dev/v1
kind: Connector
metadata: {{workspace: demo-shop, name: {name}, version: v1}}
spec:
  effect: write
  audience: {{kinds: [user]}}
  limits: {limits}
  inputs:
    customer_id: {{from: contact.attributes.user_id, accept: [SIGNED], identifies: true}}
    order_id:
      from: agent
      schema: {{type: string, pattern: '^ord_[a-z0-9]{{6,32}}$'}}
      choices: {{connector: {list}, items: '$.orders[*]', value: $.id, max: 50}}
    amount: {{from: agent, plain: true, schema: {{type: integer, minimum: 1, maximum: 50000}}}}
  idempotency:
    same: [inputs.order_id, inputs.amount]
    upstream_key: {{header: Idempotency-Key, honoured_for: 24h, mismatch: [422]}}
  request:
    upstream: shop
    method: POST
    path: '/v2/orders/${{inputs.order_id}}/refunds'
    headers: {{X-Customer: '${{inputs.customer_id}}'}}
    body: {{json: {{amount: '${{inputs.amount}}'}}}}
  response:
    output:
      amount: {{path: $.refund.amount, type: integer}}
---
"
    )
}

const RATED: &str = "limits: [{name: look, per: [contact], rate: 3/h}]";

/// The sample with connectors under limits beside it.
fn options(layout: Layout, store: Store) -> Options {
    let all = [
        write(
            "refund-capped",
            "list-orders",
            "[{name: money, per: [contact], sum: inputs.amount, unit: EUR, max: {EUR: 1000}, window: {rolling: 24h}}]",
        ),
        write(
            "refund-shared",
            "list-orders",
            "[{name: each, per: [contact, inputs.order_id], count: true, max: 1000, window: {rolling: 24h}}, \
             {name: all, per: [connector], sum: inputs.amount, unit: EUR, max: {EUR: 5000}, window: {rolling: 24h}}]",
        ),
        write("refund-listed", "orders-rated", "[]"),
        read("orders-rated", RATED),
        read("orders-anyway", &format!("on_store_failure: allow\n  {RATED}")),
        read(
            "orders-counted",
            "on_store_failure: allow\n  limits: [{name: a-day, per: [contact], count: true, max: 2, window: {rolling: 24h}}]",
        ),
    ];
    Options::new(layout, store).file("limited.yaml", &all.concat())
}

fn inputs(amount: i64) -> Value {
    json!({"order_id": ORDER, "amount": amount})
}

fn left(execution: &Execution) -> Vec<(&str, i64)> {
    execution.limits.iter().map(|one| (one.name.as_str(), one.left)).collect()
}

/// The limit that the refusal names.
#[track_caller]
fn limit(refused: &Refused) -> &LimitReached {
    match &refused.guidance.detail {
        Some(Detail::Limit(limit)) => limit,
        other => panic!("no limit in the guidance: {other:?}"),
    }
}

/// It was refused because of a limit; the status itself, for its standard details.
#[track_caller]
fn denied<T: std::fmt::Debug>(answer: Result<T, Status>, reason: &str) -> (Refused, Status) {
    let status = answer.expect_err(reason);
    (refused::<T>(Err(status.clone()), Code::ResourceExhausted, reason), status)
}

#[tokio::test]
async fn a_cap_is_reached_and_told_on_the_embedded_store() {
    cap(Layout::All, Store::Embedded).await.unwrap();
}

#[tokio::test]
async fn a_cap_is_reached_and_told_on_redis() {
    cap(Layout::Separate, Store::Redis).await.unwrap();
}

async fn cap(layout: Layout, store: Store) -> anyhow::Result<()> {
    let suite = Suite::start(options(layout, store)).await?;
    let (agent, ada) = (suite.agent()?, suite.assertion(ShopUser::Ada).await?);
    let ask = |amount| Ask::new(&ada, "refund-capped", &inputs(amount));
    let first = agent.execute(&ask(400)).await?;
    succeeded(&first);
    assert_eq!(left(&first), [("money", 600)]);
    let LimitRemaining { unit, max, reset_time, .. } = &first.limits[0];
    assert!(unit == "EUR" && *max == 1000 && reset_time.is_some(), "{:?}", first.limits);
    let again = agent.execute(&ask(400)).await?;
    assert!(again.replay.is_some() && again.output_json == first.output_json);
    assert_eq!(left(&agent.execute(&ask(350)).await?), [("money", 250)], "a repeat takes nothing");

    let (refusal, status) = denied(agent.execute(&ask(251)).await, "CAP_REACHED");
    let reached = limit(&refusal);
    assert_eq!((reached.name.as_str(), reached.left, reached.unit.as_str()), ("money", 250, "EUR"));
    assert!(reached.reset_time.is_some(), "{reached:?}");
    assert_eq!(refusal.guidance.next_action(), NextAction::HandOver);
    assert_eq!(status.get_details_quota_failure().unwrap().violations[0].subject, "money");

    // What the shop refuses has had no effect, and comes back.
    let no = json!({"method": "POST", "path": "/refunds", "kind": {"status": 400}});
    suite.shop.fault(&no).await?;
    let failed = agent.execute(&ask(250)).await?;
    assert_eq!((failed.state(), left(&failed)), (ExecutionState::Failed, vec![("money", 250)]), "{failed:?}");
    assert_eq!(left(&agent.execute(&ask(249)).await?), [("money", 1)]);
    denied(agent.execute(&ask(2)).await, "CAP_REACHED");
    assert_eq!(left(&agent.execute(&ask(1)).await?), [("money", 0)], "to the last cent");
    let refunds: Vec<_> = suite.shop.effects().await?.refunds.iter().map(|one| one.amount).collect();
    assert_eq!(refunds, [400, 350, 249, 1]);

    // Another contact has a count of its own.
    let grace = suite.assertion(ShopUser::Grace).await?;
    let other = Ask::new(&grace, "refund-capped", &json!({"order_id": "ord_z9y8x7", "amount": 1000}));
    assert_eq!(left(&agent.execute(&other).await?), [("money", 0)]);
    Ok(())
}

#[tokio::test]
async fn a_hundred_refunds_at_once_through_two_connectors_never_exceed_a_cap() {
    let mut suite = Suite::start(options(Layout::Separate, Store::Redis)).await.unwrap();
    suite.replicate("connector", "connector-b").await.unwrap();
    let agents: Vec<_> =
        ["connector", "connector-b"].iter().map(|name| suite.caller_of(name, token::AGENT).unwrap()).collect();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    let mut calls = JoinSet::new();
    for n in 0..100_usize {
        let agent = agents[n % 2].clone();
        let ask = Ask::new(&ada, "refund-shared", &inputs(101 + i64::try_from(n).unwrap()));
        calls.spawn(async move { agent.execute(&ask).await });
    }
    let (mut amounts, mut refusals) = (Vec::new(), 0);
    for answer in calls.join_all().await {
        match answer {
            Ok(done) => amounts.push(succeeded(&done)["amount"].as_i64().unwrap()),
            Err(status) => {
                let (refusal, _) = denied::<Execution>(Err(status), "CAP_REACHED");
                assert_eq!(limit(&refusal).name, "all");
                refusals += 1;
            }
        }
    }
    let effects = suite.shop.effects().await.unwrap();
    let sent: i64 = effects.refunds.iter().map(|one| one.amount).sum();
    assert_eq!(sent, amounts.iter().sum::<i64>(), "every refund was told");
    assert!(sent <= 5000 && refusals > 0, "{sent} of 5000 went out, {refusals} refusals");
    let distinct: BTreeSet<_> = effects.refunds.iter().filter_map(|one| one.key.as_ref()).collect();
    assert_eq!(distinct.len(), amounts.len(), "each once");

    // To the last cent: exactly what is left still passes.
    let ask = |amount| Ask::new(&ada, "refund-shared", &inputs(amount));
    let (refusal, _) = denied(agents[0].execute(&ask(5000)).await, "CAP_REACHED");
    assert_eq!(limit(&refusal).left, 5000 - sent);
    // An amount that went out already would be its replay, so what is left goes out in amounts below the others'.
    let rest = 5000 - sent;
    let parts = match rest {
        0 => vec![],
        1..=100 => vec![rest],
        101 => vec![11, 90],
        _ => vec![rest - 100, 100],
    };
    for (n, part) in parts.iter().enumerate() {
        let done = agents[1].execute(&ask(*part)).await.unwrap();
        let now_left: i64 = parts[n + 1..].iter().sum();
        assert!(left(&done).contains(&("all", now_left)), "{:?}", done.limits);
    }
    denied(agents[0].execute(&ask(1)).await, "CAP_REACHED");
}

#[tokio::test]
async fn whoever_is_too_fast_is_told_how_long_to_wait_and_lists_are_counted_like_any_call() {
    let suite = Suite::start(options(Layout::All, Store::Embedded)).await.unwrap();
    let (agent, ada) = (suite.agent().unwrap(), suite.assertion(ShopUser::Ada).await.unwrap());
    let listed = |amount| Ask::new(&ada, "refund-listed", &inputs(amount));
    succeeded(&agent.execute(&listed(5)).await.unwrap());
    let orders = agent.execute(&Ask::new(&ada, "orders-rated", &json!({}))).await.unwrap();
    assert_eq!(left(&orders), [("look", 1)], "the list was counted");
    succeeded(&agent.execute(&listed(6)).await.unwrap());
    let (refusal, status) = denied(agent.execute(&listed(7)).await, "RATE_LIMITED");
    assert_eq!((limit(&refusal).name.as_str(), refusal.guidance.next_action()), ("look", NextAction::Wait));
    let wait = status.get_details_retry_info().and_then(|retry| retry.retry_delay).unwrap();
    assert!(wait > Duration::from_mins(10) && wait <= Duration::from_mins(20), "{wait:?}");
    succeeded(&agent.execute(&listed(6)).await.unwrap());
    assert_eq!(suite.shop.effects().await.unwrap().refunds.len(), 2, "a repeat is answered all the same");
}

#[tokio::test]
async fn reads_are_counted_within_a_window_too() {
    let suite = Suite::start(options(Layout::All, Store::Embedded)).await.unwrap();
    let (agent, ada) = (suite.agent().unwrap(), suite.assertion(ShopUser::Ada).await.unwrap());
    let ask = Ask::new(&ada, "orders-counted", &json!({}));
    for more in [1, 0] {
        let done = agent.execute(&ask).await.unwrap();
        assert_eq!((done.state(), left(&done)), (ExecutionState::Succeeded, vec![("a-day", more)]));
    }
    denied(agent.execute(&ask).await, "CAP_REACHED");
}

/// Refused because nobody can count, without being kept waiting.
async fn gone(agent: &Caller, ask: &Ask) {
    let began = SystemClock.instant();
    let answer = agent.execute(ask).await;
    let status = answer.expect_err("the store is gone");
    refused::<()>(Err(status.clone()), Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(status.get_details_retry_info().is_some(), "no hint when to try again: {status:?}");
    assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
}

async fn without(suite: &Suite, agent: &Caller, ada: &str) -> anyhow::Result<()> {
    let write = Ask::new(ada, "refund-capped", &inputs(7));
    // The first to notice may have to wait for it.
    until("a refusal", Duration::from_secs(20), async || Ok(agent.execute(&write).await.err())).await?;
    for _ in 0..10 {
        gone(agent, &write).await;
    }
    // What was revoked meanwhile is not known either, and that may be what is told.
    let private = agent.execute(&Ask::new(ada, "orders-rated", &json!({}))).await.expect_err("it says `deny`");
    let refusal = Refused::read(&private);
    assert!(matches!(refusal.reason.as_str(), "STORE_UNAVAILABLE" | "MARKS_LAGGING"), "{refusal:?}");
    gone(agent, &Ask::new(ada, "orders-counted", &json!({}))).await;
    let anyway = Ask::new(ada, "orders-anyway", &json!({}));
    for more in [2, 1, 0] {
        let done = agent.execute(&anyway).await?;
        assert_eq!((done.state(), left(&done)), (ExecutionState::Succeeded, vec![("look", more)]));
    }
    denied(agent.execute(&anyway).await, "RATE_LIMITED");
    assert_eq!(suite.shop.effects().await?.refund_calls, 0, "nothing was sent");
    Ok(())
}

#[tokio::test]
async fn when_the_store_is_lost_writes_are_refused_at_once_and_reads_go_on_where_the_definition_lets_them() {
    let mut suite = Suite::start(options(Layout::Separate, Store::Redis)).await.unwrap();
    let (agent, ada) = (suite.agent().unwrap(), suite.assertion(ShopUser::Ada).await.unwrap());
    succeeded(&agent.execute(&Ask::new(&ada, "list-orders", &json!({}))).await.unwrap());
    suite.lose_store();
    without(&suite, &agent, &ada).await.unwrap();
}

#[tokio::test]
async fn when_admission_is_lost_it_is_the_same() {
    let mut suite = Suite::start(options(Layout::Separate, Store::Redis)).await.unwrap();
    let (agent, ada) = (suite.agent().unwrap(), suite.assertion(ShopUser::Ada).await.unwrap());
    succeeded(&agent.execute(&Ask::new(&ada, "list-orders", &json!({}))).await.unwrap());
    suite.kill("admission").unwrap();
    without(&suite, &agent, &ada).await.unwrap();
}

async fn health(suite: &Suite, name: &str) -> anyhow::Result<ServingStatus> {
    let channel = Endpoint::from_shared(format!("http://{}", suite.address("connector")?))?.connect().await?;
    let asked = HealthCheckRequest { service: name.to_owned() };
    Ok(HealthClient::new(channel).check(asked).await?.into_inner().status())
}

#[tokio::test]
async fn health_takes_writes_out_and_leaves_reads_in_while_the_store_is_gone() {
    let options = Options::new(Layout::Separate, Store::Redis);
    let mut suite = Suite::start_with(options, |site| {
        for file in ["orders.yaml", "lead-orders.yaml"] {
            let text = std::fs::read_to_string(site.folder().join("workspaces").join(file))?;
            let anyway = text.replace("  effect: read\n", "  effect: read\n  on_store_failure: allow\n");
            site.workspace_file(file, &anyway)?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let (agent, ada) = (suite.agent().unwrap(), suite.assertion(ShopUser::Ada).await.unwrap());
    let patience = Duration::from_secs(20);
    for name in ["connector.read", "connector.write"] {
        until(name, patience, async || Ok((health(&suite, name).await? == ServingStatus::Serving).then_some(())))
            .await
            .unwrap();
    }
    suite.lose_store();
    until("no writes", patience, async || {
        Ok((health(&suite, "connector.write").await? == ServingStatus::NotServing).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(health(&suite, "connector.read").await.unwrap(), ServingStatus::Serving);
    succeeded(&agent.execute(&Ask::new(&ada, "list-orders", &json!({}))).await.unwrap());
    gone(&agent, &Ask::new(&ada, "refund-order", &inputs(7))).await;
}
