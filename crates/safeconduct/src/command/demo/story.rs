//! The story: what a newcomer should understand in a minute. Each step checks what it claims.

use std::time::Duration;

use safeconduct_proto::connector::v1 as pb;
use safeconduct_types::SecretText;
use serde_json::{Value, json};
use tonic::Status;

use super::lead;
use super::site::{Site, WORKSPACE};
use super::teller::Teller;
use super::waterfall;
use crate::command::call::human;
use crate::command::client::{self, Authenticated};
use crate::command::sign::{user_hash, verify_request};
use crate::exit::Failure;

pub(super) const AGENT: &str = "support-agent";

pub(crate) async fn tell(site: &Site, teller: &mut Teller) -> Result<(), Failure> {
    let ada = verify(site, teller).await?;
    list(site, teller, &ada).await?;
    let refund = refund(site, teller, &ada).await?;
    again(site, teller, &ada, &refund).await?;
    too_much(site, teller, &ada).await?;
    forged_hash(site, teller).await?;
    foreign_assertion(site, teller).await?;
    foreign_order(site, teller, &ada).await?;
    escaping_input(site, teller, &ada).await?;
    lead::tell(site, teller).await?;
    trace(site, teller, &refund).await;
    Ok(())
}

async fn verify(site: &Site, teller: &mut Teller) -> Result<String, Failure> {
    teller.step("Ada is signed in at the shop. Its backend proves that to identity, for the agent to act on.");
    teller.sent("VerifyIdentity  user_id=cust_ada, hash=HMAC-SHA256(secret, user_id)");
    let hash = user_hash(&site.secret, "cust_ada");
    let answer = identify(site, "cust_ada", hash, AGENT).await.map_err(unexpected)?;
    site.keep_assertion(&answer)?;
    teller.got(&format!(
        "an assertion of {} bytes: signed, for {AGENT} only, 15 minutes; her attributes are sealed in it",
        answer.len()
    ));
    teller.check(answer.split('.').count() == 3, "she is verified; the agent never sees a secret or a hash");
    Ok(answer)
}

async fn list(site: &Site, teller: &mut Teller, ada: &str) -> Result<(), Failure> {
    teller.step("\"Where are my orders?\" The agent asks for her list.");
    teller.sent("Execute list-orders {}");
    let found = execute(&site.agent, ada, "list-orders", &json!({})).await.map_err(unexpected)?;
    teller.got(&human(&found));
    let output: Value = serde_json::from_str(&found.output_json).unwrap_or_default();
    let orders = output.get("orders").and_then(Value::as_array).map_or(0, Vec::len);
    teller.check(orders == 3, "three orders, all hers: whose they are comes from the assertion, not from the agent");
    teller.check(
        !found.output_json.contains("margin"),
        "the shop's internal fields were dropped; amounts are exact cents",
    );
    Ok(())
}

async fn refund(site: &Site, teller: &mut Teller, ada: &str) -> Result<pb::Execution, Failure> {
    teller.step("\"Please refund 15 euros of the sextant.\" A write: recorded first, then sent, then settled.");
    teller.sent("Execute refund-order {order_id: ord_a1b2c3, amount: 1500}");
    let done = execute(&site.agent, ada, "refund-order", &refund_inputs()).await.map_err(unexpected)?;
    teller.got(&human(&done));
    teller.check(done.state() == pb::ExecutionState::Succeeded && done.replay.is_none(), "the refund succeeded");
    teller.check(refunds(site).await? == 1, "the shop counts one refund");
    Ok(done)
}

async fn again(site: &Site, teller: &mut Teller, ada: &str, first: &pb::Execution) -> Result<(), Failure> {
    teller.step("The agent loses its memory and asks again.");
    teller.sent("Execute refund-order {order_id: ord_a1b2c3, amount: 1500}");
    let done = execute(&site.agent, ada, "refund-order", &refund_inputs()).await.map_err(unexpected)?;
    teller.got(&human(&done));
    let same = done.execution_id == first.execution_id && done.output_json == first.output_json;
    teller.check(same && done.replay.is_some(), "the first result again, marked as a replay");
    teller.check(refunds(site).await? == 1, "the shop still counts one refund");
    Ok(())
}

async fn too_much(site: &Site, teller: &mut Teller, ada: &str) -> Result<(), Failure> {
    teller.step("\"And 40 euros more.\" The shop lets no more than 50 euros a day go out to one person.");
    teller.sent("Execute refund-order {order_id: ord_a1b2c3, amount: 4000}");
    let inputs = json!({"order_id": "ord_a1b2c3", "amount": 4000});
    let answer = execute(&site.agent, ada, "refund-order", &inputs).await;
    let told = answer.as_ref().err().is_some_and(|status| status.message().contains("3500 of 5000"));
    refused(teller, answer, "CAP_REACHED");
    teller.check(told, "it says what is left: 3500 of 5000 cents");
    teller.check(refunds(site).await? == 1, "the shop still counts one refund");
    Ok(())
}

async fn forged_hash(site: &Site, teller: &mut Teller) -> Result<(), Failure> {
    teller.step("Mallory claims to be Ada, with a hash made with another secret.");
    let before = calls(site).await?;
    teller.sent("VerifyIdentity  user_id=cust_ada, hash=HMAC-SHA256(a guess, user_id)");
    let hash = user_hash(&SecretText::new("a guess".to_owned()), "cust_ada");
    let answer = identify(site, "cust_ada", hash, AGENT).await;
    refused(teller, answer, "PROOF_INVALID");
    nothing_sent(site, teller, before).await
}

async fn foreign_assertion(site: &Site, teller: &mut Teller) -> Result<(), Failure> {
    teller.step("An assertion of another session, issued for the website, gets into the agent's hands.");
    let before = calls(site).await?;
    let hash = user_hash(&site.secret, "cust_grace");
    let stolen = identify(site, "cust_grace", hash, "website").await.map_err(unexpected)?;
    teller.sent("Execute list-orders {}  (with Grace's assertion)");
    let answer = execute(&site.agent, &stolen, "list-orders", &json!({})).await;
    refused(teller, answer, "AUDIENCE_MISMATCH");
    nothing_sent(site, teller, before).await
}

async fn foreign_order(site: &Site, teller: &mut Teller, ada: &str) -> Result<(), Failure> {
    teller.step("Somebody talks the agent into refunding an order that is Grace's.");
    teller.sent("Execute refund-order {order_id: ord_z9y8x7, amount: 4700}");
    let inputs = json!({"order_id": "ord_z9y8x7", "amount": 4700});
    let answer = execute(&site.agent, ada, "refund-order", &inputs).await;
    refused(teller, answer, "NOT_YOURS");
    teller.check(
        refunds(site).await? == 1,
        "it is not on Ada's own list, so no refund was sent: knowing an id is not enough",
    );
    Ok(())
}

async fn escaping_input(site: &Site, teller: &mut Teller, ada: &str) -> Result<(), Failure> {
    teller.step("An input tries to leave its place in the URL.");
    let before = calls(site).await?;
    let escape = "../customers/cust_grace/orders";
    teller.sent(&format!("Execute track-parcel {{order_id: \"{escape}\"}}"));
    let answer = execute(&site.agent, ada, "track-parcel", &json!({"order_id": escape})).await;
    refused(teller, answer, "INPUT_INVALID");
    nothing_sent(site, teller, before).await
}

async fn trace(site: &Site, teller: &mut Teller, refund: &pb::Execution) {
    teller.step("One trace covers the refund, through all services and out to the shop.");
    let of_it = |span: &safeconduct_telemetry::collector::CollectedSpan| span.trace_id == refund.trace_id;
    let whole = |spans: &[safeconduct_telemetry::collector::CollectedSpan]| {
        spans.iter().any(|span| of_it(span) && span.name.ends_with("ConnectorService/Execute"))
    };
    let arrived = site.collector.wait_for(whole, Duration::from_secs(10)).await.is_ok();
    let spans: Vec<_> = site.collector.spans().into_iter().filter(of_it).collect();
    for line in waterfall::draw(&spans) {
        teller.say(&format!("   {line}"));
    }
    let has = |name: &str| spans.iter().any(|span| span.name.contains(name));
    teller.check(
        arrived
            && has("ConnectorService/Execute")
            && has("AdmissionService/Admit")
            && has("AdmissionService/Settle")
            && has("POST"),
        &format!("trace {}: admitted, sent, settled", refund.trace_id),
    );
}

fn refund_inputs() -> Value {
    json!({"order_id": "ord_a1b2c3", "amount": 1500})
}

async fn identify(site: &Site, user: &str, hash: String, presenter: &str) -> Result<String, Status> {
    let request = verify_request(WORKSPACE.to_owned(), user.to_owned(), hash, vec![presenter.to_owned()]);
    client::identity(&site.website).verify_identity(request).await.map(|answer| answer.into_inner().assertion)
}

pub(super) async fn execute(
    channel: &Authenticated,
    assertion: &str,
    connector: &str,
    inputs: &Value,
) -> Result<pb::Execution, Status> {
    let request = pb::ExecuteRequest {
        assertion: assertion.to_owned(),
        connector: connector.to_owned(),
        inputs_json: inputs.to_string(),
        ..pb::ExecuteRequest::default()
    };
    let answer = client::connector(channel).execute(request).await?.into_inner();
    answer.execution.ok_or_else(|| Status::internal("the answer holds no execution"))
}

pub(super) fn refused<T>(teller: &mut Teller, answer: Result<T, Status>, reason: &str) {
    match answer {
        Ok(_) => teller.check(false, &format!("it is refused with {reason}")),
        Err(status) => {
            teller.got(&client::explain(&status));
            teller.check(client::reason(&status).as_deref() == Some(reason), &format!("refused with {reason}"));
        }
    }
}

pub(super) async fn nothing_sent(site: &Site, teller: &mut Teller, before: u64) -> Result<(), Failure> {
    teller.check(calls(site).await? == before, "the shop was not called");
    Ok(())
}

pub(super) async fn calls(site: &Site) -> Result<u64, Failure> {
    Ok(site.effects().await?.get("calls").and_then(Value::as_u64).unwrap_or(u64::MAX))
}

async fn refunds(site: &Site) -> Result<usize, Failure> {
    Ok(site.effects().await?.get("refunds").and_then(Value::as_array).map_or(usize::MAX, Vec::len))
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
pub(super) fn unexpected(status: Status) -> Failure {
    Failure::internal(client::explain(&status))
}
