//! The RPCs: parse, call, render.

use std::sync::Arc;

use safeconduct_proto::identity::v1 as pb;
use safeconduct_proto::identity::v1::identity_service_server::{IdentityService, IdentityServiceServer};
use safeconduct_service::caller::{Caller, caller};
use safeconduct_service::status::to_status;
use safeconduct_telemetry::field;
use safeconduct_types::{Refusal, SecretText, WorkspaceId};
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

fn span_of(name: &'static str, workspace: Option<&WorkspaceId>, caller: &Caller) -> tracing::Span {
    let span = tracing::info_span!(
        "identity",
        otel.name = name,
        { field::WORKSPACE } = tracing::field::Empty,
        { field::CALLER } = %caller.name(),
        { field::CONTACT } = tracing::field::Empty,
        { KIND } = tracing::field::Empty,
        { field::REASON } = tracing::field::Empty,
    );
    if let Some(workspace) = workspace {
        span.record(field::WORKSPACE, tracing::field::display(workspace));
    }
    span
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
        Ok(Response::new(wire::jwks(&self.0.jwks_json(), jwks::MAX_AGE)))
    }

    async fn renew_assertion(
        &self,
        request: Request<pb::RenewAssertionRequest>,
    ) -> Result<Response<pb::RenewAssertionResponse>, Status> {
        let (caller, message) = open(request)?;
        let assertion = SecretText::new(message.assertion);
        let span = span_of("renew_assertion", None, &caller);
        let run = async { told(self.0.renew_assertion(&caller, &assertion).await) };
        run.instrument(span).await.map(|issued| Response::new(wire::assertion_renewed(issued)))
    }

    async fn update_attributes(
        &self,
        request: Request<pb::UpdateAttributesRequest>,
    ) -> Result<Response<pb::UpdateAttributesResponse>, Status> {
        let (caller, message) = open(request)?;
        let asked = wire::attributes::update_attributes(message).map_err(refused)?;
        let span = span_of("update_attributes", None, &caller);
        let run = async { self.0.update_attributes(&caller, asked).await.map_err(refused) };
        let applied = run.instrument(span).await?;
        Ok(Response::new(wire::attributes::attributes_updated(applied)))
    }

    async fn set_attributes(
        &self,
        request: Request<pb::SetAttributesRequest>,
    ) -> Result<Response<pb::SetAttributesResponse>, Status> {
        let (caller, message) = open(request)?;
        let asked = wire::attributes::set_attributes(message).map_err(refused)?;
        let workspace = asked.workspace.clone();
        let span = span_of("set_attributes", Some(&workspace), &caller);
        let run = async { self.0.set_attributes(&caller, asked).await.map_err(refused) };
        let (applied, contact, record) = run.instrument(span).await?;
        let policy = self.0.attribute_policy(&workspace);
        Ok(Response::new(wire::attributes::attributes_set(applied, &contact, &record, &policy)))
    }

    async fn get_contact(
        &self,
        request: Request<pb::GetContactRequest>,
    ) -> Result<Response<pb::GetContactResponse>, Status> {
        let (caller, message) = open(request)?;
        let asked = wire::contacts::get_contact(&message).map_err(refused)?;
        let span = span_of("get_contact", Some(&asked.workspace), &caller);
        let run = async { self.0.get_contact(&caller, &asked).await.map_err(refused) };
        let (contact, record) = run.instrument(span).await?;
        let policy = self.0.attribute_policy(&asked.workspace);
        let contact = Some(wire::attributes::whole(&contact, &record, &policy));
        Ok(Response::new(pb::GetContactResponse { contact }))
    }

    async fn delete_contact(
        &self,
        request: Request<pb::DeleteContactRequest>,
    ) -> Result<Response<pb::DeleteContactResponse>, Status> {
        let (caller, message) = open(request)?;
        let asked = wire::contacts::delete_contact(&message).map_err(refused)?;
        let span = span_of("delete_contact", Some(&asked.about.workspace), &caller);
        let run = async { self.0.delete_contact(&caller, &asked).await.map_err(refused) };
        let (contact, complete) = run.instrument(span).await?;
        Ok(Response::new(pb::DeleteContactResponse { contact_id: contact.into(), complete }))
    }

    async fn export_contact(
        &self,
        request: Request<pb::ExportContactRequest>,
    ) -> Result<Response<pb::ExportContactResponse>, Status> {
        let (caller, message) = open(request)?;
        let asked = wire::contacts::export_contact(&message).map_err(refused)?;
        let span = span_of("export_contact", Some(&asked.workspace), &caller);
        let run = async { self.0.get_contact(&caller, &asked).await.map_err(refused) };
        let (contact, record) = run.instrument(span).await?;
        let policy = self.0.attribute_policy(&asked.workspace);
        Ok(Response::new(pb::ExportContactResponse {
            contact: Some(wire::attributes::whole(&contact, &record, &policy)),
            parts_json: wire::contacts::parts(&record),
            next_page_token: String::new(),
        }))
    }

    async fn revoke_session(
        &self,
        request: Request<pb::RevokeSessionRequest>,
    ) -> Result<Response<pb::RevokeSessionResponse>, Status> {
        let (caller, message) = open(request)?;
        let asked = wire::contacts::revoke_session(message).map_err(refused)?;
        let span = span_of("revoke_session", None, &caller);
        let run = async { self.0.revoke_session(&caller, asked).await.map_err(refused) };
        let effective = run.instrument(span).await?;
        Ok(Response::new(pb::RevokeSessionResponse { effective_time: Some(wire::timestamp(effective)) }))
    }

    async fn revoke_contact(
        &self,
        request: Request<pb::RevokeContactRequest>,
    ) -> Result<Response<pb::RevokeContactResponse>, Status> {
        let (caller, message) = open(request)?;
        let (asked, mode) = wire::contacts::revoke_contact(&message).map_err(refused)?;
        let span = span_of("revoke_contact", Some(&asked.about.workspace), &caller);
        let run = async { self.0.revoke_contact(&caller, &asked, mode).await.map_err(refused) };
        let (contact, effective) = run.instrument(span).await?;
        let effective_time = Some(wire::timestamp(effective));
        Ok(Response::new(pb::RevokeContactResponse { contact_id: contact.into(), effective_time }))
    }

    async fn unblock_contact(
        &self,
        request: Request<pb::UnblockContactRequest>,
    ) -> Result<Response<pb::UnblockContactResponse>, Status> {
        let (caller, message) = open(request)?;
        let asked = wire::contacts::unblock_contact(&message).map_err(refused)?;
        let span = span_of("unblock_contact", Some(&asked.about.workspace), &caller);
        let run = async { self.0.unblock_contact(&caller, &asked).await.map_err(refused) };
        let contact = run.instrument(span).await?;
        Ok(Response::new(pb::UnblockContactResponse { contact_id: contact.into() }))
    }

    async fn issue_assertion(
        &self,
        request: Request<pb::IssueAssertionRequest>,
    ) -> Result<Response<pb::IssueAssertionResponse>, Status> {
        let (caller, message) = open(request)?;
        let asked = wire::contacts::issue_assertion(message, self.0.now()).map_err(refused)?;
        let span = span_of("issue_assertion", Some(&asked.workspace), &caller);
        let run = async { told(self.0.issue_assertion(&caller, asked).await) };
        run.instrument(span).await.map(|issued| Response::new(wire::assertion_issued(issued)))
    }

    async fn list_proof_keys(
        &self,
        request: Request<pb::ListProofKeysRequest>,
    ) -> Result<Response<pb::ListProofKeysResponse>, Status> {
        let (caller, message) = open(request)?;
        let workspace = wire::proof_keys::list_proof_keys(&message).map_err(refused)?;
        let span = span_of("list_proof_keys", Some(&workspace), &caller);
        let run = async { self.0.list_proof_keys(&caller, &workspace).await.map_err(refused) };
        let keys = run.instrument(span).await?;
        Ok(Response::new(wire::proof_keys::proof_keys_listed(keys)))
    }
}
