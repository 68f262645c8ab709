//! `SetAttributes`: what the customer's backend says of a contact.

use safeconduct_identity_domain::attribute::{Applied, Writer, apply};
use safeconduct_identity_domain::record::{ContactRecord, Named};
use safeconduct_service::caller::{Caller, Role};
use safeconduct_store::Ends;
use safeconduct_types::{ContactId, Refusal};

use crate::Identity;
use crate::contacts::Edit;
use crate::find::unknown;
use crate::wire::attributes::{AttributeSubject, SetAttributes};

impl Identity {
    /// Provenance `SERVER`. The change is stored, then made known; a caller whose answer got lost asks again, and what
    /// was not made known is.
    pub(crate) async fn set_attributes(
        &self,
        caller: &Caller,
        asked: SetAttributes,
    ) -> Result<(Applied, ContactId, ContactRecord), Refusal> {
        caller.require(&[Role::Backend], Some(&asked.workspace))?;
        self.knows(&asked.workspace)?;
        let now = self.ports.clock.now();
        let policy = self.ports.workspaces.attribute_policy(&asked.workspace);
        let (contact, named) = match &asked.subject {
            AttributeSubject::Contact(contact) => (contact.clone(), None),
            AttributeSubject::User(identity) => {
                (self.contacts.user(&asked.workspace, identity), Some(Named::user(identity)))
            }
        };
        self.traced(&asked.workspace, &contact);
        let put = |found: Option<ContactRecord>| {
            let is_new = found.is_none();
            let mut record = match (found, &named) {
                (Some(mut record), Some(named)) => {
                    record.revive(named, now);
                    record
                }
                (Some(record), None) if record.named == Named::Nothing && record.erased.is_some() => {
                    return Err(unknown());
                }
                (Some(record), None) => record,
                (None, Some(named)) => ContactRecord::new(named.clone(), now),
                (None, None) => return Err(unknown()),
            };
            let applied = apply(&mut record, &policy, Writer::Server, asked.changes.clone(), now);
            if applied.protected_changed {
                // What is issued until the record is stored has the old values: from here on, however often it was tried.
                record.changes(self.now());
            }
            if !applied.changed && !is_new {
                return Ok(Edit::Keep((applied, record)));
            }
            record.updated = now;
            let ends = match record.named {
                Named::Nothing => Ends::At(record.created.after(self.settings.session_lifetime)),
                Named::User(..) | Named::Lead(..) => Ends::Never,
            };
            Ok(Edit::Put(record.clone(), ends, (applied, record)))
        };
        let (applied, record) = self.people.update(&asked.workspace, &contact, put).await?;
        self.end_stale(&asked.workspace, &contact, &record, now).await?;
        Ok((applied, contact, record))
    }
}
