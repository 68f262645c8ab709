//! Steps on the embedded engine: the domain's own code, within a transaction where something must be durable.
//!
//! Rates are in memory and nowhere else. A step that takes from rates alone touches no file and waits for nobody; one
//! that only asks reads a snapshot; every other is a job of the thread that writes, and pays for a durable commit only
//! if it writes.

use std::fmt;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;
use safeconduct_admission_domain::meter::{Corrupt, Keep, Kind, Meter};
use safeconduct_admission_domain::step::{self, IndexOp, Shelf, Verdict, apply};
use safeconduct_store::{
    Change, EmbeddedStore, Ephemeral, Record, RecordKey, Records as _, Slot, Small, Snapshot, StoreError, Txn, View,
    envelope,
};
use safeconduct_types::{OperationId, Timestamp};

use super::{Engine, Members, Need, Step, Stepped, need, stepped};

/// How much longer than it means something the state of a rate is kept, in microseconds: 10 s, more than a clock goes
/// back within a process.
const LINGER_US: i64 = 10_000_000;

/// Bytes of a rate's state, which memory keeps in two words.
const RATE: usize = 13;

/// Steps on the embedded store.
pub(crate) struct EmbeddedEngine {
    store: EmbeddedStore,
}

impl EmbeddedEngine {
    pub(crate) const fn new(store: EmbeddedStore) -> Self {
        Self { store }
    }

    /// Does the step at this time (microseconds) if one is given, else at the store's.
    pub(super) async fn go(&self, step: Step, at: Option<i64>) -> Result<Stepped, StoreError> {
        let need = need(&step)?;
        let store = self.store.clone();
        if need == Need::Volatile && step.changes.is_empty() {
            if step.meters.iter().all(|(_, meter)| meter.kind() == Kind::Rate) {
                let now_us = at.unwrap_or_else(|| store.pace().here());
                return Ok(stepped(run(store.ephemeral(), now_us, &step, Nothing)?, Vec::new()));
            }
            let job = move |view: &View<'_>| run(store.ephemeral(), at.unwrap_or(view.now_us()), &step, view);
            return Ok(stepped(self.store.view(job).await?, Vec::new()));
        }
        let job = move |txn: &mut Txn<'_>| within(&store, at.unwrap_or(txn.now_us()), &step, txn);
        self.store.transact(job).await
    }
}

/// Does the step at this time within a transaction.
pub(super) fn within(
    store: &EmbeddedStore,
    now_us: i64,
    step: &Step,
    txn: &mut Txn<'_>,
) -> Result<Stepped, StoreError> {
    let answer = run(store.ephemeral(), now_us, step, &mut *txn)?;
    let mut records: Vec<Option<Record>> = Vec::new();
    if let step::Stepped::Conflict { .. } = answer {
        for change in &step.changes {
            records.push(txn.read(&change.key)?);
        }
    }
    Ok(stepped(answer, records))
}

impl fmt::Debug for EmbeddedEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedEngine").finish_non_exhaustive()
    }
}

/// Where the durable part of a step happens.
trait Durable {
    fn judge(&mut self, operation: OperationId, changes: &[Change]) -> Result<envelope::Verdict, StoreError>;
    fn write(&mut self, operation: OperationId, changes: &[Change]) -> Result<(), StoreError>;
    fn get(&mut self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError>;
    fn keep(&mut self, key: &RecordKey, keep: &Keep) -> Result<(), StoreError>;
    fn index(&mut self, change: &IndexOp<RecordKey>, now_us: i64) -> Result<(), StoreError>;
}

impl Durable for &mut Txn<'_> {
    fn judge(&mut self, operation: OperationId, changes: &[Change]) -> Result<envelope::Verdict, StoreError> {
        Txn::judge(self, operation, changes)
    }

    fn write(&mut self, operation: OperationId, changes: &[Change]) -> Result<(), StoreError> {
        self.apply(operation, changes)
    }

    fn get(&mut self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        Txn::get(self, key)
    }

    fn keep(&mut self, key: &RecordKey, keep: &Keep) -> Result<(), StoreError> {
        match keep {
            Keep::Put { state, expires_ms } => self.put(key, state, Some(Timestamp::from_millis(*expires_ms))),
            Keep::Delete => self.delete(key),
        }
    }

    fn index(&mut self, change: &IndexOp<RecordKey>, now_us: i64) -> Result<(), StoreError> {
        match change {
            IndexOp::Add { key, score, member } => self.index_add(key, score.resolve(now_us), member),
            IndexOp::Remove { key, member } => self.index_remove(key, member),
            IndexOp::Trim { key, below } => self.index_trim(key, below.resolve(now_us)),
            IndexOp::Expire { key, at } => self.index_expires(key, Some(Timestamp::from_millis(at.resolve(now_us)))),
        }
    }
}

/// What is not there cannot be written: a step that only asks never comes so far.
fn asks_only() -> StoreError {
    StoreError::Invalid("a step that only asks writes nothing".into())
}

impl Durable for &View<'_> {
    fn judge(&mut self, _: OperationId, changes: &[Change]) -> Result<envelope::Verdict, StoreError> {
        if changes.is_empty() { Ok(envelope::Verdict::Apply) } else { Err(asks_only()) }
    }

    fn write(&mut self, _: OperationId, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() { Ok(()) } else { Err(asks_only()) }
    }

    fn get(&mut self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        View::get(self, key)
    }

    fn keep(&mut self, _: &RecordKey, _: &Keep) -> Result<(), StoreError> {
        Err(asks_only())
    }

    fn index(&mut self, _: &IndexOp<RecordKey>, _: i64) -> Result<(), StoreError> {
        Err(asks_only())
    }
}

/// For steps on rates alone.
struct Nothing;

impl Durable for Nothing {
    fn judge(&mut self, _: OperationId, changes: &[Change]) -> Result<envelope::Verdict, StoreError> {
        if changes.is_empty() { Ok(envelope::Verdict::Apply) } else { Err(asks_only()) }
    }

    fn write(&mut self, _: OperationId, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() { Ok(()) } else { Err(asks_only()) }
    }

    fn get(&mut self, _: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        Err(asks_only())
    }

    fn keep(&mut self, _: &RecordKey, _: &Keep) -> Result<(), StoreError> {
        Err(asks_only())
    }

    fn index(&mut self, _: &IndexOp<RecordKey>, _: i64) -> Result<(), StoreError> {
        Err(asks_only())
    }
}

/// A slot on this engine: rates in memory, everything else where it is durable.
struct Place<'a, D> {
    durable: D,
    keys: &'a [RecordKey],
    rates: &'a mut [Option<Small>],
}

/// [`StoreError`] for the domain's code.
struct Failed(StoreError);

impl From<Corrupt> for Failed {
    fn from(corrupt: Corrupt) -> Self {
        Self(StoreError::Corrupt(corrupt.to_string().into()))
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self(error)
    }
}

impl<D> Place<'_, D> {
    fn rate(&mut self, key: &RecordKey) -> Result<&mut Option<Small>, StoreError> {
        let place = self.keys.iter().position(|known| known == key);
        let unknown = || StoreError::Invalid("a rate that was not asked for".into());
        place.and_then(|place| self.rates.get_mut(place)).ok_or_else(unknown)
    }
}

impl<D: Durable> Shelf for Place<'_, D> {
    type Key = RecordKey;
    type Change = Change;
    type Error = Failed;

    fn judge(&mut self, operation: OperationId, changes: &[Change]) -> Result<Verdict, Failed> {
        Ok(match self.durable.judge(operation, changes)? {
            envelope::Verdict::Apply => Verdict::Apply,
            envelope::Verdict::Repeated => Verdict::Repeated,
            envelope::Verdict::Conflict => Verdict::Conflict,
        })
    }

    fn state(&mut self, key: &RecordKey, kind: Kind) -> Result<Option<Vec<u8>>, Failed> {
        Ok(match kind {
            Kind::Cap => self.durable.get(key)?,
            Kind::Rate => self.rate(key)?.as_ref().map(unpacked),
        })
    }

    fn write(&mut self, operation: OperationId, changes: &[Change], _: i64) -> Result<(), Failed> {
        Ok(self.durable.write(operation, changes)?)
    }

    fn keep(&mut self, key: &RecordKey, kind: Kind, keep: &Keep) -> Result<(), Failed> {
        match (kind, keep) {
            (Kind::Cap, keep) => self.durable.keep(key, keep)?,
            (Kind::Rate, Keep::Put { state, expires_ms }) => *self.rate(key)? = Some(packed(state, *expires_ms)),
            (Kind::Rate, Keep::Delete) => *self.rate(key)? = None,
        }
        Ok(())
    }

    fn index(&mut self, change: &IndexOp<RecordKey>, now_us: i64) -> Result<(), Failed> {
        Ok(self.durable.index(change, now_us)?)
    }
}

/// A rate's state in two words: its bytes, and zeros.
fn packed(state: &[u8], expires_ms: i64) -> Small {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(state) {
        *to = *from;
    }
    let words = u128::from_be_bytes(bytes);
    let word = |bits: u128| i64::from_be_bytes(u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0).to_be_bytes());
    Small {
        words: [word(words >> 64), word(words)],
        ends_us: expires_ms.saturating_mul(1000).saturating_add(LINGER_US),
    }
}

fn unpacked(small: &Small) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16);
    for word in small.words {
        bytes.extend(word.to_be_bytes());
    }
    bytes.truncate(RATE);
    bytes
}

/// Runs the step with its rates in hand.
fn run<D: Durable>(ephemeral: &Ephemeral, now_us: i64, step: &Step, durable: D) -> Result<step::Stepped, StoreError> {
    let act = |keys: &[RecordKey], rates: &mut [Option<Small>]| {
        apply(step, now_us, &mut Place { durable, keys, rates }).map_err(|failed| failed.0)
    };
    if let [(key, Meter::Rate(_))] = step.meters.as_slice() {
        let keys = std::slice::from_ref(key);
        return ephemeral.update(now_us, keys, |rates| act(keys, rates));
    }
    let mut keys: Vec<RecordKey> = Vec::new();
    for (key, meter) in &step.meters {
        if meter.kind() == Kind::Rate && !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    if keys.is_empty() {
        return act(&[], &mut []);
    }
    ephemeral.update(now_us, &keys, |rates| act(&keys, rates))
}

#[async_trait]
impl Engine for EmbeddedEngine {
    async fn step(&self, _: &Slot, step: Step) -> Result<Stepped, StoreError> {
        self.go(step, None).await
    }

    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        self.store.read(slot, keys).await
    }

    async fn index(
        &self,
        _: &Slot,
        key: &RecordKey,
        scores: RangeInclusive<i64>,
        limit: usize,
        newest_first: bool,
    ) -> Result<(Timestamp, Members), StoreError> {
        let key = key.clone();
        let job = move |view: &View<'_>| {
            let members = view.index_range(&key, scores, limit, newest_first)?;
            let members = members.into_iter().map(|(score, member)| (score, Bytes::from(member))).collect();
            Ok((view.now(), members))
        };
        self.store.view(job).await
    }

    async fn forget(&self, _: &Slot, keys: &[RecordKey]) -> Result<(), StoreError> {
        let (store, keys) = (self.store.clone(), keys.to_vec());
        let job = move |txn: &mut Txn<'_>| {
            keys.iter().try_for_each(|key| txn.delete(key))?;
            store.ephemeral().update(txn.now_us(), &keys, |rates| rates.iter_mut().for_each(|rate| *rate = None));
            Ok(())
        };
        self.store.transact(job).await
    }

    fn epoch(&self, _: &Slot) -> String {
        self.store.epoch()
    }

    fn lost_until(&self, _: &Slot) -> Timestamp {
        Timestamp::default()
    }

    fn now_estimate(&self) -> Timestamp {
        self.store.pace().estimate()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }
}
