//! Limits: exact, together or not at all, and given back.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{
    Admission as _, AdmitAnswer, ExtendAnswer, LookupAnswer, Settlement, Shape, SingleUse, Take, TakeAnswer, Usage,
    Window,
};
use safeconduct_types::{ContactId, ExecutionId, Timestamp};

use super::fixture::{Fixture, admitted, caller, contact, count, limited, own_count, same, workspace};

fn rate(name: &str, burst: u32) -> safeconduct_admission_client::Charge {
    limited(name, true, Shape::Rate { permits: burst, period: Duration::from_secs(10), burst })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_clients_exactly_as_many_are_admitted_as_the_caps_allow() {
    let fixture = Arc::new(Fixture::new().await);
    let mut set = tokio::task::JoinSet::new();
    for number in 0..100_u8 {
        let fixture = Arc::clone(&fixture);
        set.spawn(async move {
            let contact = ContactId::from_digest(&[number % 4; 16]);
            let mut request = fixture.request(&[]);
            request.execution = ExecutionId::generate(&workspace(), &contact, &fixture.random);
            request.contact = contact;
            request.charges = vec![own_count("mine", 12), count("ours", 30)];
            fixture.client.admit(request, fixture.deadline()).await.unwrap()
        });
    }
    let answers = set.join_all().await;
    let admitted = answers.iter().filter(|answer| matches!(answer, AdmitAnswer::Admitted(_))).count();
    let denied = answers.iter().filter(|answer| matches!(answer, AdmitAnswer::Denied(_))).count();
    assert_eq!((admitted, denied), (30, 70));
}

#[tokio::test]
async fn a_denied_request_takes_nothing_of_any_limit_and_says_which_and_until_when() {
    let fixture = Fixture::new().await;
    let mut request = fixture.request(&[same(1)]);
    request.charges = vec![own_count("wide", 5), own_count("narrow", 0), count("ours", 5)];
    let answer = fixture.client.admit(request, fixture.deadline()).await.unwrap();
    let AdmitAnswer::Denied(denied) = answer else { panic!("{answer:?}") };
    assert_eq!((denied.limit.name.as_str(), denied.limit.left), ("narrow", 0));
    let usage = Usage {
        workspace: workspace(),
        contact: Some(contact()),
        limits: vec![own_count("wide", 5).limit, count("ours", 5).limit],
    };
    let left = fixture.client.usage(usage, fixture.deadline()).await.unwrap();
    assert_eq!(left.remaining.iter().map(|one| one.left).collect::<Vec<_>>(), [5, 5]);
    let found = fixture.client.lookup(fixture.find(&[same(1)]), fixture.deadline()).await;
    assert!(matches!(found, Ok(LookupAnswer::Absent(_))), "{found:?}");
}

#[tokio::test]
async fn a_repeat_takes_nothing_again_and_a_replay_takes_nothing_at_all() {
    let fixture = Fixture::new().await;
    let mut request = fixture.request(&[caller(1)]);
    request.charges = vec![own_count("mine", 2), count("ours", 2)];
    let it = admitted(fixture.client.admit(request.clone(), fixture.deadline()).await.unwrap());
    let again = admitted(fixture.client.admit(request.clone(), fixture.deadline()).await.unwrap());
    assert_eq!(it.execution, again.execution);
    fixture.client.settle(fixture.completed(&it), fixture.deadline()).await.unwrap();
    let mut replay = fixture.request(&[caller(1)]);
    replay.charges = vec![own_count("mine", 0)];
    let answer = fixture.client.admit(replay, fixture.deadline()).await.unwrap();
    assert!(matches!(answer, AdmitAnswer::Replay(_)), "a hit answers before any limit: {answer:?}");
    let mut second = fixture.request(&[]);
    second.charges = request.charges.clone();
    let _ = admitted(fixture.client.admit(second.clone(), fixture.deadline()).await.unwrap());
    second = fixture.request(&[]);
    second.charges = request.charges;
    let third = fixture.client.admit(second, fixture.deadline()).await.unwrap();
    assert!(matches!(third, AdmitAnswer::Denied(_)), "{third:?}");
}

#[tokio::test]
async fn an_unknown_outcome_keeps_what_was_taken_until_the_truth_is_known() {
    let fixture = Fixture::new().await;
    let mut request = fixture.request(&[same(1)]);
    request.charges = vec![own_count("mine", 1), count("ours", 1)];
    let it = admitted(fixture.client.admit(request, fixture.deadline()).await.unwrap());
    let unknown = fixture.word(&it, Settlement::Unknown { outcome: None });
    fixture.client.settle(unknown, fixture.deadline()).await.unwrap();
    fixture.clock.advance(Duration::from_mins(30));
    let ask = || {
        let mut other = fixture.request(&[]);
        other.charges = vec![count("ours", 1)];
        fixture.client.admit(other, fixture.deadline())
    };
    assert!(matches!(ask().await.unwrap(), AdmitAnswer::Denied(_)));
    fixture.client.settle(fixture.word(&it, fixture.nothing()), fixture.deadline()).await.unwrap();
    let _ = admitted(ask().await.unwrap());
}

#[tokio::test]
async fn an_extension_takes_more_or_nothing() {
    let fixture = Fixture::new().await;
    let it = admitted(fixture.client.admit(fixture.request(&[]), fixture.deadline()).await.unwrap());
    let mut more = fixture.more(&it);
    more.charges = vec![own_count("mine", 1), count("ours", 1)];
    let answer = fixture.client.extend(more.clone(), fixture.deadline()).await.unwrap();
    assert!(matches!(answer, ExtendAnswer::Extended(_)), "{answer:?}");
    let again = fixture.client.extend(more.clone(), fixture.deadline()).await.unwrap();
    assert!(matches!(again, ExtendAnswer::Extended(_)), "a repeat: {again:?}");
    let mut third = fixture.more(&it);
    third.charges = vec![own_count("other", 1), count("ours", 1)];
    let denied = fixture.client.extend(third.clone(), fixture.deadline()).await.unwrap();
    assert!(matches!(denied, ExtendAnswer::Denied(_)), "{denied:?}");
    third.operation = fixture.operation();
    third.charges = vec![own_count("other", 1)];
    let taken = fixture.client.extend(third, fixture.deadline()).await.unwrap();
    assert!(matches!(taken, ExtendAnswer::Extended(_)), "what was denied took nothing: {taken:?}");
    let settled = fixture.client.settle(fixture.word(&it, fixture.nothing()), fixture.deadline()).await.unwrap();
    assert_eq!(settled.remaining.iter().map(|one| one.left).collect::<Vec<_>>(), [1, 1, 1]);
}

#[tokio::test]
async fn a_rate_lets_its_burst_through_and_then_one_at_a_time() {
    let fixture = Fixture::new().await;
    let ask = || {
        let mut look = fixture.find(&[same(1)]);
        look.charges = vec![rate("calls", 5)];
        fixture.client.lookup(look, fixture.deadline())
    };
    for _ in 0..5 {
        assert!(matches!(ask().await.unwrap(), LookupAnswer::Absent(_)));
    }
    let LookupAnswer::Denied(denied) = ask().await.unwrap() else { panic!("the burst is over") };
    assert_eq!(denied.retry_after, Some(Duration::from_secs(2)));
    fixture.clock.advance(Duration::from_secs(2));
    assert!(matches!(ask().await.unwrap(), LookupAnswer::Absent(_)));
    assert!(matches!(ask().await.unwrap(), LookupAnswer::Denied(_)));
}

#[tokio::test]
async fn what_may_be_used_once_is_used_once_and_a_release_gives_it_back() {
    let fixture = Fixture::new().await;
    let confirmation = SingleUse { digest: [5; 32], expires: Timestamp::from_seconds(1_800_003_600) };
    let ask = || {
        let mut request = fixture.request(&[]);
        request.consume = vec![confirmation.clone()];
        fixture.client.admit(request, fixture.deadline())
    };
    let it = admitted(ask().await.unwrap());
    let answer = ask().await.unwrap();
    assert!(matches!(&answer, AdmitAnswer::Consumed { place: 0, .. }), "{answer:?}");
    fixture.client.settle(fixture.word(&it, fixture.nothing()), fixture.deadline()).await.unwrap();
    let second = admitted(ask().await.unwrap());
    fixture.client.settle(fixture.completed(&second), fixture.deadline()).await.unwrap();
    assert!(matches!(ask().await.unwrap(), AdmitAnswer::Consumed { .. }));
}

#[tokio::test]
async fn charges_without_a_record_are_taken_once_for_an_operation_wherever_they_are_counted() {
    let fixture = Fixture::new().await;
    for charges in [
        vec![own_count("a", 2)],
        vec![count("b", 2)],
        vec![own_count("c", 2), count("d", 2)],
        vec![rate("e", 9), count("f", 2)],
    ] {
        let ask = |operation| {
            let take = Take {
                workspace: workspace(),
                contact: Some(contact()),
                operation,
                charges: charges.clone(),
                marks: Vec::new(),
            };
            fixture.client.take(take, fixture.deadline())
        };
        let first = fixture.operation();
        for _ in 0..3 {
            assert!(matches!(ask(first).await.unwrap(), TakeAnswer::Taken(_)), "{charges:?}");
        }
        assert!(matches!(ask(fixture.operation()).await.unwrap(), TakeAnswer::Taken(_)), "{charges:?}");
        let third = ask(fixture.operation()).await.unwrap();
        assert!(matches!(third, TakeAnswer::Denied(_)), "{charges:?}: {third:?}");
        // Nothing of it hangs in the air.
        fixture.clock.advance(Duration::from_mins(20));
        assert!(matches!(ask(fixture.operation()).await.unwrap(), TakeAnswer::Denied(_)), "{charges:?}");
    }
}

#[tokio::test]
async fn a_rolling_cap_gives_back_what_leaves_the_window() {
    let fixture = Fixture::new().await;
    let ask = || {
        let window = Window::Rolling(Duration::from_mins(1));
        let mut request = fixture.request(&[]);
        request.charges = vec![limited("rolling", true, Shape::Count { window, max: 1 })];
        fixture.client.admit(request, fixture.deadline())
    };
    let _ = admitted(ask().await.unwrap());
    fixture.clock.advance(Duration::from_millis(59_999));
    assert!(matches!(ask().await.unwrap(), AdmitAnswer::Denied(_)));
    fixture.clock.advance(Duration::from_millis(1));
    let _ = admitted(ask().await.unwrap());
}
