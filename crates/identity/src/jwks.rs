//! The public keys, for whoever checks assertions.

use std::time::Duration;

use safeconduct_service::keyring::JWKS_MAX_AGE;

use crate::Identity;

/// Where the keys are on HTTP: public, on the operations port.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// How long the keys may be cached. A key is published at least this long before it signs.
pub(crate) const MAX_AGE: Duration = JWKS_MAX_AGE;

impl Identity {
    /// The public keys as they are now, as a JSON Web Key Set.
    pub fn jwks_json(&self) -> String {
        self.signing.get().jwks_json().to_owned()
    }
}
