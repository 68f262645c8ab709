//! Tokens: compact JWTs (RFC 7519) that the customer's backend signs for its own users.
//!
//! [`Token::parse`] takes a token apart and believes nothing of it; [`KeySet::verify`] finds the key whose signature
//! it carries; only that makes a [`Signed`], and [`Signed::prove`] holds its claims against the workspace's
//! [`TokenPolicy`]. One key has one algorithm, decided where the key is configured and never by the token.
//!
//! The rules are those of RFC 8725 (JWT best current practices) and the draft that succeeds it; `practices.rs` among
//! the tests has one test for each. Refused are: `alg: none` and every algorithm that no key has, keys that come with
//! the token (`jwk`, `jku`, `x5u`, `x5c`), critical extensions (none is understood), unencoded payloads, compression,
//! encryption, nested tokens, members that occur twice, other serialisations than the compact one, and any base64url
//! but the one canonical spelling.

mod claims;
mod der;
mod jwk;
mod jws;
mod key;
mod set;
mod sign;
mod spec;
mod weak;

use serde::{Deserialize, Serialize};

pub use claims::{LEEWAY, Once, ProvenToken, Signed};
pub use jwk::Jwk;
pub use jws::Token;
pub use key::{KeyProblem, TokenKey};
pub use set::{KeySet, LeftOut, MAX_SET_LEN};
pub use sign::sign;
pub use spec::{JwksSpec, KeySpec, Subject, TokenPolicy, TokenSpec};

/// Most bytes of a token.
pub const MAX_LEN: usize = 8 * 1024;

/// How a token is signed (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[serde(rename = "HS256")]
    Hs256,
    /// HMAC with SHA-384.
    #[serde(rename = "HS384")]
    Hs384,
    /// HMAC with SHA-512.
    #[serde(rename = "HS512")]
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSASSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA with P-384 and SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Every algorithm that a key can have.
    pub const ALL: [Self; 8] =
        [Self::Hs256, Self::Hs384, Self::Hs512, Self::Rs256, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa];

    /// Its name in a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this very name: letter case counts (RFC 7515, section 4.1.1).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// Whether whoever verifies could sign as well.
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

#[cfg(test)]
mod tests;
