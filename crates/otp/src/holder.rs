//! Whoever holds an assertion of a session.

use std::fmt;
use std::sync::Arc;

use safeconduct_admission_client::Mirror;
use safeconduct_identity_domain::assertion::{JwkSet, Seal, VerifiedContact, Verifier};
use safeconduct_service::caller::{Caller, Role};
use safeconduct_service::jwks_cache::JwksCache;
use safeconduct_types::{Clock, MarkCheck, Reason, Refusal, SecretText, Subject};

/// Checks assertions with identity's public keys, and the marks that end them.
pub(crate) struct Holders {
    keys: JwksCache<JwkSet>,
    seal: Arc<dyn Seal>,
    issuer: Arc<str>,
    audience: Arc<str>,
    mirror: Mirror,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holders")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// Which assertions of a session will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The latest.
    Latest,
    /// Also one from before the session was upgraded: who did not get the answer that upgraded it has no other.
    Earlier,
}

impl Holders {
    /// Assertions of `issuer` for the suite `audience`; `seal` opens their attributes, `mirror` knows what ended them.
    pub(crate) fn new(
        keys: JwksCache<JwkSet>,
        seal: Arc<dyn Seal>,
        issuer: &str,
        audience: &str,
        mirror: Mirror,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { keys, seal, issuer: issuer.into(), audience: audience.into(), mirror, clock }
    }

    /// The contact whose assertion this is, if the caller may present it, act here, and nothing has ended it. Codes are
    /// the messenger's matter: the agent neither asks for them nor sees them.
    pub(crate) async fn verify(
        &self,
        caller: &Caller,
        assertion: &SecretText,
        which: Which,
    ) -> Result<VerifiedContact, Refusal> {
        caller.require(&[Role::Messenger], None)?;
        let held = self.check(caller, assertion.expose()).await?;
        caller.require(&[Role::Messenger], Some(held.workspace()))?;
        self.heed(&held, which).await?;
        Ok(held)
    }

    /// Refuses an assertion that a mark has ended.
    pub(crate) async fn heed(&self, held: &VerifiedContact, which: Which) -> Result<(), Refusal> {
        let counts = |check: &MarkCheck| {
            which == Which::Latest || !matches!(check.key.subject, Subject::AssertionStale(_, Some(_)))
        };
        let marks: Vec<MarkCheck> = held.marks().into_iter().filter(counts).collect();
        self.mirror.heed(&marks).await
    }

    async fn check(&self, caller: &Caller, token: &str) -> Result<VerifiedContact, Refusal> {
        if token.is_empty() {
            return Err(Refusal::new(
                Reason::AssertionMissing,
                "send the assertion of the session; StartSession gives one",
            ));
        }
        let mut keys = self.keys.current().await?;
        let verifier =
            |keys: &Arc<JwkSet>| Verifier::new(Arc::clone(keys), Arc::clone(&self.seal), Arc::clone(&self.issuer));
        if verifier(&keys).needs_newer_keys(token) {
            keys = self.keys.newer_than(&keys).await;
        }
        verifier(&keys).verify(token, self.clock.now(), caller.name(), &self.audience)
    }
}
