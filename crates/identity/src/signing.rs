//! The keys that assertions are signed and checked with, as they are now.

use std::sync::Arc;

use safeconduct_identity_domain::assertion::{JwkSet, JwksError, SigningKey};
use safeconduct_service::keyring::{Key, Keyring, Purpose};

use crate::KeysError;

/// One key that signs, and all whose assertions count. Exchanged as a whole when keys rotate.
#[derive(Debug)]
pub struct SigningSet {
    signing: Arc<SigningKey>,
    published: Arc<JwkSet>,
    jwks_json: String,
}

impl SigningSet {
    /// `signing` signs; assertions of it and of the `others` count.
    pub fn new<'a>(
        signing: Arc<SigningKey>,
        others: impl IntoIterator<Item = &'a SigningKey>,
    ) -> Result<Self, JwksError> {
        let mut all = vec![&*signing];
        for other in others {
            if other.id() != signing.id() {
                all.push(other);
            }
        }
        let published = SigningKey::public(all)?;
        Ok(Self { jwks_json: published.render(), published: Arc::new(published), signing })
    }

    /// The keys of a key file: its primary one signs.
    pub fn of(keyring: &Keyring) -> Result<Self, KeysError> {
        let signing = parsed(keyring.primary(Purpose::AssertionSigning)?)?;
        let all = in_file(keyring)?;
        Ok(Self::new(Arc::new(signing), &all)?)
    }

    /// What signs.
    pub fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// What assertions are checked with.
    pub fn published(&self) -> &Arc<JwkSet> {
        &self.published
    }

    /// The same as a JSON Web Key Set.
    pub fn jwks_json(&self) -> &str {
        &self.jwks_json
    }

    /// Whether just these keys count, and this one signs.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.signing.id() == other.signing.id() && self.jwks_json == other.jwks_json
    }
}

/// All signing keys of a key file.
pub(crate) fn in_file(keyring: &Keyring) -> Result<Vec<SigningKey>, JwksError> {
    keyring.all(Purpose::AssertionSigning).map(parsed).collect()
}

fn parsed(key: &Key) -> Result<SigningKey, JwksError> {
    SigningKey::from_seed(key.id().as_str().to_owned().try_into()?, key.secret())
}
