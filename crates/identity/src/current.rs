//! Whether what an assertion says is still so, by the records.

use safeconduct_identity_domain::assertion::VerifiedContact;
use safeconduct_identity_domain::contact::ContactKind;
use safeconduct_identity_domain::record::ContactRecord;
use safeconduct_identity_domain::session::Session;
use safeconduct_telemetry::field;
use safeconduct_types::{MarkCheck, Refusal, Subject, Timestamp};

use crate::Identity;
use crate::sessions::ended;

impl Identity {
    /// The session and the record behind an assertion, if nothing has closed them since: marks, which are quick, and the
    /// records, which outlive the loss of a mark. Whether the assertion itself is the latest is asked of the result.
    pub(crate) async fn behind(
        &self,
        held: &VerifiedContact,
        now: Timestamp,
    ) -> Result<(Session, Option<ContactRecord>), Refusal> {
        let contact = held.contact();
        tracing::Span::current().record(field::WORKSPACE, tracing::field::display(held.workspace()));
        self.traced(held.workspace(), &contact.id);
        // The records tell exactly whether it is stale, and a repeat may come with an older one.
        let closes = |check: &MarkCheck| !matches!(check.key.subject, Subject::AssertionStale(..));
        self.ports.mirror.heed(&held.marks().into_iter().filter(closes).collect::<Vec<_>>()).await?;
        let recorded = self.sessions.read(held.workspace(), held.session()).await?;
        let session = recorded.or_else(|| self.unrecorded(held)).ok_or_else(ended)?;
        session.is_open(now)?;
        if held.method().kind() == ContactKind::User {
            // An assertion that does not say which key proved the user is of an earlier version.
            self.still_accepts(held.workspace(), held.proven_by().unwrap_or_default()).await?;
        }
        let record = self.people.read(held.workspace(), &contact.id).await?;
        if let Some(record) = &record {
            record.admits_session(held.session_start())?;
        }
        Ok((session, record))
    }

    /// The assertion's session, if nothing is stored of it. That nothing is there and that something was lost are told
    /// apart by the epoch of the assertion and by the marks.
    pub(crate) fn unrecorded(&self, held: &VerifiedContact) -> Option<Session> {
        if self.was_upgraded(held) { None } else { Session::unrecorded(held, self.settings.session_lifetime) }
    }
}

/// Refuses an assertion from before the session was upgraded, or before a protected value changed.
pub(crate) fn latest(held: &VerifiedContact, session: &Session, record: Option<&ContactRecord>) -> Result<(), Refusal> {
    session.is_latest(held.epoch())?;
    record.map_or(Ok(()), |record| record.admits_issued(held.issued()))
}
