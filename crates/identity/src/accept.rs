//! What every proof of a user comes to: the contact's record, a session of theirs, and an assertion.

use safeconduct_identity_domain::attribute::{AttributePolicy, Writer, apply};
use safeconduct_identity_domain::contact::Attributes;
use safeconduct_identity_domain::record::{ContactRecord, Named};
use safeconduct_identity_domain::session::{FIRST_EPOCH, Session};
use safeconduct_store::Ends;
use safeconduct_telemetry::field;
use safeconduct_types::{CallerName, ContactId, Provenance, Refusal, SessionId, Timestamp, WorkspaceId};

use crate::Identity;
use crate::contacts::Edit;
use crate::issue::{Issued, Making};
use crate::proof::Proof;

impl Identity {
    /// Takes in a proof of a user: refuses who is blocked, binds the session (or starts one), merges what the proof says
    /// into the contact's record, and issues the assertion.
    pub(crate) async fn accept(
        &self,
        workspace: WorkspaceId,
        session: Option<SessionId>,
        proof: Proof,
        presenters: Vec<CallerName>,
        now: Timestamp,
    ) -> Result<Issued, Refusal> {
        let contact = self.contacts.user(&workspace, &proof.identity);
        tracing::Span::current().record(field::CONTACT, self.trace.hash(&workspace, contact.as_str()));
        self.heed(&workspace, Some(&contact))?;
        let (session, found) = if let Some(id) = session {
            let found = self.unblocked(&workspace, &contact).await?;
            (self.bound(&workspace, &id, &contact, &proof, now).await?, found)
        } else {
            let lifetime = self.settings.session_lifetime;
            let new = Session::start_bound(self.sessions.mint(), workspace.clone(), contact.clone(), now, lifetime)
                .by(&proof.proof_mark);
            let (found, ()) = tokio::try_join!(self.unblocked(&workspace, &contact), self.sessions.create(&new))?;
            (new, found)
        };
        let record = self.merge(&session, &contact, found, &proof, now).await?;
        let proof_expires = session.ends().min(now.after(self.settings.proof_lifetime));
        let making = Making {
            contact,
            named: Attributes::from([proof.identity.attribute(proof.provenance, proof.proof_time)]),
            method: proof.method,
            presenters,
            proof_expires: proof.expires.map_or(proof_expires, |expires| proof_expires.min(expires)),
            record: Some(record),
            session,
        };
        self.issue(making, now)
    }

    /// The contact's record, if there is one; refused if it is blocked.
    pub(crate) async fn unblocked(
        &self,
        workspace: &WorkspaceId,
        contact: &ContactId,
    ) -> Result<Option<ContactRecord>, Refusal> {
        let found = self.people.read(workspace, contact).await?;
        found.as_ref().map_or(Ok(()), ContactRecord::admits_proofs)?;
        Ok(found)
    }

    /// The given session, which is the contact's from now on.
    async fn bound(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
        contact: &ContactId,
        proof: &Proof,
        now: Timestamp,
    ) -> Result<Session, Refusal> {
        let session = self.sessions.bind(workspace, id, contact, &proof.proof_mark, now).await?;
        if session.epoch() > FIRST_EPOCH {
            let visitor = self.contacts.visitor(session.workspace(), session.id());
            self.end_earlier(&session, visitor, now).await?;
        }
        Ok(session)
    }

    /// The contact's record with what the proof says. A proof that says nothing new to what was `found` writes nothing,
    /// and does not read it again.
    async fn merge(
        &self,
        session: &Session,
        contact: &ContactId,
        found: Option<ContactRecord>,
        proof: &Proof,
        now: Timestamp,
    ) -> Result<ContactRecord, Refusal> {
        let workspace = session.workspace();
        let policy = self.ports.workspaces.attribute_policy(workspace);
        let named = Named::user(&proof.identity);
        let merge = |found: Option<ContactRecord>| {
            let is_new = found.is_none();
            let mut record = found.unwrap_or_else(|| ContactRecord::new(named.clone(), now));
            record.admits_session(session.started())?;
            let revived = record.revive(&named, now);
            // What is issued until the record is stored has the old values: that counts from here, not from when the proof came.
            let changed = Self::say(&mut record, &policy, proof, self.now());
            Ok(if is_new || revived || changed {
                let ends = Ends::from(record.ends(self.settings.session_lifetime));
                Edit::Put(record.clone(), ends, record)
            } else {
                Edit::Keep(record)
            })
        };
        let record = match merge(found)? {
            Edit::Keep(record) => record,
            Edit::Put(..) | Edit::Delete(_) => self.people.update(workspace, contact, merge).await?,
        };
        self.end_stale(workspace, contact, &record, now).await?;
        Ok(record)
    }

    /// Applies what a token says. Its time is cut to now: it may come from a clock that is ahead.
    fn say(record: &mut ContactRecord, policy: &AttributePolicy, proof: &Proof, now: Timestamp) -> bool {
        if proof.provenance != Provenance::SignedToken || proof.attributes.is_empty() {
            return false;
        }
        let said = proof.proof_time.min(now);
        let changes = proof.attributes.iter().map(|(name, value)| {
            // A claim that is null says nothing: only the backend removes.
            (name.clone(), Some(value.clone()).filter(|value| !value.is_null()))
        });
        let stated = changes.filter(|(_, value)| value.is_some());
        let first = record.changed.is_none() && record.attributes.is_empty();
        let applied = apply(record, policy, Writer::Token(&proof.proof_id), stated, said);
        if applied.changed {
            record.updated = now;
        }
        // Nobody can hold an assertion from before the first values.
        if applied.protected_changed && !first {
            record.changes(now);
        }
        applied.changed
    }
}
