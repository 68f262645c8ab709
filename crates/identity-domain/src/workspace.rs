//! The identity part of a workspace file (`spec.identity`).

use safeconduct_types::{Provenance, Violation};
use serde::{Deserialize, Serialize};

use crate::contact::Identifier;
use crate::token::{Algorithm, TokenPolicy, TokenSpec};

/// What a secret is for. A secret has one use: the user hash of a self-chosen id of the form `header.payload` is a
/// valid HS256 signature of that token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretUse {
    /// Verifies user hashes.
    UserHash,
    /// Verifies signed tokens.
    Jwt,
}

/// A reference to a secret, never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// Names the secret in logs and evidence: 1 to 64 of letters, digits, `.`, `_` and `-`.
    pub id: String,
    /// The name under which the workspace's secrets hold it: 1 to 128 of letters, digits, `.`, `_` and `-`, not
    /// starting with `.`.
    pub secret: String,
    /// What it verifies.
    pub r#use: SecretUse,
    /// Whether it is the one that new proofs should be made with. The only secret of its use is so in any case.
    #[serde(default)]
    pub primary: bool,
    /// Of a secret of use `jwt`: the one algorithm of the tokens it verifies, HS256, HS384 or HS512. HS256 by default.
    #[serde(default)]
    pub alg: Option<Algorithm>,
}

/// How user hashes are made in the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserHash {
    /// Over which identifier; exactly one.
    pub over: Identifier,
}

/// `spec.identity` as it is written. [`IdentityPolicy`] is what it means.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentitySpec {
    /// The accepted secrets; at most 16.
    #[serde(default)]
    pub secrets: Vec<SecretRef>,
    /// How user hashes are made; needed once there is a secret for them.
    #[serde(default)]
    pub user_hash: Option<UserHash>,
    /// What tokens must be like, and the public keys that verify them.
    #[serde(default)]
    pub tokens: Option<TokenSpec>,
    /// Whether a proof that does not verify is refused. `true` by default.
    #[serde(default = "yes")]
    pub enforce: bool,
    /// The weakest proof of identity that a write needs.
    #[serde(default)]
    pub writes_need: Option<Provenance>,
    /// Which attributes travel in assertions besides the proven identifier; at most 32 names.
    #[serde(default)]
    pub assertion_attributes: Vec<String>,
}

fn yes() -> bool {
    true
}

/// What a workspace says about identity, checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "IdentitySpec")]
pub struct IdentityPolicy {
    spec: IdentitySpec,
    tokens: TokenPolicy,
}

/// What is wrong with `spec.identity`: all of it. Each violation's field is a path below `spec.identity`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|one| format!("{}: {}", one.field, one.description)).collect::<Vec<_>>().join("; "))]
pub struct PolicyError(pub Vec<Violation>);

const MAX_SECRETS: usize = 16;
const MAX_ATTRIBUTES: usize = 32;

impl TryFrom<IdentitySpec> for IdentityPolicy {
    type Error = PolicyError;

    fn try_from(mut spec: IdentitySpec) -> Result<Self, PolicyError> {
        let mut violations = Vec::new();
        let tokens = TokenPolicy::check(spec.tokens.take().unwrap_or_default(), &mut violations);
        check_ids(&spec, &tokens, &mut violations);
        check_secrets(&spec, &mut violations);
        check_primaries(&spec, &mut violations);
        check_attributes(&spec, &mut violations);
        if spec.writes_need.is_some_and(|needed| !needed.is_verified()) {
            violations.push(Violation::new("writes_need", "must be a verified provenance, such as SIGNED_TOKEN"));
        }
        if violations.is_empty() { Ok(Self { spec, tokens }) } else { Err(PolicyError(violations)) }
    }
}

fn check_secrets(spec: &IdentitySpec, violations: &mut Vec<Violation>) {
    if spec.secrets.len() > MAX_SECRETS {
        violations.push(Violation::new("secrets", "at most 16 can be accepted at once"));
    }
    for (index, one) in spec.secrets.iter().enumerate() {
        let at = |member: &str| format!("secrets[{index}].{member}");
        if !is_name(&one.id, 64) {
            violations.push(Violation::new(at("id"), "must be 1 to 64 of letters, digits, `.`, `_` and `-`"));
        }
        if !is_name(&one.secret, 128) || one.secret.starts_with('.') {
            violations.push(Violation::new(
                at("secret"),
                "must name a secret: 1 to 128 of letters, digits, `.`, `_` and `-`, not starting with `.`",
            ));
        }
        match (one.r#use, one.alg) {
            (SecretUse::UserHash, Some(_)) => {
                violations.push(Violation::new(at("alg"), "belongs to secrets of use jwt; a user hash is HMAC-SHA256"));
            }
            (SecretUse::Jwt, Some(alg)) if !alg.is_symmetric() => {
                violations.push(Violation::new(
                    at("alg"),
                    "must be HS256, HS384 or HS512; other keys belong to `tokens.keys`",
                ));
            }
            (SecretUse::Jwt, _) | (SecretUse::UserHash, None) => {}
        }
        let earlier = || spec.secrets.iter().take(index);
        if earlier().any(|other| other.id == one.id) {
            violations.push(Violation::new(at("id"), "is used twice; every secret needs an id of its own"));
        }
        if earlier().any(|other| other.secret == one.secret) {
            violations.push(Violation::new(at("secret"), "is listed twice; a secret has one entry and one use"));
        }
    }
    let hashes = spec.secrets.iter().any(|one| one.r#use == SecretUse::UserHash);
    match (hashes, spec.user_hash) {
        (true, None) => violations.push(Violation::new(
            "user_hash",
            "a secret of use user_hash needs `user_hash: {over: user_id}` (or email), which says what is hashed",
        )),
        (false, Some(_)) => {
            violations.push(Violation::new("user_hash", "needs at least one secret of use user_hash"));
        }
        (true, Some(_)) | (false, None) => {}
    }
}

/// A token names its key by id: one id is one key, of one kind.
fn check_ids(spec: &IdentitySpec, tokens: &TokenPolicy, violations: &mut Vec<Violation>) {
    for (index, secret) in spec.secrets.iter().enumerate() {
        if tokens.keys().contains(&secret.id) {
            let at = format!("secrets[{index}].id");
            violations.push(Violation::new(at, "is also the id of a key; every secret and key needs an id of its own"));
        }
    }
}

fn check_primaries(spec: &IdentitySpec, violations: &mut Vec<Violation>) {
    for (using, name) in [(SecretUse::UserHash, "user_hash"), (SecretUse::Jwt, "jwt")] {
        let all = || spec.secrets.iter().filter(|one| one.r#use == using);
        let primaries = all().filter(|one| one.primary).count();
        if primaries > 1 || (primaries == 0 && all().count() > 1) {
            violations.push(Violation::new("secrets", format!("exactly one of use {name} must say `primary: true`")));
        }
    }
}

fn check_attributes(spec: &IdentitySpec, violations: &mut Vec<Violation>) {
    if spec.assertion_attributes.len() > MAX_ATTRIBUTES {
        violations.push(Violation::new("assertion_attributes", "at most 32 can travel in an assertion"));
    }
    for (index, name) in spec.assertion_attributes.iter().enumerate() {
        let mut bytes = name.bytes();
        let legal = name.len() <= 48
            && bytes.next().is_some_and(|first| first.is_ascii_lowercase())
            && bytes.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
        let at = || format!("assertion_attributes[{index}]");
        if !legal {
            violations.push(Violation::new(at(), "must be 1 to 48 of a-z, 0-9 and `_`, starting with a letter"));
        } else if spec.assertion_attributes.iter().take(index).any(|other| other == name) {
            violations.push(Violation::new(at(), "is listed twice"));
        }
    }
}

pub(crate) fn is_name(text: &str, most: usize) -> bool {
    !text.is_empty()
        && text.len() <= most
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
}

impl IdentityPolicy {
    /// The accepted secrets, of every use.
    pub fn secrets(&self) -> &[SecretRef] {
        &self.spec.secrets
    }

    /// Which identifier user hashes are made over; absent if the workspace accepts none.
    pub fn hashes(&self) -> Option<Identifier> {
        self.spec.user_hash.map(|one| one.over)
    }

    /// Whether new proofs should be made with this secret.
    pub fn is_primary(&self, secret: &SecretRef) -> bool {
        secret.primary || self.spec.secrets.iter().filter(|one| one.r#use == secret.r#use).count() == 1
    }

    /// The weakest proof of identity that a write needs.
    pub fn writes_need(&self) -> Option<Provenance> {
        self.spec.writes_need
    }

    /// Which attributes travel in assertions besides the proven identifier.
    pub fn assertion_attributes(&self) -> &[String] {
        &self.spec.assertion_attributes
    }

    /// Whether a proof that does not verify is refused. If not, it is counted, and who brought it is a visitor.
    pub fn enforce(&self) -> bool {
        self.spec.enforce
    }

    /// What tokens must be like.
    pub fn tokens(&self) -> &TokenPolicy {
        &self.tokens
    }

    /// Whether there is anything that could verify a token.
    pub fn accepts_tokens(&self) -> bool {
        !self.tokens.keys().is_empty()
            || self.tokens.jwks().is_some()
            || self.spec.secrets.iter().any(|one| one.r#use == SecretUse::Jwt)
    }
}

impl SecretRef {
    /// The one algorithm of the tokens that a secret of use `jwt` verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.alg.unwrap_or(Algorithm::Hs256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<IdentityPolicy, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    const SAMPLE: &str = r#"{
        "secrets": [{"id": "s2", "secret": "messenger-2026", "use": "jwt", "primary": true},
                    {"id": "s1", "secret": "messenger-2025", "use": "user_hash"}],
        "user_hash": {"over": "user_id"}, "enforce": true, "writes_need": "SIGNED_TOKEN",
        "assertion_attributes": ["account_id", "country", "tier"]}"#;

    #[test]
    fn the_sample_of_the_design_is_accepted() {
        let policy = parse(SAMPLE).unwrap();
        assert_eq!(policy.hashes(), Some(Identifier::UserId));
        assert_eq!(policy.writes_need(), Some(Provenance::SignedToken));
        assert!(policy.enforce());
        assert!(policy.secrets().iter().all(|one| policy.is_primary(one)), "the only one of its use is primary");
        assert!(policy.accepts_tokens());
    }

    #[test]
    fn a_member_that_is_not_known_is_refused() {
        assert!(parse(r#"{"enforced": true}"#).unwrap_err().contains("enforced"));
        assert!(parse(r#"{"secrets":[{"id":"a","secret":"b","use":"user_hash","value":"c"}]}"#).is_err());
        assert!(parse(r#"{"user_hash":{"over":["user_id","email"]}}"#).is_err());
        assert!(parse(r#"{"user_hash":{"over":"phone"}}"#).is_err());
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let told = parse(
            r#"{"secrets":[{"id":"a","secret":"../x","use":"user_hash"},{"id":"a","secret":"y","use":"user_hash"}],
            "writes_need":"AGENT","assertion_attributes":["Tier","tier","tier"]}"#,
        )
        .unwrap_err();
        for part in [
            "secrets[0].secret",
            "secrets[1].id",
            "user_hash:",
            "exactly one of use user_hash",
            "writes_need",
            "assertion_attributes[0]",
            "assertion_attributes[2]",
        ] {
            assert!(told.contains(part), "{part} is missing in: {told}");
        }
    }

    #[test]
    fn one_secret_has_one_use() {
        let told = parse(
            r#"{"secrets":[{"id":"a","secret":"x","use":"user_hash"},{"id":"b","secret":"x","use":"jwt"}],"user_hash":{"over":"email"}}"#,
        )
        .unwrap_err();
        assert!(told.contains("one use"), "{told}");
    }

    #[test]
    fn a_way_to_hash_without_a_secret_is_refused() {
        assert!(parse(r#"{"user_hash":{"over":"email"}}"#).is_err());
        assert!(parse("{}").is_ok(), "a workspace of visitors");
    }
}
