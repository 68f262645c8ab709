//! The RPCs: parse, call, render.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_proto::otp::v1 as pb;
use safeconduct_proto::otp::v1::otp_service_server::{OtpService, OtpServiceServer};
use safeconduct_service::caller::{Caller, caller};
use safeconduct_service::status::to_status;
use safeconduct_telemetry::field;
use safeconduct_types::{Deadline, Refusal};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::{Otp, wire};

/// How long a call may take of which the listener has not said more. It always does; this is no second default.
const UNSAID: Duration = Duration::from_secs(20);

/// Otp, reached by gRPC.
#[derive(Clone, Debug)]
pub struct OtpGrpc(Arc<Otp>);

impl OtpGrpc {
    /// This service's RPCs.
    pub fn over(otp: Arc<Otp>) -> Self {
        Self(otp)
    }

    /// The authenticated caller, its deadline, and the message.
    fn open<T>(&self, request: Request<T>) -> Result<(Arc<Caller>, Deadline, T), Status> {
        let caller = Arc::clone(caller(&request)?);
        let deadline = request.extensions().get().copied();
        let deadline = deadline.unwrap_or_else(|| Deadline::within(self.0.clock.instant(), UNSAID));
        Ok((caller, deadline, request.into_inner()))
    }
}

/// The service to be mounted. Its limits and layers are the listener's matter.
pub fn server(otp: Arc<Otp>) -> OtpServiceServer<OtpGrpc> {
    OtpServiceServer::new(OtpGrpc::over(otp))
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn refused(refusal: Refusal) -> Status {
    tracing::Span::current().record(field::REASON, refusal.reason().as_str());
    to_status(&refusal)
}

/// A span of one use case: who called, for which tenant and contact, how it ended. No address, no code.
macro_rules! span {
    ($name:literal, $caller:expr) => {
        tracing::info_span!(
            $name,
            { field::CALLER } = %$caller.name(),
            { field::WORKSPACE } = Empty,
            { field::CONTACT } = Empty,
            { field::REASON } = Empty,
        )
    };
}

#[tonic::async_trait]
impl OtpService for OtpGrpc {
    async fn start_verification(
        &self,
        request: Request<pb::StartVerificationRequest>,
    ) -> Result<Response<pb::StartVerificationResponse>, Status> {
        let (caller, deadline, message) = self.open(request)?;
        let run = async {
            let asked = wire::start(message).map_err(refused)?;
            let shown = self.0.start(&caller, asked, deadline).await.map_err(refused)?;
            Ok(Response::new(wire::started(&shown)))
        };
        run.instrument(span!("start_verification", caller)).await
    }

    async fn resend_code(
        &self,
        request: Request<pb::ResendCodeRequest>,
    ) -> Result<Response<pb::ResendCodeResponse>, Status> {
        let (caller, deadline, message) = self.open(request)?;
        let run = async {
            let asked = wire::resend(message).map_err(refused)?;
            let shown = self.0.resend(&caller, asked, deadline).await.map_err(refused)?;
            Ok(Response::new(wire::resent(&shown)))
        };
        run.instrument(span!("resend_code", caller)).await
    }

    async fn check_verification(
        &self,
        request: Request<pb::CheckVerificationRequest>,
    ) -> Result<Response<pb::CheckVerificationResponse>, Status> {
        let (caller, deadline, message) = self.open(request)?;
        let run = async {
            let asked = wire::check(message).map_err(refused)?;
            let issued = self.0.check(&caller, asked, deadline).await.map_err(refused)?;
            Ok(Response::new(wire::checked(issued)))
        };
        run.instrument(span!("check_verification", caller)).await
    }

    async fn cancel_verification(
        &self,
        request: Request<pb::CancelVerificationRequest>,
    ) -> Result<Response<pb::CancelVerificationResponse>, Status> {
        let (caller, _, message) = self.open(request)?;
        let run = async {
            let asked = wire::cancel(message).map_err(refused)?;
            let shown = self.0.cancel(&caller, asked).await.map_err(refused)?;
            Ok(Response::new(pb::CancelVerificationResponse { verification: Some(wire::verification(&shown)) }))
        };
        run.instrument(span!("cancel_verification", caller)).await
    }

    async fn get_verification(
        &self,
        request: Request<pb::GetVerificationRequest>,
    ) -> Result<Response<pb::GetVerificationResponse>, Status> {
        let (caller, _, message) = self.open(request)?;
        let run = async {
            let asked = wire::get(message).map_err(refused)?;
            let shown = self.0.get(&caller, asked).await.map_err(refused)?;
            Ok(Response::new(pb::GetVerificationResponse { verification: Some(wire::verification(&shown)) }))
        };
        run.instrument(span!("get_verification", caller)).await
    }
}
