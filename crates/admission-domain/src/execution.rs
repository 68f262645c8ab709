//! The life of an execution's record.

use std::sync::Arc;

use safeconduct_types::{ExecutionId, OperationId, Timestamp};

use crate::bounds::{BRIEF, Digest, Lease, Retention, SHARED_TOMBSTONE, Sealed};
use crate::held::{Adjusted, Held};
use crate::key::Keys;
use crate::limit::Charge;
use crate::meter::MAX_NUMBER;
use crate::record::{AT_WRITE, AtWrite, known};
pub use crate::state::{Actual, LeaseLost, Moved, NotSettled, Settlement, Standing, State, Token};

/// How many operations of the present holder are remembered, so that a late copy of one changes nothing. Those that
/// took something are known by that for ever.
const REMEMBERED: usize = 32;

/// The record of one execution: the only durable truth about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    pub(crate) id: ExecutionId,
    pub(crate) keys: Keys,
    pub(crate) generation: u32,
    pub(crate) token: Token,
    pub(crate) holder: OperationId,
    pub(crate) recent: Vec<OperationId>,
    pub(crate) admitted: Timestamp,
    pub(crate) changed: Timestamp,
    pub(crate) revision: u32,
    pub(crate) retain: Retention,
    pub(crate) intent: Sealed,
    pub(crate) checkpoint: Option<Sealed>,
    pub(crate) charges: Vec<Held>,
    pub(crate) consumed: Vec<Digest>,
    pub(crate) state: State,
}

/// What a new record starts with.
pub(crate) struct Start {
    pub(crate) id: ExecutionId,
    pub(crate) keys: Keys,
    pub(crate) generation: u32,
    pub(crate) operation: OperationId,
    pub(crate) lease: Lease,
    pub(crate) retain: Retention,
    pub(crate) intent: Sealed,
    pub(crate) charges: Vec<Held>,
    pub(crate) consumed: Vec<Digest>,
    /// The history of the store of the shared limits, if some are to be taken.
    pub(crate) epoch: Option<Box<str>>,
}

impl Execution {
    /// Begins when it is written.
    pub(crate) fn begin(start: Start) -> Self {
        let lease_ends = AT_WRITE.after(start.lease.length());
        Self {
            id: start.id,
            keys: start.keys,
            generation: start.generation,
            token: Token::FIRST,
            holder: start.operation,
            recent: Vec::new(),
            admitted: AT_WRITE,
            changed: AT_WRITE,
            revision: 1,
            retain: start.retain,
            intent: start.intent,
            checkpoint: None,
            charges: start.charges,
            consumed: start.consumed,
            state: match start.epoch {
                Some(epoch) => State::Reserving { lease_ends, epoch },
                None => State::Running { lease_ends, known: None },
            },
        }
    }

    fn known(mut self, at: Timestamp) -> Self {
        self.admitted = known(self.admitted, at);
        self.changed = known(self.changed, at);
        for held in &mut self.charges {
            held.at = known(held.at, at);
        }
        match &mut self.state {
            State::Reserving { lease_ends, .. } | State::Running { lease_ends, .. } => {
                *lease_ends = known(*lease_ends, at);
            }
            State::Completed { expires, .. } | State::Released { expires, .. } => *expires = known(*expires, at),
            State::Unknown { .. } => {}
        }
        self
    }

    /// The charges, in the order in which they were taken.
    pub fn charges(&self) -> &[Held] {
        &self.charges
    }

    /// Whether some of its charges are to limits that are shared over contacts.
    pub fn has_shared(&self) -> bool {
        self.charges.iter().any(Held::is_shared)
    }

    /// The keys that lead to it.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The single-use ids that it used up.
    pub fn consumed(&self) -> &[Digest] {
        &self.consumed
    }

    /// The execution's id.
    pub const fn id(&self) -> &ExecutionId {
        &self.id
    }

    /// How often an execution under these keys was released before, after bytes had left.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// The generation of the execution that follows this one, if it is released.
    pub(crate) const fn next_generation(&self) -> u32 {
        match &self.state {
            State::Released { bytes_sent: true, .. } => self.generation.saturating_add(1),
            State::Released { bytes_sent: false, .. }
            | State::Reserving { .. }
            | State::Running { .. }
            | State::Completed { .. }
            | State::Unknown { .. } => self.generation,
        }
    }

    /// The token of who may act on it.
    pub const fn token(&self) -> Token {
        self.token
    }

    /// When it was admitted.
    pub const fn admitted(&self) -> Timestamp {
        self.admitted
    }

    /// When it last changed.
    pub const fn changed(&self) -> Timestamp {
        self.changed
    }

    /// How many states of it there have been: rises by one with each change.
    pub const fn revision(&self) -> u32 {
        self.revision
    }

    /// The sealed intent.
    pub const fn intent(&self) -> &Sealed {
        &self.intent
    }

    /// The last sealed checkpoint.
    pub const fn checkpoint(&self) -> Option<&Sealed> {
        self.checkpoint.as_ref()
    }

    /// The state as stored. To decide anything, ask [`Self::standing`].
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The sealed outcome, where there is one. While it runs: what was known when it was taken over.
    pub const fn outcome(&self) -> Option<&Sealed> {
        match &self.state {
            State::Completed { outcome, .. } => Some(outcome),
            State::Released { outcome, .. } | State::Unknown { outcome, .. } => outcome.as_ref(),
            State::Running { known, .. } => known.as_ref(),
            State::Reserving { .. } => None,
        }
    }

    /// When the lease lapses, or lapsed; only of one that nobody has settled.
    pub const fn lease_ends(&self) -> Option<Timestamp> {
        match self.state {
            State::Reserving { lease_ends, .. } | State::Running { lease_ends, .. } => Some(lease_ends),
            State::Completed { .. } | State::Released { .. } | State::Unknown { .. } => None,
        }
    }

    /// When the record is forgotten. What is not final never is.
    pub const fn expires(&self) -> Option<Timestamp> {
        match self.state {
            State::Reserving { .. } | State::Running { .. } | State::Unknown { .. } => None,
            State::Completed { expires, .. } | State::Released { expires, .. } => Some(expires),
        }
    }

    /// Whether its retention is over, so that it stands for nothing any more: it is as if it were gone, except for its
    /// hold.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires().is_some_and(|expires| expires <= now)
    }

    /// Until when the record is kept. One that used more or less of shared limits than it had reserved is kept beyond
    /// its retention, so that whoever meets its hold can see it.
    pub(crate) fn kept(&self) -> Option<Timestamp> {
        let differs = |held: &Held| held.is_shared() && held.amount != held.charge.amount();
        match self.state {
            State::Completed { expires, .. } if self.charges.iter().any(differs) => {
                Some(expires.max(self.changed.after(SHARED_TOMBSTONE)))
            }
            State::Completed { .. }
            | State::Released { .. }
            | State::Reserving { .. }
            | State::Running { .. }
            | State::Unknown { .. } => self.expires(),
        }
    }

    /// What of shared limits is still counted for it, although its keys were freed after it had been completed.
    pub(crate) fn owed(&self) -> impl Iterator<Item = &Held> {
        let released = matches!(self.state, State::Released { .. });
        self.charges.iter().filter(move |held| released && held.is_shared() && held.is_reserved() && held.amount > 0)
    }

    /// What the record says at `now`.
    pub fn standing(&self, now: Timestamp) -> Standing {
        match self.state {
            State::Reserving { lease_ends, .. } if now < lease_ends => Standing::Reserving,
            State::Reserving { .. } => Standing::Stuck,
            State::Running { lease_ends, .. } if now < lease_ends => Standing::Running,
            // A lapsed lease says that nobody reported back, not that nothing happened.
            State::Running { .. } | State::Unknown { .. } => Standing::Unknown,
            State::Completed { .. } => Standing::Completed,
            State::Released { .. } => Standing::Released,
        }
    }

    /// Whether this operation made the present executor the holder.
    pub(crate) fn is_held_by(&self, operation: OperationId) -> bool {
        self.holder == operation
    }

    /// Whether this operation began it, was denied by a shared limit and took everything back: as if it had not begun.
    pub(crate) fn was_denied_to(&self, operation: OperationId) -> bool {
        self.holder == operation && matches!(self.state, State::Released { settled_by, .. } if settled_by == operation)
    }

    /// Lets the holder act for longer, keeps its checkpoint and takes further charges. Never shortens a lease.
    pub(crate) fn extend(
        self,
        now: Timestamp,
        token: Token,
        operation: OperationId,
        lease: Option<Lease>,
        checkpoint: Option<Sealed>,
        charges: &[Arc<Charge>],
    ) -> Result<Moved, LeaseLost> {
        if token != self.token {
            return Err(LeaseLost);
        }
        let (lease_ends, known) = match &self.state {
            // RESERVING: whoever has the token was promised. RUNNING: extend, settle; once lapsed, resume.
            State::Reserving { lease_ends, .. } => (*lease_ends, None),
            State::Running { lease_ends, known } => (*lease_ends, known.clone()),
            // COMPLETED, RELEASED: nothing any more. UNKNOWN: settle, resume; its executor gave the lease back.
            State::Completed { .. } | State::Released { .. } | State::Unknown { .. } => return Err(LeaseLost),
        };
        // However late a copy comes, it takes nothing twice.
        let has_taken = self.charges.iter().any(|held| held.by == operation);
        if has_taken || self.recent.contains(&operation) {
            return Ok(Moved::Nowhere(self));
        }
        let lease_ends = match lease {
            Some(lease) if now.after(lease.length()) > lease_ends => AT_WRITE.after(lease.length()),
            Some(_) | None => lease_ends,
        };
        let mut next = self.move_to(State::Running { lease_ends, known });
        next.remember(operation);
        next.charges.extend(Held::all(operation, charges, AT_WRITE));
        if checkpoint.is_some() {
            next.checkpoint = checkpoint;
        }
        Ok(Moved::To(next, Vec::new()))
    }

    /// Takes back the charges of an extension that was denied elsewhere; the rest of it stands.
    pub(crate) fn withdraw(self, operation: OperationId) -> Moved {
        let (mut mine, rest): (Vec<Held>, Vec<Held>) =
            self.charges.iter().cloned().partition(|held| held.by == operation);
        let running = matches!(self.state, State::Running { .. });
        if mine.is_empty() || !running || self.holder == operation {
            return Moved::Nowhere(self);
        }
        let back = mine.iter_mut().filter(|held| !held.is_shared()).filter_map(|held| held.recount(0)).collect();
        let state = self.state.clone();
        let mut next = self.move_to(state);
        next.charges = rest;
        // Asked again, it is another extension.
        next.recent.retain(|one| *one != operation);
        Moved::To(next, back)
    }

    /// What became of one that was reserving: `promised`, and then it runs until its lease ends, if that has not ended
    /// already; or nothing, and all that it took is given back.
    pub(crate) fn resolve(self, operation: OperationId, promised: bool) -> Moved {
        let State::Reserving { lease_ends, .. } = self.state else { return Moved::Nowhere(self) };
        if promised {
            return Moved::To(self.move_to(State::Running { lease_ends, known: None }), Vec::new());
        }
        // Nothing came of it, so it need not be found; but the count of generations is its keys' until they end.
        let keep = if self.generation > 0 { self.retain.length() } else { BRIEF };
        let mut next = self.move_to(State::Released {
            bytes_sent: false,
            outcome: None,
            keep_for_caller_key: false,
            settled_by: operation,
            expires: AT_WRITE.after(keep),
        });
        let back = next.recount(|_, _| Some(0));
        // Nobody acts on it any more, and only its own operation asks for it again.
        next.intent = Sealed::default();
        next.checkpoint = None;
        next.charges = Vec::new();
        Moved::To(next, back)
    }

    /// Ends it as the holder says. Counts also when late, as long as nobody has taken over.
    pub(crate) fn settle(
        self,
        token: Token,
        operation: OperationId,
        settlement: Settlement,
    ) -> Result<Moved, NotSettled> {
        if token != self.token {
            return Err(NotSettled::LeaseLost);
        }
        match self.state {
            // RESERVING: whoever has the token was promised. RUNNING: extend, settle; once lapsed, resume.
            State::Reserving { .. } | State::Running { .. } => self.end(operation, settlement),
            // COMPLETED: an operator may free its keys.
            State::Completed { settled_by, .. }
                if settled_by != operation
                    && matches!(settlement, Settlement::Released { free_completed: true, .. }) =>
            {
                self.end(operation, settlement)
            }
            // COMPLETED, RELEASED: nothing any more. The first word stands; saying it again is no second one.
            State::Completed { settled_by, .. } | State::Released { settled_by, .. } => {
                if settled_by == operation {
                    Ok(Moved::Nowhere(self))
                } else {
                    Err(NotSettled::LeaseLost)
                }
            }
            // UNKNOWN: settle (whoever said so has found out, or knows more), resume.
            State::Unknown { settled_by, .. } => {
                let learned_nothing = matches!(settlement, Settlement::Unknown { outcome: None });
                if settled_by == operation || self.recent.contains(&operation) || learned_nothing {
                    return Ok(Moved::Nowhere(self));
                }
                // A late copy of the earlier word says nothing new.
                let mut next = self;
                next.remember(settled_by);
                next.end(operation, settlement)
            }
        }
    }

    /// Takes it over from an executor that has not reported back: a new holder, a higher token.
    /// Gives the record back as it was if there is nothing to take over. Of what was written before `lost_until` some may
    /// be lost, a take-over among it: the token is then higher than any of before.
    #[allow(clippy::result_large_err, reason = "the record moves through, it is not an error report")]
    pub(crate) fn resume(
        self,
        now: Timestamp,
        operation: OperationId,
        lease: Lease,
        lost_until: Timestamp,
    ) -> Result<Self, Self> {
        match self.standing(now) {
            // RUNNING, lapsed; UNKNOWN: resume.
            Standing::Unknown => {
                let known = self.outcome().cloned();
                let mut next = self.move_to(State::Running { lease_ends: AT_WRITE.after(lease.length()), known });
                next.token = next.token.next().max(Token::after(lost_until));
                next.holder = operation;
                next.recent.clear();
                Ok(next)
            }
            Standing::Reserving | Standing::Stuck | Standing::Running | Standing::Completed | Standing::Released => {
                Err(self)
            }
        }
    }

    /// Whether an executor took it over from another one, which may have acted.
    fn was_taken_over(&self) -> bool {
        self.token > Token::FIRST
    }

    fn end(self, settled_by: OperationId, settlement: Settlement) -> Result<Moved, NotSettled> {
        let mut actuals = Vec::new();
        let mut free = false;
        let state = match settlement {
            Settlement::Completed { outcome, retain, actual } => {
                let retain = retain.unwrap_or(self.retain);
                actuals = self.amounts(&actual)?;
                State::Completed { outcome, settled_by, expires: AT_WRITE.after(retain.length()) }
            }
            Settlement::Released { doubt_resolved: false, free_completed: false, .. } if self.was_taken_over() => {
                return Err(NotSettled::InDoubt);
            }
            Settlement::Released { bytes_sent, outcome, keep_for_caller_key, .. } => {
                free = true;
                let shared = if self.has_shared() { SHARED_TOMBSTONE } else { std::time::Duration::ZERO };
                State::Released {
                    bytes_sent,
                    // Without an outcome there is nothing to replay.
                    keep_for_caller_key: keep_for_caller_key && outcome.is_some(),
                    outcome,
                    settled_by,
                    expires: AT_WRITE.after(self.retain.length().max(shared)),
                }
            }
            Settlement::Unknown { outcome } => {
                State::Unknown { outcome: outcome.or_else(|| self.outcome().cloned()), settled_by }
            }
        };
        let was_completed = matches!(self.state, State::Completed { .. });
        let mut next = self.move_to(state);
        let changed = next.recount(|index, held| match free {
            // Its hold is closed already: the record says how much is to be given back, see [`Self::owed`].
            true if was_completed && held.is_shared() => None,
            true => Some(0),
            false => actuals.get(index).copied(),
        });
        Ok(Moved::To(next, changed))
    }

    /// What each charge is, given what some of them really were.
    fn amounts(&self, actual: &[Actual]) -> Result<Vec<i64>, NotSettled> {
        let mut amounts: Vec<i64> = self.charges.iter().map(|held| held.amount).collect();
        for one in actual {
            let reserved = self.charges.get(one.index).is_some_and(Held::is_reserved);
            match amounts.get_mut(one.index) {
                Some(amount) if reserved && (0..=MAX_NUMBER).contains(&one.amount) => *amount = one.amount,
                Some(_) | None => return Err(NotSettled::NoSuchCharge(one.index)),
            }
        }
        Ok(amounts)
    }

    /// Counts every charge as `amount` says; what that changes of the contact's own counters. What it changes of
    /// shared ones is found out from the hold.
    fn recount(&mut self, amount: impl Fn(usize, &Held) -> Option<i64>) -> Vec<Adjusted> {
        let mut changed = Vec::new();
        for (index, held) in self.charges.iter_mut().enumerate() {
            let shared = held.is_shared();
            let adjusted = amount(index, held).and_then(|amount| held.recount(amount));
            changed.extend(adjusted.filter(|_| !shared));
        }
        changed
    }

    fn move_to(mut self, state: State) -> Self {
        self.state = state;
        self.changed = AT_WRITE;
        self.revision = self.revision.saturating_add(1);
        self
    }

    fn remember(&mut self, operation: OperationId) {
        if self.recent.len() >= REMEMBERED {
            self.recent.remove(0);
        }
        self.recent.push(operation);
    }
}

impl AtWrite for Execution {
    fn written(self, at: Timestamp) -> Self {
        self.known(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{completed, lease, op, released, resolved, running, sealed, seconds};

    /// Stored at this second.
    fn at<E: std::fmt::Debug>(second: i64, moved: Result<Moved, E>) -> Execution {
        match moved {
            Ok(Moved::To(next, _)) => next.written(seconds(second)),
            other => panic!("should have moved: {other:?}"),
        }
    }

    #[test]
    fn a_lapsed_lease_reads_as_unknown() {
        let record = running(seconds(0), lease(10));
        assert_eq!(record.standing(seconds(9)), Standing::Running);
        assert_eq!(record.standing(seconds(10)), Standing::Unknown);
        assert_eq!(record.expires(), None, "what is not final is never forgotten");
    }

    #[test]
    fn a_late_settle_counts_while_nobody_has_taken_over() {
        let record = running(seconds(0), lease(10));
        let late = at(60, record.settle(Token::FIRST, op(2), completed()));
        assert_eq!(late.standing(seconds(60)), Standing::Completed);
        assert_eq!(late.expires(), Some(seconds(60).after(Retention::default().length())));
    }

    #[test]
    fn a_settle_with_an_old_token_changes_nothing() {
        let record = running(seconds(0), lease(10))
            .resume(seconds(10), op(2), lease(10), Timestamp::default())
            .unwrap()
            .written(seconds(10));
        assert!(record.token() > Token::FIRST);
        assert_eq!(record.clone().settle(Token::FIRST, op(3), completed()), Err(NotSettled::LeaseLost));
        assert_eq!(record.extend(seconds(11), Token::FIRST, op(3), Some(lease(10)), None, &[]), Err(LeaseLost));
    }

    #[test]
    fn nobody_takes_over_a_lease_that_is_held() {
        let record = running(seconds(0), lease(10));
        assert_eq!(record.clone().resume(seconds(9), op(2), lease(10), Timestamp::default()), Err(record));
    }

    #[test]
    fn the_first_settle_stands_and_its_repeat_answers_the_same() {
        let ended = at(1, running(seconds(0), lease(10)).settle(Token::FIRST, op(2), completed()));
        assert_eq!(ended.clone().settle(Token::FIRST, op(2), completed()), Ok(Moved::Nowhere(ended.clone())));
        assert_eq!(ended.settle(Token::FIRST, op(3), released(false)), Err(NotSettled::LeaseLost));
    }

    #[test]
    fn an_executor_that_finds_out_later_settles_what_it_called_unknown() {
        let unknown = Settlement::Unknown { outcome: None };
        let record = at(1, running(seconds(0), lease(10)).settle(Token::FIRST, op(2), unknown));
        assert_eq!(record.standing(seconds(1)), Standing::Unknown);
        assert_eq!(record.expires(), None);
        let ended = at(99, record.settle(Token::FIRST, op(3), completed()));
        assert_eq!(ended.standing(seconds(99)), Standing::Completed);
    }

    #[test]
    fn a_late_copy_of_an_extend_does_not_bring_an_old_checkpoint_back() {
        let record = running(seconds(0), lease(10));
        let first = at(1, record.extend(seconds(1), Token::FIRST, op(2), Some(lease(10)), Some(sealed(1)), &[]));
        let second = at(2, first.extend(seconds(2), Token::FIRST, op(3), Some(lease(10)), Some(sealed(2)), &[]));
        let copy = second.clone().extend(seconds(3), Token::FIRST, op(2), Some(lease(10)), Some(sealed(1)), &[]);
        assert_eq!(copy, Ok(Moved::Nowhere(second)));
    }

    #[test]
    fn extending_never_shortens_a_lease_nor_drops_a_checkpoint() {
        let record = at(
            1,
            running(seconds(0), lease(600)).extend(
                seconds(1),
                Token::FIRST,
                op(2),
                Some(lease(10)),
                Some(sealed(1)),
                &[],
            ),
        );
        assert_eq!(record.lease_ends(), Some(seconds(600)));
        let record = at(2, record.extend(seconds(2), Token::FIRST, op(3), Some(lease(600)), None, &[]));
        assert_eq!(record.lease_ends(), Some(seconds(602)));
        assert_eq!(record.checkpoint(), Some(&sealed(1)));
    }

    #[test]
    fn a_release_without_an_outcome_has_nothing_to_keep() {
        let nothing = Settlement::Released {
            bytes_sent: true,
            outcome: None,
            keep_for_caller_key: true,
            doubt_resolved: false,
            free_completed: false,
        };
        let record = at(1, running(seconds(0), lease(10)).settle(Token::FIRST, op(2), nothing));
        assert!(matches!(record.state(), State::Released { keep_for_caller_key: false, .. }));
        assert_eq!(record.next_generation(), 1);
    }

    /// Called unknown by its first executor, which knew this much; then taken over until 20 s.
    fn taken_over() -> Execution {
        let doubt = Settlement::Unknown { outcome: Some(sealed(9)) };
        let record = at(1, running(seconds(0), lease(10)).settle(Token::FIRST, op(2), doubt));
        record.resume(seconds(10), op(3), lease(10), Timestamp::default()).unwrap().written(seconds(10))
    }

    #[test]
    fn what_was_known_outlives_a_second_executor_that_dies_too() {
        let record = taken_over();
        assert_eq!(record.outcome(), Some(&sealed(9)), "whoever takes over gets it");
        let token = record.token();
        let record = at(11, record.extend(seconds(11), token, op(4), Some(lease(10)), Some(sealed(1)), &[]));
        assert_eq!(record.standing(seconds(30)), Standing::Unknown);
        assert_eq!(record.outcome(), Some(&sealed(9)));
        let third = record.resume(seconds(30), op(5), lease(10), Timestamp::default()).unwrap().written(seconds(30));
        assert_eq!(third.outcome(), Some(&sealed(9)));
    }

    #[test]
    fn what_was_known_lasts_until_somebody_knows_better() {
        let settle = |settlement| {
            let record = taken_over();
            let token = record.token();
            at(11, record.settle(token, op(4), settlement)).outcome().cloned()
        };
        assert_eq!(settle(Settlement::Unknown { outcome: None }), Some(sealed(9)));
        assert_eq!(settle(Settlement::Unknown { outcome: Some(sealed(8)) }), Some(sealed(8)));
        assert_eq!(settle(completed()), Some(sealed(1)));
        let nothing = Settlement::Released {
            bytes_sent: false,
            outcome: None,
            keep_for_caller_key: false,
            doubt_resolved: true,
            free_completed: false,
        };
        assert_eq!(settle(nothing), None, "nothing happened after all");
    }

    #[test]
    fn what_was_taken_over_is_not_released_while_in_doubt() {
        let lapsed = running(seconds(0), lease(10))
            .resume(seconds(10), op(3), lease(10), Timestamp::default())
            .unwrap()
            .written(seconds(10));
        for record in [taken_over(), lapsed] {
            let token = record.token();
            let refused = record.clone().settle(token, op(4), released(false));
            assert_eq!(refused, Err(NotSettled::InDoubt));
            let unknown = Settlement::Unknown { outcome: None };
            let unknown = at(11, record.clone().settle(token, op(4), unknown));
            let refused = unknown.settle(token, op(5), released(true));
            assert_eq!(refused, Err(NotSettled::InDoubt), "nor after it was called unknown again");
            let freed = at(11, record.settle(token, op(4), resolved()));
            assert_eq!(freed.standing(seconds(11)), Standing::Released);
        }
    }

    #[test]
    fn the_first_executor_may_release_what_it_called_unknown_itself() {
        let unknown = Settlement::Unknown { outcome: None };
        let record = at(1, running(seconds(0), lease(10)).settle(Token::FIRST, op(2), unknown));
        let freed = at(2, record.settle(Token::FIRST, op(3), released(true)));
        assert_eq!(freed.standing(seconds(2)), Standing::Released);
    }
}
