//! What an execution holds of shared limits: the truth about it, in the slot of those limits.
//!
//! A hold is written in one stroke with the counters, so it says what was really taken; the execution's record says
//! what should be. Once closed, nothing is taken for the execution any more, however late it comes.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_types::{ExecutionId, Timestamp};

use crate::bounds::{BRIEF, MAX_LEASE, MAX_RETENTION};
use crate::execution::{Execution, State};
use crate::held::{Adjusted, Held};
use crate::limit::Charge;
use crate::record::{AT_WRITE, AtWrite, Change, Counted, Decision, Found, Listed, Name, known};

/// How long a closed hold is remembered: longer than anything may still be on its way.
const REMEMBERED_FOR: Duration = Duration::from_secs(BRIEF.as_secs() + MAX_LEASE.as_secs());

/// What an execution holds of shared limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// These charges.
    Open {
        /// The execution, whose id leads to its record.
        execution: ExecutionId,
        /// What was taken.
        charges: Vec<Held>,
    },
    /// Nothing, and never anything again: the execution was voided or settled.
    Closed {
        /// Whether it was open before, so that something was promised.
        held: bool,
    },
    /// Closed, and what stayed counted when the execution was completed has been given back, too: its keys were freed.
    Freed,
}

/// What is to become of a hold, once the execution's record has been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays; look again after so long.
    Stays(Duration),
    /// It is closed, and these are given back or counted more.
    Closes(Vec<Adjusted>),
}

impl Hold {
    /// How long it is kept. A closed one outlives everything that may still be on its way.
    pub fn expires(&self) -> Option<Timestamp> {
        match self {
            Self::Open { .. } => None,
            Self::Closed { .. } => Some(AT_WRITE.after(REMEMBERED_FOR)),
            // As long as the record can say that it is owed something.
            Self::Freed => Some(AT_WRITE.after(BRIEF).after(MAX_RETENTION)),
        }
    }

    /// What is to become of it. `record` is None if the record is gone: forgotten after its retention, erased, or lost
    /// by its store. Then nobody knows whether something happened, and what was taken stays counted.
    pub fn fate(&self, now: Timestamp, record: Option<&Execution>) -> Fate {
        let Self::Open { charges, .. } = self else { return Fate::Closes(Vec::new()) };
        let Some(record) = record else { return Fate::Closes(Vec::new()) };
        match record.state() {
            State::Reserving { lease_ends, .. } | State::Running { lease_ends, .. } if now < *lease_ends => {
                Fate::Stays(lease_ends.since(now))
            }
            // Promised, and nobody has said what became of it.
            State::Reserving { .. } | State::Running { .. } | State::Unknown { .. } => Fate::Stays(MAX_LEASE),
            State::Completed { .. } | State::Released { .. } => Fate::Closes(differences(charges, record)),
        }
    }
}

impl AtWrite for Hold {
    fn written(mut self, at: Timestamp) -> Self {
        if let Self::Open { charges, .. } = &mut self {
            for held in charges {
                held.at = known(held.at, at);
            }
        }
        self
    }
}

/// A request to take from shared limits for an execution.
#[derive(Clone, Debug)]
pub struct Take {
    /// The execution, whose record says already that it takes this.
    pub execution: ExecutionId,
    /// The charges of this operation, as the record has them.
    pub charges: Vec<Held>,
    /// When to look after it at the latest.
    pub lease: Duration,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is held: the promise.
    Held,
    /// The hold was closed before; it is too late to take anything.
    Closed,
}

impl AtWrite for Taken {
    fn written(self, _: Timestamp) -> Self {
        self
    }
}

/// What to read to decide about an execution's hold.
pub fn hold_reads(execution: &ExecutionId) -> Vec<Name> {
    vec![Name::Hold(execution.clone())]
}

/// Decides whether the execution may take from shared limits.
pub fn decide_take(asked: &Take, found: &Found) -> Decision<Taken> {
    let hold = found.hold(&asked.execution).cloned();
    let hold = hold.unwrap_or(Hold::Open { execution: asked.execution.clone(), charges: Vec::new() });
    let Hold::Open { execution, mut charges } = hold else { return Decision::plain(Taken::Closed) };
    if asked.charges.iter().all(|one| charges.iter().any(|held| held.is(one))) {
        return Decision::plain(Taken::Held);
    }
    charges.extend(asked.charges.iter().cloned().map(|held| Held { at: AT_WRITE, ..held }));
    let id = execution.clone();
    let change = Change::hold(id.clone(), Hold::Open { execution, charges });
    Decision::with(Taken::Held, vec![change]).counting(Counted::Charges).listing(Listed::Holding(id, asked.lease))
}

/// What a reservation that nobody reported back on turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Its shared charges are held, so the promise was or may have been made.
    Made,
    /// They are not, and never will be.
    Never,
}

impl AtWrite for Promise {
    fn written(self, _: Timestamp) -> Self {
        self
    }
}

/// Finds out whether the promise was made, and if not, sees to it that it never is.
pub fn decide_void(execution: &ExecutionId, found: &Found) -> Decision<Promise> {
    match found.hold(execution) {
        // Closed after it was held: it was promised, and has ended; a record that says otherwise is an older one, which a
        // fail-over of its store brought back.
        Some(Hold::Open { .. } | Hold::Closed { held: true } | Hold::Freed) => Decision::plain(Promise::Made),
        Some(Hold::Closed { held: false }) => Decision::plain(Promise::Never),
        None => Decision::with(Promise::Never, vec![Change::hold(execution.clone(), Hold::Closed { held: false })]),
    }
}

/// An execution whose hold is to be closed if it has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// Its id.
    pub id: &'a ExecutionId,
    /// Its record, if there is one.
    pub record: Option<&'a Execution>,
    /// Of what was written beside the hold before this moment some may be lost; the epoch if nothing was ever lost.
    pub lost_until: Timestamp,
}

/// Closes the hold of an execution that has ended, or leaves it, as its record says; see [`Hold::fate`].
pub fn decide_close(now: Timestamp, ended: &Ended<'_>, found: &Found) -> Decision<()> {
    let Ended { id, record, lost_until } = *ended;
    let asks = |decision: Decision<()>| Decision { asks: shared(record), ..decision };
    // A hold that is there was not lost, nor was what it counts. Of one that is not, what was taken before the loss may
    // be counted no more: to give it back would free what others took.
    let is_counted = |held: &&Held| found.hold(id).is_some() || held.at >= lost_until;
    let owed: Vec<Adjusted> = record
        .into_iter()
        .flat_map(Execution::owed)
        .filter(is_counted)
        .filter_map(|held| held.clone().recount(0))
        .collect();
    if !owed.is_empty() && matches!(found.hold(id), None | Some(Hold::Closed { held: true })) {
        let freed = Decision::with((), vec![Change::hold(id.clone(), Hold::Freed)]);
        return asks(freed.counting(Counted::Adjusted(owed)).listing(Listed::Closed(id.clone())));
    }
    let Some(hold) = found.hold(id) else {
        if record.is_some_and(|record| record.expires().is_some() && record.changed().after(REMEMBERED_FOR) <= now) {
            // It was closed, and that is forgotten; nothing is on its way any more.
            return Decision { listed: vec![Listed::Closed(id.clone())], ..asks(Decision::plain(())) };
        }
        // What was on its way when it ended comes too late.
        return asks(
            Decision::with((), vec![Change::hold(id.clone(), Hold::Closed { held: false })])
                .listing(Listed::Closed(id.clone())),
        );
    };
    if matches!(hold, Hold::Closed { .. } | Hold::Freed) {
        // Whoever looked while it was being closed may have listed it again.
        return Decision { listed: vec![Listed::Closed(id.clone())], ..Decision::plain(()) };
    }
    match hold.fate(now, record) {
        Fate::Stays(length) => Decision { listed: vec![Listed::Holding(id.clone(), length)], ..Decision::plain(()) },
        Fate::Closes(adjusted) => {
            let hold = if owed.is_empty() { Hold::Closed { held: true } } else { Hold::Freed };
            let closed = Decision::with((), vec![Change::hold(id.clone(), hold)]);
            asks(closed.counting(Counted::Adjusted(adjusted)).listing(Listed::Closed(id.clone())))
        }
    }
}

fn shared(record: Option<&Execution>) -> Vec<Arc<Charge>> {
    let charges = record.map(Execution::charges).unwrap_or_default();
    charges.iter().filter(|held| held.is_shared()).map(|held| Arc::clone(&held.charge)).collect()
}

/// What a hold has taken and the record does not say, or says otherwise.
fn differences(charges: &[Held], record: &Execution) -> Vec<Adjusted> {
    charges
        .iter()
        .filter_map(|held| {
            let released = matches!(record.state(), State::Released { .. });
            let said = record.charges().iter().find(|one| one.is(held) && !released);
            let should = said.map_or(0, |one| one.amount);
            held.clone().recount(should)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{execution_id, seconds};
    use crate::record::Record;

    #[test]
    fn a_closed_hold_that_is_still_listed_is_not_looked_after_again() {
        let id = execution_id(1);
        let mut found = Found::default();
        found.insert(Name::Hold(id.clone()), Record::Hold(Hold::Closed { held: true }));
        let ended = Ended { id: &id, record: None, lost_until: Timestamp::default() };
        let decision = decide_close(seconds(0), &ended, &found);
        assert_eq!(decision.listed, [Listed::Closed(id)]);
        assert!(decision.changes.is_empty());
    }
}
