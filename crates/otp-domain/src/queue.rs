//! What waits to be sent: which message is due, who works on it, and when it is tried again.
//!
//! One queue is one record of the store, changed by compare-and-set; the messages themselves are records beside it. To
//! take a message is to move its time into the future: whoever took it and died loses it to the next one then. So a
//! message is handed to a provider at least once, and more than once only if its worker died or hung between handing it
//! over and saying so.

use std::time::Duration;

use safeconduct_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::challenge::Delivery;

/// The most messages in one queue: so much is read and written with each change.
pub const MAX_ENTRIES: usize = 1024;
/// The most attempts for one message, whatever its time.
pub const MAX_ATTEMPTS: u32 = 64;
/// The pause after the first failed attempt; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that we choose ourselves.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long after the code's end it is still tried to note what became of its message.
const NOTED_WITHIN: Duration = Duration::from_mins(5);

/// A message that waits or is worked on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its id: the same for the same sending of the same code.
    pub id: String,
    /// From when on it may be taken.
    pub due: Timestamp,
    /// When its code ends: from then on it is not sent any more.
    pub ends: Timestamp,
    /// How often it was taken.
    pub attempts: u32,
    /// What became of it, if only that is left to be noted: it is not sent any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Delivery>,
}

/// Messages of one queue, in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    entries: Vec<Entry>,
}

/// There is no room for another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What is to become of a message that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It leaves the queue.
    Done,
    /// It waits until then.
    Again(Timestamp),
    /// It waits until then, and was not tried: that counts as no attempt.
    Back(Timestamp),
    /// This became of it, which could not be noted: that waits until then.
    Note(Timestamp, Delivery),
}

impl Queue {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the last of them ends.
    pub fn ends(&self) -> Option<Timestamp> {
        self.entries.iter().map(|one| one.ends).max()
    }

    /// Whether there is one to take.
    pub fn has_due(&self, now: Timestamp) -> bool {
        self.entries.iter().any(|one| one.due <= now)
    }

    /// Whether this message is in it.
    pub fn holds(&self, id: &str) -> bool {
        self.entries.iter().any(|one| one.id == id)
    }

    /// A new message, due at once.
    pub fn add(&mut self, id: String, ends: Timestamp, now: Timestamp) -> Result<(), Full> {
        if self.entries.len() >= MAX_ENTRIES {
            return Err(Full);
        }
        self.entries.push(Entry { id, due: now, ends, attempts: 0, outcome: None });
        Ok(())
    }

    /// Takes at most `most` messages that are due, those first that have waited longest. They are due again after
    /// `lease`.
    pub fn take(&mut self, now: Timestamp, lease: Duration, most: usize) -> Vec<Entry> {
        let mut due: Vec<&mut Entry> = self.entries.iter_mut().filter(|one| one.due <= now).collect();
        due.sort_by_key(|one| one.due);
        due.into_iter()
            .take(most)
            .map(|one| {
                one.due = now.after(lease);
                one.attempts = one.attempts.saturating_add(1);
                one.clone()
            })
            .collect()
    }

    /// Settles a message as it was taken; `false` if somebody else has taken it since, and nothing changes then.
    pub fn settle(&mut self, taken: &Entry, fate: Fate) -> bool {
        let Some(at) = self.entries.iter().position(|one| one.id == taken.id && one.attempts == taken.attempts) else {
            return false;
        };
        match (fate, self.entries.get_mut(at)) {
            (Fate::Again(due), Some(entry)) => entry.due = due,
            (Fate::Back(due), Some(entry)) => {
                entry.due = due;
                entry.attempts = entry.attempts.saturating_sub(1);
            }
            (Fate::Note(due, delivery), Some(entry)) => {
                entry.due = due;
                entry.outcome = Some(delivery);
            }
            (Fate::Done, _) | (Fate::Again(_) | Fate::Back(_) | Fate::Note(..), None) => {
                drop(self.entries.swap_remove(at));
            }
        }
        true
    }
}

/// When a message is tried again that nobody took: after a pause that grows, or after what the provider asked for if
/// that is longer. `None` if its code has ended by then: it is given up.
pub fn again(taken: &Entry, now: Timestamp, asked: Option<Duration>) -> Option<Timestamp> {
    let at = now.after(asked.unwrap_or_default().max(pause(taken)));
    (at < taken.ends && taken.attempts < MAX_ATTEMPTS).then_some(at)
}

/// When it is tried again to note what became of a message. `None`: nobody asks any more.
pub fn note_again(taken: &Entry, now: Timestamp) -> Option<Timestamp> {
    let at = now.after(pause(taken));
    (at < taken.ends.after(NOTED_WITHIN) && taken.attempts < MAX_ATTEMPTS).then_some(at)
}

fn pause(taken: &Entry) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << taken.attempts.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(45);

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn queue(ids: &[&str]) -> Queue {
        let mut queue = Queue::default();
        for (n, id) in ids.iter().enumerate() {
            queue.add((*id).to_owned(), at(600), at(i64::try_from(n).unwrap())).unwrap();
        }
        queue
    }

    #[test]
    fn a_message_is_taken_by_one_and_by_another_only_after_the_lease() {
        let mut queue = queue(&["a", "b", "c"]);
        let taken = queue.take(at(2), LEASE, 2);
        assert_eq!(taken.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["a", "b"], "the oldest first");
        assert_eq!(queue.take(at(2), LEASE, 9).len(), 1);
        assert!(queue.take(at(46), LEASE, 9).is_empty() && !queue.has_due(at(46)));
        assert_eq!(queue.take(at(47), LEASE, 9).len(), 3, "whoever took them is taken for dead");
    }

    #[test]
    fn whoever_lost_its_message_settles_nothing() {
        let mut queue = queue(&["a"]);
        let first = queue.take(at(0), LEASE, 1).remove(0);
        let second = queue.take(at(60), LEASE, 1).remove(0);
        assert!(!queue.settle(&first, Fate::Done));
        assert!(!queue.settle(&first, Fate::Again(at(61))));
        assert_eq!((queue.len(), queue.has_due(at(100))), (1, false));
        assert!(queue.settle(&second, Fate::Again(at(70))) && queue.has_due(at(70)));
        let third = queue.take(at(70), LEASE, 1).remove(0);
        assert!(queue.settle(&third, Fate::Done) && queue.is_empty());
        assert!(!queue.settle(&third, Fate::Done));
    }

    #[test]
    fn a_message_that_was_not_tried_keeps_its_attempts() {
        let mut queue = queue(&["a"]);
        for second in 0..i64::from(2 * MAX_ATTEMPTS) {
            let taken = queue.take(at(second), LEASE, 1).remove(0);
            assert_eq!(taken.attempts, 1);
            assert!(queue.settle(&taken, Fate::Back(at(second + 1))));
        }
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn pauses_grow_and_end_with_the_code() {
        let mut queue = queue(&["a"]);
        let (mut now, mut pauses) = (at(0), Vec::new());
        loop {
            let taken = queue.take(now, LEASE, 1).remove(0);
            let Some(next) = again(&taken, now, None) else { break };
            pauses.push(next.since(now).as_secs());
            assert!(queue.settle(&taken, Fate::Again(next)));
            now = next;
        }
        assert_eq!(pauses.get(..7), Some([1, 2, 4, 8, 16, 30, 30].as_slice()));
        assert!(now < at(600) && now.after(LONGEST_PAUSE) >= at(600), "it is tried until its code ends");
    }

    #[test]
    fn a_provider_can_ask_for_more_time_but_not_for_less() {
        let taken = queue(&["a"]).take(at(0), LEASE, 1).remove(0);
        assert_eq!(again(&taken, at(0), Some(Duration::from_secs(20))), Some(at(20)));
        assert_eq!(again(&taken, at(0), Some(Duration::ZERO)), Some(at(1)));
        assert_eq!(again(&taken, at(0), Some(Duration::from_hours(1))), None);
    }

    #[test]
    fn a_queue_takes_no_more_than_it_can_carry() {
        let mut queue = Queue::default();
        for n in 0..MAX_ENTRIES {
            queue.add(n.to_string(), at(600), at(0)).unwrap();
        }
        assert_eq!(queue.add("x".to_owned(), at(600), at(0)), Err(Full));
    }

    #[test]
    fn what_could_not_be_noted_waits_and_is_remembered() {
        let mut queue = queue(&["a"]);
        let taken = queue.take(at(0), LEASE, 1).remove(0);
        let later = note_again(&taken, at(0)).unwrap();
        assert!(queue.settle(&taken, Fate::Note(later, Delivery::Sent)));
        assert!(queue.take(at(0), LEASE, 1).is_empty());
        let again = queue.take(later, LEASE, 1).remove(0);
        assert_eq!((again.outcome, again.attempts), (Some(Delivery::Sent), 2));
        assert!(note_again(&again, at(600)).is_some(), "also when its code has just ended");
        assert_eq!(note_again(&again, at(900)), None);
        let stored = serde_json::to_string(&queue).unwrap();
        assert_eq!(serde_json::from_str::<Queue>(&stored).unwrap(), queue);
    }
}
