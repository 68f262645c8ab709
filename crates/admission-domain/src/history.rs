//! Random histories against a small oracle.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::admit::AdmitAnswer;
use crate::execution::{Settlement, Token};
use crate::extend::Extend;
use crate::fixture::{
    Shelf, admit, caller, completed, execution_id, kept, lease, op, released, resolved, same, settle, unknown,
};
use crate::key::Key;
use crate::resolve::Matched;

#[derive(Clone, Debug)]
enum Step {
    /// A request: caller's key, same inputs, fingerprint; whether its answer (or its commit) is lost.
    Admit {
        caller: Option<u8>,
        same: Option<u8>,
        print: u8,
        lost: bool,
        repeat: bool,
    },
    /// Takes over the n-th execution there ever was.
    Resume {
        nth: usize,
    },
    Extend {
        nth: usize,
        old_token: bool,
    },
    Settle {
        nth: usize,
        how: u8,
        old_token: bool,
        repeat: bool,
        lost: bool,
    },
    /// Moves the store's clock, back at times.
    Clock {
        millis: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (proptest::option::of(0..3_u8), proptest::option::of(0..3_u8), 0..2_u8, prop::bool::weighted(0.1), any::<bool>())
            .prop_map(|(caller, same, print, lost, repeat)| Step::Admit { caller, same, print, lost, repeat }),
        2 => (0..20_usize).prop_map(|nth| Step::Resume { nth }),
        1 => (0..20_usize, any::<bool>()).prop_map(|(nth, old_token)| Step::Extend { nth, old_token }),
        5 => (0..20_usize, 0..5_u8, prop::bool::weighted(0.2), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(nth, how, old_token, repeat, lost)| Step::Settle { nth, how, old_token, repeat, lost }),
        3 => prop_oneof![0..20_000_i64, -5_000..0_i64, Just(3_700_000_i64)].prop_map(|millis| Step::Clock { millis }),
    ]
}

/// What must be so, kept in the simplest terms: who was told that it may act, and what was said of it since.
#[derive(Default)]
struct Oracle {
    /// The SAME key and caller's key of each execution that was ever admitted.
    keys: BTreeMap<u64, (Option<Key>, Option<Key>)>,
    /// Executions that still stand in the way of another under their SAME key.
    blocks: BTreeSet<u64>,
    /// The highest token that was handed out for each.
    tokens: BTreeMap<u64, Token>,
    /// Final ones, and when they are forgotten at the latest.
    forgotten: BTreeMap<u64, i64>,
    /// The generations at which an execution under a SAME key sent bytes and was released.
    generations: BTreeMap<Key, (u32, i64)>,
}

impl Oracle {
    fn admitted(&mut self, number: u64, same: Option<Key>, caller: Option<Key>, now: i64) {
        for (other, keys) in &self.keys {
            let in_the_way = self.blocks.contains(other) && self.forgotten.get(other).is_none_or(|end| now < *end);
            assert!(!(in_the_way && same.is_some() && keys.0 == same), "two admitted under one SAME key");
            assert!(!(in_the_way && caller.is_some() && keys.1 == caller), "two live executions for one caller's key");
        }
        self.keys.insert(number, (same, caller));
        self.blocks.insert(number);
        self.tokens.insert(number, Token::FIRST);
    }
}

/// The answer without how it was found: the first time may have made a link, which the second one takes.
fn bare(answer: AdmitAnswer) -> AdmitAnswer {
    match answer {
        AdmitAnswer::Replay(it, _) => AdmitAnswer::Replay(it, Matched::Id),
        AdmitAnswer::Running(it, _) => AdmitAnswer::Running(it, Matched::Id),
        AdmitAnswer::Unknown(it, _) => AdmitAnswer::Unknown(it, Matched::Id),
        AdmitAnswer::Admitted(_)
        | AdmitAnswer::KeyReused(_)
        | AdmitAnswer::Reserved(_)
        | AdmitAnswer::Consumed(..)
        | AdmitAnswer::Stuck(_) => answer,
    }
}

fn settlement(how: u8) -> Settlement {
    match how {
        0 => completed(),
        1 => released(true),
        2 => kept(),
        3 => resolved(),
        _ => unknown(),
    }
}

#[allow(clippy::too_many_lines, reason = "one history, read from top to bottom")]
fn play(steps: Vec<Step>) {
    let mut shelf = Shelf::default();
    shelf.now = crate::fixture::seconds(1_000_000);
    let mut oracle = Oracle::default();
    let mut next = 100_u64;
    for step in steps {
        next += 1;
        let now = shelf.now.as_millis();
        match step {
            Step::Clock { millis } => shelf.now = safeconduct_types::Timestamp::from_millis(now + millis),
            Step::Admit { caller: by, same: inputs, print, lost, repeat } => {
                let (by, inputs) = (by.map(caller), inputs.map(same));
                let keys: Vec<Key> = by.into_iter().chain(inputs).collect();
                let asked = admit(next, &keys, print);
                shelf.lose = lost;
                let first = shelf.admit(&asked).unwrap();
                if let AdmitAnswer::Admitted(it) = &first
                    && !lost
                {
                    if let Some(inputs) = inputs
                        && let Some((generation, until)) = oracle.generations.get(&inputs)
                        && now < *until
                    {
                        assert!(it.execution.generation() > *generation, "the upstream would see an old key");
                    }
                    oracle.admitted(next, inputs, by, now);
                }
                if repeat && !lost {
                    assert_eq!(bare(shelf.admit(&asked).unwrap()), bare(first), "a repeat was answered differently");
                }
            }
            Step::Resume { nth } => {
                let Some((number, (inputs, by))) = oracle.keys.iter().nth(nth).map(|(n, k)| (*n, *k)) else { continue };
                let held = shelf.execution(number).and_then(|it| it.lease_ends()).is_some_and(|end| shelf.now < end);
                let keys: Vec<Key> = by.into_iter().chain(inputs).collect();
                let mut asked = admit(next, &keys, 0);
                asked.resume = Some(execution_id(number));
                if let Ok(AdmitAnswer::Admitted(it)) = shelf.admit(&asked) {
                    assert!(!held, "taken over while the lease was held");
                    assert!(it.resumed && *it.execution.id() == execution_id(number));
                    assert!(it.execution.token() > oracle.tokens[&number], "the token did not rise");
                    assert!(!oracle.forgotten.contains_key(&number), "a final execution came back to life");
                    oracle.tokens.insert(number, it.execution.token());
                    assert_eq!(shelf.admit(&asked), Ok(AdmitAnswer::Admitted(it)), "a repeat was answered differently");
                }
            }
            Step::Extend { nth, old_token } => {
                let Some((number, token)) = oracle.tokens.iter().nth(nth).map(|(n, t)| (*n, *t)) else { continue };
                let token = if old_token { Token::new(token.number() - 1) } else { token };
                let before = shelf.execution(number);
                let asked = Extend {
                    execution: execution_id(number),
                    operation: op(next),
                    token,
                    lease: Some(lease(10)),
                    checkpoint: None,
                    charges: Vec::new(),
                };
                let answer = shelf.extend(&asked);
                if old_token {
                    assert!(answer.is_err());
                    assert_eq!(shelf.execution(number), before, "an old token changed something");
                }
            }
            Step::Settle { nth, how, old_token, repeat, lost } => {
                let Some((number, token)) = oracle.tokens.iter().nth(nth).map(|(n, t)| (*n, *t)) else { continue };
                let token = if old_token { Token::new(token.number() - 1) } else { token };
                let before = shelf.execution(number);
                let asked = settle(number, next, token, settlement(how));
                shelf.lose = lost;
                let answer = shelf.settle(&asked);
                shelf.lose = false;
                if old_token {
                    assert!(answer.is_err());
                    assert_eq!(shelf.execution(number), before, "an old token changed something");
                    continue;
                }
                if token > Token::FIRST && matches!(how, 1 | 2) {
                    assert!(answer.is_err(), "released while in doubt");
                    assert_eq!(shelf.execution(number), before, "a refused release changed something");
                }
                let Ok(record) = answer else { continue };
                if lost {
                    assert_eq!(shelf.execution(number), before);
                    continue;
                }
                if let Some(end) = record.expires() {
                    oracle.forgotten.insert(number, end.as_millis());
                }
                if matches!(how, 1..=3) {
                    oracle.blocks.remove(&number);
                    if let (Some(inputs), _) = oracle.keys[&number] {
                        let end = record.expires().unwrap().as_millis();
                        let latest = oracle.generations.get(&inputs).map_or(0, |(_, until)| *until).max(end);
                        oracle.generations.insert(inputs, (record.generation(), latest.min(end)));
                    }
                }
                if repeat {
                    assert_eq!(shelf.settle(&asked), Ok(record), "a repeat was answered differently");
                }
            }
        }
        for (number, token) in &oracle.tokens {
            match shelf.execution(*number) {
                Some(record) => assert_eq!(record.token(), *token, "a token went back, or rose by itself"),
                None => assert!(oracle.forgotten.contains_key(number), "a record that is not final was forgotten"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_admits_twice_or_lets_a_token_sink(steps in proptest::collection::vec(step(), 1..60)) {
        play(steps);
    }
}
