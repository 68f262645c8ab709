//! What leaked is looked after by whoever is denied; what was closed by mistake or freed by an operator comes back.

use std::time::Duration;

use safeconduct_admission_client::{
    ActualAmount, Admission as _, AdmitAnswer, Admitted, Charge, Lookup, LookupAnswer, Settle, Settlement, Shape,
    Target, Usage,
};
use safeconduct_admission_domain::step::{IndexOp, When};
use safeconduct_store::RecordKey;
use safeconduct_types::{Clock as _, ContactId, ExecutionId};

use super::faulty::{Fault, Faulty};
use super::fixture::{Fixture, admitted, contact, count, limited, own_count, same, workspace};
use crate::engine::Step;
use crate::healing::{AT_A_TIME, ROUNDS};
use crate::keys;

fn somebody(number: u8) -> ContactId {
    ContactId::from_digest(&[number; 16])
}

async fn ask(fixture: &Fixture, contact: ContactId, charges: Vec<Charge>) -> AdmitAnswer {
    let mut request = fixture.request(&[]);
    request.execution = ExecutionId::generate(&workspace(), &contact, &fixture.random);
    request.contact = contact;
    request.charges = charges;
    fixture.client.admit(request, fixture.deadline()).await.unwrap()
}

/// Releases it, and dies before its hold is closed.
async fn leak(fixture: &Fixture, faulty: &Faulty, contact: ContactId, it: &Admitted) {
    let word = Settle { contact, ..fixture.word(it, fixture.nothing()) };
    faulty.at(2, Fault::CrashBefore);
    fixture.client.settle(word, fixture.deadline()).await.unwrap();
    assert!(faulty.revive());
}

#[tokio::test]
async fn what_leaked_is_there_for_the_first_who_asks_however_many_hold_what_cannot_come_back() {
    let (fixture, faulty) = Fixture::faulty().await;
    let ours = || vec![count("ours", 101)];
    let mut last = None;
    for _ in 0..101 {
        last = Some(admitted(ask(&fixture, contact(), ours()).await));
        fixture.clock.advance(Duration::from_millis(1));
    }
    leak(&fixture, &faulty, contact(), &last.unwrap()).await;
    fixture.clock.advance(Duration::from_secs(11));
    let _ = admitted(ask(&fixture, contact(), ours()).await);
    let denied = ask(&fixture, contact(), ours()).await;
    assert!(matches!(denied, AdmitAnswer::Denied(_)), "a hundred are unknown: {denied:?}");
}

#[tokio::test]
async fn who_is_denied_is_denied_although_what_is_due_cannot_be_looked_after_and_what_is_behind_it_is() {
    let (fixture, faulty) = Fixture::faulty().await;
    let ours = || vec![count("ours", 2)];
    for number in [1, 2] {
        let it = admitted(ask(&fixture, somebody(number), ours()).await);
        leak(&fixture, &faulty, somebody(number), &it).await;
        fixture.clock.advance(Duration::from_millis(1));
    }
    let route = ExecutionId::route_of(&workspace(), &somebody(1));
    faulty.lose(keys::contact_slot(&fixture.admission.ledger.keyer, &workspace(), &route));
    fixture.clock.advance(Duration::from_secs(11));
    let _ = admitted(ask(&fixture, somebody(3), ours()).await);
    let denied = ask(&fixture, somebody(3), ours()).await;
    assert!(matches!(denied, AdmitAnswer::Denied(_)), "{denied:?}");
}

/// The list of the holds of the workspace.
fn holds(fixture: &Fixture) -> RecordKey {
    let keyer = &fixture.admission.ledger.keyer;
    keys::holds(keyer, &keys::shared_slot(keyer, &workspace()))
}

/// Lists so many holds of executions that are gone as due.
async fn list(fixture: &Fixture, contact: ContactId, count: usize) {
    let key = holds(fixture);
    let add = |_| {
        let id = ExecutionId::generate(&workspace(), &contact, &fixture.random);
        IndexOp::Add { key: key.clone(), score: When::Now(-1), member: id.as_str().as_bytes().to_vec() }
    };
    let index = (0..count).map(add).collect();
    let step = Step { operation: fixture.operation(), changes: vec![], meters: vec![], index };
    let slot = keys::shared_slot(&fixture.admission.ledger.keyer, &workspace());
    let _ = fixture.admission.ledger.engine.step(&slot, step).await.unwrap();
}

/// How many holds are due.
async fn due(fixture: &Fixture) -> usize {
    let ledger = &fixture.admission.ledger;
    let slot = keys::shared_slot(&ledger.keyer, &workspace());
    let now = ledger.engine.now_estimate().as_millis();
    ledger.engine.index(&slot, &holds(fixture), 0..=now, 10_000, false).await.unwrap().1.len()
}

#[tokio::test]
async fn who_is_denied_looks_after_so_many_and_no_more_and_the_next_one_goes_on() {
    let fixture = Fixture::new().await;
    let _ = admitted(ask(&fixture, contact(), vec![count("ours", 1)]).await);
    let most = usize::try_from(ROUNDS).unwrap() * AT_A_TIME;
    let mut rest = most + 40;
    list(&fixture, somebody(2), rest).await;
    while rest > 0 {
        let denied = ask(&fixture, contact(), vec![count("ours", 1)]).await;
        assert!(matches!(denied, AdmitAnswer::Denied(_)), "{denied:?}");
        let now = due(&fixture).await;
        // Less than the most only if this machine is slow.
        assert!(now < rest && now + most >= rest, "{rest} {now}");
        rest = now;
    }
}

#[tokio::test]
async fn what_is_due_is_looked_after_once_however_many_are_denied_at_a_time() {
    let (fixture, faulty) = Fixture::faulty().await;
    let _ = admitted(ask(&fixture, contact(), vec![count("ours", 1)]).await);
    list(&fixture, somebody(2), 160).await;
    faulty.trips();
    while due(&fixture).await > 0 {
        let asks = (10..50).map(|number| ask(&fixture, somebody(number), vec![count("ours", 1)]));
        for answer in futures_util::future::join_all(asks).await {
            assert!(matches!(answer, AdmitAnswer::Denied(_)), "{answer:?}");
        }
    }
    // Three strokes each for 160 holds; and those who are denied ask again after each round.
    let trips = faulty.trips();
    assert!(trips < 1500, "{trips}");
}

#[tokio::test]
async fn who_is_denied_hears_it_soon_although_what_is_due_says_nothing_or_is_gone() {
    let (fixture, faulty) = Fixture::faulty().await;
    let _ = admitted(ask(&fixture, contact(), vec![count("ours", 1)]).await);
    list(&fixture, somebody(2), 40).await;
    let slot = || {
        let route = ExecutionId::route_of(&workspace(), &somebody(2));
        keys::contact_slot(&fixture.admission.ledger.keyer, &workspace(), &route)
    };
    faulty.lose(slot());
    faulty.trips();
    let denied = ask(&fixture, contact(), vec![count("ours", 1)]).await;
    assert!(matches!(denied, AdmitAnswer::Denied(_)), "{denied:?}");
    assert!(faulty.trips() > 40, "all are looked for");
    let denied = ask(&fixture, contact(), vec![count("ours", 1)]).await;
    assert!(matches!(denied, AdmitAnswer::Denied(_)), "{denied:?}");
    assert!(faulty.trips() < 10, "and left alone for a while");

    fixture.clock.advance(Duration::from_secs(2));
    faulty.mute(slot());
    faulty.lose(keys::shared_slot(&fixture.admission.ledger.keyer, &"other".parse().unwrap()));
    // Those that were waited for in vain are left alone by the next one, who waits for the others, and so on.
    for _ in 0..2 {
        let denied = ask(&fixture, contact(), vec![count("ours", 1)]).await;
        assert!(matches!(denied, AdmitAnswer::Denied(_)), "{denied:?}");
    }
    faulty.trips();
    let denied = ask(&fixture, contact(), vec![count("ours", 1)]).await;
    assert!(matches!(denied, AdmitAnswer::Denied(_)), "{denied:?}");
    let trips = faulty.trips();
    assert!(trips < 6, "{trips}");
}

async fn left(fixture: &Fixture, charges: &[Charge]) -> Vec<i64> {
    let limits = charges.iter().map(|charge| charge.limit.clone()).collect();
    let usage = Usage { workspace: workspace(), contact: Some(contact()), limits };
    let usage = fixture.client.usage(usage, fixture.deadline()).await.unwrap();
    usage.remaining.iter().map(|one| one.left).collect()
}

#[tokio::test]
async fn an_operator_who_frees_what_was_completed_gives_back_what_it_used_in_both_places_wherever_it_dies() {
    for fault in [None, Some(Fault::CrashBefore), Some(Fault::CrashAfter)] {
        for step in 1..=3 {
            let (fixture, faulty) = Fixture::faulty().await;
            let charges = || vec![own_count("mine", 4), count("ours", 4)];
            let it = admitted(ask(&fixture, contact(), charges()).await);
            let actual = vec![ActualAmount { charge: 0, amount: 2 }, ActualAmount { charge: 1, amount: 3 }];
            let done = Settlement::Completed { outcome: b"done".to_vec(), retain: None, actual };
            fixture.client.settle(fixture.word(&it, done), fixture.deadline()).await.unwrap();
            assert_eq!(left(&fixture, &charges()).await, [2, 1]);
            // Its hold is forgotten by then.
            fixture.clock.advance(Duration::from_hours(1));

            let freed = fixture.word(&it, Settlement::Freed { outcome: None });
            if let Some(fault) = fault {
                faulty.at(step, fault);
            }
            let answer = fixture.client.settle(freed.clone(), fixture.deadline()).await;
            faulty.revive();
            fixture.clock.advance(Duration::from_mins(2));
            // Denied, and somebody looks after it.
            let many = || vec![Charge { amount: 4, ..count("ours", 4) }];
            let is_freed = answer.is_ok() || (step == 2 && fault == Some(Fault::CrashAfter));
            let first = ask(&fixture, somebody(9), many()).await;
            assert_eq!(matches!(first, AdmitAnswer::Admitted(_)), is_freed, "step {step}, {fault:?}: {first:?}");
            if let AdmitAnswer::Admitted(first) = first {
                let word = Settle { contact: somebody(9), ..fixture.word(&first, fixture.nothing()) };
                fixture.client.settle(word, fixture.deadline()).await.unwrap();
            }
            fixture.client.settle(freed, fixture.deadline()).await.unwrap();
            assert_eq!(left(&fixture, &charges()).await, [4, 4], "step {step}, {fault:?}");
        }
    }
}

#[tokio::test]
async fn what_a_fail_over_may_have_forgotten_is_not_given_back_by_an_operator_who_frees() {
    let (fixture, faulty) = Fixture::faulty().await;
    let charges = || vec![own_count("mine", 4), count("ours", 4)];
    let it = admitted(ask(&fixture, contact(), charges()).await);
    let done = Settlement::Completed { outcome: b"done".to_vec(), retain: None, actual: Vec::new() };
    fixture.client.settle(fixture.word(&it, done), fixture.deadline()).await.unwrap();
    let before = left(&fixture, &charges()).await;
    // Its hold is forgotten by then.
    fixture.clock.advance(Duration::from_hours(1));
    faulty.forget_until(fixture.clock.now());
    fixture.client.settle(fixture.word(&it, Settlement::Freed { outcome: None }), fixture.deadline()).await.unwrap();
    let after = left(&fixture, &charges()).await;
    assert_eq!((after[0], after[1]), (4, before[1]), "of what is shared, it may not be there");
}

#[tokio::test]
async fn a_look_for_somebody_elses_execution_spends_nothing_of_theirs_and_finds_nothing() {
    let fixture = Fixture::new().await;
    let rate = || limited("looks", true, Shape::Rate { permits: 5, period: Duration::from_mins(1), burst: 5 });
    let theirs = admitted(ask(&fixture, contact(), Vec::new()).await);
    let look = |contact| Lookup {
        charges: vec![rate()],
        ..Lookup::only(
            workspace(),
            fixture.operation(),
            Target::Execution { execution: theirs.execution.clone(), contact: Some(contact) },
        )
    };
    for left in [4, 3] {
        let found = fixture.client.lookup(look(somebody(9)), fixture.deadline()).await.unwrap();
        let LookupAnswer::Absent(absent) = &found else { panic!("{found:?}") };
        assert_eq!(absent.remaining[0].left, left, "it is the asking contact's rate");
    }
    assert_eq!(self::left(&fixture, &[rate()]).await, [5]);
    let own = fixture.client.lookup(look(contact()), fixture.deadline()).await.unwrap();
    assert!(matches!(own, LookupAnswer::Running(_)), "{own:?}");
}

#[tokio::test]
async fn a_tombstone_that_has_just_expired_is_made_anew_at_once() {
    let (fixture, faulty) = Fixture::faulty().await;
    let mut request = fixture.request(&[same(1)]);
    request.charges = vec![count("ours", 1)];
    faulty.at(2, Fault::CrashBefore);
    assert!(fixture.client.admit(request, fixture.deadline()).await.is_err());
    faulty.revive();
    let find = || fixture.client.lookup(fixture.find(&[same(1)]), fixture.deadline());
    for minutes in [1, 25, 25, 25] {
        fixture.clock.advance(Duration::from_mins(minutes));
        // Whoever looks voids the reservation and dies.
        faulty.at(1, Fault::CrashAfter);
        assert!(find().await.is_err());
        assert!(faulty.revive());
    }
    fixture.clock.advance(Duration::from_mins(25));
    faulty.trips();
    let found = find().await.unwrap();
    assert!(matches!(found, LookupAnswer::Absent(_)), "{found:?}");
    assert!(faulty.trips() < 24, "it was tried again and again");
}

#[tokio::test]
async fn the_counter_of_a_cap_is_listed_for_its_window_and_a_few_days() {
    let fixture = Fixture::new().await;
    let _ = admitted(ask(&fixture, contact(), vec![own_count("mine", 2)]).await);
    let ledger = &fixture.admission.ledger;
    let slot = keys::contact_slot(&ledger.keyer, &workspace(), &ExecutionId::route_of(&workspace(), &contact()));
    let list = keys::list(&ledger.keyer, &slot);
    let now = ledger.engine.now_estimate().as_millis();
    let (_, members) = ledger.engine.index(&slot, &list, 0..=i64::MAX, 9, true).await.unwrap();
    let day = 86_400_000;
    assert_eq!(members.iter().map(|(score, _)| (score - now) / day).collect::<Vec<_>>(), [6, 0]);
}
