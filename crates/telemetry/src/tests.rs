//! The promises that need a whole subscriber.

use std::time::{Duration, Instant};

use safeconduct_types::{Clock, SystemClock};
use tracing::dispatcher::with_default;
use tracing::info_span;

use crate::collector::Collector;
use crate::{InitError, LogFormat, Options, build, propagate};

const WITHIN: Duration = Duration::from_secs(20);

fn env(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    move |name| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

fn quiet() -> Options {
    Options { filter: "off".to_owned(), ..Options::new("shop", "1.2.3") }
}

fn now() -> Instant {
    SystemClock.instant()
}

#[tokio::test]
async fn spans_leave_whatever_the_log_level_is() {
    let collector = Collector::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let env = env(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()), ("OTEL_SERVICE_NAME", "renamed")]);
    let (dispatch, guard) = build(&quiet(), &env).expect("valid options");
    with_default(&dispatch, || {
        info_span!(target: "safeconduct_test", "outer", safeconduct.workspace = "shop").in_scope(|| {
            drop(info_span!(target: "safeconduct_test", "inner"));
            drop(info_span!(target: "hyper", "not ours"));
        });
    });
    // Dropping the guard is what flushes.
    tokio::task::spawn_blocking(move || drop(guard)).await.expect("no panic");
    let spans = collector.wait_for(|spans| spans.len() >= 2, WITHIN).await.expect("both spans arrive");
    assert_eq!(spans.len(), 2, "{spans:?}");
    let outer = spans.iter().find(|span| span.name == "outer").expect("the outer span");
    let inner = spans.iter().find(|span| span.name == "inner").expect("the inner span");
    assert_eq!(outer.service, "renamed");
    assert_eq!(outer.attribute(crate::field::WORKSPACE), Some("shop"));
    assert_eq!(inner.parent_id.as_ref(), Some(&outer.span_id));
    assert_eq!(inner.trace_id, outer.trace_id);
}

#[tokio::test]
async fn what_says_that_it_is_of_no_interest_is_not_exported_and_neither_is_what_it_calls() {
    let collector = Collector::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let env = env(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())]);
    let (dispatch, guard) = build(&quiet(), &env).expect("valid options");
    with_default(&dispatch, || {
        for name in ["unsampled", "new"] {
            let mut incoming = http::HeaderMap::new();
            let span = info_span!(target: "safeconduct_test", "call", otel.name = name);
            if name == "unsampled" {
                propagate::inject_unsampled(&mut incoming);
            }
            propagate::extract(&incoming, &span);
            span.in_scope(|| drop(info_span!(target: "safeconduct_test", "inner")));
            let mut outgoing = http::HeaderMap::new();
            propagate::inject(&span, &mut outgoing);
            let sent = outgoing.get("traceparent").and_then(|value| value.to_str().ok()).expect("a header");
            assert!(sent.ends_with(if name == "new" { "-01" } else { "-00" }), "{name}: {sent}");
        }
    });
    tokio::task::spawn_blocking(move || drop(guard)).await.expect("no panic");
    let spans = collector.wait_for(|spans| spans.len() >= 2, WITHIN).await.expect("both spans of the other arrive");
    assert_eq!(spans.len(), 2, "{spans:?}");
}

#[test]
fn a_dead_collector_delays_the_end_by_no_more_than_a_second() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    // Somebody listens and never answers.
    let endpoint = format!("http://{}", taken.local_addr().expect("bound"));
    let (dispatch, guard) = build(&quiet(), &env(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)])).expect("options");
    with_default(&dispatch, || drop(info_span!(target: "safeconduct_test", "lost")));
    let began = now();
    drop(guard);
    let took = now().duration_since(began);
    assert!(took < Duration::from_millis(2500), "{took:?}");
}

#[test]
fn without_a_collector_traces_still_have_ids_and_go_on() {
    for variables in [&[][..], &[("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:1")]]
    {
        let (dispatch, _guard) = build(&quiet(), &env(variables)).expect("options");
        with_default(&dispatch, || {
            let span = info_span!(target: "safeconduct_test", "call");
            let mut incoming = http::HeaderMap::new();
            let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            incoming.insert("traceparent", parent.parse().expect("a header"));
            propagate::extract(&incoming, &span);
            let id = span.in_scope(propagate::current_trace_id);
            assert_eq!(id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
            let mut outgoing = http::HeaderMap::new();
            propagate::inject(&span, &mut outgoing);
            let sent = outgoing.get("traceparent").and_then(|value| value.to_str().ok()).expect("a header");
            assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && sent.ends_with("-01"), "{sent}");
            assert!(!sent.contains("b7ad6b7169203331"), "our own span is the parent of what comes next");
        });
    }
}

#[test]
fn about_a_call_is_told_what_somebody_reads_and_no_more() {
    let collected = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")];
    for (format, variables, told) in
        [(LogFormat::Json, &[][..], false), (LogFormat::Json, &collected, true), (LogFormat::Human, &[], true)]
    {
        let (dispatch, _guard) = build(&Options { format, ..quiet() }, &env(variables)).expect("options");
        with_default(&dispatch, || {
            let span = info_span!(target: "safeconduct_service::call", "call", rpc.method = "Say");
            assert_eq!(!span.is_disabled(), told, "{format:?} {variables:?}");
            let numbered = info_span!(target: "safeconduct_service::layers", "numbered");
            assert!(numbered.in_scope(propagate::current_trace_id).is_some());
        });
    }
}

#[test]
fn a_trace_context_that_is_repeated_or_broken_is_none() {
    let (dispatch, _guard) = build(&quiet(), &env(&[])).expect("options");
    let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for values in [&[valid, valid][..], &["00-0af7651916cd43dd8448eb211c80319c-zz-01"], &["garbage"]] {
        with_default(&dispatch, || {
            let span = info_span!(target: "safeconduct_test", "call");
            let mut headers = http::HeaderMap::new();
            for value in values {
                headers.append("traceparent", value.parse().expect("a header"));
            }
            propagate::extract(&headers, &span);
            let id = span.in_scope(propagate::current_trace_id);
            assert_ne!(id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"), "{values:?}");
        });
    }
}

#[test]
fn what_this_build_does_not_have_is_said_at_the_start() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
    for other in [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), ("OTEL_TRACES_EXPORTER", "zipkin")] {
        let error = build(&quiet(), &env(&[endpoint, other])).expect_err("refused");
        assert!(matches!(error, InitError::Unsupported { variable, .. } if variable == other.0), "{error}");
    }
    let options = Options { filter: "in=fo=".to_owned(), ..quiet() };
    assert!(matches!(build(&options, &env(&[])), Err(InitError::Filter(_))));
}
