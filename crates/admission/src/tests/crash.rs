//! A process that dies at any point of taking and settling: never too much, nothing promised is freed, and what leaked
//! comes back within a lease.

use std::time::Duration;

use safeconduct_admission_client::{Admission as _, AdmitAnswer, Admitted, Charge, Settlement};

use super::faulty::Fault;
use super::fixture::{Fixture, count, own_count, same};

const MAX: i64 = 3;

fn charges() -> Vec<Charge> {
    vec![own_count("mine", MAX), count("ours", MAX)]
}

/// How many more are admitted before a limit denies.
async fn how_many_more(fixture: &Fixture) -> i64 {
    for admitted in 0.. {
        let mut request = fixture.request(&[]);
        request.charges = charges();
        match fixture.client.admit(request, fixture.deadline()).await.unwrap() {
            AdmitAnswer::Admitted(_) => {}
            AdmitAnswer::Denied(_) => return admitted,
            other => panic!("{other:?}"),
        }
    }
    unreachable!()
}

#[tokio::test]
async fn wherever_an_admission_dies_its_charges_come_back_unless_it_was_promised() {
    let mut points = 0;
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for step in 1..=3 {
            let (fixture, faulty) = Fixture::faulty().await;
            let mut request = fixture.request(&[same(1)]);
            request.charges = charges();
            faulty.at(step, fault);
            let answer = fixture.client.admit(request.clone(), fixture.deadline()).await;
            if !faulty.revive() {
                assert!(matches!(answer, Ok(AdmitAnswer::Admitted(_))), "{answer:?}");
                continue;
            }
            points += 1;
            assert!(answer.is_err(), "nothing was promised");
            // The second stroke is the promise.
            let promised = step == 2 && fault == Fault::CrashAfter;
            fixture.clock.advance(Duration::from_secs(11));
            assert_eq!(how_many_more(&fixture).await, MAX - i64::from(promised), "step {step}, {fault:?}");
            let again = fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap();
            match again {
                AdmitAnswer::Unknown(_) => assert!(promised, "step {step}, {fault:?}"),
                AdmitAnswer::Admitted(_) => assert!(!promised, "step {step}, {fault:?}"),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(points, 4);
}

#[tokio::test]
async fn a_denial_by_a_shared_limit_gives_back_what_the_contact_took_wherever_it_dies() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for step in 1..=4 {
            let (fixture, faulty) = Fixture::faulty().await;
            let mut request = fixture.request(&[same(1)]);
            request.charges = vec![own_count("mine", MAX), count("closed", 0)];
            faulty.at(step, fault);
            let answer = fixture.client.admit(request, fixture.deadline()).await;
            if !faulty.revive() {
                assert!(matches!(answer, Ok(AdmitAnswer::Denied(_))), "{answer:?}");
            }
            fixture.clock.advance(Duration::from_secs(11));
            assert_eq!(how_many_more(&fixture).await, MAX, "step {step}, {fault:?}");
        }
    }
}

async fn take(fixture: &Fixture) -> Admitted {
    let mut request = fixture.request(&[]);
    request.charges = charges();
    super::fixture::admitted(fixture.client.admit(request, fixture.deadline()).await.unwrap())
}

#[tokio::test]
async fn wherever_a_settle_dies_its_repeat_ends_it_and_a_release_gives_everything_back_once() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for step in 1..=2 {
            for repeated in [false, true] {
                let (fixture, faulty) = Fixture::faulty().await;
                let one = take(&fixture).await;
                let _ = take(&fixture).await;
                let word = fixture.word(&one, fixture.nothing());
                faulty.at(step, fault);
                let answer = fixture.client.settle(word.clone(), fixture.deadline()).await;
                assert!(faulty.revive(), "a settle with shared limits has two strokes");
                // The record is the truth: once that is written, the rest comes by itself.
                assert_eq!(answer.is_ok(), step == 2, "step {step}, {fault:?}: {answer:?}");
                if repeated || step == 1 {
                    fixture.client.settle(word, fixture.deadline()).await.unwrap();
                }
                fixture.clock.advance(Duration::from_secs(11));
                assert_eq!(how_many_more(&fixture).await, MAX - 1, "step {step}, {fault:?}, {repeated}");
            }
        }
    }
}

#[tokio::test]
async fn wherever_a_settle_dies_what_was_completed_stays_counted_once() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for step in 1..=2 {
            let (fixture, faulty) = Fixture::faulty().await;
            let one = take(&fixture).await;
            let word = fixture.completed(&one);
            faulty.at(step, fault);
            let _ = fixture.client.settle(word.clone(), fixture.deadline()).await;
            faulty.revive();
            fixture.clock.advance(Duration::from_secs(11));
            assert_eq!(how_many_more(&fixture).await, MAX - 1, "step {step}, {fault:?}");
            fixture.client.settle(word, fixture.deadline()).await.unwrap();
            assert_eq!(how_many_more(&fixture).await, 0, "step {step}, {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_process_that_wakes_up_after_its_lease_is_too_late_if_somebody_has_looked() {
    // The first stroke is done and its answer lost; the process repeats the operation much later.
    let (fixture, faulty) = Fixture::faulty().await;
    let mut request = fixture.request(&[same(1)]);
    request.charges = charges();
    faulty.at(2, Fault::Refuse);
    assert!(fixture.client.admit(request.clone(), fixture.deadline()).await.is_err());
    fixture.clock.advance(Duration::from_secs(11));
    let mut other = fixture.request(&[same(1)]);
    other.charges = charges();
    let other = super::fixture::admitted(fixture.client.admit(other, fixture.deadline()).await.unwrap());
    let late = fixture.client.admit(request, fixture.deadline()).await;
    assert!(!matches!(late, Ok(AdmitAnswer::Admitted(_))), "{late:?}");
    fixture.client.settle(fixture.word(&other, fixture.nothing()), fixture.deadline()).await.unwrap();
    assert_eq!(how_many_more(&fixture).await, MAX);
}

#[tokio::test]
async fn an_extension_that_dies_takes_nothing_that_a_release_does_not_give_back() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for step in 1..=2 {
            let (fixture, faulty) = Fixture::faulty().await;
            let one = take(&fixture).await;
            let mut more = fixture.more(&one);
            more.charges = charges();
            faulty.at(step, fault);
            let _ = fixture.client.extend(more.clone(), fixture.deadline()).await;
            faulty.revive();
            fixture.client.settle(fixture.word(&one, fixture.nothing()), fixture.deadline()).await.unwrap();
            assert_eq!(how_many_more(&fixture).await, MAX, "step {step}, {fault:?}");
        }
    }
}

#[tokio::test]
async fn what_was_really_used_is_counted_in_both_places() {
    let (fixture, _) = Fixture::faulty().await;
    let one = take(&fixture).await;
    let actual = vec![
        safeconduct_admission_client::ActualAmount { charge: 0, amount: 2 },
        safeconduct_admission_client::ActualAmount { charge: 1, amount: 2 },
    ];
    let word = fixture.word(&one, Settlement::Completed { outcome: b"done".to_vec(), retain: None, actual });
    let settled = fixture.client.settle(word, fixture.deadline()).await.unwrap();
    let left: Vec<i64> = settled.remaining.iter().map(|one| one.left).collect();
    assert_eq!(left, [MAX - 2, MAX - 2]);
    assert_eq!(how_many_more(&fixture).await, MAX - 2);
}
