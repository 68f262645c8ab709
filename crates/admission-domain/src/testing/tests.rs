//! The arithmetic of `meter` and `step` against the model, on random histories.

use proptest::prelude::*;

use super::{Memory, Model, Player, Scenario, any_state, scenario};
use crate::step::{Stepped, apply};

/// How many histories are played; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let cases = ProptestConfig::default().cases.saturating_mul(4);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[derive(Default, Debug)]
struct Tally {
    done: usize,
    denied: usize,
    repeated: usize,
    conflict: usize,
    outside: usize,
}

fn agree(scenario: &Scenario, tally: &mut Tally) -> Result<(), TestCaseError> {
    let (mut memory, mut model, mut player) = (Memory::default(), Model::default(), Player::new(scenario));
    for (place, event) in scenario.events.iter().enumerate() {
        let Some(next) = player.play(event) else { continue };
        memory.now_ms = next.now_us / 1000;
        let before = memory.clone();
        let got = apply(&next.step, next.now_us, &mut memory).unwrap();
        let expected = model.apply(&next.step, &next.rates, next.now_us);
        prop_assert_eq!(&got, &expected, "event {}: {:?}", place, next);
        player.hear(&got);
        match &got {
            Stepped::Done { repeated: false, .. } => tally.done += 1,
            Stepped::Done { repeated: true, .. } => tally.repeated += 1,
            Stepped::Denied { .. } => tally.denied += 1,
            Stepped::Conflict { .. } => tally.conflict += 1,
            Stepped::Outside { .. } => tally.outside += 1,
        }
        if !matches!(got, Stepped::Done { repeated: false, .. }) {
            prop_assert_eq!(&before.states, &memory.states, "a step that is not done writes nothing");
            prop_assert_eq!(&before.notes, &memory.notes);
        }
    }
    Ok(())
}

/// Microseconds since the epoch, on either side of it.
const CLOCKS: std::ops::RangeInclusive<i64> = -4_000_000_000_000_000..=4_000_000_000_000_000;

proptest! {
    #![proptest_config(config())]

    #[test]
    fn steps_come_out_as_the_model_says(scenario in scenario(80)) {
        agree(&scenario, &mut Tally::default())?;
    }

    /// At times that a clock can show: until the year 2096. Numbers end in 2255, and a burst lasts 50 years at most.
    #[test]
    fn no_bytes_are_read_as_something_else(bytes in prop::collection::vec(any::<u8>(), 0..80), now in CLOCKS) {
        any_state(&bytes, now).unwrap();
    }
}

#[test]
fn a_rate_that_is_as_late_as_numbers_go_is_kept_readable() {
    let latest = [32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for now in [*CLOCKS.start(), 0, *CLOCKS.end()] {
        any_state(&latest, now).unwrap();
    }
}

#[test]
fn random_histories_see_every_outcome() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut tally = Tally::default();
    for _ in 0..200 {
        let drawn = scenario(80).new_tree(&mut runner).unwrap().current();
        agree(&drawn, &mut tally).unwrap();
    }
    let Tally { done, denied, repeated, conflict, outside } = tally;
    assert!([done, denied].into_iter().all(|count| count > 1000), "{tally:?}");
    assert!([repeated, conflict, outside].into_iter().all(|count| count > 50), "{tally:?}");
}
