//! What is special to the embedded engine: one file, one process, one fsync for many.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, StorageBackend};
use safeconduct_types::{Secret, SystemClock};

use super::{Bench, Ground, START, operation};
use crate::embedded::{Opener, RECORDS};
use crate::{Committed, EmbeddedStore, Expected, GRACE, Records, StoreError, StoreKeyer};

/// A file on a disk with a limit, whose fsyncs are counted.
#[derive(Debug)]
struct SmallDisk {
    file: FileBackend,
    limit: Arc<AtomicU64>,
    syncs: Arc<AtomicU64>,
}

impl StorageBackend for SmallDisk {
    fn len(&self) -> Result<u64, Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        if len > self.limit.load(Ordering::SeqCst) && len > self.file.len()? {
            return Err(ErrorKind::StorageFull.into());
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), Error> {
        self.file.close()
    }
}

struct Limits {
    limit: Arc<AtomicU64>,
    syncs: Arc<AtomicU64>,
}

/// A bench whose store is on such a disk.
async fn on_small_disk() -> (Bench, Limits) {
    let mut bench = Bench::embedded().await;
    bench.store = None;
    let limits = Limits { limit: Arc::new(AtomicU64::new(u64::MAX)), syncs: Arc::default() };
    let (path, limit, syncs) = (path(&bench), limits.limit.clone(), limits.syncs.clone());
    let opener: Opener = Box::new(move |_| {
        let file = FileBackend::new(File::options().read(true).write(true).open(&path)?)?;
        Database::builder().create_with_backend(SmallDisk { file, limit: limit.clone(), syncs: syncs.clone() })
    });
    bench.store = Some(Arc::new(EmbeddedStore::open_with(opener, bench.clock.clone()).await.unwrap()));
    (bench, limits)
}

fn path(bench: &Bench) -> PathBuf {
    match &bench.ground {
        Ground::File(folder) => folder.path().join("records"),
        Ground::Server(_) | Ground::Sentinel(_) | Ground::Cluster(_) => unreachable!("a bench on a file"),
    }
}

#[tokio::test]
async fn a_full_disk_is_full_loses_nothing_and_serves_again_once_there_is_room() {
    let (bench, limits) = on_small_disk().await;
    assert_eq!(
        bench.commit(bench.operation(), &[bench.put("a", Expected::Absent, "one", None)]).await,
        Committed::Done
    );
    limits.limit.store(0, Ordering::SeqCst);
    let large = "x".repeat(1 << 20);
    let changes = [bench.put("b", Expected::Absent, "one", None), bench.put("c", Expected::Absent, &large, None)];
    let operation = bench.operation();
    let mut full = false;
    for _ in 0..5 {
        let error = bench.try_commit(operation, &changes).await.unwrap_err();
        full |= matches!(error, StoreError::Full(_));
    }
    assert!(full);
    limits.limit.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(bench.commit(operation, &changes).await, Committed::Done);
    assert_eq!(bench.value("a").await.as_deref(), Some("one"));
    assert_eq!(bench.value("b").await.as_deref(), Some("one"));
    assert_eq!(bench.value("c").await, Some(large));
}

#[tokio::test]
async fn commits_that_wait_together_share_an_fsync() {
    const COMMITS: u64 = 200;
    let (bench, limits) = on_small_disk().await;
    let bench = Arc::new(bench);
    let before = limits.syncs.load(Ordering::SeqCst);
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..COMMITS {
        let bench = Arc::clone(&bench);
        callers.spawn(async move {
            bench.commit(bench.operation(), &[bench.put(&n.to_string(), Expected::Absent, "x", None)]).await
        });
    }
    while let Some(answer) = callers.join_next().await {
        assert_eq!(answer.unwrap(), Committed::Done);
    }
    let syncs = limits.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs < COMMITS / 4, "{syncs} fsyncs");
    assert!(syncs > 0);
}

#[tokio::test]
async fn what_decides_nothing_needs_no_fsync() {
    let (bench, limits) = on_small_disk().await;
    let first = bench.operation();
    let change = [bench.put("a", Expected::Absent, "one", None)];
    assert_eq!(bench.commit(first, &change).await, Committed::Done);
    let before = limits.syncs.load(Ordering::SeqCst);
    assert_eq!(bench.commit(first, &change).await, Committed::Done);
    assert_eq!(bench.commit(bench.operation(), &change).await, Committed::Conflict);
    assert_eq!(limits.syncs.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn expired_and_deleted_records_are_collected_and_no_others() {
    let mut bench = Bench::embedded().await;
    let end = START.after(Duration::from_secs(30));
    let first = bench.operation();
    let changes: Vec<_> = (0..40).map(|n| bench.put(&n.to_string(), Expected::Absent, "x", Some(end))).collect();
    assert_eq!(bench.commit(first, &changes).await, Committed::Done);
    // One lives longer, one has no end any more, one is deleted.
    let later = [
        bench.put("0", super::at(first), "x", Some(end.after(GRACE).after(GRACE))),
        bench.put("1", super::at(first), "x", None),
        bench.delete("2", super::at(first)),
    ];
    assert_eq!(bench.commit(bench.operation(), &later).await, Committed::Done);
    bench.clock.set(end.after(GRACE));
    assert_eq!(
        bench.commit(bench.operation(), &[bench.put("new", Expected::Absent, "x", None)]).await,
        Committed::Done
    );
    let path = path(&bench);
    bench.store = None;
    assert_eq!(rows(&path), 3);
}

fn rows(path: &Path) -> u64 {
    let database = Database::open(path).unwrap();
    database.begin_read().unwrap().open_table(RECORDS).unwrap().len().unwrap()
}

#[tokio::test]
async fn a_second_opening_is_told_that_the_file_is_in_use() {
    let bench = Bench::embedded().await;
    let error = EmbeddedStore::open(path(&bench), bench.clock.clone()).await.unwrap_err();
    assert!(error.to_string().contains("another process has the file of the store open"), "{error}");
    assert_eq!(error.name(), "unavailable");
    bench.store().ping().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    let text = b"not a database\n".repeat(1000);
    std::fs::write(&path, &text).unwrap();
    let error = EmbeddedStore::open(path.clone(), Arc::new(SystemClock)).await.unwrap_err();
    assert_eq!(error.name(), "corrupt", "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), text);
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::embedded().await;
    assert_eq!(std::fs::metadata(path(&bench)).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A bench whose keys are the same in every process.
async fn for_two_processes() -> Bench {
    Bench { keyer: StoreKeyer::new(&Secret::new(vec![7; 32])), ..Bench::embedded().await }
}

const CHILD_FOLDER: &str = "SAFECONDUCT_STORE_TEST_FOLDER";
const CHILD: &str = "tests::embedded::child_that_writes_until_it_is_killed";

/// Not a test by itself: the process that the next one kills.
#[tokio::test]
#[ignore = "run by what_was_acknowledged_survives_kill_9"]
async fn child_that_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let bench = Arc::new(for_two_processes().await);
    let store = EmbeddedStore::open(Path::new(&folder).join("records"), Arc::new(SystemClock)).await.unwrap();
    let store = Arc::new(store);
    let next = Arc::new(AtomicU64::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (bench, store, next) = (bench.clone(), store.clone(), next.clone());
        writers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::SeqCst);
                let change = bench.put(&n.to_string(), Expected::Absent, &n.to_string(), None);
                assert_eq!(store.commit(&bench.slot(), operation(n), &[change]).await, Ok(Committed::Done));
                println!("acknowledged {n}");
            }
        });
    }
    while writers.join_next().await.is_some() {}
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let bench = for_two_processes().await;
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--ignored", "--nocapture"])
        .env(CHILD_FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut acknowledged = Vec::new();
    for line in lines {
        if let Some((_, n)) = line.split_once("acknowledged ") {
            acknowledged.push(n.parse::<u64>().unwrap());
        }
        if acknowledged.len() == 500 {
            // What it had printed before is still read.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= 500, "the child wrote {} records", acknowledged.len());
    let store = EmbeddedStore::open(folder.path().join("records"), Arc::new(SystemClock)).await.unwrap();
    for n in acknowledged {
        let key = bench.key(&n.to_string());
        let found = store.read(&bench.slot(), &[key]).await.unwrap().records.remove(0);
        assert_eq!(found.map(|record| record.value), Some(n.to_string().into()), "record {n} is lost");
    }
}
