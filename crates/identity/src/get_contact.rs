//! `GetContact` and `ExportContact`: what is known of a contact.

use safeconduct_identity_domain::record::ContactRecord;
use safeconduct_service::caller::Caller;
use safeconduct_types::{ContactId, Refusal};

use crate::Identity;
use crate::wire::contacts::AboutContact;

impl Identity {
    pub(crate) async fn get_contact(
        &self,
        caller: &Caller,
        asked: &AboutContact,
    ) -> Result<(ContactId, ContactRecord), Refusal> {
        self.manages(caller, &asked.workspace)?;
        self.find(&asked.workspace, &asked.subject).await?.known()
    }
}
