//! Which contact a backend or an operator means.

use safeconduct_identity_domain::contact::{Identifier, Identity as Claimed};
use safeconduct_identity_domain::record::{ContactRecord, Named};
use safeconduct_service::caller::{Caller, Role};
use safeconduct_types::{ContactId, Reason, Refusal, WorkspaceId};

use crate::Identity;
use crate::wire::contacts::ContactSubject;

/// A contact that was named, and what is known of it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) contact: ContactId,
    /// What names it, as far as the caller said.
    pub(crate) named: Option<Named>,
    pub(crate) record: Option<ContactRecord>,
}

/// Whom an address leads to.
#[derive(Debug)]
struct Addressed {
    /// The user whom it names, where proofs are over the email; seen or not.
    user: Option<Found>,
    /// All others who have it: leads, and users who proved it or of whom it was said.
    others: Vec<Found>,
}

impl Identity {
    /// Who manages contacts, in this workspace.
    pub(crate) fn manages(&self, caller: &Caller, workspace: &WorkspaceId) -> Result<(), Refusal> {
        caller.require(&[Role::Backend, Role::Operator], Some(workspace))?;
        self.knows(workspace)
    }

    pub(crate) fn knows(&self, workspace: &WorkspaceId) -> Result<(), Refusal> {
        match self.ports.workspaces.identity_policy(workspace) {
            Some(_) => Ok(()),
            None => Err(crate::verify::unknown_workspace()),
        }
    }

    /// Tells the span which contact it is about.
    pub(crate) fn traced(&self, workspace: &WorkspaceId, contact: &ContactId) {
        self.trace.tell_span(workspace, contact.as_str());
    }

    /// An address can lead to several contacts (two users, a lead), who are never taken for one: then one of them is to be
    /// named by its id.
    pub(crate) async fn find(&self, workspace: &WorkspaceId, subject: &ContactSubject) -> Result<Found, Refusal> {
        let (contact, named) = match subject {
            ContactSubject::Contact(contact) => (contact.clone(), None),
            ContactSubject::User(identity) => (self.contacts.user(workspace, identity), Some(Named::user(identity))),
            ContactSubject::Email(address) => return self.find_by_email(workspace, address).await,
        };
        self.traced(workspace, &contact);
        let record = self.people.read(workspace, &contact).await?;
        Ok(Found { contact, named, record })
    }

    async fn find_by_email(&self, workspace: &WorkspaceId, address: &Claimed) -> Result<Found, Refusal> {
        let Addressed { user, others } = self.addressed(workspace, address).await?;
        // Of who was erased only a block is left to find.
        let is_left = |record: &ContactRecord| record.erased.is_none() || record.blocked.is_some();
        let (known, unknown_user): (Vec<_>, Vec<_>) =
            user.into_iter().partition(|user| user.record.as_ref().is_some_and(is_left));
        let known: Vec<_> = known.into_iter().chain(others).collect();
        let found = one_of(known)?.or_else(|| unknown_user.into_iter().next()).ok_or_else(unknown)?;
        self.traced(workspace, &found.contact);
        Ok(found)
    }

    /// Whom it takes to shut out this subject, or to let it in again; at least one, who is known if any is. An address
    /// that names a user is that user's, seen or not, and its lead's, if one has it besides: their proofs are different
    /// ones. If it leads to more, one of them is to be named by its id.
    pub(crate) async fn find_all(
        &self,
        workspace: &WorkspaceId,
        subject: &ContactSubject,
    ) -> Result<Vec<Found>, Refusal> {
        let ContactSubject::Email(address) = subject else { return Ok(vec![self.find(workspace, subject).await?]) };
        let Addressed { user, others } = self.addressed(workspace, address).await?;
        let mut all: Vec<_> = user.into_iter().chain(one_of(others)?).collect();
        all.sort_by_key(|found| found.record.is_none());
        let first = all.first().ok_or_else(unknown)?;
        self.traced(workspace, &first.contact);
        Ok(all)
    }

    async fn addressed(&self, workspace: &WorkspaceId, address: &Claimed) -> Result<Addressed, Refusal> {
        let all = self.people.by_email(workspace, address.value()).await?;
        let mut others: Vec<_> =
            all.into_iter().map(|(contact, record)| Found { contact, named: None, record: Some(record) }).collect();
        let hashes = self.ports.workspaces.identity_policy(workspace).and_then(|policy| policy.hashes());
        if hashes != Some(Identifier::Email) {
            return Ok(Addressed { user: None, others });
        }
        let contact = self.contacts.user(workspace, address);
        others.retain(|other| other.contact != contact);
        // No index need know of it: who was never seen can be blocked, and a block outlives erasure.
        let record = self.people.read(workspace, &contact).await?;
        Ok(Addressed { user: Some(Found { contact, named: Some(Named::user(address)), record }), others })
    }
}

fn one_of(mut all: Vec<Found>) -> Result<Option<Found>, Refusal> {
    if all.len() > 1 {
        let ids: Vec<_> = all.iter().map(|found| found.contact.as_str()).collect();
        return Err(Refusal::invalid_field(
            "email",
            "leads to several contacts; name one of `contact_ids` by `contact_id`",
        )
        .with_metadata("contact_ids", ids.join(",")));
    }
    Ok(all.pop())
}

impl Found {
    /// What is known of the contact, if anything (still) is.
    pub(crate) fn known(self) -> Result<(ContactId, ContactRecord), Refusal> {
        let record = self.record.filter(|record| record.erased.is_none() || record.named != Named::Nothing);
        record.map(|record| (self.contact, record)).ok_or_else(unknown)
    }
}

pub(crate) fn unknown() -> Refusal {
    Refusal::new(Reason::ContactUnknown, "there is no such contact in this workspace")
}
