//! The commit script and its twin in Rust give the same answers to the same history.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use safeconduct_testkit::Redis;
use safeconduct_types::{OperationId, Timestamp};

use super::{Bench, Ground, START, at, operation};
use crate::{Change, Committed, Ends, Expected, GRACE, Snapshot, Write};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    /// Which records; what is expected of each (`None`: whatever is there; else one of the last operations, or
    /// absent); what becomes of each.
    Commit { records: Vec<(usize, Option<u8>, Option<u8>)>, repeat: Option<u8> },
    /// What the clock shows from now on.
    Clock(Timestamp),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let record = (0..NAMES.len(), prop::option::weighted(0.3, 0_u8..6), prop::option::weighted(0.8, 0_u8..8));
    let commit = (prop::collection::vec(record, 1..3), prop::option::weighted(0.3, 0_u8..12))
        .prop_map(|(records, repeat)| Step::Commit { records, repeat });
    // Within the grace: from then on each store collects when it likes, and forgets with it.
    let clock = (0..GRACE.as_secs()).prop_map(|seconds| Step::Clock(START.after(Duration::from_secs(seconds))));
    prop::collection::vec(prop_oneof![5 => commit, 1 => clock], 1..60)
}

/// Plays the steps and returns everything that the store answered.
async fn play(bench: &Bench, salt: u64, steps: &[Step]) -> Vec<(Option<Committed>, Snapshot)> {
    // Each history has operations and records of its own.
    let name = |index: usize| format!("{salt}-{}", NAMES[index]);
    let keys: Vec<_> = (0..NAMES.len()).map(|index| bench.key(&name(index))).collect();
    let mut operations: Vec<OperationId> = Vec::new();
    let recent = |operations: &[OperationId], back: u8| operations.iter().rev().nth(usize::from(back)).copied();
    let mut answers = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        let found = bench.store().read(&bench.slot(), &keys).await.unwrap();
        let answer = match step {
            Step::Clock(to) => {
                bench.clock.set(*to);
                None
            }
            Step::Commit { records, repeat } => {
                let mut changes: Vec<Change> = Vec::new();
                for &(index, expected, write) in records {
                    if changes.iter().any(|change| change.key == keys[index]) {
                        continue;
                    }
                    let expected = match expected {
                        None => {
                            found.records[index].as_ref().map_or(Expected::Absent, |one| Expected::At(one.revision))
                        }
                        Some(back) => recent(&operations, back).map_or(Expected::Absent, at),
                    };
                    let length = |more: u8| Duration::from_secs(100 * u64::from(more));
                    let ends = |more: u8| match more {
                        0 => Ends::Never,
                        1..4 => Ends::At(found.now.after(length(more - 1))),
                        _ => Ends::After(length(more - 4)),
                    };
                    let written = |more: u8| (more == 6).then(|| found.now.before(length(1)));
                    let write = match write {
                        None => Write::Delete,
                        Some(7) => Write::Keep,
                        Some(more) => {
                            Write::Put { value: n.to_string().into(), ends: ends(more), written: written(more) }
                        }
                    };
                    changes.push(bench.write(&name(index), expected, write));
                }
                let fresh = operation((salt << 16) + 0x1_0000_0000 + n as u64);
                let id = repeat.and_then(|back| recent(&operations, back)).unwrap_or(fresh);
                operations.push(id);
                Some(bench.commit(id, &changes).await)
            }
        };
        answers.push((answer, bench.store().read(&bench.slot(), &keys).await.unwrap()));
    }
    answers
}

#[test]
fn both_stores_give_the_same_answers_to_the_same_history() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "no"]);
    let server = runtime.block_on(server).unwrap();
    let redis = tokio::sync::Mutex::new(runtime.block_on(Bench::on(Ground::Server(server))));
    let salt = std::cell::Cell::new(0);
    TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() })
        .run(&steps(), |steps| {
            salt.set(salt.get() + 1);
            let salt = salt.get();
            let (left, right) = runtime.block_on(async {
                let embedded = Bench::embedded().await;
                let redis = redis.lock().await;
                redis.clock.set(START);
                (play(&embedded, salt, &steps).await, play(&redis, salt, &steps).await)
            });
            for (n, (left, right)) in left.iter().zip(&right).enumerate() {
                prop_assert_eq!(left, right, "after step {} ({:?})", n, &steps[n]);
            }
            Ok(())
        })
        .unwrap();
}
