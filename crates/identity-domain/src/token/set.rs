//! The keys of which one must have signed a token.

use serde::Deserialize;
use serde_json::Value;

use super::claims::Signed;
use super::jws::is_kid;
use super::key::{KeyProblem, TokenKey};
use super::{Algorithm, Jwk, Token};
use crate::strict_json;

/// Most bytes of a set that is fetched.
pub const MAX_SET_LEN: usize = 64 * 1024;
/// Most keys of a set.
const MAX_KEYS: usize = 32;

/// Keys with ids of their own. Empty by default.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<TokenKey>,
}

/// A key of a set that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key `{id}`: {problem}")]
pub struct LeftOut {
    /// Its id, or its place.
    pub id: String,
    /// Why.
    pub problem: KeyProblem,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JSON Web Key Set as it was fetched. A key that cannot verify tokens (of another use or kind, weak) is
    /// left out and told; two keys of one id, a secret among public keys, or a set that is no set spoil it whole.
    pub fn parse(text: &[u8], allowed: &[Algorithm]) -> Result<(Self, Vec<LeftOut>), KeyProblem> {
        if text.len() > MAX_SET_LEN {
            return Err(KeyProblem("a key set must have at most 64 KiB"));
        }
        let set: Set = strict_json::object(text.trim_ascii())
            .map_err(|_| KeyProblem("it is no JSON Web Key Set, or a member of it occurs twice"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeyProblem("a key set must have at most 32 keys"));
        }
        let alone = set.keys.len() == 1;
        let mut ids: Vec<String> = Vec::new();
        let mut parsed = Self::default();
        let mut left_out = Vec::new();
        for (place, value) in set.keys.into_iter().enumerate() {
            let mut leave = |id: Option<&str>, problem| {
                left_out.push(LeftOut { id: id.map_or_else(|| format!("number {place}"), str::to_owned), problem });
            };
            let Ok(jwk) = serde_json::from_value::<Jwk>(value) else {
                leave(None, KeyProblem("its members are not those of a key"));
                continue;
            };
            if jwk.is_secret() {
                return Err(KeyProblem("the set holds a secret: replace that secret, it is known to everybody"));
            }
            if jwk.kid().is_some_and(|kid| !is_kid(kid)) {
                leave(None, KeyProblem("its kid must have 1 to 256 bytes without control characters"));
                continue;
            }
            if let Some(kid) = jwk.kid() {
                if ids.iter().any(|other| other == kid) {
                    return Err(KeyProblem("two keys of the set have the same kid"));
                }
                ids.push(kid.to_owned());
            }
            let Some(alg) = jwk.algorithm(allowed) else {
                leave(jwk.kid(), KeyProblem("its algorithm is not one of those that are allowed"));
                continue;
            };
            match jwk.kid() {
                None if !alone => leave(None, KeyProblem("it has no kid")),
                kid => match jwk.key(kid.unwrap_or_default(), alg) {
                    Ok(key) => parsed.keys.push(key),
                    Err(problem) => leave(kid, problem),
                },
            }
        }
        Ok((parsed, left_out))
    }

    /// Puts keys together whose ids differ.
    pub fn of(keys: impl IntoIterator<Item = TokenKey>) -> Self {
        Self { keys: keys.into_iter().collect() }
    }

    /// Whether nothing can be verified with it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Its keys.
    pub fn iter(&self) -> impl Iterator<Item = &TokenKey> {
        self.keys.iter()
    }

    /// Whether the key of this mark is among them.
    pub fn accepts(&self, mark: &str) -> bool {
        self.keys.iter().any(|key| key.mark() == mark)
    }

    /// Whether it has a key of this id.
    pub fn contains(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id() == id)
    }

    /// The token, if one of the keys signed it: the one that the token names, or, if it names none, any of the
    /// algorithm that it says.
    pub fn verify<'t, 'k>(&'k self, token: &'t Token<'t>) -> Option<Signed<'t, 'k>> {
        self.keys
            .iter()
            .filter(|key| token.key_id().is_none_or(|kid| kid == key.id()))
            .find(|key| key.verifies(token))
            .map(|key| Signed::by(key, token))
    }
}
