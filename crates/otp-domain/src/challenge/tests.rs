use proptest::prelude::*;
use safeconduct_types::{Secret, SeededRandom};

use super::*;
use crate::address::PlusTags;
use crate::code::CodeKey;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const SECOND: Duration = Duration::from_secs(1);
const LIFETIME: Duration = Duration::from_mins(10);

fn keys() -> CodeKeys {
    CodeKeys::new(("k1".to_owned(), CodeKey::new(&Secret::new(vec![7; 32]))), [])
}

fn new() -> New {
    New {
        id: VerificationId::generate([1; 8], &SeededRandom::new(1)),
        binding: Binding {
            workspace: "acme".parse().unwrap(),
            session: format!("ses_{}", "0".repeat(32)).parse().unwrap(),
            address: Address::parse(Channel::Email, "ann@example.com", PlusTags::Keep).unwrap(),
            purpose: "look-up-order".to_owned(),
        },
        form: CodeForm { alphabet: crate::code::Alphabet::Digits, length: 6 },
        key: "k1".to_owned(),
        locale: None,
        guesses: 3,
        lifetime: LIFETIME,
        most_sends: 4,
        sends_before: 0,
    }
}

fn issued() -> Challenge {
    Issued::issue(new(), NOW).into()
}

fn right(challenge: &Challenge) -> Guess {
    Guess::parse(challenge.facts().code(&keys()).unwrap().expose()).unwrap()
}

fn wrong(challenge: &Challenge) -> Guess {
    let code = challenge.facts().code(&keys()).unwrap();
    let first = if code.expose().starts_with('0') { "1" } else { "0" };
    Guess::parse(&format!("{first}{}", &code.expose()[1..])).unwrap()
}

fn missed(challenge: Challenge, now: Timestamp) -> (Challenge, u8) {
    let guess = wrong(&challenge);
    match challenge.guess(&guess, &keys(), now) {
        Guessed::Wrong(after, left) => (after, left),
        other @ (Guessed::Right(_) | Guessed::Again(_) | Guessed::TooLate(_)) => panic!("{other:?}"),
    }
}

/// The code that message number `send` brings now.
fn sent_now(challenge: &Challenge, send: u8, now: Timestamp) -> Option<Code> {
    match challenge.code_to_send(send, &keys(), now) {
        ToSend::Code(code) => Some(code),
        ToSend::Nothing | ToSend::KeyRetired => None,
    }
}

#[test]
fn the_right_code_verifies_and_three_wrong_ones_exhaust() {
    let challenge = issued();
    let guess = right(&challenge);
    assert!(matches!(challenge.clone().guess(&guess, &keys(), NOW), Guessed::Right(one) if one.at() == NOW));
    let (challenge, left) = missed(challenge, NOW);
    assert_eq!((left, challenge.guesses_left(NOW)), (2, 2));
    let (challenge, left) = missed(challenge, NOW);
    assert_eq!(left, 1);
    assert!(matches!(challenge.clone().guess(&guess, &keys(), NOW), Guessed::Right(_)), "the last guess counts, too");
    let (challenge, left) = missed(challenge, NOW);
    assert_eq!((left, challenge.standing(NOW)), (0, Standing::Exhausted));
    assert_eq!(challenge.guess(&guess, &keys(), NOW), Guessed::TooLate(Standing::Exhausted));
}

#[test]
fn an_expired_challenge_rejects_the_right_code() {
    let (challenge, end) = (issued(), NOW.after(LIFETIME));
    let guess = right(&challenge);
    let just_before = end.before(Duration::from_millis(1));
    assert!(matches!(challenge.clone().guess(&guess, &keys(), just_before), Guessed::Right(_)));
    assert_eq!(challenge.clone().guess(&guess, &keys(), end), Guessed::TooLate(Standing::Expired));
    assert_eq!(challenge.clone().resend(end), Resend::Over(Standing::Expired));
    assert_eq!(challenge.clone().end(Ended::Cancelled, end), None);
    assert!(sent_now(&challenge, 1, end).is_none());
}

#[test]
fn what_was_verified_answers_its_code_again_until_somebody_errs() {
    let challenge = issued();
    let (guess, other) = (right(&challenge), wrong(&challenge));
    let Guessed::Right(verified) = challenge.guess(&guess, &keys(), NOW) else { panic!("the code is right") };
    let verified = Challenge::from(verified);
    let later = NOW.after(LIFETIME);
    assert!(matches!(verified.clone().guess(&guess, &keys(), later), Guessed::Again(one) if one.at() == NOW));
    let Guessed::Wrong(closed, 0) = verified.guess(&other, &keys(), NOW) else { panic!("the code is wrong") };
    assert_eq!(closed.standing(NOW), Standing::Verified);
    assert_eq!(closed.guess(&guess, &keys(), NOW), Guessed::TooLate(Standing::Verified));
}

#[test]
fn resending_keeps_code_count_and_end_and_waits_longer_each_time() {
    let (challenge, _) = missed(issued(), NOW);
    let (code, expires) = (right(&challenge), challenge.facts().expires);
    let mut challenge = challenge;
    let mut now = NOW;
    for (wait, sends) in [(30, 2), (60, 3), (120, 4)] {
        let early = now.after(SECOND * (wait - 1));
        assert_eq!(challenge.clone().resend(early), Resend::TooSoon(SECOND));
        now = now.after(SECOND * wait);
        assert_eq!(challenge.resend_time(early), Some(now));
        let Resend::Counted(after) = challenge.resend(now) else { panic!("send {sends} is due") };
        challenge = after.into();
        assert_eq!((challenge.facts().sends, challenge.facts().expires), (sends, expires));
        assert_eq!((challenge.guesses_left(now), right(&challenge).expose()), (2, code.expose()));
    }
    assert_eq!(challenge.resend_time(now), None);
    assert_eq!(challenge.resend(now.after(LIFETIME / 2)), Resend::NoMore);
}

#[test]
fn a_new_challenge_goes_on_with_the_delay_of_the_one_before() {
    let sends_before = issued().sends_to_remember();
    let second = Challenge::from(Issued::issue(New { sends_before, ..new() }, NOW));
    assert_eq!(second.next_start(), Some(NOW.after(SECOND * 60)));
    assert_eq!(second.sends_to_remember(), 2);
    let guess = right(&second);
    let Guessed::Right(verified) = second.guess(&guess, &keys(), NOW) else { panic!("the code is right") };
    let verified = Challenge::from(verified);
    assert_eq!((verified.next_start(), verified.sends_to_remember()), (None, 0), "who proved it starts anew");
    let many = Challenge::from(Issued::issue(New { sends_before: 255, ..new() }, NOW));
    assert_eq!(many.next_start(), Some(NOW.after(LONGEST_DELAY)));
}

#[test]
fn the_first_guess_of_a_code_is_paid_for_and_each_further_one_is_charged() {
    let challenge = issued();
    assert!(!challenge.next_guess_is_charged(NOW));
    let (challenge, _) = missed(challenge, NOW);
    assert!(challenge.next_guess_is_charged(NOW));
    assert!(!challenge.next_guess_is_charged(NOW.after(LIFETIME)), "nothing is compared any more");
    let strong = Issued::issue(New { form: CodeForm::STRONG, ..new() }, NOW).into();
    assert!(!missed(strong, NOW).0.next_guess_is_charged(NOW), "nobody finds ten letters");
}

#[test]
fn only_the_latest_message_that_nobody_sent_gets_the_code() {
    let challenge = issued();
    assert!(sent_now(&challenge, 1, NOW).is_some());
    assert!(sent_now(&challenge, 2, NOW).is_none());
    let sent = challenge.clone().delivered(1, Delivery::Sent).unwrap();
    assert!(sent_now(&sent, 1, NOW).is_none());
    assert_eq!(sent.clone().delivered(1, Delivery::Failed), None, "what was sent stays sent");
    let Resend::Counted(again) = sent.resend(NOW.after(SECOND * 30)) else { panic!("it is due") };
    let again = Challenge::from(again);
    assert_eq!(again.facts().delivery, Delivery::Queued);
    assert_eq!(again.clone().delivered(1, Delivery::Failed), None, "the first message is no longer the latest");
    assert!(sent_now(&again, 1, NOW).is_none() && sent_now(&again, 2, NOW).is_some());
    for why in [Ended::Cancelled, Ended::Superseded, Ended::Exhausted] {
        assert!(sent_now(&challenge.clone().end(why, NOW).unwrap(), 1, NOW).is_none());
    }
}

#[test]
fn a_challenge_whose_key_was_retired_is_over() {
    let none = CodeKeys::new(("k2".to_owned(), CodeKey::new(&Secret::new(vec![8; 32]))), []);
    let guess = right(&issued());
    assert_eq!(issued().guess(&guess, &none, NOW), Guessed::TooLate(Standing::Expired));
    assert!(matches!(issued().code_to_send(1, &none, NOW), ToSend::KeyRetired));
    assert!(matches!(issued().code_to_send(2, &none, NOW), ToSend::Nothing));
}

/// What can happen to a challenge.
#[derive(Clone, Debug)]
enum Event {
    Right,
    Wrong,
    Resend,
    Cancel,
    Supersede,
    Delivered(bool),
    Wait(u16),
    Store,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Wrong),
        1 => Just(Event::Right),
        2 => Just(Event::Resend),
        1 => Just(Event::Cancel),
        1 => Just(Event::Supersede),
        1 => any::<bool>().prop_map(Event::Delivered),
        3 => (0_u16..400).prop_map(Event::Wait),
        1 => Just(Event::Store),
    ]
}

/// What must hold of a challenge, kept beside it in the simplest words.
#[derive(Default)]
struct Model {
    wrong: u8,
    verified: bool,
    closed: bool,
    ended: Option<Standing>,
    sends: u8,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_happens_three_guesses_decide_once(events in prop::collection::vec(event(), 0..40)) {
        let (mut challenge, mut now) = (issued(), NOW);
        let mut model = Model { sends: 1, ..Model::default() };
        let code = right(&challenge).expose().to_owned();
        for event in events {
            let expired = now >= NOW.after(LIFETIME);
            let open = !model.verified && model.ended.is_none() && !expired;
            match event {
                Event::Right => match challenge.clone().guess(&right(&challenge), &keys(), now) {
                    Guessed::Right(after) => {
                        prop_assert!(open);
                        model.verified = true;
                        challenge = after.into();
                    }
                    Guessed::Again(after) => {
                        prop_assert!(model.verified && !model.closed);
                        prop_assert_eq!(Challenge::from(after), challenge.clone());
                    }
                    Guessed::TooLate(_) => prop_assert!(!open && (!model.verified || model.closed)),
                    Guessed::Wrong(..) => prop_assert!(false, "the right code was called wrong"),
                },
                Event::Wrong => match challenge.clone().guess(&wrong(&challenge), &keys(), now) {
                    Guessed::Wrong(after, left) => {
                        challenge = after;
                        if model.verified {
                            prop_assert!(!model.closed);
                            model.closed = true;
                        } else {
                            prop_assert!(open);
                            model.wrong += 1;
                            prop_assert_eq!(left, 3 - model.wrong);
                            if model.wrong == 3 {
                                model.ended = Some(Standing::Exhausted);
                            }
                        }
                    }
                    Guessed::TooLate(_) => prop_assert!(!open && (!model.verified || model.closed)),
                    Guessed::Right(_) | Guessed::Again(_) => prop_assert!(false, "a wrong code was called right"),
                },
                Event::Resend => match challenge.clone().resend(now) {
                    Resend::Counted(after) => {
                        prop_assert!(open && model.sends < 4);
                        model.sends += 1;
                        challenge = after.into();
                    }
                    Resend::TooSoon(_) => prop_assert!(open),
                    Resend::NoMore => prop_assert!(open && model.sends == 4),
                    Resend::Over(_) => prop_assert!(!open),
                },
                Event::Cancel | Event::Supersede => {
                    let (why, standing) = if matches!(event, Event::Cancel) {
                        (Ended::Cancelled, Standing::Cancelled)
                    } else {
                        (Ended::Superseded, Standing::Superseded)
                    };
                    match challenge.clone().end(why, now) {
                        Some(after) => {
                            prop_assert!(open);
                            model.ended = Some(standing);
                            challenge = after;
                        }
                        None => prop_assert!(!open),
                    }
                }
                Event::Delivered(sent) => {
                    let how = if sent { Delivery::Sent } else { Delivery::Failed };
                    challenge = challenge.clone().delivered(model.sends, how).unwrap_or(challenge);
                }
                Event::Wait(seconds) => now = now.after(SECOND * u32::from(seconds)),
                Event::Store => {
                    challenge = serde_json::from_str(&serde_json::to_string(&challenge).unwrap()).unwrap();
                }
            }
            let right = right(&challenge);
            prop_assert_eq!(right.expose(), &code);
            prop_assert_eq!(challenge.facts().expires, NOW.after(LIFETIME));
            let standing = match (&model, now >= NOW.after(LIFETIME)) {
                (Model { verified: true, .. }, _) => Standing::Verified,
                (Model { ended: Some(standing), .. }, _) => *standing,
                (_, true) => Standing::Expired,
                (_, false) => Standing::Issued,
            };
            prop_assert_eq!(challenge.standing(now), standing);
        }
    }
}

#[test]
fn a_stored_challenge_names_no_code() {
    let stored = serde_json::to_string(&issued()).unwrap();
    assert!(!stored.contains(right(&issued()).expose()), "{stored}");
}
