//! Who a request is for: the one way from a token to a contact.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use safeconduct_connector_domain::contact::{AttributeValue, ContactKind, ContactView};
use safeconduct_identity_domain::assertion::{JwkSet, Seal, VerifiedContact, Verifier};
use safeconduct_identity_domain::contact as identity;
use safeconduct_service::jwks_cache::JwksCache;
use safeconduct_types::{CallerName, Clock, Refusal};

/// Checks assertions with identity's public keys; asks identity only for keys it does not know.
pub struct Contacts {
    keys: JwksCache<JwkSet>,
    seal: Arc<dyn Seal>,
    issuer: Arc<str>,
    audience: Arc<str>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Contacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contacts")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl Contacts {
    /// Assertions of `issuer` for the suite `audience`; `seal` opens their attributes.
    pub fn new(
        keys: JwksCache<JwkSet>,
        seal: Arc<dyn Seal>,
        issuer: &str,
        audience: &str,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { keys, seal, issuer: issuer.into(), audience: audience.into(), clock }
    }

    pub(crate) async fn verify(&self, token: &str, presenter: &CallerName) -> Result<VerifiedContact, Refusal> {
        let known = self.keys.current().await?;
        let verifier = self.verifier(&known);
        let verifier = if verifier.needs_newer_keys(token) {
            self.verifier(&self.keys.newer_than(&known).await)
        } else {
            verifier
        };
        verifier.verify(token, self.clock.now(), presenter, &self.audience)
    }

    fn verifier(&self, keys: &Arc<JwkSet>) -> Verifier {
        Verifier::new(Arc::clone(keys), Arc::clone(&self.seal), Arc::clone(&self.issuer))
    }
}

/// The contact as connectors see it.
pub(crate) fn view(verified: &VerifiedContact) -> ContactView {
    let contact = verified.contact();
    let attributes: BTreeMap<String, AttributeValue> = contact
        .attributes
        .iter()
        .map(|(name, one)| {
            let value = AttributeValue {
                value: one.value.clone(),
                provenance: one.provenance,
                proof_time: Some(one.proof_time),
            };
            (name.clone(), value)
        })
        .collect();
    let kind = match contact.kind {
        identity::ContactKind::Visitor => ContactKind::Visitor,
        identity::ContactKind::Lead => ContactKind::Lead,
        identity::ContactKind::User => ContactKind::User,
    };
    ContactView { id: contact.id.clone(), kind, attributes }
}
