use proptest::prelude::*;

use super::*;
use crate::calendar::{CalendarUnit, Zone, boundaries};

const NOW: i64 = 1_800_000_000_000;

fn take(window: Window, max: i64, amount: i64, now: i64, state: &mut Option<Vec<u8>>) -> Reading {
    change(Take { window, max, amount }.judge(now, stored(state.as_ref())), state)
}

fn adjust(place: Place, delta: i64, now: i64, state: &mut Option<Vec<u8>>) -> Reading {
    change(Adjust { place, delta }.judge(now, stored(state.as_ref())), state)
}

fn stored(state: Option<&Vec<u8>>) -> Entries {
    state.map(|bytes| Entries::parse(bytes).unwrap()).unwrap_or_default()
}

fn change(judged: Judged, state: &mut Option<Vec<u8>>) -> Reading {
    let Judged::Read { reading: AnyReading::Cap(reading), keep } = judged else { panic!("{judged:?}") };
    match keep {
        Some(Keep::Put { state: bytes, .. }) => *state = Some(bytes),
        Some(Keep::Delete) => *state = None,
        None => {}
    }
    reading
}

const fn rolling(length_ms: i64) -> Window {
    Window::Rolling { length_ms }
}

fn day(now: i64) -> Window {
    Window::Calendar(boundaries(CalendarUnit::Day, &Zone::parse("Europe/Dublin").unwrap(), Timestamp::from_millis(now)))
}

#[test]
fn a_rolling_window_counts_to_the_millisecond() {
    let state = &mut None;
    assert!(take(rolling(10_000), 3, 2, NOW, state).passed);
    assert!(take(rolling(10_000), 3, 1, NOW + 4_000, state).passed);
    let denied = take(rolling(10_000), 3, 2, NOW + 5_000, state);
    assert_eq!((denied.passed, denied.used), (false, 3));
    assert_eq!((denied.retry_ms, denied.reset_ms), (Some(NOW + 10_000), Some(NOW + 14_000)));
    assert!(!take(rolling(10_000), 3, 2, NOW + 9_999, state).passed);
    assert!(take(rolling(10_000), 3, 2, NOW + 10_000, state).passed);
}

#[test]
fn an_amount_of_nothing_asks_even_of_a_closed_cap_and_changes_nothing() {
    let state = &mut None;
    let asked = take(rolling(10_000), 0, 0, NOW, state);
    assert_eq!((asked.passed, asked.used, asked.reset_ms, &*state), (true, 0, None, &None));
    let denied = take(rolling(10_000), 0, 1, NOW, state);
    assert_eq!((denied.passed, denied.retry_ms), (false, None), "more than the maximum never passes");
}

#[test]
fn a_maximum_that_sinks_below_what_is_used_leaves_nothing_not_less() {
    let state = &mut None;
    assert!(take(day(NOW), 10, 8, NOW, state).passed);
    let reading = take(day(NOW), 5, 1, NOW, state);
    assert_eq!((reading.passed, reading.used, reading.remaining(5).left), (false, 8, 0));
    assert!(take(day(NOW), 9, 1, NOW, state).passed, "and one that rises is in force at once");
}

#[test]
fn what_comes_too_late_changes_no_other_window() {
    let state = &mut None;
    let Window::Calendar(days) = day(NOW) else { panic!("a day") };
    let (start_ms, end_ms) = days.window(NOW - 86_400_000).unwrap();
    let window = Place::Calendar { start_ms, end_ms };
    assert!(take(day(NOW), 10, 8, NOW, state).passed);
    assert_eq!(adjust(window, -5, NOW, state).used, 0);
    assert_eq!(adjust(window, 5, NOW, state).used, 5);
    assert_eq!(take(day(NOW), 10, 0, NOW, state).used, 8);
    let state = &mut None;
    assert!(take(rolling(1_000), 10, 8, NOW, state).passed);
    let gone = Place::Rolling { length_ms: 1_000, at_ms: NOW - 1_000 };
    assert_eq!(adjust(gone, -5, NOW, state).used, 8);
    assert_eq!(adjust(gone, 5, NOW, state).used, 8);
}

#[test]
fn more_can_not_be_given_back_than_was_taken() {
    let state = &mut None;
    let place = Place::Rolling { length_ms: 1_000, at_ms: NOW };
    assert!(take(rolling(1_000), 10, 3, NOW, state).passed);
    assert!(take(rolling(1_000), 10, 4, NOW + 1, state).passed);
    assert_eq!(adjust(place, -9, NOW + 1, state).used, 4);
    assert_eq!(adjust(place, -9, NOW + 1, state).used, 4);
    let reading = adjust(Place::Rolling { length_ms: 1_000, at_ms: NOW + 1 }, -4, NOW + 1, state);
    assert_eq!((reading.used, reading.reset_ms, &*state), (0, None, &None));
}

#[test]
fn more_than_was_reserved_is_counted_even_over_the_maximum() {
    let state = &mut None;
    assert!(take(rolling(1_000), 10, 10, NOW, state).passed);
    let reading = adjust(Place::Rolling { length_ms: 1_000, at_ms: NOW }, 5, NOW + 3, state);
    assert_eq!((reading.passed, reading.used, reading.reset_ms), (true, 15, Some(NOW + 1_000)));
    assert_eq!(take(rolling(1_000), 10, 6, NOW + 3, state).retry_ms, Some(NOW + 1_000));
}

#[test]
fn a_clock_that_goes_back_finds_the_window_as_it_was_and_counts_what_lies_ahead() {
    let state = &mut None;
    for days in 0..12 {
        assert!(take(day(NOW + days * 86_400_000), 10, 10, NOW + days * 86_400_000, state).passed);
    }
    for days in 4..12 {
        assert!(!take(day(NOW + days * 86_400_000), 10, 1, NOW + days * 86_400_000, state).passed, "day {days}");
    }
    assert_eq!(stored(state.as_ref()).as_slice().len(), KEPT_WINDOWS);
    let state = &mut None;
    assert!(take(rolling(1_000), 10, 10, NOW, state).passed);
    assert!(!take(rolling(1_000), 10, 1, NOW - 3_600_000, state).passed);
}

#[test]
fn an_old_window_that_is_taken_from_is_not_forgotten_in_the_same_breath() {
    let state = &mut None;
    for days in 1..12 {
        assert!(take(day(NOW + days * 86_400_000), 10, 10, NOW + days * 86_400_000, state).passed);
    }
    assert!(take(day(NOW), 10, 10, NOW, state).passed);
    assert!(!take(day(NOW), 10, 1, NOW, state).passed);
}

#[test]
fn boundaries_of_another_time_say_nothing() {
    let judged = Take { window: day(NOW), max: 1, amount: 1 }.judge(NOW + 3 * 86_400_000, Entries::default());
    assert_eq!(judged, Judged::Outside);
}

#[test]
fn the_largest_numbers_overflow_nothing_and_what_passed_them_never_sinks() {
    let state = &mut None;
    let place = Place::Rolling { length_ms: 1_000, at_ms: NOW };
    assert!(take(rolling(1_000), MAX_NUMBER, MAX_NUMBER - 1, NOW, state).passed);
    assert!(!take(rolling(1_000), MAX_NUMBER, 2, NOW, state).passed);
    assert_eq!(adjust(place, MAX_NUMBER, NOW, state).used, MAX_NUMBER);
    assert_eq!(adjust(place, -MAX_NUMBER, NOW, state).used, MAX_NUMBER);
    assert!(!take(rolling(1_000), MAX_NUMBER, 1, NOW + 1, state).passed);
    assert_eq!(
        adjust(Place::Rolling { length_ms: 1_000, at_ms: NOW + 1 }, MAX_NUMBER, NOW + 1, state).used,
        MAX_NUMBER
    );
    assert!(take(rolling(1_000), MAX_NUMBER, MAX_NUMBER, NOW + 1_001, state).passed);
}

#[test]
fn bytes_that_are_no_entries_are_refused() {
    let good = Entries(vec![Entry { time_ms: NOW, amount: 1 }, Entry { time_ms: NOW + 1, amount: 2 }]).to_bytes();
    assert!(Entries::parse(&good).is_ok());
    let swapped = [&good[13..], &good[..13]].concat();
    let twice = [&good[..13], &good[..13]].concat();
    let nothing = [&good[..12], &[0]].concat();
    let large = [&good[..6], &[255; 7]].concat();
    let many: Vec<u8> = Entries((0..1_025).map(|place| Entry { time_ms: NOW + place, amount: 1 }).collect()).to_bytes();
    for bad in [vec![], good[..25].to_vec(), swapped, twice, nothing, large, many] {
        assert_eq!(Entries::parse(&bad), Err(Corrupt));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_are_entries_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(entries) = Entries::parse(&bytes) {
            prop_assert_eq!(entries.to_bytes(), bytes);
        }
    }

    #[test]
    fn no_position_of_a_rolling_window_holds_more_than_the_maximum(
        length in 1_000..20_000_i64, max in 1..30_i64,
        requests in prop::collection::vec((0..2_000_i64, 1..6_i64), 1..200),
    ) {
        let (mut now, mut state, mut admitted): (i64, _, Vec<(i64, i64)>) = (NOW, None, Vec::new());
        for (gap, amount) in requests {
            now += gap;
            let reading = take(rolling(length), max, amount, now, &mut state);
            if reading.passed {
                admitted.push((now, amount));
            } else if let Some(retry) = reading.retry_ms {
                prop_assert!(take(rolling(length), max, amount, retry, &mut state.clone()).passed);
                prop_assert!(!take(rolling(length), max, amount, retry - 1, &mut state.clone()).passed);
            } else {
                prop_assert!(amount > max);
            }
            if let Some(reset) = reading.reset_ms {
                prop_assert_eq!(take(rolling(length), max, 0, reset, &mut state.clone()).used, 0);
            }
        }
        for (end, _) in &admitted {
            let within = admitted.iter().filter(|(at, _)| *at > end - length && at <= end);
            prop_assert!(within.map(|(_, amount)| amount).sum::<i64>() <= max);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn thousands_of_entries_are_counted_too_long_by_a_thousandth_never_too_short(
        length in 1_000..200_000_i64, seed in prop::collection::vec((0..3_i64, 1..4_i64, 0..10_u8), 3_000..6_000),
        back in prop_oneof![3 => Just(0_i64), 1 => 0..600_000_i64],
    ) {
        let grid = grid_of(length);
        let (mut now, mut latest, mut state, mut kept): (i64, i64, _, Vec<(i64, i64)>) = (NOW, NOW, None, Vec::new());
        for (place, (gap, amount, settle)) in seed.iter().enumerate() {
            now += gap * length / 2_000;
            if place == 2_000 {
                now -= back;
            }
            latest = latest.max(now);
            let reading = take(rolling(length), MAX_NUMBER, *amount, now, &mut state);
            kept.push((now, *amount));
            prop_assert!(stored(state.as_ref()).as_slice().len() <= MAX_ENTRIES);
            if place % 37 == 0 {
                let sum = |from: i64| kept.iter().filter(|(at, _)| *at > from).map(|(_, amount)| amount).sum::<i64>();
                prop_assert!(back > 0 || reading.used <= sum(now - length - grid));
                // What had left when something was taken does not come back with the clock.
                prop_assert!(reading.used >= sum(latest - length));
            }
            // Some give back what they took a while ago: all of it comes back, and nothing else does.
            if *settle == 0 && back == 0 {
                let nth = kept.len() - 1 - (kept.len() - 1).min(usize::from(*settle) + place % 200);
                let (at, amount) = kept[nth];
                let before = take(rolling(length), 0, 0, now, &mut state).used;
                let after = adjust(Place::Rolling { length_ms: length, at_ms: at }, -amount, now, &mut state).used;
                prop_assert!(after == before - amount || at <= now - length && after == before);
                kept[nth].1 = 0;
            }
        }
    }
}
