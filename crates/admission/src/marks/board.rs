//! All marks in force, as this process knows them, and the order in which they changed: pure, in memory.
//!
//! A watcher is a cursor into that order and nothing else. Each mark stands at the place of its last change, so what a
//! new watcher reads from the beginning is the set of all marks, and what an old one reads from its cursor are the
//! changes since. What was cleared leaves a trace, for as long as there are not too many; a cursor from before the
//! oldest trace has to begin again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use safeconduct_admission_domain::mark::{Mark, MarkCheck, MarkKey, is_met};
use safeconduct_types::{OperationId, Timestamp};

use super::budget::Class;

/// How many of the last changes are remembered: by their operations, and as traces of what was cleared.
pub(super) const REMEMBERED: usize = 1024;

/// Where a change stands: the revision, and among what expired after it, the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) revision: u64,
    expiry: u32,
}

impl Place {
    pub(super) const fn after(revision: u64) -> Self {
        Self { revision, expiry: 0 }
    }
}

/// A change of one mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Set, or set again.
    Set(Arc<Mark>),
    /// Cleared, or expired.
    Cleared(Arc<MarkKey>),
}

impl Change {
    pub(super) fn key(&self) -> &MarkKey {
        match self {
            Self::Set(mark) => &mark.key,
            Self::Cleared(key) => key,
        }
    }
}

/// A change as the store remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) revision: u64,
    pub(super) operation: OperationId,
    pub(super) change: Change,
}

/// What a watcher has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    history: u64,
    pub(super) at: Place,
    /// The board's when it began.
    floor: Place,
}

/// What one more look at the board yields.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// The next changes; none: all were seen.
    Changes(Vec<(Place, Change)>),
    /// The cursor is too old, or of another history.
    Lost,
}

/// The board.
#[derive(Debug, Default)]
pub(super) struct Board {
    held: HashMap<MarkKey, Place>,
    order: BTreeMap<Place, Change>,
    ends: BTreeSet<(Timestamp, Place)>,
    recent: VecDeque<Entry>,
    revision: u64,
    /// The operation of the last change: two histories with the same revision differ in it.
    stamp: Option<OperationId>,
    /// Traces of what was cleared, in `order`.
    traces: usize,
    /// Cursors before this are too old.
    floor: Place,
    /// Rises with each new history.
    history: u64,
    /// How many there are of each class.
    counts: BTreeMap<Class, usize>,
}

impl Board {
    /// The board of the `history`th history of this process: these marks, and the last changes, in order and without a
    /// gap up to `revision`.
    pub(super) fn load(
        marks: Vec<Mark>,
        log: Vec<Entry>,
        (revision, stamp): (u64, Option<OperationId>),
        history: u64,
    ) -> Self {
        let first = log.first().map_or(revision, |entry| entry.revision);
        let mut board = Self { revision, stamp, history, floor: Place::after(first), ..Self::default() };
        for mark in marks {
            board.put(mark.revision, Arc::new(mark));
        }
        for entry in log {
            // Whoever was here before may still have it.
            if let Change::Cleared(key) = &entry.change
                && !board.held.contains_key(&**key)
            {
                board.order.insert(Place::after(entry.revision), entry.change.clone());
                board.traces += 1;
            }
            board.recent.push_back(entry);
        }
        board
    }

    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) const fn stamp(&self) -> Option<OperationId> {
        self.stamp
    }

    pub(super) const fn history(&self) -> u64 {
        self.history
    }

    /// How many of a class are in force at `now`.
    pub(super) fn count(&self, class: Class, now: Timestamp) -> usize {
        let is_over = |(_, place): &&(Timestamp, Place)| match self.order.get(place) {
            Some(Change::Set(mark)) => Class::of(mark) == class,
            Some(Change::Cleared(_)) | None => false,
        };
        let over = self.ends.iter().take_while(|(end, _)| *end <= now).filter(is_over).count();
        self.counts.get(&class).copied().unwrap_or_default().saturating_sub(over)
    }

    pub(super) fn get(&self, key: &MarkKey) -> Option<&Arc<Mark>> {
        match self.order.get(self.held.get(key)?) {
            Some(Change::Set(mark)) => Some(mark),
            Some(Change::Cleared(_)) | None => None,
        }
    }

    /// The first mark that closes what one of the checks asks for.
    pub(super) fn met(&self, checks: &[MarkCheck], now: Timestamp) -> Option<Arc<Mark>> {
        checks.iter().find_map(|check| self.get(&check.key).filter(|mark| is_met(mark, check, now)).cloned())
    }

    /// What this operation did, if it was one of the last.
    pub(super) fn done(&self, operation: OperationId) -> Option<&Entry> {
        self.recent.iter().rev().find(|entry| entry.operation == operation)
    }

    /// Takes in a change of the store. Changes come in order; one that was seen already changes nothing.
    pub(super) fn apply(&mut self, entry: Entry) {
        let revision = entry.revision;
        if revision <= self.revision {
            return;
        }
        if self.held.get(entry.change.key()).is_none_or(|place| place.revision < revision) {
            match &entry.change {
                Change::Set(mark) => self.put(revision, Arc::clone(mark)),
                Change::Cleared(key) => self.take_down(Arc::clone(key), Place::after(revision)),
            }
        }
        (self.revision, self.stamp) = (revision, Some(entry.operation));
        self.recent.push_back(entry);
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
    }

    /// Takes down what has expired by `now`, on the store's clock.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while let Some((end, place)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            self.ends.remove(&(end, place));
            if let Some(Change::Set(mark)) = self.order.get(&place).cloned() {
                let last = self.order.last_key_value().map_or(Place::default(), |(place, _)| *place);
                let expiry = if last.revision == self.revision { last.expiry.saturating_add(1) } else { 1 };
                self.take_down(Arc::new(mark.key.clone()), Place { revision: self.revision, expiry });
            }
        }
    }

    /// Whether a watcher that has seen this may go on from there.
    fn resumes(&self, revision: u64, stamp: OperationId) -> bool {
        let known = |entry: &Entry| entry.revision == revision && entry.operation == stamp;
        let is_now = self.revision == revision && self.stamp == Some(stamp);
        Place::after(revision) >= self.floor && (is_now || self.recent.iter().any(known))
    }

    /// A watcher that begins.
    pub(super) fn begin(&self) -> Cursor {
        Cursor { history: self.history, at: Place::default(), floor: self.floor }
    }

    /// A watcher that goes on after this state, if it may.
    pub(super) fn resume(&self, revision: u64, stamp: OperationId) -> Option<Cursor> {
        let at = Place::after(revision);
        self.resumes(revision, stamp).then_some(Cursor { history: self.history, at, floor: self.floor })
    }

    /// Up to `most` changes that this watcher has not seen.
    pub(super) fn after(&self, cursor: Cursor, most: usize) -> Page {
        // A trace that was dropped behind the cursor is none that it needs.
        if cursor.history != self.history || (cursor.at < self.floor && cursor.floor < self.floor) {
            return Page::Lost;
        }
        // What was read from the store before the changes that precede it waits for them.
        let known = Place { revision: self.revision, expiry: u32::MAX };
        if cursor.at >= known {
            return Page::Changes(Vec::new());
        }
        let rest = self.order.range((Bound::Excluded(cursor.at), Bound::Included(known)));
        Page::Changes(rest.take(most).map(|(place, change)| (*place, change.clone())).collect())
    }

    fn put(&mut self, revision: u64, mark: Arc<Mark>) {
        let place = Place::after(revision);
        self.forget(&mark.key);
        if let Some(end) = mark.expires {
            self.ends.insert((end, place));
        }
        self.held.insert(mark.key.clone(), place);
        *self.counts.entry(Class::of(&mark)).or_default() += 1;
        self.order.insert(place, Change::Set(mark));
    }

    fn take_down(&mut self, key: Arc<MarkKey>, place: Place) {
        if !self.forget(&key) {
            return;
        }
        self.order.insert(place, Change::Cleared(key));
        self.traces += 1;
        if self.traces > REMEMBERED {
            let oldest = self.order.iter().find(|(_, change)| matches!(change, Change::Cleared(_)));
            if let Some(oldest) = oldest.map(|(place, _)| *place) {
                self.order.remove(&oldest);
                self.traces -= 1;
                self.floor = self.floor.max(oldest);
            }
        }
    }

    /// Whether there was one.
    fn forget(&mut self, key: &MarkKey) -> bool {
        let Some(place) = self.held.remove(key) else { return false };
        if let Some(Change::Set(old)) = self.order.remove(&place) {
            if let Some(end) = old.expires {
                self.ends.remove(&(end, place));
            }
            if let Some(count) = self.counts.get_mut(&Class::of(&old)) {
                *count = count.saturating_sub(1);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safeconduct_admission_domain::mark::Subject;
    use safeconduct_types::ConnectorName;

    use super::*;

    fn key(n: u8) -> MarkKey {
        let name: ConnectorName = format!("c{n}").parse().unwrap();
        MarkKey::new("acme".parse().unwrap(), Subject::ConnectorDisabled(name))
    }

    fn mark(n: u8, revision: u64, expires: Option<i64>) -> Mark {
        Mark {
            key: key(n),
            effective: Timestamp::from_millis(0),
            expires: expires.map(Timestamp::from_millis),
            reason: String::new(),
            actor: String::new(),
            revision,
            min_epoch: 0,
        }
    }

    fn op(revision: u64) -> OperationId {
        OperationId::from_bytes(u128::from(revision).to_be_bytes())
    }

    fn set(n: u8, revision: u64, expires: Option<i64>) -> Entry {
        Entry { revision, operation: op(revision), change: Change::Set(Arc::new(mark(n, revision, expires))) }
    }

    fn clear(n: u8, revision: u64) -> Entry {
        Entry { revision, operation: op(revision), change: Change::Cleared(Arc::new(key(n))) }
    }

    fn changes(board: &Board, cursor: Cursor) -> Vec<(Place, Change)> {
        match board.after(cursor, usize::MAX) {
            Page::Changes(changes) => changes,
            Page::Lost => panic!("lost"),
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, Option<i64>),
        Clear(u8),
        Expire(i64),
        Look,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..5u8, proptest::option::of(0..20i64)).prop_map(|(n, end)| Step::Set(n, end)),
            2 => (0..5u8).prop_map(Step::Clear),
            1 => (0..20i64).prop_map(Step::Expire),
            2 => Just(Step::Look),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        #[test]
        fn a_watcher_that_follows_has_just_the_marks_that_are_in_force(steps in steps()) {
            let mut board = Board::load(Vec::new(), Vec::new(), (0, None), 1);
            let (mut cursor, mut seen, mut revision) = (board.begin(), BTreeMap::new(), 0);
            let mut look = |board: &Board| {
                for (place, change) in changes(board, cursor) {
                    cursor.at = place;
                    match change {
                        Change::Set(mark) => { seen.insert(mark.key.clone(), mark); }
                        Change::Cleared(key) => { seen.remove(&*key); }
                    }
                }
                seen.clone()
            };
            for step in steps {
                match step {
                    Step::Set(n, end) => { revision += 1; board.apply(set(n, revision, end)); }
                    Step::Clear(n) => { revision += 1; board.apply(clear(n, revision)); }
                    Step::Expire(now) => board.expire(Timestamp::from_millis(now)),
                    Step::Look => { look(&board); }
                }
            }
            let followed = look(&board);
            let mut all = BTreeMap::new();
            for (_, change) in changes(&board, board.begin()) {
                match change {
                    Change::Set(mark) => { all.insert(mark.key.clone(), mark); }
                    Change::Cleared(key) => prop_assert!(!all.contains_key(&*key), "a trace of what stands later"),
                }
            }
            prop_assert_eq!(&followed, &all);
            for n in 0..5 {
                prop_assert_eq!(board.get(&key(n)), followed.get(&key(n)));
            }
        }
    }

    #[test]
    fn a_change_that_was_seen_already_changes_nothing() {
        let mut board = Board::load(vec![mark(1, 5, None)], Vec::new(), (3, Some(op(3))), 1);
        board.apply(clear(1, 4));
        assert!(board.get(&key(1)).is_some(), "it was set after that");
        board.apply(set(1, 5, None));
        board.apply(clear(1, 6));
        assert!(board.get(&key(1)).is_none());
        assert_eq!((board.revision(), board.stamp()), (6, Some(op(6))));
    }

    #[test]
    fn a_watcher_resumes_where_it_was_and_nowhere_else() {
        let mut board = Board::load(Vec::new(), Vec::new(), (0, None), 1);
        for revision in 1..=3 {
            board.apply(set(1, revision, None));
        }
        assert!(board.resumes(3, op(3)) && board.resumes(1, op(1)));
        assert!(!board.resumes(2, op(9)), "a history that was lost");
        assert!(!board.resumes(4, op(4)), "the future");
        let log = vec![set(1, 2, None), clear(2, 3)];
        let loaded = Board::load(vec![mark(1, 2, None)], log, (3, Some(op(3))), 1);
        assert!(loaded.resumes(3, op(3)));
        let before = changes(&loaded, loaded.resume(2, op(2)).unwrap());
        assert_eq!(before, [(Place::after(3), Change::Cleared(Arc::new(key(2))))]);
        assert!(!loaded.resumes(1, op(1)), "what was cleared since is not known");
        let other = Board::load(Vec::new(), Vec::new(), (0, None), 2).begin();
        assert_eq!(board.after(other, 1), Page::Lost, "of another history");
    }

    #[test]
    fn what_is_remembered_of_the_cleared_is_bounded_and_who_missed_it_begins_again() {
        let mut board = Board::load(Vec::new(), Vec::new(), (0, None), 1);
        let (mut revision, early) = (0, board.begin());
        for _ in 0..=REMEMBERED {
            board.apply(set(1, revision + 1, None));
            board.apply(clear(1, revision + 2));
            board.apply(set(2, revision + 3, Some(0)));
            revision += 3;
            board.expire(Timestamp::from_millis(1));
        }
        assert!(board.order.len() <= REMEMBERED && board.recent.len() <= REMEMBERED);
        assert_eq!(board.after(early, 1), Page::Lost);
        let late = board.resume(revision, op(revision)).unwrap();
        assert!(!changes(&board, late).is_empty(), "the last one expired after this");
        assert!(matches!(board.after(board.begin(), 1), Page::Changes(_)));
    }

    #[test]
    fn what_an_operation_did_is_remembered() {
        let mut board = Board::load(Vec::new(), Vec::new(), (0, None), 1);
        board.apply(set(1, 1, None));
        board.apply(clear(1, 2));
        assert_eq!(board.done(op(1)), Some(&set(1, 1, None)));
        assert_eq!(board.done(op(3)), None);
    }

    #[test]
    fn a_watcher_misses_nothing_that_changed_while_the_marks_were_read() {
        // The head was read at 10; then 11 was written to a bucket that had been read, and 12 to one that had not.
        let mut board = Board::load(vec![mark(2, 12, None)], vec![], (10, Some(op(10))), 2);
        let mut cursor = board.begin();
        let mut seen = Vec::new();
        let mut look = |board: &Board| {
            for (place, change) in changes(board, cursor) {
                cursor.at = place;
                seen.push(change.key().clone());
            }
            seen.clone()
        };
        look(&board);
        board.apply(set(1, 11, None));
        look(&board);
        board.apply(set(2, 12, None));
        assert_eq!(look(&board), [key(1), key(2)]);
    }

    #[test]
    fn what_has_expired_does_not_count_even_before_it_is_taken_down() {
        let mut board = Board::load(Vec::new(), Vec::new(), (0, None), 1);
        for (n, end) in [(1, Some(5)), (2, Some(9)), (3, None)] {
            board.apply(set(n, n.into(), end));
        }
        let count = |board: &Board, now| board.count(Class::Kept, Timestamp::from_millis(now));
        assert_eq!([count(&board, 4), count(&board, 5), count(&board, 9)], [3, 2, 1]);
        board.expire(Timestamp::from_millis(5));
        board.apply(clear(3, 4));
        assert_eq!([count(&board, 5), count(&board, 9)], [1, 0]);
    }
}
