//! The marks over the embedded store, as one process and as several that share it.

mod together;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt as _};
use safeconduct_admission_domain::mark::{MarkKey, ResourceDigest, Subject};
use safeconduct_proto::admission::v1::watch_marks_response::Event;
use safeconduct_service::wire::UNSAID;
use safeconduct_store::{Change as Write, Committed, EmbeddedStore, RecordKey, Slot, Snapshot};
use safeconduct_types::{ContactId, ExecutionId, ManualClock, OperationId, Reason, Secret, SessionId, SystemRandom};
use tempfile::TempDir;
use tokio::sync::Notify;

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
    commits: AtomicUsize,
    /// Before that read, it stops until it is told to go on; the first is 1.
    stop_at: AtomicUsize,
    stop_commits: AtomicBool,
    stopped: Notify,
    go_on: Notify,
}

impl Gate {
    fn before(inner: Arc<dyn Records>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            gone: AtomicBool::new(false),
            lose_answers: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
            stop_at: AtomicUsize::new(usize::MAX),
            stop_commits: AtomicBool::new(false),
            stopped: Notify::new(),
            go_on: Notify::new(),
        })
    }

    async fn stop(&self) {
        self.stopped.notify_one();
        self.go_on.notified().await;
    }
}

#[async_trait]
impl Records for Gate {
    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        if self.reads.fetch_add(1, Ordering::SeqCst) + 1 == self.stop_at.load(Ordering::SeqCst) {
            self.stop().await;
        }
        if self.gone.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("gone".into()));
        }
        self.inner.read(slot, keys).await
    }

    async fn commit(&self, slot: &Slot, operation: OperationId, changes: &[Write]) -> Result<Committed, StoreError> {
        if self.stop_commits.load(Ordering::SeqCst) {
            self.stop().await;
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
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
        let gate = Gate::before(Arc::new(inner));
        let marks = Marks::new(gate.clone(), keyer(), clock.clone());
        Self { clock, gate, marks, _directory: directory }
    }

    /// Another process over the same store.
    fn other(&self) -> Marks {
        Marks::new(self.gate.clone(), keyer(), self.clock.clone())
    }

    /// A process with these budgets.
    fn within(&self, budgets: Budgets) -> Marks {
        Marks::within(self.gate.clone(), keyer(), self.clock.clone(), budgets)
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
async fn an_operation_that_changed_one_mark_changes_no_other_and_says_so() {
    let fixture = Fixture::new().await;
    let (set, cleared) = (op(), op());
    fixture.marks.set(mark(disabled("one")), set).await.unwrap();
    let refused = fixture.other().set(mark(disabled("other")), set).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::InputInvalid);
    let of_a_contact = fixture.marks.set(mark(blocked()), set).await.unwrap_err();
    assert_eq!(of_a_contact.reason(), Reason::InputInvalid);
    assert_eq!(fixture.in_contacts_slot(&blocked()).await, None);
    fixture.marks.clear(&disabled("one"), cleared).await.unwrap();
    let refused = fixture.other().clear(&disabled("other"), cleared).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::InputInvalid);
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

fn contact(n: u8) -> ContactId {
    ContactId::from_digest(&[n; 16])
}

#[tokio::test]
async fn marks_that_have_expired_leave_room_for_new_ones() {
    let fixture = Fixture::new().await;
    let marks = fixture.within(Budgets { kept: 5, ..Budgets::default() });
    for n in 0..5 {
        let expires = Some(NOON.after(SECOND));
        marks.set(Mark { expires, ..mark(disabled(&format!("c{n}"))) }, op()).await.unwrap();
    }
    assert!(marks.set(mark(disabled("more")), op()).await.is_err(), "full");
    marks.set(mark(disabled("c3")), op()).await.expect("what is there is set again");
    marks.clear(&disabled("c3"), op()).await.unwrap();
    fixture.clock.advance(SECOND);
    for n in 0..5 {
        marks.set(mark(disabled(&format!("new{n}"))), op()).await.unwrap();
    }
    assert!(marks.set(mark(disabled("more")), op()).await.is_err(), "full again");
}

#[tokio::test]
async fn upgrades_and_log_outs_in_masses_do_not_keep_an_operator_from_blocking() {
    let fixture = Fixture::new().await;
    let marks = fixture.within(Budgets { gone: 3, stale: 3, ended: 3, kept: 3 });
    let sessions: Vec<_> = (0..10).map(|_| SessionId::generate(&SystemRandom)).collect();
    let session = |n: u8| sessions[usize::from(n)].clone();
    let expires = Some(NOON.after(SECOND * 960));
    for n in 0..5 {
        let stale = key(Subject::AssertionStale(contact(n), Some(session(n))));
        let ended = key(Subject::SessionRevoked(contact(n), session(n)));
        for one in [stale, ended] {
            let taken = marks.set(Mark { expires, ..mark(one.clone()) }, op()).await;
            assert_eq!(taken.is_ok(), n < 3, "{n}");
            assert_eq!(fixture.in_contacts_slot(&one).await.is_some(), n < 3, "what is refused is set nowhere");
        }
    }
    marks.set(mark(blocked()), op()).await.unwrap();
    marks.set(mark(key(Subject::ContactSignedOut(contact(9)))), op()).await.unwrap();
    marks.set(mark(key(Subject::SessionRevoked(contact(9), session(9)))), op()).await.unwrap();
    fixture.clock.advance(SECOND * 960);
    let again = key(Subject::AssertionStale(contact(7), Some(session(7))));
    marks.set(Mark { expires: Some(NOON.after(SECOND * 2000)), ..mark(again) }, op()).await.unwrap();
}

#[tokio::test]
async fn a_clear_in_the_middle_of_a_set_leaves_feed_and_slot_alike() {
    let fixture = Fixture::new().await;
    let (slot, place) = fixture.marks.place_of(&blocked()).unwrap();
    let operation = op();
    // The first half of the one, the other whole, then the second half.
    let asked = fixture.marks.set_for_contact(&slot, &place, &mark(blocked()), operation).await.unwrap();
    assert!(fixture.in_contacts_slot(&blocked()).await.is_some(), "closed for writes already");
    fixture.marks.clear(&blocked(), op()).await.unwrap();
    let set = fixture.marks.set(asked, operation).await.unwrap();
    assert_eq!(fixture.other().met(&[MarkCheck::any(blocked())]).await.unwrap(), Some(set.clone()));
    assert_eq!(fixture.in_contacts_slot(&blocked()).await, Some(set), "answered last");
}

#[tokio::test]
async fn whoever_sets_and_clears_at_once_leaves_feed_and_slot_alike() {
    let fixture = Fixture::new().await;
    let processes = [fixture.marks.clone(), fixture.other(), fixture.other()];
    for round in 0..20 {
        let changes = (0..6).map(|n| {
            let marks = processes[n % 3].clone();
            async move {
                if (n + round) % 2 == 0 {
                    marks.set(mark(blocked()), op()).await.map(drop).unwrap();
                } else {
                    marks.clear(&blocked(), op()).await.map(drop).unwrap();
                }
            }
        });
        futures_util::future::join_all(changes).await;
        let fresh = fixture.other();
        let heard = fresh.met(&[MarkCheck::any(blocked())]).await.unwrap();
        assert_eq!(fixture.in_contacts_slot(&blocked()).await, heard, "round {round}");
    }
}

#[tokio::test]
async fn a_clear_mends_what_was_set_half() {
    let fixture = Fixture::new().await;
    let (slot, place) = fixture.marks.place_of(&blocked()).unwrap();
    fixture.marks.set_for_contact(&slot, &place, &mark(blocked()), op()).await.unwrap();
    assert_eq!(fixture.marks.clear(&blocked(), op()).await.unwrap(), (true, 0));
    assert_eq!(fixture.in_contacts_slot(&blocked()).await, None);
}

#[tokio::test]
async fn a_look_does_not_wait_for_those_who_set_marks() {
    let fixture = Fixture::new().await;
    fixture.marks.set(mark(disabled("first")), op()).await.unwrap();
    fixture.gate.stop_commits.store(true, Ordering::SeqCst);
    let sets = (0..200).map(|n| {
        let marks = fixture.marks.clone();
        async move { marks.set(mark(disabled(&format!("c{n}"))), op()).await.unwrap().revision }
    });
    let watch = async {
        fixture.gate.stopped.notified().await;
        let mut stream = watch(&fixture.marks, "");
        // The first of them is in the middle of its write, and the others wait for it.
        let look = tokio::time::timeout(Duration::from_secs(20), fixture.marks.look()).await;
        look.expect("not kept waiting").unwrap();
        assert!(heard(&mut stream).await.0);
        fixture.gate.stop_commits.store(false, Ordering::SeqCst);
        fixture.gate.go_on.notify_one();
    };
    let (revisions, ()) = tokio::join!(futures_util::future::join_all(sets), watch);
    assert_eq!(revisions.iter().max(), Some(&201));
}

#[tokio::test]
async fn those_who_ask_at_once_share_a_look() {
    let fixture = Fixture::new().await;
    fixture.marks.set(mark(disabled("first")), op()).await.unwrap();
    let before = fixture.gate.reads.load(Ordering::SeqCst);
    futures_util::future::join_all((0..500).map(|_| fixture.marks.sync())).await;
    let reads = fixture.gate.reads.load(Ordering::SeqCst) - before;
    assert!(reads < 200, "{reads} reads");
}

#[tokio::test]
async fn nobody_is_told_of_a_half_read_state() {
    let fixture = Fixture::new().await;
    // Of two marks that are set while all are read, one lies in what was read already.
    let names: Vec<String> = (0..100).map(|n| format!("c{n}")).collect();
    let by_bucket = |name: &&String| feed::bucket_of(&disabled(name));
    let (low, high) = (names.iter().min_by_key(by_bucket).unwrap(), names.iter().max_by_key(by_bucket).unwrap());
    fixture.marks.set(mark(disabled("first")), op()).await.unwrap();
    let gate = Gate::before(fixture.gate.clone());
    let reader = Marks::new(gate.clone(), keyer(), fixture.clock.clone());
    reader.look().await.unwrap();
    // It reads everything again where it knows another history.
    reader.write(|board| *board = Board::load(Vec::new(), Vec::new(), (1, Some(op())), 1));
    let reads = gate.reads.load(Ordering::SeqCst);
    let middle = reads + 3 + usize::from(BUCKETS / BUCKETS_AT_ONCE / 2);
    gate.stop_at.store(middle, Ordering::SeqCst);
    let change = async {
        gate.stopped.notified().await;
        fixture.marks.set(mark(disabled(low)), op()).await.unwrap();
        fixture.marks.set(mark(disabled(high)), op()).await.unwrap();
        // After the last bucket.
        gate.stop_at.store(reads + 3 + usize::from(BUCKETS / BUCKETS_AT_ONCE), Ordering::SeqCst);
        gate.go_on.notify_one();
        gate.stopped.notified().await;
        let mut watching = watch(&reader, "");
        let mut early = Vec::new();
        while let Some(Some(event)) = futures_util::future::poll_immediate(watching.next()).await {
            early.push(matches!(event, Event::Set(_)));
        }
        gate.go_on.notify_one();
        (watching, early.into_iter().filter(|is_set| *is_set).count())
    };
    let (looked, (mut watching, mut set)) = tokio::join!(reader.look(), change);
    looked.unwrap();
    loop {
        match watching.next().await.unwrap() {
            Event::Reset(_) => set = 0,
            Event::Set(_) => set += 1,
            Event::Cleared(_) => panic!("nothing was cleared"),
            Event::Heartbeat(_) => break,
        }
    }
    assert_eq!(set, 3, "the first one, and both that were set meanwhile");
}
