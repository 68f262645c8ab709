//! The published table, row by row, against the decisions.

use std::time::Duration;

use crate::admit::AdmitAnswer;
use crate::execution::{Settlement, Token};
use crate::fixture::{Shelf, admit, caller, completed, execution_id, kept, released, resolved, same, settle, unknown};
use crate::lookup::LookupAnswer;

fn rows() -> Vec<Vec<&'static str>> {
    include_str!("../README.md")
        .lines()
        .skip_while(|line| !line.starts_with("| state | class"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// A store where the execution of caller's key 1 and same inputs 1 was left as the row says.
fn left_as(how: &str) -> Shelf {
    let mut shelf = Shelf::default();
    assert!(matches!(shelf.admit(&admit(1, &[caller(1), same(1)], 1)), Ok(AdmitAnswer::Admitted(_))));
    if let Some(how) = how.strip_prefix("resumed, ") {
        return taken_over(shelf, how);
    }
    let mut end = |settlement: Settlement| drop(shelf.settle(&settle(1, 2, Token::FIRST, settlement)).unwrap());
    match how {
        "not yet, lease held" => {}
        "not yet, lease lapsed" => shelf.now = shelf.now.after(Duration::from_secs(10)),
        "completed" => end(completed()),
        "released" => end(released(true)),
        "released, kept for the caller's key" => end(kept()),
        "unknown" => end(unknown()),
        "retention over" => {
            end(completed());
            shelf.now = shelf.now.after(Duration::from_hours(1));
        }
        other => panic!("the table has a way to settle that nobody tests: {other}"),
    }
    shelf
}

/// The same, after its lease lapsed and another executor took it over.
fn taken_over(mut shelf: Shelf, how: &str) -> Shelf {
    shelf.now = shelf.now.after(Duration::from_secs(10));
    let mut asked = admit(3, &[caller(1), same(1)], 1);
    asked.resume = Some(execution_id(1));
    assert!(matches!(shelf.admit(&asked), Ok(AdmitAnswer::Admitted(it)) if it.resumed));
    let mut end = |settlement: Settlement| shelf.settle(&settle(1, 4, Token::new(2), settlement));
    match how {
        "released with the doubt resolved" => drop(end(resolved()).unwrap()),
        "released in doubt (refused)" => drop(end(released(true)).unwrap_err()),
        other => panic!("the table has a way to settle that nobody tests: {other}"),
    }
    shelf
}

fn name(answer: &AdmitAnswer) -> &'static str {
    match answer {
        AdmitAnswer::Admitted(_) => "admitted",
        AdmitAnswer::Replay(..) => "replay",
        AdmitAnswer::Running(..) => "running",
        AdmitAnswer::Unknown(..) => "unknown",
        AdmitAnswer::KeyReused(_) => "key_reused",
        AdmitAnswer::Reserved(_) | AdmitAnswer::Consumed(..) | AdmitAnswer::Stuck(_) => panic!("{answer:?}"),
    }
}

#[test]
fn the_next_same_request_gets_what_the_published_table_says() {
    let rows = rows();
    assert_eq!(rows.len(), 11, "the table has moved");
    for row in rows {
        let [_, _, _, how, under_caller_key, with_same_inputs] = row[..] else { panic!("{row:?}") };
        let again = left_as(how).admit(&admit(9, &[caller(1), same(1)], 1)).unwrap();
        assert_eq!(name(&again), under_caller_key, "the same caller's key after {how}");
        let other_key = left_as(how).admit(&admit(9, &[caller(2), same(1)], 1)).unwrap();
        assert_eq!(name(&other_key), with_same_inputs, "another caller's key after {how}");
        let no_key = left_as(how).admit(&admit(9, &[same(1)], 1)).unwrap();
        assert_eq!(name(&no_key), with_same_inputs, "no caller's key after {how}");

        let other_request = left_as(how).admit(&admit(9, &[caller(1), same(5)], 2)).unwrap();
        let expected = if under_caller_key == "admitted" { "admitted" } else { "key_reused" };
        assert_eq!(name(&other_request), expected, "another request under the caller's key after {how}");
    }
}

#[test]
fn a_look_up_agrees_with_what_admission_would_say() {
    for row in rows() {
        let [_, _, _, how, under_caller_key, with_same_inputs] = row[..] else { panic!("{row:?}") };
        for (keys, expected) in [(vec![caller(1), same(1)], under_caller_key), (vec![same(1)], with_same_inputs)] {
            let name = match left_as(how).lookup(&keys, Some(1)) {
                LookupAnswer::Absent => "admitted",
                LookupAnswer::Replay(..) => "replay",
                LookupAnswer::Running(..) => "running",
                LookupAnswer::Unknown(..) => "unknown",
                LookupAnswer::KeyReused(_) => "key_reused",
                LookupAnswer::Stuck(_) => panic!("nothing here is shared"),
            };
            assert_eq!(name, expected, "{keys:?} after {how}");
        }
    }
    assert_eq!(left_as("completed").lookup(&[caller(1)], Some(2)), LookupAnswer::KeyReused(0));
}
