//! `RevokeContact` and `UnblockContact`.

use safeconduct_admission_client::ClearMark;
use safeconduct_identity_domain::record::{ContactRecord, Named};
use safeconduct_service::caller::Caller;
use safeconduct_store::Ends;
use safeconduct_telemetry::field;
use safeconduct_types::{ContactId, MarkKey, OperationId, Refusal, Subject, Timestamp};

use crate::Identity;
use crate::contacts::Edit;
use crate::find::{Found, unknown};
use crate::revoke_session::WITHIN;
use crate::wire::contacts::ManageContact;

/// How a contact is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    SignOut,
    Block,
}

impl Identity {
    /// Marks first: they close what runs. Then the record, which refuses new proofs even if the marks were lost. A user
    /// who was never seen can be blocked beforehand.
    pub(crate) async fn revoke_contact(
        &self,
        caller: &Caller,
        asked: &ManageContact,
        mode: Mode,
    ) -> Result<(ContactId, Timestamp), Refusal> {
        let workspace = &asked.about.workspace;
        self.manages(caller, workspace)?;
        let all = self.find_all(workspace, &asked.about.subject).await?;
        if all.iter().all(|found| found.record.is_none() && found.named.is_none()) {
            return Err(unknown());
        }
        for found in &all {
            self.close_contact(caller, asked, mode, found).await?;
        }
        tracing::info!(
            { field::WORKSPACE } = %workspace, { field::CALLER } = %caller.name(), blocked = mode == Mode::Block,
            reason = asked.reason, "a contact was revoked"
        );
        Ok((first(all)?, self.ports.clock.now().after(WITHIN)))
    }

    async fn close_contact(
        &self,
        caller: &Caller,
        asked: &ManageContact,
        mode: Mode,
        Found { contact, named, .. }: &Found,
    ) -> Result<(), Refusal> {
        let workspace = &asked.about.workspace;
        let actor = caller.name().as_str();
        if mode == Mode::Block {
            let subject = Subject::ContactBlocked(contact.clone());
            self.set(self.mark(workspace, subject, &asked.reason, actor)).await?;
        }
        let now = self.ports.clock.now();
        let mut mark = self.mark(workspace, Subject::ContactSignedOut(contact.clone()), &asked.reason, actor);
        mark.expires = Some(now.after(self.settings.session_lifetime * 2));
        let effective = self.set(mark).await?.effective;
        let close = |before: Option<ContactRecord>| {
            let named = named.clone().unwrap_or(Named::Nothing);
            let mut record = before.unwrap_or_else(|| ContactRecord::new(named, now));
            record.signed_out = record.signed_out.max(Some(effective));
            if mode == Mode::Block {
                record.blocked = record.blocked.or(Some(now));
            }
            record.updated = now;
            let ends = Ends::from(record.ends(self.settings.session_lifetime));
            Ok(Edit::Put(record, ends, ()))
        };
        self.people.update(workspace, contact, close).await
    }

    /// The record first: while anything of the block is left, it holds.
    pub(crate) async fn unblock_contact(&self, caller: &Caller, asked: &ManageContact) -> Result<ContactId, Refusal> {
        let workspace = &asked.about.workspace;
        self.manages(caller, workspace)?;
        let mut all = self.find_all(workspace, &asked.about.subject).await?;
        all.retain(|found| found.record.is_some());
        for found in &all {
            self.open_contact(asked, &found.contact).await?;
        }
        let contact = first(all)?;
        tracing::info!(
            { field::WORKSPACE } = %workspace, { field::CALLER } = %caller.name(), reason = asked.reason,
            "a contact was unblocked"
        );
        Ok(contact)
    }

    async fn open_contact(&self, asked: &ManageContact, contact: &ContactId) -> Result<(), Refusal> {
        let workspace = &asked.about.workspace;
        let now = self.ports.clock.now();
        let open = |before: Option<ContactRecord>| {
            let Some(mut record) = before else { return Ok(Edit::Keep(())) };
            record.blocked = None;
            record.updated = now;
            let ends = Ends::from(record.ends(self.settings.session_lifetime));
            Ok(Edit::Put(record, ends, ()))
        };
        self.people.update(workspace, contact, open).await?;
        let clear = ClearMark {
            key: MarkKey::new(workspace.clone(), Subject::ContactBlocked(contact.clone())),
            reason: asked.reason.clone(),
            operation: OperationId::generate(&*self.ports.random),
        };
        self.ports.marking.clear_mark(clear, self.patience()).await.map(drop)
    }
}

fn first(all: Vec<Found>) -> Result<ContactId, Refusal> {
    all.into_iter().next().map(|found| found.contact).ok_or_else(unknown)
}
