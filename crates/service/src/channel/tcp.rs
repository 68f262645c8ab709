//! The way over TCP.

use std::error::Error;
use std::time::Duration;

use http::{HeaderValue, Request};
use safeconduct_types::{Secret, SecretText};
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, TimeoutExpired};
use tower::{Service, ServiceExt};

use super::{Answer, exceeded};

/// How to reach a sister over TCP.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// `http://host:port` or `https://host:port`.
    pub uri: String,
    /// The authorities of the sister's certificate, PEM; needed for `https`.
    pub ca_pem: Option<Vec<u8>>,
    /// The name that the sister's certificate must have, if not the host of the URI.
    pub domain: Option<String>,
    /// Our own certificate chain and its key, PEM, for mTLS.
    pub identity: Option<(Vec<u8>, Secret)>,
    /// Our bearer token.
    pub token: Option<SecretText>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// After this much silence the sister is asked whether it is still there.
    pub keepalive_interval: Duration,
    /// How long it may take to answer that.
    pub keepalive_timeout: Duration,
}

impl TcpOptions {
    /// A plain or TLS connection to `uri` without credentials.
    pub fn new(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            ca_pem: None,
            domain: None,
            identity: None,
            token: None,
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
        }
    }
}

/// Why a channel cannot be made. All of them are configuration.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The address is none.
    #[error("a sister's address must look like http://host:port or https://host:port")]
    Uri,
    /// The certificates cannot be used.
    #[error("the certificates for calling a sister cannot be used: {0}")]
    Tls(String),
    /// The token has characters that a header cannot carry.
    #[error("the token for calling a sister has characters that a token cannot have")]
    Token,
}

pub(super) fn open(options: &TcpOptions) -> Result<(Channel, Option<HeaderValue>), ChannelError> {
    let mut endpoint = Endpoint::from_shared(options.uri.clone())
        .map_err(|_| ChannelError::Uri)?
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    match endpoint.uri().scheme_str() {
        Some("http") => {}
        Some("https") => {
            let mut tls = ClientTlsConfig::new();
            if let Some(pem) = &options.ca_pem {
                tls = tls.ca_certificate(Certificate::from_pem(pem));
            }
            if let Some(domain) = &options.domain {
                tls = tls.domain_name(domain);
            }
            if let Some((certificate, key)) = &options.identity {
                tls = tls.identity(Identity::from_pem(certificate, key.expose()));
            }
            endpoint = endpoint.tls_config(tls).map_err(|error| ChannelError::Tls(error.to_string()))?;
        }
        _ => return Err(ChannelError::Uri),
    }
    let token = options.token.as_ref().map(bearer).transpose()?;
    Ok((endpoint.connect_lazy(), token))
}

fn bearer(token: &SecretText) -> Result<HeaderValue, ChannelError> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
    let mut value = value.map_err(|_| ChannelError::Token)?;
    // Keeps it out of Debug and out of the header compression's table.
    value.set_sensitive(true);
    Ok(value)
}

pub(super) fn send(mut channel: Channel, request: Request<Body>, left: Option<Duration>) -> Answer {
    Box::pin(async move {
        let answer = async {
            channel.ready().await?;
            channel.call(request).await
        };
        Ok(answer.await.unwrap_or_else(|error| failed(&error, left).into_http()))
    })
}

/// Without `ErrorInfo`, which would claim that the call had no effect: the request may have arrived.
fn failed(error: &tonic::transport::Error, left: Option<Duration>) -> Status {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = source {
        // The transport reads `grpc-timeout`, too, and would call this a cancellation.
        if left.is_some() && cause.is::<TimeoutExpired>() {
            return exceeded();
        }
        source = cause.source();
    }
    tracing::warn!(%error, "a sister service cannot be reached");
    Status::unavailable("a sister service cannot be reached; ask again with the same key")
}
