//! Many at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use safeconduct_admission_client::{Admission as _, Admit, AdmitAnswer, LookupAnswer};

use super::fixture::{Fixture, caller, same};

const MANY: u64 = 200;

/// All at once; the answers in the order of the requests.
async fn all_at_once(fixture: &Arc<Fixture>, requests: Vec<Admit>) -> Vec<AdmitAnswer> {
    let mut set = tokio::task::JoinSet::new();
    for (place, request) in requests.into_iter().enumerate() {
        let fixture = Arc::clone(fixture);
        set.spawn(async move { (place, fixture.client.admit(request, fixture.deadline()).await.unwrap()) });
    }
    let mut answers = set.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// The one execution that was admitted and that all others were told of.
fn the_one(answers: &[AdmitAnswer]) -> String {
    let admitted = answers.iter().filter(|answer| matches!(answer, AdmitAnswer::Admitted(_))).count();
    assert_eq!(admitted, 1, "exactly one is admitted");
    let told: BTreeSet<String> = answers
        .iter()
        .map(|answer| match answer {
            AdmitAnswer::Admitted(it) => it.execution.to_string(),
            AdmitAnswer::Running(it) => it.execution.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told.len(), 1, "all are told of the same execution");
    told.into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_thousand_with_one_key_exactly_one_is_admitted() {
    let fixture = Arc::new(Fixture::new().await);
    let requests = (0..1_000).map(|_| fixture.request(&[caller(1), same(1)])).collect();
    the_one(&all_at_once(&fixture, requests).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_hundred_keys_for_the_same_inputs_one_is_admitted_and_all_lead_to_it() {
    let fixture = Arc::new(Fixture::new().await);
    let requests = (0..MANY).map(|number| fixture.request(&[caller(number), same(1_000_000)])).collect();
    let one = the_one(&all_at_once(&fixture, requests).await);
    for number in 0..MANY {
        match fixture.client.lookup(fixture.find(&[caller(number)]), fixture.deadline()).await {
            Ok(LookupAnswer::Running(it)) => assert_eq!(it.execution.to_string(), one),
            other => panic!("key {number} leads nowhere: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_different_requests_of_one_contact_do_not_stand_in_each_others_way() {
    let fixture = Arc::new(Fixture::new().await);
    let requests = (0..MANY).map(|number| fixture.request(&[same(number)])).collect();
    let answers = all_at_once(&fixture, requests).await;
    assert!(answers.iter().all(|answer| matches!(answer, AdmitAnswer::Admitted(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_that_take_over_exactly_one_does() {
    let fixture = Arc::new(Fixture::new().await);
    let first = fixture.request(&[same(1)]);
    let id = first.execution.clone();
    let _ = super::fixture::admitted(fixture.client.admit(first, fixture.deadline()).await.unwrap());
    fixture.clock.advance(std::time::Duration::from_secs(10));
    let requests = (0..50).map(|_| Admit { resume: Some(id.clone()), ..fixture.request(&[same(1)]) }).collect();
    assert_eq!(the_one(&all_at_once(&fixture, requests).await), id.to_string());
}
