//! Every order of events, up to a bound: two executors with crashes, lost answers, lapsed leases and fail-overs, over the
//! decisions of this crate as they are.
//!
//! The store is two slots in memory (the contact's and the workspace's) with the real codec, the real step and the real
//! counters; what is modelled is who does what when. One transition is one stroke of the store.

#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::struct_excessive_bools,
    clippy::too_many_lines,
    clippy::match_same_arms,
    clippy::needless_pass_by_value,
    reason = "a model is read as one table of what may happen"
)]

mod shell;
mod world;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use crate::execution::State as Life;
use world::{Action, Broken, CONTACT, Config, Durability, Flaw, Heard, Role, SHARED, State, Task, executions};

impl Model for Config {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        Config::actions(self, state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        self.next(last, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one executor at a time", one_at_a_time),
            Property::always("admitted once until released", |_, state: &State| state.broken != Some(Broken::Twice)),
            Property::always("a promised execution is not freed", |_, state: &State| {
                state.broken != Some(Broken::Freed)
            }),
            Property::always("an old token changes nothing", |_, state: &State| state.broken != Some(Broken::OldToken)),
            Property::always("what was answered as ended stays so", |_, state: &State| {
                state.broken != Some(Broken::Forgotten)
            }),
            Property::always("it happens once", once),
            Property::always("the shared cap holds", within_cap),
            Property::always("what was not used comes back", comes_back),
            Property::sometimes("admitted", |_, state: &State| state.procs.iter().any(|it| holds(it, 1))),
            Property::sometimes("resumed", |_, state: &State| state.procs.iter().any(|it| holds(it, 2))),
            Property::sometimes("released", |_, state: &State| !state.freed.is_empty()),
            Property::sometimes("unknown", |_, state: &State| {
                state.procs.iter().any(|it| matches!(it.role, Role::Heard(Heard::Unknown(_))))
            }),
            Property::sometimes("replayed", |_, state: &State| {
                state.procs.iter().any(|it| it.role == Role::Heard(Heard::Replay))
            }),
            Property::sometimes("another generation", |_, state: &State| {
                state.effects.iter().any(|((_, generation), count)| *generation > 0 && *count > 0)
            }),
            Property::sometimes("found out", |it: &Config, state: &State| !it.shared || resolving(state, true)),
            Property::sometimes("voided", |it: &Config, state: &State| !it.shared || resolving(state, false)),
            Property::sometimes("denied", |it: &Config, state: &State| {
                it.same[0] == it.same[1] || state.procs.iter().any(|it| it.role == Role::Heard(Heard::Denied))
            }),
        ]
    }
}

fn holds(process: &world::Process, least: u64) -> bool {
    matches!(&process.role, Role::Holds { token, .. } if *token >= least)
}

fn resolving(state: &State, made: bool) -> bool {
    let is = |task: &Task| matches!(task, Task::Resolve { promised, .. } if *promised == made);
    state.procs.iter().any(|process| process.stack.last().is_some_and(|job| is(&job.task)))
}

fn one_at_a_time(config: &Config, state: &State) -> bool {
    let acts = |process: &world::Process| {
        let settles = process.stack.first().is_some_and(|job| matches!(job.task, Task::Settle { .. }));
        !settles && matches!(&process.role, Role::Holds { ends, .. } if state.now < *ends)
    };
    config.same[0] != config.same[1] || !state.procs.iter().all(acts)
}

fn once(config: &Config, state: &State) -> bool {
    let of = |key: u8| state.effects.iter().filter(|((same, _), _)| *same == key).map(|(_, count)| *count).sum::<u8>();
    if state.lost && !config.keyed {
        return true;
    }
    of(config.same[0]) <= 1 && of(config.same[1]) <= 1
}

fn within_cap(config: &Config, state: &State) -> bool {
    let standing = state.told.keys().filter(|number| !state.freed.contains(number)).count();
    !config.shared || state.lost || standing <= 1
}

fn comes_back(config: &Config, state: &State) -> bool {
    let at_rest = state.procs.iter().all(|it| it.stack.is_empty() && !matches!(it.role, Role::Holds { .. }));
    if !at_rest || state.lost {
        return true;
    }
    let state = config.healed(state);
    let counted = |it: &Life| matches!(it, Life::Running { .. } | Life::Unknown { .. } | Life::Completed { .. });
    let records = executions(&state.pages[CONTACT].slot);
    let standing = records.iter().filter(|it| counted(it.state())).count();
    config.charges().iter().all(|charge| {
        let shared = !charge.limit().per_contact;
        let at = if shared { SHARED } else { CONTACT };
        let used = usize::try_from(state.pages[at].slot.used(charge, state.now)).unwrap();
        // Of a promise that may have been lost with the other slot's history nothing need be counted there.
        if shared && config.failovers > 0 { used <= standing } else { used == standing }
    })
}

/// One key, no shared limit, a replicated store, an upstream that recognises keys.
fn plain() -> Config {
    Config {
        same: [1, 1],
        caller: [1, 1],
        shared: false,
        own: true,
        durability: Durability::Replicated,
        keyed: true,
        late: false,
        begins: 2,
        ticks: 2,
        losses: 1,
        crashes: 1,
        failovers: 1,
        fail_over_of: &[CONTACT],
        depth: 10,
        strict: false,
        flaw: None,
    }
}

/// How much larger the bounds are, as `CHECK_MORE` says.
fn more() -> u8 {
    option_env!("CHECK_MORE").and_then(|more| more.parse().ok()).unwrap_or(0)
}

/// Plays all that can go wrong, one kind of fault at a time, or all together if more is asked for.
#[allow(clippy::print_stdout, reason = "the number of states is asked for")]
fn check(name: &str, config: &Config) {
    let of = |losses, crashes, failovers| Config { losses, crashes, failovers, ..config.clone() };
    let mut runs = vec![of(1, 0, 0), of(0, 1, 0), of(0, 0, 1)];
    if !config.fail_over_of.is_empty() && config.durability == Durability::Replicated {
        runs[2].losses = 1;
        runs.remove(0);
    }
    if more() > 0 {
        // Together, as far ahead as memory reaches; one at a time, further.
        runs = runs.into_iter().map(|run| Config { depth: run.depth + 6, ..run }).collect();
        runs.push(Config { depth: config.depth + 2 * usize::from(more()), ..of(more(), more(), 1) });
    }
    let skipped: &[&str] = if config.shared { &[] } else { &["found out", "voided", "denied"] };
    let far: &[&str] = if config.shared {
        &["resumed", "unknown", "replayed", "another generation", "denied"]
    } else {
        &["another generation"]
    };
    let mut met = std::collections::BTreeSet::new();
    for run in runs {
        let faults = format!("{} lost, {} crashed, {} failed over", run.losses, run.crashes, run.failovers);
        let depth = run.depth;
        let builder = run.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
        let checker = builder.target_max_depth(depth).spawn_bfs().join();
        let (states, depth) = (checker.unique_state_count(), checker.max_depth());
        println!("{name} ({faults}): {states} states, {depth} deep");
        for property in checker.model().properties() {
            let Some(path) = checker.discovery(property.name) else { continue };
            let fails = property.expectation == Expectation::Always;
            assert!(!fails, "{name}: not {}: {:?}", property.name, path.into_actions());
            met.insert(property.name);
        }
    }
    for property in config.properties() {
        // The short run does not get as far as everything that may happen.
        let near = more() > 0 || !far.contains(&property.name);
        let must = near && property.expectation != Expectation::Always && !skipped.contains(&property.name);
        assert!(!must || met.contains(property.name), "{name}: never {}", property.name);
    }
}

fn finds(config: Config) -> &'static str {
    let failovers = u8::from(config.durability == Durability::Local);
    let config = Config { losses: 0, crashes: 0, failovers, ..config };
    let checker = config.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let broken = |property: &Property<Config>| property.expectation == Expectation::Always;
    let all = checker.model().properties();
    let found = all.iter().filter(|property| broken(property)).find(|it| checker.discovery(it.name).is_some());
    found.map_or("nothing", |property| property.name)
}

#[test]
fn one_key_and_a_replicated_store() {
    check("replicated", &plain());
}

#[test]
fn one_key_and_a_store_that_loses_its_last_write() {
    check("local", &Config { durability: Durability::Local, ..plain() });
}

#[test]
fn an_upstream_that_recognises_no_keys() {
    check("no keys", &Config { keyed: false, ..plain() });
}

#[test]
fn executors_that_act_after_their_lease() {
    check("late", &Config { late: true, ..plain() });
}

fn shared() -> Config {
    Config { shared: true, fail_over_of: &[SHARED], ..plain() }
}

#[test]
fn a_shared_cap_and_one_key() {
    check("shared", &shared());
}

#[test]
fn a_shared_cap_and_two_keys() {
    check("shared, two keys", &Config { same: [1, 2], caller: [1, 2], ..shared() });
}

#[test]
fn the_model_notices_what_is_broken() {
    let broken = |flaw, config: Config| finds(Config { flaw: Some(flaw), ..config });
    assert_eq!(broken(Flaw::FreedUnasked, shared()), "a promised execution is not freed");
    assert_eq!(broken(Flaw::AnyToken, plain()), "an old token changes nothing");
    assert_eq!(broken(Flaw::LapsedIsFree, plain()), "admitted once until released");
    assert_eq!(broken(Flaw::NoHold, Config { durability: Durability::Local, ..plain() }), "one executor at a time");
}

#[test]
fn a_settle_that_only_its_own_slot_loses() {
    check("shared, contact lost", &Config { fail_over_of: &[CONTACT], depth: 13, ..shared() });
}

#[test]
fn a_settle_that_is_repeated_before_the_replica_has_it() {
    check("strict", &Config { strict: true, ..plain() });
}
