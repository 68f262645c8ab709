//! One connection, from the handshake to the last call.

use std::convert::Infallible;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::TransportOptions;
use super::lend::{Lending, Running};
use super::tls::Acceptor;
use crate::layers::{Layered, Metrics, PeerCertificate};

/// The connection preface (RFC 9113, section 3.4). Keepalive looks after a peer only once it has sent that.
const PREFACE: usize = 24;
/// How long a peer that has not sent it is listened to when the process goes: what it sent may lie in the kernel still.
const LAST_WORDS: Duration = Duration::from_millis(500);

pub(super) struct Connection {
    pub(super) tls: Option<Acceptor>,
    pub(super) service: Layered,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lending: Lending,
    pub(super) transport: TransportOptions,
    pub(super) draining: CancellationToken,
}

/// Serves a connection to its end. Failures are the peer's or the network's: they are told at debug level only.
pub(super) async fn serve(stream: TcpStream, connection: Connection) {
    if let Err(error) = connect(stream, connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn connect(stream: TcpStream, connection: Connection) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let Some(tls) = &connection.tls else {
        return http(stream, None, connection).await;
    };
    let stream = tokio::time::timeout(connection.transport.handshake_timeout, tls.accept(stream)).await??;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().map(|leaf| PeerCertificate(Arc::from(leaf.as_ref())));
    http(stream, certificate, connection).await
}

async fn http<IO>(stream: IO, certificate: Option<PeerCertificate>, connection: Connection) -> Result<(), Failure>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Connection { service, metrics, lending, transport, draining, .. } = connection;
    let heard = Arc::new(AtomicUsize::new(0));
    let io = TokioIo::new(Listening { stream, heard: Arc::clone(&heard) });
    let mut served = std::pin::pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(transport.max_concurrent_streams)
            .max_local_error_reset_streams(transport.max_local_error_reset_streams)
            .max_header_list_size(transport.max_header_bytes)
            .keep_alive_interval(transport.keepalive_interval)
            .keep_alive_timeout(transport.keepalive_timeout)
            .auto_date_header(false)
            .serve_connection(io, PerCall { service, metrics, lending, certificate })
    );
    let mut quiet = std::pin::pin!(tokio::time::sleep(transport.handshake_timeout));
    let mut listening = true;
    let mut leaving = false;
    let is_speaking = || heard.load(Ordering::Relaxed) >= PREFACE;
    loop {
        tokio::select! {
            end = &mut served => return end.map_err(Failure::from),
            () = &mut quiet, if listening => {
                listening = false;
                if !is_speaking() {
                    return Err("the peer did not begin".into());
                }
            }
            () = draining.cancelled(), if !leaving => {
                leaving = true;
                // Before the preface this is remembered: what was asked by then is still answered.
                served.as_mut().graceful_shutdown();
                if !is_speaking() {
                    quiet.set(tokio::time::sleep(LAST_WORDS.min(transport.handshake_timeout)));
                    listening = true;
                }
            }
        }
    }
}

/// Hands each request to the service, with what is known about the peer.
struct PerCall {
    service: Layered,
    metrics: Arc<Metrics>,
    lending: Lending,
    certificate: Option<PeerCertificate>,
}

impl hyper::service::Service<Request<Incoming>> for PerCall {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Running;

    fn call(&self, request: Request<Incoming>) -> Running {
        let mut request = request.map(Body::new);
        let method = self.metrics.method(request.uri().path());
        request.extensions_mut().insert(Arc::clone(&method));
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        self.lending.run(&self.service, request, method)
    }
}

/// A stream that notes how much was read from it.
struct Listening<IO> {
    stream: IO,
    heard: Arc<AtomicUsize>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Listening<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        // Only the first bytes count, so that this costs a busy connection nothing.
        if read > 0 && this.heard.load(Ordering::Relaxed) < PREFACE {
            this.heard.fetch_add(read, Ordering::Relaxed);
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Listening<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
