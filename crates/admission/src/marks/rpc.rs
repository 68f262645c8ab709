//! The calls: parse, do, answer; every change is audited in the log. What people wrote as a reason may name somebody, so
//! it stays in the mark and the log says only that there is one.

use std::sync::Arc;

use futures_util::stream::Stream;
use safeconduct_proto::admission::v1 as proto;
use safeconduct_service::caller::{Caller, Role};
use safeconduct_service::wire::{Fields, parse_mark, parse_mark_key, to_mark};
use safeconduct_types::{OperationId, Refusal, WorkspaceId};
use tonic::Status;

use super::Marks;
use super::watch::parse_token;

/// Most workspaces that one stream can be about.
const MAX_WORKSPACES: usize = 256;

impl Marks {
    pub(crate) async fn set_mark(&self, request: proto::SetMarkRequest) -> Result<proto::SetMarkResponse, Refusal> {
        let mut fields = Fields::new();
        let mark = fields.required("mark", request.mark);
        let mark = mark.and_then(|mark| parse_mark(&mut fields, "mark", mark));
        let operation = fields.parse::<OperationId>("operation_id", &request.operation_id);
        fields.finish()?;
        let (Some(mark), Some(operation)) = (mark, operation) else { return Err(missed()) };
        let mark = self.set(mark, operation).await?;
        tracing::info!(
            safeconduct.workspace = %mark.key.workspace,
            kind = mark.key.subject.kind(),
            actor = mark.actor,
            has_reason = !mark.reason.is_empty(),
            revision = mark.revision,
            "a mark was set"
        );
        Ok(proto::SetMarkResponse { mark: Some(to_mark(mark)) })
    }

    pub(crate) async fn clear_mark(
        &self,
        request: proto::ClearMarkRequest,
    ) -> Result<proto::ClearMarkResponse, Refusal> {
        let mut fields = Fields::new();
        let key = fields.required("key", request.key);
        let key = key.and_then(|key| parse_mark_key(&mut fields, "key", &key));
        let reason = fields.text("reason", request.reason, 1024);
        if reason.is_empty() || reason.chars().count() > 256 {
            fields.wrong("reason", "must have 1 to 256 characters");
        }
        let operation = fields.parse::<OperationId>("operation_id", &request.operation_id);
        fields.finish()?;
        let (Some(key), Some(operation)) = (key, operation) else { return Err(missed()) };
        let (cleared, revision) = self.clear(&key, operation).await?;
        tracing::info!(
            safeconduct.workspace = %key.workspace,
            kind = key.subject.kind(),
            cleared,
            revision,
            "a mark was cleared"
        );
        Ok(proto::ClearMarkResponse { cleared, revision })
    }

    /// Of the workspaces that are asked for and that the caller may see.
    pub(crate) fn watch_marks(
        &self,
        caller: Arc<Caller>,
        request: &proto::WatchMarksRequest,
    ) -> Result<impl Stream<Item = Result<proto::WatchMarksResponse, Status>> + Send + 'static, Refusal> {
        let mut fields = Fields::new();
        let mut wanted: Vec<WorkspaceId> = Vec::new();
        for workspace in &request.workspace_ids {
            wanted.extend(fields.parse::<WorkspaceId>("workspace_ids", workspace));
        }
        if request.workspace_ids.len() > MAX_WORKSPACES {
            fields.wrong("workspace_ids", "must be at most 256");
        }
        fields.finish()?;
        for workspace in &wanted {
            caller.require(&[Role::Service], Some(workspace))?;
        }
        let filter = move |workspace: &WorkspaceId| {
            (wanted.is_empty() || wanted.contains(workspace))
                && caller.require(&[Role::Service], Some(workspace)).is_ok()
        };
        Ok(self.watch(Box::new(filter), parse_token(&request.resume_token)))
    }
}

fn missed() -> Refusal {
    // Each `None` has left a violation behind.
    Refusal::internal("a field was not parsed and not refused")
}
