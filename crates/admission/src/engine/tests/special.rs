//! What is special to one of the engines, and what neither may do.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use safeconduct_admission_domain::calendar::Boundaries;
use safeconduct_admission_domain::limit::Rate;
use safeconduct_admission_domain::meter::{Meter, cap, rate};
use safeconduct_admission_domain::step::{IndexOp, When};
use safeconduct_store::{
    Change, Expected, RecordKey, RedisOptions, RedisServers, RedisStore, Reply, StoreError, StoreKeyer, Write,
};
use safeconduct_testkit::RedisCluster;
use safeconduct_types::{ManualClock, Secret, Timestamp};

use super::super::{Engine, RedisEngine, Stepped};
use super::{Bench, step};

const NOW: i64 = 1_800_000_000_000_000;

fn rate(permits: i64, cost: i64) -> Meter {
    Meter::Rate(rate::Params::new(&Rate::parse(permits, 1_000_000, 0).unwrap(), cost))
}

fn take(max: i64, amount: i64) -> Meter {
    Meter::Take(cap::Take { window: cap::Window::Rolling { length_ms: 60_000 }, max, amount })
}

fn absent(key: RecordKey) -> Change {
    Change { key, expected: Expected::Absent, write: Write::put("x", None) }
}

fn used(stepped: &Stepped) -> i64 {
    let (Stepped::Done { readings, .. } | Stepped::Denied { readings, .. }) = stepped else { panic!("{stepped:?}") };
    readings
        .iter()
        .find_map(|reading| match reading {
            safeconduct_admission_domain::meter::Reading::Cap(cap) => Some(cap.used),
            safeconduct_admission_domain::meter::Reading::Rate(_) => None,
        })
        .unwrap()
}

#[tokio::test]
async fn a_server_that_forgets_its_scripts_is_told_them_again() {
    let bench = Bench::new().await;
    let slot = bench.slot(1);
    for n in 1..6 {
        let changes = vec![absent(bench.key(&slot, "exec", n))];
        let whole = step(n, changes, vec![(bench.key(&slot, "cap", 1), take(100, 1))], Vec::new());
        let rates = step(n, Vec::new(), vec![(bench.key(&slot, "rate", 1), rate(100, 1))], Vec::new());
        assert_eq!(used(&bench.on_redis(&slot, NOW, &whole).await.unwrap()), i64::try_from(n).unwrap());
        assert!(matches!(bench.on_redis(&slot, NOW, &rates).await.unwrap(), Stepped::Done { .. }));
        bench.command(&[b"SCRIPT", b"FLUSH"]).await;
    }
}

#[tokio::test]
async fn a_step_that_arrives_twice_is_done_once() {
    let bench = Bench::new().await;
    let slot = bench.slot(1);
    let key = |space, n| bench.key(&slot, space, n);
    let list = IndexOp::Add { key: key("list", 1), score: When::Now(5), member: b"m".to_vec() };
    let meters = vec![(key("rate", 1), rate(3, 1)), (key("cap", 1), take(10, 7))];
    let whole = step(9, vec![absent(key("exec", 1)), absent(key("key", 1))], meters, vec![list]);
    for again in [false, true, true] {
        for answer in [bench.on_redis(&slot, NOW, &whole).await, bench.on_embedded(NOW, &whole).await] {
            let answer = answer.unwrap();
            assert!(matches!(answer, Stepped::Done { repeated, .. } if repeated == again), "{answer:?}");
            assert_eq!(used(&answer), 7);
        }
    }
}

#[tokio::test]
async fn a_conflict_tells_the_records_that_are_there() {
    let bench = Bench::new().await;
    let slot = bench.slot(1);
    let key = |n| bench.key(&slot, "exec", n);
    for engine in [&bench.redis as &dyn Engine, &bench.embedded] {
        bench.clock.set(Timestamp::from_millis(NOW / 1000));
        let first = step(1, vec![absent(key(1))], Vec::new(), Vec::new());
        assert!(matches!(engine.step(&slot, first).await.unwrap(), Stepped::Done { .. }));
        let second =
            step(2, vec![absent(key(2)), absent(key(1))], vec![(bench.key(&slot, "cap", 1), take(1, 1))], vec![]);
        let Stepped::Conflict { now, records } = engine.step(&slot, second).await.unwrap() else { panic!() };
        assert_eq!(now, Timestamp::from_millis(NOW / 1000));
        assert!(records[0].is_none());
        assert_eq!(records[1].as_ref().unwrap().value, "x");
        let asked = engine.usage(&slot, vec![(bench.key(&slot, "cap", 1), take(1, 1))]).await.unwrap();
        assert_eq!(used(&asked), 0, "a conflict takes nothing");
    }
}

#[tokio::test]
async fn a_step_that_nobody_would_remember_takes_from_no_cap() {
    let bench = Bench::new().await;
    let slot = bench.slot(1);
    let keep = Change { write: Write::Keep, ..absent(bench.key(&slot, "exec", 1)) };
    for changes in [vec![], vec![keep]] {
        let step = step(1, changes, vec![(bench.key(&slot, "cap", 1), take(5, 1))], Vec::new());
        for answer in [bench.on_redis(&slot, NOW, &step).await, bench.on_embedded(NOW, &step).await] {
            assert!(matches!(answer, Err(StoreError::Invalid(_))), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_state_are_neither_read_as_absent_nor_written_over() {
    let bench = Bench::new().await;
    let slot = bench.slot(1);
    let (rates, caps, record) = (bench.key(&slot, "rate", 1), bench.key(&slot, "cap", 1), bench.key(&slot, "exec", 1));
    for garbage in [&b"1"[..], &[0; 13], &[255; 13], &[0; 12], &[1; 26]] {
        for key in [&rates, &caps] {
            bench.ask(&slot, "SET", key, &[garbage]).await;
        }
        let alone = step(1, Vec::new(), vec![(rates.clone(), rate(5, 1))], Vec::new());
        let both = |meters| step(1, vec![absent(record.clone())], meters, Vec::new());
        for step in [alone, both(vec![(rates.clone(), rate(5, 1))]), both(vec![(caps.clone(), take(5, 1))])] {
            let answer = bench.on_redis(&slot, NOW, &step).await;
            assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{garbage:?} {answer:?}");
        }
        for key in [&rates, &caps] {
            assert_eq!(bench.redis_state(&slot, key).await.unwrap(), garbage);
        }
        assert_eq!(bench.redis_state(&slot, &record).await, None);
    }
}

#[tokio::test]
async fn what_a_rate_keeps_goes_once_it_means_nothing() {
    let bench = Bench::new().await;
    let slot = bench.slot(1);
    let key = bench.key(&slot, "rate", 1);
    let only = step(1, Vec::new(), vec![(key.clone(), rate(10, 3))], Vec::new());
    let asked = step(1, Vec::new(), vec![(key.clone(), rate(10, 0))], Vec::new());
    let with_record = step(1, vec![absent(bench.key(&slot, "exec", 1))], vec![(key.clone(), rate(10, 3))], Vec::new());
    let _ = bench.on_redis(&slot, NOW, &asked).await.unwrap();
    assert_eq!(bench.redis_state(&slot, &key).await, None, "who asks writes nothing");
    for step in [only, with_record] {
        bench.ask(&slot, "DEL", &key, &[]).await;
        let _ = bench.on_redis(&slot, NOW, &step).await.unwrap();
        let Reply::Int(left) = bench.ask(&slot, "PTTL", &key, &[]).await else { panic!() };
        assert!((3_890_000..=3_960_301).contains(&left), "300 ms and 65 or 66 minutes: {left}");
    }
}

#[tokio::test]
async fn what_a_cap_keeps_goes_four_days_after_its_window_however_often_it_was_taken_from() {
    let bench = Bench::new().await;
    let slot = bench.slot(1);
    let key = bench.key(&slot, "cap", 1);
    let (now, day) = (NOW / 1000, 86_400_000);
    let window = cap::Window::Calendar(Boundaries::parse([now - day, now, now + day, now + 2 * day]).unwrap());
    let take = Meter::Take(cap::Take { window, max: 100, amount: 1 });
    let back =
        Meter::Adjust(cap::Adjust { place: cap::Place::Calendar { start_ms: now, end_ms: now + day }, delta: -1 });
    // The first begins it and adds to it, the last ends it and begins it anew, within one step.
    let meters = [vec![&take, &take], vec![&take], vec![&back, &back, &back, &take, &take]];
    for (n, meters) in (1..).zip(meters) {
        let meters = meters.into_iter().map(|meter| (key.clone(), meter.clone())).collect();
        let whole = step(n, vec![absent(bench.key(&slot, "exec", n))], meters, Vec::new());
        assert!(matches!(bench.on_redis(&slot, NOW, &whole).await.unwrap(), Stepped::Done { .. }));
        let Reply::Int(left) = bench.ask(&slot, "PTTL", &key, &[]).await else { panic!() };
        assert!((5 * day - 10_000..=5 * day).contains(&left), "{n}: {left}");
    }
}

#[tokio::test]
async fn a_cluster_runs_the_scripts_with_the_keys_of_one_slot() {
    let cluster = RedisCluster::start().await.unwrap();
    let mut options = RedisOptions::of(RedisServers::Cluster { addresses: cluster.addresses() });
    options.clock = Some(Arc::new(ManualClock::at(Timestamp::from_millis(NOW / 1000))));
    options.reply_timeout = Duration::from_secs(10);
    options.connect_timeout = Duration::from_secs(10);
    let engine = RedisEngine::new(RedisStore::connect(options).await.unwrap());
    let keyer = StoreKeyer::new(&Secret::new(vec![7; 32]));
    for n in 0..20_u64 {
        let slot = keyer.slot(&[&n.to_be_bytes()]);
        let key = |space| keyer.key(&slot, space, &[]);
        let list = IndexOp::Add { key: key("list"), score: When::Now(0), member: b"m".to_vec() };
        let trim = IndexOp::Trim { key: key("list"), below: When::Now(-1) };
        let meters = vec![(key("rate"), rate(3, 1)), (key("cap"), take(10, 7))];
        let whole = step(n + 1, vec![absent(key("exec"))], meters, vec![list, trim]);
        assert_eq!(used(&engine.step(&slot, whole).await.unwrap()), 7);
        let rates = vec![(key("rate"), rate(3, 1)), (keyer.key(&slot, "rate", &[b"other"]), rate(3, 1))];
        let alone = step(n + 1, Vec::new(), rates, Vec::new());
        assert!(matches!(engine.step(&slot, alone).await.unwrap(), Stepped::Done { .. }));
        let (_, members) = engine.index(&slot, &key("list"), 0..=i64::MAX / 4096, 9, true).await.unwrap();
        assert_eq!(members, [(NOW / 1000, "m".into())]);
    }
}

#[tokio::test]
async fn rates_and_questions_wait_for_no_writer() {
    let bench = Bench::new().await;
    let slot = bench.slot(1);
    let (go, held) = mpsc::channel::<()>();
    let (started, begun) = tokio::sync::oneshot::channel();
    let file = bench.file.clone();
    let busy = file.transact(move |_| {
        started.send(()).unwrap();
        held.recv().unwrap();
        Ok(())
    });
    let others = async {
        begun.await.unwrap();
        for n in 1..4 {
            let meters = vec![(bench.key(&slot, "rate", 1), rate(2, 1)), (bench.key(&slot, "rate", 2), rate(9, 1))];
            let passed = matches!(
                bench.embedded.step(&slot, step(n, Vec::new(), meters, Vec::new())).await.unwrap(),
                Stepped::Done { .. }
            );
            assert_eq!(passed, n < 3);
        }
        let asked = bench.embedded.usage(&slot, vec![(bench.key(&slot, "cap", 1), take(5, 5))]).await.unwrap();
        assert_eq!(used(&asked), 0);
        go.send(()).unwrap();
    };
    let (busy, ()) = tokio::join!(busy, others);
    busy.unwrap();
}

#[tokio::test]
async fn of_many_at_once_no_cap_lets_through_one_too_many() {
    let bench = Bench::new().await;
    let slot = bench.slot(1);
    bench.clock.set(Timestamp::from_millis(NOW / 1000));
    let bench = std::sync::Arc::new(bench);
    for redis in [true, false] {
        let mut rivals = tokio::task::JoinSet::new();
        for n in 1..=200_u64 {
            let (bench, slot) = (bench.clone(), slot.clone());
            rivals.spawn(async move {
                let changes = vec![absent(bench.key(&slot, "exec", n))];
                let step = step(n, changes, vec![(bench.key(&slot, "cap", 1), take(100, 3))], Vec::new());
                let engine: &dyn Engine = if redis { &bench.redis } else { &bench.embedded };
                matches!(engine.step(&slot, step).await.unwrap(), Stepped::Done { .. })
            });
        }
        let done = rivals.join_all().await.into_iter().filter(|done| *done).count();
        assert_eq!(done, 33);
    }
}
