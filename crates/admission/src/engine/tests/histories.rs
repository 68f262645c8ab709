//! The model of admission-domain and both engines give the same answers to the same random histories of limits.
//!
//! `PROPTEST_CASES` asks for more of them.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use safeconduct_admission_domain::limit::Shape;
use safeconduct_admission_domain::meter::{Judged, Keep, MAX_NUMBER, Meter, cap};
use safeconduct_admission_domain::testing::{Model, Note, Played, Player, Scenario, scenario};
use safeconduct_store::{Change, Ends, Expected, Record, RecordKey, Slot, Snapshot, Txn, Write};
use safeconduct_types::Timestamp;

use super::super::embedded::within;
use super::super::{Engine as _, Step, Stepped, stepped};
use super::Bench;

/// Where the records of steps begin that have none of their own but need one.
const OWN: u32 = 1_000_000;

/// The steps of a scenario and what must come out of each.
struct History {
    steps: Vec<(i64, Step, Stepped)>,
    records: Vec<RecordKey>,
    caps: Vec<RecordKey>,
    /// Whether the embedded engine may forget a rate that a clock that is set back would need again. The guard of the
    /// process's clock sees to it that there is none.
    forgetful: bool,
}

impl History {
    fn of(scenario: &Scenario, bench: &Bench, slot: &Slot) -> Self {
        let counter = |place: usize| {
            let rate = matches!(scenario.limits[place].shape, Shape::Rate(_));
            bench.key(slot, if rate { "rate" } else { "cap" }, place as u64)
        };
        let record = |note: &Note| bench.key(slot, "exec", u64::from(note.0));
        let (mut model, mut player) = (Model::default(), Player::new(scenario));
        let (mut steps, mut records) = (Vec::new(), Vec::new());
        for event in &scenario.events {
            let Some(mut next) = player.play(event) else { continue };
            remembered(&mut next);
            let outcome = model.apply(&next.step, &next.rates, next.now_us);
            player.hear(&outcome);
            let changes: Vec<_> = next.step.changes.iter().map(|note| change(record(note), *note)).collect();
            for change in &changes {
                if !records.contains(&change.key) {
                    records.push(change.key.clone());
                }
            }
            let meters = next.step.meters.iter().map(|(place, meter)| (counter(*place), meter.clone())).collect();
            let step = Step { operation: next.step.operation, changes, meters, index: Vec::new() };
            steps.push((next.now_us, step, stepped(outcome, Vec::new())));
        }
        let kinds = || scenario.limits.iter().map(|limit| matches!(limit.shape, Shape::Rate(_)));
        let caps = kinds().enumerate().filter(|(_, rate)| !rate).map(|(place, _)| counter(place)).collect();
        let back = scenario.events.iter().any(|event| event.after_us < 0);
        let forgetful = back && kinds().any(|rate| rate);
        Self { steps, records, caps, forgetful }
    }
}

impl History {
    /// Whether it goes on for longer than a state is kept at least.
    fn is_long(&self) -> bool {
        let times = || self.steps.iter().map(|(now, ..)| now / 1000);
        times().max().zip(times().min()).is_some_and(|(last, first)| last - first > cap::GRACE_MS)
    }
}

/// An engine does not take from caps for an operation that nobody remembers.
fn remembered(played: &mut Played) {
    let takes = played.step.meters.iter().any(|(_, meter)| match meter {
        Meter::Rate(_) => false,
        Meter::Take(cap::Take { amount, .. }) => *amount != 0,
        Meter::Adjust(cap::Adjust { delta, .. }) => *delta != 0,
    });
    if takes && played.step.changes.is_empty() {
        let number = u128::from_be_bytes(*played.step.operation.as_bytes());
        played.step.changes.push(Note(OWN + u32::try_from(number).unwrap()));
    }
}

fn change(key: RecordKey, note: Note) -> Change {
    let ends = if note.0.is_multiple_of(2) { Ends::Never } else { Ends::At(Timestamp::from_seconds(9_000_000_000)) };
    let write = Write::Put { value: note.0.to_string().into(), ends, written: None };
    Change { key, expected: Expected::Absent, write }
}

/// The answer without the records that are in the way: the model has none.
fn bare(answer: Stepped) -> Stepped {
    match answer {
        Stepped::Conflict { now, records } => {
            assert!(records.iter().any(Option::is_some), "something is in the way");
            Stepped::Conflict { now, records: Vec::new() }
        }
        Stepped::Done { .. } | Stepped::Denied { .. } | Stepped::Outside { .. } => answer,
    }
}

async fn on_redis(bench: &Bench, slot: &Slot, history: &History) -> Result<(), TestCaseError> {
    for (place, (now, step, expected)) in history.steps.iter().enumerate() {
        let answer = bench.on_redis(slot, *now, step).await.unwrap();
        prop_assert_eq!(&bare(answer), expected, "Redis, step {}: {:?}", place, step);
    }
    Ok(())
}

/// The embedded engine as the service uses it, a commit for each step, or all of them in one: commits are slow.
async fn on_embedded(bench: &Bench, history: &History, at_once: bool) -> Result<(), TestCaseError> {
    let mut answers = Vec::new();
    if at_once {
        let Some((first, ..)) = history.steps.first() else { return Ok(()) };
        // Before everything: nothing ends.
        bench.clock.set(Timestamp::from_millis(first / 1000));
        let steps: Vec<_> = history.steps.iter().map(|(now, step, _)| (*now, step.clone())).collect();
        let file = bench.file.clone();
        let job = move |txn: &mut Txn<'_>| {
            steps.iter().map(|(now, step)| within(&file, *now, step, txn)).collect::<Result<Vec<_>, _>>()
        };
        answers = bench.file.transact(job).await.unwrap();
    } else {
        for (now, step, _) in &history.steps {
            answers.push(bench.on_embedded(*now, step).await.unwrap());
        }
    }
    for (place, (answer, (_, step, expected))) in answers.into_iter().zip(&history.steps).enumerate() {
        prop_assert_eq!(&bare(answer), expected, "embedded, step {}: {:?}", place, step);
    }
    Ok(())
}

async fn play(bench: &Bench, salt: u64, scenario: &Scenario) -> Result<(), TestCaseError> {
    let mut scenario = scenario.clone();
    let mut slot = bench.slot(salt);
    let mut history = History::of(&scenario, bench, &slot);
    on_redis(bench, &slot, &history).await?;
    if history.forgetful {
        scenario.events.iter_mut().for_each(|event| event.after_us = event.after_us.max(0));
        slot = bench.slot(salt | 1 << 40);
        history = History::of(&scenario, bench, &slot);
        on_redis(bench, &slot, &history).await?;
    }
    let at_once = !salt.is_multiple_of(8);
    on_embedded(bench, &history, at_once).await?;
    for batch in history.records.chunks(64) {
        let left = bench.redis.read(&slot, batch).await.unwrap();
        let right = bench.embedded.read(&slot, batch).await.unwrap();
        let kept = |snapshot: Snapshot| {
            let kept = |record: Record| (record.value, record.revision, record.expires);
            snapshot.records.into_iter().map(|record| record.map(kept)).collect::<Vec<_>>()
        };
        prop_assert_eq!(kept(left), kept(right));
    }
    for key in &history.caps {
        let left = bench.redis_state(&slot, key).await;
        let embedded = bench.embedded_state(key).await;
        // Step by step a state ends with the test's clock on the embedded engine, and begins anew; not on Redis.
        prop_assert!(left == embedded || !at_once && history.is_long(), "{:?} {:?}", left, embedded);
    }
    Ok(())
}

#[test]
fn both_engines_answer_as_the_model_does() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bench = runtime.block_on(Bench::new());
    let salt = Cell::new(0_u64);
    let cases = (Config::default().cases / 2).max(1);
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
        .run(&scenario(40), |scenario| {
            salt.set(salt.get() + 1);
            runtime.block_on(async {
                if salt.get().is_multiple_of(1024) {
                    bench.command(&[b"FLUSHALL"]).await;
                }
                play(&bench, salt.get(), &scenario).await
            })
        })
        .unwrap();
}

/// When, how much, and, where something is given back, when that was taken.
type Events = Vec<(i64, i64, Option<i64>)>;

/// A state of a rolling window that is nearly full, and what happens to it.
fn crowd() -> impl Strategy<Value = (i64, Vec<(i64, i64)>, Events)> {
    let length = prop_oneof![Just(3_600_000_i64), Just(86_400_000_i64), 10_000..400 * 86_400_000_i64];
    length.prop_flat_map(|length| {
        let entry = (0..length * 2, prop_oneof![20 => 1..1000_i64, 1 => Just(MAX_NUMBER)]);
        let taken = prop_oneof![0..length, Just(0_i64)];
        let event = (0..length / 4, -500..500_i64, prop::option::of(taken));
        (Just(length), prop::collection::vec(entry, 1000..1100), prop::collection::vec(event, 1..40))
    })
}

async fn squeeze(
    bench: &Bench,
    salt: u64,
    length_ms: i64,
    entries: Vec<(i64, i64)>,
    events: Events,
) -> Result<(), TestCaseError> {
    const START: i64 = 1_700_000_000_000;
    let slot = bench.slot(salt);
    let (key, record) = (bench.key(&slot, "cap", 1), bench.key(&slot, "exec", 1));
    let entries: std::collections::BTreeMap<i64, i64> = entries.into_iter().collect();
    let mut state: Vec<u8> = Vec::new();
    for (time, amount) in entries.iter().take(1024) {
        state.extend(&(START + time).to_be_bytes()[2..]);
        state.extend(&amount.to_be_bytes()[1..]);
    }
    let _ = bench.ask(&slot, "SET", &key, &[&state]).await;
    let mut state = Some(state);
    let mut now_ms = START + length_ms;
    for (n, (after, delta, taken)) in events.into_iter().enumerate() {
        now_ms += after / 100;
        let meter = if let Some(back) = taken {
            let at_ms = entries.keys().rev().find(|time| **time <= back).map_or(now_ms - back, |time| START + time);
            Meter::Adjust(cap::Adjust { place: cap::Place::Rolling { length_ms, at_ms }, delta })
        } else {
            let window = cap::Window::Rolling { length_ms };
            Meter::Take(cap::Take { window, max: MAX_NUMBER / 2, amount: delta.abs() })
        };
        let judged = meter.judge(now_ms * 1000, state.as_deref()).unwrap();
        let Judged::Read { reading, keep } = judged else { panic!("a rolling window is always there") };
        let write = Write::Put { value: "".into(), ends: Ends::Never, written: None };
        let change = Change { key: record.clone(), expected: Expected::Absent, write };
        let _ = bench.ask(&slot, "DEL", &record, &[]).await;
        let step = super::step(n as u64, vec![change], vec![(key.clone(), meter)], Vec::new());
        let answer = bench.on_redis(&slot, now_ms * 1000, &step).await.unwrap();
        let (Stepped::Done { readings, .. } | Stepped::Denied { readings, .. }) = &answer else { panic!("{answer:?}") };
        prop_assert_eq!(readings, &vec![reading], "event {}: {:?}", n, step);
        match keep {
            Some(Keep::Put { state: next, .. }) => state = Some(next),
            Some(Keep::Delete) => state = None,
            None => {}
        }
        prop_assert_eq!(&bench.redis_state(&slot, &key).await, &state, "event {}: {:?}", n, step);
    }
    Ok(())
}

#[test]
fn a_crowded_window_is_merged_alike() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bench = runtime.block_on(Bench::new());
    let salt = Cell::new(0_u64);
    let cases = (Config::default().cases / 16).max(1);
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
        .run(&crowd(), |(length, entries, events)| {
            salt.set(salt.get() + 1);
            runtime.block_on(squeeze(&bench, salt.get(), length, entries, events))
        })
        .unwrap();
}
