//! Duplicates that wait for what comes of the first one.

use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

use safeconduct_admission_client::{Admission as _, AdmitAnswer};

use super::fixture::{Fixture, admitted, caller, same};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_that_wait_all_get_the_result() {
    let fixture = Arc::new(Fixture::new().await);
    let it = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
    let mut set = tokio::task::JoinSet::new();
    for number in 0..100 {
        let fixture = Arc::clone(&fixture);
        set.spawn(async move {
            let mut request = fixture.request(&[caller(number), same(1)]);
            request.wait = Duration::from_secs(10);
            fixture.client.admit(request, fixture.deadline()).await.unwrap()
        });
    }
    tokio::task::yield_now().await;
    fixture.client.settle(fixture.completed(&it), fixture.deadline()).await.unwrap();
    for answer in set.join_all().await {
        assert!(matches!(&answer, AdmitAnswer::Replay(record) if record.outcome == b"done"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_hears_of_what_another_process_settled() {
    let fixture = Arc::new(Fixture::new().await);
    let it = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
    let mut waiting = JoinSet::new();
    {
        let fixture = Arc::clone(&fixture);
        waiting.spawn(async move {
            let mut request = fixture.request(&[same(1)]);
            request.wait = Duration::from_secs(10);
            fixture.client.admit(request, fixture.deadline()).await.unwrap()
        });
    }
    let other = fixture.another_process();
    tokio::task::yield_now().await;
    other.settle(fixture.completed(&it), fixture.deadline()).await.unwrap();
    let answer = waiting.join_next().await.unwrap().unwrap();
    assert!(matches!(answer, AdmitAnswer::Replay(_)), "{answer:?}");
}

#[tokio::test]
async fn who_has_waited_long_enough_is_told_that_it_runs_and_who_gives_up_leaves_nothing_behind() {
    let fixture = Fixture::new().await;
    let it = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
    let mut request = fixture.request(&[same(1)]);
    request.wait = Duration::from_millis(30);
    let answer = fixture.client.admit(request, fixture.deadline()).await.unwrap();
    assert!(matches!(&answer, AdmitAnswer::Running(record) if record.execution == it.execution), "{answer:?}");
    assert_eq!(fixture.admission.waiters.rooms_open(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_first_is_released_one_of_those_who_wait_goes_ahead() {
    let fixture = Arc::new(Fixture::new().await);
    let it = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let fixture = Arc::clone(&fixture);
        set.spawn(async move {
            let mut request = fixture.request(&[same(1)]);
            request.wait = Duration::from_millis(300);
            fixture.client.admit(request, fixture.deadline()).await.unwrap()
        });
    }
    tokio::task::yield_now().await;
    fixture.client.settle(fixture.word(&it, fixture.nothing()), fixture.deadline()).await.unwrap();
    let answers = set.join_all().await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, AdmitAnswer::Admitted(_))).count(), 1, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rooms_are_closed_although_somebody_is_woken_as_the_last_one_leaves() {
    let waiters = Arc::new(crate::wait::Waiters::new());
    let fixture = Fixture::new().await;
    let execution = fixture.request(&[]).execution;
    let mut set = JoinSet::new();
    for _ in 0..4 {
        let (waiters, execution) = (Arc::clone(&waiters), execution.clone());
        set.spawn_blocking(move || {
            for _ in 0..50_000 {
                waiters.visit(&execution);
                waiters.wake(&execution);
            }
        });
    }
    set.join_all().await;
    assert_eq!(waiters.rooms_open(), 0);
}
