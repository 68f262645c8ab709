//! Nothing that a caller could measure tells whether an address is known: the same number and kind of operations come
//! before the answer, and the answer has the same length.

use async_trait::async_trait;
use prost::Message as _;
use safeconduct_store::{Change, Committed, EmbeddedStore, RecordKey, Records, Slot, Snapshot, StoreError};
use safeconduct_types::{Clock, ManualClock, OperationId, Reason, Subject};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

use super::world::{ANN, NOW, World, contact, other_than, reason};
use super::{HOME, mark};

const AWAY: &str = "198.51.100.9";

/// What was asked of a store, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trip {
    /// So many records were read.
    Read(usize),
    /// So many were written.
    Commit(usize),
}

/// Writes down every way to the store.
#[derive(Debug)]
struct Watched {
    store: EmbeddedStore,
    trips: Mutex<Vec<Trip>>,
}

#[async_trait]
impl Records for Watched {
    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        self.trips.lock().unwrap().push(Trip::Read(keys.len()));
        self.store.read(slot, keys).await
    }

    async fn commit(&self, slot: &Slot, operation: OperationId, changes: &[Change]) -> Result<Committed, StoreError> {
        self.trips.lock().unwrap().push(Trip::Commit(changes.len()));
        self.store.commit(slot, operation, changes).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }
}

/// All that a start did before it answered, and how long the answer was.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    trips: Vec<Trip>,
    takes: usize,
    messages: usize,
    length: Result<usize, Reason>,
}

async fn seen(world: &World, store: &Watched, number: u32, network: &str, address: &str) -> Seen {
    store.trips.lock().unwrap().clear();
    world.admission.calls.lock().unwrap().clear();
    let before = world.outbox.messages.lock().unwrap().len();
    let answer = world.begin(number, network, address).await;
    Seen {
        trips: store.trips.lock().unwrap().clone(),
        takes: world.admission.calls.lock().unwrap().len(),
        messages: world.outbox.messages.lock().unwrap().len() - before,
        length: answer.map(|started| started.encoded_len()).map_err(|refusal| refusal.reason()),
    }
}

#[tokio::test]
async fn a_start_does_the_same_for_every_address_before_it_answers() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::at(NOW));
    let of_store: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let store = EmbeddedStore::open(folder.path().join("store.redb"), of_store).await.unwrap();
    let store = Arc::new(Watched { store, trips: Mutex::default() });
    let records: Arc<dyn Records> = Arc::<Watched>::clone(&store);
    let generous = json!({"budgets": {"sends_per_address_day": 30}});
    let world = World::over(records, clock, folder, &generous);

    let unknown = seen(&world, &store, 1, AWAY, "bob@example.com").await;
    assert!(unknown.length.is_ok() && unknown.takes == 3 && unknown.messages == 1, "{unknown:?}");
    assert!(unknown.trips.contains(&Trip::Commit(2)), "{unknown:?}");

    // Somebody proves this one.
    let id = world.begin(2, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    world.check(2, HOME, &id, &code).await.unwrap();
    assert_eq!(seen(&world, &store, 3, AWAY, ANN).await, unknown, "known");
    assert_eq!(seen(&world, &store, 4, HOME, ANN).await, unknown, "known, and from the network that proved it");

    *world.marks.lock().unwrap() = vec![mark(Subject::ContactBlocked(contact(2)), 0)];
    assert_eq!(seen(&world, &store, 5, AWAY, ANN).await, unknown, "blocked");

    // Its guesses are used up: the code is a longer one, and nothing shows it.
    for number in 10..15 {
        let id = world.begin(number, "", ANN).await.unwrap().verification_id;
        let code = world.code(&id).await;
        for _ in 0..2 {
            assert!(world.check(number, "", &id, &other_than(&code)).await.is_err());
        }
    }
    assert_eq!(seen(&world, &store, 20, AWAY, ANN).await, unknown, "without guesses");
    let strong = world.outbox.messages.lock().unwrap().last().unwrap().verification_id.clone();
    assert_eq!(world.code(&strong).await.len(), 10, "the code is a longer one");

    // Past the sends of the day all addresses are refused alike, too, whoever has them.
    let tight = ["known", "unknown"].map(|who| if who == "known" { ANN } else { "eve@example.com" });
    let mut refusals = Vec::new();
    for (index, address) in tight.into_iter().enumerate() {
        let base = 100 * u32::try_from(index + 1).unwrap();
        let refused = loop_until_refused(&world, &store, base, address).await;
        refusals.push(refused);
    }
    assert_eq!(refusals[0], refusals[1]);
    assert_eq!(refusals[0].length, Err(Reason::CapReached));
    assert_eq!(reason(world.begin(299, "", "eve@example.com").await), Reason::CapReached);
}

/// The first start that is refused, each in a session of its own.
async fn loop_until_refused(world: &World, store: &Watched, base: u32, address: &str) -> Seen {
    for number in base..base + 60 {
        let one = seen(world, store, number, "", address).await;
        if one.length.is_err() {
            return one;
        }
    }
    panic!("nothing is ever refused")
}
