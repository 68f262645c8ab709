//! How a service calls a sister: over TCP, or in process through the sister's own layers. The same generated clients
//! use either.
//!
//! Each call gets a client span (but see [`unobserved`]), carries the trace context and the time that is left (see
//! [`with_deadline`]), and ends by its deadline whatever the other side does. A failed connection is a status like any
//! other: `UNAVAILABLE` without `ErrorInfo`, because the request may have arrived.

mod tcp;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request, Response};
use safeconduct_telemetry::propagate;
use safeconduct_types::{Clock, Deadline, Reason, Refusal};
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

pub use tcp::{ChannelError, TcpOptions};

use crate::layers::{
    Answer, InProcess, Layered, Remaining, Watch, Watched, exceeded, record_status, refuse, timeout_value,
};

/// The request with the deadline by which its answer must be there. The channel sends what is left of it.
pub fn with_deadline<T>(message: T, deadline: Option<Deadline>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(deadline) = deadline {
        request.extensions_mut().insert(deadline);
    }
    request
}

/// Marks a request that is sent again and again on nobody's behalf.
#[derive(Clone, Copy, Debug)]
struct Routine;

/// The request without spans, on this side and the other: for what asks several times a second whether something has
/// changed, and would fill a collector with traces of nothing.
#[must_use]
pub fn unobserved<T>(mut request: tonic::Request<T>) -> tonic::Request<T> {
    request.extensions_mut().insert(Routine);
    request
}

/// A way to a sister service. Clones share the connection.
#[derive(Clone)]
pub struct SisterChannel {
    way: Way,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
enum Way {
    Tcp { channel: tonic::transport::Channel, token: Option<HeaderValue> },
    InProcess { service: Layered, from: InProcess },
}

impl fmt::Debug for SisterChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.way {
            Way::Tcp { .. } => "SisterChannel(tcp)",
            Way::InProcess { .. } => "SisterChannel(in process)",
        })
    }
}

impl SisterChannel {
    /// A channel to another process. Connects when first used, and again whenever the connection is lost. To be made
    /// inside a runtime, which then drives the connection.
    pub fn tcp(options: &TcpOptions, clock: Arc<dyn Clock>) -> Result<Self, ChannelError> {
        let (channel, token) = tcp::open(options)?;
        Ok(Self { way: Way::Tcp { channel, token }, clock })
    }

    /// A channel to a sister in this process, for the service called `from`. The sister sees a caller that nothing
    /// from outside can claim to be.
    pub fn in_process(from: &'static str, service: Layered, clock: Arc<dyn Clock>) -> Self {
        Self { way: Way::InProcess { service, from: InProcess::new(from) }, clock }
    }

    /// The clock by which its deadlines are.
    pub const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn send(&mut self, mut request: Request<Body>, left: Option<Duration>) -> Answer {
        match &mut self.way {
            Way::InProcess { service, from } => {
                request.extensions_mut().insert(*from);
                service.serve(request)
            }
            Way::Tcp { channel, token } => {
                if let Some(token) = token {
                    request.headers_mut().insert(AUTHORIZATION, token.clone());
                }
                tcp::send(channel.clone(), request, left)
            }
        }
    }
}

impl Service<Request<Body>> for SisterChannel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Waiting for a connection counts against the call's deadline, so it happens in the call.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        let left = request.extensions_mut().remove::<Deadline>().map(|end| end.remaining(self.clock.instant()));
        if left == Some(Duration::ZERO) {
            let refusal = Refusal::new(Reason::DeadlineTooShort, "no time was left to call another service");
            return Box::pin(std::future::ready(Ok(refuse(&refusal))));
        }
        if let Some(value) = left.and_then(timeout_value) {
            request.headers_mut().insert("grpc-timeout", value);
        }
        let span = if request.extensions_mut().remove::<Routine>().is_some() {
            propagate::inject_unsampled(request.headers_mut());
            Span::none()
        } else {
            let span = client_span(request.uri().path());
            propagate::inject(&span, request.headers_mut());
            span
        };
        let mut ending = Ending { span: span.clone(), left: Remaining::new(left, None) };
        let answer = span.in_scope(|| self.send(request, left)).instrument(span);
        Box::pin(async move {
            let response = tokio::select! {
                biased;
                response = answer => response?,
                status = std::future::poll_fn(|cx| ending.cut(cx)) => status.into_http(),
            };
            if response.headers().contains_key(Status::GRPC_STATUS) {
                ending.trailers(response.headers());
                return Ok(response);
            }
            Ok(Watched::response(response, ending))
        })
    }
}

fn client_span(path: &str) -> Span {
    let path = path.trim_start_matches('/');
    let (service, method) = path.split_once('/').unwrap_or((path, ""));
    let told = info_span!(
        target: "safeconduct_service::call",
        "call",
        otel.name = path,
        otel.kind = "client",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
        safeconduct.reason = Empty,
    );
    // As a call's own span: nobody reads it, but the sister's is to be of the same trace.
    if told.is_disabled() { info_span!("numbered") } else { told }
}

/// The client's side of a call's end.
struct Ending {
    span: Span,
    left: Remaining,
}

impl Watch for Ending {
    fn cut(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        self.left.cut(cx)
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        record_status(&self.span, trailers, None, |_| true);
    }
}
