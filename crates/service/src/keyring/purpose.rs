//! What keys are for, and how long each kind must be known before it counts and after it has done.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How long identity's public keys may be cached. A signing key is published at least so long before it signs.
pub const JWKS_MAX_AGE: Duration = Duration::from_mins(5);

/// A process that follows its key file has surely taken a change of it after so long.
pub const TAKEN_WITHIN: Duration = Duration::from_secs(3);

/// The longest that an assertion lives (`assertion.lifetime` has the same bound), and a minute for clocks that differ.
pub const ASSERTIONS_LIVE: Duration = Duration::from_mins(61);
/// The longest that a one-time code counts, and a minute for clocks that differ.
const CODES_LIVE: Duration = Duration::from_mins(61);

/// What a key is for; nothing else uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Signs assertions (an Ed25519 seed). Identity only.
    AssertionSigning,
    /// Seals the attributes inside assertions (AES-256-GCM). Shared by identity, otp and connector.
    ClaimSealing,
    /// Seals what a service keeps in records (AES-256-GCM), one key a service.
    RecordSealing,
    /// Derives one-time codes (HMAC-SHA256). Otp only.
    CodeDerivation,
    /// Hashes the store's keys (HMAC-SHA256), one key a service.
    StoreHashing,
    /// Makes contact ids (HMAC-SHA256). Identity only.
    ContactHashing,
    /// Hashes contacts in traces and logs (HMAC-SHA256). Shared by all, so that a contact looks the same everywhere.
    TraceHashing,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 7] = [
        Self::AssertionSigning,
        Self::ClaimSealing,
        Self::RecordSealing,
        Self::CodeDerivation,
        Self::StoreHashing,
        Self::ContactHashing,
        Self::TraceHashing,
    ];

    /// Its name in a key file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AssertionSigning => "assertion-signing",
            Self::ClaimSealing => "claim-sealing",
            Self::RecordSealing => "record-sealing",
            Self::CodeDerivation => "code-derivation",
            Self::StoreHashing => "store-hashing",
            Self::ContactHashing => "contact-hashing",
            Self::TraceHashing => "trace-hashing",
        }
    }

    /// Whether older keys still open or verify after a rotation. Others name things: with a new key the old
    /// names are not found again.
    pub const fn rotates(self) -> bool {
        match self {
            Self::AssertionSigning | Self::ClaimSealing | Self::RecordSealing | Self::CodeDerivation => true,
            Self::StoreHashing | Self::ContactHashing | Self::TraceHashing => false,
        }
    }

    /// How long a key must have been staged before it makes anything, so that nobody meets a key that they lack.
    pub const fn known_before(self) -> Duration {
        match self {
            Self::AssertionSigning => JWKS_MAX_AGE,
            Self::ClaimSealing
            | Self::RecordSealing
            | Self::CodeDerivation
            | Self::StoreHashing
            | Self::ContactHashing
            | Self::TraceHashing => TAKEN_WITHIN,
        }
    }

    /// How long after a key was replaced something that it made can still count; `None` if nobody can tell.
    pub const fn needed_after(self) -> Option<Duration> {
        match self {
            Self::AssertionSigning | Self::ClaimSealing => Some(ASSERTIONS_LIVE),
            Self::CodeDerivation => Some(CODES_LIVE),
            Self::RecordSealing | Self::StoreHashing | Self::ContactHashing | Self::TraceHashing => None,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Purpose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|purpose| purpose.as_str()).collect();
            format!("purpose must be one of {}", names.join(", "))
        })
    }
}
