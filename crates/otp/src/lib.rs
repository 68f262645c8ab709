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

#[cfg(test)]
mod tests {
    use safeconduct_service::caller::Authenticator;
    use safeconduct_service::config::{Config, LoadOptions};
    use safeconduct_service::status::refusal_in;
    use safeconduct_types::{ManualClock, Timestamp};

    use super::*;

    /// With the SHA-256 of `token-of-messenger`.
    const CALLERS: &str = r#"
[[callers]]
name = "messenger"
roles = ["messenger"]
workspaces = ["*"]
token_sha256 = ["7bc44f4accc4ecedbaeef927e224a4515dbc8b34400f0b2f8fcbd383d94692a6"]
"#;

    fn reason<T>(answer: Result<Response<T>, Status>) -> Option<Reason> {
        answer.err().as_ref().and_then(refusal_in).map(|refusal| refusal.reason())
    }

    #[tokio::test]
    async fn every_call_is_unimplemented_and_says_so_in_its_details() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("safeconduct.toml");
        std::fs::write(&file, CALLERS).unwrap();
        let config = Config::load(&LoadOptions { file: Some(file), ..LoadOptions::default() }).unwrap();
        let known = Authenticator::new(&config, std::sync::Arc::new(ManualClock::at(Timestamp::default()))).unwrap();
        let messenger = known.authenticate(None, Some("Bearer token-of-messenger"), Timestamp::default()).unwrap();
        macro_rules! unimplemented {
            ($($call:ident($request:ident)),*) => {$(
                let mut request = Request::new(pb::$request::default());
                request.extensions_mut().insert(std::sync::Arc::clone(&messenger));
                assert_eq!(reason(OtpGrpc.$call(request).await), Some(Reason::Unimplemented), stringify!($call));
                let nobody = OtpGrpc.$call(Request::new(pb::$request::default())).await;
                assert_eq!(reason(nobody), Some(Reason::CallerUnauthenticated), stringify!($call));
            )*};
        }
        unimplemented!(
            start_verification(StartVerificationRequest),
            resend_code(ResendCodeRequest),
            check_verification(CheckVerificationRequest),
            cancel_verification(CancelVerificationRequest),
            get_verification(GetVerificationRequest)
        );
    }
}
