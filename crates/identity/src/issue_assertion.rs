//! `IssueAssertion`: otp has proven an address. A visitor becomes a lead; who is somebody already stays so and has the
//! address besides.

use std::time::Duration;

use safeconduct_identity_domain::contact::{Attribute, Attributes, ContactKind, Method};
use safeconduct_identity_domain::record::{ContactRecord, Named};
use safeconduct_identity_domain::session::{AddressProof, Session};
use safeconduct_service::caller::{Caller, Role};
use safeconduct_store::Ends;
use safeconduct_types::{Channel, ContactId, Reason, Refusal, SecretText, Timestamp, WorkspaceId};

use crate::Identity;
use crate::contacts::Edit;
use crate::current::latest;
use crate::issue::{Issued, Making};
use crate::renew::named;

/// An address that was proven.
pub(crate) struct ProvenAddress {
    pub(crate) channel: Channel,
    /// The canonical one.
    pub(crate) address: String,
    pub(crate) proven: Timestamp,
    pub(crate) lifetime: Duration,
}

impl ProvenAddress {
    fn proof(&self, expires: Timestamp) -> AddressProof {
        let address = Attribute {
            value: self.address.clone().into(),
            provenance: self.channel.proves(),
            proof_time: self.proven,
        };
        AddressProof { channel: self.channel, address, expires }
    }
}

pub(crate) struct IssueAssertion {
    pub(crate) workspace: WorkspaceId,
    pub(crate) assertion: SecretText,
    pub(crate) address: ProvenAddress,
    pub(crate) verification: String,
}

impl Identity {
    /// Each verification upgrades the session once; a repeat answers the same.
    pub(crate) async fn issue_assertion(&self, caller: &Caller, asked: IssueAssertion) -> Result<Issued, Refusal> {
        caller.require(&[Role::Service], Some(&asked.workspace))?;
        let now = self.ports.clock.now();
        let audience = &self.settings.audience;
        // Who presents it was checked where it was presented.
        let held = self.verifier().verify_passed_on(asked.assertion.expose(), now, audience)?;
        if *held.workspace() != asked.workspace {
            return Err(Refusal::new(Reason::AssertionInvalid, "the session belongs to another workspace"));
        }
        let (session, record) = self.behind(&held, now).await?;
        if !session.counts(&asked.verification) {
            latest(&held, &session, record.as_ref())?;
        }
        let expires = asked.address.proven.after(asked.address.lifetime).min(session.ends());
        if now >= expires {
            return Err(Refusal::new(Reason::ProofInvalid, "the address was proven too long ago; verify it again"));
        }
        let lead = self.contacts.lead(&asked.workspace, asked.address.channel, &asked.address.address);
        let is_lead = session.bound().is_none_or(|owner| *owner == lead);
        // Who is blocked by an address gets it as nobody's.
        self.heed(&asked.workspace, Some(&lead)).await?;
        let lead_record = if is_lead {
            Some(self.lead(&asked, &lead, session.started(), now).await?)
        } else {
            self.unblocked(&asked.workspace, &lead).await?;
            None
        };
        let is_user = held.contact().kind == ContactKind::User;
        let proof = asked.address.proof(expires);
        let prove = |session: Session| {
            session.prove_address(&asked.verification, proof.clone(), &lead, is_user, held.epoch(), now)
        };
        let unrecorded = self.unrecorded(&held);
        let session = self.sessions.change(&asked.workspace, held.session(), unrecorded, prove).await?;
        self.end_earlier(&session, held.contact().id.clone(), now).await?;
        let presenters = held.presenters().to_vec();
        let making = if session.bound() == Some(&lead) {
            Making {
                contact: lead,
                named: Attributes::new(),
                record: lead_record,
                method: Method::by_code(asked.address.channel),
                proven_by: None,
                presenters,
                proof_expires: expires,
                session,
            }
        } else if session.bound() == Some(&held.contact().id) {
            // What they were proven by before stays, and gets no younger.
            let (named, method, proof_expires) = (named(&held), held.method(), held.proof_expires());
            let (contact, proven_by) = (held.contact().id.clone(), held.proven_by().map(str::to_owned));
            Making { session, contact, named, record, method, proven_by, presenters, proof_expires }
        } else {
            return Err(Refusal::new(Reason::SessionBound, "the session belongs to another contact; start a new one"));
        };
        self.traced(&asked.workspace, &making.contact);
        self.issue(making, now)
    }

    /// The record of the lead, who may be blocked.
    async fn lead(
        &self,
        asked: &IssueAssertion,
        lead: &ContactId,
        started: Timestamp,
        now: Timestamp,
    ) -> Result<ContactRecord, Refusal> {
        let named = Named::Lead(asked.address.channel, asked.address.address.clone());
        let put = |found: Option<ContactRecord>| {
            let is_new = found.is_none();
            let mut record = found.unwrap_or_else(|| ContactRecord::new(named.clone(), now));
            record.admits_session(started)?;
            let revived = record.revive(&named, now);
            Ok(if is_new || revived { Edit::Put(record.clone(), Ends::Never, record) } else { Edit::Keep(record) })
        };
        self.people.update(&asked.workspace, lead, put).await
    }
}
