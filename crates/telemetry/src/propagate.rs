//! W3C trace context (`traceparent`, `tracestate`) between header maps and the current `tracing` span.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

/// Makes the trace context in `headers`, if there is a valid one, the parent of `span`. To be called before the span
/// is entered. Anything else in those headers is ignored: a caller cannot fail its call by a bad trace context.
pub fn extract(headers: &HeaderMap, span: &Span) {
    // Repeated headers could be read differently by two parsers, so they count as none.
    if headers.get_all(TRACEPARENT).iter().count() != 1 {
        return;
    }
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(headers));
    if parent.span().span_context().is_valid() && span.set_parent(parent).is_err() {
        tracing::debug!("the span had started before its parent was known");
    }
}

/// Writes the trace context of `span` into `headers`, in place of what they held. Without a subscriber that exports
/// or numbers spans there is none, and nothing is written.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    let context = span.context();
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(&context, &mut Outgoing(headers));
    }
}

/// Writes a trace context into `headers` that says: of no interest. Whoever follows the parent's decision, as the
/// default of `OTEL_TRACES_SAMPLER` does, exports nothing of this call.
pub fn inject_unsampled(headers: &mut HeaderMap) {
    let ids = RandomIdGenerator::default();
    let text = format!("00-{}-{}-00", ids.new_trace_id(), ids.new_span_id());
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(TRACEPARENT, value);
    }
}

/// The trace that the current span belongs to: 32 hexadecimal digits.
pub fn current_trace_id() -> Option<String> {
    let context = Span::current().context();
    let trace = context.span().span_context().clone();
    trace.is_valid().then(|| trace.trace_id().to_string())
}

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Outgoing<'a>(&'a mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        let name = HeaderName::from_bytes(key.as_bytes());
        let value = HeaderValue::from_maybe_shared(value.into_bytes());
        if let (Ok(name), Ok(value)) = (name, value)
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}
