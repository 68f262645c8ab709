//! Setting and clearing marks.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::admission_service_client::AdmissionServiceClient;
use safeconduct_service::wire::{to_mark_key, to_timestamp};
use safeconduct_types::{Deadline, Mark, MarkKey, OperationId, Refusal, Timestamp};

use crate::mark::mark;
use crate::wire::unreadable;

/// A mark to be set.
#[derive(Clone, Debug)]
pub struct SetMark {
    /// What is closed.
    pub key: MarkKey,
    /// Closes what began at or before this; now, on the store's clock, if `None`.
    pub effective: Option<Timestamp>,
    /// When it goes by itself; never, if `None`.
    pub expires: Option<Timestamp>,
    /// Why, for people; at most 256 characters.
    pub reason: String,
    /// Who sets it; at most 256 bytes.
    pub actor: String,
    /// Lowest session epoch that is still good; 0 where epochs do not matter.
    pub min_epoch: u32,
    /// This attempt: the same in a repeat.
    pub operation: OperationId,
}

/// A mark to be cleared.
#[derive(Clone, Debug)]
pub struct ClearMark {
    /// Which.
    pub key: MarkKey,
    /// Why, for the audit; 1 to 256 characters.
    pub reason: String,
    /// This attempt: the same in a repeat.
    pub operation: OperationId,
}

/// Whoever sets marks, as its sisters see it.
#[async_trait]
pub trait Marking: Send + Sync + Debug {
    /// Sets it. Once this is answered it is durable; all replicas heed it within a second.
    async fn set_mark(&self, asked: SetMark, deadline: Deadline) -> Result<Mark, Refusal>;

    /// Clears it; whether it was there.
    async fn clear_mark(&self, asked: ClearMark, deadline: Deadline) -> Result<bool, Refusal>;
}

#[async_trait]
impl Marking for crate::GrpcAdmission {
    async fn set_mark(&self, asked: SetMark, deadline: Deadline) -> Result<Mark, Refusal> {
        let request = proto::SetMarkRequest {
            operation_id: asked.operation.to_string(),
            mark: Some(proto::Mark {
                key: Some(to_mark_key(asked.key)),
                effective_time: asked.effective.map(to_timestamp),
                expire_time: asked.expires.map(to_timestamp),
                reason: asked.reason,
                actor: asked.actor,
                revision: 0,
                min_epoch: asked.min_epoch,
            }),
        };
        let send = |mut client: AdmissionServiceClient<_>, request| async move { client.set_mark(request).await };
        let answer: proto::SetMarkResponse = self.call(request, deadline, Duration::ZERO, send).await?;
        answer.mark.and_then(mark).ok_or_else(unreadable)
    }

    async fn clear_mark(&self, asked: ClearMark, deadline: Deadline) -> Result<bool, Refusal> {
        let request = proto::ClearMarkRequest {
            key: Some(to_mark_key(asked.key)),
            reason: asked.reason,
            operation_id: asked.operation.to_string(),
        };
        let send = |mut client: AdmissionServiceClient<_>, request| async move { client.clear_mark(request).await };
        let answer: proto::ClearMarkResponse = self.call(request, deadline, Duration::ZERO, send).await?;
        Ok(answer.cleared)
    }
}
