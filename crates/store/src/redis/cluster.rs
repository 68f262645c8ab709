//! A cluster: which master has which slot, and a link to each.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Value, cmd};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::dial::{Dialer, Target, Terms};
use super::fault::Fault;
use super::hash_slot::{self, SLOTS, tag};
use super::link::{Link, Use};
use super::options::{Address, Reach};
use crate::{Slot, StoreError};

/// How often the map is looked at when nothing is wrong, and when something is.
const CALM: Duration = Duration::from_secs(10);
const TROUBLED: Duration = Duration::from_millis(100);
/// After a slot has moved, so many looks more go to the server that got it: they may follow at once, and a map from before
/// would undo the one that was waited for.
const FRESH: u8 = 3;
/// The least between two looks, however many wait for one.
const LEAST: Duration = Duration::from_millis(10);

/// Which master has which slot.
struct Map {
    /// By slot: the index of its master in `masters`, or more than there are.
    owners: Vec<u16>,
    masters: Vec<Master>,
    /// All servers that were named, replicas included: whom to ask next.
    servers: Vec<Address>,
}

struct Master {
    address: Address,
    /// The lowest of its slots, which holds the keys of the store itself.
    first: u16,
    link: Arc<Link>,
}

pub(super) struct Cluster {
    map: Arc<watch::Sender<Arc<Map>>>,
    makes: Arc<Makes>,
    /// Links to servers that have no slot yet, but are about to get one.
    newcomers: Mutex<HashMap<Address, Arc<Link>>>,
    /// Ends with the cluster.
    _keeper: JoinSet<()>,
}

/// What it takes to make a link.
struct Makes {
    seeds: Vec<Address>,
    reach: Reach,
    terms: Arc<Terms>,
    trouble: Arc<Notify>,
    /// Who was last said to have got a slot, and for how many looks it is still asked first: it knows that before the
    /// others do.
    newest: Mutex<Option<(Address, u8)>>,
}

impl Cluster {
    /// Asks the servers of these addresses for the map and connects to all masters. Fails if no master can be had.
    pub(super) async fn open(seeds: Vec<Address>, reach: Reach, terms: Arc<Terms>) -> Result<Self, StoreError> {
        let makes = Makes { seeds, reach, terms, trouble: Arc::default(), newest: Mutex::default() };
        let makes = Arc::new(makes);
        let empty = Map { owners: Vec::new(), masters: Vec::new(), servers: Vec::new() };
        let map = Arc::new(makes.map(&empty, 0).await?);
        let mut first = Err(StoreError::Unavailable("no server of the cluster has a slot".into()));
        for master in &map.masters {
            let answer = master.link.get(Use::Read).await.map(drop);
            if first.is_err() {
                first = answer;
            }
        }
        first?;
        let map = Arc::new(watch::Sender::new(map));
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(Arc::clone(&map), Arc::clone(&makes)));
        Ok(Self { map, makes, newcomers: Mutex::default(), _keeper: keeper })
    }

    /// The link to the master of this slot.
    pub(super) fn link(&self, slot: &Slot) -> Result<Arc<Link>, StoreError> {
        let map = self.map.borrow();
        let link = map.owner(number(slot)).map(|master| Arc::clone(&master.link));
        link.ok_or_else(|| StoreError::Unavailable("no server of the cluster has the slot of the record".into()))
    }

    /// All links.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.map.borrow().masters.iter().map(|master| Arc::clone(&master.link)).collect()
    }

    /// Has the map looked at.
    pub(super) fn doubt(&self) {
        self.makes.trouble.notify_one();
    }

    /// Waits until the map says that the slot is elsewhere than at `from`, which has sent away to `to`. It may have
    /// gone further from there: whoever has it by the map is to be asked next.
    pub(super) async fn moved(&self, slot: &Slot, from: &Address, to: &Address) -> Result<(), StoreError> {
        let number = number(slot);
        let mut changes = self.map.subscribe();
        let gone = async {
            loop {
                *self.makes.newest() = Some((to.clone(), FRESH));
                self.doubt();
                let gone = changes.wait_for(|map| map.owner(number).is_some_and(|master| master.address != *from));
                // Whoever was asked may not have heard of it yet, and others have the map looked at, too.
                if let Ok(gone) = tokio::time::timeout(TROUBLED, gone).await {
                    return gone.is_ok();
                }
            }
        };
        match tokio::time::timeout(self.makes.terms.connect_timeout, gone).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => {
                Err(StoreError::Unavailable("the servers of the cluster do not agree on a map".into()))
            }
        }
    }

    /// A link to this server, which a slot is on its way to.
    pub(super) fn newcomer(&self, address: &Address) -> Arc<Link> {
        let mut newcomers = self.newcomers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(master) = self.map.borrow().masters.iter().find(|master| master.address == *address) {
            newcomers.remove(address);
            return Arc::clone(&master.link);
        }
        let make = || Arc::new(self.makes.link(address.clone(), None));
        Arc::clone(newcomers.entry(address.clone()).or_insert_with(make))
    }
}

impl Map {
    fn owner(&self, slot: u16) -> Option<&Master> {
        self.masters.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    /// Whether every slot has a master that answers.
    fn is_whole(&self) -> bool {
        let owned = |owner: &u16| usize::from(*owner) < self.masters.len();
        self.owners.iter().all(owned) && self.masters.iter().all(|master| master.link.now().is_some())
    }
}

impl Makes {
    fn newest(&self) -> MutexGuard<'_, Option<(Address, u8)>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to ask first now.
    fn first(&self) -> Option<Address> {
        let mut newest = self.newest();
        let (address, looks) = newest.take()?;
        *newest = looks.checked_sub(1).map(|looks| (address.clone(), looks));
        Some(address)
    }

    /// A link to this server, which has slots from the first to the last of these, if it has any.
    fn link(&self, address: Address, slots: Option<(u16, u16)>) -> Link {
        let (low, high) = (slots.map(|(first, _)| tag(first)), slots.map(|(_, last)| tag(last)));
        let mut dialer = Dialer::new(Target::Fixed(address), self.reach.clone(), low, Arc::clone(&self.terms));
        dialer.other_tag = high;
        Link::start(dialer, Arc::clone(&self.trouble))
    }

    /// The map as some server now tells it, with the links of the one before where they still fit. Who has just got a slot
    /// is asked first, and else `turn` decides: one that is cut off from the others tells an old map for ever.
    async fn map(&self, before: &Map, turn: usize) -> Result<Map, StoreError> {
        let told = self.told(before, turn).await?;
        let (mut masters, mut servers) = (Vec::new(), HashSet::new());
        let mut owners = vec![u16::MAX; usize::from(SLOTS)];
        let mut ranges: Vec<(Address, Vec<(u16, u16)>)> = Vec::new();
        for range in told {
            servers.extend(range.replicas);
            servers.insert(range.master.clone());
            match ranges.iter_mut().find(|(address, _)| *address == range.master) {
                Some((_, all)) => all.push((range.first, range.last)),
                None => ranges.push((range.master, vec![(range.first, range.last)])),
            }
        }
        *self.terms.masters.lock().unwrap_or_else(PoisonError::into_inner) =
            ranges.iter().map(|(address, _)| address.clone()).collect();
        for (index, (address, all)) in ranges.into_iter().enumerate() {
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            let first = all.iter().map(|(first, _)| *first).min().unwrap_or_default();
            let last = all.iter().map(|(_, last)| *last).max().unwrap_or_default();
            for (first, last) in all {
                let range = owners.get_mut(usize::from(first)..=usize::from(last)).unwrap_or_default();
                range.fill(index);
            }
            let known = before.masters.iter().find(|master| master.address == address && master.first == first);
            let link = match known {
                Some(master) => Arc::clone(&master.link),
                None => Arc::new(self.link(address.clone(), Some((first, last)))),
            };
            masters.push(Master { address, first, link });
        }
        Ok(Map { owners, masters, servers: servers.into_iter().collect() })
    }

    async fn told(&self, before: &Map, turn: usize) -> Result<Vec<Range>, StoreError> {
        let mut why = StoreError::Unavailable("no server of the cluster answers".into());
        let up = before.masters.iter().filter_map(|master| Some((master.link.now()?, &master.address)));
        let mut up: Vec<_> = up.collect();
        if !up.is_empty() {
            let first = turn % up.len();
            up.rotate_left(first);
        }
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        if let Some(newest) = self.first() {
            up.sort_by_key(|(_, address)| newest != **address);
            // One with no slot yet, or with another first one than before, has no link that is up.
            if up.first().is_none_or(|(_, address)| newest != **address) {
                let asked = ask_anew(self.reach.client(&newest)?, newest, config.clone());
                if let Ok(Ok(ranges)) = tokio::time::timeout(TROUBLED * 3, asked).await {
                    return Ok(ranges);
                }
            }
        }
        for (up, address) in up {
            let asked = tokio::time::timeout(TROUBLED * 3, ask(&mut up.pipes.first().clone(), address)).await;
            match asked {
                Ok(Ok(ranges)) => return Ok(ranges),
                Ok(Err(error)) => why = error,
                Err(_) => {}
            }
        }
        let mut others: Vec<_> = self.seeds.iter().chain(&before.servers).collect();
        let first = turn % others.len().max(1);
        others.rotate_left(first);
        // All at once: some may be gone without a word.
        let mut asked = JoinSet::new();
        for address in others {
            asked.spawn(ask_anew(self.reach.client(address)?, address.clone(), config.clone()));
        }
        let answers = async {
            while let Some(answer) = asked.join_next().await {
                match answer {
                    Ok(Ok(ranges)) => return Some(ranges),
                    Ok(Err(error)) => why = error,
                    Err(_) => {}
                }
            }
            None
        };
        let answer = tokio::time::timeout(self.terms.connect_timeout, answers).await;
        answer.ok().flatten().ok_or(why)
    }
}

/// Keeps the map, for as long as it is polled.
async fn keep(map: Arc<watch::Sender<Arc<Map>>>, makes: Arc<Makes>) {
    let mut turn = 0;
    loop {
        let pause = if map.borrow().is_whole() { CALM } else { TROUBLED };
        if tokio::time::timeout(pause, makes.trouble.notified()).await.is_ok() {
            turn += 1;
        }
        let before = Arc::clone(&map.borrow());
        match makes.map(&before, turn).await {
            Ok(now) => drop(map.send_replace(Arc::new(now))),
            Err(error) => tracing::debug!(%error, "the map of the cluster cannot be had"),
        }
        turn += usize::from(!map.borrow().is_whole());
        tokio::time::sleep(LEAST).await;
    }
}

/// Slots of one master.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: Address,
    replicas: Vec<Address>,
}

/// Asks over a connection of its own.
async fn ask_anew(client: Client, address: Address, config: AsyncConnectionConfig) -> Result<Vec<Range>, StoreError> {
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    ask(&mut connection.map_err(|error| StoreError::from(Fault::of(&error)))?, &address).await
}

async fn ask(connection: &mut MultiplexedConnection, asked: &Address) -> Result<Vec<Range>, StoreError> {
    let mut question = cmd("CLUSTER");
    question.arg("SLOTS");
    let answer: Value = question.query_async(connection).await.map_err(|error| StoreError::from(Fault::of(&error)))?;
    let ranges = ranges(&answer, asked).filter(|ranges| !ranges.is_empty());
    ranges.ok_or_else(|| StoreError::Unavailable("Redis is no cluster, or one without slots".into()))
}

/// The answer to CLUSTER SLOTS.
fn ranges(answer: &Value, asked: &Address) -> Option<Vec<Range>> {
    let Value::Array(all) = answer else { return None };
    let range = |one: &Value| {
        let Value::Array(parts) = one else { return None };
        let (Value::Int(first), Value::Int(last)) = (parts.first()?, parts.get(1)?) else { return None };
        let mut servers = parts.get(2..)?.iter().map(|server| address(server, asked));
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        (first <= last && last < SLOTS).then_some(Range {
            first,
            last,
            master: servers.next()??,
            replicas: servers.flatten().collect(),
        })
    };
    all.iter().map(range).collect()
}

fn address(server: &Value, asked: &Address) -> Option<Address> {
    let Value::Array(parts) = server else { return None };
    let Value::Int(port) = parts.get(1)? else { return None };
    #[allow(clippy::wildcard_enum_match_arm, reason = "the client's enum is not exhaustive")]
    let host = match parts.first()? {
        Value::BulkString(host) if !host.is_empty() && host != b"?" => std::str::from_utf8(host).ok()?,
        // It does not know under which name it is reached: under the one just used.
        Value::BulkString(_) | Value::Nil => &asked.host,
        _ => return None,
    };
    Some(Address::new(host, u16::try_from(*port).ok()?))
}

fn number(slot: &Slot) -> u16 {
    hash_slot::of(slot.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())])
    }

    fn host(name: &str) -> Value {
        Value::BulkString(name.as_bytes().to_vec())
    }

    #[test]
    fn a_map_names_masters_and_replicas_and_fills_in_the_host_that_was_asked() {
        let asked = Address::new("seed", 1);
        let master = |host, port| Value::Array(vec![Value::Int(0), Value::Int(16_383), server(host, port)]);
        for (named, expected) in [(host("a"), "a"), (host(""), "seed"), (host("?"), "seed"), (Value::Nil, "seed")] {
            let told = ranges(&Value::Array(vec![master(named, 7)]), &asked).unwrap();
            let master = Address::new(expected, 7);
            assert_eq!(told, [Range { first: 0, last: 16_383, master, replicas: Vec::new() }]);
        }
        let parts = vec![Value::Int(1), Value::Int(2), server(host("a"), 7), server(host("b"), 8)];
        let told = ranges(&Value::Array(vec![Value::Array(parts)]), &asked).unwrap();
        assert_eq!(told[0].replicas, [Address::new("b", 8)]);
    }

    #[test]
    fn what_is_no_map_is_refused() {
        let asked = Address::new("seed", 1);
        let odd = |first, last| Value::Array(vec![Value::Array(vec![first, last, server(host("a"), 7)])]);
        for answer in [
            Value::Nil,
            odd(Value::Int(2), Value::Int(1)),
            odd(Value::Int(0), Value::Int(16_384)),
            odd(Value::Int(-1), Value::Int(1)),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(1)])]),
        ] {
            assert_eq!(ranges(&answer, &asked), None, "{answer:?}");
        }
    }
}
