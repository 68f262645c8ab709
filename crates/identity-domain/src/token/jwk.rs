//! A public key as a JSON Web Key (RFC 7517; RFC 7518, section 6; RFC 8037).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as STRICT;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Algorithm;
use super::key::{KeyProblem, Public, TokenKey};

/// A public key as it is written, unchecked. Members that are not named here (such as `x5c`) do not count.
#[derive(Clone, Debug, Deserialize)]
pub struct Jwk {
    kty: String,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    r#use: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    /// Of a private key; its value is not kept.
    #[serde(default)]
    d: Option<IgnoredAny>,
    /// Of a secret; its value is not kept.
    #[serde(default)]
    k: Option<IgnoredAny>,
}

/// The same text is the same key.
impl PartialEq for Jwk {
    fn eq(&self, other: &Self) -> bool {
        let all = |one: &Self| {
            let texts = [&one.alg, &one.kid, &one.r#use, &one.crv, &one.x, &one.y, &one.n, &one.e].map(Clone::clone);
            (one.kty.clone(), texts, one.key_ops.clone(), one.d.is_some(), one.k.is_some())
        };
        all(self) == all(other)
    }
}

impl Eq for Jwk {}

impl Jwk {
    /// Its own id.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether it is a secret and no public key.
    pub(super) fn is_secret(&self) -> bool {
        self.kty == "oct" || self.k.is_some()
    }

    /// The algorithm that it names or that its kind leaves open, if it is one of `allowed`. A key of RSA that names
    /// none is for the first of RS256 and PS256 that is allowed.
    pub(super) fn algorithm(&self, allowed: &[Algorithm]) -> Option<Algorithm> {
        let is_allowed = |alg: &Algorithm| allowed.contains(alg) && !alg.is_symmetric();
        if let Some(name) = &self.alg {
            return Algorithm::from_name(name).filter(is_allowed);
        }
        let fitting: &[Algorithm] = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => &[Algorithm::Rs256, Algorithm::Ps256],
            ("EC", Some("P-256")) => &[Algorithm::Es256],
            ("EC", Some("P-384")) => &[Algorithm::Es384],
            ("OKP", Some("Ed25519")) => &[Algorithm::EdDsa],
            _ => &[],
        };
        fitting.iter().copied().find(is_allowed)
    }

    /// The key, ready to verify tokens of this algorithm.
    pub(super) fn key(&self, id: &str, alg: Algorithm) -> Result<TokenKey, KeyProblem> {
        if self.d.is_some() {
            return Err(KeyProblem(
                "it is a private key: replace it, whoever read it can sign; publish the public one",
            ));
        }
        if self.is_secret() {
            return Err(KeyProblem("it is a secret; only public keys are listed here"));
        }
        if self.r#use.as_ref().is_some_and(|purpose| purpose != "sig") {
            return Err(KeyProblem("its `use` is not `sig`"));
        }
        if self.key_ops.as_ref().is_some_and(|all| *all != ["verify"]) {
            return Err(KeyProblem("its `key_ops` are not `verify` alone"));
        }
        if self.alg.as_ref().is_some_and(|name| name != alg.as_str()) {
            return Err(KeyProblem("its `alg` is another one"));
        }
        TokenKey::public(id, alg, &self.public()?)
    }

    fn public(&self) -> Result<Public, KeyProblem> {
        const KIND: KeyProblem =
            KeyProblem("it must be of kty RSA, of kty EC with crv P-256 or P-384, or of kty OKP with crv Ed25519");
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => Ok(Public::Rsa { n: number(self.n.as_ref())?, e: number(self.e.as_ref())? }),
            ("EC", Some("P-256")) => Ok(Public::P256(self.point(32)?)),
            ("EC", Some("P-384")) => Ok(Public::P384(self.point(48)?)),
            ("OKP", Some("Ed25519")) => Ok(Public::Ed25519(number(self.x.as_ref())?)),
            _ => Err(KIND),
        }
    }

    /// An uncompressed point of two coordinates of full length (RFC 7518, section 6.2.1.2).
    fn point(&self, len: usize) -> Result<Vec<u8>, KeyProblem> {
        let (x, y) = (number(self.x.as_ref())?, number(self.y.as_ref())?);
        if x.len() != len || y.len() != len {
            return Err(KeyProblem("its coordinates do not have the length of the curve"));
        }
        Ok([&[4], x.as_slice(), y.as_slice()].concat())
    }
}

fn number(text: Option<&String>) -> Result<Vec<u8>, KeyProblem> {
    const MISSING: KeyProblem = KeyProblem("a number of the key is missing or not base64url without padding");
    text.filter(|text| text.len() <= 1400).and_then(|text| STRICT.decode(text).ok()).ok_or(MISSING)
}
