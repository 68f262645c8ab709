//! `DeleteContact`: everything of a contact is erased, in all services.

use safeconduct_identity_domain::record::{ContactRecord, Named};
use safeconduct_service::caller::Caller;
use safeconduct_store::Ends;
use safeconduct_telemetry::field;
use safeconduct_types::{ContactId, OperationId, Refusal, Subject};

use crate::Identity;
use crate::contacts::Edit;
use crate::wire::contacts::ManageContact;

/// Most calls in a row that admission is asked to go on with one contact.
const ROUNDS: usize = 8;

impl Identity {
    /// First the mark, so that nothing is done any more for who is being erased; then the records. The sessions are
    /// closed by the mark (and by what stays of the record) and end by themselves, and with them, sealed, the addresses
    /// that were proven in them; verifications at otp end within an hour of their code. Repeatable, also
    /// for a contact of whom there is no record here: a visitor's executions are erased just so.
    pub(crate) async fn delete_contact(
        &self,
        caller: &Caller,
        asked: &ManageContact,
    ) -> Result<(ContactId, bool), Refusal> {
        let workspace = &asked.about.workspace;
        self.manages(caller, workspace)?;
        let found = self.find(workspace, &asked.about.subject).await?;
        let contact = found.contact;
        let subject = Subject::ContactErased(contact.clone());
        let mark = self.mark(workspace, subject, &asked.reason, caller.name().as_str());
        let now = self.ports.clock.now();
        let lifetime = self.settings.session_lifetime;
        let mut mark = mark;
        mark.expires = Some(now.after(lifetime * 2));
        let effective = self.set(mark).await?.effective;
        // Before the record that knows them: if this is as far as it gets, a repeat finds them there.
        let addresses = found.record.as_ref().map(ContactRecord::addresses).unwrap_or_default();
        for address in addresses.iter() {
            self.people.forget(workspace, &contact, address).await?;
        }
        let erase = |before: Option<ContactRecord>| {
            let mut record = before.unwrap_or_else(|| ContactRecord::new(Named::Nothing, now));
            record.erase(effective);
            let ends = Ends::from(record.ends(lifetime));
            Ok(Edit::Put(record, ends, ()))
        };
        self.people.update(workspace, &contact, erase).await?;
        let mut complete = false;
        for _ in 0..ROUNDS {
            let operation = OperationId::generate(&*self.ports.random);
            let erasing = &self.ports.erasing;
            complete = erasing.erase_contact(workspace.clone(), contact.clone(), operation, self.patience()).await?;
            if complete {
                break;
            }
        }
        tracing::info!(
            { field::WORKSPACE } = %workspace, { field::CALLER } = %caller.name(), complete, reason = asked.reason,
            "a contact was erased"
        );
        Ok((contact, complete))
    }
}
