//! Envoy's rate limit service over our rates, so that an Envoy or Istio gateway can use admission as it is.
//!
//! Which descriptor has which limit stands in files of `envoyproxy/ratelimit`'s form (`admission_domain::envoy`); each
//! that matched is a rate of its own, counted on the store in a slot of its own, so that counters spread over a
//! cluster: a request is one round trip for each descriptor that has a limit, all at once.
//!
//! What somebody notices who comes from `envoyproxy/ratelimit`:
//! - A limit is smoothed (GCRA), there are no windows: `requests_per_unit` may come at once (or `burst`, which is our
//!   addition), and come back one by one instead of all at the end of a unit. As there, two units' worth can pass
//!   within one unit at most, a burst and what comes back.
//! - A request that a limit refused is not counted in that limit. In the others of the same request it is, as there.
//! - `duration_until_reset` is the time until the limit is whole again; `Retry-After` is sent, too.
//! - At most a million requests in one unit, and each domain in one file.
//! - Hits that are given back (`is_negative_hits`) and `quota_mode` are refused.
//! - A key with a value is never taken for another key with another value, whatever `_` they hold.
//!
//! Without the store nothing is decided: the call fails with `STORE_UNAVAILABLE`, and the gateway's own
//! `failure_mode_deny` says what that means.
//!
//! Who may ask: callers of role gateway, about the domains that their entry in `[[callers]]` lists. What they send is
//! trusted no further than to name a counter of such a domain.

mod decide;
mod files;
mod headers;
#[cfg(test)]
mod tests;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use safeconduct_proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use safeconduct_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use safeconduct_service::caller::caller;
use safeconduct_service::config::{ConfigError, EnvoyConfig, GatewayHeaders};
use safeconduct_service::status::to_status;
use safeconduct_service::tasks::Tasks;
use safeconduct_store::StoreKeyer;
use tonic::{Request, Response, Status};

use crate::engine::Engine;

pub use files::check_descriptors;

/// The most bytes of a request.
const MAX_REQUEST: usize = 256 * 1024;

/// The limits of the gateways, and what counts them.
#[derive(Debug)]
pub struct Gateway {
    live: RwLock<Arc<files::Live>>,
    /// None: no limits are configured, and nothing is answered.
    path: Option<PathBuf>,
    headers: GatewayHeaders,
    engine: Arc<dyn Engine>,
    keyer: StoreKeyer,
}

impl Gateway {
    /// The limits that the configuration names, read and checked.
    pub(crate) fn new(
        config: &EnvoyConfig,
        engine: Arc<dyn Engine>,
        keyer: StoreKeyer,
    ) -> Result<Arc<Self>, ConfigError> {
        let live = config.descriptors.as_deref().map(files::load).transpose()?.unwrap_or_default();
        let live = RwLock::new(Arc::new(live));
        Ok(Arc::new(Self { live, path: config.descriptors.clone(), headers: config.headers, engine, keyer }))
    }

    /// Takes the files anew whenever they change.
    pub fn follow(self: &Arc<Self>, tasks: &Tasks) {
        if let Some(path) = &self.path {
            files::follow(self, path.clone(), tasks);
        }
    }

    /// The service to be mounted beside admission's own.
    pub fn server(self: &Arc<Self>) -> RateLimitServiceServer<EnvoyGrpc> {
        RateLimitServiceServer::new(EnvoyGrpc(Arc::clone(self)))
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(MAX_REQUEST)
    }

    /// What was counted, in the text format of Prometheus.
    pub fn metrics(&self, text: &mut String) {
        self.live().render(text);
    }

    fn live(&self) -> Arc<files::Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, live: files::Live) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }

    fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

/// What a gateway asks.
#[derive(Clone, Debug)]
pub struct EnvoyGrpc(Arc<Gateway>);

#[tonic::async_trait]
impl RateLimitService for EnvoyGrpc {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let caller = Arc::clone(caller(&request)?);
        let message = request.into_inner();
        let decided = match caller.require_domain(&message.domain) {
            Ok(()) => self.0.decide(message).await,
            Err(refusal) => Err(refusal),
        };
        decided.map(Response::new).map_err(|refusal| to_status(&refusal))
    }
}
