//! A challenge whose code can be checked.

use std::time::Duration;

use safeconduct_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Binding, Challenge, Delivery, Ended, Facts, Guessed, Over, Standing, VerificationId, Verified};
use crate::code::{CodeForm, CodeKeys, Guess};
use crate::message::Locale;

/// An open challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    facts: Facts,
    guessed: u8,
}

/// What a challenge is made of.
#[derive(Clone, Debug)]
pub struct New {
    /// Its name, never used before.
    pub id: VerificationId,
    /// What it is bound to.
    pub binding: Binding,
    /// The form of its code.
    pub form: CodeForm,
    /// The id of the key that its code is derived with.
    pub key: String,
    /// The language that was asked for.
    pub locale: Option<Locale>,
    /// Guesses that its code allows.
    pub guesses: u8,
    /// How long its code counts.
    pub lifetime: Duration,
    /// How often it may be sent.
    pub most_sends: u8,
    /// Messages of earlier challenges of the same session to the same address.
    pub sends_before: u8,
}

/// What becomes of the wish for another message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resend {
    /// To be written, then sent.
    Counted(Issued),
    /// Not before that much time.
    TooSoon(Duration),
    /// There were enough.
    NoMore,
    /// It is over.
    Over(Standing),
}

impl Issued {
    /// A challenge whose first message is on its way.
    pub fn issue(new: New, now: Timestamp) -> Self {
        let New { id, binding, form, key, locale, guesses, lifetime, most_sends, sends_before } = new;
        let facts = Facts {
            id,
            binding,
            form,
            key,
            locale,
            guesses,
            issued: now,
            expires: now.after(lifetime),
            sends: 1,
            most_sends,
            sends_before,
            last_sent: now,
            delivery: Delivery::Queued,
        };
        Self { facts, guessed: 0 }
    }

    /// What stays the same.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) const fn facts_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }

    pub(super) fn guesses_left(&self) -> u8 {
        self.facts.guesses.saturating_sub(self.guessed)
    }

    pub(super) fn next_guess_is_charged(&self) -> bool {
        self.guessed > 0 && self.facts.form.is_guessable()
    }

    pub(super) fn resend_time(&self) -> Option<Timestamp> {
        let next = self.facts.next_send();
        (self.facts.sends < self.facts.most_sends && next < self.facts.expires).then_some(next)
    }

    pub(super) fn guess(self, guess: &Guess, keys: &CodeKeys, now: Timestamp) -> Guessed {
        if self.guesses_left() == 0 {
            return Guessed::TooLate(Standing::Exhausted);
        }
        let Some(code) = self.facts.code(keys) else { return Guessed::TooLate(Standing::Expired) };
        let guessed = self.guessed.saturating_add(1);
        if code.is(guess) {
            return Guessed::Right(Verified::new(self.facts, now));
        }
        let left = self.facts.guesses.saturating_sub(guessed);
        let after = if left == 0 {
            Challenge::Over(Over::new(self.facts, Ended::Exhausted))
        } else {
            Challenge::Issued(Self { facts: self.facts, guessed })
        };
        Guessed::Wrong(after, left)
    }

    pub(super) fn resend(mut self, now: Timestamp) -> Resend {
        let wait = self.facts.next_send().since(now);
        if self.facts.sends >= self.facts.most_sends {
            Resend::NoMore
        } else if !wait.is_zero() {
            Resend::TooSoon(wait)
        } else {
            self.facts.sends = self.facts.sends.saturating_add(1);
            self.facts.last_sent = now;
            self.facts.delivery = Delivery::Queued;
            Resend::Counted(self)
        }
    }

    pub(super) fn end(self, why: Ended) -> Over {
        Over::new(self.facts, why)
    }
}

impl From<Issued> for Challenge {
    fn from(issued: Issued) -> Self {
        Self::Issued(issued)
    }
}
