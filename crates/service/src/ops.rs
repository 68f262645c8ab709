//! The operations port: `/livez`, `/readyz`, `/metrics` and public documents over HTTP/1.

use std::convert::Infallible;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinSet;

use crate::process::Process;
use crate::server::Document;

/// Connections at a time; probes and scrapers need few.
const MAX_CONNECTIONS: usize = 64;
/// How long a connection may be open.
const MAX_AGE: Duration = Duration::from_mins(1);

/// The operations port, bound.
pub(crate) struct Operations {
    socket: TcpListener,
    address: SocketAddr,
    process: Process,
    documents: Arc<[Document]>,
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operations").field(&self.address).finish()
    }
}

impl Operations {
    pub(crate) fn new(
        (socket, address): (TcpListener, SocketAddr),
        process: Process,
        documents: Vec<Document>,
    ) -> Self {
        Self { socket, address, process, documents: documents.into() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until what it returns is dropped: probes are answered to the very end of a drain, so this is not one of
    /// the tasks that the drain waits for.
    pub(crate) fn start(self) -> JoinSet<()> {
        let mut serving = JoinSet::new();
        serving.spawn(self.run());
        serving
    }

    async fn run(self) {
        let Ok(listener) = tokio::net::TcpListener::from_std(self.socket) else { return };
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= MAX_CONNECTIONS {
                connections.join_next().await;
            }
            while connections.try_join_next().is_some() {}
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (process, documents) = (self.process.clone(), Arc::clone(&self.documents));
            connections.spawn(async move {
                let service = service_fn(move |request| answer(request, process.clone(), Arc::clone(&documents)));
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(5))
                    .serve_connection(TokioIo::new(stream), service);
                // Whether a probe hung up early concerns nobody.
                let _ended = tokio::time::timeout(MAX_AGE, served).await;
            });
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    process: Process,
    documents: Arc<[Document]>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Ok(text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n"));
    }
    let path = request.uri().path();
    if let Some(document) = documents.iter().find(|document| document.path == path) {
        let mut response = body(StatusCode::OK, document.media_type, (document.text)());
        let keep = format!("public, max-age={}", document.max_age.as_secs());
        if let Ok(keep) = http::HeaderValue::from_str(&keep) {
            response.headers_mut().insert(CACHE_CONTROL, keep);
        }
        return Ok(response);
    }
    Ok(match path {
        "/livez" => text(StatusCode::OK, "alive\n"),
        "/readyz" if process.health.ready().await => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/metrics" => text(StatusCode::OK, process.metrics.render()),
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"),
    })
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    body(status, "text/plain; version=0.0.4; charset=utf-8", text)
}

fn body(status: StatusCode, media_type: &'static str, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(media_type));
    response
}
