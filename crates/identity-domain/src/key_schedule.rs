//! When generated signing keys take turns: which one signs, when the next one is made, when an old one goes.
//!
//! Nothing but times decides, so that all who read the same list at the same moment agree. A key is published for
//! [`Turns::known_before`] before it signs, and for [`Turns::needed_after`] after the next one has begun.

use std::time::Duration;

use safeconduct_types::Timestamp;

/// How long each part of a key's life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turns {
    /// How long a key signs.
    pub period: Duration,
    /// How long it is published before: as long as anybody caches the published keys.
    pub known_before: Duration,
    /// How long it is published afterwards: as long as anything that it signed counts.
    pub needed_after: Duration,
}

/// What is to be done about the keys now.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    /// A key is to be made that signs from this moment on.
    pub add: Option<Timestamp>,
    /// Keys that began before this moment are to go, but for the last of them.
    pub drop_before: Option<Timestamp>,
}

/// What is to be done at `now` about keys that sign from `from` on, in this order.
pub fn plan(from: &[Timestamp], turns: &Turns, now: Timestamp) -> Plan {
    let add = match from.iter().max() {
        // Nobody has cached anything yet.
        None => Some(now),
        // Made so early that it is known when its turn comes; where that was slept through, its turn comes later.
        Some(last) if now >= last.after(turns.period).before(turns.known_before) => {
            Some(last.after(turns.period).max(now.after(turns.known_before)))
        }
        Some(_) => None,
    };
    // A key whose successor has signed for so long has nothing left to vouch for.
    let over = now.before(turns.needed_after);
    let successor = from.iter().copied().filter(|begun| *begun <= over).max();
    let drop_before = successor.filter(|successor| from.iter().any(|begun| begun < successor));
    Plan { add, drop_before }
}

/// Which of these keys signs at `now`: the last one whose turn has come.
pub fn signs(from: &[Timestamp], now: Timestamp) -> Option<usize> {
    let begun = from.iter().enumerate().filter(|(_, from)| **from <= now);
    begun.max_by_key(|(_, from)| **from).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TURNS: Turns = Turns {
        period: Duration::from_secs(1000),
        known_before: Duration::from_mins(5),
        needed_after: Duration::from_mins(15),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn the_first_key_signs_at_once() {
        assert_eq!(plan(&[], &TURNS, at(50)), Plan { add: Some(at(50)), drop_before: None });
        assert_eq!(signs(&[at(50)], at(50)), Some(0));
    }

    #[test]
    fn the_next_key_is_published_before_it_signs() {
        assert_eq!(plan(&[at(0)], &TURNS, at(699)), Plan::default());
        assert_eq!(plan(&[at(0)], &TURNS, at(700)).add, Some(at(1000)));
        assert_eq!(plan(&[at(0), at(1000)], &TURNS, at(700)), Plan::default());
        assert_eq!(signs(&[at(0), at(1000)], at(999)), Some(0));
        assert_eq!(signs(&[at(0), at(1000)], at(1000)), Some(1));
    }

    #[test]
    fn a_turn_that_was_slept_through_comes_later_and_never_unannounced() {
        assert_eq!(plan(&[at(0)], &TURNS, at(5000)).add, Some(at(5300)));
    }

    #[test]
    fn a_key_goes_when_nothing_that_it_signed_counts_any_more() {
        assert_eq!(plan(&[at(0), at(1000)], &TURNS, at(1699)).drop_before, None);
        assert_eq!(plan(&[at(0), at(1000), at(2000)], &TURNS, at(1899)).drop_before, None);
        assert_eq!(plan(&[at(0), at(1000), at(2000)], &TURNS, at(1900)).drop_before, Some(at(1000)));
    }

    proptest! {
        #[test]
        fn whatever_the_pauses_one_key_signs_and_what_it_signed_can_be_checked(
            pauses in proptest::collection::vec(1u64..2500, 1..40),
        ) {
            let (mut now, mut keys) = (at(0), Vec::<Timestamp>::new());
            let mut announced = Vec::<(Timestamp, Timestamp)>::new();
            let mut signed = Vec::<(Timestamp, Timestamp)>::new();
            for pause in pauses {
                let plan = plan(&keys, &TURNS, now);
                if let Some(from) = plan.add {
                    if !keys.is_empty() {
                        prop_assert!(from >= now.after(TURNS.known_before));
                    }
                    keys.push(from);
                    announced.push((from, now));
                }
                if let Some(before) = plan.drop_before {
                    keys.retain(|from| *from >= before);
                }
                let signing = keys[signs(&keys, now).unwrap()];
                signed.push((signing, now));
                for (key, when) in &signed {
                    // Between two looks the key of the earlier look signs on.
                    if now < when.after(TURNS.needed_after) {
                        prop_assert!(keys.contains(key), "{key:?} of {when:?} is gone at {now:?}");
                    }
                }
                now = now.after(Duration::from_secs(pause));
            }
        }
    }
}
