//! The guarded client against real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use safeconduct_types::{Clock, Deadline, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use url::Url;

use crate::{AddressPolicy, Answer, BodyError, Call, CallError, Cause, Target, Upstream, UpstreamOptions, client_tls};

/// A server that reads a request's head, sends these bytes and closes; `None` for one that never answers.
async fn scripted(reply: Option<Vec<u8>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&heads);
    #[allow(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut received = Vec::new();
            // A TLS greeting (record type 22) is answered as it is.
            while received.first() != Some(&22) && !received.windows(4).any(|four| four == b"\r\n\r\n") {
                let mut buffer = [0; 1024];
                match stream.read(&mut buffer).await {
                    Ok(read) if read > 0 => received.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            seen.fetch_add(1, Ordering::SeqCst);
            match &reply {
                Some(reply) => {
                    let _ = stream.write_all(reply).await;
                }
                None => held.push(stream),
            }
        }
    });
    (format!("http://{address}"), heads)
}

fn upstream(url: &str, allow: &[&str]) -> Upstream {
    Upstream::new(
        Target::parse(url, true).unwrap(),
        AddressPolicy::allowing(allow.iter().map(|net| net.parse().unwrap()).collect()),
        client_tls().unwrap(),
        UpstreamOptions::default(),
        Arc::new(SystemClock),
    )
}

fn call_to(url: &str, timeout: Duration) -> Call {
    Call {
        method: Method::POST,
        url: Url::parse(url).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
        deadline: Deadline::within(SystemClock.instant(), timeout),
        max_bytes: 100,
    }
}

async fn ask(reply: &str) -> Result<Answer, CallError> {
    let (url, _) = scripted(Some(reply.as_bytes().to_vec())).await;
    upstream(&url, &["127.0.0.0/8"]).call(call_to(&url, Duration::from_secs(20))).await
}

#[tokio::test]
async fn a_loopback_address_is_refused_before_a_socket_is_opened() {
    let (url, heads) = scripted(Some(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())).await;
    for host in [url.clone(), url.replace("127.0.0.1", "localhost"), url.replace("127.0.0.1", "2130706433")] {
        let error = upstream(&host, &[]).call(call_to(&host, Duration::from_secs(20))).await.unwrap_err();
        assert!(matches!(error.cause, Cause::Refused(_)), "{host}: {error:?}");
        assert!(!error.sent);
    }
    assert_eq!(heads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_url_of_another_origin_is_not_called() {
    let (own, _) = scripted(None).await;
    let (other, heads) = scripted(Some(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())).await;
    let error = upstream(&own, &["127.0.0.0/8"]).call(call_to(&other, Duration::from_secs(5))).await.unwrap_err();
    assert_eq!((error.cause, error.sent), (Cause::OtherOrigin, false));
    assert_eq!(heads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (elsewhere, heads) = scripted(Some(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())).await;
    let answer = ask(&format!("HTTP/1.1 307 Go\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n")).await.unwrap();
    assert_eq!(answer.status, 307);
    assert_eq!(heads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_over_the_bound_is_not_read_to_its_end() {
    let long = "x".repeat(101);
    for head in ["content-length: 101\r\n", ""] {
        let answer = ask(&format!("HTTP/1.1 200 OK\r\n{head}\r\n{long}")).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body), (200, Err(BodyError::TooLong)));
    }
    let answer = ask(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(100))).await.unwrap();
    assert_eq!(answer.body.unwrap().len(), 100);
}

#[tokio::test]
async fn an_encoded_body_is_refused() {
    let answer = ask("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(answer.body, Err(BodyError::Encoded));
}

#[tokio::test]
async fn a_connection_that_breaks_may_have_carried_the_request() {
    let error = ask("").await.unwrap_err();
    assert_eq!((error.cause, error.sent), (Cause::Broken, true));
    let answer = ask("HTTP/1.1 201 Made\r\ncontent-length: 50\r\n\r\nhalf").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body), (201, Err(BodyError::Broken)));
}

#[tokio::test]
async fn no_connection_means_nothing_was_sent() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let error = upstream(&url, &["127.0.0.0/8"]).call(call_to(&url, Duration::from_secs(20))).await.unwrap_err();
    assert_eq!((error.cause, error.sent), (Cause::Connect, false));
}

#[tokio::test]
async fn silence_ends_at_the_deadline_and_counts_as_sent() {
    let (url, _) = scripted(None).await;
    let error = upstream(&url, &["127.0.0.0/8"]).call(call_to(&url, Duration::from_millis(300))).await.unwrap_err();
    assert_eq!((error.cause, error.sent), (Cause::Timeout, true));
}

#[tokio::test]
async fn plain_text_where_tls_was_expected_is_no_connection() {
    let (url, _) = scripted(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())).await;
    let url = url.replace("http://", "https://");
    let error = upstream(&url, &["127.0.0.0/8"]).call(call_to(&url, Duration::from_secs(20))).await.unwrap_err();
    assert!(!error.sent && matches!(error.cause, Cause::Tls | Cause::Connect), "{error:?}");
}
