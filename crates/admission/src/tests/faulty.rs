//! An engine that fails when told to, before or after it did what it was asked.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use async_trait::async_trait;
use safeconduct_store::{RecordKey, Slot, Snapshot, StoreError};
use safeconduct_types::Timestamp;

use crate::engine::{Engine, Members, Step, Stepped};

/// What happens at the step that was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not done, and whoever asked is never heard of again: every further call fails.
    CrashBefore,
    /// It is done, but nobody hears of it.
    CrashAfter,
    /// It is not done.
    Refuse,
    /// It is done, but the answer is lost.
    Lose,
}

#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn Engine>,
    /// Steps until the fault.
    steps: AtomicI64,
    fault: std::sync::Mutex<(Fault, StoreError)>,
    dead: AtomicBool,
    /// Whose shard is gone.
    lost: std::sync::Mutex<Option<Slot>>,
    /// Whose shard says nothing.
    mute: std::sync::Mutex<Option<Slot>>,
    /// Until when, in milliseconds, what was written may be forgotten.
    forgot: AtomicI64,
    /// How many steps and reads there have been.
    pub(super) trips: AtomicUsize,
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            steps: AtomicI64::new(i64::MAX),
            fault: std::sync::Mutex::new((Fault::Refuse, gone())),
            dead: AtomicBool::new(false),
            lost: std::sync::Mutex::default(),
            mute: std::sync::Mutex::default(),
            forgot: AtomicI64::new(0),
            trips: AtomicUsize::new(0),
        })
    }

    /// At the n-th step from now, counted from 1.
    pub(crate) fn at(&self, step: i64, fault: Fault) {
        self.with(step, fault, gone());
    }

    pub(super) fn with(&self, step: i64, fault: Fault, error: StoreError) {
        *self.fault.lock().unwrap() = (fault, error);
        self.steps.store(step, Ordering::SeqCst);
    }

    /// What is in this slot can't be had any more.
    pub(super) fn lose(&self, slot: Slot) {
        *self.lost.lock().unwrap() = Some(slot);
    }

    /// What is in this slot is waited for in vain.
    pub(super) fn mute(&self, slot: Slot) {
        *self.mute.lock().unwrap() = Some(slot);
    }

    /// A fail-over may have forgotten what was written before this moment.
    pub(super) fn forget_until(&self, moment: Timestamp) {
        self.forgot.store(moment.as_millis(), Ordering::SeqCst);
    }

    fn reaches(&self, slot: &Slot) -> Result<(), StoreError> {
        self.alive()?;
        if self.lost.lock().unwrap().as_ref() == Some(slot) { Err(gone()) } else { Ok(()) }
    }

    /// Somebody else goes on. Whether the fault happened.
    pub(crate) fn revive(&self) -> bool {
        let pending = self.steps.swap(i64::MAX, Ordering::SeqCst);
        self.dead.store(false, Ordering::SeqCst);
        pending <= 0
    }

    /// Round trips since the last time.
    pub(super) fn trips(&self) -> usize {
        self.trips.swap(0, Ordering::SeqCst)
    }

    fn alive(&self) -> Result<(), StoreError> {
        self.trips.fetch_add(1, Ordering::SeqCst);
        if self.dead.load(Ordering::SeqCst) { Err(gone()) } else { Ok(()) }
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("gone".into())
}

#[async_trait]
impl Engine for Faulty {
    async fn step(&self, slot: &Slot, step: Step) -> Result<Stepped, StoreError> {
        self.reaches(slot)?;
        if self.steps.fetch_sub(1, Ordering::SeqCst) != 1 {
            return self.inner.step(slot, step).await;
        }
        let (fault, error) = self.fault.lock().unwrap().clone();
        if matches!(fault, Fault::CrashAfter | Fault::Lose) {
            let _ = self.inner.step(slot, step).await?;
        }
        if matches!(fault, Fault::CrashBefore | Fault::CrashAfter) {
            self.dead.store(true, Ordering::SeqCst);
        }
        Err(error)
    }

    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        self.reaches(slot)?;
        let is_mute = self.mute.lock().unwrap().as_ref() == Some(slot);
        if is_mute {
            std::future::pending::<()>().await;
        }
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
        self.alive()?;
        self.inner.index(slot, key, scores, limit, newest_first).await
    }

    async fn forget(&self, slot: &Slot, keys: &[RecordKey]) -> Result<(), StoreError> {
        self.alive()?;
        self.inner.forget(slot, keys).await
    }

    fn epoch(&self, slot: &Slot) -> String {
        self.inner.epoch(slot)
    }

    fn lost_until(&self, slot: &Slot) -> Timestamp {
        self.inner.lost_until(slot).max(Timestamp::from_millis(self.forgot.load(Ordering::SeqCst)))
    }

    fn now_estimate(&self) -> Timestamp {
        self.inner.now_estimate()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.alive()?;
        self.inner.ping().await
    }
}
