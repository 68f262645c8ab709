//! How many marks there may be, of each class for itself: whoever signs in by the thousand must not keep an operator from
//! blocking somebody.

use safeconduct_admission_domain::mark::{Mark, Subject};

/// What a mark counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// On single objects of contacts (the upstream's 410). They go by themselves.
    Gone,
    /// Assertions that a newer one has replaced; one with each upgrade of a session. They go by themselves.
    Stale,
    /// Sessions that were ended, where the mark goes by itself: one with each log-out.
    Ended,
    /// All others: what people and upstreams have closed.
    Kept,
}

impl Class {
    /// That of a mark as it is stored.
    pub(super) const fn of(mark: &Mark) -> Self {
        match (&mark.key.subject, mark.expires) {
            (Subject::ResourceGone(..), _) => Self::Gone,
            (Subject::AssertionStale(..), Some(_)) => Self::Stale,
            (Subject::SessionRevoked(..), Some(_)) => Self::Ended,
            _ => Self::Kept,
        }
    }
}

/// The most marks in force, of each class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budgets {
    pub(super) gone: usize,
    pub(super) stale: usize,
    pub(super) ended: usize,
    pub(super) kept: usize,
}

impl Budgets {
    pub(super) const fn of(&self, class: Class) -> usize {
        match class {
            Class::Gone => self.gone,
            Class::Stale => self.stale,
            Class::Ended => self.ended,
            Class::Kept => self.kept,
        }
    }
}

impl Default for Budgets {
    /// At 16 minutes each, a quarter of a million is 260 upgrades a second.
    fn default() -> Self {
        Self { gone: 50_000, stale: 250_000, ended: 100_000, kept: 100_000 }
    }
}
