//! The public keys, for whoever checks assertions.

use std::time::Duration;

use crate::Identity;

/// Where the keys are on HTTP: public, on the operations port.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// How long the keys may be cached. A key is published at least this long before it signs.
pub(crate) const MAX_AGE: Duration = Duration::from_mins(5);

impl Identity {
    /// The public keys as a JSON Web Key Set.
    pub fn jwks_json(&self) -> &str {
        &self.jwks_json
    }
}
