//! What single requests meet.

mod check;

use std::time::Duration;

use safeconduct_types::Reason;

use crate::admit::{AdmitAnswer, Admitted};
use crate::execution::{Settlement, Standing, State, Token};
use crate::fixture::{
    Shelf, admit, caller, completed, execution_id, kept, op, released, same, seconds, settle, unknown,
};
use crate::lookup::{Lookup, LookupAnswer, Target};
use crate::record::Name;
use crate::resolve::Matched;

fn admitted(answer: AdmitAnswer) -> Admitted {
    let AdmitAnswer::Admitted(it) = answer else { panic!("should have been admitted: {answer:?}") };
    it
}

#[test]
fn a_duplicate_with_its_own_key_gets_the_execution_and_is_linked_to_it() {
    let mut shelf = Shelf::default();
    admitted(shelf.admit(&admit(1, &[caller(1), same(1)], 1)).unwrap());
    let duplicate = shelf.admit(&admit(2, &[caller(2), same(1)], 2)).unwrap();
    assert!(matches!(&duplicate, AdmitAnswer::Running(it, Matched::Key(1)) if *it.id() == execution_id(1)));
    assert!(matches!(shelf.lookup(&[caller(2)], None), LookupAnswer::Running(it, _) if *it.id() == execution_id(1)));
    // The link remembers the request that made it, not the first one.
    assert_eq!(shelf.lookup(&[caller(2)], Some(1)), LookupAnswer::KeyReused(0));
    assert!(matches!(shelf.lookup(&[caller(2)], Some(2)), LookupAnswer::Running(..)));
}

#[test]
fn a_look_up_links_too_because_a_hit_ends_the_request_there() {
    let mut shelf = Shelf::default();
    admitted(shelf.admit(&admit(1, &[same(1)], 1)).unwrap());
    assert!(matches!(shelf.lookup(&[caller(2), same(1)], Some(2)), LookupAnswer::Running(_, Matched::Key(1))));
    assert!(matches!(shelf.lookup(&[caller(2)], None), LookupAnswer::Running(_, Matched::Key(0))));
}

#[test]
fn the_callers_key_wins_over_inputs_that_lead_elsewhere() {
    let mut shelf = Shelf::default();
    admitted(shelf.admit(&admit(1, &[caller(1), same(1)], 1)).unwrap());
    admitted(shelf.admit(&admit(2, &[caller(2), same(2)], 2)).unwrap());
    let both = shelf.admit(&admit(3, &[caller(1), same(2)], 1)).unwrap();
    assert!(matches!(both, AdmitAnswer::Running(it, Matched::Key(0)) if *it.id() == execution_id(1)));
    assert_eq!(shelf.admit(&admit(4, &[caller(1), same(2)], 9)), Ok(AdmitAnswer::KeyReused(0)));
}

#[test]
fn inputs_are_not_linked_to_what_a_callers_key_found() {
    let mut shelf = Shelf::default();
    admitted(shelf.admit(&admit(1, &[caller(1), same(1)], 1)).unwrap());
    assert!(matches!(shelf.admit(&admit(2, &[caller(1), same(2)], 1)), Ok(AdmitAnswer::Running(..))));
    assert_eq!(shelf.lookup(&[same(2)], None), LookupAnswer::Absent);
}

#[test]
fn keys_of_different_kinds_never_meet() {
    let mut shelf = Shelf::default();
    admitted(shelf.admit(&admit(1, &[caller(1)], 1)).unwrap());
    assert_eq!(shelf.lookup(&[same(1)], None), LookupAnswer::Absent);
}

#[test]
fn a_repeated_admission_answers_the_same_and_a_second_one_does_not() {
    let mut shelf = Shelf::default();
    let asked = admit(1, &[caller(1)], 1);
    let first = shelf.admit(&asked).unwrap();
    assert_eq!(shelf.admit(&asked).unwrap(), first);
    assert!(matches!(shelf.admit(&admit(2, &[caller(1)], 1)), Ok(AdmitAnswer::Running(..))));
    // Nobody else asks for this execution by another operation, or with other keys.
    let mut stranger = admit(1, &[caller(1)], 1);
    stranger.operation = op(77);
    assert!(matches!(shelf.admit(&stranger), Ok(AdmitAnswer::Running(..))));
    assert_eq!(shelf.admit(&admit(1, &[caller(3)], 1)).unwrap_err().reason(), Reason::InputInvalid);
}

#[test]
fn a_repeat_after_the_lease_lapsed_is_not_permission_to_act() {
    let mut shelf = Shelf::default();
    let asked = admit(1, &[caller(1)], 1);
    admitted(shelf.admit(&asked).unwrap());
    shelf.now = seconds(10);
    assert!(matches!(shelf.admit(&asked), Ok(AdmitAnswer::Unknown(..))));
}

#[test]
fn a_request_without_keys_is_never_found_as_a_repeat() {
    let mut shelf = Shelf::default();
    admitted(shelf.admit(&admit(1, &[], 1)).unwrap());
    admitted(shelf.admit(&admit(2, &[], 1)).unwrap());
}

#[test]
fn whoever_takes_over_after_a_loss_gets_a_higher_token_than_any_that_was_lost() {
    let mut shelf = Shelf::default();
    admitted(shelf.admit(&admit(1, &[caller(1)], 1)).unwrap());
    let take_over = |number, lost_until| {
        let resume = Some(execution_id(1));
        crate::Admit { resume, lost_until, ..admit(number, &[caller(1)], 1) }
    };
    let mut last = Token::FIRST;
    for (number, second, loss) in [(2, 10, 0), (3, 20, 15), (4, 30, 15), (5, 40, 35)] {
        shelf.now = seconds(second);
        let token = admitted(shelf.admit(&take_over(number, seconds(loss))).unwrap()).execution.token();
        // Of a take-over that was lost, it would be the next.
        let is_new = matches!(number, 3 | 5);
        assert!(if is_new { token.number() > last.number() + 1 } else { token.number() == last.number() + 1 });
        last = token;
    }
}

#[test]
fn whoever_takes_over_gets_a_higher_token_and_the_earlier_word_is_lost() {
    let mut shelf = Shelf::default();
    admitted(shelf.admit(&admit(1, &[caller(1), same(1)], 1)).unwrap());
    let mut asked = admit(2, &[caller(1), same(1)], 1);
    asked.resume = Some(execution_id(1));
    assert!(matches!(shelf.admit(&asked), Ok(AdmitAnswer::Running(..))), "the lease is held");
    shelf.now = seconds(10);
    let it = admitted(shelf.admit(&asked).unwrap());
    assert!(it.resumed);
    assert_eq!((it.execution.id(), it.execution.token()), (&execution_id(1), Token::new(2)));
    assert_eq!(admitted(shelf.admit(&asked).unwrap()), it, "a repeat");
    shelf.now = seconds(20);
    assert!(matches!(shelf.admit(&asked), Ok(AdmitAnswer::Unknown(..))), "a repeat after the lease lapsed");
    shelf.now = seconds(11);
    assert_eq!(shelf.settle(&settle(1, 3, Token::FIRST, completed())).unwrap_err().reason(), Reason::LeaseLost);
    assert_eq!(shelf.execution(1).unwrap().standing(shelf.now), Standing::Running);
    shelf.settle(&settle(1, 4, Token::new(2), completed())).unwrap();
    asked.operation = op(5);
    assert!(matches!(shelf.admit(&asked), Ok(AdmitAnswer::Replay(..))));
}

#[test]
fn nobody_takes_over_an_execution_of_another_request() {
    let mut shelf = Shelf::default();
    admitted(shelf.admit(&admit(1, &[caller(1)], 1)).unwrap());
    admitted(shelf.admit(&admit(2, &[caller(2)], 1)).unwrap());
    shelf.now = seconds(10);
    let resume = |keys: &[_], print| {
        let mut asked = admit(3, keys, print);
        asked.resume = Some(execution_id(1));
        asked
    };
    assert_eq!(shelf.admit(&resume(&[caller(3)], 1)).unwrap_err().reason(), Reason::InputInvalid);
    assert_eq!(shelf.admit(&resume(&[caller(1)], 2)), Ok(AdmitAnswer::KeyReused(0)));
    let other = shelf.admit(&resume(&[caller(2)], 1)).unwrap();
    assert!(matches!(other, AdmitAnswer::Unknown(it, _) if *it.id() == execution_id(2)));
    assert_eq!(shelf.execution(1).unwrap().token(), Token::FIRST);
    let mut absent = admit(4, &[], 1);
    absent.resume = Some(execution_id(99));
    assert_eq!(shelf.admit(&absent).unwrap_err().reason(), Reason::ExecutionUnknown);
}

#[test]
fn the_generation_rises_with_each_release_after_bytes_were_sent_and_only_then() {
    let mut shelf = Shelf::default();
    for (number, ending, expected) in
        [(1, released(false), 0), (2, released(true), 0), (3, kept(), 1), (4, released(false), 2), (5, completed(), 2)]
    {
        let it = admitted(shelf.admit(&admit(number, &[same(1)], 1)).unwrap());
        assert_eq!(it.execution.generation(), expected, "execution {number}");
        shelf.settle(&settle(number, 50 + number, Token::FIRST, ending)).unwrap();
    }
}

#[test]
fn the_generation_of_a_callers_key_survives_being_linked_elsewhere() {
    let mut shelf = Shelf::default();
    admitted(shelf.admit(&admit(1, &[caller(1)], 1)).unwrap());
    shelf.settle(&settle(1, 51, Token::FIRST, released(true))).unwrap();
    admitted(shelf.admit(&admit(2, &[same(1)], 1)).unwrap());
    assert!(matches!(shelf.admit(&admit(3, &[caller(1), same(1)], 1)), Ok(AdmitAnswer::Running(..))));
    shelf.settle(&settle(2, 52, Token::FIRST, released(false))).unwrap();
    let it = admitted(shelf.admit(&admit(4, &[caller(1)], 1)).unwrap());
    assert_eq!(it.execution.generation(), 1);
}

#[test]
fn keys_and_record_are_forgotten_together_and_unknown_never_is() {
    let mut shelf = Shelf::default();
    let names = [Name::Key(caller(1)), Name::Key(same(1)), Name::Execution(execution_id(1))];
    admitted(shelf.admit(&admit(1, &[caller(1), same(1)], 1)).unwrap());
    shelf.settle(&settle(1, 2, Token::FIRST, unknown())).unwrap();
    shelf.now = shelf.now.after(Duration::from_hours(400 * 24));
    assert!(names.iter().all(|name| shelf.expires(name).is_none()));
    assert!(matches!(shelf.lookup(&[same(1)], None), LookupAnswer::Unknown(..)));

    shelf.settle(&settle(1, 3, Token::FIRST, completed())).unwrap();
    let end = Some(shelf.now.after(Duration::from_hours(1)));
    assert!(names.iter().all(|name| shelf.expires(name) == end));
}

#[test]
fn settling_may_name_another_retention() {
    let mut shelf = Shelf::default();
    admitted(shelf.admit(&admit(1, &[same(1)], 1)).unwrap());
    let retain = Some(crate::Retention::parse(Duration::from_mins(1)).unwrap());
    let outcome = crate::fixture::sealed(1);
    shelf.settle(&settle(1, 2, Token::FIRST, Settlement::Completed { outcome, retain, actual: Vec::new() })).unwrap();
    shelf.now = seconds(60);
    assert_eq!(shelf.lookup(&[same(1)], None), LookupAnswer::Absent);
}

#[test]
fn settling_does_not_touch_a_key_that_leads_elsewhere_by_now() {
    let mut shelf = Shelf::default();
    admitted(shelf.admit(&admit(1, &[caller(1), same(1)], 1)).unwrap());
    shelf.settle(&settle(1, 51, Token::FIRST, released(true))).unwrap();
    admitted(shelf.admit(&admit(2, &[same(1)], 1)).unwrap());
    assert_eq!(shelf.settle(&settle(1, 51, Token::FIRST, released(true))).unwrap().id(), &execution_id(1));
    assert_eq!(shelf.expires(&Name::Key(same(1))), None);
}

#[test]
fn an_execution_is_found_by_its_id_whatever_became_of_it() {
    let mut shelf = Shelf::default();
    let by_id = Lookup { target: Target::Execution(execution_id(1)) };
    assert_eq!(shelf.look(&by_id), LookupAnswer::Absent);
    admitted(shelf.admit(&admit(1, &[same(1)], 1)).unwrap());
    assert!(matches!(shelf.look(&by_id), LookupAnswer::Running(_, Matched::Id)));
    shelf.settle(&settle(1, 2, Token::FIRST, released(false))).unwrap();
    let answer = shelf.look(&by_id);
    let LookupAnswer::Replay(it, Matched::Id) = answer else { panic!("{answer:?}") };
    assert!(matches!(it.state(), State::Released { .. }));
}

#[test]
fn a_callers_key_needs_a_fingerprint() {
    let mut asked = admit(1, &[caller(1)], 1);
    asked.fingerprint = None;
    assert_eq!(Shelf::default().admit(&asked).unwrap_err().reason(), Reason::InputInvalid);
}

#[test]
fn a_cap_with_far_too_many_maxima_is_refused_without_comparing_all_of_them() {
    use crate::limit::{Cap, CapKind, MAX_UNITS, Unit, Window};
    let maxima = vec![(Unit::parse("EUR").unwrap(), -1); 200_000];
    let errors = Cap::parse(CapKind::Sum, Window::rolling(60_000).unwrap(), maxima).unwrap_err();
    assert!(errors.len() <= 2 * MAX_UNITS + 1, "{}", errors.len());
}

mod reserving {
    use super::*;
    use crate::admit::SingleUse;
    use crate::bounds::Digest;
    use crate::execution::{Actual, State};
    use crate::fixture::{charge, sealed};
    use crate::held::Held;
    use crate::hold::{Ended, Fate, Hold, Promise, Take, Taken, decide_close, decide_take, decide_void};
    use crate::record::{AtWrite, Counted, Decision, Found, Record};
    use crate::settle::{Resolve, decide_resolve};

    /// Execution 1 takes one of a limit of its own and one of a shared one, until 10 s.
    fn reserved() -> (Shelf, crate::execution::Execution) {
        let mut shelf = Shelf::default();
        let mut asked = admit(1, &[same(1)], 1);
        asked.charges = vec![charge("mine", true), charge("ours", false)];
        asked.consume = vec![SingleUse { digest: Digest::new([9; 32]), expires: seconds(1_000_000) }];
        let AdmitAnswer::Reserved(it) = shelf.admit(&asked).unwrap() else { panic!("nothing is promised yet") };
        (shelf, it)
    }

    fn found(shelf: &Shelf, names: &[Name]) -> Found {
        let mut found = Found::default();
        for name in names {
            if let Some(record) = shelf.get(name) {
                found.insert(name.clone(), record);
            }
        }
        found
    }

    fn resolve(shelf: &Shelf, promised: bool) -> crate::record::Decision<Option<crate::execution::Execution>> {
        let asked = Resolve { execution: execution_id(1), operation: op(40), promised };
        let mut names = asked.reads();
        names.extend(asked.follows(&found(shelf, &names)));
        decide_resolve(&asked, &found(shelf, &names))
    }

    #[test]
    fn a_reservation_reads_as_running_while_its_lease_is_held_and_then_decides_nothing_before_it_is_looked_into() {
        let (mut shelf, _) = reserved();
        assert!(matches!(shelf.admit(&admit(2, &[same(1)], 1)), Ok(AdmitAnswer::Running(..))));
        shelf.now = seconds(10);
        assert!(matches!(shelf.admit(&admit(2, &[same(1)], 1)), Ok(AdmitAnswer::Stuck(_))));
        assert!(matches!(shelf.lookup(&[same(1)], None), LookupAnswer::Stuck(_)));
    }

    #[test]
    fn what_was_not_promised_gives_everything_back_and_what_was_reads_as_unknown() {
        let (shelf, _) = reserved();
        let released = resolve(&shelf, false);
        let Counted::Adjusted(back) = &released.counted else { panic!("{released:?}") };
        assert_eq!(back.iter().map(|one| one.delta).collect::<Vec<_>>(), [-1], "of the contact's own only");
        assert!(released.changes.contains(&crate::record::Change {
            name: Name::Use(Digest::new([9; 32])),
            record: None,
            expires: None
        }));
        let promised = resolve(&shelf, true);
        assert_eq!(promised.counted, Counted::Nothing);
        assert_eq!(promised.answer.unwrap().written(seconds(11)).standing(seconds(11)), Standing::Unknown);
    }

    #[test]
    fn the_word_of_whoever_was_promised_makes_it_run_or_ends_it() {
        let (mut shelf, it) = reserved();
        let more = crate::extend::Extend {
            execution: execution_id(1),
            operation: op(3),
            token: it.token(),
            lease: None,
            checkpoint: None,
            charges: Vec::new(),
        };
        assert_eq!(shelf.extend(&more).unwrap().standing(seconds(1)), Standing::Running);
        let (mut shelf, it) = reserved();
        let ended = shelf.settle(&settle(1, 3, it.token(), completed())).unwrap();
        assert_eq!(ended.standing(seconds(1)), Standing::Completed);
    }

    fn hold(record: &crate::execution::Execution) -> Take {
        let charges: Vec<Held> = record.charges().iter().filter(|held| held.is_shared()).cloned().collect();
        Take { execution: record.id().clone(), charges, lease: Duration::from_secs(10) }
    }

    #[test]
    fn a_closed_hold_takes_nothing_any_more_and_one_that_is_there_is_a_promise() {
        let (_, record) = reserved();
        let nothing = Found::default();
        let take = hold(&record);
        let taken = decide_take(&take, &nothing);
        assert_eq!((taken.answer, taken.counted), (Taken::Held, Counted::Charges));
        let mut held = Found::default();
        held.insert(Name::Hold(record.id().clone()), taken.changes[0].record.clone().unwrap());
        assert_eq!(decide_take(&take, &held), crate::record::Decision::plain(Taken::Held), "a repeat takes nothing");
        assert_eq!(decide_void(record.id(), &held), crate::record::Decision::plain(Promise::Made));

        let void = decide_void(record.id(), &nothing);
        assert_eq!(void.answer, Promise::Never);
        let mut closed = Found::default();
        closed.insert(Name::Hold(record.id().clone()), void.changes[0].record.clone().unwrap());
        assert_eq!(decide_take(&take, &closed), crate::record::Decision::plain(Taken::Closed));
    }

    #[test]
    fn a_hold_gives_back_what_its_record_does_not_say_and_nothing_if_the_record_is_gone_or_may_still_run() {
        let (mut shelf, record) = reserved();
        let held = decide_take(&hold(&record), &Found::default()).changes.remove(0).record.unwrap().written(seconds(0));
        let Record::Hold(held) = held else { panic!("{held:?}") };
        assert_eq!(held.fate(seconds(5), Some(&record)), Fate::Stays(Duration::from_secs(5)));
        assert!(matches!(held.fate(seconds(60), Some(&record)), Fate::Stays(_)), "promised");
        assert_eq!(held.fate(seconds(60), None), Fate::Closes(Vec::new()));
        let mut found = Found::default();
        found.insert(Name::Hold(record.id().clone()), Record::Hold(held.clone()));
        let released = shelf.settle(&settle(1, 3, record.token(), released(false))).unwrap();
        let closing = close(&released, &found);
        assert!(matches!(&closing.counted, Counted::Adjusted(back) if back[0].delta == -1), "{closing:?}");
        let closed = Record::Hold(Hold::Closed { held: true });
        assert_eq!(closing.changes[0].record, Some(closed.clone()));
        let mut found = Found::default();
        found.insert(Name::Hold(record.id().clone()), closed);
        let brought_back = decide_void(record.id(), &found);
        assert_eq!(brought_back.answer, Promise::Made, "what a fail-over brought back was promised all the same");
    }

    #[test]
    fn what_was_really_used_is_told_of_charges_that_exist() {
        let (mut shelf, it) = reserved();
        let actual = |index, amount| Settlement::Completed {
            outcome: sealed(1),
            retain: None,
            actual: vec![Actual { index, amount }],
        };
        for (index, amount) in [(2, 1), (0, -1)] {
            let refused = shelf.settle(&settle(1, 5, it.token(), actual(index, amount))).unwrap_err();
            assert_eq!(refused.reason(), Reason::InputInvalid);
        }
        let ended = shelf.settle(&settle(1, 6, it.token(), actual(1, 7))).unwrap();
        assert_eq!(ended.charges().iter().map(|held| held.amount).collect::<Vec<_>>(), [1, 7]);
    }

    #[test]
    fn an_operator_frees_what_is_completed_and_nobody_else_does() {
        let mut shelf = Shelf::default();
        admitted(shelf.admit(&admit(1, &[same(1)], 1)).unwrap());
        shelf.settle(&settle(1, 2, Token::FIRST, completed())).unwrap();
        assert_eq!(shelf.settle(&settle(1, 3, Token::FIRST, released(true))).unwrap_err().reason(), Reason::LeaseLost);
        let freed = Settlement::Released {
            bytes_sent: true,
            outcome: None,
            keep_for_caller_key: false,
            doubt_resolved: false,
            free_completed: true,
        };
        let record = shelf.settle(&settle(1, 4, Token::FIRST, freed)).unwrap();
        assert!(matches!(record.state(), State::Released { .. }));
        assert_eq!(admitted(shelf.admit(&admit(5, &[same(1)], 1)).unwrap()).execution.generation(), 1);
    }

    #[test]
    fn what_came_to_nothing_keeps_what_its_repeat_needs_and_nothing_that_was_sealed() {
        let (_, record) = reserved();
        let crate::execution::Moved::To(given_up, _) = record.resolve(op(1), false) else { panic!("it reserved") };
        assert_eq!(given_up.intent().as_bytes(), [0; 0]);
        assert!(given_up.charges().is_empty());
        assert!(given_up.was_denied_to(op(1)) && !given_up.keys().is_empty() && !given_up.consumed().is_empty());
    }

    #[test]
    fn a_late_copy_of_an_extension_takes_nothing_however_many_came_between() {
        let (mut shelf, it) = reserved();
        let more = |operation, charges| crate::extend::Extend {
            execution: execution_id(1),
            operation: op(operation),
            token: it.token(),
            lease: None,
            checkpoint: Some(sealed(9)),
            charges,
        };
        shelf.extend(&more(3, vec![charge("more", true)])).unwrap();
        for operation in 100..140 {
            shelf.extend(&more(operation, Vec::new())).unwrap();
        }
        let late = shelf.extend(&more(3, vec![charge("more", true)])).unwrap();
        assert_eq!(late.charges().len(), 3);
        let mut checkpoint = more(110, Vec::new());
        checkpoint.checkpoint = Some(sealed(1));
        assert_eq!(shelf.extend(&checkpoint).unwrap().checkpoint(), Some(&sealed(9)), "nor does it undo a checkpoint");
    }

    #[test]
    fn an_extension_under_the_operation_of_the_admission_is_refused() {
        let (mut shelf, it) = reserved();
        let more = crate::extend::Extend {
            execution: execution_id(1),
            operation: op(1),
            token: it.token(),
            lease: None,
            checkpoint: None,
            charges: vec![charge("more", true)],
        };
        assert_eq!(shelf.extend(&more).unwrap_err().violations()[0].field, "operation_id");
    }

    #[test]
    fn who_finds_out_more_about_an_unknown_outcome_is_believed_and_a_late_copy_of_the_first_word_is_not() {
        let (mut shelf, it) = reserved();
        let word = |byte: Option<u8>| Settlement::Unknown { outcome: byte.map(sealed) };
        let mut say = |operation, byte| shelf.settle(&settle(1, operation, it.token(), word(byte))).unwrap();
        say(3, Some(3));
        assert_eq!(say(4, Some(4)).outcome(), Some(&sealed(4)));
        assert_eq!(say(5, None).outcome(), Some(&sealed(4)), "who knows nothing takes nothing away");
        assert_eq!(say(3, Some(3)).outcome(), Some(&sealed(4)));
    }

    fn freed() -> Settlement {
        Settlement::Released {
            bytes_sent: true,
            outcome: None,
            keep_for_caller_key: false,
            doubt_resolved: false,
            free_completed: true,
        }
    }

    fn with_hold(record: &crate::execution::Execution, hold: Hold) -> Found {
        let mut found = Found::default();
        found.insert(Name::Hold(record.id().clone()), Record::Hold(hold));
        found
    }

    fn close_after(
        record: &crate::execution::Execution,
        found: &Found,
        lost_until: safeconduct_types::Timestamp,
    ) -> Decision<()> {
        decide_close(seconds(1), &Ended { id: record.id(), record: Some(record), lost_until }, found)
    }

    fn close(record: &crate::execution::Execution, found: &Found) -> Decision<()> {
        close_after(record, found, safeconduct_types::Timestamp::default())
    }

    #[test]
    fn what_may_have_been_lost_with_its_count_is_not_given_back_unless_its_hold_is_there() {
        let (mut shelf, it) = reserved();
        shelf.settle(&settle(1, 3, it.token(), completed())).unwrap();
        let record = shelf.settle(&settle(1, 4, it.token(), freed())).unwrap();
        let taken = record.charges()[1].at;
        let later = taken.after(Duration::from_millis(1));
        let closed = with_hold(&record, Hold::Closed { held: true });
        for (found, lost_until, back) in
            [(Found::default(), taken, true), (Found::default(), later, false), (closed, later, true)]
        {
            let given = close_after(&record, &found, lost_until);
            assert_eq!(matches!(given.counted, Counted::Adjusted(_)), back, "{found:?} {lost_until:?}");
        }
    }

    #[test]
    fn what_an_operator_frees_gives_back_what_it_used_of_shared_limits_once() {
        let (mut shelf, it) = reserved();
        let actual = vec![Actual { index: 0, amount: 2 }, Actual { index: 1, amount: 3 }];
        let completed = Settlement::Completed { outcome: sealed(1), retain: None, actual };
        shelf.settle(&settle(1, 3, it.token(), completed)).unwrap();
        let record = shelf.settle(&settle(1, 4, it.token(), freed())).unwrap();
        assert_eq!(record.charges()[0].amount, 0, "its own is given back with the record");
        for hold in [Some(Hold::Closed { held: true }), None] {
            let found = hold.map_or_else(Found::default, |hold| with_hold(&record, hold));
            let given = close(&record, &found);
            let Counted::Adjusted(back) = &given.counted else { panic!("{given:?}") };
            assert_eq!(back.iter().map(|one| one.delta).collect::<Vec<_>>(), [-3]);
            let Some(Record::Hold(Hold::Freed)) = given.changes[0].record else { panic!("{given:?}") };
        }
        let again = close(&record, &with_hold(&record, Hold::Freed));
        assert_eq!((again.counted, again.changes.len()), (Counted::Nothing, 0));
        let void = close(&record, &with_hold(&record, Hold::Closed { held: false }));
        assert_eq!(void.counted, Counted::Nothing, "what was never taken is not given back");
        // Nobody had come to close it: what it took is given back, not what it used.
        let charges = hold(&it).charges;
        let open = Hold::Open { execution: record.id().clone(), charges };
        let closing = close(&record, &with_hold(&record, open));
        let Counted::Adjusted(back) = &closing.counted else { panic!("{closing:?}") };
        assert_eq!(back.iter().map(|one| one.delta).collect::<Vec<_>>(), [-1]);
        assert_eq!(closing.changes[0].record, Some(Record::Hold(Hold::Freed)));
    }

    #[test]
    fn a_record_that_used_less_than_it_reserved_outlives_its_retention_for_its_hold_and_for_nobody_else() {
        for (amount, kept) in [(1, false), (0, true)] {
            let (mut shelf, it) = reserved();
            let retain = Some(crate::Retention::parse(Duration::from_mins(1)).unwrap());
            let actual = vec![Actual { index: 1, amount }];
            let word = Settlement::Completed { outcome: sealed(1), retain, actual };
            shelf.settle(&settle(1, 3, it.token(), word)).unwrap();
            shelf.now = seconds(60);
            assert_eq!(shelf.execution(1).is_some(), kept);
            assert_eq!(shelf.lookup(&[same(1)], None), LookupAnswer::Absent);
            assert_eq!(shelf.look(&Lookup { target: Target::Execution(execution_id(1)) }), LookupAnswer::Absent);
            admitted(shelf.admit(&admit(2, &[same(1)], 1)).unwrap());
        }
    }
}
