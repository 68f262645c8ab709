//! Forgets a contact.

use safeconduct_proto::admission::v1 as proto;
use safeconduct_types::Refusal;

use crate::Admission;

impl Admission {
    pub(crate) async fn erase_contact(
        &self,
        _request: proto::EraseContactRequest,
    ) -> Result<proto::EraseContactResponse, Refusal> {
        Err(Refusal::new(safeconduct_types::Reason::Unimplemented, "erasure is not served yet"))
    }
}
