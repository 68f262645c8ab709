//! `RevokeSession`: one session is over, everywhere, within a second.

use std::time::Duration;

use safeconduct_identity_domain::session::Bound;
use safeconduct_service::caller::{Caller, Role};
use safeconduct_telemetry::field;
use safeconduct_types::{ContactId, Refusal, SessionId, Subject, Timestamp, WorkspaceId};

use crate::Identity;
use crate::wire::contacts::{RevokeSession, SessionTarget};

/// How long a mark takes to be heeded everywhere.
pub(crate) const WITHIN: Duration = Duration::from_secs(1);

impl Identity {
    /// The record first, so that nothing is issued in the session any more; then the marks on whoever it belongs to and
    /// on the visitor that it was.
    pub(crate) async fn revoke_session(&self, caller: &Caller, asked: RevokeSession) -> Result<Timestamp, Refusal> {
        let now = self.ports.clock.now();
        let (workspace, session) = match asked.target {
            SessionTarget::Session(workspace, session) => {
                self.manages(caller, &workspace)?;
                (workspace, session)
            }
            SessionTarget::Assertion(assertion) => {
                caller.require(&[Role::Messenger, Role::Backend, Role::Operator], None)?;
                let audience = &self.settings.audience;
                let held = self.verifier().verify(assertion.expose(), now, caller.name(), audience)?;
                caller.require(&[Role::Messenger, Role::Backend, Role::Operator], Some(held.workspace()))?;
                (held.workspace().clone(), held.session().clone())
            }
        };
        let closed =
            self.sessions.change(&workspace, &session, |session| Ok(Bound::Upgraded(session.revoke()))).await?;
        let visitor = self.contacts.visitor(&workspace, &session);
        for contact in closed.bound().cloned().into_iter().chain([visitor]) {
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
        mark.expires = Some(ends.after(Duration::from_mins(2)));
        self.set(mark).await.map(drop)
    }
}
