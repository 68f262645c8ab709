use std::collections::BTreeSet;
use std::time::Duration;

use safeconduct_service::process::CallLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::echo::{ask, call, open, watch};
use crate::suite::{Setup, WITHIN, authorized};

#[tokio::test]
async fn a_malformed_timeout_is_refused() {
    let server = Setup::default().start();
    for timeout in ["5", "5s", "-1S", "999999999S", "1.5S"] {
        let mut request = authorized("hello");
        request.metadata_mut().insert("grpc-timeout", MetadataValue::try_from(timeout).unwrap());
        let status = call(&server.plain(), "Say", request).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{timeout}");
        assert_eq!(status.get_details_error_info().expect("ErrorInfo").reason, "INPUT_INVALID");
        assert_eq!(status.get_details_bad_request().expect("BadRequest").field_violations[0].field, "grpc-timeout");
    }
    let mut request = authorized("hello");
    request.metadata_mut().append("grpc-timeout", MetadataValue::from_static("1S"));
    request.metadata_mut().append("grpc-timeout", MetadataValue::from_static("1H"));
    let status = call(&server.plain(), "Say", request).await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_call_without_a_deadline_gets_the_default_one() {
    let limits = CallLimits { default_deadline: Duration::from_millis(60), ..CallLimits::default() };
    let server = Setup { limits, ..Setup::default() }.start();
    let status = call(&server.plain(), "Wait", authorized("")).await.expect_err("too late");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.get_details_error_info().is_none(), "a handler that was cut off may have acted");
}

#[tokio::test]
async fn a_stream_that_says_nothing_more_ends_with_its_deadline() {
    let server = Setup::default().start();
    let begin = || {
        let mut request = authorized("");
        request.set_timeout(Duration::from_secs(1));
        request
    };
    for mut stream in [watch(server.plain(), begin()).await, watch(server.in_process(), begin()).await] {
        assert_eq!(stream.message().await.unwrap().as_deref(), Some("begun"));
        let ended = tokio::time::timeout(WITHIN, stream.message()).await.expect("in time");
        let status = ended.expect_err("nobody says anything more");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(status.get_details_error_info().is_none(), "it may have done something");
    }
}

#[tokio::test]
async fn what_nobody_serves_is_told_to_who_may_ask_and_in_one_form() {
    let server = Setup::default().start();
    for path in ["/test.Nope/Say", "/test.Echo/", "/test.EchoTwo/Say"] {
        let status = ask(&server.plain(), path, authorized("")).await.expect_err("nobody serves it");
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        assert_eq!(status.get_details_error_info().expect("ErrorInfo").reason, "UNIMPLEMENTED");
        let status = ask(&server.plain(), path, tonic::Request::new(String::new())).await.expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated, "{path}: who proves nothing learns nothing");
    }
    let open = ask(&server.plain(), "/grpc.health.v1.Health/Nope", tonic::Request::new(String::new())).await;
    assert_eq!(open.expect_err("not a call of it").code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_deadline_too_far_away_is_brought_forward() {
    let limits = CallLimits { max_deadline: Duration::from_secs(30), ..CallLimits::default() };
    let server = Setup { limits, ..Setup::default() }.start();
    let mut request = authorized("");
    request.set_timeout(Duration::from_hours(1));
    let left: u64 = call(&server.plain(), "Left", request).await.expect("an answer").parse().unwrap();
    assert!((1..=30_000).contains(&left), "{left} ms");
}

#[tokio::test]
async fn a_panic_ends_one_call_and_tells_nothing() {
    let server = Setup::default().start();
    let channel = server.plain();
    let status = call(&channel, "Panic", authorized("hunter2")).await.expect_err("a fault");
    assert_eq!(status.code(), Code::Internal);
    assert!(!format!("{status:?}").contains("hunter2"), "{status:?}");
    assert!(status.get_details_error_info().is_none(), "a handler that panicked may have acted");
    assert_eq!(call(&channel, "Say", authorized("still here")).await.expect("an answer"), "still here");
    assert!(server.process.metrics.render().contains("safeconduct_panics_total 1"));
}

#[tokio::test]
async fn a_panic_in_the_midst_of_a_stream_ends_that_and_gives_its_place_back() {
    let limits = CallLimits { max_in_flight: 1, ..CallLimits::default() };
    let server = Setup { limits, ..Setup::default() }.start();
    let channel = server.plain();
    let mut stream = open(channel.clone(), "Break", authorized("hunter2")).await;
    assert_eq!(stream.message().await.unwrap().as_deref(), Some("begun"));
    let status = stream.message().await.expect_err("a fault");
    assert_eq!(status.code(), Code::Internal);
    assert!(!format!("{status:?}").contains("hunter2"), "{status:?}");
    drop(stream);
    assert_eq!(call(&channel, "Say", authorized("still here")).await.expect("an answer"), "still here");
    let text = server.process.metrics.render();
    assert!(text.contains("safeconduct_panics_total 1"), "{text}");
    let counted = "safeconduct_calls_total{service=\"test.Echo\",method=\"Break\",code=\"13\"} 1";
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn one_call_too_many_is_told_to_come_back() {
    let limits = CallLimits { max_in_flight: 1, ..CallLimits::default() };
    let server = Setup { limits, ..Setup::default() }.start();
    let (first, second) = (server.plain(), server.plain());
    let held = tokio::task::spawn(async move { call(&first, "Hold", authorized("held")).await });
    server.holding(1).await;
    // From another connection, hence another worker: the bound is the process's.
    let status = call(&second, "Say", authorized("")).await.expect_err("refused");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.get_details_error_info().expect("ErrorInfo").reason, "OVERLOADED");
    assert!(status.get_details_retry_info().expect("RetryInfo").retry_delay.is_some());
    HealthClient::new(second.clone()).check(HealthCheckRequest::default()).await.expect("health is exempt");
    let nested = call(&server.in_process(), "Say", tonic::Request::new("nested".to_owned())).await;
    assert_eq!(nested.expect("a call from within was let in already"), "nested");
    server.echo.release.add_permits(1);
    assert_eq!(held.await.unwrap().expect("the first is served"), "held");
    assert_eq!(call(&second, "Say", authorized("now")).await.expect("there is room again"), "now");
}

#[tokio::test]
async fn an_answer_has_its_place_until_its_end() {
    let limits = CallLimits { max_in_flight: 1, ..CallLimits::default() };
    let server = Setup { limits, ..Setup::default() }.start();
    let channel = server.plain();
    let mut stream = watch(channel.clone(), authorized("")).await;
    assert_eq!(stream.message().await.unwrap().as_deref(), Some("begun"));
    let status = call(&channel, "Say", authorized("")).await.expect_err("refused");
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(stream);
    let answered = async { while call(&channel, "Say", authorized("")).await.is_err() {} };
    tokio::time::timeout(WITHIN, answered).await.expect("there is room once nobody listens any more");
}

#[tokio::test]
async fn whoever_proves_nothing_is_refused() {
    let server = Setup::default().start();
    let channel = server.plain();
    let status = call(&channel, "Caller", tonic::Request::new(String::new())).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.get_details_error_info().expect("ErrorInfo").reason, "CALLER_UNAUTHENTICATED");
    let mut twice = authorized("");
    twice.metadata_mut().append("authorization", MetadataValue::from_static("Bearer other"));
    assert_eq!(call(&channel, "Caller", twice).await.expect_err("refused").code(), Code::Unauthenticated);
    assert_eq!(call(&channel, "Caller", authorized("")).await.expect("an answer"), "bearer");
}

#[tokio::test]
async fn connections_are_spread_over_the_workers() {
    let server = Setup::default().start();
    let mut threads = BTreeSet::new();
    let channels = [server.plain(), server.plain()];
    for channel in &channels {
        threads.insert(call(channel, "Thread", authorized("")).await.expect("an answer"));
    }
    assert_eq!(threads.len(), 2, "{threads:?}");
}

#[tokio::test]
async fn both_versions_of_reflection_name_the_services() {
    use tonic_reflection::pb::{v1, v1alpha};
    let server = Setup::default().start();
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.plain());
    let answer = client.server_reflection_info(tokio_stream::once(request)).await.expect("open on loopback");
    let answer = answer.into_inner().message().await.unwrap().unwrap();
    assert!(format!("{answer:?}").contains("test.Echo"), "{answer:?}");
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.plain());
    let answer = client.server_reflection_info(tokio_stream::once(request)).await.expect("open on loopback");
    assert!(format!("{:?}", answer.into_inner().message().await.unwrap()).contains("test.Echo"));
}

#[tokio::test]
async fn the_operations_port_tells_life_readiness_and_counts() {
    let server = Setup::default().start();
    call(&server.plain(), "Say", authorized("")).await.expect("an answer");
    assert!(get(&server, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get(&server, "/readyz").await.starts_with("HTTP/1.1 200"));
    let document = get(&server, "/a-document").await;
    assert!(document.contains("application/json") && document.ends_with("{}"), "{document}");
    let metrics = get(&server, "/metrics").await;
    let line = "safeconduct_calls_total{service=\"test.Echo\",method=\"Say\",code=\"0\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    server.process.health.set("", false).await;
    assert!(get(&server, "/readyz").await.starts_with("HTTP/1.1 503"));
}

async fn get(server: &crate::suite::Running, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.operations).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn costly_calls_of_one_connection_get_more_than_one_worker() {
    let server = Setup::default().start();
    let channel = server.plain();
    let mut threads = BTreeSet::new();
    // How costly a method is has to be learnt.
    let learnt = async {
        while threads.len() < 2 {
            let calls = (0..16).map(|_| call(&channel, "Work", authorized("")));
            for answer in futures_util::future::join_all(calls).await {
                threads.insert(answer.expect("an answer"));
            }
        }
    };
    tokio::time::timeout(WITHIN, learnt).await.expect("another worker takes some");
    let cheap = call(&channel, "Thread", authorized("")).await.expect("an answer");
    for _ in 0..16 {
        assert_eq!(call(&channel, "Thread", authorized("")).await.expect("an answer"), cheap, "cheap calls stay");
    }
}
