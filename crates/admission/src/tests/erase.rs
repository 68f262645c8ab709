//! A contact that is forgotten, and marks that close the way.

use std::time::Duration;

use safeconduct_admission_client::{Admission as _, AdmitAnswer, LookupAnswer};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_service::wire::to_mark;
use safeconduct_types::{Mark, MarkCheck, MarkKey, Reason, Subject, Timestamp};

use super::fixture::{Fixture, admitted, caller, contact, count, own_count, same, workspace};

#[tokio::test]
async fn an_erased_contact_has_no_records_and_no_counts_and_what_ran_has_lost_its_lease() {
    let fixture = Fixture::new().await;
    let mut ended = fixture.request(&[caller(1)]);
    ended.charges = vec![own_count("mine", 2)];
    let ended = admitted(fixture.client.admit(ended, fixture.deadline()).await.unwrap());
    fixture.client.settle(fixture.completed(&ended), fixture.deadline()).await.unwrap();
    let mut runs = fixture.request(&[same(1)]);
    runs.charges = vec![own_count("mine", 2), count("ours", 2)];
    let runs = admitted(fixture.client.admit(runs, fixture.deadline()).await.unwrap());

    let erase = || {
        fixture.admission.erase_contact(proto::EraseContactRequest {
            workspace_id: workspace().into(),
            contact_id: contact().into(),
            operation_id: fixture.operation().to_string(),
        })
    };
    let erased = erase().await.unwrap();
    assert_eq!((erased.erased_records, erased.complete), (2, true));
    let again = erase().await.unwrap();
    assert_eq!((again.erased_records, again.complete), (0, true));

    let lost = fixture.client.settle(fixture.completed(&runs), fixture.deadline()).await.unwrap_err();
    assert_eq!(lost.reason(), Reason::ExecutionUnknown);
    for key in [caller(1), same(1)] {
        let found = fixture.client.lookup(fixture.find(&[key]), fixture.deadline()).await.unwrap();
        assert!(matches!(found, LookupAnswer::Absent(_)), "{found:?}");
    }
    let mut next = fixture.request(&[]);
    next.charges = vec![own_count("mine", 2), count("ours", 2)];
    let it = admitted(fixture.client.admit(next, fixture.deadline()).await.unwrap());
    let left: Vec<i64> = it.taken.remaining.iter().map(|one| one.left).collect();
    assert_eq!(left, [1, 0], "the contact's own count is new, the shared one is not");
}

#[tokio::test]
async fn a_mark_on_the_contact_wins_over_everything_from_the_moment_it_is_set() {
    let fixture = Fixture::new().await;
    let key = MarkKey::new(workspace(), Subject::ContactSignedOut(contact()));
    let since = |seconds| MarkCheck { key: key.clone(), since: Some(Timestamp::from_seconds(seconds)), epoch: 0 };
    let ask = |check: MarkCheck| {
        let mut request = fixture.request(&[same(1)]);
        request.marks = vec![check];
        fixture.client.admit(request, fixture.deadline())
    };
    let it = admitted(ask(since(1_700_000_000)).await.unwrap());
    fixture.client.settle(fixture.completed(&it), fixture.deadline()).await.unwrap();
    fixture.clock.advance(Duration::from_secs(1));
    let mark = Mark {
        key: key.clone(),
        effective: Timestamp::from_seconds(1_800_000_000),
        expires: None,
        reason: "signed out".to_owned(),
        actor: "desk".to_owned(),
        revision: 0,
        min_epoch: 0,
    };
    let set = proto::SetMarkRequest { mark: Some(to_mark(mark)), operation_id: fixture.operation().to_string() };
    fixture.admission.marks.set_mark(set).await.unwrap();
    let met = ask(since(1_700_000_000)).await.unwrap();
    assert!(matches!(met, AdmitAnswer::Marked(_)), "also over a replay: {met:?}");
    let later = ask(since(1_800_000_001)).await.unwrap();
    assert!(matches!(later, AdmitAnswer::Replay(_)), "a session that began later is not meant: {later:?}");
}
