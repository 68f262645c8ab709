//! Erasing a contact.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::admission_service_client::AdmissionServiceClient;
use safeconduct_types::{ContactId, Deadline, OperationId, Refusal, WorkspaceId};

/// Whoever forgets contacts, as its sisters see it.
#[async_trait]
pub trait Erasing: Send + Sync + Debug {
    /// Forgets what is held of the contact; whether nothing is left. If not, ask again with another operation.
    async fn erase_contact(
        &self,
        workspace: WorkspaceId,
        contact: ContactId,
        operation: OperationId,
        deadline: Deadline,
    ) -> Result<bool, Refusal>;
}

#[async_trait]
impl Erasing for crate::GrpcAdmission {
    async fn erase_contact(
        &self,
        workspace: WorkspaceId,
        contact: ContactId,
        operation: OperationId,
        deadline: Deadline,
    ) -> Result<bool, Refusal> {
        let request = proto::EraseContactRequest {
            workspace_id: workspace.into(),
            contact_id: contact.into(),
            operation_id: operation.to_string(),
        };
        let send = |mut client: AdmissionServiceClient<_>, request| async move { client.erase_contact(request).await };
        let answer: proto::EraseContactResponse = self.call(request, deadline, Duration::ZERO, send).await?;
        Ok(answer.complete)
    }
}
