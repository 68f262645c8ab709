//! The part of the story about somebody whom the shop does not know: she proves an address, and nothing else.

use safeconduct_proto::common::v1::VerificationMethod;
use safeconduct_proto::identity::v1::StartSessionRequest;
use safeconduct_proto::otp::v1 as pb;
use serde_json::{Value, json};
use tonic::Status;

use super::site::{Site, WORKSPACE};
use super::story::{AGENT, calls, execute, nothing_sent, refused, unexpected};
use super::teller::Teller;
use crate::command::call::human;
use crate::command::client;
use crate::exit::Failure;

const EMAIL: &str = "ada@example.com";

pub(super) async fn tell(site: &Site, teller: &mut Teller) -> Result<(), Failure> {
    let visitor = visit(site).await.map_err(unexpected)?;
    let purpose = asked_to_verify(site, teller, &visitor).await?;
    let started = started(site, teller, &visitor, purpose).await?;
    let lead = verified(site, teller, &visitor, &started).await?;
    let_in(site, teller, &lead).await?;
    not_further(site, teller, &lead).await
}

async fn visit(site: &Site) -> Result<String, Status> {
    let request = StartSessionRequest {
        workspace_id: WORKSPACE.to_owned(),
        // The website proves, the agent executes.
        presenters: vec!["website".to_owned(), AGENT.to_owned()],
        ..StartSessionRequest::default()
    };
    Ok(client::identity(&site.website).start_session(request).await?.into_inner().assertion)
}

async fn asked_to_verify(site: &Site, teller: &mut Teller, visitor: &str) -> Result<String, Failure> {
    teller.step("Somebody who is not signed in asks for \"my order\", and says that she is ada@example.com.");
    let before = calls(site).await?;
    teller.sent("Execute find-orders {}  (with a visitor's assertion)");
    let answer = execute(&site.agent, visitor, "find-orders", &json!({})).await;
    let needed = answer.as_ref().err().and_then(client::verification_needed).unwrap_or_default();
    refused(teller, answer, "VERIFICATION_REQUIRED");
    let by_email = needed.methods().any(|method| method == VerificationMethod::EmailCode);
    teller.check(
        needed.attribute == "email" && by_email && !needed.purpose.is_empty(),
        &format!(
            "saying so is no proof; the answer names what would do: {} by EMAIL_CODE, for `{}`",
            needed.attribute, needed.purpose
        ),
    );
    nothing_sent(site, teller, before).await?;
    Ok(needed.purpose)
}

async fn started(site: &Site, teller: &mut Teller, visitor: &str, purpose: String) -> Result<String, Failure> {
    teller.step("The website starts the verification. The code goes to the address, and nowhere else.");
    teller.sent("StartVerification  channel=EMAIL, address=ada@example.com");
    let request = pb::StartVerificationRequest {
        assertion: visitor.to_owned(),
        channel: pb::Channel::Email.into(),
        address: EMAIL.to_owned(),
        purpose,
        ..pb::StartVerificationRequest::default()
    };
    let started = client::otp(&site.otp).start_verification(request).await.map_err(unexpected)?.into_inner();
    teller.got(&format!("a code is on its way to {}", started.masked_address));
    teller.check(
        !started.masked_address.contains("ada@"),
        "the same answer for every address: it does not tell whether the shop knows this one",
    );
    Ok(started.verification_id)
}

async fn verified(site: &Site, teller: &mut Teller, visitor: &str, id: &str) -> Result<String, Failure> {
    let (mail, code) = site.mail(EMAIL).await?;
    teller.step("The mail arrives (here: on the suite's standard output), and she types the code.");
    teller.got(&mail);
    // Any other code.
    let wrong = code.chars().map(|digit| if digit == '7' { '3' } else { '7' }).collect();
    teller.sent("CheckVerification  code=(a guess)");
    let guessed = check(site, visitor, id, wrong).await;
    refused(teller, guessed, "CODE_INVALID");
    teller.sent("CheckVerification  code=(the one in the mail)");
    let proven = check(site, visitor, id, code).await.map_err(unexpected)?;
    teller
        .check(proven.kind() == safeconduct_proto::common::v1::ContactKind::Lead, "she is a lead now, by that address");
    Ok(proven.assertion)
}

async fn check(site: &Site, visitor: &str, id: &str, code: String) -> Result<pb::CheckVerificationResponse, Status> {
    let request = pb::CheckVerificationRequest {
        assertion: visitor.to_owned(),
        verification_id: id.to_owned(),
        code,
        ..pb::CheckVerificationRequest::default()
    };
    Ok(client::otp(&site.otp).check_verification(request).await?.into_inner())
}

async fn let_in(site: &Site, teller: &mut Teller, lead: &str) -> Result<(), Failure> {
    teller.step("The agent asks again.");
    teller.sent("Execute find-orders {}  (with the lead's assertion)");
    let found = execute(&site.agent, lead, "find-orders", &json!({})).await.map_err(unexpected)?;
    teller.got(&human(&found));
    let output: Value = serde_json::from_str(&found.output_json).unwrap_or_default();
    let orders = output.get("orders").and_then(Value::as_array).map_or(0, Vec::len);
    teller.check(orders == 3, "what was ordered with that address: it comes from the proof, not from the agent");
    Ok(())
}

async fn not_further(site: &Site, teller: &mut Teller, lead: &str) -> Result<(), Failure> {
    teller.step("She tries what is for signed-in customers only.");
    let before = calls(site).await?;
    teller.sent("Execute refund-order {order_id: ord_a1b2c3, amount: 500}  (with the lead's assertion)");
    let inputs = json!({"order_id": "ord_a1b2c3", "amount": 500});
    let answer = execute(&site.agent, lead, "refund-order", &inputs).await;
    refused(teller, answer, "VERIFICATION_REQUIRED");
    nothing_sent(site, teller, before).await
}
