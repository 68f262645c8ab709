//! What a workspace file says about tokens (`spec.identity.tokens`).

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use safeconduct_types::{Violation, parse_duration};
use serde::{Deserialize, Deserializer};

use super::set::KeySet;
use super::{Algorithm, Jwk, TokenKey};
use crate::workspace::is_name;

/// How long a token may live unless the file says otherwise.
const MAX_LIFETIME: Duration = Duration::from_hours(1);
/// The longest that a file may allow, in days: what lives longer is a password.
const LONGEST: Duration = Duration::from_hours(30 * 24);
const MAX_KEYS: usize = 16;
const MAX_TEXT: usize = 256;
const MAX_URL: usize = 2048;
const MAX_ADDRESSES: usize = 16;

/// Which claim names the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// `user_id`.
    #[default]
    UserId,
    /// `sub` (RFC 7519, section 4.1.2).
    Sub,
}

/// A public key in the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    /// Names the key in tokens (`kid`), logs and evidence.
    pub id: String,
    /// The one algorithm that it verifies.
    pub alg: Algorithm,
    /// The key in PEM. Exactly one of `pem` and `jwk`.
    #[serde(default)]
    pub pem: Option<String>,
    /// The key as a JSON Web Key.
    #[serde(default)]
    pub jwk: Option<Jwk>,
}

/// Where public keys are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwksSpec {
    /// The set's address.
    pub url: String,
    /// Which algorithms its keys may have; RS256, PS256, ES256, ES384 and `EdDSA` if it is left out.
    #[serde(default = "public_algorithms")]
    pub algs: Vec<Algorithm>,
    /// Whether plain HTTP will do.
    #[serde(default)]
    pub insecure_http: bool,
    /// Networks that are not public and may be called all the same.
    #[serde(default)]
    pub allow_addresses: Vec<IpNet>,
}

fn public_algorithms() -> Vec<Algorithm> {
    Algorithm::ALL.into_iter().filter(|alg| !alg.is_symmetric()).collect()
}

/// `spec.identity.tokens` as it is written. [`TokenPolicy`] is what it means.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// What `iss` must be.
    #[serde(default)]
    pub issuer: Option<String>,
    /// What `aud` must name. Left out: a token that names an audience is refused.
    #[serde(default)]
    pub audience: Option<String>,
    /// What `typ` must be. Left out: `JWT`, or none.
    #[serde(default)]
    pub typ: Option<String>,
    /// How long a token may live, from `iat`, or from now if it does not say; 1 h.
    #[serde(default = "one_hour", deserialize_with = "duration")]
    pub max_lifetime: Duration,
    /// Whether `exp` must be there. If not, a token without it ends `max_lifetime` after its `iat`.
    #[serde(default = "yes")]
    pub require_exp: bool,
    /// Whether a token counts once, by its `jti`.
    #[serde(default)]
    pub single_use: bool,
    /// Which claim names the user.
    #[serde(default)]
    pub subject: Subject,
    /// Public keys.
    #[serde(default)]
    pub keys: Vec<KeySpec>,
    /// Public keys that are fetched.
    #[serde(default)]
    pub jwks: Option<JwksSpec>,
}

impl Default for TokenSpec {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            typ: None,
            max_lifetime: MAX_LIFETIME,
            require_exp: true,
            single_use: false,
            subject: Subject::default(),
            keys: Vec::new(),
            jwks: None,
        }
    }
}

fn one_hour() -> Duration {
    MAX_LIFETIME
}

fn yes() -> bool {
    true
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).ok_or_else(|| serde::de::Error::custom("`max_lifetime` must be a length such as 15m or 1h"))
}

/// What a workspace wants of tokens, checked, with the keys of its file prepared.
#[derive(Clone, Default)]
pub struct TokenPolicy {
    spec: TokenSpec,
    keys: KeySet,
}

/// The same file means the same.
impl PartialEq for TokenPolicy {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Eq for TokenPolicy {}

impl fmt::Debug for TokenPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl TokenPolicy {
    /// Checks what was written. Everything wrong is told, at paths below `tokens`.
    pub(crate) fn check(spec: TokenSpec, violations: &mut Vec<Violation>) -> Self {
        let mut wrong = |at: &str, what: &str| violations.push(Violation::new(format!("tokens.{at}"), what));
        for (at, text) in [("issuer", &spec.issuer), ("audience", &spec.audience), ("typ", &spec.typ)] {
            if text.as_ref().is_some_and(|text| text.is_empty() || text.len() > MAX_TEXT) {
                wrong(at, "must have 1 to 256 bytes");
            }
        }
        if spec.max_lifetime.is_zero() || spec.max_lifetime > LONGEST {
            wrong("max_lifetime", "must be 1s to 30d");
        }
        if spec.keys.len() > MAX_KEYS {
            wrong("keys", "at most 16 can be accepted at once");
        }
        let mut keys = Vec::new();
        for (index, one) in spec.keys.iter().enumerate() {
            let at = format!("keys[{index}]");
            if !is_name(&one.id, 64) {
                wrong(&format!("{at}.id"), "must be 1 to 64 of letters, digits, `.`, `_` and `-`");
            }
            if spec.keys.iter().take(index).any(|other| other.id == one.id) {
                wrong(&format!("{at}.id"), "is used twice; every key needs an id of its own");
            }
            let key = match (&one.pem, &one.jwk) {
                (Some(pem), None) => TokenKey::pem(&one.id, one.alg, pem),
                (None, Some(jwk)) if jwk.kid().is_some_and(|kid| kid != one.id) => {
                    wrong(&format!("{at}.jwk.kid"), "is another id than the entry's; write the same, or leave it out");
                    continue;
                }
                (None, Some(jwk)) => jwk.key(&one.id, one.alg),
                (Some(_), Some(_)) | (None, None) => {
                    wrong(&at, "needs exactly one of `pem` and `jwk`");
                    continue;
                }
            };
            match key {
                Ok(key) => keys.push(key),
                Err(problem) => wrong(&at, &format!("is not accepted: {problem}")),
            }
        }
        if let Some(jwks) = &spec.jwks {
            check_jwks(jwks, &mut wrong);
        }
        Self { keys: KeySet::of(keys), spec }
    }

    /// What `iss` must be.
    pub fn issuer(&self) -> Option<&str> {
        self.spec.issuer.as_deref()
    }

    /// What `aud` must name.
    pub fn audience(&self) -> Option<&str> {
        self.spec.audience.as_deref()
    }

    /// What `typ` must be.
    pub fn typ(&self) -> Option<&str> {
        self.spec.typ.as_deref()
    }

    /// How long a token may live.
    pub fn max_lifetime(&self) -> Duration {
        self.spec.max_lifetime
    }

    /// Whether `exp` must be there.
    pub fn require_exp(&self) -> bool {
        self.spec.require_exp
    }

    /// Whether a token counts once.
    pub fn single_use(&self) -> bool {
        self.spec.single_use
    }

    /// Which claim names the user.
    pub fn subject(&self) -> Subject {
        self.spec.subject
    }

    /// The public keys in the file.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// Where more are fetched.
    pub fn jwks(&self) -> Option<&JwksSpec> {
        self.spec.jwks.as_ref()
    }
}

fn check_jwks(jwks: &JwksSpec, wrong: &mut impl FnMut(&str, &str)) {
    let is_plain = jwks.url.starts_with("http://") && jwks.insecure_http;
    if jwks.url.len() > MAX_URL || !(jwks.url.starts_with("https://") || is_plain) {
        wrong(
            "jwks.url",
            "must start with https:// (http:// only with `insecure_http: true`) and have at most 2048 bytes",
        );
    }
    if jwks.algs.is_empty() || jwks.algs.iter().any(|alg| alg.is_symmetric()) {
        wrong("jwks.algs", "must list algorithms of public keys: RS256, PS256, ES256, ES384, EdDSA");
    }
    if jwks.allow_addresses.len() > MAX_ADDRESSES || jwks.allow_addresses.iter().any(|net| net.prefix_len() == 0) {
        wrong("jwks.allow_addresses", "lists at most 16 ranges such as 10.1.0.0/16, none of them the whole net");
    }
}
