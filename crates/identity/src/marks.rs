//! Marks at identity: who is blocked gets no new assertion, and an upgrade ends the assertions from before it.

use std::time::Duration;

use safeconduct_admission_client::{MirrorAnswer, SetMark};
use safeconduct_identity_domain::assertion::VerifiedContact;
use safeconduct_identity_domain::record::ContactRecord;
use safeconduct_identity_domain::session::Session;
use safeconduct_types::{
    ContactId, Deadline, Mark, MarkCheck, MarkKey, OperationId, Refusal, Subject, Timestamp, WorkspaceId,
};

use crate::Identity;

/// How far clocks may differ, and for how long after its end an assertion may be renewed: marks on assertions, and the
/// records of sessions, outlive them by it.
pub(crate) const CLOCK_MARGIN: Duration = Duration::from_mins(2);
/// How long an upgrade waits for its mark.
const SET_WITHIN: Duration = Duration::from_secs(5);

impl Identity {
    /// Refuses a workspace that is disabled, and a contact that is blocked.
    pub(crate) async fn heed(&self, workspace: &WorkspaceId, contact: Option<&ContactId>) -> Result<(), Refusal> {
        let blocked = contact.map(|contact| Subject::ContactBlocked(contact.clone()));
        let checks: Vec<MarkCheck> = [Subject::WorkspaceDisabled]
            .into_iter()
            .chain(blocked)
            .map(|subject| MarkCheck::any(MarkKey::new(workspace.clone(), subject)))
            .collect();
        self.ports.mirror.heed(&checks).await
    }

    /// Ends the assertions that were issued in the session before it was upgraded: to `before`, whom it belonged to then.
    /// Set before the upgrade is answered; a caller whose answer got lost asks again, and it is set again.
    pub(crate) async fn end_earlier(
        &self,
        session: &Session,
        before: ContactId,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let subject = Subject::AssertionStale(before, Some(session.id().clone()));
        let earlier = MarkCheck {
            key: MarkKey::new(session.workspace().clone(), subject.clone()),
            since: Some(now),
            epoch: session.epoch().saturating_sub(1),
        };
        if self.is_met(earlier) {
            return Ok(());
        }
        let asked = SetMark {
            // Only the epoch counts: the assertion that is about to be issued must not be met.
            effective: Some(Timestamp::from_seconds(0)),
            expires: Some(self.none_left(now)),
            min_epoch: session.epoch(),
            ..self.mark(session.workspace(), subject, "the session was upgraded", "identity")
        };
        self.set(asked).await.map(drop)
    }

    /// Makes the assertions stale that are older than the record's last change of a protected value. Set again as long
    /// as there can be any: whoever set the value may not have heard that it was done.
    pub(crate) async fn end_stale(
        &self,
        workspace: &WorkspaceId,
        contact: &ContactId,
        record: &ContactRecord,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(changed) = record.changed.filter(|changed| self.none_left(*changed) > now) else { return Ok(()) };
        let check = MarkCheck {
            key: MarkKey::new(workspace.clone(), Subject::AssertionStale(contact.clone(), None)),
            since: Some(changed),
            epoch: 0,
        };
        let subject = check.key.subject.clone();
        if self.is_met(check) {
            return Ok(());
        }
        let asked = SetMark {
            effective: Some(changed),
            expires: Some(self.none_left(changed)),
            ..self.mark(workspace, subject, "a protected value was changed", "identity")
        };
        self.set(asked).await.map(drop)
    }

    /// Whether the assertion's session was upgraded since, by the marks. They tell it even if the record is lost.
    pub(crate) fn was_upgraded(&self, held: &VerifiedContact) -> bool {
        let of_session = |check: &MarkCheck| matches!(check.key.subject, Subject::AssertionStale(_, Some(_)));
        held.marks().into_iter().filter(of_session).any(|check| self.is_met(check))
    }

    /// Whether it is known everywhere already; asking that costs nothing, setting it again a call.
    fn is_met(&self, check: MarkCheck) -> bool {
        matches!(self.ports.mirror.check(&[check], self.ports.clock.instant()), MirrorAnswer::Met(_))
    }

    /// When the last assertion that was issued until then is over, with room for clocks that differ.
    fn none_left(&self, issued: Timestamp) -> Timestamp {
        issued.after(self.settings.assertion_lifetime + CLOCK_MARGIN)
    }

    /// A mark on `subject` from now on, for good.
    pub(crate) fn mark(&self, workspace: &WorkspaceId, subject: Subject, reason: &str, actor: &str) -> SetMark {
        SetMark {
            key: MarkKey::new(workspace.clone(), subject),
            effective: None,
            expires: None,
            reason: reason.to_owned(),
            actor: actor.to_owned(),
            min_epoch: 0,
            operation: OperationId::generate(&*self.ports.random),
        }
    }

    pub(crate) async fn set(&self, asked: SetMark) -> Result<Mark, Refusal> {
        self.ports.marking.set_mark(asked, self.patience()).await
    }

    /// Until when admission is waited for.
    pub(crate) fn patience(&self) -> Deadline {
        Deadline::within(self.ports.clock.instant(), SET_WITHIN)
    }
}
