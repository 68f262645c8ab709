//! Answers that come late, while somebody else goes on with the same operation or the same key.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use safeconduct_admission_client::{
    ActualAmount, Admission as _, AdmitAnswer, ExtendAnswer, LookupAnswer, Settlement, SingleUse, Usage,
};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_service::wire::to_mark;
use safeconduct_store::{RecordKey, Slot, Snapshot, StoreError};
use safeconduct_types::{Mark, MarkKey, Subject, Timestamp};
use tokio::sync::Semaphore;

use super::fixture::{Fixture, admitted, count, own_count, same, workspace};
use crate::engine::{Engine, Members, Step, Stepped};

/// An engine that holds one answer back until it is told to go on.
#[derive(Debug)]
struct Gate {
    inner: Arc<dyn Engine>,
    steps: AtomicI64,
    held: Semaphore,
    go: Semaphore,
}

impl Gate {
    async fn around() -> (Arc<Fixture>, Arc<Self>, Arc<Fixture>) {
        let mut kept = None;
        let fixture = Fixture::wrapped(|inner| {
            let gate = Arc::new(Self {
                inner,
                steps: AtomicI64::new(i64::MAX),
                held: Semaphore::new(0),
                go: Semaphore::new(0),
            });
            kept = Some(Arc::clone(&gate));
            gate
        });
        let fixture = fixture.await;
        let gate = kept.unwrap();
        let other = fixture.beside(Arc::clone(&gate.inner));
        (Arc::new(fixture), gate, Arc::new(other))
    }

    /// The answer of the n-th step from now is held back.
    fn at(&self, step: i64) {
        self.steps.store(step, Ordering::SeqCst);
    }

    async fn is_held(&self) {
        self.held.acquire().await.unwrap().forget();
    }

    fn let_go(&self) {
        self.go.add_permits(1);
    }
}

#[async_trait]
impl Engine for Gate {
    async fn step(&self, slot: &Slot, step: Step) -> Result<Stepped, StoreError> {
        let answer = self.inner.step(slot, step).await;
        if self.steps.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.held.add_permits(1);
            self.go.acquire().await.unwrap().forget();
        }
        answer
    }

    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        self.inner.read(slot, keys).await
    }

    async fn index(
        &self,
        slot: &Slot,
        key: &RecordKey,
        scores: RangeInclusive<i64>,
        limit: usize,
        newest_first: bool,
    ) -> Result<(Timestamp, Members), StoreError> {
        self.inner.index(slot, key, scores, limit, newest_first).await
    }

    async fn forget(&self, slot: &Slot, keys: &[RecordKey]) -> Result<(), StoreError> {
        self.inner.forget(slot, keys).await
    }

    fn epoch(&self, slot: &Slot) -> String {
        self.inner.epoch(slot)
    }

    fn lost_until(&self, slot: &Slot) -> Timestamp {
        self.inner.lost_until(slot)
    }

    fn now_estimate(&self) -> Timestamp {
        self.inner.now_estimate()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_denial_does_not_free_what_a_repeat_of_the_operation_was_promised() {
    let (slow, gate, other) = Gate::around().await;
    let mut first = other.request(&[]);
    first.charges = vec![count("ours", 1)];
    let first = admitted(other.client.admit(first, other.deadline()).await.unwrap());

    let mut request = other.request(&[same(1)]);
    request.charges = vec![own_count("mine", 9), count("ours", 1)];
    gate.at(2);
    let late = {
        let (slow, request) = (Arc::clone(&slow), request.clone());
        tokio::spawn(async move { slow.client.admit(request, slow.deadline()).await })
    };
    gate.is_held().await;
    // Denied, but nobody knows yet. Now there is room, and the client asks again.
    other.client.settle(other.word(&first, other.nothing()), other.deadline()).await.unwrap();
    let repeat = other.client.admit(request.clone(), other.deadline()).await;
    gate.let_go();
    let _ = late.await.unwrap();
    let mut next = other.request(&[same(1)]);
    next.charges = vec![own_count("mine", 9)];
    let next = other.client.admit(next, other.deadline()).await;
    let both = [&repeat, &next].into_iter().filter(|answer| matches!(answer, Ok(AdmitAnswer::Admitted(_)))).count();
    assert!(both < 2, "admitted twice under one key: {repeat:?} and {next:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_denial_does_not_uncount_what_a_repeat_of_the_extension_was_promised() {
    let (slow, gate, other) = Gate::around().await;
    let mut first = other.request(&[]);
    first.charges = vec![count("ours", 1)];
    let first = admitted(other.client.admit(first, other.deadline()).await.unwrap());
    let it = admitted(other.client.admit(other.request(&[same(1)]), other.deadline()).await.unwrap());
    let mut more = other.more(&it);
    more.charges = vec![own_count("mine", 1), count("ours", 1)];
    gate.at(2);
    let late = {
        let (slow, more) = (Arc::clone(&slow), more.clone());
        tokio::spawn(async move { slow.client.extend(more, slow.deadline()).await })
    };
    gate.is_held().await;
    other.client.settle(other.word(&first, other.nothing()), other.deadline()).await.unwrap();
    let repeat = other.client.extend(more, other.deadline()).await;
    gate.let_go();
    let _ = late.await.unwrap();
    other.client.settle(other.completed(&it), other.deadline()).await.unwrap();
    let limits = vec![own_count("mine", 1).limit, count("ours", 1).limit];
    let usage = Usage { workspace: workspace(), contact: Some(super::fixture::contact()), limits };
    let left = other.client.usage(usage, other.deadline()).await.unwrap();
    let left: Vec<i64> = left.remaining.iter().map(|one| one.left).collect();
    if matches!(repeat, Ok(ExtendAnswer::Extended(_))) {
        assert_eq!(left, [0, 0], "used, and not counted");
    } else {
        assert_eq!(left, [1, 1], "{repeat:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_is_over_does_not_break_off_an_admission() {
    let (slow, gate, other) = Gate::around().await;
    let it = admitted(other.client.admit(other.request(&[same(1)]), other.deadline()).await.unwrap());
    let mut request = other.request(&[same(1)]);
    request.wait = Duration::from_millis(400);
    // It is told that it runs; woken, it finds what was released; then it is admitted.
    gate.at(3);
    let waiting = {
        let (slow, request) = (Arc::clone(&slow), request.clone());
        tokio::spawn(async move { slow.client.admit(request, slow.deadline()).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.client.settle(other.word(&it, other.nothing()), other.deadline()).await.unwrap();
    gate.is_held().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    gate.let_go();
    let answer = waiting.await.unwrap().unwrap();
    let now = other.client.lookup(other.find(&[same(1)]), other.deadline()).await.unwrap();
    let runs = matches!(&now, LookupAnswer::Running(record) if record.execution == request.execution);
    assert!(runs && matches!(answer, AdmitAnswer::Admitted(_)), "nobody executes {now:?}: {answer:?}");
}

#[tokio::test]
async fn an_amount_beyond_all_counting_is_refused_and_spoils_no_cap() {
    let fixture = Fixture::new().await;
    let mut request = fixture.request(&[]);
    request.charges = vec![count("ours", 9)];
    request.charges[0].amount = 0;
    let it = admitted(fixture.client.admit(request, fixture.deadline()).await.unwrap());
    let actual = vec![ActualAmount { charge: 0, amount: i64::MAX }];
    let word = fixture.word(&it, Settlement::Completed { outcome: b"done".to_vec(), retain: None, actual });
    let refused = fixture.client.settle(word, fixture.deadline()).await;
    let mut next = fixture.request(&[]);
    next.charges = vec![count("ours", 9)];
    let next = fixture.client.admit(next, fixture.deadline()).await;
    assert!(matches!(next, Ok(AdmitAnswer::Admitted(_))), "{next:?}");
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn what_may_be_used_once_is_remembered_although_its_own_life_ends_meanwhile() {
    let fixture = Fixture::new().await;
    let mut request = fixture.request(&[]);
    // It was good when the caller looked.
    request.consume = vec![SingleUse { digest: [5; 32], expires: Timestamp::from_seconds(1_800_000_000) }];
    let _ = admitted(fixture.client.admit(request.clone(), fixture.deadline()).await.unwrap());
    let mut second = fixture.request(&[]);
    second.consume = request.consume;
    let second = fixture.client.admit(second, fixture.deadline()).await.unwrap();
    assert!(matches!(second, AdmitAnswer::Consumed { .. }), "{second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_that_is_set_while_somebody_waits_is_met() {
    let fixture = Arc::new(Fixture::new().await);
    let it = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
    let key = MarkKey::new(workspace(), Subject::WorkspaceDisabled);
    let waiting = {
        let (fixture, key) = (Arc::clone(&fixture), key.clone());
        tokio::spawn(async move {
            let mut request = fixture.request(&[same(1)]);
            request.wait = Duration::from_secs(10);
            request.marks = vec![safeconduct_types::MarkCheck { key, since: None, epoch: 0 }];
            fixture.client.admit(request, fixture.deadline()).await.unwrap()
        })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mark = Mark {
        key,
        effective: Timestamp::from_seconds(1_800_000_000),
        expires: None,
        reason: "closed".to_owned(),
        actor: "desk".to_owned(),
        revision: 0,
        min_epoch: 0,
    };
    let set = proto::SetMarkRequest { mark: Some(to_mark(mark)), operation_id: fixture.operation().to_string() };
    fixture.admission.marks.set_mark(set).await.unwrap();
    fixture.client.settle(fixture.word(&it, fixture.nothing()), fixture.deadline()).await.unwrap();
    let answer = waiting.await.unwrap();
    assert!(matches!(answer, AdmitAnswer::Marked(_)), "{answer:?}");
}
