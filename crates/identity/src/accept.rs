//! What every proof of a user comes to: the contact's record, a session of theirs, and an assertion.

use safeconduct_identity_domain::assertion::VerifiedContact;
use safeconduct_identity_domain::attribute::{AttributePolicy, Writer, apply};
use safeconduct_identity_domain::contact::{Attributes, visitor};
use safeconduct_identity_domain::record::{ContactRecord, Named};
use safeconduct_identity_domain::session::{FIRST_EPOCH, Session};
use safeconduct_store::Ends;
use safeconduct_types::{CallerName, ContactId, Provenance, Refusal, Timestamp, WorkspaceId};

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
        session: Option<&VerifiedContact>,
        proof: Proof,
        presenters: Vec<CallerName>,
        now: Timestamp,
    ) -> Result<Issued, Refusal> {
        let contact = self.contacts.user(&workspace, &proof.identity);
        self.traced(&workspace, &contact);
        self.heed(&workspace, Some(&contact)).await?;
        let found = self.unblocked(&workspace, &contact).await?;
        let session = if let Some(held) = session {
            self.bound(held, &contact, now).await?
        } else {
            // Nothing is stored of it: that it is the contact's, its assertions say.
            let lifetime = self.settings.session_lifetime;
            Session::start_bound(self.sessions.mint(), workspace, contact.clone(), now, lifetime)
        };
        let record = self.merge(&session, &contact, found, &proof, now).await?;
        let proof_expires = session.ends().min(now.after(self.settings.proof_lifetime));
        let making = Making {
            contact,
            named: Attributes::from([proof.identity.attribute(proof.provenance, proof.proof_time)]),
            method: proof.method,
            proven_by: Some(proof.proof_mark),
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

    /// The session of the assertion, which is the contact's from now on.
    async fn bound(&self, held: &VerifiedContact, contact: &ContactId, now: Timestamp) -> Result<Session, Refusal> {
        let bind = |session: Session| session.bind(contact, now);
        let unrecorded = self.unrecorded(held);
        let session = self.sessions.change(held.workspace(), held.session(), unrecorded, bind).await?;
        if session.epoch() > FIRST_EPOCH {
            self.end_earlier(&session, visitor(session.workspace(), session.id()), now).await?;
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
