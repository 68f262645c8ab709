//! Innermost: the services that a listener has, each found by its name.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::Answer;

/// The services of a listener, by their full names: one of each, the last that was added. A path within none of them is
/// answered `UNIMPLEMENTED`.
///
/// tonic's own routes do the same with a web framework in between, which boxes each body and each future twice more.
#[derive(Clone, Default)]
pub struct Routes {
    services: Vec<(&'static str, Arc<dyn Serve>)>,
}

impl Routes {
    /// Routes to one service.
    pub fn new<S: Generated>(service: S) -> Self {
        Self::default().add_service(service)
    }

    /// The routes with one more service, or with this in the place of another one of that name.
    #[must_use]
    pub fn add_service<S: Generated>(mut self, service: S) -> Self {
        self.services.retain(|(name, _)| *name != S::NAME);
        self.services.push((S::NAME, Arc::new(Route(service))));
        self
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.services.iter().map(|(name, _)| name)).finish()
    }
}

impl Routes {
    pub(super) fn serve(&self, request: Request<Body>) -> Answer {
        // `/package.Service/Method` (gRPC over HTTP/2, "Requests").
        let path = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        let named = path.filter(|(_, method)| !method.is_empty()).map(|(service, _)| service);
        match self.services.iter().find(|(name, _)| named == Some(*name)) {
            Some((_, service)) => service.serve(request),
            None => Box::pin(std::future::ready(Ok(Status::unimplemented("").into_http()))),
        }
    }
}

/// A server that tonic has generated: always ready, and cheap to clone.
pub trait Generated:
    NamedService
    + Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Generated for S where
    S: NamedService
        + Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A service, whichever it is.
trait Serve: Send + Sync + 'static {
    fn serve(&self, request: Request<Body>) -> Answer;
}

struct Route<S>(S);

impl<S: Generated> Serve for Route<S> {
    fn serve(&self, request: Request<Body>) -> Answer {
        self.0.clone().call(request)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_health::pb::health_server::HealthServer;
    use tonic_health::server::{HealthReporter, HealthService};

    use super::*;

    fn health() -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(HealthReporter::new()))
    }

    async fn code(path: &str) -> Code {
        asked(&Routes::new(health()), path, Body::empty()).await
    }

    async fn asked(routes: &Routes, path: &str, body: Body) -> Code {
        let mut request = Request::new(body);
        *request.uri_mut() = path.parse().unwrap();
        let response = routes.serve(request).await.unwrap();
        Status::from_header_map(response.headers()).unwrap().code()
    }

    #[tokio::test]
    async fn a_path_leads_to_the_service_that_it_names_and_to_no_other() {
        // The service answers for itself: there is no message in the request.
        assert_eq!(code("/grpc.health.v1.Health/Check").await, Code::Internal);
        for elsewhere in [
            "/grpc.health.v1.Health/",
            "/grpc.health.v1.Health",
            "/grpc.health.v1.Healt/Check",
            "/grpc.health.v1.Health2/Check",
            "//grpc.health.v1.Health/Check",
            "/x/grpc.health.v1.Health/Check",
            "/",
        ] {
            assert_eq!(code(elsewhere).await, Code::Unimplemented, "{elsewhere}");
        }
    }

    #[tokio::test]
    async fn of_two_services_of_one_name_the_last_is_served() {
        // A message of 8 bytes: the name of a service that nobody has.
        let message = || Body::new(http_body_util::Full::from(&b"\0\0\0\0\x08\x0a\x06absent"[..]));
        let narrow = || health().max_decoding_message_size(7);
        for (routes, expected) in [
            (Routes::new(health()).add_service(narrow()), Code::OutOfRange),
            (Routes::new(narrow()).add_service(health()), Code::NotFound),
        ] {
            assert_eq!(asked(&routes, "/grpc.health.v1.Health/Check", message()).await, expected);
        }
    }
}
