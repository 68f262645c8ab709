//! A small OTLP/gRPC trace receiver: for the demo's waterfall and for tests. Keeps spans in memory, bounded; not a
//! collector for production.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use safeconduct_types::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Spans kept at most; later ones are dropped.
const MAX_SPANS: usize = 100_000;

/// A span as a collector sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectedSpan {
    /// `service.name` of the process that reported it.
    pub service: String,
    /// The span's name.
    pub name: String,
    /// The trace, 32 hexadecimal digits.
    pub trace_id: String,
    /// The span, 16 hexadecimal digits.
    pub span_id: String,
    /// The parent span; `None` for a root.
    pub parent_id: Option<String>,
    /// `server`, `client` or `internal`.
    pub kind: &'static str,
    /// Nanoseconds since the epoch.
    pub start_nanos: u64,
    /// Nanoseconds since the epoch.
    pub end_nanos: u64,
    /// Attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// Names of the events on it.
    pub events: Vec<String>,
    /// Whether the span says that it failed.
    pub failed: bool,
}

impl CollectedSpan {
    /// How long it took.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.end_nanos.saturating_sub(self.start_nanos))
    }

    /// When it started, to the millisecond.
    pub fn started(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.start_nanos / 1_000_000).unwrap_or(i64::MAX))
    }

    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

/// A running receiver, on a thread of its own; ends when dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<CollectedSpan>>>,
    arrivals: watch::Receiver<usize>,
    _stop: oneshot::Sender<()>,
}

impl Collector {
    /// Listens on `address` (port 0: any free port).
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let spans = Arc::new(Mutex::new(Vec::new()));
        let (arrived, arrivals) = watch::channel(0);
        let (stop, stopped) = oneshot::channel::<()>();
        let service = TraceServiceServer::new(Receiver { spans: Arc::clone(&spans), arrived });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let incoming = {
            let _inside = runtime.enter();
            TcpListenerStream::new(tokio::net::TcpListener::from_std(listener)?)
        };
        std::thread::Builder::new().name("otlp-collect".to_owned()).spawn(move || {
            let serve = Server::builder().add_service(service).serve_with_incoming(incoming);
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    _ = serve => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Self { address, spans, arrivals, _stop: stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to set `OTEL_EXPORTER_OTLP_ENDPOINT` to.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans received so far, in order of arrival.
    pub fn spans(&self) -> Vec<CollectedSpan> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the spans received so far.
    pub fn clear(&self) {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until the spans received so far satisfy `enough`, for at most `within`. Either way the spans are handed
    /// out: as `Err` if the time ran out.
    pub async fn wait_for(
        &self,
        enough: impl Fn(&[CollectedSpan]) -> bool,
        within: Duration,
    ) -> Result<Vec<CollectedSpan>, Vec<CollectedSpan>> {
        let mut arrivals = self.arrivals.clone();
        let satisfied = async {
            loop {
                arrivals.borrow_and_update();
                let spans = self.spans();
                if enough(&spans) {
                    return Some(spans);
                }
                arrivals.changed().await.ok()?;
            }
        };
        match tokio::time::timeout(within, satisfied).await {
            Ok(Some(spans)) => Ok(spans),
            Ok(None) | Err(_) => Err(self.spans()),
        }
    }
}

struct Receiver {
    spans: Arc<Mutex<Vec<CollectedSpan>>>,
    arrived: watch::Sender<usize>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut count = 0;
        {
            let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
            for resource in request.into_inner().resource_spans {
                let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
                let service = texts(attributes).remove("service.name").unwrap_or_default();
                for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    if spans.len() < MAX_SPANS {
                        spans.push(collected(&service, span));
                        count += 1;
                    }
                }
            }
        }
        self.arrived.send_modify(|total| *total += count);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn collected(service: &str, span: Span) -> CollectedSpan {
    let kind = match span.kind() {
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Internal | SpanKind::Unspecified => "internal",
    };
    CollectedSpan {
        service: service.to_owned(),
        kind,
        trace_id: hex::encode(&span.trace_id),
        span_id: hex::encode(&span.span_id),
        parent_id: (!span.parent_span_id.is_empty()).then(|| hex::encode(&span.parent_span_id)),
        start_nanos: span.start_time_unix_nano,
        end_nanos: span.end_time_unix_nano,
        attributes: texts(span.attributes),
        events: span.events.into_iter().map(|event| event.name).collect(),
        failed: span.status.is_some_and(|status| status.code() == StatusCode::Error),
        name: span.name,
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|pair| (pair.key, pair.value.map(text).unwrap_or_default())).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}
