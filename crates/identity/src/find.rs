//! Which contact a backend or an operator means.

use safeconduct_identity_domain::contact::{Identifier, Identity as Claimed};
use safeconduct_identity_domain::record::{ContactRecord, Named};
use safeconduct_service::caller::{Caller, Role};
use safeconduct_telemetry::field;
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
    /// The user whom the same address names, who was never seen: a lead of that address is somebody else.
    pub(crate) unseen: Option<(ContactId, Named)>,
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
        tracing::Span::current().record(field::CONTACT, self.trace.hash(workspace, contact.as_str()));
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
        Ok(Found { contact, named, record, unseen: None })
    }

    async fn find_by_email(&self, workspace: &WorkspaceId, address: &Claimed) -> Result<Found, Refusal> {
        let mut all = self.people.by_email(workspace, address.value()).await?;
        let hashes = self.ports.workspaces.identity_policy(workspace).and_then(|policy| policy.hashes());
        let mut unseen = None;
        if hashes == Some(Identifier::Email) {
            // Whom the address names, no index need know: who was never seen can be blocked, and a block outlives erasure.
            let user = self.contacts.user(workspace, address);
            if !all.iter().any(|(contact, _)| *contact == user) {
                match self.people.read(workspace, &user).await? {
                    Some(record) if record.erased.is_none() || record.blocked.is_some() => all.push((user, record)),
                    Some(_) | None => unseen = Some((user, Named::user(address))),
                }
            }
        }
        let Some((contact, record)) = all.pop() else {
            let (contact, named) = unseen.ok_or_else(unknown)?;
            return Ok(Found { contact, named: Some(named), record: None, unseen: None });
        };
        if all.is_empty() {
            self.traced(workspace, &contact);
            return Ok(Found { contact, named: None, record: Some(record), unseen });
        }
        let ids: Vec<_> = all.iter().map(|(id, _)| id).chain([&contact]).map(ContactId::as_str).collect();
        Err(Refusal::invalid_field("email", "leads to several contacts; name one of `contact_ids` by `contact_id`")
            .with_metadata("contact_ids", ids.join(",")))
    }
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
