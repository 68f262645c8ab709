//! The secrets of a workspace, prepared: each for its one use.

use safeconduct_types::Secret;
use subtle::ConstantTimeEq as _;

use crate::token::{KeyProblem, KeySet, TokenKey};
use crate::user_hash::{MIN_SECRET, UserHashSecrets};
use crate::workspace::{IdentityPolicy, SecretRef, SecretUse};

/// Why a secret of a workspace is not accepted. Operators read this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    /// Its file or variable is not there.
    #[error("secret `{id}`: there is no secret `{name}`; put it in the workspace's secrets folder")]
    Missing {
        /// The id in the workspace file.
        id: String,
        /// The reference that leads nowhere.
        name: String,
    },
    /// It is so short that it can be guessed.
    #[error("secret `{id}` has fewer than {MIN_SECRET} bytes; make one of at least 32 random bytes")]
    Weak {
        /// The id in the workspace file.
        id: String,
    },
    /// It cannot verify tokens of its algorithm.
    #[error("secret `{id}` is not accepted: {problem}")]
    Unfit {
        /// The id in the workspace file.
        id: String,
        /// Why.
        problem: KeyProblem,
    },
    /// Two entries hold the same bytes, so that one secret would have two uses or could not be retired.
    #[error("secrets `{id}` and `{other}` are the same bytes; a secret has one entry and one use")]
    Shared {
        /// The id in the workspace file.
        id: String,
        /// The other id.
        other: String,
    },
}

/// All that verifies proofs in a workspace, but for keys that are fetched.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// What user hashes are made with.
    pub hashes: UserHashSecrets,
    /// What tokens are signed with: the secrets of use `jwt`, and the public keys of the file.
    pub tokens: KeySet,
}

/// The bytes of the workspace's secrets as they were found, in the order of the file.
#[derive(Clone, Debug)]
pub struct Resolved(Vec<Option<Secret>>);

impl Resolved {
    /// Looks for each secret of the file.
    pub fn look(policy: &IdentityPolicy, resolve: impl Fn(&str) -> Option<Secret>) -> Self {
        Self(policy.secrets().iter().map(|entry| resolve(&entry.secret)).collect())
    }

    /// Whether nothing has changed since. Constant time in the bytes.
    pub fn is(&self, other: &Self) -> bool {
        let same = |one: &Option<Secret>, other: &Option<Secret>| match (one, other) {
            (Some(one), Some(other)) => bool::from(one.expose().ct_eq(other.expose())),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(one, other)| same(one, other))
    }
}

impl Secrets {
    /// Whether the secret or key of this mark is accepted.
    pub fn accepts(&self, mark: &str) -> bool {
        self.hashes.accepts(mark) || self.tokens.accepts(mark)
    }

    /// Looks for the workspace's secrets, and prepares them.
    pub fn load(policy: &IdentityPolicy, resolve: impl Fn(&str) -> Option<Secret>) -> (Self, Vec<SecretProblem>) {
        Self::prepare(policy, &Resolved::look(policy, resolve))
    }

    /// Prepares the workspace's secrets. One that is missing, weak or shared is left out and reported; the good ones
    /// stay in force, so that a mistake while rotating is not an outage.
    pub fn prepare(policy: &IdentityPolicy, resolved: &Resolved) -> (Self, Vec<SecretProblem>) {
        let mut problems = Vec::new();
        let mut found: Vec<(&SecretRef, &Secret)> = Vec::new();
        for (entry, secret) in policy.secrets().iter().zip(&resolved.0) {
            match secret {
                None => problems.push(SecretProblem::Missing { id: entry.id.clone(), name: entry.secret.clone() }),
                Some(secret) => found.push((entry, secret)),
            }
        }
        let mut hashes = UserHashSecrets::default();
        let mut tokens = Vec::new();
        for (entry, secret) in &found {
            let twin = found
                .iter()
                .find(|(other, bytes)| other.id != entry.id && bool::from(bytes.expose().ct_eq(secret.expose())));
            let id = entry.id.clone();
            if let Some((other, _)) = twin {
                problems.push(SecretProblem::Shared { id, other: other.id.clone() });
                continue;
            }
            match entry.r#use {
                SecretUse::UserHash if secret.expose().len() < MIN_SECRET => problems.push(SecretProblem::Weak { id }),
                SecretUse::UserHash => hashes.add(entry, policy.is_primary(entry), secret),
                SecretUse::Jwt => match TokenKey::shared(&entry.id, entry.algorithm(), secret) {
                    Ok(key) => tokens.push(key),
                    Err(problem) => problems.push(SecretProblem::Unfit { id, problem }),
                },
            }
        }
        let tokens = KeySet::of(tokens.into_iter().chain(policy.tokens().keys().iter().cloned()));
        (Self { hashes, tokens }, problems)
    }
}
