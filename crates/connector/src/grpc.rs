//! The RPCs: parse, call, render.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_proto::connector::v1 as pb;
use safeconduct_proto::connector::v1::connector_admin_service_server::{
    ConnectorAdminService, ConnectorAdminServiceServer,
};
use safeconduct_proto::connector::v1::connector_service_server::{ConnectorService, ConnectorServiceServer};
use safeconduct_proto::connector::v1::credential_service_server::{CredentialService, CredentialServiceServer};
use safeconduct_service::caller::{Caller, caller};
use safeconduct_service::status::to_status;
use safeconduct_service::wire::to_timestamp;
use safeconduct_types::{Clock, Deadline, Reason, Refusal};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::{Service, admin, render, wire};

/// How long a call may take of which the listener has not said more. It always does; this is no second default.
const UNSAID: Duration = Duration::from_secs(20);

/// `ConnectorService`, reached by gRPC.
#[derive(Clone, Debug)]
pub struct ConnectorGrpc(Arc<Service>);

/// `CredentialService`, reached by gRPC.
#[derive(Clone, Copy, Debug)]
pub struct CredentialGrpc;

/// `ConnectorAdminService`, reached by gRPC.
#[derive(Clone, Debug)]
pub struct AdminGrpc(Arc<Service>);

impl Service {
    /// The three services to be mounted. Their limits and layers are the listener's matter.
    pub fn servers(
        self: &Arc<Self>,
    ) -> (
        ConnectorServiceServer<ConnectorGrpc>,
        CredentialServiceServer<CredentialGrpc>,
        ConnectorAdminServiceServer<AdminGrpc>,
    ) {
        (
            ConnectorServiceServer::new(ConnectorGrpc(Arc::clone(self))),
            CredentialServiceServer::new(CredentialGrpc),
            ConnectorAdminServiceServer::new(AdminGrpc(Arc::clone(self))),
        )
    }
}

/// The authenticated caller, its deadline, and the message.
fn open<T>(request: Request<T>, clock: &dyn Clock) -> Result<(Arc<Caller>, Deadline, T), Status> {
    let caller = Arc::clone(caller(&request)?);
    let deadline = request.extensions().get().copied();
    let deadline = deadline.unwrap_or_else(|| Deadline::within(clock.instant(), UNSAID));
    Ok((caller, deadline, request.into_inner()))
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn refused(refusal: Refusal) -> Status {
    tracing::Span::current().record("safeconduct.reason", refusal.reason().as_str());
    to_status(&refusal)
}

/// Even what is not served is served to nobody unknown.
fn not_yet<T, R>(request: &Request<T>, what: &str) -> Result<Response<R>, Status> {
    caller(request)?;
    Err(to_status(&Refusal::new(Reason::Unimplemented, format!("this version does not serve {what} yet"))))
}

#[tonic::async_trait]
impl ConnectorService for ConnectorGrpc {
    type WatchExecutionStream = Pin<Box<dyn Stream<Item = Result<pb::WatchExecutionResponse, Status>> + Send>>;

    async fn execute(&self, request: Request<pb::ExecuteRequest>) -> Result<Response<pb::ExecuteResponse>, Status> {
        let (caller, deadline, message) = open(request, &*self.0.clock)?;
        let asked = wire::execute(message).map_err(refused)?;
        let span = tracing::info_span!(
            "execute",
            safeconduct.connector = %asked.connector,
            safeconduct.caller = %caller.name(),
            safeconduct.workspace = Empty,
            safeconduct.contact = Empty,
            safeconduct.version = Empty,
            safeconduct.execution = Empty,
            safeconduct.decision = Empty,
            safeconduct.state = Empty,
            safeconduct.failure_class = Empty,
            safeconduct.reason = Empty,
        );
        let run = async {
            let seen = self.0.execute(&caller, asked, deadline).await.map_err(refused)?;
            let span = tracing::Span::current();
            span.record("safeconduct.version", seen.intent.version.as_str());
            span.record("safeconduct.execution", seen.execution.as_str());
            span.record("safeconduct.state", seen.state().as_str_name());
            Ok(Response::new(pb::ExecuteResponse { execution: Some(render::execution(&seen)) }))
        };
        run.instrument(span).await
    }

    async fn get_execution(
        &self,
        request: Request<pb::GetExecutionRequest>,
    ) -> Result<Response<pb::GetExecutionResponse>, Status> {
        let (caller, deadline, message) = open(request, &*self.0.clock)?;
        let wanted = wire::get(message).map_err(refused)?;
        let seen = self.0.get(&caller, wanted, deadline).await.map_err(refused)?;
        Ok(Response::new(pb::GetExecutionResponse { execution: Some(render::execution(&seen)) }))
    }

    async fn list_connectors(
        &self,
        request: Request<pb::ListConnectorsRequest>,
    ) -> Result<Response<pb::ListConnectorsResponse>, Status> {
        not_yet(&request, "ListConnectors")
    }

    async fn list_choices(
        &self,
        request: Request<pb::ListChoicesRequest>,
    ) -> Result<Response<pb::ListChoicesResponse>, Status> {
        not_yet(&request, "ListChoices")
    }

    async fn prepare_execution(
        &self,
        request: Request<pb::PrepareExecutionRequest>,
    ) -> Result<Response<pb::PrepareExecutionResponse>, Status> {
        not_yet(&request, "PrepareExecution")
    }

    async fn confirm_execution(
        &self,
        request: Request<pb::ConfirmExecutionRequest>,
    ) -> Result<Response<pb::ConfirmExecutionResponse>, Status> {
        not_yet(&request, "ConfirmExecution")
    }

    async fn watch_execution(
        &self,
        request: Request<pb::WatchExecutionRequest>,
    ) -> Result<Response<Self::WatchExecutionStream>, Status> {
        not_yet(&request, "WatchExecution")
    }

    async fn cancel_execution(
        &self,
        request: Request<pb::CancelExecutionRequest>,
    ) -> Result<Response<pb::CancelExecutionResponse>, Status> {
        not_yet(&request, "CancelExecution")
    }

    async fn list_executions(
        &self,
        request: Request<pb::ListExecutionsRequest>,
    ) -> Result<Response<pb::ListExecutionsResponse>, Status> {
        not_yet(&request, "ListExecutions")
    }

    async fn explain_execution(
        &self,
        request: Request<pb::ExplainExecutionRequest>,
    ) -> Result<Response<pb::ExplainExecutionResponse>, Status> {
        not_yet(&request, "ExplainExecution")
    }
}

#[tonic::async_trait]
impl CredentialService for CredentialGrpc {
    async fn begin_authorization(
        &self,
        request: Request<pb::BeginAuthorizationRequest>,
    ) -> Result<Response<pb::BeginAuthorizationResponse>, Status> {
        not_yet(&request, "BeginAuthorization")
    }

    async fn complete_authorization(
        &self,
        request: Request<pb::CompleteAuthorizationRequest>,
    ) -> Result<Response<pb::CompleteAuthorizationResponse>, Status> {
        not_yet(&request, "CompleteAuthorization")
    }

    async fn set_contact_credential(
        &self,
        request: Request<pb::SetContactCredentialRequest>,
    ) -> Result<Response<pb::SetContactCredentialResponse>, Status> {
        not_yet(&request, "SetContactCredential")
    }

    async fn revoke_contact_credential(
        &self,
        request: Request<pb::RevokeContactCredentialRequest>,
    ) -> Result<Response<pb::RevokeContactCredentialResponse>, Status> {
        not_yet(&request, "RevokeContactCredential")
    }

    async fn list_contact_credentials(
        &self,
        request: Request<pb::ListContactCredentialsRequest>,
    ) -> Result<Response<pb::ListContactCredentialsResponse>, Status> {
        not_yet(&request, "ListContactCredentials")
    }
}

#[tonic::async_trait]
impl ConnectorAdminService for AdminGrpc {
    async fn list_definitions(
        &self,
        request: Request<pb::ListDefinitionsRequest>,
    ) -> Result<Response<pb::ListDefinitionsResponse>, Status> {
        not_yet(&request, "ListDefinitions")
    }

    async fn get_definition(
        &self,
        request: Request<pb::GetDefinitionRequest>,
    ) -> Result<Response<pb::GetDefinitionResponse>, Status> {
        not_yet(&request, "GetDefinition")
    }

    async fn get_release(
        &self,
        request: Request<pb::GetReleaseRequest>,
    ) -> Result<Response<pb::GetReleaseResponse>, Status> {
        not_yet(&request, "GetRelease")
    }

    async fn disable_connector(
        &self,
        request: Request<pb::DisableConnectorRequest>,
    ) -> Result<Response<pb::DisableConnectorResponse>, Status> {
        let (caller, deadline, message) = open(request, &*self.0.clock)?;
        let asked = admin::close::parse_disable(message).map_err(refused)?;
        let effective = self.0.disable(&caller, asked, deadline).await.map_err(refused)?;
        Ok(Response::new(pb::DisableConnectorResponse { effective_time: Some(to_timestamp(effective)) }))
    }

    async fn enable_connector(
        &self,
        request: Request<pb::EnableConnectorRequest>,
    ) -> Result<Response<pb::EnableConnectorResponse>, Status> {
        let (caller, deadline, message) = open(request, &*self.0.clock)?;
        let asked = admin::close::parse_enable(message).map_err(refused)?;
        let effective = self.0.enable(&caller, asked, deadline).await.map_err(refused)?;
        Ok(Response::new(pb::EnableConnectorResponse { effective_time: Some(to_timestamp(effective)) }))
    }

    async fn revive_resource(
        &self,
        request: Request<pb::ReviveResourceRequest>,
    ) -> Result<Response<pb::ReviveResourceResponse>, Status> {
        not_yet(&request, "ReviveResource")
    }

    async fn settle_execution(
        &self,
        request: Request<pb::SettleExecutionRequest>,
    ) -> Result<Response<pb::SettleExecutionResponse>, Status> {
        let (caller, deadline, message) = open(request, &*self.0.clock)?;
        let asked = admin::settle_execution::parse(message).map_err(refused)?;
        let seen = self.0.settle_execution(&caller, asked, deadline).await.map_err(refused)?;
        Ok(Response::new(pb::SettleExecutionResponse { execution: Some(render::execution(&seen)) }))
    }

    async fn release_key(
        &self,
        request: Request<pb::ReleaseKeyRequest>,
    ) -> Result<Response<pb::ReleaseKeyResponse>, Status> {
        let (caller, deadline, message) = open(request, &*self.0.clock)?;
        let asked = admin::release_key::parse(message).map_err(refused)?;
        let released = self.0.release_key(&caller, asked, deadline).await.map_err(refused)?;
        Ok(Response::new(pb::ReleaseKeyResponse { released }))
    }

    async fn test_connector(
        &self,
        request: Request<pb::TestConnectorRequest>,
    ) -> Result<Response<pb::TestConnectorResponse>, Status> {
        not_yet(&request, "TestConnector")
    }
}
