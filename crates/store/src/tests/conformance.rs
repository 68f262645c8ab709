//! What every store must do, written once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use safeconduct_types::Timestamp;

use super::{Bench, START, at};
use crate::{Committed, Ends, Expected, GRACE, MAX_RECORDS, MAX_VALUE, REVISIONS, Write};

/// Runs each function on each store, as tests named after both.
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        mod on_embedded {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Bench::embedded().await).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Bench::redis().await).await;
            })*
        }
        /// Runs all of them, each on a bench of its own.
        pub(super) async fn all(bench: impl AsyncFn() -> Bench) {
            $(println!("{}", stringify!($test));
            $test(bench().await).await;)*
        }
    };
}

on_every_store! {
    what_was_never_written_is_absent,
    a_written_record_reads_back_with_its_revision,
    a_commit_on_another_revision_conflicts_and_changes_nothing,
    one_unexpected_record_stops_the_whole_commit,
    a_repeated_commit_is_done_and_changes_nothing,
    a_repeat_is_known_after_a_successor_has_changed_every_record,
    a_repeat_is_known_after_the_record_was_deleted,
    a_forgotten_repeat_conflicts,
    a_deleted_record_is_absent_and_can_be_created_again,
    the_clock_that_is_passed_decides_expiry,
    a_clock_that_was_mended_in_time_brings_back_what_it_hid,
    a_record_says_when_it_was_written,
    a_length_counts_from_when_the_record_was_written,
    a_kept_record_is_expected_and_nothing_else,
    a_kept_record_neither_remembers_nor_recalls_the_operation,
    a_commit_that_only_keeps_asks,
    an_expired_record_can_be_created_again,
    no_increment_is_lost_among_200_at_once,
    a_large_value_is_kept_whole,
    everything_answered_is_there_after_a_crash,
    a_call_that_no_store_could_serve_is_invalid,
    a_ping_is_answered,
}

async fn what_was_never_written_is_absent(bench: Bench) {
    let snapshot = bench.store().read(&bench.slot(), &[bench.key("a"), bench.key("b")]).await.unwrap();
    assert_eq!(snapshot.records, vec![None, None]);
    assert_eq!(snapshot.now, START);
}

async fn a_written_record_reads_back_with_its_revision(bench: Bench) {
    let operation = bench.operation();
    let end = Some(START.after(Duration::from_mins(1)));
    assert_eq!(bench.commit(operation, &[bench.put("a", Expected::Absent, "one", end)]).await, Committed::Done);
    let record = bench.get("a").await.unwrap();
    assert_eq!(record.value, "one");
    assert_eq!(at(operation), Expected::At(record.revision));
    assert_eq!(record.expires, end);
    assert_eq!(bench.get("b").await, None);
}

async fn a_commit_on_another_revision_conflicts_and_changes_nothing(bench: Bench) {
    let (first, second) = (bench.operation(), bench.operation());
    let done = bench.commit(first, &[bench.put("a", Expected::Absent, "one", None)]).await;
    assert_eq!(done, Committed::Done);
    for expected in [Expected::Absent, at(second)] {
        let answer = bench.commit(bench.operation(), &[bench.put("a", expected, "two", None)]).await;
        assert_eq!(answer, Committed::Conflict);
    }
    // Nor is a record there that was never written.
    assert_eq!(bench.commit(bench.operation(), &[bench.put("b", at(first), "x", None)]).await, Committed::Conflict);
    assert_eq!(bench.value("a").await.as_deref(), Some("one"));
    let done = bench.commit(second, &[bench.put("a", at(first), "two", None)]).await;
    assert_eq!(done, Committed::Done);
    assert_eq!(bench.value("a").await.as_deref(), Some("two"));
}

async fn one_unexpected_record_stops_the_whole_commit(bench: Bench) {
    let first = bench.operation();
    let done = bench.commit(first, &[bench.put("b", Expected::Absent, "one", None)]).await;
    assert_eq!(done, Committed::Done);
    let changes = |b: Expected| {
        [
            bench.put("a", Expected::Absent, "new", None),
            bench.put("b", b, "two", None),
            bench.delete("c", Expected::Absent),
        ]
    };
    assert_eq!(bench.commit(bench.operation(), &changes(Expected::Absent)).await, Committed::Conflict);
    assert_eq!((bench.value("a").await, bench.value("b").await), (None, Some("one".to_owned())));
    assert_eq!(bench.commit(bench.operation(), &changes(at(first))).await, Committed::Done);
    assert_eq!((bench.value("a").await, bench.value("b").await), (Some("new".to_owned()), Some("two".to_owned())));
}

async fn a_repeated_commit_is_done_and_changes_nothing(bench: Bench) {
    let operation = bench.operation();
    let changes = [bench.put("a", Expected::Absent, "one", None), bench.delete("b", Expected::Absent)];
    for _ in 0..3 {
        assert_eq!(bench.commit(operation, &changes).await, Committed::Done);
    }
    let record = bench.get("a").await.unwrap();
    assert_eq!(Expected::At(record.revision), at(operation));
}

async fn a_repeat_is_known_after_a_successor_has_changed_every_record(bench: Bench) {
    let first = bench.operation();
    let changes = [bench.put("a", Expected::Absent, "one", None), bench.put("b", Expected::Absent, "one", None)];
    assert_eq!(bench.commit(first, &changes).await, Committed::Done);
    let second = bench.operation();
    let successor = [bench.put("a", at(first), "two", None), bench.put("b", at(first), "two", None)];
    assert_eq!(bench.commit(second, &successor).await, Committed::Done);

    assert_eq!(bench.commit(first, &changes).await, Committed::Done);
    assert_eq!(bench.value("a").await.as_deref(), Some("two"), "a repeat must not write again");
    assert_eq!(bench.value("b").await.as_deref(), Some("two"));
}

async fn a_repeat_is_known_after_the_record_was_deleted(bench: Bench) {
    let (first, second) = (bench.operation(), bench.operation());
    let create = [bench.put("a", Expected::Absent, "one", None)];
    let delete = [bench.delete("a", at(first))];
    assert_eq!(bench.commit(first, &create).await, Committed::Done);
    assert_eq!(bench.commit(second, &delete).await, Committed::Done);
    // Its record is absent as the first commit expects: without a memory it would be created again.
    assert_eq!(bench.commit(first, &create).await, Committed::Done);
    assert_eq!(bench.value("a").await, None);
    assert_eq!(bench.commit(second, &delete).await, Committed::Done);
    bench.clock.set(START.after(GRACE).before(Duration::from_millis(1)));
    assert_eq!(bench.commit(first, &create).await, Committed::Done);
    assert_eq!(bench.value("a").await, None);
}

async fn a_forgotten_repeat_conflicts(bench: Bench) {
    let first = bench.operation();
    let create = [bench.put("a", Expected::Absent, "0", None)];
    assert_eq!(bench.commit(first, &create).await, Committed::Done);
    let mut last = first;
    for n in 1..=REVISIONS {
        let known = bench.commit(first, &create).await;
        assert_eq!(known, Committed::Done, "forgotten after {n} writes");
        let next = bench.operation();
        assert_eq!(bench.commit(next, &[bench.put("a", at(last), &n.to_string(), None)]).await, Committed::Done);
        last = next;
    }
    assert_eq!(bench.commit(first, &create).await, Committed::Conflict);
    assert_eq!(bench.value("a").await, Some(REVISIONS.to_string()));
}

async fn a_deleted_record_is_absent_and_can_be_created_again(bench: Bench) {
    let first = bench.operation();
    assert_eq!(bench.commit(first, &[bench.put("a", Expected::Absent, "one", None)]).await, Committed::Done);
    let second = bench.operation();
    assert_eq!(bench.commit(second, &[bench.delete("a", at(first))]).await, Committed::Done);
    assert_eq!(bench.value("a").await, None);
    let stale = bench.commit(bench.operation(), &[bench.put("a", at(first), "x", None)]).await;
    assert_eq!(stale, Committed::Conflict);
    let tombstone = bench.commit(bench.operation(), &[bench.put("a", at(second), "x", None)]).await;
    assert_eq!(tombstone, Committed::Conflict, "a deletion is not a record that can be expected");
    let again = bench.commit(bench.operation(), &[bench.put("a", Expected::Absent, "two", None)]).await;
    assert_eq!(again, Committed::Done);
    assert_eq!(bench.value("a").await.as_deref(), Some("two"));
}

async fn the_clock_that_is_passed_decides_expiry(bench: Bench) {
    let first = bench.operation();
    let end = START.after(Duration::from_secs(30));
    assert_eq!(bench.commit(first, &[bench.put("a", Expected::Absent, "one", Some(end))]).await, Committed::Done);
    bench.clock.set(end.before(Duration::from_millis(1)));
    assert_eq!(bench.value("a").await.as_deref(), Some("one"));
    bench.clock.set(end);
    assert_eq!(bench.value("a").await, None);
    let expired = bench.commit(bench.operation(), &[bench.put("a", at(first), "two", None)]).await;
    assert_eq!(expired, Committed::Conflict, "an expired record is not there to be changed");
}

async fn a_clock_that_was_mended_in_time_brings_back_what_it_hid(bench: Bench) {
    let end = START.after(Duration::from_secs(30));
    let first = bench.operation();
    assert_eq!(bench.commit(first, &[bench.put("a", Expected::Absent, "one", Some(end))]).await, Committed::Done);
    // Wrong for a while, by less than the grace, and busy meanwhile.
    bench.clock.set(end.after(GRACE).before(Duration::from_millis(1)));
    assert_eq!(bench.value("a").await, None);
    let other = bench.commit(bench.operation(), &[bench.put("b", Expected::Absent, "x", None)]).await;
    assert_eq!(other, Committed::Done);
    bench.clock.set(START);
    assert_eq!(bench.value("a").await.as_deref(), Some("one"));
    let next = bench.commit(bench.operation(), &[bench.put("a", at(first), "two", Some(end))]).await;
    assert_eq!(next, Committed::Done);
}

async fn a_record_says_when_it_was_written(bench: Bench) {
    let (first, second, third) = (bench.operation(), bench.operation(), bench.operation());
    assert_eq!(bench.commit(first, &[bench.put("a", Expected::Absent, "one", None)]).await, Committed::Done);
    assert_eq!(bench.get("a").await.unwrap().written, START);
    let later = START.after(Duration::from_millis(1234));
    bench.clock.set(later);
    assert_eq!(bench.get("a").await.unwrap().written, START);
    assert_eq!(bench.commit(second, &[bench.put("a", at(first), "two", None)]).await, Committed::Done);
    assert_eq!(bench.get("a").await.unwrap().written, later);
    let given = START.before(Duration::from_millis(77));
    let write = Write::Put { value: Bytes::from("three"), ends: Ends::Never, written: Some(given) };
    assert_eq!(bench.commit(third, &[bench.write("a", at(second), write)]).await, Committed::Done);
    assert_eq!(bench.get("a").await.unwrap().written, given);
}

async fn a_length_counts_from_when_the_record_was_written(bench: Bench) {
    let (given, second) = (START.before(Duration::from_secs(20)), Duration::from_secs(1));
    let dated = |lives| Write::Put { value: Bytes::from("x"), ends: Ends::After(lives), written: Some(given) };
    let changes = [
        bench.write("now", Expected::Absent, Write::put("x", Ends::After(30 * second))),
        bench.write("given", Expected::Absent, dated(30 * second)),
        bench.write("over", Expected::Absent, dated(20 * second)),
        bench.write("ever", Expected::Absent, Write::put("x", Ends::After(Duration::MAX))),
        bench.write("never", Expected::Absent, Write::put("x", Ends::After(Duration::ZERO))),
    ];
    assert_eq!(bench.commit(bench.operation(), &changes).await, Committed::Done);
    assert_eq!(bench.get("now").await.unwrap().expires, Some(START.after(30 * second)));
    assert_eq!(bench.get("given").await.unwrap().expires, Some(START.after(10 * second)));
    assert_eq!((bench.get("over").await, bench.get("never").await), (None, None));
    bench.clock.set(START.after(10 * second));
    assert_eq!((bench.get("given").await, bench.get("now").await.is_some()), (None, true));
    bench.clock.set(START.after(30 * second));
    assert_eq!((bench.get("now").await, bench.get("ever").await.is_some()), (None, true));
}

async fn a_kept_record_is_expected_and_nothing_else(bench: Bench) {
    let (first, second) = (bench.operation(), bench.operation());
    assert_eq!(bench.commit(first, &[bench.put("kept", Expected::Absent, "one", None)]).await, Committed::Done);
    let before = bench.get("kept").await;
    let changes = |kept| {
        [bench.keep("kept", kept), bench.keep("none", Expected::Absent), bench.put("a", Expected::Absent, "x", None)]
    };
    for kept in [Expected::Absent, at(second)] {
        assert_eq!(bench.commit(second, &changes(kept)).await, Committed::Conflict);
        assert_eq!(bench.value("a").await, None);
    }
    bench.clock.set(START.after(Duration::from_secs(1)));
    assert_eq!(bench.commit(second, &changes(at(first))).await, Committed::Done);
    assert_eq!(bench.value("a").await.as_deref(), Some("x"));
    assert_eq!((bench.get("kept").await, bench.get("none").await), (before, None));
}

async fn a_kept_record_neither_remembers_nor_recalls_the_operation(bench: Bench) {
    let (first, second, third) = (bench.operation(), bench.operation(), bench.operation());
    assert_eq!(bench.commit(first, &[bench.put("kept", Expected::Absent, "one", None)]).await, Committed::Done);
    // What `first` has written is only expected now: that is no repeat.
    let changes = [bench.keep("kept", at(first)), bench.put("a", Expected::Absent, "x", None)];
    assert_eq!(bench.commit(first, &changes).await, Committed::Done);
    assert_eq!(bench.value("a").await.as_deref(), Some("x"));
    // The record that is written recalls a repeat, whatever has become of the one that is kept.
    let changes = [bench.keep("kept", at(first)), bench.put("b", Expected::Absent, "x", None)];
    assert_eq!(bench.commit(second, &changes).await, Committed::Done);
    assert_eq!(bench.commit(third, &[bench.put("kept", at(first), "two", None)]).await, Committed::Done);
    assert_eq!(bench.commit(second, &changes).await, Committed::Done);
    assert_eq!(bench.commit(second, &[bench.keep("kept", at(first))]).await, Committed::Conflict);
}

async fn a_commit_that_only_keeps_asks(bench: Bench) {
    let first = bench.operation();
    assert_eq!(bench.commit(first, &[bench.put("a", Expected::Absent, "one", None)]).await, Committed::Done);
    let ask = bench.operation();
    for _ in 0..2 {
        assert_eq!(
            bench.commit(ask, &[bench.keep("a", at(first)), bench.keep("b", Expected::Absent)]).await,
            Committed::Done
        );
        assert_eq!(bench.commit(ask, &[bench.keep("a", Expected::Absent)]).await, Committed::Conflict);
    }
}

async fn an_expired_record_can_be_created_again(bench: Bench) {
    let end = START.after(Duration::from_secs(30));
    let first = bench.operation();
    let create = [bench.put("a", Expected::Absent, "one", Some(end))];
    assert_eq!(bench.commit(first, &create).await, Committed::Done);
    bench.clock.set(end);
    assert_eq!(bench.commit(first, &create).await, Committed::Done, "the late repeat of what was done");
    assert_eq!(bench.value("a").await, None);
    let again = bench.commit(bench.operation(), &[bench.put("a", Expected::Absent, "two", None)]).await;
    assert_eq!(again, Committed::Done);
    assert_eq!(bench.value("a").await.as_deref(), Some("two"));
    // The new one has no end: what is left of the old one's must not collect it.
    bench.clock.set(end.after(GRACE).after(GRACE));
    let other = bench.commit(bench.operation(), &[bench.put("b", Expected::Absent, "x", None)]).await;
    assert_eq!(other, Committed::Done);
    assert_eq!(bench.value("a").await.as_deref(), Some("two"));
}

async fn no_increment_is_lost_among_200_at_once(bench: Bench) {
    const CALLERS: usize = 200;
    let bench = Arc::new(bench);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let bench = Arc::clone(&bench);
        callers.spawn(async move {
            let operation = bench.operation();
            loop {
                let found = bench.get("counter").await;
                let (expected, count) = found.map_or((Expected::Absent, 0), |record| {
                    let count: usize = std::str::from_utf8(&record.value).unwrap().parse().unwrap();
                    (Expected::At(record.revision), count)
                });
                let change = bench.put("counter", expected, &(count + 1).to_string(), None);
                if bench.commit(operation, &[change]).await == Committed::Done {
                    return;
                }
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    assert_eq!(bench.value("counter").await, Some(CALLERS.to_string()));
}

async fn a_large_value_is_kept_whole(bench: Bench) {
    let value: Bytes = (0..MAX_VALUE).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let put = |value: Bytes| bench.write("a", Expected::Absent, Write::put(value, Ends::Never));
    assert_eq!(bench.commit(bench.operation(), &[put(value.clone())]).await, Committed::Done);
    assert!(bench.get("a").await.unwrap().value == value, "the value came back changed");
    let longer = bench.try_commit(bench.operation(), &[put([&value[..], b"x"].concat().into())]).await;
    assert_eq!(longer.unwrap_err().name(), "invalid");
}

async fn everything_answered_is_there_after_a_crash(mut bench: Bench) {
    let end = START.after(Duration::from_mins(1));
    let (first, second) = (bench.operation(), bench.operation());
    let create = [bench.put("a", Expected::Absent, "one", Some(end)), bench.put("b", Expected::Absent, "one", None)];
    assert_eq!(bench.commit(first, &create).await, Committed::Done);
    assert_eq!(bench.commit(second, &[bench.delete("b", at(first))]).await, Committed::Done);
    bench.restart().await;
    let record = bench.get("a").await.unwrap();
    assert_eq!((record.value, record.expires), (Bytes::from("one"), Some(end)));
    assert_eq!(bench.value("b").await, None);
    assert_eq!(bench.commit(first, &create).await, Committed::Done, "the repeat is known");
    assert_eq!(bench.value("b").await, None);
    bench.clock.set(end);
    assert_eq!(bench.value("a").await, None);
}

async fn a_call_that_no_store_could_serve_is_invalid(bench: Bench) {
    let foreign = bench.keyer.slot(&[b"other"]);
    let key = bench.keyer.key(&foreign, "test", &[b"a"]);
    let twice = [bench.put("a", Expected::Absent, "1", None), bench.put("a", Expected::Absent, "2", None)];
    let many: Vec<_> = (0..=MAX_RECORDS).map(|n| bench.put(&n.to_string(), Expected::Absent, "x", None)).collect();
    for changes in [&[][..], &twice, &many] {
        assert_eq!(bench.try_commit(bench.operation(), changes).await.unwrap_err().name(), "invalid");
    }
    assert_eq!(bench.store().read(&bench.slot(), &[key]).await.unwrap_err().name(), "invalid");
    assert_eq!(bench.store().read(&bench.slot(), &[]).await.unwrap_err().name(), "invalid");
    // The edges of time are no reason to fail.
    for (name, end) in [("past", i64::MIN), ("future", i64::MAX)] {
        let change = bench.put(name, Expected::Absent, "x", Some(Timestamp::from_millis(end)));
        assert_eq!(bench.commit(bench.operation(), &[change]).await, Committed::Done);
        assert_eq!(bench.value(name).await.is_some(), name == "future");
    }
}

async fn a_ping_is_answered(bench: Bench) {
    bench.store().ping().await.unwrap();
}
