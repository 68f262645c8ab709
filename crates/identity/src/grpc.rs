//! The RPCs: parse, call, render.

use std::sync::Arc;

use safeconduct_proto::identity::v1 as pb;
use safeconduct_proto::identity::v1::identity_service_server::{IdentityService, IdentityServiceServer};
use safeconduct_service::caller::{Caller, caller};
use safeconduct_service::status::to_status;
use safeconduct_telemetry::field;
use safeconduct_types::{Reason, Refusal, WorkspaceId};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use crate::issue::Issued;
use crate::{Identity, jwks, wire};

/// What kind of contact it came to.
const KIND: &str = "safeconduct.contact_kind";

/// Identity, reached by gRPC.
#[derive(Clone, Debug)]
pub struct IdentityGrpc(Arc<Identity>);

impl IdentityGrpc {
    /// This service's RPCs.
    pub fn over(identity: Arc<Identity>) -> Self {
        Self(identity)
    }
}

/// The service to be mounted. Its limits and layers are the listener's matter.
pub fn server(identity: Arc<Identity>) -> IdentityServiceServer<IdentityGrpc> {
    IdentityServiceServer::new(IdentityGrpc::over(identity))
}

/// The authenticated caller and the message.
fn open<T>(request: Request<T>) -> Result<(Arc<Caller>, T), Status> {
    let caller = Arc::clone(caller(&request)?);
    Ok((caller, request.into_inner()))
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn refused(refusal: Refusal) -> Status {
    tracing::Span::current().record(field::REASON, refusal.reason().as_str());
    to_status(&refusal)
}

/// Tells the span how the use case ended.
fn told(outcome: Result<Issued, Refusal>) -> Result<Issued, Status> {
    let issued = outcome.map_err(refused)?;
    tracing::Span::current().record(KIND, issued.contact.kind.as_str());
    Ok(issued)
}

/// A span of one use case: who called, for which tenant, how it ended. Nothing that a caller wrote stands in it
/// before it was parsed.
macro_rules! span {
    ($name:literal, $workspace:expr, $caller:expr) => {
        tracing::info_span!(
            $name,
            { field::WORKSPACE } = %$workspace,
            { field::CALLER } = %$caller.name(),
            { field::CONTACT } = tracing::field::Empty,
            { KIND } = tracing::field::Empty,
            { field::REASON } = tracing::field::Empty,
        )
    };
}

fn start_span(workspace: &WorkspaceId, caller: &Caller) -> tracing::Span {
    span!("start_session", workspace, caller)
}

fn verify_span(workspace: &WorkspaceId, caller: &Caller) -> tracing::Span {
    span!("verify_identity", workspace, caller)
}

fn not_yet<T>(what: &str) -> Result<Response<T>, Status> {
    Err(to_status(&Refusal::new(Reason::Unimplemented, format!("this version does not serve {what} yet"))))
}

#[tonic::async_trait]
impl IdentityService for IdentityGrpc {
    async fn start_session(
        &self,
        request: Request<pb::StartSessionRequest>,
    ) -> Result<Response<pb::StartSessionResponse>, Status> {
        let (caller, message) = open(request)?;
        let asked = wire::start_session(&message).map_err(refused)?;
        let span = start_span(&asked.workspace, &caller);
        let run = async { told(self.0.start_session(&caller, asked).await) };
        run.instrument(span).await.map(|issued| Response::new(wire::session_started(issued)))
    }

    async fn verify_identity(
        &self,
        request: Request<pb::VerifyIdentityRequest>,
    ) -> Result<Response<pb::VerifyIdentityResponse>, Status> {
        let (caller, message) = open(request)?;
        let asked = wire::verify_identity(message).map_err(refused)?;
        let span = verify_span(&asked.workspace, &caller);
        let run = async { told(self.0.verify_identity(&caller, asked).await) };
        run.instrument(span).await.map(|issued| Response::new(wire::identity_verified(issued)))
    }

    async fn get_jwks(&self, request: Request<pb::GetJwksRequest>) -> Result<Response<pb::GetJwksResponse>, Status> {
        open(request)?;
        Ok(Response::new(wire::jwks(self.0.jwks_json(), jwks::MAX_AGE)))
    }

    async fn renew_assertion(
        &self,
        request: Request<pb::RenewAssertionRequest>,
    ) -> Result<Response<pb::RenewAssertionResponse>, Status> {
        open(request)?;
        not_yet("RenewAssertion; call VerifyIdentity with the proof again")
    }

    async fn update_attributes(
        &self,
        request: Request<pb::UpdateAttributesRequest>,
    ) -> Result<Response<pb::UpdateAttributesResponse>, Status> {
        open(request)?;
        not_yet("UpdateAttributes")
    }

    async fn set_attributes(
        &self,
        request: Request<pb::SetAttributesRequest>,
    ) -> Result<Response<pb::SetAttributesResponse>, Status> {
        open(request)?;
        not_yet("SetAttributes")
    }

    async fn get_contact(
        &self,
        request: Request<pb::GetContactRequest>,
    ) -> Result<Response<pb::GetContactResponse>, Status> {
        open(request)?;
        not_yet("GetContact")
    }

    async fn delete_contact(
        &self,
        request: Request<pb::DeleteContactRequest>,
    ) -> Result<Response<pb::DeleteContactResponse>, Status> {
        open(request)?;
        not_yet("DeleteContact")
    }

    async fn export_contact(
        &self,
        request: Request<pb::ExportContactRequest>,
    ) -> Result<Response<pb::ExportContactResponse>, Status> {
        open(request)?;
        not_yet("ExportContact")
    }

    async fn revoke_session(
        &self,
        request: Request<pb::RevokeSessionRequest>,
    ) -> Result<Response<pb::RevokeSessionResponse>, Status> {
        open(request)?;
        not_yet("RevokeSession")
    }

    async fn revoke_contact(
        &self,
        request: Request<pb::RevokeContactRequest>,
    ) -> Result<Response<pb::RevokeContactResponse>, Status> {
        open(request)?;
        not_yet("RevokeContact")
    }

    async fn unblock_contact(
        &self,
        request: Request<pb::UnblockContactRequest>,
    ) -> Result<Response<pb::UnblockContactResponse>, Status> {
        open(request)?;
        not_yet("UnblockContact")
    }

    async fn issue_assertion(
        &self,
        request: Request<pb::IssueAssertionRequest>,
    ) -> Result<Response<pb::IssueAssertionResponse>, Status> {
        open(request)?;
        not_yet("IssueAssertion")
    }
}
