//! What callers see.

mod flood;
mod guesses;
mod trips;
mod world;

use std::time::Duration;

use safeconduct_otp_domain::challenge::VerificationId;
use safeconduct_proto::otp::v1 as pb;
use safeconduct_proto::otp::v1::otp_service_server::OtpService as _;
use safeconduct_service::keyring::Purpose;
use safeconduct_types::{Mark, MarkKey, NextAction, Reason, Subject};
use serde_json::json;

use self::world::{ANN, NOW, World, contact, device, other_than, plain, reason, session};
use crate::outbox::{Challenges as _, Delivery, Due};

const HOME: &str = "192.0.2.7";
const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn the_code_of_a_message_proves_its_address_to_identity() {
    let world = World::start().await;
    let started = world.begin(1, HOME, " Ann@EXAMPLE.com ").await.unwrap();
    assert_eq!(started.masked_address, "a***@e***.com");
    assert_eq!(started.expire_time.unwrap().seconds, NOW.as_seconds() + 600);
    assert_eq!(started.resend_time.unwrap().seconds, NOW.as_seconds() + 30);
    let code = world.code(&started.verification_id).await;
    assert!(code.len() == 6 && code.bytes().all(|c| c.is_ascii_digit()), "{code}");
    world.clock.advance(MINUTE);
    let typed = format!(" {}-{} ", &code[..3], &code[3..]);
    let checked = world.check(1, HOME, &started.verification_id, &typed).await.unwrap();
    assert_eq!(checked.assertion, format!("assertion of {}", started.verification_id));
    assert_eq!(checked.proof_expire_time.unwrap().seconds, NOW.as_seconds() + 60 + 1800);
    let proven = world.identity.proven.lock().unwrap();
    assert_eq!(proven.len(), 1);
    assert_eq!((proven[0].address.as_str(), proven[0].purpose.as_str()), (ANN, "look-up-order"));
    assert_eq!((proven[0].at, proven[0].verification.to_string()), (NOW.after(MINUTE), started.verification_id));
}

#[tokio::test]
async fn a_wrong_code_tells_how_many_are_left_and_after_the_last_it_is_over() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    for left in ["2", "1", "0"] {
        let refusal = world.check(1, HOME, &id, &other_than(&code)).await.unwrap_err();
        assert_eq!(refusal.reason(), Reason::CodeInvalid);
        assert!(refusal.metadata().iter().any(|(key, value)| key == "attempts_left" && value == left), "{refusal:?}");
        let next = if left == "0" { NextAction::Verify } else { NextAction::FixInput };
        assert_eq!(refusal.next_action(), next);
        assert!(!refusal.to_string().contains(&code));
    }
    assert_eq!(reason(world.check(1, HOME, &id, &code).await), Reason::ChallengeOver);
    let verification = world.get(1, &id).await.unwrap();
    assert_eq!((verification.state(), verification.attempts_left), (pb::VerificationState::Exhausted, 0));
    assert!(world.identity.proven.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_be_a_code_costs_no_guess() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    for text in ["", "12 34!", "<script>"] {
        assert_eq!(reason(world.check(1, HOME, &id, text).await), Reason::InputInvalid, "{text}");
    }
    assert_eq!(world.get(1, &id).await.unwrap().attempts_left, 3);
}

#[tokio::test]
async fn a_new_key_makes_new_codes_at_once_and_those_of_the_old_one_verify_until_it_is_retired() {
    let world = World::start().await;
    let old = world.code_key();
    let (first, second) =
        (world.begin(1, HOME, ANN).await.unwrap(), world.begin(2, HOME, "bob@example.com").await.unwrap());
    let (first, second) = (first.verification_id, second.verification_id);
    let code = world.code(&first).await;
    world.edit_keys(|ring, random| drop(ring.rotate(Purpose::CodeDerivation, NOW, random).unwrap()));
    assert_ne!(world.code_key(), old);
    assert_eq!(world.code(&first).await, code, "what was asked before is sent as it was");
    assert!(world.check(1, HOME, &first, &code).await.is_ok());
    let third = world.begin(3, HOME, "carol@example.com").await.unwrap().verification_id;
    let (second_code, third_code) = (world.code(&second).await, world.code(&third).await);
    world.edit_keys(|ring, _| ring.retire(Purpose::CodeDerivation, &old, NOW, true).unwrap());
    assert_eq!(reason(world.check(2, HOME, &second, &second_code).await), Reason::ChallengeOver);
    assert!(world.check(3, HOME, &third, &third_code).await.is_ok(), "it was derived with the new key");
}

#[tokio::test]
async fn a_code_whose_key_was_retired_before_it_left_is_never_sent() {
    let world = World::start().await;
    let old = world.code_key();
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    world.edit_keys(|ring, random| drop(ring.rotate(Purpose::CodeDerivation, NOW, random).unwrap()));
    world.edit_keys(|ring, _| ring.retire(Purpose::CodeDerivation, &old, NOW, true).unwrap());
    let message = world.messages(&id).pop().unwrap();
    let due = world.otp.verifications().content(&message).await.unwrap();
    assert!(matches!(due, Due::Never(why) if why.contains("code-derivation")), "{due:?}");
    world.clock.advance(Duration::from_secs(30));
    let next = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    assert_ne!(next, id, "another one takes its place");
    assert_eq!(world.code(&next).await.len(), 6);
}

#[tokio::test]
async fn who_has_a_verification_that_nobody_can_read_any_more_starts_anew_and_no_sooner_counted() {
    let world = World::start().await;
    let old = world.sealing_key();
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let message = world.messages(&id).pop().unwrap();
    world.edit_keys(|ring, random| drop(ring.rotate(Purpose::RecordSealing, NOW, random).unwrap()));
    world.edit_keys(|ring, _| ring.retire(Purpose::RecordSealing, &old, NOW, true).unwrap());
    assert_eq!(reason(world.get(1, &id).await), Reason::ChallengeOver);
    assert_eq!(reason(world.check(1, HOME, &id, "123456").await), Reason::ChallengeOver);
    let next = world.begin(1, HOME, ANN).await.unwrap();
    assert_ne!(next.verification_id, id);
    assert_eq!(world.admission.taken("otp sends per session"), 2, "it is paid for like any other");
    assert_eq!(world.admission.taken("otp guesses per address"), 2);
    let wait = next.resend_time.unwrap().seconds - NOW.as_seconds();
    assert!(wait >= 240, "the delay is the longest that there can have been, not the shortest: {wait}");
    // The old one is gone, whoever might still have its key.
    let due = world.otp.verifications().content(&message).await.unwrap();
    assert!(matches!(due, Due::Nothing), "{due:?}");
    let code = world.code(&next.verification_id).await;
    assert!(world.check(1, HOME, &next.verification_id, &code).await.is_ok());
}

#[tokio::test]
async fn an_expired_code_is_over_and_later_forgotten() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    world.clock.advance(10 * MINUTE);
    assert_eq!(reason(world.check(1, HOME, &id, &code).await), Reason::ChallengeOver);
    assert_eq!(world.get(1, &id).await.unwrap().state(), pb::VerificationState::Expired);
    world.clock.advance(60 * MINUTE);
    assert_eq!(reason(world.get(1, &id).await), Reason::ChallengeOver);
    assert_eq!(reason(world.check(1, HOME, &id, &code).await), Reason::CodeInvalid);
}

#[tokio::test]
async fn a_verification_is_its_sessions_alone() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    assert_eq!(reason(world.check(2, HOME, &id, &code).await), Reason::CodeInvalid);
    assert_eq!(reason(world.get(2, &id).await), Reason::ChallengeOver);
    assert_eq!(reason(world.resend(2, &id).await), Reason::ChallengeOver);
    assert_eq!(reason(world.cancel(2, &id).await), Reason::ChallengeOver);
    let nobody = "0".repeat(32);
    assert_eq!(reason(world.check(1, HOME, &nobody, &code).await), Reason::CodeInvalid);
    assert_eq!(world.get(1, &id).await.unwrap().attempts_left, 3, "nobody else's guess counts");
}

#[tokio::test]
async fn a_lost_answer_is_given_again_and_identity_may_be_away_meanwhile() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    *world.identity.away.lock().unwrap() = true;
    assert_eq!(reason(world.check(1, HOME, &id, &code).await), Reason::StoreUnavailable);
    assert_eq!(world.get(1, &id).await.unwrap().state(), pb::VerificationState::Verified);
    *world.identity.away.lock().unwrap() = false;
    world.clock.advance(10 * MINUTE);
    let first = world.check(1, HOME, &id, &code).await.unwrap();
    // The session was upgraded by then: who did not hear of it holds an assertion from before.
    let stale = Subject::AssertionStale(contact(1), Some(session(1)));
    *world.marks.lock().unwrap() = vec![mark(stale, 2)];
    assert_eq!(world.check(1, HOME, &id, &code).await.unwrap(), first);
    let proven = world.identity.proven.lock().unwrap().clone();
    assert_eq!(proven.len(), 2);
    assert_eq!((proven[0].at, proven[0].verification), (proven[1].at, proven[1].verification), "one operation");
    assert_eq!(proven[0].at, NOW, "when the code came in, not when identity was told");
    assert_eq!(reason(world.check(1, HOME, &id, &other_than(&code)).await), Reason::CodeInvalid);
    assert_eq!(reason(world.check(1, HOME, &id, &code).await), Reason::ChallengeOver, "no place to guess at");
}

fn mark(subject: Subject, min_epoch: u32) -> Mark {
    let key = MarkKey::new("acme".parse().unwrap(), subject);
    let (reason, actor) = (String::new(), String::new());
    Mark { key, effective: NOW.before(MINUTE), expires: None, reason, actor, revision: 1, min_epoch }
}

#[tokio::test]
async fn an_assertion_from_before_an_upgrade_opens_nothing_new() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    *world.marks.lock().unwrap() = vec![mark(Subject::AssertionStale(contact(1), Some(session(1))), 2)];
    assert_eq!(reason(world.check(1, HOME, &id, &code).await), Reason::AssertionStale);
    assert_eq!(reason(world.begin(1, HOME, ANN).await), Reason::AssertionStale);
    assert_eq!(reason(world.get(1, &id).await), Reason::AssertionStale);
    assert!(world.identity.proven.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_was_revoked_or_blocked_proves_nothing() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    for subject in [
        Subject::SessionRevoked(contact(1), session(1)),
        Subject::ContactBlocked(contact(1)),
        Subject::WorkspaceDisabled,
    ] {
        let mut revoked = mark(subject, 0);
        revoked.effective = NOW.after(MINUTE);
        *world.marks.lock().unwrap() = vec![revoked];
        drop(world.check(1, HOME, &id, &code).await.unwrap_err());
        drop(world.begin(1, HOME, ANN).await.unwrap_err());
    }
    assert!(world.identity.proven.lock().unwrap().is_empty());
}

#[tokio::test]
async fn resending_sends_the_same_code_and_keeps_its_count() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    drop(world.check(1, HOME, &id, &other_than(&code)).await.unwrap_err());
    let soon = world.resend(1, &id).await.unwrap_err();
    assert_eq!((soon.reason(), soon.retry_after()), (Reason::RateLimited, Some(Duration::from_secs(30))));
    world.clock.advance(Duration::from_secs(30));
    let resent = world.resend(1, &id).await.unwrap();
    assert_eq!(resent.expire_time.unwrap().seconds, NOW.as_seconds() + 600, "the end stays");
    assert_eq!(resent.resend_time.unwrap().seconds, NOW.as_seconds() + 90);
    assert_eq!(world.code(&id).await, code);
    let numbers: Vec<_> = world.messages(&id).iter().map(|message| message.send_number).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(world.get(1, &id).await.unwrap().attempts_left, 2);
}

#[tokio::test]
async fn an_impatient_caller_gets_the_same_verification_and_a_patient_one_a_new_one() {
    let world = World::start().await;
    let first = world.begin(1, HOME, ANN).await.unwrap();
    assert_eq!(world.begin(1, HOME, "ANN@example.com").await.unwrap(), first, "as if its answer had been lost");
    assert_eq!(world.admission.taken("otp sends per session"), 1, "and nothing more is taken");
    let other = pb::StartVerificationRequest { purpose: "refund".to_owned(), ..world.asked(1, HOME, ANN) };
    assert_eq!(reason(world.send(other).await), Reason::RateLimited);
    let elsewhere = world.begin(1, HOME, "bob@example.com").await.unwrap();
    assert_eq!(world.get(1, &first.verification_id).await.unwrap().state(), pb::VerificationState::Issued);
    world.clock.advance(Duration::from_secs(30));
    let second = world.begin(1, HOME, ANN).await.unwrap();
    assert_ne!(second.verification_id, first.verification_id);
    assert_eq!(second.resend_time.unwrap().seconds, NOW.as_seconds() + 90, "the delay grows on");
    assert_eq!(world.get(1, &first.verification_id).await.unwrap().state(), pb::VerificationState::Superseded);
    assert_eq!(world.get(1, &elsewhere.verification_id).await.unwrap().state(), pb::VerificationState::Issued);
    let message = world.messages(&first.verification_id).pop().unwrap();
    let due = world.otp.verifications().content(&message).await.unwrap();
    assert!(matches!(due, Due::Nothing), "nobody sends what is superseded");
}

#[tokio::test]
async fn a_message_that_got_lost_with_its_answer_is_put_out_by_the_repeat() {
    let world = World::start().await;
    *world.outbox.away.lock().unwrap() = true;
    assert_eq!(reason(world.begin(1, HOME, ANN).await), Reason::StoreUnavailable);
    *world.outbox.away.lock().unwrap() = false;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    assert_eq!(world.messages(&id).len(), 1);
    assert_eq!(world.code(&id).await.len(), 6);
}

#[tokio::test]
async fn a_cancelled_verification_stays_so() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    assert_eq!(world.cancel(1, &id).await.unwrap().state(), pb::VerificationState::Cancelled);
    assert_eq!(world.cancel(1, &id).await.unwrap().state(), pb::VerificationState::Cancelled);
    assert_eq!(reason(world.check(1, HOME, &id, &code).await), Reason::ChallengeOver);
    assert_eq!(reason(world.begin(1, HOME, ANN).await), Reason::RateLimited, "cancelling shortens no delay");
}

#[tokio::test]
async fn delivery_shows_to_the_session_and_to_nobody_in_the_answer() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    assert_eq!(world.get(1, &id).await.unwrap().delivery(), pb::DeliveryState::Queued);
    world.report(&id, Delivery::Failed).await;
    assert_eq!(world.get(1, &id).await.unwrap().delivery(), pb::DeliveryState::Failed);
    world.clock.advance(Duration::from_secs(30));
    world.resend(1, &id).await.unwrap();
    assert_eq!(world.get(1, &id).await.unwrap().delivery(), pb::DeliveryState::Queued);
    world.report(&id, Delivery::Sent).await;
    let shown = world.get(1, &id).await.unwrap();
    assert_eq!((shown.delivery(), shown.state()), (pb::DeliveryState::Sent, pb::VerificationState::Issued));
    assert_eq!((shown.masked_address.as_str(), shown.purpose.as_str()), ("a***@e***.com", "look-up-order"));
}

#[tokio::test]
async fn answers_have_one_size_whatever_is_known_of_the_address() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    world.check(1, HOME, &id, &code).await.unwrap();
    let size = |started: &pb::StartVerificationResponse| {
        (started.verification_id.len(), started.masked_address.len(), started.resend_time.is_some())
    };
    let known = world.begin(2, HOME, ANN).await.unwrap();
    let unknown = world.begin(3, HOME, "somebody.else.entirely@example.org").await.unwrap();
    assert_eq!(size(&known), size(&unknown));
}

#[tokio::test]
async fn only_the_messenger_starts_and_checks() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let asked = world.request("agent", world.asked(1, HOME, ANN));
    assert_eq!(reason(plain(world.grpc.start_verification(asked).await)), Reason::CallerNotAllowed);
    let message = pb::CheckVerificationRequest {
        assertion: world.assertion(1),
        verification_id: id,
        code: "123456".to_owned(),
        client_context: device(HOME),
    };
    let asked = world.request("agent", message);
    assert_eq!(reason(plain(world.grpc.check_verification(asked).await)), Reason::CallerNotAllowed);
    let nobody = tonic::Request::new(pb::GetVerificationRequest::default());
    assert_eq!(reason(plain(world.grpc.get_verification(nobody).await)), Reason::CallerUnauthenticated);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let world = World::start().await;
    let asked = || world.asked(1, HOME, ANN);
    for (request, expected) in [
        (pb::StartVerificationRequest { assertion: String::new(), ..asked() }, Reason::AssertionMissing),
        (pb::StartVerificationRequest { assertion: "a.b.c".to_owned(), ..asked() }, Reason::AssertionInvalid),
        (
            pb::StartVerificationRequest { assertion: world.assertion_in("globex", 1), ..asked() },
            Reason::WorkspaceUnknown,
        ),
        (pb::StartVerificationRequest { channel: 0, ..asked() }, Reason::InputInvalid),
        (pb::StartVerificationRequest { channel: 9, ..asked() }, Reason::InputInvalid),
        (pb::StartVerificationRequest { purpose: "other".to_owned(), ..asked() }, Reason::InputInvalid),
        (pb::StartVerificationRequest { purpose: String::new(), ..asked() }, Reason::InputInvalid),
        (pb::StartVerificationRequest { locale: "x_y".to_owned(), ..asked() }, Reason::InputInvalid),
        (pb::StartVerificationRequest { client_context: device("localhost"), ..asked() }, Reason::InputInvalid),
        (world.asked(1, HOME, "ann"), Reason::InputInvalid),
        (world.asked(1, HOME, "+447400123456"), Reason::InputInvalid),
        (world.asked(1, HOME, "+35315501234"), Reason::InputInvalid),
    ] {
        let refusal = world.send(request).await.unwrap_err();
        assert_eq!(refusal.reason(), expected, "{refusal}");
        assert!(!refusal.to_string().contains("ann@"), "{refusal}");
    }
    assert!(world.outbox.messages.lock().unwrap().is_empty());
    assert!(world.begin(1, HOME, "+353851234567").await.is_ok());
    let email_only = World::with(&json!({"sms": null})).await;
    assert_eq!(reason(email_only.begin(1, HOME, "+353851234567").await), Reason::InputInvalid);
}

#[tokio::test]
async fn the_store_holds_no_address_and_no_code() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    let id: VerificationId = id.parse().unwrap();
    let held = world.otp.verifications().read(&"acme".parse().unwrap(), id).await.unwrap().unwrap();
    let sealed = world.otp.verifications().sealed(&held.challenge);
    for secret in [ANN.as_bytes(), code.as_bytes(), b"look-up-order"] {
        assert!(!sealed.windows(secret.len()).any(|window| window == secret));
    }
    assert!(!format!("{:?} {:?}", held.challenge, world.otp).contains("ann@"));
}
