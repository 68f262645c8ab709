//! What may be lost with the process, in memory: the state of rates.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::RecordKey;

/// Each with a lock of its own; all entries of a slot are in one.
const SHARDS: usize = 64;

/// Most entries, over all shards: about 100 MB.
const ENTRIES: usize = 1024 * 1024;

/// Entries that are looked at with each new one. With two, what has ended is never more than about as many as what
/// has not.
const SWEEP: usize = 2;

/// Entries of a full shard that are looked at for one to give up.
const SAMPLE: usize = 8;

/// A small entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Small {
    /// The caller's.
    pub words: [i64; 2],
    /// From when on it is absent, in microseconds since the epoch.
    pub ends_us: i64,
}

/// Small entries with an end, in memory. Nothing here survives the process. Bounded: when there is no room, entries
/// that have ended go first, then those that end soonest among a few.
pub struct Ephemeral {
    shards: Box<[Mutex<Shard>]>,
    /// Most entries of a shard.
    most: usize,
    evicted: AtomicU64,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<u128, Small, BuildHasherDefault<Hashed>>,
    /// Every entry once, in the order in which they are looked at.
    round: VecDeque<u128>,
}

impl Ephemeral {
    pub(crate) fn new() -> Self {
        Self::with_room_for(ENTRIES / SHARDS)
    }

    fn with_room_for(most: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, most, evicted: AtomicU64::new(0) }
    }

    /// Hands the entries under these keys, all of one slot and each once, to `change`, and keeps what it leaves.
    /// What has ended by `now_us` (microseconds since the epoch) is absent. Nobody sees or makes half of a change;
    /// `change` runs under a lock and must be quick.
    pub fn update<R>(&self, now_us: i64, keys: &[RecordKey], change: impl FnOnce(&mut [Option<Small>]) -> R) -> R {
        let mut shard = self.shard(keys);
        if let [key] = keys {
            let mut found = [shard.get(key.id(), now_us)];
            let answer = change(&mut found);
            self.set(&mut shard, key.id(), found[0], now_us);
            return answer;
        }
        let mut found: Vec<_> = keys.iter().map(|key| shard.get(key.id(), now_us)).collect();
        let answer = change(&mut found);
        for (key, entry) in keys.iter().zip(found) {
            self.set(&mut shard, key.id(), entry, now_us);
        }
        answer
    }

    /// How many entries there are, ended ones that were not collected included.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).entries.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries were given up for want of room before they had ended.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn shard(&self, keys: &[RecordKey]) -> MutexGuard<'_, Shard> {
        let slot = keys.first().map_or(0, |key| key.slot().id());
        let index = usize::try_from(slot % SHARDS as u128).unwrap_or_default();
        #[allow(clippy::indexing_slicing, reason = "a remainder by their number")]
        locked(&self.shards[index])
    }

    fn set(&self, shard: &mut Shard, id: u128, entry: Option<Small>, now: i64) {
        // One that is taken away stays in the round, so that it is there only once.
        let ended = Small { words: [0; 2], ends_us: i64::MIN };
        if let Some(there) = shard.entries.get_mut(&id) {
            *there = entry.unwrap_or(ended);
        } else if let Some(entry) = entry {
            shard.sweep(SWEEP, now);
            if shard.entries.len() >= self.most && shard.give_up(now) {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
            shard.entries.insert(id, entry);
            shard.round.push_back(id);
        }
    }
}

impl fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ephemeral").finish_non_exhaustive()
    }
}

impl Shard {
    fn get(&self, id: u128, now: i64) -> Option<Small> {
        self.entries.get(&id).copied().filter(|entry| now < entry.ends_us)
    }

    /// Looks at the next few, and removes those that have ended.
    fn sweep(&mut self, count: usize, now: i64) {
        for _ in 0..count {
            let Some(id) = self.round.pop_front() else { return };
            if self.get(id, now).is_some() {
                self.round.push_back(id);
            } else {
                self.entries.remove(&id);
            }
        }
    }

    /// Makes room for one. Says whether one went that had not ended.
    fn give_up(&mut self, now: i64) -> bool {
        let before = self.entries.len();
        self.sweep(SAMPLE, now);
        if self.entries.len() < before {
            return false;
        }
        // Those that were just looked at are the last of the round.
        let sample = self.round.iter().enumerate().rev().take(SAMPLE);
        let soonest = sample.min_by_key(|(_, id)| self.entries.get(id).map(|entry| entry.ends_us));
        if let Some((at, &id)) = soonest {
            self.round.remove(at);
            self.entries.remove(&id);
        }
        true
    }
}

fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Entries are written after the caller's part, one by one; a panic in it has changed none.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keys are keyed hashes already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        // Its low half, and not the bits that chose the shard alone.
        self.0 = u64::try_from(id & u128::from(u64::MAX)).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use safeconduct_types::Secret;

    use super::*;
    use crate::{Slot, StoreKeyer};

    const NOW: i64 = 1_000_000;

    struct Bench {
        keyer: StoreKeyer,
        slot: Slot,
    }

    fn bench() -> Bench {
        let keyer = StoreKeyer::new(&Secret::new(vec![7; 32]));
        Bench { slot: keyer.slot(&[b"acme"]), keyer }
    }

    impl Bench {
        fn key(&self, n: u64) -> RecordKey {
            self.keyer.key(&self.slot, "rate", &[&n.to_be_bytes()])
        }

        fn put(&self, at: &Ephemeral, now: i64, n: u64, ends_us: i64) {
            at.update(now, &[self.key(n)], |found| found[0] = Some(Small { words: [1, 2], ends_us }));
        }

        fn has(&self, at: &Ephemeral, now: i64, n: u64) -> bool {
            at.update(now, &[self.key(n)], |found| found[0].is_some())
        }
    }

    #[test]
    fn an_entry_is_there_until_its_end_or_until_it_is_taken_away() {
        let (bench, entries) = (bench(), Ephemeral::new());
        bench.put(&entries, NOW, 1, NOW + 10);
        bench.put(&entries, NOW, 2, NOW + 10);
        assert!(bench.has(&entries, NOW + 9, 1));
        assert!(!bench.has(&entries, NOW + 10, 1));
        entries.update(NOW, &[bench.key(2)], |found| found[0] = None);
        assert!(!bench.has(&entries, NOW, 2));
        assert!(!bench.has(&entries, NOW, 3));
    }

    #[test]
    fn several_keys_change_together_and_in_their_order() {
        let (bench, entries) = (bench(), Ephemeral::new());
        let keys: Vec<_> = (0..5).map(|n| bench.key(n)).collect();
        entries.update(NOW, &keys, |found| {
            for (n, entry) in (0..).zip(found) {
                *entry = Some(Small { words: [n, 0], ends_us: i64::MAX });
            }
        });
        let seen =
            entries.update(NOW, &keys, |found| found.iter().map(|one| one.unwrap().words[0]).collect::<Vec<_>>());
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn no_update_is_lost_between_threads() {
        let (bench, entries) = (Arc::new(bench()), Arc::new(Ephemeral::new()));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (bench, entries) = (Arc::clone(&bench), Arc::clone(&entries));
                std::thread::spawn(move || {
                    for _ in 0..1000 {
                        entries.update(NOW, &[bench.key(1), bench.key(2)], |found| {
                            for entry in found {
                                let count = entry.map_or(0, |entry| entry.words[0]);
                                *entry = Some(Small { words: [count + 1, 0], ends_us: i64::MAX });
                            }
                        });
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let counts =
            entries.update(NOW, &[bench.key(1), bench.key(2)], |found| [0, 1].map(|n| found[n].unwrap().words[0]));
        assert_eq!(counts, [8000, 8000]);
    }

    #[test]
    fn ended_entries_are_collected_while_new_ones_come() {
        let (bench, entries) = (bench(), Ephemeral::new());
        for n in 0..100_000 {
            let now = NOW + i64::try_from(n).unwrap();
            bench.put(&entries, now, n, now + 100);
            assert!(entries.len() <= 250, "{} entries after {n}", entries.len());
        }
        assert_eq!(entries.evicted(), 0);
    }

    #[test]
    fn a_full_shard_gives_up_what_has_ended_and_then_what_ends_soonest() {
        let (bench, entries) = (bench(), Ephemeral::with_room_for(8));
        for n in 0..8 {
            bench.put(&entries, NOW, n, if n == 3 { NOW + 5 } else { NOW + 1000 - i64::try_from(n).unwrap() });
        }
        bench.put(&entries, NOW + 5, 8, NOW + 2000);
        assert_eq!((entries.len(), entries.evicted()), (8, 0));
        bench.put(&entries, NOW + 5, 9, NOW + 2000);
        assert_eq!((entries.len(), entries.evicted()), (8, 1));
        assert!(!bench.has(&entries, NOW + 5, 7), "it ended soonest");
        assert!([0, 1, 2, 4, 5, 6, 8, 9].into_iter().all(|n| bench.has(&entries, NOW + 5, n)));
    }

    #[test]
    fn one_that_comes_and_goes_leaves_nothing_behind() {
        let (bench, entries) = (bench(), Ephemeral::new());
        for _ in 0..1000 {
            bench.put(&entries, NOW, 1, NOW + 10);
            entries.update(NOW, &[bench.key(1)], |found| found[0] = None);
            bench.put(&entries, NOW, 2, NOW + 10);
        }
        let rounds: usize = entries.shards.iter().map(|shard| locked(shard).round.len()).sum();
        assert_eq!((entries.len(), rounds), (2, 2));
    }
}
