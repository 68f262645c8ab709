//! The life of an execution, as a sister sees it.

use std::time::Duration;

use safeconduct_admission_client::{
    Admission as _, Admit, AdmitAnswer, Extend, Lookup, LookupAnswer, Matched, RecordState, Settle, Settlement, Target,
};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_types::{Clock as _, ContactId, ExecutionId, Reason};

use super::fixture::{Fixture, admitted, caller, contact, same, workspace};

fn settle(fixture: &Fixture, execution: &ExecutionId, token: u64, settlement: Settlement) -> Settle {
    Settle {
        workspace: workspace(),
        contact: contact(),
        execution: execution.clone(),
        operation: fixture.operation(),
        token,
        settlement,
    }
}

#[tokio::test]
async fn what_was_settled_is_replayed_byte_by_byte() {
    let fixture = Fixture::new().await;
    let it = admitted(fixture.client.admit(fixture.request(&[caller(1), same(1)]), fixture.deadline()).await.unwrap());
    let outcome: Vec<u8> = (0..=255).collect();
    let completed = Settlement::Completed { outcome: outcome.clone(), retain: None, actual: Vec::new() };
    let word = settle(&fixture, &it.execution, it.token, completed);
    let settled = fixture.client.settle(word.clone(), fixture.deadline()).await.unwrap();
    assert_eq!(fixture.client.settle(word, fixture.deadline()).await.unwrap(), settled, "a repeat");

    let again = fixture.client.admit(fixture.request(&[caller(1), same(1)]), fixture.deadline()).await.unwrap();
    let AdmitAnswer::Replay(record) = again else { panic!("{again:?}") };
    assert_eq!((record.outcome, record.matched, record.state), (outcome, Matched::CallerKey, RecordState::Completed));
    assert_eq!(record.intent, b"intent");
    let other = fixture.client.admit(fixture.request(&[caller(2), same(1)]), fixture.deadline()).await.unwrap();
    assert!(matches!(other, AdmitAnswer::Replay(record) if record.matched == Matched::SameInputs));
}

#[tokio::test]
async fn a_lapsed_lease_reads_as_unknown_until_somebody_takes_over_and_the_old_executor_has_lost() {
    let fixture = Fixture::new().await;
    let it = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
    let extend = Extend {
        workspace: workspace(),
        contact: contact(),
        execution: it.execution.clone(),
        operation: fixture.operation(),
        token: it.token,
        lease: Some(Duration::from_secs(20)),
        checkpoint: Some(b"step 1".to_vec()),
        charges: Vec::new(),
        marks: Vec::new(),
    };
    fixture.client.extend(extend.clone(), fixture.deadline()).await.unwrap();
    fixture.clock.advance(Duration::from_secs(15));
    let retry = fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap();
    assert!(matches!(retry, AdmitAnswer::Running(_)));
    fixture.clock.advance(Duration::from_secs(5));
    let retry = fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap();
    assert!(matches!(retry, AdmitAnswer::Unknown(_)));

    let takeover = Admit { resume: Some(it.execution.clone()), ..fixture.request(&[same(1)]) };
    let mine = admitted(fixture.client.admit(takeover, fixture.deadline()).await.unwrap());
    assert_eq!(mine.execution, it.execution);
    assert!(mine.token > it.token);
    let left = mine.resumed.unwrap();
    assert_eq!((left.intent, left.checkpoint), (b"intent".to_vec(), b"step 1".to_vec()));

    let late = settle(&fixture, &it.execution, it.token, Settlement::Unknown { outcome: None });
    assert_eq!(fixture.client.settle(late, fixture.deadline()).await.unwrap_err().reason(), Reason::LeaseLost);
    let extend = Extend { operation: fixture.operation(), ..extend };
    assert_eq!(fixture.client.extend(extend, fixture.deadline()).await.unwrap_err().reason(), Reason::LeaseLost);
}

#[tokio::test]
async fn who_takes_over_after_a_fail_over_has_a_token_above_every_one_that_may_be_forgotten() {
    let (fixture, faulty) = Fixture::faulty().await;
    let it = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
    fixture.clock.advance(Duration::from_mins(1));
    let forgotten = fixture.clock.now();
    faulty.forget_until(forgotten);
    let takeover = Admit { resume: Some(it.execution.clone()), ..fixture.request(&[same(1)]) };
    let mine = admitted(fixture.client.admit(takeover, fixture.deadline()).await.unwrap());
    // A take-over a millisecond raises it at most by that many.
    assert!(mine.token >= u64::try_from(forgotten.as_millis()).unwrap(), "{}", mine.token);
}

#[tokio::test]
async fn what_was_taken_over_keeps_what_was_known_and_is_released_only_with_the_doubt_resolved() {
    let fixture = Fixture::new().await;
    let it = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
    let unknown = Settlement::Unknown { outcome: Some(b"this much".to_vec()) };
    fixture.client.settle(settle(&fixture, &it.execution, it.token, unknown), fixture.deadline()).await.unwrap();
    let takeover = Admit { resume: Some(it.execution.clone()), ..fixture.request(&[same(1)]) };
    let mine = admitted(fixture.client.admit(takeover, fixture.deadline()).await.unwrap());
    assert_eq!(mine.resumed.unwrap().outcome, b"this much");

    let released = |doubt_resolved| {
        let nothing =
            Settlement::Released { bytes_sent: false, outcome: None, keep_for_caller_key: false, doubt_resolved };
        settle(&fixture, &it.execution, mine.token, nothing)
    };
    let refused = fixture.client.settle(released(false), fixture.deadline()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::InputInvalid);
    fixture.clock.advance(Duration::from_mins(20));
    let retry = fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap();
    assert!(matches!(retry, AdmitAnswer::Unknown(record) if record.outcome == b"this much"));
    fixture.client.settle(released(true), fixture.deadline()).await.unwrap();
    let _ = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
}

#[tokio::test]
async fn a_released_key_is_free_and_the_next_generation_is_another() {
    let fixture = Fixture::new().await;
    let it = admitted(fixture.client.admit(fixture.request(&[caller(1), same(1)]), fixture.deadline()).await.unwrap());
    let released = Settlement::Released {
        bytes_sent: true,
        outcome: Some(b"no".to_vec()),
        keep_for_caller_key: true,
        doubt_resolved: false,
    };
    fixture.client.settle(settle(&fixture, &it.execution, it.token, released), fixture.deadline()).await.unwrap();
    let kept = fixture.client.admit(fixture.request(&[caller(1), same(1)]), fixture.deadline()).await.unwrap();
    assert!(matches!(kept, AdmitAnswer::Replay(record) if record.state == RecordState::Released));
    let next =
        admitted(fixture.client.admit(fixture.request(&[caller(2), same(1)]), fixture.deadline()).await.unwrap());
    assert_eq!(next.generation, 1);
}

#[tokio::test]
async fn an_operation_that_first_made_a_link_and_is_admitted_when_repeated_leaves_a_record() {
    let fixture = Fixture::new().await;
    let first = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
    let second = fixture.request(&[caller(2), same(1)]);
    let running = fixture.client.admit(second.clone(), fixture.deadline()).await.unwrap();
    assert!(matches!(running, AdmitAnswer::Running(_)));
    let released =
        Settlement::Released { bytes_sent: false, outcome: None, keep_for_caller_key: false, doubt_resolved: false };
    fixture.client.settle(settle(&fixture, &first.execution, first.token, released), fixture.deadline()).await.unwrap();
    let _ = admitted(fixture.client.admit(second, fixture.deadline()).await.unwrap());
    let third = fixture.client.admit(fixture.request(&[caller(2), same(1)]), fixture.deadline()).await.unwrap();
    assert!(matches!(third, AdmitAnswer::Running(_)), "admitted twice: {third:?}");
}

#[tokio::test]
async fn an_execution_is_found_by_its_id_alone_and_not_by_another_contact() {
    let fixture = Fixture::new().await;
    let it = admitted(fixture.client.admit(fixture.request(&[]), fixture.deadline()).await.unwrap());
    let find = |contact| {
        let target = Target::Execution { execution: it.execution.clone(), contact };
        Lookup::only(workspace(), fixture.operation(), target)
    };
    for (asking, found) in [(None, true), (Some(contact()), true), (Some(ContactId::from_digest(&[2; 16])), false)] {
        let answer = fixture.client.lookup(find(asking), fixture.deadline()).await.unwrap();
        assert_eq!(matches!(answer, LookupAnswer::Running(_)), found, "{answer:?}");
    }
    let mut word = settle(&fixture, &it.execution, it.token, Settlement::Unknown { outcome: None });
    word.contact = ContactId::from_digest(&[2; 16]);
    assert_eq!(fixture.client.settle(word, fixture.deadline()).await.unwrap_err().reason(), Reason::ExecutionUnknown);
}

#[tokio::test]
async fn a_contacts_executions_are_listed_newest_first_page_by_page() {
    let fixture = Fixture::new().await;
    let mut expected = Vec::new();
    for _ in 0..7 {
        let it = admitted(fixture.client.admit(fixture.request(&[]), fixture.deadline()).await.unwrap());
        expected.insert(0, it.execution.to_string());
        fixture.clock.advance(Duration::from_secs(1));
    }
    let mut listed = Vec::new();
    let mut request = proto::ListRecordsRequest {
        workspace_id: workspace().into(),
        contact_id: contact().into(),
        states: vec![proto::RecordState::Running.into()],
        page_size: 3,
        page_token: String::new(),
    };
    let mut pages = 0;
    loop {
        let page = fixture.admission.list_records(request.clone()).await.unwrap();
        listed.extend(page.records.into_iter().map(|record| record.execution_id));
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!((listed, pages), (expected, 3));
    request.states = vec![proto::RecordState::Completed.into()];
    request.page_token = String::new();
    assert!(fixture.admission.list_records(request).await.unwrap().records.is_empty());
}
