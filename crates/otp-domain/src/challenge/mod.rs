//! The life of a challenge.
//!
//! ```text
//!            guess: wrong, some left      resend
//!                 +----+                  +----+
//!                 v    |                  v    |
//!   issue ----> Issued-+---- right ----> Verified ---- wrong repeat ----> (closed)
//!                 |
//!                 +---- wrong, none left ----> Exhausted
//!                 +---- a newer one ---------> Superseded
//!                 +---- cancel --------------> Cancelled
//!                 +---- time ----------------> Expired (never written; decided on read)
//! ```
//!
//! What a state needs stands in it, and each move consumes what it moves from, so nothing is verified twice and nothing
//! comes back from its end. Times are the store's, handed in. Whoever persists writes the outcome of a guess before
//! anybody hears it.

mod issued;
mod over;
mod verified;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use safeconduct_types::{IdError, OperationId, Random, SessionId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::address::{Address, Channel};
use crate::code::{Code, CodeForm, CodeKeys, Guess};
use crate::message::Locale;

pub use issued::{Issued, New, Resend};
pub use over::{Ended, Over};
pub use verified::Verified;

/// Names a verification: 32 hexadecimal digits. Useless without an assertion of its session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VerificationId(OperationId);

impl VerificationId {
    /// A new id of a session's; `route` is the same for all of that session, and tells nothing of it.
    pub fn generate(route: [u8; 8], random: &dyn Random) -> Self {
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(route.into_iter().chain(random.bytes::<8>())) {
            *to = from;
        }
        Self(OperationId::from_bytes(id))
    }

    /// What it has in common with the other ids of its session: where its record is.
    pub fn route(self) -> [u8; 8] {
        self.0.as_bytes().first_chunk().copied().unwrap_or_default()
    }

    /// As the id of the one operation that concludes it.
    pub const fn operation(self) -> OperationId {
        self.0
    }
}

impl fmt::Display for VerificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for VerificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerificationId({})", self.0)
    }
}

impl FromStr for VerificationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self)
    }
}

impl TryFrom<String> for VerificationId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<VerificationId> for String {
    fn from(id: VerificationId) -> Self {
        id.to_string()
    }
}

/// What a code is good for, and nothing else: every part of it goes into the code's derivation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The session that asked.
    pub session: SessionId,
    /// What is to be proven; says the channel, too.
    pub address: Address,
    /// What for: a name that the workspace declares.
    pub purpose: String,
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding")
            .field("workspace", &self.workspace)
            .field("address", &self.address)
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

/// How far the latest message got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Accepted, not yet on its way.
    Queued,
    /// A mail server or provider has it.
    Sent,
    /// Nobody took it, and it is not tried again.
    Failed,
}

/// What stays the same whatever becomes of a challenge, and how often it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its name.
    pub id: VerificationId,
    /// What it is bound to.
    pub binding: Binding,
    /// The form of its code.
    pub form: CodeForm,
    /// The id of the key that its code is derived with.
    pub key: String,
    /// The language that was asked for.
    pub locale: Option<Locale>,
    /// Guesses that its code allows in all.
    pub guesses: u8,
    /// When it was issued.
    pub issued: Timestamp,
    /// When its code ends.
    pub expires: Timestamp,
    /// How often its code was sent.
    pub sends: u8,
    /// How often it may be sent.
    pub most_sends: u8,
    /// How often this session was sent codes to this address by earlier challenges, for the growing delay.
    pub sends_before: u8,
    /// When it was last sent.
    pub last_sent: Timestamp,
    /// How far the latest message got.
    pub delivery: Delivery,
}

/// The delay after the first message, doubled after each further one.
const FIRST_DELAY: Duration = Duration::from_secs(30);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_mins(16);

impl Facts {
    /// All messages of this session to this address, as far as they are remembered.
    pub fn sends_in_all(&self) -> u8 {
        self.sends_before.saturating_add(self.sends)
    }

    /// From when another message to the address may be asked for: 30 s after the first, 60 s after the second, and so
    /// on, whether by resending or by a new challenge.
    pub fn next_send(&self) -> Timestamp {
        let doublings = u32::from(self.sends_in_all().saturating_sub(1));
        let delay = FIRST_DELAY.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_DELAY);
        self.last_sent.after(delay)
    }

    /// The code. `None`: its key was retired.
    pub fn code(&self, keys: &CodeKeys) -> Option<Code> {
        Some(keys.get(&self.key)?.derive(&self.id, &self.binding, self.form))
    }

    fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires
    }
}

/// A challenge in whichever state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Challenge {
    /// Open, unless its time is over.
    Issued(Issued),
    /// The right code came in.
    Verified(Verified),
    /// Over for another reason.
    Over(Over),
}

/// Where a challenge stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its code can be checked.
    Issued,
    /// The right code came in.
    Verified,
    /// No guess is left.
    Exhausted,
    /// Its time is over.
    Expired,
    /// A newer one took its place.
    Superseded,
    /// It was cancelled.
    Cancelled,
}

/// What became of a guess. Nothing may be told before the challenge in it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the guess must be written before anybody hears of it"]
pub enum Guessed {
    /// The right code: to be written, then told.
    Right(Verified),
    /// The right code of what was verified before: told again, nothing to be written.
    Again(Verified),
    /// A wrong code: to be written, then told with the guesses that are left.
    Wrong(Challenge, u8),
    /// The challenge is over: nothing was compared, nothing is to be written.
    TooLate(Standing),
}

/// What a message is to bring.
#[derive(Debug)]
pub enum ToSend {
    /// This code.
    Code(Code),
    /// Nothing: the challenge is over, or a later message of it is on its way, or this one was sent.
    Nothing,
    /// There is no code any more: its key was retired.
    KeyRetired,
}

impl Challenge {
    /// What stays the same.
    pub const fn facts(&self) -> &Facts {
        match self {
            Self::Issued(one) => one.facts(),
            Self::Verified(one) => one.facts(),
            Self::Over(one) => one.facts(),
        }
    }

    /// Where it stands now.
    pub fn standing(&self, now: Timestamp) -> Standing {
        match self {
            Self::Issued(one) if one.facts().is_expired(now) => Standing::Expired,
            Self::Issued(_) => Standing::Issued,
            Self::Verified(_) => Standing::Verified,
            Self::Over(one) => one.standing(),
        }
    }

    /// Guesses left: none once it is over.
    pub fn guesses_left(&self, now: Timestamp) -> u8 {
        match self {
            Self::Issued(one) if !one.facts().is_expired(now) => one.guesses_left(),
            Self::Issued(_) | Self::Verified(_) | Self::Over(_) => 0,
        }
    }

    /// From when its code may be sent once more; `None`: no more.
    pub fn resend_time(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Issued(one) if !one.facts().is_expired(now) => one.resend_time(),
            Self::Issued(_) | Self::Verified(_) | Self::Over(_) => None,
        }
    }

    /// From when a new challenge to the same address may be asked for by the same session.
    pub fn next_start(&self) -> Option<Timestamp> {
        match self {
            Self::Verified(_) => None,
            Self::Issued(_) | Self::Over(_) => Some(self.facts().next_send()),
        }
    }

    /// Messages that count towards the delay of a challenge that comes after this one.
    pub fn sends_to_remember(&self) -> u8 {
        match self {
            Self::Verified(_) => 0,
            Self::Issued(_) | Self::Over(_) => self.facts().sends_in_all(),
        }
    }

    /// Whether the next guess has to be taken from the budget of the address first: the first one was, when the
    /// challenge was issued.
    pub fn next_guess_is_charged(&self, now: Timestamp) -> bool {
        match self {
            Self::Issued(one) => self.standing(now) == Standing::Issued && one.next_guess_is_charged(),
            Self::Verified(_) | Self::Over(_) => false,
        }
    }

    /// The code if it may be sent now as message number `send`: the challenge is open, that message is its latest, and
    /// nobody has sent it.
    pub fn code_to_send(&self, send: u8, keys: &CodeKeys, now: Timestamp) -> ToSend {
        let facts = self.facts();
        let is_due =
            self.standing(now) == Standing::Issued && facts.sends == send && facts.delivery == Delivery::Queued;
        match is_due.then(|| facts.code(keys)) {
            None => ToSend::Nothing,
            Some(None) => ToSend::KeyRetired,
            Some(Some(code)) => ToSend::Code(code),
        }
    }

    /// Compares and counts a guess.
    pub fn guess(self, guess: &Guess, keys: &CodeKeys, now: Timestamp) -> Guessed {
        match self {
            Self::Issued(one) if one.facts().is_expired(now) => Guessed::TooLate(Standing::Expired),
            Self::Issued(one) => one.guess(guess, keys, now),
            Self::Verified(one) => one.repeat(guess, keys),
            Self::Over(one) => Guessed::TooLate(one.standing()),
        }
    }

    /// Counts one more message. Refused: it is over, it is too soon, or there were enough.
    pub fn resend(self, now: Timestamp) -> Resend {
        match self {
            Self::Issued(one) if !one.facts().is_expired(now) => one.resend(now),
            Self::Issued(_) | Self::Verified(_) | Self::Over(_) => Resend::Over(self.standing(now)),
        }
    }

    /// Ends an open one, for this reason. `None`: it was over, and nothing changes.
    pub fn end(self, why: Ended, now: Timestamp) -> Option<Self> {
        match self {
            Self::Issued(one) if !one.facts().is_expired(now) => Some(Self::Over(one.end(why))),
            Self::Issued(_) | Self::Verified(_) | Self::Over(_) => None,
        }
    }

    /// Notes how far message number `send` got. `None`: it is not the latest, or that is known.
    pub fn delivered(mut self, send: u8, delivery: Delivery) -> Option<Self> {
        let facts = match &mut self {
            Self::Issued(one) => one.facts_mut(),
            Self::Verified(one) => one.facts_mut(),
            Self::Over(one) => one.facts_mut(),
        };
        if facts.sends != send || facts.delivery != Delivery::Queued || delivery == Delivery::Queued {
            return None;
        }
        facts.delivery = delivery;
        Some(self)
    }

    /// How its code travels.
    pub const fn channel(&self) -> Channel {
        self.facts().binding.address.channel()
    }
}

#[cfg(test)]
mod tests;
