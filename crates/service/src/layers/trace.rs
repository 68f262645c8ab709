//! Outermost, so that every other layer's answer is on the trace and counted too.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::{HeaderMap, Request};
use safeconduct_telemetry::propagate;
use safeconduct_types::Clock;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use super::{Answer, Method, Metrics, Serve, Watch, Watched};

pub(super) struct Trace<S> {
    inner: S,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl<S> Trace<S> {
    pub(super) fn new(inner: S, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, metrics, clock }
    }
}

impl<S: Serve> Serve for Trace<S> {
    fn serve(&self, mut request: Request<Body>) -> Answer {
        let known = request.extensions().get::<Arc<Method>>().cloned();
        let method = known.unwrap_or_else(|| self.metrics.method(request.uri().path()));
        let span = info_span!(
            target: "safeconduct_service::call",
            "call",
            otel.name = method.full_name(),
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system = "grpc",
            rpc.service = method.service(),
            rpc.method = method.name(),
            rpc.grpc.status_code = Empty,
            safeconduct.caller = Empty,
            safeconduct.reason = Empty,
        );
        propagate::extract(request.headers(), &span);
        let call = Call::begin(&span, &method, &self.metrics, &self.clock);
        request.extensions_mut().insert(method);
        let answer = span.in_scope(|| self.inner.serve(request)).instrument(span);
        Box::pin(async move {
            let mut call = call;
            let response = answer.await?;
            if response.headers().contains_key(Status::GRPC_STATUS) {
                call.end(response.headers(), response.extensions().get());
                return Ok(response);
            }
            Ok(Watched::response(response, call))
        })
    }
}

/// A call that has begun. If it is dropped before it has ended, whoever called has gone away.
struct Call {
    span: Span,
    method: Arc<Method>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    began: Instant,
    ended: bool,
}

impl Call {
    fn begin(span: &Span, method: &Arc<Method>, metrics: &Arc<Metrics>, clock: &Arc<dyn Clock>) -> Self {
        metrics.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            span: span.clone(),
            method: Arc::clone(method),
            metrics: Arc::clone(metrics),
            clock: Arc::clone(clock),
            began: clock.instant(),
            ended: false,
        }
    }

    fn end(&mut self, headers: &HeaderMap, status: Option<&Status>) {
        let code = record_status(&self.span, headers, status, is_our_fault);
        self.count(code);
    }

    fn count(&mut self, code: Code) {
        if !self.ended {
            self.ended = true;
            self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
            let took = self.clock.instant().saturating_duration_since(self.began);
            self.method.count(code, took);
        }
    }
}

impl Watch for Call {
    fn trailers(&mut self, trailers: &HeaderMap) {
        self.end(trailers, None);
    }

    fn poll<T>(&mut self, poll: impl FnOnce() -> T) -> Result<T, Status> {
        // The rest of a stream is made while its body is polled.
        Ok(self.span.in_scope(poll))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.span.record("rpc.grpc.status_code", i64::from(i32::from(Code::Cancelled)));
            self.count(Code::Cancelled);
        }
    }
}

/// Writes how a call ended on its span: the code, the stable reason if there is one, and whether it counts as failed.
pub(crate) fn record_status(
    span: &Span,
    headers: &HeaderMap,
    status: Option<&Status>,
    failed: impl FnOnce(Code) -> bool,
) -> Code {
    let code = headers.get(Status::GRPC_STATUS).map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
    span.record("rpc.grpc.status_code", i64::from(i32::from(code)));
    if code != Code::Ok {
        let parsed = if status.is_none() { Status::from_header_map(headers) } else { None };
        let reason = status.or(parsed.as_ref()).and_then(StatusExt::get_details_error_info);
        if let Some(reason) = reason {
            span.record("safeconduct.reason", reason.reason);
        }
        if failed(code) {
            span.record("otel.status_code", "ERROR");
        }
    }
    code
}

/// A refusal is a correct answer: on a server's span only these mean that something is wrong with the server.
fn is_our_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
