//! A store that fails, or is closed in between.

use std::sync::Arc;

use safeconduct_admission_client::{Admission as _, AdmitAnswer};
use safeconduct_store::{EmbeddedStore, StoreError};
use safeconduct_types::{ManualClock, Reason, Timestamp};

use super::faulty::Fault;
use super::fixture::{Fixture, admitted, same};
use crate::engine::EmbeddedEngine;

#[tokio::test]
async fn a_store_that_is_gone_is_told_with_a_time_to_wait_and_nothing_is_admitted() {
    let (fixture, faulty) = Fixture::faulty().await;
    faulty.at(1, Fault::Refuse);
    let request = fixture.request(&[same(1)]);
    let refusal = fixture.client.admit(request.clone(), fixture.deadline()).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::StoreUnavailable);
    assert!(refusal.retry_after().is_some());
    let _ = admitted(fixture.client.admit(request, fixture.deadline()).await.unwrap());
}

#[tokio::test]
async fn a_store_that_could_forget_admits_nothing() {
    let (fixture, faulty) = Fixture::faulty().await;
    faulty.with(1, Fault::Refuse, StoreError::Unsafe("it evicts".into()));
    let refusal = fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::StoreUnsafe);
}

#[tokio::test]
async fn a_repeat_after_the_answer_was_lost_is_admitted_and_nobody_else_is() {
    let (fixture, faulty) = Fixture::faulty().await;
    faulty.with(1, Fault::Lose, StoreError::Unanswered("lost".into()));
    let request = fixture.request(&[same(1)]);
    let refusal = fixture.client.admit(request.clone(), fixture.deadline()).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::StoreUnavailable);
    let second = fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap();
    assert!(matches!(second, AdmitAnswer::Running(_)));
    let first = admitted(fixture.client.admit(request.clone(), fixture.deadline()).await.unwrap());
    let again = admitted(fixture.client.admit(request, fixture.deadline()).await.unwrap());
    assert_eq!((again.execution, again.token), (first.execution, first.token));
}

#[tokio::test]
async fn a_restart_forgets_nothing_that_was_admitted() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)));
    let open = || async {
        let store = EmbeddedStore::open(directory.path().join("a.redb"), clock.clone()).await.unwrap();
        Fixture::over(Arc::new(EmbeddedEngine::new(store.clone())), Arc::new(store), clock.clone())
    };
    {
        let fixture = open().await;
        let _ = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
    }
    let fixture = open().await;
    let again = fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap();
    assert!(matches!(again, AdmitAnswer::Running(_)));
}

#[tokio::test]
async fn a_fresh_admission_and_its_settle_are_one_round_trip_each() {
    let (fixture, faulty) = Fixture::faulty().await;
    let request = fixture.request(&[super::fixture::caller(1), same(1)]);
    faulty.trips();
    let it = admitted(fixture.client.admit(request, fixture.deadline()).await.unwrap());
    assert_eq!(faulty.trips(), 1, "admit");
    fixture.client.settle(fixture.completed(&it), fixture.deadline()).await.unwrap();
    assert_eq!(faulty.trips(), 1, "settle");
}
