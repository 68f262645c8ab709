//! The suite's key for claims, as assertions use it.

use std::sync::Arc;

use safeconduct_identity_domain::assertion::{Seal, SealError};
use safeconduct_service::keyring::Sealer;
use zeroize::Zeroizing;

/// Seals attributes with the keyring's purpose `claim-sealing`.
#[derive(Clone, Debug)]
pub struct ClaimSealer(Arc<Sealer>);

impl ClaimSealer {
    /// Seals with this.
    pub fn new(sealer: Arc<Sealer>) -> Self {
        Self(sealer)
    }
}

impl Seal for ClaimSealer {
    fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.0.seal(plain, context).map_err(|_| SealError)
    }

    fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.0.open(sealed, context).map_err(|_| SealError)
    }
}
