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
        if let Some(record) = self.people.read(&workspace, &contact).await? {
            record.admits_proofs()?;
        }
        let session = self.session_of(workspace, session, &contact, now).await?;
        let record = self.merge(&session, &contact, &proof, now).await?;
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

    /// The session that is the contact's: the given one, bound now, or one that starts with the proof.
    async fn session_of(
        &self,
        workspace: WorkspaceId,
        session: Option<SessionId>,
        contact: &ContactId,
        now: Timestamp,
    ) -> Result<Session, Refusal> {
        if let Some(id) = session {
            let session = self.sessions.bind(&workspace, &id, contact, now).await?;
            if session.epoch() > FIRST_EPOCH {
                let visitor = self.contacts.visitor(session.workspace(), session.id());
                self.end_earlier(&session, visitor, now).await?;
            }
            return Ok(session);
        }
        let lifetime = self.settings.session_lifetime;
        let session = Session::start_bound(self.sessions.mint(), workspace, contact.clone(), now, lifetime);
        self.sessions.create(&session).await?;
        Ok(session)
    }

    /// The contact's record with what the proof says. A proof that says nothing new writes nothing.
    async fn merge(
        &self,
        session: &Session,
        contact: &ContactId,
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
            let changed = Self::say(&mut record, &policy, proof, now);
            Ok(if is_new || revived || changed {
                let ends = Ends::from(record.ends(self.settings.session_lifetime));
                Edit::Put(record.clone(), ends, record)
            } else {
                Edit::Keep(record)
            })
        };
        let record = self.people.update(workspace, contact, merge).await?;
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
