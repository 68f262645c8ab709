//! Random histories: limits, charges, corrections, repeats, and a clock that goes forward and back.

use std::collections::HashMap;

use proptest::prelude::*;
use safeconduct_types::{OperationId, Timestamp};

use super::Note;
use crate::bounds::Digest;
use crate::calendar::{CalendarUnit, Calendars};
use crate::limit::{Cap, CapKind, Charge, Limit, LimitName, Rate, Scope, Shape, Unit, Window};
use crate::meter::{Meter, cap};
use crate::step::{Step, Stepped};

/// A history of one slot.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The limits; a counter is named by its place.
    pub limits: Vec<Limit>,
    /// When it begins, in microseconds since the epoch.
    pub start_us: i64,
    /// What happens, one after the other.
    pub events: Vec<Event>,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub struct Event {
    /// How long after the event before; negative when the clock is set back. It is never more than an hour behind the
    /// latest time there was.
    pub after_us: i64,
    /// How wrong the caller is about the time, in milliseconds.
    pub error_ms: i64,
    /// What happens.
    pub action: Action,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Action {
    /// Takes amounts from limits (each at most once), and writes a record that must not be there.
    Take {
        /// From which limits (modulo their number), and how much.
        amounts: Vec<(usize, i64)>,
        /// Which record.
        note: Option<u32>,
    },
    /// Sends the last step once more.
    Repeat,
    /// Says what was really used of something taken earlier (modulo their number) from a cap: so many parts of 4, or
    /// one more than all of it (5).
    Settle {
        /// Which.
        nth: usize,
        /// How much of it.
        quarters: i64,
    },
    /// Changes a maximum, or a burst, while the count goes on.
    Change {
        /// Which limit (modulo their number).
        limit: usize,
        /// The new maximum.
        max: i64,
    },
}

const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Dublin",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
];

/// Moments just before something happens to a clock: Dublin loses and gains an hour, Sao Paulo and Beirut lose midnight,
/// Apia loses a day, a leap day, a new year.
const STARTS: [i64; 7] = [
    1_774_744_200_000,
    1_792_889_000_000,
    1_541_298_600_000,
    1_648_331_000_000,
    1_325_238_000_000,
    1_709_163_000_000,
    1_798_761_000_000,
];

/// Some rate, extreme ones among them.
pub fn rate() -> impl Strategy<Value = Rate> {
    let permits = prop_oneof![4 => 1..12_i64, 2 => 1..=1_000_000_i64, 1 => Just(1_000_000_i64), 1 => Just(999_983_i64)];
    let period = prop_oneof![
        3 => prop_oneof![Just(1_000_000_i64), Just(60_000_000_i64), Just(3_600_000_000_i64), Just(7_000_001_i64)],
        2 => 1_000..=31 * 86_400_000_000_i64,
        1 => Just(1_000_i64),
        1 => Just(31 * 86_400_000_000_i64),
    ];
    let burst = prop_oneof![4 => 0..8_i64, 1 => 0..=1_000_000_i64, 1 => Just(1_000_000_i64)];
    (permits, period, burst).prop_filter_map("the burst takes too long", |(permits, period, burst)| {
        Rate::parse(permits, period, burst).ok()
    })
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![
        (prop::sample::select(&CalendarUnit::ALL[..]), prop::sample::select(&ZONES[..]))
            .prop_filter_map("a known zone", |(unit, zone)| Window::calendar(unit, zone).ok()),
        prop_oneof![
            Just(1_000_i64),
            Just(1_001_i64),
            Just(10_000_i64),
            Just(3_600_000_i64),
            Just(86_400_000_i64),
            1_000..=400 * 86_400_000_i64
        ]
        .prop_filter_map("a length within bounds", |length| Window::rolling(length).ok()),
    ]
}

fn maximum() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 0..20_i64, 2 => 0..=100_000_i64, 1 => Just(1_i64 << 52)]
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 1..5_i64, 1 => Just(0_i64), 1 => 1..=200_000_i64, 1 => Just(1_i64 << 51)]
}

/// Some limit.
pub fn limit() -> impl Strategy<Value = Limit> {
    let shape = prop_oneof![
        1 => rate().prop_map(Shape::Rate),
        2 => (window(), maximum(), any::<bool>()).prop_filter_map("a sound cap", |(window, max, count)| {
            let kind = if count { CapKind::Count } else { CapKind::Sum };
            Cap::parse(kind, window, vec![(unit(kind), max)]).ok().map(Shape::Cap)
        }),
    ];
    (shape, any::<bool>(), any::<Option<[u8; 32]>>()).prop_filter_map("a name", |(shape, per_contact, dimensions)| {
        let name = LimitName::parse("some-limit").ok()?;
        Some(Limit { name, scope: Scope::Workspace, per_contact, dimensions: dimensions.map(Digest::new), shape })
    })
}

fn unit(kind: CapKind) -> Unit {
    match kind {
        CapKind::Count => Unit::NONE,
        CapKind::Sum => Unit::parse("EUR").unwrap_or_default(),
    }
}

/// The charge of `amount` from one of the limits that [`limit`] makes.
pub fn charge(limit: &Limit, amount: i64) -> Option<Charge> {
    let unit = match &limit.shape {
        Shape::Rate(_) => Unit::NONE,
        Shape::Cap(cap) => unit(cap.kind()),
    };
    Charge::parse(limit.clone(), amount, unit).ok()
}

fn event() -> impl Strategy<Value = Event> {
    let after_us = prop_oneof![
        3 => Just(0_i64),
        3 => 1..2_000_i64,
        4 => 0..5_000_000_i64,
        3 => 0..900_000_000_i64,
        2 => 0..8_000_000_000_i64,
        1 => 0..3 * 86_400_000_000_i64,
        2 => -5_000_000..0_i64,
        1 => -3_600_000_000..0_i64,
    ];
    let error_ms = prop_oneof![8 => Just(0_i64), 2 => -2_000..2_000_i64, 1 => -3_000_000_000..3_000_000_000_i64];
    let action = prop_oneof![
        10 => (prop::collection::vec((0..8_usize, amount()), 1..4), prop::option::of(0..40_u32))
            .prop_map(|(amounts, note)| Action::Take { amounts, note }),
        1 => Just(Action::Repeat),
        4 => (0..1000_usize, prop_oneof![Just(0_i64), 0..=5_i64]).prop_map(|(nth, quarters)| Action::Settle { nth, quarters }),
        1 => (0..8_usize, maximum()).prop_map(|(limit, max)| Action::Change { limit, max }),
    ];
    (after_us, error_ms, action).prop_map(|(after_us, error_ms, action)| Event { after_us, error_ms, action })
}

/// Some history of up to `length` events.
pub fn scenario(length: usize) -> impl Strategy<Value = Scenario> {
    (prop::collection::vec(limit(), 1..5), prop::sample::select(&STARTS[..]), prop::collection::vec(event(), 1..length))
        .prop_map(|(limits, start_ms, events)| Scenario { limits, start_us: start_ms * 1000, events })
}

/// A step of a scenario, and when it happens.
#[derive(Clone, Debug)]
pub struct Played {
    /// The store's time, in microseconds.
    pub now_us: i64,
    /// The step. Counters are named by the place of their limit.
    pub step: Step<usize, Note>,
    /// The rates in it, with their costs: what [`super::Model::apply`] asks for.
    pub rates: HashMap<usize, (Rate, i64)>,
}

/// Where the records of settles begin.
const SETTLED: u32 = 1000;

/// Turns a scenario into steps, one after the other, because a correction depends on what was admitted before.
#[derive(Debug)]
pub struct Player {
    limits: Vec<Limit>,
    calendars: Calendars,
    now_us: i64,
    latest_us: i64,
    count: u128,
    last: Option<Played>,
    /// What was taken from caps: limit, when, how much stands now.
    taken: Vec<(usize, i64, i64)>,
    /// What the last step takes, or corrects, if it passes.
    pending: Vec<Pending>,
}

#[derive(Clone, Copy, Debug)]
enum Pending {
    Taken(usize, i64),
    Settled(usize, i64),
}

impl Player {
    /// At the beginning of a scenario.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            limits: scenario.limits.clone(),
            calendars: Calendars::new(),
            now_us: scenario.start_us,
            latest_us: scenario.start_us,
            count: 0,
            last: None,
            taken: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// The step that this event leads to, if to any.
    pub fn play(&mut self, event: &Event) -> Option<Played> {
        const HOUR: i64 = 3_600_000_000;
        self.now_us = (self.now_us + event.after_us).max(self.latest_us - HOUR);
        self.latest_us = self.latest_us.max(self.now_us);
        let believed = Timestamp::from_millis(self.now_us / 1000 + event.error_ms);
        let mut rates = HashMap::new();
        let mut meters: Vec<(usize, Meter)> = Vec::new();
        let mut changes = Vec::new();
        let mut pending = Vec::new();
        match &event.action {
            Action::Take { amounts, note } => {
                for (place, amount) in amounts {
                    let place = place % self.limits.len();
                    let limit = self.limits.get(place)?;
                    if meters.iter().any(|(counter, _)| *counter == place) {
                        continue;
                    }
                    if let Shape::Rate(rate) = &limit.shape {
                        rates.insert(place, (*rate, *amount));
                    } else if *amount > 0 {
                        pending.push(Pending::Taken(place, *amount));
                    }
                    meters.push((place, charge(limit, *amount)?.meter(believed, &self.calendars)));
                }
                changes.extend(note.map(Note));
            }
            Action::Repeat => {
                let played = Played { now_us: self.now_us, ..self.last.clone()? };
                return Some(played);
            }
            Action::Settle { nth, quarters } => {
                let nth = nth.checked_rem(self.taken.len())?;
                let (place, at_ms, amount) = *self.taken.get(nth)?;
                let actual = if *quarters > 4 { amount + 1 } else { amount / 4 * quarters };
                let Shape::Cap(cap) = &self.limits.get(place)?.shape else { return None };
                let at = cap.window().place(Timestamp::from_millis(at_ms), &self.calendars);
                // An old window of the calendar may be forgotten: nobody can go back there.
                if matches!(at, cap::Place::Calendar { end_ms, .. } if end_ms < self.now_us / 1000 - 3_600_000) {
                    return None;
                }
                pending.push(Pending::Settled(nth, actual));
                // Nobody settles twice: the record of the execution sees to it.
                changes.push(Note(SETTLED.saturating_add(u32::try_from(self.count).ok()?)));
                meters.push((place, Meter::Adjust(cap::Adjust { place: at, delta: actual - amount })));
            }
            Action::Change { limit, max } => {
                let place = limit % self.limits.len();
                if let Shape::Cap(cap) = &mut self.limits.get_mut(place)?.shape {
                    let unit = unit(cap.kind());
                    *cap = Cap::parse(cap.kind(), cap.window().clone(), vec![(unit, *max)]).ok()?;
                }
                return None;
            }
        }
        self.count += 1;
        let operation = OperationId::from_bytes(self.count.to_be_bytes());
        let step = Step { operation, changes, meters, index: Vec::new() };
        let played = Played { now_us: self.now_us, step, rates };
        self.last = Some(played.clone());
        self.pending = pending;
        Some(played)
    }

    /// What came of the last step. To be said after each.
    pub fn hear(&mut self, stepped: &Stepped) {
        let Stepped::Done { now, repeated: false, .. } = stepped else { return };
        // A step without a record may be done again by a repeat, and takes again: only its last time is settled.
        for pending in &self.pending {
            match pending {
                Pending::Taken(place, amount) => self.taken.push((*place, now / 1000, *amount)),
                Pending::Settled(nth, actual) => {
                    if let Some(taken) = self.taken.get_mut(*nth) {
                        taken.2 = *actual;
                    }
                }
            }
        }
    }
}
