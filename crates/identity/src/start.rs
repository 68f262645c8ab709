//! `StartSession`: the session of a visitor.

use safeconduct_identity_domain::contact::{Attributes, Contact, ContactKind, Method};
use safeconduct_identity_domain::session::Session;
use safeconduct_service::caller::Caller;
use safeconduct_types::{Reason, Refusal};

use crate::Identity;
use crate::issue::Issued;
use crate::verify::may_prove;
use crate::wire::StartSession;

impl Identity {
    pub(crate) async fn start_session(&self, caller: &Caller, asked: StartSession) -> Result<Issued, Refusal> {
        may_prove(caller, &asked.workspace, asked.states_device)?;
        if self.ports.workspaces.identity_policy(&asked.workspace).is_none() {
            return Err(Refusal::new(Reason::WorkspaceUnknown, "there is no such workspace"));
        }
        self.heed(&asked.workspace, None)?;
        let now = self.ports.clock.now();
        let session = Session::start(self.sessions.mint(), asked.workspace, now, self.settings.session_lifetime);
        self.sessions.create(&session).await?;
        let contact = Contact {
            id: self.contacts.visitor(session.workspace(), session.id()),
            kind: ContactKind::Visitor,
            attributes: Attributes::new(),
        };
        let presenters = asked.presenters.or_else_caller(caller.name());
        self.issue(session, contact, Method::None, presenters, now)
    }
}
