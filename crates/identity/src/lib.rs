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
//! A user is proven by user hash or by a signed token.

mod accept;
mod accepted;
mod contacts;
mod current;
mod delete_contact;
mod evidence;
mod find;
mod get_contact;
mod grpc;
mod issue;
mod issue_assertion;
mod jwks;
mod let_through;
mod list_proof_keys;
mod marks;
mod once;
mod proof;
mod rejections;
mod remote;
mod renew;
mod revoke_contact;
mod revoke_session;
mod seal;
mod sessions;
mod set_attributes;
mod signing;
mod signing_store;
mod start;
mod update_attributes;
mod verify;
mod wire;
mod workspaces;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{Admission, Erasing, Marking, Mirror};
use safeconduct_identity_domain::assertion::{JwksError, Seal, Verifier};
use safeconduct_identity_domain::attribute::AttributePolicy;
use safeconduct_identity_domain::contact::ContactHasher;
use safeconduct_service::keyring::{Key, KeyringError, Live, LiveKeyring, Purpose, Sealer};
use safeconduct_service::tasks::Tasks;
use safeconduct_store::{Records, StoreKeyer};
use safeconduct_telemetry::ContactHasher as TraceHasher;
use safeconduct_types::{Clock, Random, Timestamp, WorkspaceId};

pub use grpc::{IdentityGrpc, server};
pub use jwks::JWKS_PATH;
pub use seal::ClaimSealer;
pub use signing::SigningSet;
pub use signing_store::StoredSigning;
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
    /// Signs and checks assertions (purpose `assertion-signing`, or keys kept in the store).
    pub signing: Live<SigningSet>,
    /// Names contacts (purpose `contact-hashing`).
    pub contacts: ContactHasher,
    /// Names records (purpose `store-hashing`).
    pub store: StoreKeyer,
    /// Names contacts in spans (purpose `trace-hashing`).
    pub trace: TraceHasher,
    /// Seals the attributes within assertions (purpose `claim-sealing`).
    pub seal: Arc<dyn Seal>,
    /// Seals what is kept in records (purpose `record-sealing`).
    pub records: Sealer,
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
    /// Takes the service's keys out of its key file, and those that rotate again whenever that changes. `random` makes
    /// the nonces of what is sealed.
    pub fn from_keyring(file: &LiveKeyring, random: Arc<dyn Random>) -> Result<Self, KeysError> {
        let keyring = file.current();
        let secret = |purpose| keyring.primary(purpose).map(Key::secret);
        let sealer = file.sealer(Purpose::ClaimSealing, Arc::clone(&random))?;
        Ok(Self {
            signing: file.derive(SigningSet::of)?,
            records: file.sealer(Purpose::RecordSealing, random)?,
            contacts: ContactHasher::new(secret(Purpose::ContactHashing)?),
            store: StoreKeyer::new(secret(Purpose::StoreHashing)?),
            trace: TraceHasher::new(secret(Purpose::TraceHashing)?),
            seal: Arc::new(ClaimSealer::new(Arc::new(sealer))),
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("signing", &self.signing).finish_non_exhaustive()
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
    /// Where contacts are erased besides.
    pub erasing: Arc<dyn Erasing>,
    /// Where proofs that failed are counted.
    pub admission: Arc<dyn Admission>,
    /// What outlives the call that started it.
    pub tasks: Tasks,
}

/// The service, whatever it is reached by.
#[derive(Debug)]
pub struct Identity {
    settings: Settings,
    signing: Live<SigningSet>,
    seal: Arc<dyn Seal>,
    contacts: ContactHasher,
    trace: TraceHasher,
    issuer: Arc<str>,
    sessions: sessions::Sessions,
    people: contacts::Contacts,
    store: StoreKeyer,
    accepted: accepted::AllAccepted,
    remotes: remote::Remotes,
    evidence: Arc<evidence::Evidence>,
    rejections: rejections::Rejections,
    ports: Ports,
}

impl Identity {
    /// Puts the service together.
    pub fn new(settings: Settings, keys: Keys, ports: Ports) -> Arc<Self> {
        let clock = || Arc::clone(&ports.clock);
        let random = || Arc::clone(&ports.random);
        let admission = Arc::clone(&ports.admission);
        let records = Arc::clone(&ports.records);
        let vault = contacts::Vault::new(Arc::clone(&records), Arc::new(keys.records), random());
        Arc::new(Self {
            accepted: accepted::AllAccepted::new(clock()),
            remotes: remote::Remotes::new(clock()),
            evidence: Arc::new(evidence::Evidence::new(records, keys.store.clone(), random(), ports.tasks.clone())),
            rejections: rejections::Rejections::new(admission, keys.trace.clone(), clock(), random()),
            store: keys.store.clone(),
            issuer: settings.issuer.as_str().into(),
            people: contacts::Contacts::new(vault.clone(), keys.store.clone()),
            sessions: sessions::Sessions::new(vault, keys.store, random()),
            settings,
            signing: keys.signing,
            seal: keys.seal,
            contacts: keys.contacts,
            trace: keys.trace,
            ports,
        })
    }

    /// Adds what became of proofs, and which keys verified them, in the text format of Prometheus.
    pub fn metrics(&self, text: &mut String) {
        self.evidence.metrics(text);
    }

    /// Which attributes the workspace declares.
    pub(crate) fn attribute_policy(&self, workspace: &WorkspaceId) -> Arc<AttributePolicy> {
        self.ports.workspaces.attribute_policy(workspace)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// Checks assertions with the keys that count now.
    fn verifier(&self) -> Verifier {
        Verifier::new(Arc::clone(self.signing.get().published()), Arc::clone(&self.seal), Arc::clone(&self.issuer))
    }
}
