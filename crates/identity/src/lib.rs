//! The identity service: proves who a contact is.
//!
//! Owns: the RPCs of `safeconduct.identity.v1`, the records of sessions, the signing key and the public key set. The
//! rules (whether a proof proves, what a session may become, what an assertion says) are in `identity-domain`; here
//! they are given keys, time, chance and a store. Refuses to own: workspace files (they come through
//! [`WorkspaceDirectory`]), key files, listeners.
//!
//! # Threat model
//!
//! A caller is authenticated and may still be steered by an attacker (an agent is). So: a caller acts only in its
//! own workspaces and roles; a session to upgrade is taken only from a caller that may present its assertion; the
//! device's address is taken only from callers that see the device; a refusal says what to do and never which
//! secret, user or session exists. Nothing personal is in a span or log: a contact is a keyed hash there.
//!
//! This version proves by user hash. Everything else of the contract answers `UNIMPLEMENTED`.

mod grpc;
mod issue;
mod jwks;
mod marks;
mod seal;
mod sessions;
mod start;
mod verify;
mod wire;
mod workspaces;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{Marking, Mirror};
use safeconduct_identity_domain::assertion::{JwkSet, JwksError, Seal, SigningKey, Verifier};
use safeconduct_identity_domain::contact::ContactHasher;
use safeconduct_service::keyring::{Key, Keyring, KeyringError, Purpose, Sealer};
use safeconduct_store::{Records, StoreKeyer};
use safeconduct_telemetry::ContactHasher as TraceHasher;
use safeconduct_types::{Clock, Random};

pub use grpc::{IdentityGrpc, server};
pub use jwks::JWKS_PATH;
pub use seal::ClaimSealer;
pub use workspaces::WorkspaceDirectory;

/// What the operator decides about assertions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who issues them (`iss`), the same in all processes of the suite.
    pub issuer: String,
    /// For whom they are (`aud`), the same in all processes of the suite.
    pub audience: String,
    /// How long an assertion holds.
    pub assertion_lifetime: Duration,
    /// How long a proof by user hash counts before it has to be made again.
    pub proof_lifetime: Duration,
    /// How long a session can last; no proof in it counts for longer.
    pub session_lifetime: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            issuer: "safeconduct".to_owned(),
            audience: "safeconduct".to_owned(),
            assertion_lifetime: Duration::from_mins(15),
            proof_lifetime: Duration::from_hours(12),
            session_lifetime: Duration::from_hours(24),
        }
    }
}

/// The keys of the service.
pub struct Keys {
    /// Signs new assertions (purpose `assertion-signing`, the primary one).
    pub signing: SigningKey,
    /// Every key whose assertions may still live, the signing one included.
    pub published: JwkSet,
    /// Names contacts (purpose `contact-hashing`).
    pub contacts: ContactHasher,
    /// Names records (purpose `store-hashing`).
    pub store: StoreKeyer,
    /// Names contacts in spans (purpose `trace-hashing`).
    pub trace: TraceHasher,
    /// Seals the attributes within assertions (purpose `claim-sealing`).
    pub seal: Arc<dyn Seal>,
}

/// Why the service's keys cannot be used. Names the key file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A key is missing or unusable.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A signing key is not one.
    #[error("a key of purpose assertion-signing cannot be used: {0}")]
    Signing(#[from] JwksError),
}

impl Keys {
    /// Takes the service's keys out of its keyring. `random` makes the nonces of what is sealed.
    pub fn from_keyring(keyring: &Keyring, random: Arc<dyn Random>) -> Result<Self, KeysError> {
        let signs = |key: &Key| SigningKey::from_seed(key.id().as_str().to_owned().try_into()?, key.secret());
        let all = keyring.all(Purpose::AssertionSigning).map(signs).collect::<Result<Vec<_>, JwksError>>()?;
        let secret = |purpose| keyring.primary(purpose).map(Key::secret);
        let sealer = Sealer::new(keyring, Purpose::ClaimSealing, random)?;
        Ok(Self {
            signing: signs(keyring.primary(Purpose::AssertionSigning)?)?,
            published: SigningKey::public(&all)?,
            contacts: ContactHasher::new(secret(Purpose::ContactHashing)?),
            store: StoreKeyer::new(secret(Purpose::StoreHashing)?),
            trace: TraceHasher::new(secret(Purpose::TraceHashing)?),
            seal: Arc::new(ClaimSealer::new(Arc::new(sealer))),
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("signing", &self.signing)
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}

/// What the service stands on.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Where sessions are kept.
    pub records: Arc<dyn Records>,
    /// What the workspaces say.
    pub workspaces: Arc<dyn WorkspaceDirectory>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where session ids come from.
    pub random: Arc<dyn Random>,
    /// Which marks are in force.
    pub mirror: Mirror,
    /// Where marks are set.
    pub marking: Arc<dyn Marking>,
}

/// The service, whatever it is reached by.
#[derive(Debug)]
pub struct Identity {
    settings: Settings,
    signing: SigningKey,
    seal: Arc<dyn Seal>,
    contacts: ContactHasher,
    trace: TraceHasher,
    verifier: Verifier,
    jwks_json: String,
    sessions: sessions::Sessions,
    ports: Ports,
}

/// Keys that do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signing key is not among the published ones: nobody could check what it signs")]
pub struct UnpublishedKey;

impl Identity {
    /// Puts the service together.
    pub fn new(settings: Settings, keys: Keys, ports: Ports) -> Result<Arc<Self>, UnpublishedKey> {
        if !keys.published.contains(keys.signing.id()) {
            return Err(UnpublishedKey);
        }
        let jwks_json = keys.published.render();
        let issuer = settings.issuer.as_str().into();
        Ok(Arc::new(Self {
            verifier: Verifier::new(Arc::new(keys.published), Arc::clone(&keys.seal), issuer),
            sessions: sessions::Sessions::new(Arc::clone(&ports.records), keys.store, Arc::clone(&ports.random)),
            settings,
            signing: keys.signing,
            seal: keys.seal,
            contacts: keys.contacts,
            trace: keys.trace,
            jwks_json,
            ports,
        }))
    }
}
