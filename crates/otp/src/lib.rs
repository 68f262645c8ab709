//! The otp service: proves that a lead controls an address.
//!
//! In this version it proves nothing: every call of `safeconduct.otp.v1` answers `UNIMPLEMENTED`, and no code is
//! made, stored or sent. What stands is the contract and the place where the service is mounted, so that callers can
//! be built against both.

use safeconduct_proto::otp::v1 as pb;
use safeconduct_proto::otp::v1::otp_service_server::{OtpService, OtpServiceServer};
use safeconduct_service::caller::caller;
use safeconduct_service::status::to_status;
use safeconduct_types::{Reason, Refusal};
use tonic::{Request, Response, Status};

/// Otp, reached by gRPC.
#[derive(Clone, Copy, Debug, Default)]
pub struct OtpGrpc;

/// The service to be mounted. Its limits and layers are the listener's matter.
pub fn server() -> OtpServiceServer<OtpGrpc> {
    OtpServiceServer::new(OtpGrpc)
}

fn not_yet<T, R>(request: &Request<T>) -> Result<Response<R>, Status> {
    caller(request)?;
    let detail = "this version proves no addresses; a contact can be verified by user hash (VerifyIdentity)";
    Err(to_status(&Refusal::new(Reason::Unimplemented, detail)))
}

#[tonic::async_trait]
impl OtpService for OtpGrpc {
    async fn start_verification(
        &self,
        request: Request<pb::StartVerificationRequest>,
    ) -> Result<Response<pb::StartVerificationResponse>, Status> {
        not_yet(&request)
    }

    async fn resend_code(
        &self,
        request: Request<pb::ResendCodeRequest>,
    ) -> Result<Response<pb::ResendCodeResponse>, Status> {
        not_yet(&request)
    }

    async fn check_verification(
        &self,
        request: Request<pb::CheckVerificationRequest>,
    ) -> Result<Response<pb::CheckVerificationResponse>, Status> {
        not_yet(&request)
    }

    async fn cancel_verification(
        &self,
        request: Request<pb::CancelVerificationRequest>,
    ) -> Result<Response<pb::CancelVerificationResponse>, Status> {
        not_yet(&request)
    }

    async fn get_verification(
        &self,
        request: Request<pb::GetVerificationRequest>,
    ) -> Result<Response<pb::GetVerificationResponse>, Status> {
        not_yet(&request)
    }
}
