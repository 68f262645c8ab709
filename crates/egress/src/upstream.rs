//! One upstream: its client, its bounds.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, USER_AGENT};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use safeconduct_telemetry::propagate;
use safeconduct_types::{Clock, Deadline};
use tokio::sync::Semaphore;
use tracing::{Instrument, Span, field};

use crate::call::{Answer, Call};
use crate::connect::{ConnectError, GuardedConnector};
use crate::error::{BodyError, CallError, Cause};
use crate::policy::AddressPolicy;
use crate::target::Target;

/// What bounds the calls to one upstream.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamOptions {
    /// Calls under way at once, over all runtimes of the process.
    pub concurrency: usize,
    /// The longest that resolving and connecting may take.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self { concurrency: 256, connect_timeout: Duration::from_secs(3), idle_timeout: Duration::from_secs(30) }
    }
}

/// The TLS configuration of all upstreams: the machine's roots, TLS 1.2 and 1.3.
pub fn client_tls() -> Result<ClientConfig, rustls::Error> {
    use rustls_platform_verifier::BuilderVerifierExt;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth())
}

/// An upstream of one workspace. Cloning shares the pool and the bounds.
#[derive(Clone)]
pub struct Upstream {
    target: Arc<Target>,
    client: Client<HttpsConnector<GuardedConnector>, Full<Bytes>>,
    places: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("host", &self.target.host_str()).finish_non_exhaustive()
    }
}

impl Upstream {
    /// An upstream at `target`, under `policy`.
    pub fn new(
        target: Target,
        policy: AddressPolicy,
        tls: ClientConfig,
        options: UpstreamOptions,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let target = Arc::new(target);
        let connector = GuardedConnector::new(&target, policy, options.connect_timeout, Arc::clone(&clock));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls);
        let https = if target.is_plain() { https.https_or_http() } else { https.https_only() };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.idle_timeout)
            .build(https.enable_all_versions().wrap_connector(connector));
        Self { target, client, places: Arc::new(Semaphore::new(options.concurrency)), clock }
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Makes one call, once. Never follows a redirect; a status of 300 and above is an answer like any other.
    pub async fn call(&self, call: Call) -> Result<Answer, CallError> {
        let span = tracing::info_span!(
            "http.call",
            otel.name = %call.method,
            otel.kind = "client",
            http.request.method = %call.method,
            server.address = self.target.host_str(),
            server.port = self.target.port(),
            http.response.status_code = field::Empty,
            error.type = field::Empty,
            otel.status_code = field::Empty,
        );
        let result = self.call_within(call).instrument(span.clone()).await;
        match &result {
            Ok(answer) => {
                span.record("http.response.status_code", answer.status.as_u16());
                if answer.status.is_client_error() || answer.status.is_server_error() {
                    span.record("otel.status_code", "ERROR");
                    span.record("error.type", answer.status.as_str());
                }
            }
            Err(error) => {
                span.record("otel.status_code", "ERROR");
                span.record("error.type", field::debug(error.cause));
            }
        }
        result
    }

    async fn call_within(&self, call: Call) -> Result<Answer, CallError> {
        // Asked again here, where the socket is: whatever built the URL, it stays on the upstream.
        if !self.target.is_origin_of(&call.url) {
            return Err(CallError::unsent(Cause::OtherOrigin));
        }
        let deadline = call.deadline;
        let max_bytes = call.max_bytes;
        let Some(Ok(_place)) = self.until(deadline, self.places.acquire()).await else {
            return Err(CallError::unsent(Cause::Busy));
        };
        let mut request = request(call)?;
        let connection = capture_connection(&mut request);
        let response = match self.until(deadline, self.client.request(request)).await {
            Some(Ok(response)) => response,
            Some(Err(error)) => return Err(classify(&error)),
            None => {
                // Without a connection no byte can have left.
                let sent = connection.connection_metadata().is_some();
                return Err(CallError { sent, cause: Cause::Timeout });
            }
        };
        let (parts, body) = response.into_parts();
        let body = match parts.headers.get(CONTENT_ENCODING) {
            Some(encoding) if encoding != "identity" => Err(BodyError::Encoded),
            Some(_) | None => self.until(deadline, read(body, max_bytes)).await.unwrap_or(Err(BodyError::Timeout)),
        };
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    async fn until<T>(&self, deadline: Deadline, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(deadline.remaining(self.clock.instant()), work).await.ok()
    }
}

fn request(call: Call) -> Result<Request<Full<Bytes>>, CallError> {
    let mut request = Request::new(Full::new(call.body));
    *request.method_mut() = call.method;
    *request.uri_mut() = call.url.as_str().parse().map_err(|_| CallError::unsent(Cause::OtherOrigin))?;
    *request.headers_mut() = call.headers;
    let headers = request.headers_mut();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("safeconduct/", env!("CARGO_PKG_VERSION"))));
    propagate::inject(&Span::current(), headers);
    Ok(request)
}

async fn read(mut body: Incoming, max_bytes: usize) -> Result<Bytes, BodyError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() {
            if read.len() + data.len() > max_bytes {
                return Err(BodyError::TooLong);
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

/// Asks the chain of causes for our own types; never for a text.
fn classify(error: &hyper_util::client::legacy::Error) -> CallError {
    if !error.is_connect() {
        return CallError::after_sending(Cause::Broken);
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if let Some(ConnectError(cause)) = one.downcast_ref() {
            return CallError::unsent(*cause);
        }
        if one.is::<rustls::Error>() {
            return CallError::unsent(Cause::Tls);
        }
        // `io::Error` hides what it carries from `source`.
        cause = match one.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => one.source(),
        };
    }
    CallError::unsent(Cause::Connect)
}
