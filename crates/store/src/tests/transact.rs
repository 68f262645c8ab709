//! Jobs on the embedded engine: transactions, values, indexes, and what a failing disk does to them.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, StorageBackend};
use safeconduct_types::{ManualClock, Secret, Timestamp};

use super::{START, operation};
use crate::embedded::{Opener, RECORDS, VALUES};
use crate::envelope::Verdict;
use crate::{Change, EmbeddedStore, Ends, Expected, GRACE, RecordKey, StoreError, StoreKeyer, Txn, Write};

struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    store: Option<EmbeddedStore>,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let store = EmbeddedStore::open(folder.path().join("store"), clock.clone()).await.unwrap();
        Self { folder, clock, store: Some(store) }
    }

    fn store(&self) -> &EmbeddedStore {
        self.store.as_ref().unwrap()
    }

    async fn restart(&mut self) {
        self.store = None;
        self.store = Some(EmbeddedStore::open(self.folder.path().join("store"), self.clock.clone()).await.unwrap());
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.store().transact(job).await.unwrap()
    }

    async fn value(&self, name: &'static str) -> Option<Vec<u8>> {
        self.store().view(move |view| view.get(&key(name))).await.unwrap()
    }

    async fn members(&self, newest_first: bool) -> Vec<(i64, Vec<u8>)> {
        self.store().view(move |view| view.index_range(&key("index"), 0..=i64::MAX, 100, newest_first)).await.unwrap()
    }

    /// Ends the store and says how many rows are left of records and of values.
    fn rows(&mut self) -> (u64, u64) {
        self.store = None;
        let database = Database::open(self.folder.path().join("store")).unwrap();
        let transaction = database.begin_read().unwrap();
        let records = transaction.open_table(RECORDS).unwrap().len().unwrap();
        (records, transaction.open_table(VALUES).unwrap().len().unwrap())
    }
}

fn key(name: &str) -> RecordKey {
    let keyer = StoreKeyer::new(&Secret::new(vec![7; 32]));
    keyer.key(&keyer.slot(&[b"acme"]), "test", &[name.as_bytes()])
}

fn create(name: &str) -> Change {
    Change { key: key(name), expected: Expected::Absent, write: Write::put(name.to_owned(), Ends::Never) }
}

fn failure() -> StoreError {
    StoreError::Invalid("the test wants it".into())
}

/// Writes to every table there is.
fn write_everything(txn: &mut Txn<'_>) -> Result<(), StoreError> {
    let later = txn.now().after(Duration::from_mins(1));
    txn.apply(operation(9), &[create("record")])?;
    txn.put(&key("value"), b"between", Some(later.after(GRACE)))?;
    txn.put(&key("value"), b"new", Some(later))?;
    txn.put(&key("other"), b"new", None)?;
    txn.delete(&key("gone"))?;
    txn.index_add(&key("index"), 4, b"a")?;
    txn.index_add(&key("index"), 5, b"a")?;
    txn.index_add(&key("index"), 6, b"new")?;
    txn.index_remove(&key("index"), b"b")?;
    txn.index_trim(&key("index"), 2)?;
    txn.index_expires(&key("index"), Some(later))
}

async fn with_something(bench: &Bench) {
    bench
        .run(|txn| {
            txn.put(&key("value"), b"old", None)?;
            txn.put(&key("gone"), b"old", Some(txn.now().after(Duration::from_hours(1))))?;
            for (score, member) in [(1, b"t"), (2, b"a"), (3, b"b")] {
                txn.index_add(&key("index"), score, member)?;
            }
            Ok(())
        })
        .await;
}

async fn is_as_it_was(bench: &Bench) {
    assert_eq!(bench.value("value").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(bench.value("gone").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(bench.value("other").await, None);
    let members: Vec<_> = [(1, "t"), (2, "a"), (3, "b")].map(|(score, name)| (score, name.into())).into();
    assert_eq!(bench.members(false).await, members);
    let record = bench.store().view(|view| view.read(&[key("record")])).await.unwrap();
    assert_eq!(record, [None]);
}

#[tokio::test]
async fn a_job_that_errs_has_written_nothing_and_the_others_go_on() {
    let mut bench = Bench::new().await;
    with_something(&bench).await;
    let store = bench.store().clone();
    let (failed, went) = tokio::join!(
        store.transact(|txn| {
            write_everything(txn)?;
            Err::<(), _>(failure())
        }),
        store.transact(|txn| {
            assert_eq!(txn.get(&key("value"))?.as_deref(), Some(&b"old"[..]));
            txn.put(&key("went"), b"on", None)
        }),
    );
    drop(store);
    assert_eq!((failed, went), (Err(failure()), Ok(())));
    is_as_it_was(&bench).await;
    assert_eq!(bench.value("went").await.as_deref(), Some(&b"on"[..]));
    // Nor is anything collected that the job had given an end.
    bench.clock.advance(Duration::from_mins(30));
    bench.run(|txn| txn.put(&key("went"), b"on", None)).await;
    is_as_it_was(&bench).await;
    bench.restart().await;
    is_as_it_was(&bench).await;
}

#[tokio::test]
async fn a_job_that_panics_has_written_nothing_and_the_writer_lives() {
    let bench = Bench::new().await;
    with_something(&bench).await;
    let answer = bench
        .store()
        .transact(|txn| -> Result<(), StoreError> {
            write_everything(txn)?;
            panic!("the test wants it")
        })
        .await;
    assert_eq!(answer.unwrap_err().name(), "invalid");
    is_as_it_was(&bench).await;
    bench.run(write_everything).await;
    assert_eq!(bench.value("value").await.as_deref(), Some(&b"new"[..]));
}

#[tokio::test]
async fn what_a_job_wrote_is_there_after_a_restart_and_seen_by_the_next() {
    let mut bench = Bench::new().await;
    with_something(&bench).await;
    bench.run(write_everything).await;
    bench.restart().await;
    let seen = bench
        .run(|txn| {
            assert_eq!(txn.judge(operation(9), &[create("record")])?, Verdict::Repeated);
            assert_eq!(txn.judge(operation(8), &[create("record")])?, Verdict::Conflict);
            assert_eq!(txn.judge(operation(8), &[create("fresh")])?, Verdict::Apply);
            Ok((txn.read(&key("record"))?, txn.get(&key("value"))?, txn.get(&key("gone"))?))
        })
        .await;
    let record = seen.0.unwrap();
    assert_eq!((record.value, record.written), ("record".into(), START));
    assert_eq!((seen.1, seen.2), (Some(b"new".to_vec()), None));
    assert_eq!(bench.members(false).await, [(5, b"a".to_vec()), (6, b"new".to_vec())]);
    assert_eq!(bench.members(true).await, [(6, b"new".to_vec()), (5, b"a".to_vec())]);
}

#[tokio::test]
async fn an_index_lists_by_score_and_then_by_member_within_a_range_and_a_limit() {
    let bench = Bench::new().await;
    let entries = [(3, "c"), (1, "b"), (1, "a"), (-5, "x"), (i64::MAX, "end"), (i64::MIN, "start")];
    bench
        .run(move |txn| {
            for (score, member) in entries {
                txn.index_add(&key("index"), score, member.as_bytes())?;
            }
            // One that is next to it.
            txn.index_add(&key("other"), 2, b"foreign")
        })
        .await;
    let list = async |low: i64, high: i64, limit: usize, newest: bool| {
        let found = bench.store().view(move |view| view.index_range(&key("index"), low..=high, limit, newest)).await;
        found.unwrap().into_iter().map(|(_, member)| String::from_utf8(member).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(list(i64::MIN, i64::MAX, 10, false).await, ["start", "x", "a", "b", "c", "end"]);
    assert_eq!(list(i64::MIN, i64::MAX, 10, true).await, ["end", "c", "b", "a", "x", "start"]);
    assert_eq!(list(1, 3, 10, false).await, ["a", "b", "c"]);
    assert_eq!(list(1, 2, 10, true).await, ["b", "a"]);
    assert_eq!(list(-5, 3, 2, true).await, ["c", "b"]);
    assert_eq!(list(4, 3, 10, true).await, [""; 0]);
    bench.run(|txn| txn.index_trim(&key("index"), 1)).await;
    assert_eq!(list(i64::MIN, i64::MAX, 10, false).await, ["a", "b", "c", "end"]);
}

#[tokio::test]
async fn values_and_indexes_end_and_are_collected() {
    let mut bench = Bench::new().await;
    let end = START.after(Duration::from_mins(1));
    bench
        .run(move |txn| {
            txn.put(&key("value"), b"x", Some(end))?;
            txn.put(&key("later"), b"x", Some(end))?;
            txn.put(&key("later"), b"x", Some(end.after(GRACE).after(GRACE)))?;
            txn.put(&key("never"), b"x", Some(end))?;
            txn.put(&key("never"), b"x", None)?;
            for n in 0..200_u8 {
                txn.index_add(&key("index"), n.into(), &[n])?;
            }
            txn.index_expires(&key("index"), Some(end))
        })
        .await;
    bench.clock.set(end.before(Duration::from_millis(1)));
    assert!(bench.value("value").await.is_some());
    assert_eq!(bench.members(false).await.len(), 100);
    bench.clock.set(end);
    assert_eq!(bench.value("value").await, None);
    assert_eq!(bench.members(false).await, []);
    assert!(bench.value("later").await.is_some());
    bench.clock.set(end.after(GRACE));
    // A few at a time.
    for _ in 0..6 {
        bench.run(|txn| txn.put(&key("other"), b"x", None)).await;
    }
    // Its members are gone, not only hidden by its end.
    bench.run(|txn| txn.index_add(&key("index"), 7, b"new")).await;
    assert_eq!(bench.members(false).await, [(7, b"new".to_vec())]);
    assert_eq!(bench.rows(), (0, 3));
}

#[tokio::test]
async fn an_index_that_has_ended_begins_anew() {
    let bench = Bench::new().await;
    let end = START.after(Duration::from_mins(1));
    bench
        .run(move |txn| {
            txn.index_add(&key("index"), 1, b"old")?;
            txn.index_expires(&key("index"), Some(end))
        })
        .await;
    bench.clock.set(end);
    bench.run(|txn| txn.index_add(&key("index"), 2, b"new")).await;
    assert_eq!(bench.members(false).await, [(2, b"new".to_vec())]);
    bench.clock.set(end.after(GRACE).after(GRACE));
    bench.run(|txn| txn.put(&key("other"), b"x", None)).await;
    assert_eq!(bench.members(false).await, [(2, b"new".to_vec())]);
}

#[tokio::test]
async fn a_file_has_an_epoch_that_no_other_has() {
    let (mut one, other) = (Bench::new().await, Bench::new().await);
    let epoch = one.store().epoch();
    assert_ne!(epoch, other.store().epoch());
    assert_eq!(epoch.len(), 32);
    one.restart().await;
    assert_eq!(one.store().epoch(), epoch);
    one.store = None;
    std::fs::remove_file(one.folder.path().join("store")).unwrap();
    one.restart().await;
    assert_ne!(one.store().epoch(), epoch);
}

#[tokio::test]
async fn the_last_clone_may_go_within_a_job() {
    let bench = Bench::new().await;
    let (clock, folder) = (bench.clock.clone(), tempfile::tempdir().unwrap());
    let store = EmbeddedStore::open(folder.path().join("store"), clock).await.unwrap();
    let (inside, (go, wait)) = (store.clone(), std::sync::mpsc::channel::<()>());
    let mut answer = Box::pin(async move {
        let answer = store.transact(move |txn| {
            let _ = wait.recv();
            drop(inside);
            txn.put(&key("a"), b"x", None)
        });
        answer.await
    });
    // Hand it over, and then forget the caller.
    assert!(futures_poll(&mut answer));
    drop(answer);
    go.send(()).unwrap();
    drop(go);
}

/// Polls once. Says whether it is pending.
fn futures_poll<F: Future + Unpin>(future: &mut F) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context).is_pending()
}

/// A disk that can be told to fail.
#[derive(Debug)]
struct BadDisk {
    file: FileBackend,
    broken: Arc<AtomicBool>,
    kind: ErrorKind,
}

impl BadDisk {
    fn check(&self) -> Result<(), Error> {
        if self.broken.load(Ordering::SeqCst) { Err(self.kind.into()) } else { Ok(()) }
    }
}

impl StorageBackend for BadDisk {
    fn len(&self) -> Result<u64, Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.check()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), Error> {
        self.file.close()
    }
}

fn opener(path: &Path, broken: &Arc<AtomicBool>, kind: ErrorKind) -> Opener {
    let (path, broken) = (path.to_owned(), Arc::clone(broken));
    Box::new(move |_| {
        let options = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        let disk = BadDisk { file: FileBackend::new(options)?, broken: Arc::clone(&broken), kind };
        Database::builder().create_with_backend(disk)
    })
}

#[tokio::test]
async fn a_failing_disk_is_told_nothing_is_answered_as_written_and_the_store_recovers() {
    for (kind, names) in
        [(ErrorKind::StorageFull, ["full", "unavailable"]), (ErrorKind::Other, ["unanswered", "unavailable"])]
    {
        let folder = tempfile::tempdir().unwrap();
        let broken = Arc::new(AtomicBool::new(false));
        let path = folder.path().join("store");
        let clock = Arc::new(ManualClock::at(START));
        let store = EmbeddedStore::open_with(opener(&path, &broken, kind), clock).await.unwrap();
        store.transact(|txn| txn.put(&key("count"), &[0], None)).await.unwrap();
        let mut counted = 0;
        let view = || store.view(|view| Ok(view.get(&key("count"))?.map_or(0, |value| value[0])));
        for _ in 0..5 {
            // Somebody reads before, amid and after it.
            assert_eq!(view().await.unwrap(), counted);
            broken.store(true, Ordering::SeqCst);
            for n in 0..4 {
                let count = || store.transact(|txn| increment(txn).map(|_| ()));
                let (one, two) = tokio::join!(count(), count());
                let (one, two) = (one.unwrap_err(), two.unwrap_err());
                assert!([&one, &two].iter().all(|error| names.contains(&error.name())), "{one}, {two}");
                assert!(n > 0 || one.name() == names[0], "{one}: the first failure says why");
                match view().await {
                    Ok(seen) => assert!((counted..=counted + 2).contains(&seen), "{seen} after {counted}"),
                    Err(error) => assert!(names.contains(&error.name()), "{error}"),
                }
            }
            broken.store(false, Ordering::SeqCst);
            let now = store.transact(increment).await.unwrap();
            // What failed without an answer may have been written, the rest has not.
            let most = counted + 1 + if kind == ErrorKind::Other { 2 } else { 0 };
            assert!((counted + 1..=most).contains(&now), "{now} after {counted}");
            counted = now;
            assert_eq!(view().await.unwrap(), counted);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_reads_after_a_write_was_answered_sees_it() {
    let bench = Bench::new().await;
    let answered = Arc::new(AtomicU8::new(0));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (store, answered) = (bench.store().clone(), Arc::clone(&answered));
        readers.spawn(async move {
            let (mut seen, mut reads) = (0, 0_u32);
            while seen < u8::MAX {
                let least = answered.load(Ordering::SeqCst);
                let now = store.view(|view| Ok(view.get(&key("count"))?.map_or(0, |value| value[0]))).await.unwrap();
                assert!(now >= least.max(seen), "{now} after {least} was answered and {seen} was seen");
                seen = now;
                reads += 1;
                // Where the writer has failed this ends here.
                tokio::task::yield_now().await;
            }
            reads
        });
    }
    for _ in 0..u8::MAX {
        let count = bench.run(increment).await;
        answered.store(count, Ordering::SeqCst);
    }
    while let Some(reads) = readers.join_next().await {
        assert!(reads.unwrap() > 1, "it read while others wrote");
    }
}

fn increment(txn: &mut Txn<'_>) -> Result<u8, StoreError> {
    let count = txn.get(&key("count"))?.map_or(0, |value| value[0]) + 1;
    txn.put(&key("count"), &[count], Some(Timestamp::from_millis(i64::MAX)))?;
    Ok(count)
}

#[tokio::test]
async fn what_its_caller_has_given_up_before_its_turn_is_not_done() {
    let bench = Bench::new().await;
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let (started, begun) = tokio::sync::oneshot::channel();
    let store = bench.store().clone();
    let mut busy = tokio::task::JoinSet::new();
    busy.spawn(async move {
        let job = move |_: &mut Txn<'_>| {
            started.send(()).unwrap();
            wait.recv().map_err(|_| StoreError::Invalid("nobody said so".into()))
        };
        store.transact(job).await
    });
    begun.await.unwrap();
    let put = |name: &'static str| bench.store().transact(move |txn| txn.put(&key(name), b"1", None));
    // It is handed over, and waits for its turn behind the other.
    assert!(tokio::time::timeout(Duration::ZERO, put("a")).await.is_err());
    let kept = put("b");
    go_on.send(()).unwrap();
    kept.await.unwrap();
    busy.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!((bench.value("a").await, bench.value("b").await), (None, Some(b"1".to_vec())));
}
