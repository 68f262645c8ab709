//! What every call passes through, outermost first: trace, panic, deadline, shed, caller, and then the routes. One file
//! each, which says why the layer stands where it stands.

mod body;
mod caller;
mod deadline;
mod form;
mod metrics;
mod panic;
mod passing;
mod routes;
mod shed;
mod trace;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use safeconduct_types::Refusal;
use tonic::body::Body;
use tower::Service;

pub(crate) use body::{Watch, Watched};
pub use caller::{Authenticate, CallerExtension, InProcess, PeerCertificate};
pub(crate) use deadline::{Arrived, Remaining, exceeded, timeout_value};
pub use metrics::{Method, Metrics};
pub use panic::hide_panic_payloads;
use passing::Passing;
pub use routes::{Generated, Routes};
pub(crate) use shed::Gate;
pub(crate) use trace::record_status;

use crate::process::Process;

/// What a layer wraps: the next layer, or the routes. Always ready: what limits calls is the shed layer.
trait Serve: Send + Sync + 'static {
    /// The call as far as this layer; it borrows nothing.
    fn serve(&self, request: Request<Body>) -> impl Future<Output = Passing> + Send + use<Self>;
}

/// An answer on its way.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Routes behind all layers: what a listener serves, and what a sister in the same process calls. Clones share them.
#[derive(Clone)]
pub struct Layered(Arc<All>);

/// Known to the compiler as a whole: a call is one future, however many layers there are.
type All = trace::Trace<panic::Panic<deadline::Limit<shed::Shed<caller::Authenticated>>>>;

impl Layered {
    /// Takes a call.
    pub(crate) fn serve(&self, request: Request<Body>) -> Answer {
        self.0.serve(request)
    }
}

impl std::fmt::Debug for Layered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Layered")
    }
}

/// Puts the layers around `routes`. `open_reflection` lets anybody read the contracts: for loopback listeners, where
/// whoever can connect can read the files anyway. Health is always open.
pub fn layered(
    process: &Process,
    authenticator: Arc<dyn Authenticate>,
    open_reflection: bool,
    routes: Routes,
) -> Layered {
    let caller = caller::Authenticated::new(routes, authenticator, open_reflection);
    let shed = shed::Shed::new(caller, Arc::clone(&process.gate), Arc::clone(&process.metrics));
    let deadline = deadline::Limit::new(shed, process);
    let panic = panic::Panic::new(deadline, Arc::clone(&process.metrics));
    Layered(Arc::new(trace::Trace::new(panic, Arc::clone(&process.metrics), Arc::clone(&process.clock))))
}

impl Service<Request<Body>> for Layered {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        self.serve(request)
    }
}

/// The answer that is a refusal.
pub(crate) fn refuse(refusal: &Refusal) -> Response<Body> {
    crate::status::to_status(refusal).into_http()
}

/// Whether the request is a health probe, which must be answered whatever the state of the process.
fn is_health<B>(request: &Request<B>) -> bool {
    request.uri().path().starts_with("/grpc.health.v1.Health/")
}
