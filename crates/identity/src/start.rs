//! `StartSession`: the session of a visitor.

use safeconduct_identity_domain::contact::{Attributes, Method, visitor};
use safeconduct_identity_domain::session::Session;
use safeconduct_service::caller::Caller;
use safeconduct_types::{CallerName, Refusal, Timestamp, WorkspaceId};

use crate::Identity;
use crate::issue::{Issued, Making};
use crate::verify::{may_prove, unknown_workspace};
use crate::wire::StartSession;

impl Identity {
    pub(crate) async fn start_session(&self, caller: &Caller, asked: StartSession) -> Result<Issued, Refusal> {
        may_prove(caller, &asked.workspace, asked.states_device)?;
        if self.ports.workspaces.identity_policy(&asked.workspace).is_none() {
            return Err(unknown_workspace());
        }
        let presenters = asked.presenters.or_else_caller(caller.name());
        self.begin(asked.workspace, presenters, self.ports.clock.now()).await
    }

    /// A new session of nobody yet. Nothing is stored of it.
    pub(crate) async fn begin(
        &self,
        workspace: WorkspaceId,
        presenters: Vec<CallerName>,
        now: Timestamp,
    ) -> Result<Issued, Refusal> {
        self.heed(&workspace, None).await?;
        let session = Session::start(self.sessions.mint(), workspace, now, self.settings.session_lifetime);
        let making = Making {
            contact: visitor(session.workspace(), session.id()),
            named: Attributes::new(),
            record: None,
            method: Method::None,
            proven_by: None,
            presenters,
            // A visitor has no proof that could age; its session ends.
            proof_expires: session.ends(),
            session,
        };
        self.issue(making, now)
    }
}
