//! Public keys, as a JSON Web Key Set (RFC 7517) of Ed25519 keys (RFC 8037).

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use base64::Engine as _;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{ALGORITHM, STRICT};
use crate::strict_json;

/// Names a signing key: 1 to 64 of letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyId {
    type Error = JwksError;

    fn try_from(text: String) -> Result<Self, JwksError> {
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(legal) {
            return Err(JwksError("a key id must be 1 to 64 of letters, digits, `.`, `_` and `-`"));
        }
        Ok(Self(text))
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no set of keys that assertions are checked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JwksError(pub(super) &'static str);

/// The public keys that assertions are checked with, by key id.
#[derive(Clone, Default)]
pub struct JwkSet {
    keys: BTreeMap<KeyId, PublicKey>,
}

#[derive(Clone)]
struct PublicKey {
    bytes: [u8; KEY_LEN],
    parsed: ParsedPublicKey,
}

const KEY_LEN: usize = 32;
/// Most bytes of a set.
const MAX_LEN: usize = 16 * 1024;
/// Most keys of a set: the one in use, those before it, the next one.
const MAX_KEYS: usize = 16;

#[derive(Serialize, Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Serialize, Deserialize)]
struct Jwk {
    alg: String,
    crv: String,
    kid: KeyId,
    kty: String,
    r#use: String,
    x: String,
    #[serde(default, skip_serializing)]
    d: Option<IgnoredAny>,
}

impl JwkSet {
    /// Parses a set. Every key must be one that signs assertions; one that is not spoils the set, because it means
    /// that this is not identity's.
    pub fn parse(text: &str) -> Result<Self, JwksError> {
        if text.len() > MAX_LEN {
            return Err(JwksError("a key set must have at most 16 KiB"));
        }
        let set: Set = strict_json::object(text.as_bytes())
            .map_err(|_| JwksError("not a JSON Web Key Set of Ed25519 keys with alg, crv, kid, kty, use and x"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(JwksError("a key set must have at most 16 keys"));
        }
        let mut parsed = Self::default();
        for jwk in set.keys {
            if jwk.d.is_some() {
                return Err(JwksError("the key set holds a private key: replace that key, it is known to others"));
            }
            let fits = jwk.kty == "OKP" && jwk.crv == "Ed25519" && jwk.alg == ALGORITHM && jwk.r#use == "sig";
            if !fits {
                return Err(JwksError("only keys with kty OKP, crv Ed25519, alg EdDSA and use sig sign assertions"));
            }
            let bytes = STRICT.decode(&jwk.x).ok().and_then(|bytes| <[u8; KEY_LEN]>::try_from(bytes).ok());
            let bytes = bytes.ok_or(JwksError("x must be 32 bytes in base64url without padding"))?;
            parsed.insert(jwk.kid, bytes)?;
        }
        Ok(parsed)
    }

    pub(super) fn insert(&mut self, kid: KeyId, bytes: [u8; KEY_LEN]) -> Result<(), JwksError> {
        let parsed = ParsedPublicKey::new(&ED25519, bytes).map_err(|_| JwksError("x is no Ed25519 public key"))?;
        match self.keys.insert(kid, PublicKey { bytes, parsed }) {
            None => Ok(()),
            Some(_) => Err(JwksError("two keys have the same kid")),
        }
    }

    /// The set as JSON, for whoever checks assertions.
    pub fn render(&self) -> String {
        let keys = self.keys.iter().map(|(kid, key)| Jwk {
            alg: ALGORITHM.to_owned(),
            crv: "Ed25519".to_owned(),
            kid: kid.clone(),
            kty: "OKP".to_owned(),
            r#use: "sig".to_owned(),
            x: STRICT.encode(key.bytes),
            d: None,
        });
        // Strings and nothing else: rendering cannot fail, and an empty set is refused by whoever reads it.
        serde_json::to_string(&Set { keys: keys.collect() }).unwrap_or_default()
    }

    /// Whether the set has the key of this id.
    pub fn contains(&self, kid: &KeyId) -> bool {
        self.keys.contains_key(kid)
    }

    /// Whether there is no key in it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether `signature` is this key's over `message`; false if there is no such key.
    pub(super) fn verifies(&self, kid: &KeyId, message: &[u8], signature: &[u8]) -> bool {
        self.keys.get(kid).is_some_and(|key| key.parsed.verify_sig(message, signature).is_ok())
    }
}

impl fmt::Debug for JwkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys().map(KeyId::as_str)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8037, appendix A.2.
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn jwk(rest: &str) -> String {
        format!(r#"{{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig",{rest}}}"#)
    }

    fn set(keys: &[String]) -> Result<JwkSet, JwksError> {
        JwkSet::parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")))
    }

    #[test]
    fn a_set_reads_back() {
        let parsed = set(&[jwk(&format!(r#""kid":"a","x":"{X}""#)), jwk(&format!(r#""kid":"b","x":"{X}""#))]).unwrap();
        assert_eq!(JwkSet::parse(&parsed.render()).unwrap().render(), parsed.render());
        assert!(parsed.contains(&"b".to_owned().try_into().unwrap()));
    }

    #[test]
    fn what_could_be_another_key_spoils_the_set() {
        let good = jwk(&format!(r#""kid":"a","x":"{X}""#));
        let bad = [
            good.replace("EdDSA", "HS256"),
            good.replace("OKP", "oct"),
            good.replace("Ed25519", "X25519"),
            good.replace("\"sig\"", "\"enc\""),
            good.replace("\"kid\":\"a\",", ""),
            good.replace("\"a\"", "\"\""),
            good.replace(X, &X[..42]),
            good.replace(X, &format!("{X}=")),
            good.replace(X, &X.replace('_', "/")),
            // The same 32 bytes with trailing bits set.
            good.replace(X, &format!("{}p", &X[..42])),
            good.replace("\"kid\"", "\"kid\":\"z\",\"kid\""),
            good.replace("\"kid\"", "\"d\":\"AA\",\"kid\""),
        ];
        for bad in bad {
            assert!(set(std::slice::from_ref(&bad)).is_err(), "{bad}");
        }
        assert!(set(&[good.clone(), good.clone()]).is_err(), "a kid names one key");
        assert!(set(&vec![good; 17]).is_err());
        assert!(JwkSet::parse("[]").is_err());
        assert!(JwkSet::parse(&format!("{{\"keys\":[]{}}}", " ".repeat(MAX_LEN))).is_err());
    }
}
