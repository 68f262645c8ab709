//! `RevokeSession`: one session is over, everywhere, within a second.

use std::collections::BTreeSet;
use std::time::Duration;

use safeconduct_identity_domain::contact::visitor;
use safeconduct_identity_domain::session::Session;
use safeconduct_service::caller::{Caller, Role};
use safeconduct_telemetry::field;
use safeconduct_types::{ContactId, Refusal, SessionId, Subject, Timestamp, WorkspaceId};

use crate::Identity;
use crate::marks::CLOCK_MARGIN;
use crate::renew::GRACE;
use crate::wire::contacts::{RevokeSession, SessionTarget};

/// How long a mark takes to be heeded everywhere.
pub(crate) const WITHIN: Duration = Duration::from_secs(1);

impl Identity {
    /// The record first, so that nothing is issued in the session any more; then the marks on the visitor that it began
    /// as, which every assertion of it is held against, and on whoever it is known to belong to.
    ///
    /// Of most sessions nothing is stored: then it is stored that this one is over, for as long as there can be one.
    pub(crate) async fn revoke_session(&self, caller: &Caller, asked: RevokeSession) -> Result<Timestamp, Refusal> {
        let now = self.ports.clock.now();
        let (workspace, session, holder) = match asked.target {
            SessionTarget::Session(workspace, session) => {
                self.manages(caller, &workspace)?;
                (workspace, session, None)
            }
            SessionTarget::Assertion(assertion) => {
                caller.require(&[Role::Messenger, Role::Backend, Role::Operator], None)?;
                let audience = &self.settings.audience;
                // Whoever may renew it may end it.
                let verifier = self.verifier();
                let held = verifier.verify_for_renewal(assertion.expose(), now, caller.name(), audience, GRACE)?;
                caller.require(&[Role::Messenger, Role::Backend, Role::Operator], Some(held.workspace()))?;
                (held.workspace().clone(), held.session().clone(), Some(held.contact().id.clone()))
            }
        };
        let unknown = Session::start(session.clone(), workspace.clone(), now, self.settings.session_lifetime);
        let revoke = |session: Session| Ok(session.revoke());
        let closed = self.sessions.change(&workspace, &session, Some(unknown), revoke).await?;
        let known = closed.bound().cloned().into_iter().chain(holder);
        let contacts: BTreeSet<ContactId> = known.chain([visitor(&workspace, &session)]).collect();
        for contact in contacts {
            self.close(&workspace, contact, &session, closed.ends(), &asked.reason, caller).await?;
        }
        tracing::info!(
            { field::WORKSPACE } = %workspace, { field::CALLER } = %caller.name(), reason = asked.reason,
            "a session was revoked"
        );
        Ok(self.ports.clock.now().after(WITHIN))
    }

    async fn close(
        &self,
        workspace: &WorkspaceId,
        contact: ContactId,
        session: &SessionId,
        ends: Timestamp,
        reason: &str,
        caller: &Caller,
    ) -> Result<(), Refusal> {
        let subject = Subject::SessionRevoked(contact, session.clone());
        let mut mark = self.mark(workspace, subject, reason, caller.name().as_str());
        // What was issued in it does not outlive it.
        mark.expires = Some(ends.after(CLOCK_MARGIN));
        self.set(mark).await.map(drop)
    }
}
