//! Signing keys that identity makes itself and keeps sealed in its store, in turns.
//!
//! One record holds them all, so that replicas agree by compare-and-set: whoever comes first makes the next key, the
//! others take it. When keys take turns is decided in `identity-domain` ([`key_schedule`]). The record is sealed with
//! the key file's purpose `record-sealing`; who reads or changes the store can sign nothing. Keys of purpose
//! `assertion-signing` in the file still verify, so that one can change from the one to the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use safeconduct_identity_domain::assertion::{KeyId, SigningKey};
use safeconduct_identity_domain::key_schedule::{self, Turns};
use safeconduct_service::keyring::{ASSERTIONS_LIVE, JWKS_MAX_AGE, KEY_LEN, Live, LiveKeyring, Sealer};
use safeconduct_store::{
    Change, Committed, Ends, Expected, Record, RecordKey, Records, Slot, StoreError, StoreKeyer, Write,
};
use safeconduct_types::{Clock, OperationId, Random, Reason, Refusal, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::signing::{SigningSet, in_file};

/// How often the store is asked for keys that another replica has made, and the turns are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often a change is tried against other replicas.
const ATTEMPTS: usize = 4;

/// What the record is sealed for.
const CONTEXT: &[u8] = b"safeconduct/identity/signing-keys/1";

/// The record's form. An unknown one is refused, never guessed.
const FORM: u8 = 1;

/// Signing keys in the store.
#[derive(Debug)]
pub struct StoredSigning {
    records: Arc<dyn Records>,
    slot: Slot,
    key: RecordKey,
    sealer: Sealer,
    file: LiveKeyring,
    turns: Turns,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// What was read last: turns come on time also while the store is away.
    held: Mutex<Vec<Held>>,
}

#[derive(Clone, Debug)]
struct Held {
    from: Timestamp,
    key: Arc<SigningKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    form: u8,
    keys: Vec<StoredKey>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: KeyId,
    /// Milliseconds of Unix time.
    from: i64,
    seed: Seed,
}

#[derive(Clone, Serialize, Deserialize, ZeroizeOnDrop)]
struct Seed([u8; KEY_LEN]);

impl StoredKey {
    fn held(&self) -> Result<Held, Refusal> {
        let key = SigningKey::from_seed(self.id.clone(), &Secret::new(self.seed.0.to_vec())).map_err(|_| unusable())?;
        Ok(Held { from: Timestamp::from_millis(self.from), key: Arc::new(key) })
    }
}

impl StoredSigning {
    /// The turns of keys that each sign for `period`.
    pub const fn turns(period: Duration) -> Turns {
        Turns { period, known_before: JWKS_MAX_AGE, needed_after: ASSERTIONS_LIVE }
    }

    /// Keys in `records`, named by `keyer` and sealed with `sealer`; those in `file` verify besides.
    pub fn new(
        records: Arc<dyn Records>,
        keyer: &StoreKeyer,
        (sealer, file): (Sealer, LiveKeyring),
        turns: Turns,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let slot = keyer.slot(&[b"signing-keys"]);
        let key = keyer.key(&slot, "signing-keys", &[]);
        Self { records, slot, key, sealer, file, turns, clock, random, held: Mutex::default() }
    }

    /// The keys as they are now, after whatever their turns ask for was done.
    pub async fn take(&self) -> Result<SigningSet, Refusal> {
        for _ in 0..ATTEMPTS {
            let snapshot = self.records.read(&self.slot, std::slice::from_ref(&self.key)).await?;
            let record = snapshot.records.into_iter().next().flatten();
            let before = record.as_ref().map(|record| self.open(record)).transpose()?.unwrap_or_default();
            let after = self.turned(&before, snapshot.now)?;
            let is_current = record.as_ref().is_some_and(|record| self.sealer.is_current(&record.value));
            let done = match after {
                None if is_current => Committed::Done,
                // Sealed anew, so that the key which sealed it can be retired.
                None => self.put(record.as_ref(), before.clone()).await?,
                Some(ref after) => self.put(record.as_ref(), after.clone()).await?,
            };
            match done {
                Committed::Done => {
                    let held = after.unwrap_or(before).iter().map(StoredKey::held).collect::<Result<_, _>>()?;
                    *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
                    return self.set_at(self.clock.now());
                }
                // Another replica was faster: what it made counts.
                Committed::Conflict => {}
            }
        }
        Err(Refusal::new(Reason::Overloaded, "many replicas change the signing keys at once; try again")
            .with_retry_after(Duration::from_millis(200)))
    }

    /// Takes the keys again and again into `live`, until `stop`.
    pub async fn follow(self, live: Live<SigningSet>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let taken = match self.take().await {
                Ok(set) => Ok(set),
                Err(refusal) => {
                    tracing::warn!(reason = refusal.reason().as_str(), %refusal, "the signing keys were not read");
                    self.set_at(self.clock.now())
                }
            };
            match taken {
                Ok(set) if !set.same_as(&live.get()) => {
                    tracing::info!(key = %set.signing().id(), "took the signing keys as they are now");
                    live.set(set);
                }
                Ok(_) => {}
                Err(refusal) => tracing::error!(%refusal, "the signing keys cannot be used; the last ones stay"),
            }
        }
    }

    /// The keys after their turns at `now`, if those ask for a change.
    fn turned(&self, before: &[StoredKey], now: Timestamp) -> Result<Option<Vec<StoredKey>>, Refusal> {
        let from: Vec<_> = before.iter().map(|key| Timestamp::from_millis(key.from)).collect();
        let plan = key_schedule::plan(&from, &self.turns, now);
        if plan == key_schedule::Plan::default() {
            return Ok(None);
        }
        let stays = |key: &&StoredKey| plan.drop_before.is_none_or(|first| key.from >= first.as_millis());
        let mut after: Vec<_> = before.iter().filter(stays).cloned().collect();
        if let Some(from) = plan.add {
            let id = format!("s{}", hex::encode(self.random.bytes::<6>())).try_into().map_err(|_| unusable())?;
            after.push(StoredKey { id, from: from.as_millis(), seed: Seed(self.random.bytes()) });
        }
        Ok(Some(after))
    }

    fn set_at(&self, now: Timestamp) -> Result<SigningSet, Refusal> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let from: Vec<_> = held.iter().map(|one| one.from).collect();
        // Where our clock is behind the store's, the first key of all signs at once all the same.
        let index = key_schedule::signs(&from, now).unwrap_or_default();
        let signing = held.get(index).ok_or_else(unusable)?;
        let file = in_file(&self.file.current()).map_err(|_| unusable())?;
        let others = held.iter().map(|one| &*one.key).chain(&file);
        SigningSet::new(Arc::clone(&signing.key), others).map_err(|_| unusable())
    }

    fn open(&self, record: &Record) -> Result<Vec<StoredKey>, Refusal> {
        let plain = self.sealer.open(&record.value, CONTEXT).map_err(|_| {
            Refusal::internal(
                "the signing keys in the store cannot be opened: the key that sealed them is not, or no longer, in \
                 identity's key file",
            )
        })?;
        match serde_json::from_slice(&plain) {
            Ok(Stored { form: FORM, keys }) => Ok(keys),
            Ok(_) | Err(_) => Err(Refusal::internal("the record of the signing keys is not one of this version")),
        }
    }

    async fn put(&self, before: Option<&Record>, keys: Vec<StoredKey>) -> Result<Committed, Refusal> {
        let plain = serde_json::to_vec(&Stored { form: FORM, keys }).map(Zeroizing::new).map_err(|_| unusable())?;
        let sealed = self.sealer.seal(&plain, CONTEXT).map_err(|_| unusable())?;
        let expected = before.map_or(Expected::Absent, |record| Expected::At(record.revision));
        let change = [Change { key: self.key.clone(), expected, write: Write::put(sealed, Ends::Never) }];
        let operation = OperationId::generate(&*self.random);
        match self.records.commit(&self.slot, operation, &change).await {
            // It may have been written; the same operation tells.
            Err(StoreError::Unanswered(_)) => Ok(self.records.commit(&self.slot, operation, &change).await?),
            other => Ok(other?),
        }
    }
}

fn unusable() -> Refusal {
    Refusal::internal("the signing keys in the store cannot be used")
}

#[cfg(test)]
mod tests {
    use safeconduct_service::keyring::{Keyring, Purpose};
    use safeconduct_store::EmbeddedStore;
    use safeconduct_types::{ManualClock, SeededRandom};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const PERIOD: Duration = Duration::from_hours(24);

    struct Fixture {
        directory: tempfile::TempDir,
        clock: Arc<ManualClock>,
        records: Arc<dyn Records>,
        file: Keyring,
    }

    impl Fixture {
        async fn new() -> Self {
            let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(NOW)));
            let of_store: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
            let records = EmbeddedStore::open(directory.path().join("identity.redb"), of_store).await.unwrap();
            let purposes = [Purpose::AssertionSigning, Purpose::RecordSealing];
            let path = directory.path().join("identity.keys");
            let file = Keyring::generate(&path, &purposes, &SeededRandom::new(1));
            file.save(&SeededRandom::new(8)).unwrap();
            Self { directory, clock, records: Arc::new(records), file }
        }

        fn replica(&self, seed: u64) -> StoredSigning {
            self.replica_with(self.file.clone(), seed)
        }

        fn replica_with(&self, file: Keyring, seed: u64) -> StoredSigning {
            let random: Arc<dyn Random> = Arc::new(SeededRandom::new(seed));
            let file = LiveKeyring::of(file);
            let sealer = file.sealer(Purpose::RecordSealing, Arc::clone(&random)).unwrap();
            let keyer = StoreKeyer::new(&Secret::new(vec![9; 32]));
            let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
            let turns = StoredSigning::turns(PERIOD);
            StoredSigning::new(Arc::clone(&self.records), &keyer, (sealer, file), turns, clock, random)
        }
    }

    fn id(set: &SigningSet) -> String {
        set.signing().id().to_string()
    }

    #[tokio::test]
    async fn however_many_replicas_begin_at_once_they_sign_with_one_key() {
        let fixture = Fixture::new().await;
        let replicas: Vec<_> = (0..4).map(|seed| fixture.replica(100 + seed)).collect();
        let sets: [_; 4] =
            tokio::join!(replicas[0].take(), replicas[1].take(), replicas[2].take(), replicas[3].take()).into();
        let first = sets[0].as_ref().unwrap();
        for set in &sets {
            assert!(set.as_ref().unwrap().same_as(first), "{set:?}");
        }
    }

    #[tokio::test]
    async fn the_next_key_is_published_before_its_turn_and_the_last_one_as_long_as_it_counts() {
        let fixture = Fixture::new().await;
        let (one, other) = (fixture.replica(1), fixture.replica(2));
        let first = id(&one.take().await.unwrap());
        fixture.clock.set(NOW.after(PERIOD).before(JWKS_MAX_AGE));
        let announced = other.take().await.unwrap();
        assert_eq!(id(&announced), first);
        fixture.clock.set(NOW.after(PERIOD));
        let (one_set, other_set) = (one.take().await.unwrap(), other.take().await.unwrap());
        assert!(one_set.same_as(&other_set), "both sign with the one that one of them made");
        assert_ne!(id(&one_set), first);
        assert!(announced.published().contains(one_set.signing().id()));
        assert!(one_set.jwks_json().contains(&first));
        fixture.clock.set(NOW.after(PERIOD + ASSERTIONS_LIVE));
        assert!(!one.take().await.unwrap().jwks_json().contains(&first));
    }

    #[tokio::test]
    async fn what_the_file_signed_before_verifies() {
        let fixture = Fixture::new().await;
        let before = SigningSet::of(&fixture.file).unwrap();
        let set = fixture.replica(1).take().await.unwrap();
        assert_ne!(id(&set), id(&before));
        assert!(set.published().contains(before.signing().id()));
    }

    #[tokio::test]
    async fn a_turn_comes_on_time_also_while_the_store_is_away() {
        let fixture = Fixture::new().await;
        let replica = fixture.replica(1);
        let first = id(&replica.take().await.unwrap());
        fixture.clock.set(NOW.after(PERIOD).before(JWKS_MAX_AGE));
        replica.take().await.unwrap();
        assert_ne!(id(&replica.set_at(NOW.after(PERIOD)).unwrap()), first);
    }

    #[tokio::test]
    async fn the_keys_are_sealed_and_sealed_anew_when_the_sealing_key_was_replaced() {
        let mut fixture = Fixture::new().await;
        let replica = fixture.replica(1);
        let first = id(&replica.take().await.unwrap());
        let key = std::slice::from_ref(&replica.key);
        let record = async || fixture.records.read(&replica.slot, key).await.unwrap().records.remove(0).unwrap();
        let before = record().await;
        assert!(!before.value.windows(4).any(|window| window == b"seed"));
        let old = fixture.file.primary(Purpose::RecordSealing).unwrap().id().clone();
        let mut file = fixture.file.clone();
        file.rotate(Purpose::RecordSealing, NOW, &SeededRandom::new(5)).unwrap();
        assert_eq!(id(&fixture.replica_with(file.clone(), 2).take().await.unwrap()), first);
        assert_ne!(record().await.value, before.value);
        file.retire(Purpose::RecordSealing, &old, NOW, true).unwrap();
        assert_eq!(id(&fixture.replica_with(file.clone(), 3).take().await.unwrap()), first);
        // With other keys nothing is made in their place.
        fixture.file = Keyring::generate(
            &fixture.directory.path().join("other.keys"),
            &[Purpose::AssertionSigning, Purpose::RecordSealing],
            &SeededRandom::new(77),
        );
        assert!(fixture.replica(4).take().await.is_err());
    }
}
