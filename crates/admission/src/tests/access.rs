//! The rights on a Redis that `deploy/README.md` names are enough for all that the service does.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use safeconduct_admission_client::{
    Admission as _, AdmitAnswer, ExtendAnswer, LookupAnswer, Shape, SingleUse, Take, TakeAnswer, Usage,
};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_service::wire::to_mark;
use safeconduct_store::{RedisOptions, RedisRecords, RedisStore};
use safeconduct_testkit::Redis;
use safeconduct_types::{ManualClock, Mark, MarkCheck, MarkKey, Reason, SecretText, Subject, Timestamp};

use super::fixture::{Fixture, admitted, caller, contact, count, limited, own_count, same, workspace};
use crate::engine::RedisEngine;

const PAGE: &str = include_str!("../../../../deploy/README.md");

/// The words of the command that the page tells to run, and the rights that it adds for admission.
fn documented() -> Vec<String> {
    let line = PAGE.lines().find(|line| line.starts_with("ACL SETUSER admission ")).unwrap();
    let more = PAGE.split("admission `+").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    let words = line.split(' ').map(|word| word.replace(">PASSWORD", ">s3cret"));
    words.chain(format!("+{more}").split_whitespace().map(str::to_owned)).collect()
}

async fn over_redis(words: &[String]) -> (Fixture, Redis) {
    let server = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "no"]).await.unwrap();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    server.command::<Value>(&words).await.unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)));
    let mut options = RedisOptions::new(SecretText::new(server.url()));
    options.user = Some("admission".to_owned());
    options.password = Some(SecretText::new("s3cret".to_owned()));
    options.clock = Some(clock.clone());
    let store = RedisStore::connect(options).await.unwrap();
    let records = Arc::new(RedisRecords::on(store.clone()));
    (Fixture::over(Arc::new(RedisEngine::new(store)), records, clock), server)
}

#[tokio::test]
async fn a_user_with_the_documented_rights_is_enough_for_everything() {
    let (fixture, _server) = over_redis(&documented()).await;
    let rate = || limited("looks", true, Shape::Rate { permits: 9, period: Duration::from_mins(1), burst: 9 });
    let charges = || vec![own_count("mine", 2), count("ours", 2), rate()];
    let mut request = fixture.request(&[caller(1), same(1)]);
    request.charges = charges();
    let expires = Timestamp::from_seconds(4_000_000_000);
    request.consume = vec![SingleUse { digest: [5; 32], expires }];
    let it = admitted(fixture.client.admit(request, fixture.deadline()).await.unwrap());
    let mut more = fixture.more(&it);
    more.charges = vec![own_count("other", 2)];
    let more = fixture.client.extend(more, fixture.deadline()).await.unwrap();
    assert!(matches!(more, ExtendAnswer::Extended(_)), "{more:?}");
    fixture.client.settle(fixture.completed(&it), fixture.deadline()).await.unwrap();
    let mut denied = fixture.request(&[]);
    denied.charges = vec![count("ours", 0)];
    // Looks for what leaked, too.
    let denied = fixture.client.admit(denied, fixture.deadline()).await.unwrap();
    assert!(matches!(denied, AdmitAnswer::Denied(_)), "{denied:?}");
    let mut look = fixture.find(&[same(2)]);
    look.charges = vec![rate()];
    let found = fixture.client.lookup(look, fixture.deadline()).await.unwrap();
    assert!(matches!(found, LookupAnswer::Absent(_)), "{found:?}");
    let take = Take {
        workspace: workspace(),
        contact: Some(contact()),
        operation: fixture.operation(),
        charges: vec![own_count("taken", 2)],
        marks: Vec::new(),
    };
    let taken = fixture.client.take(take, fixture.deadline()).await.unwrap();
    assert!(matches!(taken, TakeAnswer::Taken(_)), "{taken:?}");
    let limits = charges().into_iter().map(|charge| charge.limit).collect();
    let usage = Usage { workspace: workspace(), contact: Some(contact()), limits };
    let usage = fixture.client.usage(usage, fixture.deadline()).await.unwrap();
    assert_eq!(usage.remaining.iter().map(|one| one.left).collect::<Vec<_>>(), [1, 1, 7]);

    let key = MarkKey::new(workspace(), Subject::WorkspaceDisabled);
    let mark = Mark {
        key: key.clone(),
        effective: Timestamp::from_seconds(1_700_000_000),
        expires: None,
        reason: "closed".to_owned(),
        actor: "desk".to_owned(),
        revision: 0,
        min_epoch: 0,
    };
    let set = proto::SetMarkRequest { mark: Some(to_mark(mark)), operation_id: fixture.operation().to_string() };
    fixture.admission.marks.set_mark(set).await.unwrap();
    let mut closed = fixture.request(&[]);
    closed.marks = vec![MarkCheck { key, since: None, epoch: 0 }];
    let closed = fixture.client.admit(closed, fixture.deadline()).await.unwrap();
    assert!(matches!(closed, AdmitAnswer::Marked(_)), "{closed:?}");

    let list = proto::ListRecordsRequest {
        workspace_id: workspace().into(),
        contact_id: contact().into(),
        ..proto::ListRecordsRequest::default()
    };
    assert_eq!(fixture.admission.list_records(list).await.unwrap().records.len(), 1);
    let erase = proto::EraseContactRequest {
        workspace_id: workspace().into(),
        contact_id: contact().into(),
        operation_id: fixture.operation().to_string(),
    };
    assert_eq!(fixture.admission.erase_contact(erase).await.unwrap().erased_records, 1);
}

#[tokio::test]
async fn each_of_the_rights_for_limits_and_lists_is_needed() {
    for right in ["+evalsha", "+mget", "+zadd"] {
        let words: Vec<String> = documented().into_iter().filter(|word| word != right).collect();
        assert!(words.len() < documented().len(), "{right} is not on the page");
        let (fixture, _server) = over_redis(&words).await;
        let refused = fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::StoreUnavailable, "{right}: {refused:?}");
    }
}
