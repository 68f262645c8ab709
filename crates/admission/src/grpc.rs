//! The contract's calls: who may, then the operation, then the answer.

use std::pin::Pin;

use async_trait::async_trait;
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::admission_service_server::AdmissionService;
use safeconduct_service::caller::{Role, caller};
use safeconduct_service::status::to_status;
use safeconduct_types::Refusal;
use tonic::{Request, Response, Status};

use crate::Admission;

/// The gRPC face of [`Admission`].
#[derive(Clone, Debug)]
pub struct Grpc {
    admission: Admission,
}

impl Grpc {
    pub(crate) const fn new(admission: Admission) -> Self {
        Self { admission }
    }
}

/// The message of a call that is for the suite's own services, in this workspace.
fn for_sisters<T>(request: Request<T>, workspace: impl FnOnce(&T) -> &str) -> Result<T, Status> {
    let caller = std::sync::Arc::clone(caller(&request)?);
    let message = request.into_inner();
    // One that does not parse is refused as a field, after the role.
    let workspace = workspace(&message).parse().ok();
    caller.require(&[Role::Service], workspace.as_ref()).map_err(|refusal| to_status(&refusal))?;
    Ok(message)
}

/// The message of a call that operators may make besides. That they looked is on record, with who did.
fn for_people<T>(request: Request<T>, what: &'static str, workspace: impl Fn(&T) -> &str) -> Result<T, Status> {
    let caller = std::sync::Arc::clone(caller(&request)?);
    if !caller.is(Role::Operator) {
        return for_sisters(request, workspace);
    }
    let message = request.into_inner();
    let name = workspace(&message);
    caller.require(&[Role::Operator], name.parse().ok().as_ref()).map_err(|refusal| to_status(&refusal))?;
    tracing::info!(
        safeconduct.audit = what,
        safeconduct.actor = %caller.name(),
        safeconduct.workspace = name,
        "an operator looked"
    );
    Ok(message)
}

fn answer<T>(result: Result<T, Refusal>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|refusal| to_status(&refusal))
}

#[async_trait]
impl AdmissionService for Grpc {
    type WatchMarksStream =
        Pin<Box<dyn tonic::codegen::tokio_stream::Stream<Item = Result<proto::WatchMarksResponse, Status>> + Send>>;

    async fn lookup(&self, request: Request<proto::LookupRequest>) -> Result<Response<proto::LookupResponse>, Status> {
        answer(self.admission.lookup(for_sisters(request, |it| &it.workspace_id)?).await)
    }

    async fn admit(&self, request: Request<proto::AdmitRequest>) -> Result<Response<proto::AdmitResponse>, Status> {
        answer(self.admission.admit(for_sisters(request, |it| &it.workspace_id)?).await)
    }

    async fn extend(&self, request: Request<proto::ExtendRequest>) -> Result<Response<proto::ExtendResponse>, Status> {
        answer(self.admission.extend(for_sisters(request, |it| &it.workspace_id)?).await)
    }

    async fn settle(&self, request: Request<proto::SettleRequest>) -> Result<Response<proto::SettleResponse>, Status> {
        answer(self.admission.settle(for_sisters(request, |it| &it.workspace_id)?).await)
    }

    async fn list_records(
        &self,
        request: Request<proto::ListRecordsRequest>,
    ) -> Result<Response<proto::ListRecordsResponse>, Status> {
        answer(self.admission.list_records(for_people(request, "list_records", |it| &it.workspace_id)?).await)
    }

    async fn get_usage(
        &self,
        request: Request<proto::GetUsageRequest>,
    ) -> Result<Response<proto::GetUsageResponse>, Status> {
        answer(self.admission.get_usage(for_people(request, "get_usage", |it| &it.workspace_id)?).await)
    }

    async fn erase_contact(
        &self,
        request: Request<proto::EraseContactRequest>,
    ) -> Result<Response<proto::EraseContactResponse>, Status> {
        answer(self.admission.erase_contact(for_sisters(request, |it| &it.workspace_id)?).await)
    }

    async fn set_mark(
        &self,
        request: Request<proto::SetMarkRequest>,
    ) -> Result<Response<proto::SetMarkResponse>, Status> {
        let request = for_sisters(request, |it| workspace_of(it.mark.as_ref().and_then(|mark| mark.key.as_ref())))?;
        answer(self.admission.marks.set_mark(request).await)
    }

    async fn clear_mark(
        &self,
        request: Request<proto::ClearMarkRequest>,
    ) -> Result<Response<proto::ClearMarkResponse>, Status> {
        let request = for_sisters(request, |it| workspace_of(it.key.as_ref()))?;
        answer(self.admission.marks.clear_mark(request).await)
    }

    async fn watch_marks(
        &self,
        request: Request<proto::WatchMarksRequest>,
    ) -> Result<Response<Self::WatchMarksStream>, Status> {
        let caller = std::sync::Arc::clone(caller(&request)?);
        let request = for_sisters(request, |_| "")?;
        let stream = self.admission.marks.watch_marks(caller, &request).map_err(|refusal| to_status(&refusal))?;
        Ok(Response::new(Box::pin(stream)))
    }
}

fn workspace_of(key: Option<&proto::MarkKey>) -> &str {
    key.map_or("", |key| key.workspace_id.as_str())
}
