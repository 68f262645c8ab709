//! What an execution has taken from limits.

use std::sync::Arc;

use safeconduct_types::{OperationId, Timestamp};

use crate::limit::{Charge, Shape};

/// One charge that was taken, or is being taken, for an execution.
///
/// It is known by the operation that took it and its place among that operation's charges, in the record of the
/// execution as well as in the hold of the shared limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The operation that took it.
    pub by: OperationId,
    /// Its place among that operation's charges.
    pub place: u8,
    /// The limit, and what was asked for.
    pub charge: Arc<Charge>,
    /// What is taken now: as asked for, until a settle says otherwise.
    pub amount: i64,
    /// When it was taken: where it stands in its window.
    pub at: Timestamp,
}

/// What was taken before is more or less by so much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjusted {
    /// The charge.
    pub held: Held,
    /// How much more (above 0) or less (below).
    pub delta: i64,
}

impl Held {
    /// The charges of one operation, taken when they are written.
    pub(crate) fn all(by: OperationId, charges: &[Arc<Charge>], at: Timestamp) -> impl Iterator<Item = Self> + '_ {
        charges.iter().zip(0_u8..).map(move |(charge, place)| Self {
            by,
            place,
            charge: Arc::clone(charge),
            amount: charge.amount(),
            at,
        })
    }

    /// Whether its counter lives beside those of all contacts, not in the contact's own slot.
    pub fn is_shared(&self) -> bool {
        is_shared(&self.charge)
    }

    /// Whether it can be given back or counted otherwise. A rate is spent by asking.
    pub fn is_reserved(&self) -> bool {
        matches!(self.charge.limit().shape, Shape::Cap(_))
    }

    /// Whether this is the same charge.
    pub fn is(&self, other: &Self) -> bool {
        self.by == other.by && self.place == other.place
    }

    /// Counts `amount` from now on; what that changes.
    pub(crate) fn recount(&mut self, amount: i64) -> Option<Adjusted> {
        if !self.is_reserved() || amount == self.amount {
            return None;
        }
        let delta = amount.saturating_sub(self.amount);
        self.amount = amount;
        Some(Adjusted { held: self.clone(), delta })
    }
}

/// Whether the counter of this charge lives beside those of all contacts.
pub const fn is_shared(charge: &Charge) -> bool {
    !charge.limit().per_contact
}
