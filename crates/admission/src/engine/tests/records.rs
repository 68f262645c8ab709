//! Both engines give the same answers to the same random histories of records, indexes and a cap beside them.

use std::cell::Cell;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use safeconduct_admission_domain::meter::{Meter, cap};
use safeconduct_admission_domain::step::{IndexOp, When};
use safeconduct_store::{Change, Ends, Expected, Revision, Slot, Write};
use safeconduct_types::{OperationId, Timestamp};

use super::super::{Engine, Members, Step, Stepped};
use super::{Bench, operation};

const START: i64 = 1_700_000_000_000_000;
const NAMES: u64 = 3;
const INDEXES: u64 = 2;

#[derive(Clone, Debug)]
struct Happening {
    /// Which record; what is expected (none: what is there; else an operation so far back, or absent); what is written.
    changes: Vec<(u64, Option<u8>, Becomes)>,
    /// Whether the operation is one so far back.
    repeat: Option<u8>,
    /// Amounts for a cap, counted one after the other.
    takes: Vec<i64>,
    index: Vec<Listed>,
    /// When, in microseconds after the beginning.
    at_us: i64,
}

#[derive(Clone, Debug)]
enum Becomes {
    Put { ends: u8, seconds: u32, written: Option<u32> },
    Gone,
    Same,
}

#[derive(Clone, Debug)]
enum Listed {
    Add(u64, bool, i64, u8),
    Remove(u64, u8),
    Trim(u64, bool, i64),
    Expire(u64, bool, i64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let becomes = prop_oneof![
        6 => (0..3_u8, 0..900_u32, prop::option::weighted(0.3, 0..1_000_u32))
            .prop_map(|(ends, seconds, written)| Becomes::Put { ends, seconds, written }),
        2 => Just(Becomes::Gone),
        2 => Just(Becomes::Same),
    ];
    let score = || prop_oneof![-2_000..500_000_i64, Just(0_i64)];
    let listed = prop_oneof![
        5 => (0..INDEXES, any::<bool>(), score(), 0..6_u8).prop_map(|(a, b, c, d)| Listed::Add(a, b, c, d)),
        1 => (0..INDEXES, 0..6_u8).prop_map(|(index, member)| Listed::Remove(index, member)),
        1 => (0..INDEXES, any::<bool>(), score()).prop_map(|(a, b, c)| Listed::Trim(a, b, c)),
        // Beyond the history: each store lets go of it when it likes.
        1 => (0..INDEXES, any::<bool>(), 1_000_000..9_000_000_i64).prop_map(|(a, b, c)| Listed::Expire(a, b, c)),
    ];
    (
        prop::collection::vec((0..NAMES, prop::option::weighted(0.3, 0_u8..6), becomes), 0..4),
        prop::option::weighted(0.2, 0_u8..12),
        prop::collection::vec(0..4_i64, 0..3),
        prop::collection::vec(listed, 0..3),
        // Less than the grace: from then on each store collects when it likes.
        0..590_000_000_i64,
    )
        .prop_map(|(changes, repeat, takes, index, at_us)| Happening { changes, repeat, takes, index, at_us })
}

type Seen = (Stepped, Vec<Option<safeconduct_store::Record>>, Vec<Members>);

/// Turns happenings into steps; `found` is what is there before each.
fn plan(
    bench: &Bench,
    slot: &Slot,
    salt: u64,
    n: usize,
    happening: &Happening,
    found: &[Option<safeconduct_store::Record>],
    operations: &mut Vec<OperationId>,
) -> Step {
    let recent = |back: u8| operations.iter().rev().nth(usize::from(back)).copied();
    let mut changes: Vec<Change> = Vec::new();
    for (name, expected, becomes) in &happening.changes {
        let key = bench.key(slot, "exec", *name);
        if changes.iter().any(|change| change.key == key) {
            continue;
        }
        let there = found[usize::try_from(*name).unwrap()].as_ref();
        let expected = match expected {
            None => there.map_or(Expected::Absent, |record| Expected::At(record.revision)),
            Some(back) => recent(*back).map_or(Expected::Absent, |one| Expected::At(Revision::of(one))),
        };
        let after = |seconds: u32| Timestamp::from_millis(START / 1000).after(Duration::from_secs(seconds.into()));
        let write = match becomes {
            Becomes::Put { ends, seconds, written } => Write::Put {
                value: format!("{n}\r\n\0").into_bytes().into(),
                ends: match ends {
                    0 => Ends::Never,
                    1 => Ends::At(after(*seconds)),
                    _ => Ends::After(Duration::from_secs((*seconds).into())),
                },
                written: written.map(after),
            },
            Becomes::Gone => Write::Delete,
            Becomes::Same => Write::Keep,
        };
        changes.push(Change { key, expected, write });
    }
    let fresh = operation((salt << 20) + n as u64 + 1);
    let operation = happening.repeat.and_then(recent).unwrap_or(fresh);
    operations.push(operation);
    let writes = changes.iter().any(|change| change.write != Write::Keep);
    let take = |amount: &i64| {
        let take = cap::Take {
            window: cap::Window::Rolling { length_ms: 60_000 },
            max: 9,
            amount: if writes { *amount } else { 0 },
        };
        (bench.key(slot, "cap", 0), Meter::Take(take))
    };
    let index = |listed: &Listed| {
        let when = |now: bool, score: i64| if now { When::Now(score) } else { When::At(START / 1000 + score) };
        let key = |index: u64| bench.key(slot, "list", index);
        match listed {
            Listed::Add(index, now, score, member) => {
                IndexOp::Add { key: key(*index), score: when(*now, *score), member: vec![*member, 0, b'\r'] }
            }
            Listed::Remove(index, member) => IndexOp::Remove { key: key(*index), member: vec![*member, 0, b'\r'] },
            Listed::Trim(index, now, below) => IndexOp::Trim { key: key(*index), below: when(*now, *below) },
            Listed::Expire(index, now, at) => IndexOp::Expire { key: key(*index), at: when(*now, *at) },
        }
    };
    Step {
        operation,
        changes,
        meters: happening.takes.iter().map(take).collect(),
        index: happening.index.iter().map(index).collect(),
    }
}

async fn look(bench: &Bench, engine: &dyn Engine, slot: &Slot, stepped: Stepped) -> Seen {
    let keys: Vec<_> = (0..NAMES).map(|name| bench.key(slot, "exec", name)).collect();
    let records = engine.read(slot, &keys).await.unwrap().records;
    let mut indexes = Vec::new();
    for index in 0..INDEXES {
        let key = bench.key(slot, "list", index);
        for newest_first in [false, true] {
            let (_, all) =
                engine.index(slot, &key, i64::MIN / 4096..=i64::MAX / 4096, 100, newest_first).await.unwrap();
            let (_, two) = engine.index(slot, &key, START / 1000..=i64::MAX / 4096, 2, newest_first).await.unwrap();
            indexes.extend([all, two]);
        }
    }
    (stepped, records, indexes)
}

async fn play(bench: &Bench, salt: u64, happenings: &[Happening]) -> Result<(), TestCaseError> {
    let slot = bench.slot(salt);
    let mut operations = Vec::new();
    let mut found = vec![None; usize::try_from(NAMES).unwrap()];
    for (n, happening) in happenings.iter().enumerate() {
        let now_us = START + happening.at_us;
        let step = plan(bench, &slot, salt, n, happening, &found, &mut operations);
        let embedded = bench.on_embedded(now_us, &step).await.unwrap();
        let redis = bench.on_redis(&slot, now_us, &step).await.unwrap();
        let left = look(bench, &bench.embedded, &slot, embedded).await;
        let right = look(bench, &bench.redis, &slot, redis).await;
        prop_assert_eq!(&left, &right, "after {}: {:?}", n, step);
        found = left.1;
    }
    Ok(())
}

#[test]
fn both_engines_keep_the_same_records_and_indexes() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bench = runtime.block_on(Bench::new());
    let salt = Cell::new(1 << 32);
    let cases = (Config::default().cases / 16).max(1);
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
        .run(&prop::collection::vec(happening(), 1..40), |happenings| {
            salt.set(salt.get() + 1);
            runtime.block_on(play(&bench, salt.get(), &happenings))
        })
        .unwrap();
}
