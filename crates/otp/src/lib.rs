//! The otp service: proves that a lead controls an address.
//!
//! Owns: the RPCs of `safeconduct.otp.v1`, the records of verifications, the outbox and the delivery of messages. The
//! rules (what a challenge may become, how a code is derived, what is one address, how much of everything) are in
//! `otp-domain`; here they are given keys, time, chance, a store and admission's counters. What is proven is said by
//! identity ([`IdentityPort`]). Refuses to own: contacts (nobody is looked up here), workspace files, key files,
//! listeners. `README.md` says what is guaranteed, with the arithmetic.
//!
//! # Threat model
//!
//! Sessions cost an attacker nothing, addresses are known or guessed, requests come by the thousand at once. So: a code
//! is bound to the session that asked for it, and the assertion of that session is needed to try it; a guess is written
//! before its verdict is told; guesses at an address are counted over all sessions and networks, and messages, too;
//! what is counted falls on who asks first; and no counter can be used up against the owner of an address for good.
//! Nothing is looked up, so nothing can be enumerated. An agent (role agent) neither asks for codes nor sees them.
//!
//! Not held here: who reads the mailbox or the phone; a caller of role messenger that lies about the device's address.

mod check;
pub mod delivery;
mod grpc;
mod holder;
mod identity;
mod look;
pub mod outbox;
mod resend;
mod spend;
mod start;
mod verifications;
mod wire;
mod workspaces;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use safeconduct_admission_client::{Admission, Mirror};
use safeconduct_identity_domain::assertion::{JwkSet, Seal, VerifiedContact};
use safeconduct_otp_domain::budget::Namer;
use safeconduct_otp_domain::challenge::{Challenge, Delivery};
use safeconduct_otp_domain::code::{CodeKey, CodeKeys};
use safeconduct_service::jwks_cache::JwksCache;
use safeconduct_service::keyring::{Key, Keyring, KeyringError, Live, LiveKeyring, Purpose, Sealer};
use safeconduct_store::{Records, StoreKeyer};
use safeconduct_telemetry::{ContactHasher as TraceHasher, field};
use safeconduct_types::{Clock, Random, Refusal};

pub use grpc::{OtpGrpc, server};
pub use identity::{GrpcIdentity, IdentityPort, Issued, Proven};
pub use verifications::Verifications;
pub use workspaces::WorkspaceDirectory;

use outbox::{Message, Outbox};

/// What the operator decides about assertions, the same in all processes of the suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who issues them (`iss`).
    pub issuer: String,
    /// For whom they are (`aud`).
    pub audience: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { issuer: "safeconduct".to_owned(), audience: "safeconduct".to_owned() }
    }
}

/// The keys of the service.
pub struct Keys {
    /// Derive codes (purpose `code-derivation`): old ones verify until their challenges have expired.
    pub codes: Live<CodeKeys>,
    /// Names records (purpose `store-hashing`).
    pub store: StoreKeyer,
    /// Names counters (purpose `store-hashing`).
    pub namer: Namer,
    /// Seals records (purpose `record-sealing`).
    pub sealer: Arc<Sealer>,
    /// Names contacts in spans (purpose `trace-hashing`).
    pub trace: TraceHasher,
    /// Opens the attributes within assertions (purpose `claim-sealing`).
    pub seal: Arc<dyn Seal>,
}

impl Keys {
    /// The keys of the service, which follow its keyring. `random` makes the nonces of what is sealed; `seal` opens
    /// claims.
    pub fn follow(keyring: &LiveKeyring, seal: Arc<dyn Seal>, random: Arc<dyn Random>) -> Result<Self, KeyringError> {
        let now = keyring.current();
        let secret = |purpose| now.primary(purpose).map(Key::secret);
        Ok(Self {
            codes: keyring.derive(code_keys)?,
            store: StoreKeyer::new(secret(Purpose::StoreHashing)?),
            namer: Namer::new(secret(Purpose::StoreHashing)?),
            sealer: Arc::new(keyring.sealer(Purpose::RecordSealing, random)?),
            trace: TraceHasher::new(secret(Purpose::TraceHashing)?),
            seal,
        })
    }
}

fn code_keys(keyring: &Keyring) -> Result<CodeKeys, KeyringError> {
    let named = |key: &Key| (key.id().as_str().to_owned(), CodeKey::new(key.secret()));
    let primary = named(keyring.primary(Purpose::CodeDerivation)?);
    Ok(CodeKeys::new(primary, keyring.all(Purpose::CodeDerivation).map(named)))
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("codes", &self.codes).finish_non_exhaustive()
    }
}

/// What the service stands on.
pub struct Ports {
    /// Where verifications are kept.
    pub records: Arc<dyn Records>,
    /// What the workspaces say.
    pub workspaces: Arc<dyn WorkspaceDirectory>,
    /// What counts.
    pub admission: Arc<dyn Admission>,
    /// Which marks are in force.
    pub mirror: Mirror,
    /// Identity's public keys.
    pub jwks: JwksCache<JwkSet>,
    /// Who says what was proven.
    pub identity: Arc<dyn IdentityPort>,
    /// Where messages are put.
    pub outbox: Arc<dyn Outbox>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
}

/// The service, whatever it is reached by.
pub struct Otp {
    holders: holder::Holders,
    verifications: Arc<Verifications>,
    workspaces: Arc<dyn WorkspaceDirectory>,
    admission: Arc<dyn Admission>,
    identity: Arc<dyn IdentityPort>,
    outbox: Arc<dyn Outbox>,
    trace: TraceHasher,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for Otp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otp").field("holders", &self.holders).finish_non_exhaustive()
    }
}

impl Otp {
    /// Puts the service together.
    pub fn new(settings: &Settings, keys: Keys, ports: Ports) -> Arc<Self> {
        let Keys { codes, store, namer, sealer, trace, seal } = keys;
        let Ports { records, workspaces, admission, mirror, jwks, identity, outbox, clock, random } = ports;
        let verifications = Verifications::new(verifications::Parts {
            records,
            keyer: store,
            namer,
            sealer,
            codes,
            workspaces: Arc::clone(&workspaces),
            random: Arc::clone(&random),
        });
        let (issuer, audience) = (&settings.issuer, &settings.audience);
        let holders = holder::Holders::new(jwks, seal, issuer, audience, mirror, Arc::clone(&clock));
        Arc::new(Self { holders, verifications, workspaces, admission, identity, outbox, trace, clock, random })
    }

    /// The verifications, as whoever sends their messages sees them.
    pub fn verifications(&self) -> &Arc<Verifications> {
        &self.verifications
    }

    /// Tells the span whose call it is.
    fn note(&self, held: &VerifiedContact) {
        tracing::Span::current().record(field::WORKSPACE, held.workspace().as_str());
        self.trace.tell_span(held.workspace(), held.contact().id.as_str());
    }

    /// Puts the challenge's latest message where it will be sent from.
    async fn send(&self, challenge: &Challenge) -> Result<(), Refusal> {
        self.outbox.enqueue(message(challenge)).await
    }

    /// The same once more, should it have got lost. What was sent is not sent again, and what waits, waits once.
    async fn send_again(&self, challenge: &Challenge) -> Result<(), Refusal> {
        if challenge.facts().delivery != Delivery::Queued {
            return Ok(());
        }
        self.outbox.enqueue_again(message(challenge)).await
    }
}

/// The challenge's latest message.
fn message(challenge: &Challenge) -> Message {
    let facts = challenge.facts();
    Message {
        workspace: facts.binding.workspace.clone(),
        verification_id: facts.id.to_string(),
        to: facts.binding.address.clone(),
        locale: facts.locale.as_ref().map(ToString::to_string).unwrap_or_default(),
        purpose: facts.binding.purpose.clone(),
        expires: facts.expires,
        send_number: facts.sends.into(),
    }
}
