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

use super::passing::{Passage, Passing};
use super::{Answer, Method, Metrics, Serve, Watched};

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

impl<S: Serve> Trace<S> {
    pub(super) fn serve(&self, mut request: Request<Body>) -> Answer {
        let known = request.extensions().get::<Arc<Method>>().cloned();
        let method = known.unwrap_or_else(|| self.metrics.method(request.uri().path()));
        let span = span(&method);
        propagate::extract(request.headers(), &span);
        let mut call = Call::begin(&span, &method, &self.metrics, &self.clock);
        request.extensions_mut().insert(method);
        let answer = span.in_scope(|| self.inner.serve(request)).instrument(span);
        Box::pin(async move {
            let Passing { response, held } = answer.await;
            if response.headers().contains_key(Status::GRPC_STATUS) {
                call.end(response.headers(), response.extensions().get());
                return Ok(response);
            }
            Ok(Watched::response(response, Passage { call, held }))
        })
    }
}

/// What is told about a call where somebody reads it; elsewhere a span that has no more than its trace.
fn span(method: &Method) -> Span {
    let told = info_span!(
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
    if told.is_disabled() { info_span!("numbered") } else { told }
}

/// A call that has begun. If it is dropped before it has ended, whoever called has gone away.
pub(super) struct Call {
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

    pub(super) const fn span(&self) -> &Span {
        &self.span
    }

    /// Makes a part of the answer. The rest of a stream is made then, and is part of the trace; the only message of any
    /// other call was made before, and all that is left is to write it down.
    pub(super) fn within<T>(&self, make: impl FnOnce() -> T) -> T {
        if self.method.streams() { self.span.in_scope(make) } else { make() }
    }

    pub(super) fn end(&mut self, headers: &HeaderMap, status: Option<&Status>) {
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
