//! Values for the tests of this crate, and a store that is a map.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use safeconduct_types::{ExecutionId, OperationId, Refusal, Timestamp};

use crate::admit::{Admit, AdmitAnswer, decide_admit};
use crate::bounds::{Digest, Lease, Retention, Sealed};
use crate::codec::{decode, encode};
use crate::execution::{Execution, Settlement, Start, Token};
use crate::extend::{Extend, decide_extend};
use crate::key::{Fingerprint, Key, KeyKind, Keys};
use crate::limit::{Cap, CapKind, Charge, Limit, LimitName, Scope, Shape, Unit, Window};
use crate::lookup::{Lookup, LookupAnswer, Target, decide_lookup};
use crate::record::{AtWrite, Decision, Found, Name, Record, known};
use crate::settle::{Settle, decide_settle};

pub(crate) fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

pub(crate) fn lease(seconds: u64) -> Lease {
    Lease::parse(Duration::from_secs(seconds)).unwrap()
}

pub(crate) fn op(number: u64) -> OperationId {
    OperationId::from_bytes(u128::from(number).to_be_bytes())
}

pub(crate) fn execution_id(number: u64) -> ExecutionId {
    format!("exe_{:016x}{number:032x}", 0xabc).parse().unwrap()
}

pub(crate) fn sealed(byte: u8) -> Sealed {
    Sealed::parse(vec![byte; 3]).unwrap()
}

pub(crate) fn caller(number: u8) -> Key {
    Key { kind: KeyKind::Caller, digest: Digest::new([number; 32]) }
}

pub(crate) fn same(number: u8) -> Key {
    Key { kind: KeyKind::Same, digest: Digest::new([number; 32]) }
}

pub(crate) fn fingerprint(number: u8) -> Fingerprint {
    Fingerprint::new(Digest::new([number; 32]))
}

pub(crate) fn running(now: Timestamp, lease: Lease) -> Execution {
    Execution::begin(Start {
        id: execution_id(1),
        keys: Keys::default(),
        generation: 0,
        operation: op(1),
        lease,
        retain: Retention::default(),
        intent: sealed(0),
        charges: Vec::new(),
        consumed: Vec::new(),
        epoch: None,
    })
    .written(now)
}

/// A request of execution `number`, by operation `number`, with a lease of 10 s and a retention of an hour.
pub(crate) fn admit(number: u64, keys: &[Key], print: u8) -> Admit {
    Admit {
        execution: execution_id(number),
        operation: op(number),
        keys: Keys::parse(keys.to_vec()).unwrap(),
        fingerprint: Some(fingerprint(print)),
        retain: Retention::parse(Duration::from_hours(1)).unwrap(),
        lease: lease(10),
        intent: sealed(7),
        resume: None,
        charges: Vec::new(),
        consume: Vec::new(),
        epoch: "first".into(),
        lost_until: Timestamp::default(),
        listed: true,
    }
}

/// One of a day's maximum of 5.
pub(crate) fn charge(name: &str, per_contact: bool) -> Arc<Charge> {
    let cap = Cap::parse(CapKind::Count, Window::rolling(60_000).unwrap(), vec![(Unit::NONE, 5)]).unwrap();
    let limit = Limit {
        name: LimitName::parse(name).unwrap(),
        scope: Scope::Workspace,
        per_contact,
        dimensions: None,
        shape: Shape::Cap(cap),
    };
    Arc::new(Charge::parse(limit, 1, Unit::NONE).unwrap())
}

pub(crate) fn settle(execution: u64, operation: u64, token: Token, settlement: Settlement) -> Settle {
    Settle { execution: execution_id(execution), operation: op(operation), token, settlement }
}

pub(crate) fn completed() -> Settlement {
    Settlement::Completed { outcome: sealed(1), retain: None, actual: Vec::new() }
}

pub(crate) fn released(bytes_sent: bool) -> Settlement {
    Settlement::Released {
        bytes_sent,
        outcome: Some(sealed(2)),
        keep_for_caller_key: false,
        doubt_resolved: false,
        free_completed: false,
    }
}

pub(crate) fn resolved() -> Settlement {
    Settlement::Released {
        bytes_sent: true,
        outcome: Some(sealed(4)),
        keep_for_caller_key: false,
        doubt_resolved: true,
        free_completed: false,
    }
}

pub(crate) fn kept() -> Settlement {
    Settlement::Released {
        bytes_sent: true,
        outcome: Some(sealed(3)),
        keep_for_caller_key: true,
        doubt_resolved: false,
        free_completed: false,
    }
}

pub(crate) fn unknown() -> Settlement {
    Settlement::Unknown { outcome: None }
}

/// A store and the shell's loop around it, without the races: what is read is what is changed.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) now: Timestamp,
    records: BTreeMap<Name, (Bytes, Timestamp, Option<Timestamp>)>,
    /// Whether the next commit is lost after it was decided, as by a crash in between.
    pub(crate) lose: bool,
}

impl Shelf {
    pub(crate) fn get(&self, name: &Name) -> Option<Record> {
        let (bytes, written, expires) = self.records.get(name)?;
        if expires.is_some_and(|end| end <= self.now) { None } else { Some(decode(bytes, *written).unwrap()) }
    }

    pub(crate) fn execution(&self, number: u64) -> Option<Execution> {
        let record = self.get(&Name::Execution(execution_id(number)))?;
        let Record::Execution(execution) = record else { panic!("{record:?}") };
        Some(*execution)
    }

    pub(crate) fn expires(&self, name: &Name) -> Option<Timestamp> {
        self.records[name].2
    }

    fn read(&self, found: &mut Found, names: Vec<Name>) {
        for name in names {
            if let Some(record) = self.get(&name) {
                found.insert(name, record);
            }
        }
    }

    fn commit<A: AtWrite>(&mut self, names: &[Name], decision: Decision<A>) -> A {
        let lost = std::mem::take(&mut self.lose);
        for change in decision.changes {
            assert!(names.contains(&change.name), "{:?} was written without being read", change.name);
            if !lost {
                let expires = change.expires.map(|end| known(end, self.now));
                match change.record {
                    Some(record) => drop(self.records.insert(change.name, (encode(&record).into(), self.now, expires))),
                    None => drop(self.records.remove(&change.name)),
                }
            }
        }
        decision.answer.written(self.now)
    }

    pub(crate) fn admit(&mut self, asked: &Admit) -> Result<AdmitAnswer, Refusal> {
        let mut found = Found::default();
        let mut names = asked.reads();
        self.read(&mut found, names.clone());
        let more = asked.follows(&found);
        self.read(&mut found, more.clone());
        names.extend(more);
        let decision = decide_admit(self.now, asked, &found)?;
        Ok(self.commit(&names, decision))
    }

    pub(crate) fn lookup(&mut self, keys: &[Key], print: Option<u8>) -> LookupAnswer {
        let keys = Keys::parse(keys.to_vec()).unwrap();
        self.look(&Lookup { target: Target::Keys { keys, fingerprint: print.map(fingerprint) } })
    }

    pub(crate) fn look(&mut self, asked: &Lookup) -> LookupAnswer {
        let mut found = Found::default();
        let mut names = asked.reads();
        self.read(&mut found, names.clone());
        let more = asked.follows(&found);
        self.read(&mut found, more.clone());
        names.extend(more);
        let decision = decide_lookup(self.now, asked, &found).unwrap();
        self.commit(&names, decision)
    }

    pub(crate) fn extend(&mut self, asked: &Extend) -> Result<Execution, Refusal> {
        let mut found = Found::default();
        self.read(&mut found, asked.reads());
        let decision = decide_extend(self.now, asked, &found)?;
        Ok(self.commit(&asked.reads(), decision))
    }

    pub(crate) fn settle(&mut self, asked: &Settle) -> Result<Execution, Refusal> {
        let mut found = Found::default();
        let mut names = asked.reads();
        self.read(&mut found, names.clone());
        let more = asked.follows(&found);
        self.read(&mut found, more.clone());
        names.extend(more);
        let decision = decide_settle(asked, &found)?;
        Ok(self.commit(&names, decision))
    }
}
