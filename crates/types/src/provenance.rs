//! Where a value came from, and what that is worth.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a value came from. Ordered from the weakest to the strongest, so that `min` is the provenance of a value
/// that was derived from several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Provenance {
    /// The model produced it, or the person typed it.
    Agent,
    /// A browser or an app said so, unsigned.
    Client,
    /// The calling service supplied it beside the agent's inputs.
    Caller,
    /// The definition says so.
    Constant,
    /// Control of the phone number was proven by a one-time password.
    OtpSms,
    /// Control of the email address was proven by a one-time password.
    OtpEmail,
    /// A caller of role backend said so.
    Server,
    /// A user hash proved it; such a proof never expires.
    SignedHash,
    /// A signed token proved it.
    SignedToken,
}

impl Provenance {
    /// Every provenance, weakest first.
    pub const ALL: [Self; 9] = [
        Self::Agent,
        Self::Client,
        Self::Caller,
        Self::Constant,
        Self::OtpSms,
        Self::OtpEmail,
        Self::Server,
        Self::SignedHash,
        Self::SignedToken,
    ];

    /// Whether somebody other than the speaker vouches for the value.
    pub const fn is_verified(self) -> bool {
        matches!(self, Self::OtpSms | Self::OtpEmail | Self::Server | Self::SignedHash | Self::SignedToken)
    }

    /// Its name in files and contracts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "AGENT",
            Self::Client => "CLIENT",
            Self::Caller => "CALLER",
            Self::Constant => "CONSTANT",
            Self::OtpSms => "OTP_SMS",
            Self::OtpEmail => "OTP_EMAIL",
            Self::Server => "SERVER",
            Self::SignedHash => "SIGNED_HASH",
            Self::SignedToken => "SIGNED_TOKEN",
        }
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no provenance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no provenance; known are AGENT, CLIENT, CALLER, CONSTANT, OTP_SMS, OTP_EMAIL, SERVER, SIGNED_HASH, SIGNED_TOKEN"
)]
pub struct UnknownProvenance(pub String);

impl FromStr for Provenance {
    type Err = UnknownProvenance;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|one| one.as_str() == name).ok_or_else(|| UnknownProvenance(name.to_owned()))
    }
}

/// A set of provenances: what an input accepts.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ProvenanceSet(u16);

impl ProvenanceSet {
    /// Accepts nothing.
    pub const NONE: Self = Self(0);

    /// This set with `one` in it.
    #[must_use]
    pub const fn with(self, one: Provenance) -> Self {
        Self(self.0 | (1 << one as u16))
    }

    /// Whether `one` is in it.
    pub const fn contains(self, one: Provenance) -> bool {
        self.0 & (1 << one as u16) != 0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether everything in it is verified.
    pub fn is_verified(self) -> bool {
        self.iter().all(Provenance::is_verified)
    }

    /// Whether everything in this set is also in `other`.
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// What is in it, weakest first.
    pub fn iter(self) -> impl Iterator<Item = Provenance> {
        Provenance::ALL.into_iter().filter(move |one| self.contains(*one))
    }
}

impl FromIterator<Provenance> for ProvenanceSet {
    fn from_iter<I: IntoIterator<Item = Provenance>>(all: I) -> Self {
        all.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for ProvenanceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_made_of_several_is_as_weak_as_the_weakest() {
        assert_eq!(Provenance::SignedToken.min(Provenance::Agent), Provenance::Agent);
        assert_eq!(Provenance::Server.min(Provenance::OtpEmail), Provenance::OtpEmail);
    }

    #[test]
    fn what_the_speaker_says_is_not_verified() {
        for one in [Provenance::Agent, Provenance::Client, Provenance::Caller, Provenance::Constant] {
            assert!(!one.is_verified(), "{one}");
        }
    }

    #[test]
    fn every_name_parses_back() {
        for one in Provenance::ALL {
            assert_eq!(one.as_str().parse(), Ok(one));
        }
        assert!("SIGNED".parse::<Provenance>().is_err());
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set: ProvenanceSet = [Provenance::Server, Provenance::SignedToken].into_iter().collect();
        assert!(set.contains(Provenance::Server) && !set.contains(Provenance::Agent));
        assert!(set.is_verified() && !set.with(Provenance::Agent).is_verified());
        assert!(set.is_within(set.with(Provenance::Agent)) && !set.with(Provenance::Agent).is_within(set));
    }
}
