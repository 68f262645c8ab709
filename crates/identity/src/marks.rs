//! Marks at identity: who is blocked gets no new assertion, and an upgrade ends the assertions from before it.

use std::time::Duration;

use safeconduct_admission_client::{MirrorAnswer, SetMark, closed, lagging};
use safeconduct_identity_domain::session::Session;
use safeconduct_types::{
    ContactId, Deadline, MarkCheck, MarkKey, OperationId, Refusal, Subject, Timestamp, WorkspaceId,
};

use crate::Identity;

/// How long an upgrade waits for its mark.
const SET_WITHIN: Duration = Duration::from_secs(5);

impl Identity {
    /// Refuses a workspace that is disabled, and a contact that is blocked.
    pub(crate) fn heed(&self, workspace: &WorkspaceId, contact: Option<&ContactId>) -> Result<(), Refusal> {
        let blocked = contact.map(|contact| Subject::ContactBlocked(contact.clone()));
        let checks: Vec<MarkCheck> = [Subject::WorkspaceDisabled]
            .into_iter()
            .chain(blocked)
            .map(|subject| MarkCheck::any(MarkKey::new(workspace.clone(), subject)))
            .collect();
        self.answer(&checks)
    }

    /// Refuses what a mark closes; everything here is about a person, so not knowing is a no.
    pub(crate) fn answer(&self, checks: &[MarkCheck]) -> Result<(), Refusal> {
        match self.ports.mirror.check(checks, self.ports.clock.instant()) {
            MirrorAnswer::Clear => Ok(()),
            MirrorAnswer::Met(mark) => Err(closed(&mark)),
            MirrorAnswer::Lagging(_) => Err(lagging()),
        }
    }

    /// Ends the assertions that were issued for the visitor before the session was upgraded. Set before the upgrade is
    /// answered; a caller whose answer got lost asks again, and it is set again. The last of them ends with `until`.
    pub(crate) async fn end_earlier(&self, session: &Session, until: Timestamp) -> Result<(), Refusal> {
        let visitor = self.contacts.visitor(session.workspace(), session.id());
        let subject = Subject::AssertionStale(visitor, Some(session.id().clone()));
        let asked = SetMark {
            key: MarkKey::new(session.workspace().clone(), subject),
            // Only the epoch counts: the assertion that is about to be issued must not be met.
            effective: Some(Timestamp::from_seconds(0)),
            expires: Some(until),
            reason: "the session was upgraded".to_owned(),
            actor: "identity".to_owned(),
            min_epoch: session.epoch(),
            operation: OperationId::generate(&*self.ports.random),
        };
        let deadline = Deadline::within(self.ports.clock.instant(), SET_WITHIN);
        self.ports.marking.set_mark(asked, deadline).await.map(drop)
    }
}
