//! A store that fails, or is closed in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use safeconduct_admission_client::{Admission as _, AdmitAnswer};
use safeconduct_store::{Change, Committed, EmbeddedRecords, RecordKey, Records, Slot, Snapshot, StoreError};
use safeconduct_types::{ManualClock, OperationId, Reason, Timestamp};

use super::fixture::{Fixture, admitted, same};

/// A store whose first commits fail as told.
#[derive(Debug)]
struct Failing<S> {
    inner: S,
    failures: AtomicUsize,
    error: StoreError,
    /// Whether a commit that fails was written nevertheless.
    written: bool,
}

#[async_trait]
impl<S: Records> Records for Failing<S> {
    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        self.inner.read(slot, keys).await
    }

    async fn commit(&self, slot: &Slot, operation: OperationId, changes: &[Change]) -> Result<Committed, StoreError> {
        let failing =
            self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if !failing {
            return self.inner.commit(slot, operation, changes).await;
        }
        if self.written {
            assert_eq!(self.inner.commit(slot, operation, changes).await, Ok(Committed::Done));
        }
        Err(self.error.clone())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Err(self.error.clone())
    }
}

async fn failing(directory: &tempfile::TempDir, failures: usize, error: StoreError, written: bool) -> Fixture {
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)));
    let inner = EmbeddedRecords::open(directory.path().join("a.redb"), clock.clone()).await.unwrap();
    let records = Failing { inner, failures: AtomicUsize::new(failures), error, written };
    Fixture::over(Arc::new(records), clock)
}

#[tokio::test]
async fn a_store_that_is_gone_is_told_with_a_time_to_wait_and_nothing_is_admitted() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = failing(&directory, 1, StoreError::Unavailable("gone".into()), false).await;
    let request = fixture.request(&[same(1)]);
    let refusal = fixture.client.admit(request.clone(), fixture.deadline()).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::StoreUnavailable);
    assert!(refusal.retry_after().is_some());
    assert!(fixture.admission.ping().await.is_err());
    let _ = admitted(fixture.client.admit(request, fixture.deadline()).await.unwrap());
}

#[tokio::test]
async fn a_store_that_could_forget_admits_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = failing(&directory, 1, StoreError::Unsafe("it evicts".into()), false).await;
    let refusal = fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::StoreUnsafe);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_admits_its_own_request_once() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = failing(&directory, 1, StoreError::Unanswered("lost".into()), true).await;
    let _ = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
    let second = fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap();
    assert!(matches!(second, AdmitAnswer::Running(_)));
}

#[tokio::test]
async fn a_repeat_after_both_answers_were_lost_is_admitted_too() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = failing(&directory, 2, StoreError::Unanswered("lost".into()), true).await;
    let request = fixture.request(&[same(1)]);
    let refusal = fixture.client.admit(request.clone(), fixture.deadline()).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::StoreUnavailable);
    let first = admitted(fixture.client.admit(request.clone(), fixture.deadline()).await.unwrap());
    assert_eq!(admitted(fixture.client.admit(request, fixture.deadline()).await.unwrap()), first);
}

#[tokio::test]
async fn a_restart_forgets_nothing_that_was_admitted() {
    let directory = tempfile::tempdir().unwrap();
    let none = || StoreError::Unavailable("never".into());
    {
        let fixture = failing(&directory, 0, none(), false).await;
        let _ = admitted(fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap());
    }
    let fixture = failing(&directory, 0, none(), false).await;
    let again = fixture.client.admit(fixture.request(&[same(1)]), fixture.deadline()).await.unwrap();
    assert!(matches!(again, AdmitAnswer::Running(_)));
}
