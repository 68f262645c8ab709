//! The marks over the embedded store, as one process and as several that share it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt as _};
use safeconduct_admission_domain::mark::{MarkKey, ResourceDigest, Subject};
use safeconduct_proto::admission::v1::watch_marks_response::Event;
use safeconduct_service::wire::UNSAID;
use safeconduct_store::{Change as Write, Committed, EmbeddedStore, RecordKey, Slot, Snapshot};
use safeconduct_types::{ContactId, ExecutionId, ManualClock, OperationId, Secret, SystemRandom};
use tempfile::TempDir;

use super::*;
use crate::keys;

const NOON: Timestamp = Timestamp::from_seconds(1_800_000_000);
const SECOND: Duration = Duration::from_secs(1);

/// A store that can be gone, and counts what it is asked.
#[derive(Debug)]
struct Gate {
    inner: Arc<dyn Records>,
    gone: AtomicBool,
    lose_answers: AtomicBool,
    reads: AtomicUsize,
}

#[async_trait]
impl Records for Gate {
    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.gone.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("gone".into()));
        }
        self.inner.read(slot, keys).await
    }

    async fn commit(&self, slot: &Slot, operation: OperationId, changes: &[Write]) -> Result<Committed, StoreError> {
        let answer = self.inner.commit(slot, operation, changes).await;
        if self.lose_answers.load(Ordering::SeqCst) {
            return Err(StoreError::Unanswered("lost".into()));
        }
        answer
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }
}

struct Fixture {
    clock: Arc<ManualClock>,
    gate: Arc<Gate>,
    marks: Marks,
    _directory: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOON));
        let inner = EmbeddedStore::open(directory.path().join("a.redb"), clock.clone()).await.unwrap();
        let (gone, lose_answers) = (AtomicBool::new(false), AtomicBool::new(false));
        let gate = Arc::new(Gate { inner: Arc::new(inner), gone, lose_answers, reads: AtomicUsize::new(0) });
        let marks = Marks::new(gate.clone(), keyer(), clock.clone());
        Self { clock, gate, marks, _directory: directory }
    }

    /// Another process over the same store.
    fn other(&self) -> Marks {
        Marks::new(self.gate.clone(), keyer(), self.clock.clone())
    }

    async fn in_contacts_slot(&self, key: &MarkKey) -> Option<Mark> {
        let route = ExecutionId::route_of(&key.workspace, key.contact().unwrap());
        let slot = keys::contact_slot(&keyer(), &key.workspace, &route);
        let record = keys::mark(&keyer(), &slot, &safeconduct_admission_domain::mark::key_bytes(key));
        let snapshot = self.gate.read(&slot, &[record]).await.unwrap();
        let found = snapshot.records.into_iter().next().flatten()?;
        Some(safeconduct_admission_domain::mark::decode(&found.value).unwrap())
    }
}

fn keyer() -> StoreKeyer {
    StoreKeyer::new(&Secret::new(vec![7; 32]))
}

fn op() -> OperationId {
    OperationId::generate(&SystemRandom)
}

fn key(subject: Subject) -> MarkKey {
    MarkKey::new("acme".parse().unwrap(), subject)
}

fn disabled(name: &str) -> MarkKey {
    key(Subject::ConnectorDisabled(name.parse().unwrap()))
}

fn blocked() -> MarkKey {
    key(Subject::ContactBlocked(ContactId::from_digest(&[1; 16])))
}

fn mark(key: MarkKey) -> Mark {
    let (reason, actor) = ("incident".to_owned(), "desk".to_owned());
    Mark { key, effective: UNSAID, expires: None, reason, actor, revision: 0, min_epoch: 0 }
}

fn watch(marks: &Marks, resume: &str) -> BoxStream<'static, Event> {
    let stream = marks.watch(Box::new(|_| true), watch::parse_token(resume));
    stream.map(|event| event.unwrap().event.unwrap()).boxed()
}

/// Everything up to the next heartbeat: whether it began anew, what was set, what was cleared, and the token.
async fn heard(stream: &mut BoxStream<'static, Event>) -> (bool, usize, usize, proto::MarksHeartbeat) {
    let (mut reset, mut set, mut cleared) = (false, 0, 0);
    loop {
        match stream.next().await.unwrap() {
            Event::Reset(_) => reset = true,
            Event::Set(_) => set += 1,
            Event::Cleared(_) => cleared += 1,
            Event::Heartbeat(heartbeat) => return (reset, set, cleared, heartbeat),
        }
    }
}

use safeconduct_proto::admission::v1 as proto;

#[tokio::test]
async fn a_mark_that_one_process_sets_is_met_in_another_and_cleared_there_again() {
    let fixture = Fixture::new().await;
    let other = fixture.other();
    let check = MarkCheck::any(disabled("refund"));
    assert_eq!(other.met(std::slice::from_ref(&check)).await.unwrap(), None);
    let set = fixture.marks.set(mark(disabled("refund")), op()).await.unwrap();
    assert_eq!((set.revision, set.effective), (1, NOON));
    fixture.clock.advance(SECOND * 2);
    assert_eq!(other.met(std::slice::from_ref(&check)).await.unwrap(), Some(set));
    assert_eq!(other.clear(&disabled("refund"), op()).await.unwrap(), (true, 2));
    assert_eq!(other.met(std::slice::from_ref(&check)).await.unwrap(), None);
    assert_eq!(other.clear(&disabled("refund"), op()).await.unwrap(), (false, 0));
}

#[tokio::test]
async fn a_mark_on_a_contact_lies_in_the_contacts_own_slot_as_well() {
    let fixture = Fixture::new().await;
    let set = fixture.marks.set(mark(blocked()), op()).await.unwrap();
    let own = fixture.in_contacts_slot(&blocked()).await.unwrap();
    assert_eq!(Mark { revision: set.revision, ..own }, set);
    assert_eq!(fixture.marks.clear(&blocked(), op()).await.unwrap(), (true, 2));
    assert_eq!(fixture.in_contacts_slot(&blocked()).await, None);
}

#[tokio::test]
async fn setting_again_moves_the_time_forward_and_never_back() {
    let fixture = Fixture::new().await;
    let at = |seconds| Mark { effective: Timestamp::from_seconds(seconds), ..mark(blocked()) };
    for (asked, stored) in [(50, 50), (40, 50), (60, 60)] {
        let set = fixture.marks.set(at(asked), op()).await.unwrap();
        assert_eq!(set.effective, Timestamp::from_seconds(stored));
        assert_eq!(fixture.in_contacts_slot(&blocked()).await.unwrap().effective, set.effective);
    }
}

#[tokio::test]
async fn an_operation_that_is_repeated_gets_the_first_answer_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let (first, later) = (op(), op());
    let set = fixture.marks.set(mark(blocked()), first).await.unwrap();
    fixture.clock.advance(SECOND);
    assert_eq!(fixture.other().set(mark(blocked()), first).await.unwrap(), set);
    let cleared = fixture.marks.clear(&blocked(), later).await.unwrap();
    assert_eq!(fixture.other().clear(&blocked(), later).await.unwrap(), cleared);
    // A repeat that comes late does not set again what was cleared.
    assert_eq!(fixture.other().set(mark(blocked()), first).await.unwrap(), set);
    assert_eq!(fixture.other().met(&[MarkCheck::any(blocked())]).await.unwrap(), None);
    assert_eq!(fixture.in_contacts_slot(&blocked()).await, None);
}

#[tokio::test]
async fn what_was_set_half_is_mended_by_asking_again() {
    let fixture = Fixture::new().await;
    fixture.gate.lose_answers.store(true, Ordering::SeqCst);
    let operation = op();
    assert!(fixture.marks.set(mark(blocked()), operation).await.is_err());
    assert!(fixture.in_contacts_slot(&blocked()).await.is_some(), "that far it came");
    fixture.gate.lose_answers.store(false, Ordering::SeqCst);
    let set = fixture.other().set(mark(blocked()), operation).await.unwrap();
    assert_eq!(fixture.other().met(&[MarkCheck::any(blocked())]).await.unwrap(), Some(set));
}

#[tokio::test]
async fn marks_that_many_set_at_once_in_several_processes_are_all_there() {
    let fixture = Fixture::new().await;
    let processes = [fixture.marks.clone(), fixture.other(), fixture.other()];
    let set = (0..60).map(|n| {
        let marks = processes[n % 3].clone();
        async move { marks.set(mark(disabled(&format!("c{n}"))), op()).await.unwrap().revision }
    });
    let mut revisions: Vec<u64> = futures_util::future::join_all(set).await;
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=60).collect::<Vec<u64>>(), "each has a revision of its own");
    let fresh = fixture.other();
    for n in 0..60 {
        assert!(fresh.met(&[MarkCheck::any(disabled(&format!("c{n}")))]).await.unwrap().is_some(), "{n}");
    }
}

#[tokio::test]
async fn a_process_that_was_away_for_longer_than_the_log_reads_everything_again() {
    let fixture = Fixture::new().await;
    let other = fixture.other();
    fixture.marks.set(mark(disabled("first")), op()).await.unwrap();
    other.look().await.unwrap();
    let mut stream = watch(&other, "");
    for _ in 0..520 {
        fixture.marks.set(mark(disabled("again")), op()).await.unwrap();
        fixture.marks.clear(&disabled("again"), op()).await.unwrap();
    }
    fixture.marks.clear(&disabled("first"), op()).await.unwrap();
    fixture.marks.set(mark(disabled("last")), op()).await.unwrap();
    other.look().await.unwrap();
    assert_eq!(other.read(Board::revision), 1043);
    let (reset, set, _, _) = heard(&mut stream).await;
    assert!(reset);
    assert_eq!(set, 1, "only the last one is in force");
}

#[tokio::test]
async fn a_watcher_hears_everything_first_then_each_change_and_resumes_where_it_was() {
    let fixture = Fixture::new().await;
    fixture.marks.set(mark(disabled("one")), op()).await.unwrap();
    let follower = fixture.other();
    let mut stream = watch(&follower, "");
    follower.look().await.unwrap();
    let (reset, set, _, first) = heard(&mut stream).await;
    assert_eq!((reset, set), (true, 1));
    fixture.marks.set(mark(disabled("two")), op()).await.unwrap();
    fixture.marks.clear(&disabled("one"), op()).await.unwrap();
    follower.look().await.unwrap();
    let (reset, set, cleared, second) = heard(&mut stream).await;
    assert_eq!((reset, set, cleared), (false, 1, 1));

    let (mut resumed, mut current) = (watch(&follower, &first.resume_token), watch(&follower, &second.resume_token));
    let mut foreign = watch(&follower, "1.00000000000000000000000000000000");
    follower.look().await.unwrap();
    let (reset, set, cleared, _) = heard(&mut resumed).await;
    assert_eq!((reset, set, cleared), (false, 1, 1));
    let (reset, set, cleared, _) = heard(&mut current).await;
    assert_eq!((reset, set, cleared), (false, 0, 0));
    assert!(heard(&mut foreign).await.0, "another history begins anew");
}

#[tokio::test]
async fn what_expires_is_told_as_cleared() {
    let fixture = Fixture::new().await;
    let gone = key(Subject::ResourceGone(
        ContactId::from_digest(&[1; 16]),
        "refund".parse().unwrap(),
        ResourceDigest([1; 32]),
    ));
    let set = fixture.marks.set(mark(gone.clone()), op()).await.unwrap();
    assert_eq!(set.expires, Some(NOON.after(Duration::from_hours(24))), "no 410 is believed for ever");
    fixture.marks.look().await.unwrap();
    let mut stream = watch(&fixture.marks, "");
    fixture.marks.look().await.unwrap();
    assert_eq!(heard(&mut stream).await.1, 1);
    fixture.clock.advance(Duration::from_hours(24));
    fixture.marks.look().await.unwrap();
    assert_eq!(heard(&mut stream).await.2, 1);
    assert_eq!(fixture.marks.met(&[MarkCheck::any(gone)]).await.unwrap(), None);
}

#[tokio::test]
async fn heartbeats_carry_the_stores_time_and_stop_when_the_store_is_gone() {
    let fixture = Fixture::new().await;
    let tasks = safeconduct_service::tasks::Tasks::new();
    drop(tasks.spawn_background(|stop| fixture.marks.clone().follow(stop)));
    let mut stream = watch(&fixture.marks, "");
    let (.., first) = heard(&mut stream).await;
    assert_eq!(first.time.unwrap().seconds, NOON.as_seconds());
    fixture.gate.gone.store(true, Ordering::SeqCst);
    // What was looked at before is heard still.
    let reads = fixture.gate.reads.load(Ordering::SeqCst);
    while fixture.gate.reads.load(Ordering::SeqCst) < reads + 3 {
        tokio::task::yield_now().await;
    }
    let looks = fixture.marks.subscribe().borrow().looks;
    let mut late = watch(&fixture.marks, "");
    assert!(matches!(late.next().await.unwrap(), Event::Reset(_)));
    let silent = futures_util::future::poll_immediate(late.next()).await;
    assert!(silent.is_none(), "an old heartbeat would say that nothing was set");
    fixture.gate.gone.store(false, Ordering::SeqCst);
    assert!(matches!(late.next().await.unwrap(), Event::Heartbeat(_)));
    assert!(fixture.marks.subscribe().borrow().looks > looks);
    tasks.finish().await;
}

#[tokio::test]
async fn a_watcher_hears_of_its_workspaces_only() {
    let fixture = Fixture::new().await;
    fixture.marks.set(mark(disabled("one")), op()).await.unwrap();
    let filter = |workspace: &safeconduct_types::WorkspaceId| workspace.as_str() == "other";
    let mut stream = fixture.marks.watch(Box::new(filter), None).map(|event| event.unwrap().event.unwrap()).boxed();
    fixture.marks.look().await.unwrap();
    let (reset, set, ..) = heard(&mut stream).await;
    assert_eq!((reset, set), (true, 0));
}
