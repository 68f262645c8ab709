//! A challenge whose code came in.

use safeconduct_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Challenge, Facts, Guessed, Standing};
use crate::code::{CodeKeys, Guess};

/// A challenge that was met. The right code is answered again, for a caller whose answer got lost; the first wrong one
/// ends that, so that what was verified is no place to guess at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    facts: Facts,
    at: Timestamp,
    closed: bool,
}

impl Verified {
    pub(super) const fn new(facts: Facts, at: Timestamp) -> Self {
        Self { facts, at, closed: false }
    }

    /// What stays the same.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) const fn facts_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }

    /// When the right code came in.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    pub(super) fn repeat(self, guess: &Guess, keys: &CodeKeys) -> Guessed {
        if self.closed {
            return Guessed::TooLate(Standing::Verified);
        }
        match self.facts.code(keys) {
            Some(code) if code.is(guess) => Guessed::Again(self),
            Some(_) => Guessed::Wrong(Challenge::Verified(Self { closed: true, ..self }), 0),
            None => Guessed::TooLate(Standing::Verified),
        }
    }
}

impl From<Verified> for Challenge {
    fn from(verified: Verified) -> Self {
        Self::Verified(verified)
    }
}
