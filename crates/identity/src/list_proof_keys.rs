//! `ListProofKeys`: what verifies proofs in a workspace, and when it last did.

use safeconduct_identity_domain::token::KeySet;
use safeconduct_identity_domain::workspace::{SecretRef, SecretUse};
use safeconduct_proto::identity::v1::ProofKeyKind;
use safeconduct_service::caller::Caller;
use safeconduct_telemetry::field;
use safeconduct_types::{Refusal, Timestamp, WorkspaceId};

use crate::Identity;
use crate::accepted::Accepted;

/// A secret or key, and when it last verified a proof in any process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProofKey {
    pub(crate) id: String,
    pub(crate) kind: ProofKeyKind,
    pub(crate) primary: bool,
    pub(crate) accepted: bool,
    pub(crate) last_use: Option<Timestamp>,
}

impl ProofKey {
    fn of_secret(accepted: &Accepted, secret: &SecretRef) -> Self {
        let secrets = &accepted.secrets;
        let (kind, is_accepted) = match secret.r#use {
            SecretUse::UserHash => (ProofKeyKind::UserHashSecret, secrets.hashes.mark(&secret.id).is_some()),
            SecretUse::Jwt => (ProofKeyKind::TokenSecret, secrets.tokens.contains(&secret.id)),
        };
        let primary = accepted.policy.is_primary(secret);
        Self { id: secret.id.clone(), kind, primary, accepted: is_accepted, last_use: None }
    }

    fn public(keys: &KeySet, kind: ProofKeyKind) -> impl Iterator<Item = Self> {
        let one = move |id: &str| Self { id: id.to_owned(), kind, primary: false, accepted: true, last_use: None };
        keys.iter().map(move |key| one(key.id()))
    }
}

impl Identity {
    pub(crate) async fn list_proof_keys(
        &self,
        caller: &Caller,
        workspace: &WorkspaceId,
    ) -> Result<Vec<ProofKey>, Refusal> {
        self.manages(caller, workspace)?;
        let accepted = self.accepted_by(workspace)?;
        let policy = &accepted.policy;
        let secrets = policy.secrets().iter().map(|secret| ProofKey::of_secret(&accepted, secret));
        let mut keys: Vec<ProofKey> = secrets.collect();
        keys.extend(ProofKey::public(policy.tokens().keys(), ProofKeyKind::PublicKey));
        if let Some(spec) = policy.tokens().jwks() {
            match self.remotes.keys(workspace, spec, None).await {
                Ok(fetched) => keys.extend(ProofKey::public(&fetched, ProofKeyKind::FetchedKey)),
                // They verify nothing now. What the workspace has itself is told all the same.
                Err(refusal) => {
                    let reason = refusal.reason().as_str();
                    tracing::warn!({ field::WORKSPACE } = %workspace, reason, "keys to list could not be fetched");
                }
            }
        }
        for key in &mut keys {
            key.last_use = self.evidence.last_use(workspace, &key.id).await?;
        }
        Ok(keys)
    }
}
