//! One trace from the caller through two hops, as a collector sees it.

use std::sync::OnceLock;

use safeconduct_telemetry::collector::{CollectedSpan, Collector};
use safeconduct_telemetry::{Guard, Options, init};
use tonic::metadata::MetadataValue;

use crate::echo::{call, open};
use crate::suite::{Setup, WITHIN, authorized};

static TELEMETRY: OnceLock<(Collector, Guard)> = OnceLock::new();

/// The telemetry of the test process. Its log lines are off, so that the spans prove to be independent of them.
fn collector() -> &'static Collector {
    let (collector, _) = TELEMETRY.get_or_init(|| {
        let collector = Collector::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let endpoint = collector.endpoint();
        let options = Options { filter: "off".to_owned(), ..Options::new("echo", "0") };
        let env = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| endpoint.clone());
        let guard = init(&options, &env).expect("the first to set it up");
        (collector, guard)
    });
    collector
}

async fn trace(id: &str, spans: usize) -> Vec<CollectedSpan> {
    let (_, guard) = TELEMETRY.get().expect("set up");
    // Once the calls have ended on the server's side too, which may be after their answers arrived.
    let flushed = async {
        loop {
            tokio::task::spawn_blocking(|| guard.flush()).await.expect("no panic");
            if collector().spans().iter().filter(|span| span.trace_id == id).count() >= spans {
                return;
            }
        }
    };
    tokio::time::timeout(WITHIN, flushed).await.ok();
    let of_trace = |all: &[CollectedSpan]| all.iter().filter(|span| span.trace_id == id).count() >= spans;
    let all = collector().wait_for(of_trace, WITHIN).await.expect("the spans arrive");
    all.into_iter().filter(|span| span.trace_id == id).collect()
}

#[tokio::test]
async fn one_trace_goes_through_every_hop() {
    collector();
    let server = Setup::default().start();
    let id = "0af7651916cd43dd8448eb211c80319c";
    for channel in [server.sister(), server.in_process()] {
        // As a handler would: a server span around a call to a sister.
        let span = tracing::info_span!(target: "safeconduct_test", "handler");
        let mut headers = http::HeaderMap::new();
        let parent = format!("00-{id}-b7ad6b7169203331-01");
        headers.insert("traceparent", parent.parse().unwrap());
        safeconduct_telemetry::propagate::extract(&headers, &span);
        let answer = call(&channel, "Say", tonic::Request::new(String::new()));
        tracing::Instrument::instrument(answer, span).await.expect("an answer");
    }
    let spans = trace(id, 6).await;
    let handlers: Vec<_> = spans.iter().filter(|span| span.name == "handler").collect();
    assert_eq!(handlers.len(), 2);
    for handler in handlers {
        assert_eq!(handler.parent_id.as_deref(), Some("b7ad6b7169203331"));
        assert_eq!(handler.service, "echo");
        let client =
            spans.iter().find(|span| span.parent_id.as_ref() == Some(&handler.span_id)).expect("a client span");
        assert_eq!((client.name.as_str(), client.kind), ("test.Echo/Say", "client"));
        let server = spans.iter().find(|span| span.parent_id.as_ref() == Some(&client.span_id)).expect("a server span");
        assert_eq!((server.name.as_str(), server.kind), ("test.Echo/Say", "server"));
        assert_eq!(server.attribute("rpc.system"), Some("grpc"));
        assert_eq!(server.attribute("rpc.service"), Some("test.Echo"));
        assert_eq!(server.attribute("rpc.method"), Some("Say"));
        assert_eq!(server.attribute("rpc.grpc.status_code"), Some("0"));
        let caller = server.attribute(safeconduct_telemetry::field::CALLER).expect("the caller's name");
        assert!(["bearer", "connector"].contains(&caller), "{caller}");
    }
}

#[tokio::test]
async fn a_panic_in_the_midst_of_a_stream_names_its_trace() {
    collector();
    let server = Setup::default().start();
    let id = "2af7651916cd43dd8448eb211c80319c";
    let mut request = authorized("hunter2");
    let parent = MetadataValue::try_from(format!("00-{id}-b7ad6b7169203331-01")).unwrap();
    request.metadata_mut().insert("traceparent", parent);
    let mut stream = open(server.plain(), "Break", request).await;
    assert_eq!(stream.message().await.unwrap().as_deref(), Some("begun"));
    let status = stream.message().await.expect_err("a fault");
    assert!(status.message().contains(id), "{status:?}");
    let spans = trace(id, 2).await;
    let call = spans.iter().find(|span| span.name == "test.Echo/Break").expect("a span");
    assert!(call.failed);
    assert_eq!(call.attribute("rpc.grpc.status_code"), Some("13"));
    let rest = spans.iter().find(|span| span.name == "rest").expect("what came later is part of it");
    assert_eq!(rest.parent_id.as_ref(), Some(&call.span_id));
}

#[tokio::test]
async fn a_refusal_and_a_panic_are_on_the_trace_by_reason_only() {
    collector();
    let server = Setup::default().start();
    let id = "1af7651916cd43dd8448eb211c80319c";
    let mut refused = tonic::Request::new("hunter2".to_owned());
    let mut panicked = authorized("hunter2");
    for request in [&mut refused, &mut panicked] {
        let parent = MetadataValue::try_from(format!("00-{id}-b7ad6b7169203331-01")).unwrap();
        request.metadata_mut().insert("traceparent", parent);
    }
    call(&server.plain(), "Say", refused).await.expect_err("refused");
    call(&server.plain(), "Panic", panicked).await.expect_err("a fault");
    let spans = trace(id, 2).await;
    let refused = spans.iter().find(|span| span.name == "test.Echo/Say").expect("a span");
    assert_eq!(refused.attribute(safeconduct_telemetry::field::REASON), Some("CALLER_UNAUTHENTICATED"));
    assert!(!refused.failed, "a refusal is a correct answer");
    let panicked = spans.iter().find(|span| span.name == "test.Echo/Panic").expect("a span");
    assert!(panicked.failed);
    assert_eq!(panicked.attribute("rpc.grpc.status_code"), Some("13"));
    assert!(!format!("{spans:?}").contains("hunter2"));
}
