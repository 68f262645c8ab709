//! Whoever failed to prove who they are, in a workspace that only reports that.

use safeconduct_identity_domain::assertion::VerifiedContact;
use safeconduct_identity_domain::contact::{Attributes, ContactKind, Method};
use safeconduct_types::{CallerName, Refusal, Timestamp, WorkspaceId};

use crate::Identity;
use crate::issue::{Issued, Making};

impl Identity {
    /// A visitor goes on in the visitor's session that they are in: what was said in it stays theirs. A session that is
    /// somebody's by now is left alone, and its bearer is the visitor of a new one.
    pub(crate) async fn let_through(
        &self,
        workspace: WorkspaceId,
        held: Option<&VerifiedContact>,
        presenters: Vec<CallerName>,
        now: Timestamp,
    ) -> Result<Issued, Refusal> {
        let Some(held) = held.filter(|held| held.contact().kind == ContactKind::Visitor) else {
            return self.begin(workspace, presenters, now).await;
        };
        self.heed(&workspace, None).await?;
        let (session, record) = self.behind(held, now).await?;
        if session.bound().is_some() {
            return self.begin(workspace, presenters, now).await;
        }
        let making = Making {
            contact: held.contact().id.clone(),
            named: Attributes::new(),
            record,
            method: Method::None,
            proven_by: None,
            presenters,
            proof_expires: session.ends(),
            session,
        };
        self.issue(making, now)
    }
}
