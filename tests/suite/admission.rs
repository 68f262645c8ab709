//! Admission from outside, through several processes at once on one Redis: one of a thousand duplicates is admitted, no
//! limit is ever exceeded, and nothing that was acknowledged is lost by a crash.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use safeconduct_proto::admission::v1::admit_response::Decision;
use safeconduct_proto::admission::v1::lookup_response::Answer;
use safeconduct_proto::admission::v1::{AdmitRequest, Charge};
use safeconduct_testkit::admission::{admit, contact, daily, lookup, rate, rolling, settle};
use safeconduct_testkit::{Caller, Layout, Options, Store, Suite, token, until};
use tokio::task::JoinSet;
use tonic::Status;

const REPLICAS: [&str; 3] = ["admission-b", "admission-c", "admission-d"];

/// Four processes of admission on one Redis, and a caller for each.
async fn four(settings: &[(&str, &str)]) -> anyhow::Result<(Suite, Vec<Caller>)> {
    let mut options =
        Options::new(Layout::Only("admission"), Store::Redis).set("SAFECONDUCT_LIMITS__IN_FLIGHT", "4096");
    for (name, value) in settings {
        options = options.set(name, value);
    }
    let mut suite = Suite::start(options).await?;
    for name in REPLICAS {
        suite.replicate("admission", name).await?;
    }
    let callers = callers(&suite)?;
    Ok((suite, callers))
}

fn callers(suite: &Suite) -> anyhow::Result<Vec<Caller>> {
    ["admission"].iter().chain(&REPLICAS).map(|name| suite.caller_of(name, token::SISTER)).collect()
}

async fn ask(caller: &Caller, request: &AdmitRequest) -> Result<Decision, Status> {
    let answer = caller.admission().admit(request.clone()).await?.into_inner();
    answer.decision.ok_or_else(|| Status::internal("an answer without a decision"))
}

#[tokio::test]
async fn of_a_thousand_duplicates_through_three_processes_one_is_admitted() {
    let (_suite, callers) = four(&[]).await.unwrap();
    let person = contact(1);
    let mut calls = JoinSet::new();
    for n in 0..1000 {
        let caller = callers[n % 3].clone();
        // Each is a request of its own: another execution, another operation, the same key.
        let request = admit(&person, 7, vec![daily("money-out", true, 10, 10)]).unwrap();
        calls.spawn(async move { ask(&caller, &request).await.map(|decision| (request.execution_id, decision)) });
    }
    let (mut admitted, mut running) = (Vec::new(), BTreeSet::new());
    for answer in calls.join_all().await {
        match answer.unwrap() {
            (id, Decision::Admitted(_)) => admitted.push(id),
            (_, Decision::Running(record)) => drop(running.insert(record.execution_id)),
            (_, other) => panic!("a duplicate was answered {other:?}"),
        }
    }
    assert_eq!(admitted.len(), 1, "one of a thousand");
    assert_eq!(running.into_iter().collect::<Vec<_>>(), admitted, "the others are told of that one");
}

/// A hundred clients take from a limit through four processes for a while.
async fn hammer(callers: &[Caller], length: Duration, charge: fn() -> Charge) -> (u64, u64) {
    let (passed, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let end = Instant::now() + length;
    let mut clients = JoinSet::new();
    for n in 0..100 {
        let (caller, passed, refused) = (callers[n % callers.len()].clone(), Arc::clone(&passed), Arc::clone(&refused));
        clients.spawn(async move {
            while Instant::now() < end {
                let request = lookup(&contact(2), vec![charge()]);
                match caller.admission().lookup(request).await?.into_inner().answer {
                    Some(Answer::Absent(_)) => passed.fetch_add(1, Ordering::Relaxed),
                    Some(Answer::Denied(_)) => refused.fetch_add(1, Ordering::Relaxed),
                    other => panic!("{other:?}"),
                };
            }
            Ok::<_, Status>(())
        });
    }
    for ended in clients.join_all().await {
        ended.unwrap();
    }
    (passed.load(Ordering::Relaxed), refused.load(Ordering::Relaxed))
}

#[tokio::test]
async fn no_rate_lets_one_too_many_pass() {
    let (_suite, callers) = four(&[]).await.unwrap();
    for (per_contact, name) in [(true, "a contact's"), (false, "everybody's")] {
        // A burst of 50, and then one in 100 ms: the time is taken from before the first to after the last.
        let charge: fn() -> Charge = if per_contact {
            || rate("burst", true, 10, Duration::from_secs(1), 50)
        } else {
            || rate("shared", false, 10, Duration::from_secs(1), 50)
        };
        let start = Instant::now();
        let (passed, refused) = hammer(&callers, Duration::from_secs(2), charge).await;
        let most = 50 + u64::try_from(start.elapsed().as_millis() / 100).unwrap() + 1;
        assert!(passed <= most, "{name} rate let {passed} pass, and {most} were possible");
        assert!(passed >= 60 && refused > 100, "{name} rate: {passed} passed, {refused} were refused");
    }
    // And where nothing comes back in the meantime, exactly the burst.
    for charge in [(|| rate("rare", true, 1, Duration::from_hours(1), 50)) as fn() -> Charge, || {
        rate("shared-and-rare", false, 1, Duration::from_hours(1), 50)
    }] {
        let (passed, refused) = hammer(&callers, Duration::from_secs(1), charge).await;
        assert_eq!(passed, 50);
        assert!(refused > 50, "{refused} were refused");
    }
}

/// Clients take random amounts and settle as they like; at no moment more than the cap is out.
async fn drain(callers: &[Caller], who: u64, cap: fn(i64) -> Charge) -> i64 {
    let kept = Arc::new(AtomicI64::new(0));
    let mut clients = JoinSet::new();
    for n in 0..100_u64 {
        let (caller, kept) = (callers[usize::try_from(n).unwrap() % callers.len()].clone(), Arc::clone(&kept));
        clients.spawn(async move {
            let person = contact(who);
            for turn in 0..6_u64 {
                let amount = i64::try_from(1 + (n * 31 + turn * 17) % 97).unwrap();
                let request = admit(&person, n * 100 + turn, vec![cap(amount)]).unwrap();
                match ask(&caller, &request).await? {
                    // A third gives back what it took.
                    Decision::Admitted(admitted) => {
                        let happened = (n + turn) % 3 != 0;
                        caller.admission().settle(settle(&request, admitted.fencing_token, happened)).await?;
                        if happened {
                            kept.fetch_add(amount, Ordering::Relaxed);
                        }
                    }
                    Decision::Denied(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            Ok::<_, Status>(())
        });
    }
    for ended in clients.join_all().await {
        ended.unwrap();
    }
    // What is left can be taken to the last unit, and not one more.
    let mut left = 0;
    for number in 1_000_000.. {
        let request = admit(&contact(who), number, vec![cap(1)]).unwrap();
        match ask(&callers[0], &request).await.unwrap() {
            Decision::Admitted(_) => left += 1,
            Decision::Denied(denied) => {
                assert_eq!(denied.limit.unwrap().left, 0);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    kept.load(Ordering::Relaxed) + left
}

#[tokio::test]
async fn no_cap_gives_out_one_unit_too_many_or_loses_one() {
    let (_suite, callers) = four(&[]).await.unwrap();
    assert_eq!(drain(&callers, 3, |amount| daily("calendar", true, amount, 5000)).await, 5000);
    assert_eq!(
        drain(&callers, 4, |amount| rolling("rolling", true, amount, 5000, Duration::from_hours(24))).await,
        5000
    );
    assert_eq!(drain(&callers, 5, |amount| daily("shared", false, amount, 5000)).await, 5000);
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_of_admission_and_nothing_is_admitted_twice() {
    let (mut suite, callers) = four(&[]).await.unwrap();
    let admitted = Arc::new(AtomicU64::new(0));
    for victim in REPLICAS {
        let at = REPLICAS.iter().position(|name| *name == victim).unwrap() + 1;
        let mut calls = JoinSet::new();
        let person = contact(40 + u64::try_from(at).unwrap());
        for key in 0..200_u64 {
            let (caller, admitted) = (callers[at].clone(), Arc::clone(&admitted));
            let cap = daily("shared", false, 1, 1_000_000);
            let request = admit(&person, key, vec![cap]).unwrap();
            calls.spawn(async move {
                let answer = ask(&caller, &request).await;
                if answer.is_ok() {
                    admitted.fetch_add(1, Ordering::SeqCst);
                }
                (request, answer)
            });
        }
        // In the midst of them.
        let goal = admitted.load(Ordering::SeqCst) + 40;
        until("some to be admitted", Duration::from_secs(20), async || {
            Ok((admitted.load(Ordering::SeqCst) >= goal).then_some(()))
        })
        .await
        .unwrap();
        suite.kill(victim).unwrap();
        let answers = calls.join_all().await;
        for (request, answer) in answers {
            let again = AdmitRequest {
                execution_id: safeconduct_testkit::admission::execution(&person).unwrap(),
                operation_id: safeconduct_testkit::admission::operation(),
                ..request.clone()
            };
            let later = ask(&callers[0], &again).await.unwrap();
            match (&answer, &later) {
                // It was told to go ahead: the record is there.
                (Ok(Decision::Admitted(_)), Decision::Running(record) | Decision::Unknown(record)) => {
                    assert_eq!(record.execution_id, request.execution_id);
                }
                // It was told nothing: either way is right.
                (Err(_), Decision::Running(_) | Decision::Unknown(_) | Decision::Admitted(_)) => {}
                unexpected => panic!("{unexpected:?}"),
            }
        }
    }
}
