//! Budgets: who floods pays first, and nobody is locked out.

use std::time::Duration;

use safeconduct_types::Reason;
use serde_json::json;

use super::world::{ANN, World, other_than, reason};

const HOME: &str = "192.0.2.7";

fn network(number: u32) -> String {
    format!("198.51.{number}.9")
}

/// Verifications of this address, each from a session and a network of its own.
async fn flood(world: &World, address: &str, times: u32) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..times {
        if let Ok(started) = world.begin(1000 + number, &network(number), address).await {
            ids.push(started.verification_id);
        }
    }
    ids
}

#[tokio::test]
async fn a_session_and_a_network_run_dry_before_anybody_else_does() {
    let world = World::start().await;
    for number in 0..5 {
        world.begin(1, HOME, &format!("p{number}@example.com")).await.unwrap();
    }
    let refusal = world.begin(1, HOME, "p5@example.com").await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::CapReached);
    assert!(refusal.metadata().iter().any(|(key, value)| key == "limit" && value == "otp sends per session"));
    assert!(refusal.retry_after().is_some());
    assert_eq!(world.admission.taken("otp sends per address"), 5, "who is refused takes from nobody");
    let one_network = World::start().await;
    let mut sent = 0;
    for number in 0..40 {
        sent += u32::from(one_network.begin(number, HOME, &format!("p{number}@example.com")).await.is_ok());
    }
    assert_eq!(sent, 30);
    assert!(one_network.begin(99, "203.0.113.1", "p99@example.com").await.is_ok(), "others go on");
}

#[tokio::test]
async fn one_network_cannot_use_up_an_address() {
    let world = World::start().await;
    let mut sent = 0;
    for number in 0..20 {
        sent += u32::from(world.begin(number, HOME, ANN).await.is_ok());
    }
    assert_eq!(sent, 5);
    assert!(world.begin(99, "203.0.113.1", ANN).await.is_ok());
}

#[tokio::test]
async fn a_flood_from_everywhere_fills_ten_messages_and_never_shuts_out_who_was_there_before() {
    let world = World::start().await;
    let first = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&first).await;
    world.check(1, HOME, &first, &code).await.unwrap();
    world.admission.forget();
    assert_eq!(flood(&world, ANN, 60).await.len(), 10);
    let refusal = world.begin(2, "203.0.113.1", ANN).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::CapReached);
    let told: Vec<_> = refusal.metadata().iter().map(|(key, _)| key.as_ref()).collect();
    assert_eq!((told, refusal.retry_after()), (vec!["limit"], None), "nothing of what others did");
    let again = world.begin(3, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&again).await;
    assert!(world.check(3, HOME, &again, &code).await.is_ok());
}

#[tokio::test]
async fn past_the_guesses_of_an_address_codes_are_ten_letters_and_still_verify() {
    let world = World::with(&json!({"budgets": {"sends_per_address_day": 100}})).await;
    let ids = flood(&world, ANN, 12).await;
    assert_eq!(ids.len(), 12);
    let mut lengths = Vec::new();
    for id in &ids {
        lengths.push(world.code(id).await.len());
    }
    assert_eq!(lengths, [6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 10, 10], "the first guess of each code is set aside for it");
    let code = world.code(&ids[11]).await;
    assert!(code.bytes().all(|c| c.is_ascii_uppercase()));
    for _ in 0..2 {
        let wrong = other_than(&code);
        assert_eq!(reason(world.check(1011, &network(11), &ids[11], &wrong).await), Reason::CodeInvalid);
    }
    assert!(world.check(1011, &network(11), &ids[11], &code.to_lowercase()).await.is_ok());
}

#[tokio::test]
async fn ten_guesses_at_short_codes_are_all_there_are_and_each_code_keeps_its_first() {
    let world = World::with(&json!({"budgets": {"sends_per_address_day": 100}})).await;
    let victim = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&victim).await;
    let mut compared = 0;
    for (number, id) in flood(&world, ANN, 60).await.iter().enumerate() {
        let number = u32::try_from(number).unwrap();
        let short = world.code(id).await;
        if short.len() > 6 {
            continue;
        }
        for _ in 0..5 {
            let answer = world.check(1000 + number, &network(number), id, &other_than(&short)).await;
            compared += u32::from(reason(answer) == Reason::CodeInvalid);
        }
    }
    assert_eq!(compared, 9, "and one is left: the victim's first");
    assert!(world.check(1, HOME, &victim, &code).await.is_ok());
    assert_eq!(world.admission.taken("otp guesses per address"), 10);
}

#[tokio::test]
async fn a_second_guess_that_the_address_has_not_left_ends_the_code() {
    let world = World::with(&json!({"budgets": {"guesses_per_address_day": 1}})).await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    assert_eq!(reason(world.check(1, HOME, &id, &other_than(&code)).await), Reason::CodeInvalid);
    assert_eq!(reason(world.check(1, HOME, &id, &code).await), Reason::ChallengeOver);
    world.clock.advance(Duration::from_secs(30));
    let next = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&next).await;
    assert_eq!(code.len(), 10);
    assert!(world.check(1, HOME, &next, &code).await.is_ok());
}

#[tokio::test]
async fn one_mailbox_has_one_budget_however_it_is_written() {
    let world = World::with(&json!({"plus_tags": "strip"})).await;
    let ways = [
        "ann@example.com",
        "ANN@EXAMPLE.COM",
        "ａｎｎ@example.com",
        "ann+1@example.com",
        "Ann+2@Example。com",
        "ann+3@example.com",
    ];
    let mut sent = 0;
    for (number, address) in (0..).zip(ways) {
        sent += u32::from(world.begin(number, HOME, address).await.is_ok());
    }
    assert_eq!(sent, 5);
}

#[tokio::test]
async fn text_messages_to_one_block_of_numbers_end() {
    let world = World::start().await;
    let mut sent = 0;
    for number in 0..30 {
        sent += u32::from(world.begin(number, &network(number), &format!("+35385123{number:04}")).await.is_ok());
    }
    assert_eq!(sent, 10);
    assert!(world.begin(99, HOME, "+353861230001").await.is_ok());
}

#[tokio::test]
async fn nothing_is_sent_that_could_not_be_counted() {
    let world = World::start().await;
    *world.admission.away.lock().unwrap() = true;
    assert_eq!(reason(world.begin(1, HOME, ANN).await), Reason::StoreUnavailable);
    assert!(world.outbox.messages.lock().unwrap().is_empty());
}
