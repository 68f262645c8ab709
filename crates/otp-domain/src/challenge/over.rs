//! A challenge that ended without the right code.

use serde::{Deserialize, Serialize};

use super::{Facts, Standing};

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// No guess is left: its own are used up, or those of its address.
    Exhausted,
    /// A newer one took its place.
    Superseded,
    /// It was cancelled.
    Cancelled,
}

/// A challenge that is over. Nothing leads back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    facts: Facts,
    why: Ended,
}

impl Over {
    pub(super) const fn new(facts: Facts, why: Ended) -> Self {
        Self { facts, why }
    }

    /// What stays the same.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) const fn facts_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }

    pub(super) const fn standing(&self) -> Standing {
        match self.why {
            Ended::Exhausted => Standing::Exhausted,
            Ended::Superseded => Standing::Superseded,
            Ended::Cancelled => Standing::Cancelled,
        }
    }
}
