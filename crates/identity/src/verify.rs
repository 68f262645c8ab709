//! `VerifyIdentity`: a user proves who they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use safeconduct_identity_domain::assertion::VerifiedContact;
use safeconduct_identity_domain::contact::{Identity as Claimed, Method};
use safeconduct_identity_domain::token::{JwksSpec, KeySet, LEEWAY, Token};
use safeconduct_service::caller::{Caller, Role};
use safeconduct_types::{MarkCheck, Provenance, Reason, Refusal, SecretText, Subject, Timestamp, WorkspaceId};

use crate::accepted::Accepted;
use crate::evidence::{Kind, Verdict};
use crate::issue::Issued;
use crate::proof::Proof;
use crate::rejections::Failed;
use crate::wire::{self, VerifyIdentity};
use crate::{Identity, once};

/// What a proof that does not verify is answered, and whom it named.
struct Unproven {
    refusal: Refusal,
    claimed: Option<Claimed>,
}

impl From<Refusal> for Unproven {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, claimed: None }
    }
}

impl Identity {
    pub(crate) async fn verify_identity(&self, caller: &Caller, asked: VerifyIdentity) -> Result<Issued, Refusal> {
        may_prove(caller, &asked.workspace, asked.states_device)?;
        let now = self.ports.clock.now();
        let session = match &asked.session_assertion {
            Some(assertion) => Some(self.own_session(caller, &asked.workspace, assertion, now).await?),
            None => None,
        };
        let accepted = self.accepted_by(&asked.workspace)?;
        let (kind, proven) = match &asked.proof {
            wire::Proof::UserHash { claimed, hash } => (Kind::UserHash, prove_hash(&accepted, claimed, hash, now)),
            wire::Proof::Token(token) => (Kind::Token, self.prove_token(&asked.workspace, &accepted, token, now).await),
        };
        let presenters = asked.presenters.or_else_caller(caller.name());
        let proof = match proven {
            Ok(proof) => proof,
            Err(unproven) if unproven.refusal.reason() != Reason::ProofInvalid => return Err(unproven.refusal),
            Err(_) if !accepted.policy.enforce() => {
                self.evidence.count(&asked.workspace, kind, Verdict::Reported, now);
                return self.let_through(asked.workspace, session.as_ref(), presenters, now).await;
            }
            Err(unproven) => {
                self.evidence.count(&asked.workspace, kind, Verdict::Rejected, now);
                let claimed = unproven.claimed.map(|claimed| self.contacts.user(&asked.workspace, &claimed));
                let failed = Failed {
                    workspace: &asked.workspace,
                    caller: caller.name(),
                    session: session.as_ref().map(VerifiedContact::session),
                    network: asked.network,
                    claimed: claimed.as_ref(),
                };
                return Err(self.rejections.told(&failed, unproven.refusal).await);
            }
        };
        self.evidence.count(&asked.workspace, kind, Verdict::Verified, now);
        self.evidence.used(&asked.workspace, &proof.proof_id, now);
        self.accept(asked.workspace, session.as_ref(), proof, presenters, now).await
    }

    /// What verifies proofs in the workspace now.
    pub(crate) fn accepted_by(&self, workspace: &WorkspaceId) -> Result<Arc<Accepted>, Refusal> {
        let recall = |accepted: &Accepted| self.evidence.recall(workspace, accepted.ids());
        self.accepted.of(workspace, &*self.ports.workspaces, recall)
    }

    /// Refuses what rests on a proof by a key that was withdrawn since: who had the key may have made that proof.
    pub(crate) async fn still_accepts(&self, workspace: &WorkspaceId, mark: &str) -> Result<(), Refusal> {
        let accepted = self.accepted_by(workspace)?;
        if accepted.secrets.accepts(mark) {
            return Ok(());
        }
        if let Some(spec) = accepted.policy.tokens().jwks()
            && self.remotes.keys(workspace, spec, None).await?.accepts(mark)
        {
            return Ok(());
        }
        let what = "the key that proved the contact is no longer accepted; prove who the contact is again";
        Err(Refusal::new(Reason::AssertionStale, what).with_metadata("changed", "key"))
    }

    /// The assertion of a session that the caller may present. One from before an upgrade will do: a caller whose answer
    /// got lost has no other, and binding decides by the record.
    async fn own_session(
        &self,
        caller: &Caller,
        workspace: &WorkspaceId,
        assertion: &SecretText,
        now: Timestamp,
    ) -> Result<VerifiedContact, Refusal> {
        let held = self.verifier().verify(assertion.expose(), now, caller.name(), &self.settings.audience)?;
        if held.workspace() != workspace {
            return Err(Refusal::new(
                Reason::AssertionInvalid,
                "the session belongs to another workspace; start one in this workspace",
            ));
        }
        let is_current = |check: &MarkCheck| !matches!(check.key.subject, Subject::AssertionStale(..));
        self.ports.mirror.heed(&held.marks().into_iter().filter(is_current).collect::<Vec<_>>()).await?;
        Ok(held)
    }

    /// Whom the token proves. One that counts once is used up here, after everything that the token itself could be refused
    /// for; who is refused for the session or a block needs a new token.
    async fn prove_token(
        &self,
        workspace: &WorkspaceId,
        accepted: &Accepted,
        token: &SecretText,
        now: Timestamp,
    ) -> Result<Proof, Unproven> {
        let policy = accepted.policy.tokens();
        if !accepted.policy.accepts_tokens() {
            return Err(Refusal::new(Reason::ProofInvalid, "this workspace accepts no tokens").into());
        }
        let token = Token::parse(token.expose())?;
        let own = &accepted.secrets.tokens;
        let fetched;
        // The keys at hand first: what they signed does not wait for somebody else's server.
        let signed = match (own.verify(&token), policy.jwks()) {
            (None, Some(spec)) if may_be_fetched(own, &token, spec) => {
                fetched = self.remotes.keys(workspace, spec, token.key_id()).await?;
                fetched.verify(&token)
            }
            (signed, _) => signed,
        };
        let failed = |refusal| Unproven { refusal, claimed: token.claimed(policy) };
        let signed = signed.ok_or_else(|| failed(not_signed()))?;
        let declared = self.ports.workspaces.attribute_policy(workspace);
        let proven = signed.prove(policy, |name| declared.is_declared(name), now).map_err(failed)?;
        let contact = self.contacts.user(workspace, proven.identity());
        self.heed(workspace, Some(&contact)).await?;
        if let Some(once) = proven.once() {
            once::consume(&*self.ports.records, &self.store, &self.ports.random, workspace, once).await?;
        }
        Ok(Proof {
            identity: proven.identity().clone(),
            attributes: proven.attributes().clone(),
            provenance: Provenance::SignedToken,
            method: Method::Token,
            proof_id: signed.key().id().to_owned(),
            proof_mark: signed.key().mark().to_owned(),
            proof_time: proven.said(),
            // As long as the token itself would be accepted.
            expires: Some(proven.expires().after(LEEWAY)),
        })
    }
}

/// Whom the hash proves.
fn prove_hash(accepted: &Accepted, claimed: &Claimed, hash: &SecretText, now: Timestamp) -> Result<Proof, Unproven> {
    let Some(over) = accepted.policy.hashes() else {
        return Err(Refusal::new(Reason::ProofInvalid, "this workspace accepts no user hash").into());
    };
    if claimed.identifier() != over {
        let refusal = Refusal::invalid_field(
            format!("user_hash.{}", claimed.identifier().as_str()),
            format!("this workspace hashes `{0}`; send `{0}` and the hash of it", over.as_str()),
        );
        return Err(refusal.into());
    }
    let secrets = &accepted.secrets.hashes;
    if secrets.is_empty() {
        let problem = "no secret of the workspace can verify a user hash; its secrets need mending";
        return Err(Refusal::internal(problem).into());
    }
    let matched = secrets
        .verify(claimed, hash.expose())
        .map_err(|refusal| Unproven { refusal, claimed: Some(claimed.clone()) })?;
    Ok(Proof {
        identity: claimed.clone(),
        attributes: BTreeMap::new(),
        provenance: Provenance::SignedHash,
        method: Method::UserHash,
        proof_id: matched.secret.to_owned(),
        proof_mark: secrets.mark(matched.secret).unwrap_or_default().to_owned(),
        proof_time: now,
        expires: None,
    })
}

/// Whether a fetched key could have signed the token: none that the workspace's own keys answer for.
fn may_be_fetched(own: &KeySet, token: &Token<'_>, spec: &JwksSpec) -> bool {
    spec.algs.contains(&token.algorithm()) && token.key_id().is_none_or(|kid| !own.contains(kid))
}

fn not_signed() -> Refusal {
    Refusal::new(
        Reason::ProofInvalid,
        "the token is not accepted: no key of the workspace signed it with the algorithm that it says",
    )
}

pub(crate) fn unknown_workspace() -> Refusal {
    Refusal::new(Reason::WorkspaceUnknown, "there is no such workspace")
}

/// Whether the caller may bring proofs and sessions at all, here, and with what it says of the device.
pub(crate) fn may_prove(caller: &Caller, workspace: &WorkspaceId, states_device: bool) -> Result<(), Refusal> {
    caller.require(&[Role::Agent, Role::Messenger, Role::Backend], Some(workspace))?;
    if states_device {
        // An agent repeats what it was told; only who sees the device can say what it is.
        caller.require(&[Role::Messenger, Role::Backend, Role::Gateway], Some(workspace)).map_err(|_| {
            Refusal::new(
                Reason::CallerNotAllowed,
                "only callers of role messenger, backend or gateway may state `client_context`; leave it out",
            )
        })?;
    }
    Ok(())
}
