use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use safeconduct_service::server::{DrainOptions, Drained, RuntimeKind};
use tokio::io::AsyncWriteExt;
use tonic::Code;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::echo::{call, watch};
use crate::suite::{Setup, WITHIN, authorized};

const SOON: DrainOptions = DrainOptions { grace: Duration::ZERO, hard_deadline: Duration::from_millis(300) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_loses_no_call_that_was_begun() {
    for runtime in [RuntimeKind::PerCore, RuntimeKind::Shared] {
        let server = Setup { runtime, ..Setup::default() }.start();
        let mut callers = Vec::new();
        for _ in 0..8 {
            let channel = server.plain();
            callers.push(tokio::task::spawn(async move {
                let mut answers = 0;
                loop {
                    match call(&channel, "Say", authorized("hello")).await {
                        Ok(_) => answers += 1,
                        Err(status) => return (answers, status),
                    }
                }
            }));
        }
        let holder = server.plain();
        let held: Vec<_> = (0..20)
            .map(|_| {
                let holder = holder.clone();
                tokio::task::spawn(async move { call(&holder, "Hold", authorized("held")).await })
            })
            .collect();
        server.holding(20).await;
        let (echo, health) = (server.echo.clone(), server.process.health.clone());
        let stopping = server.signal();
        while health.ready().await {
            tokio::task::yield_now().await;
        }
        echo.release.add_permits(20);
        for held in held {
            assert_eq!(held.await.unwrap().expect("begun before the signal"), "held");
        }
        let mut answers = 0;
        for caller in callers {
            let (count, status) = caller.await.unwrap();
            answers += count;
            // What came too late was not accepted, or not even sent: the client's library says so in either of
            // these ways, the last one being a GOAWAY that overtook the request.
            let refused = [Code::Unavailable, Code::Cancelled].contains(&status.code());
            assert!(refused || format!("{status:?}").contains("GoAway"), "{status:?}");
        }
        assert_eq!(answers, echo.said.load(Ordering::Relaxed), "every call that was handled was answered");
        let drained = tokio::time::timeout(WITHIN, stopping).await.expect("in time").unwrap();
        assert_eq!(drained, Drained::default());
    }
}

#[tokio::test]
async fn a_drain_waits_for_tasks_beside_the_calls() {
    let server = Setup::default().start();
    let done = tokio::sync::watch::Sender::new(false);
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let finished = done.clone();
    let process = server.process.clone();
    drop(process.tasks.spawn(async move {
        gone.await.ok();
        finished.send_replace(true);
    }));
    let stopping = server.signal();
    while process.health.ready().await {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    assert_eq!(stopping.await.unwrap(), Drained::default());
    assert!(*done.borrow());
}

#[tokio::test]
async fn before_it_stops_listening_the_process_says_so() {
    let drain = DrainOptions { grace: Duration::from_mins(10), hard_deadline: Duration::from_secs(601) };
    let server = Setup { drain, ..Setup::default() }.start();
    let mut client = HealthClient::new(server.plain());
    let request = HealthCheckRequest { service: "test.Echo".to_owned() };
    let before = client.check(request.clone()).await.expect("an answer").into_inner();
    assert_eq!(before.status, ServingStatus::Serving as i32);
    let (channel, process) = (server.plain(), server.process.clone());
    let stopping = server.signal();
    while process.health.ready().await {
        tokio::task::yield_now().await;
    }
    let after = client.check(request).await.expect("an answer").into_inner();
    assert_eq!(after.status, ServingStatus::NotServing as i32);
    assert_eq!(call(&channel, "Say", authorized("late")).await.expect("still served"), "late");
    stopping.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stopped_reading_does_not_hold_the_process() {
    for runtime in [RuntimeKind::PerCore, RuntimeKind::Shared] {
        let server = Setup { drain: SOON, runtime, ..Setup::default() }.start();
        let address = server.address;
        // The client has a runtime of its own, which can be left standing still.
        let client = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let call = runtime.block_on(open_flood(address));
            (runtime, call)
        });
        let client = client.await.unwrap();
        // From here on nobody reads, and the connection stays open.
        let drained = server.stop().await;
        assert_eq!(drained.connections_cut, 1, "{runtime:?}: {drained:?}");
        tokio::task::spawn_blocking(move || drop(client)).await.unwrap();
    }
}

type Sending = http2::SendRequest<Full<bytes::Bytes>>;

async fn open_flood(address: std::net::SocketAddr) -> (Sending, http::Response<hyper::body::Incoming>) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    drop(tokio::task::spawn(connection));
    let request = Request::post(format!("http://{address}/test.Echo/Flood"))
        .header("authorization", "Bearer letmein")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(bytes::Bytes::from_static(&[0, 0, 0, 0, 0])))
        .unwrap();
    let mut response = send.send_request(request).await.unwrap();
    assert!(response.body_mut().frame().await.is_some());
    (send, response)
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_at_the_hard_deadline() {
    let server = Setup { drain: SOON, ..Setup::default() }.start();
    let channel = server.plain();
    let held = tokio::task::spawn(async move { call(&channel, "Hold", authorized("held")).await });
    server.holding(1).await;
    assert_eq!(server.stop().await.calls_cut, 1);
    assert!(held.await.unwrap().is_err());
}

#[tokio::test]
async fn silent_peers_do_not_hold_the_process() {
    let drain = DrainOptions { grace: Duration::ZERO, hard_deadline: Duration::from_secs(2) };
    let server = Setup { drain, ..Setup::default() }.start();
    let silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    // One byte is not the beginning of a call either.
    let mut one = tokio::net::TcpStream::connect(server.address).await.unwrap();
    one.write_all(b"P").await.unwrap();
    let mut preface = tokio::net::TcpStream::connect(server.address).await.unwrap();
    preface.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    call(&server.plain(), "Say", authorized("")).await.expect("others are served");
    let drained = server.stop().await;
    // Whoever never began is let go soon; the last one could have had a call under way.
    assert_eq!(drained, Drained { connections_cut: 1, ..Drained::default() });
    drop((silent, one, preface));
}

#[tokio::test]
async fn whoever_watches_health_does_not_hold_the_process() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    let server = Setup::default().start();
    let mut client = HealthClient::new(server.plain());
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1, "serving");
    let stopping = server.signal();
    let heard = watch.message().await.unwrap().unwrap();
    assert_eq!(heard.status, 2, "it hears that the process goes");
    assert!(watch.message().await.is_err(), "and then that it is over");
    assert_eq!(stopping.await.unwrap(), Drained::default());
}

#[tokio::test]
async fn an_open_stream_is_told_to_go_elsewhere() {
    let server = Setup::default().start();
    let mut stream = watch(server.plain(), authorized("")).await;
    assert_eq!(stream.message().await.unwrap().as_deref(), Some("begun"));
    let stopping = server.signal();
    let status = stream.message().await.expect_err("ended");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(stopping.await.unwrap(), Drained::default());
}
