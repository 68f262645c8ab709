//! `VerifyIdentity`: a user proves who they are.

use std::time::Duration;

use safeconduct_identity_domain::contact::{Attributes, Contact, ContactKind, Identity as Claimed, Method};
use safeconduct_identity_domain::session::{FIRST_EPOCH, Session};
use safeconduct_identity_domain::user_hash::UserHashSecrets;
use safeconduct_service::caller::{Caller, Role};
use safeconduct_telemetry::field;
use safeconduct_types::{
    ContactId, MarkCheck, Provenance, Reason, Refusal, SecretText, SessionId, Subject, Timestamp, WorkspaceId,
};

use crate::Identity;
use crate::issue::Issued;
use crate::wire::{Proof, VerifyIdentity};

/// How far clocks may differ: a mark on assertions outlives them by it.
const CLOCK_MARGIN: Duration = Duration::from_mins(1);

impl Identity {
    pub(crate) async fn verify_identity(&self, caller: &Caller, asked: VerifyIdentity) -> Result<Issued, Refusal> {
        may_prove(caller, &asked.workspace, asked.states_device)?;
        let now = self.ports.clock.now();
        let session = match &asked.session_assertion {
            Some(assertion) => Some(self.own_session(caller, &asked.workspace, assertion, now)?),
            None => None,
        };
        let claimed = match asked.proof {
            Proof::UserHash { claimed, hash } => self.prove(&asked.workspace, claimed, &hash)?,
            Proof::Jwt => {
                return Err(Refusal::new(
                    Reason::Unimplemented,
                    "this version verifies no tokens; send the user hash instead",
                ));
            }
        };
        let contact = self.contacts.user(&asked.workspace, &claimed);
        tracing::Span::current().record(field::CONTACT, self.trace.hash(&asked.workspace, contact.as_str()));
        self.heed(&asked.workspace, Some(&contact))?;
        let session = self.bound(asked.workspace, session, &contact, now).await?;
        let attributes = Attributes::from([claimed.attribute(Provenance::SignedHash, now)]);
        let contact = Contact { id: contact, kind: ContactKind::User, attributes };
        let presenters = asked.presenters.or_else_caller(caller.name());
        self.issue(session, contact, Method::UserHash, presenters, now)
    }

    /// The session that the caller holds an assertion of. An assertion from before an upgrade will do: a caller whose
    /// answer got lost has no other, and binding decides by the record.
    fn own_session(
        &self,
        caller: &Caller,
        workspace: &WorkspaceId,
        assertion: &SecretText,
        now: Timestamp,
    ) -> Result<SessionId, Refusal> {
        let held = self.verifier.verify(assertion.expose(), now, caller.name(), &self.settings.audience)?;
        if held.workspace() != workspace {
            return Err(Refusal::new(
                Reason::AssertionInvalid,
                "the session belongs to another workspace; start one in this workspace",
            ));
        }
        let is_current = |check: &MarkCheck| !matches!(check.key.subject, Subject::AssertionStale(..));
        self.answer(&held.marks().into_iter().filter(is_current).collect::<Vec<_>>())?;
        Ok(held.session().clone())
    }

    /// The identity, if the hash proves it.
    fn prove(&self, workspace: &WorkspaceId, claimed: Claimed, hash: &SecretText) -> Result<Claimed, Refusal> {
        let policy = self
            .ports
            .workspaces
            .identity_policy(workspace)
            .ok_or_else(|| Refusal::new(Reason::WorkspaceUnknown, "there is no such workspace"))?;
        let Some(over) = policy.hashes() else {
            return Err(Refusal::new(Reason::ProofInvalid, "this workspace accepts no user hash"));
        };
        if claimed.identifier() != over {
            return Err(Refusal::invalid_field(
                format!("user_hash.{}", claimed.identifier().as_str()),
                format!("this workspace hashes `{0}`; send `{0}` and the hash of it", over.as_str()),
            ));
        }
        let (secrets, problems) = UserHashSecrets::load(&policy, |name| self.ports.workspaces.secret(workspace, name));
        for problem in problems {
            tracing::warn!({ field::WORKSPACE } = %workspace, %problem, "a secret of the workspace is not accepted");
        }
        if secrets.is_empty() {
            return Err(Refusal::internal(
                "no secret of the workspace can verify a user hash; its secrets need mending",
            ));
        }
        match secrets.verify(&claimed, hash.expose()) {
            Ok(matched) => {
                tracing::info!(
                    { field::WORKSPACE } = %workspace, secret = matched.secret, primary = matched.primary,
                    "a user hash was verified"
                );
                Ok(claimed)
            }
            Err(refusal) => {
                tracing::info!({ field::WORKSPACE } = %workspace, "a user hash was rejected");
                Err(refusal)
            }
        }
    }

    /// The session that is the contact's: the given one, bound now, or one that starts with the proof.
    async fn bound(
        &self,
        workspace: WorkspaceId,
        session: Option<SessionId>,
        contact: &ContactId,
        now: Timestamp,
    ) -> Result<Session, Refusal> {
        if let Some(id) = session {
            let session = self.sessions.bind(&workspace, &id, contact).await?;
            if session.epoch() > FIRST_EPOCH {
                self.end_earlier(&session, now.after(self.settings.assertion_lifetime + CLOCK_MARGIN)).await?;
            }
            return Ok(session);
        }
        let lifetime = self.settings.session_lifetime;
        let session = Session::start_bound(self.sessions.mint(), workspace, contact.clone(), now, lifetime);
        self.sessions.create(&session).await?;
        Ok(session)
    }
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
