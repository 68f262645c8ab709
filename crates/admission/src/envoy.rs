//! Envoy's rate limit service, mounted and not yet served: limits come with their own issue.

use safeconduct_proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use safeconduct_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use safeconduct_service::caller::{Role, caller};
use safeconduct_service::status::to_status;
use tonic::{Request, Response, Status};

use crate::wire::not_yet;

/// What a gateway asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct EnvoyGrpc;

/// The service to be mounted beside admission's own.
pub fn envoy_server() -> RateLimitServiceServer<EnvoyGrpc> {
    RateLimitServiceServer::new(EnvoyGrpc)
}

#[tonic::async_trait]
impl RateLimitService for EnvoyGrpc {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        caller(&request)?.require(&[Role::Gateway, Role::Service], None).map_err(|refusal| to_status(&refusal))?;
        Err(to_status(&not_yet("ShouldRateLimit")))
    }
}
