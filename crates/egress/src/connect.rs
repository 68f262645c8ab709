//! Opening a socket, to a checked address and to no other.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use crate::error::Cause;
use crate::policy::{AddressPolicy, PublicAddress};
use crate::target::{Target, TargetHost};

/// Connects to one upstream. What the URI of a request says is not asked: the target was checked when it was made.
#[derive(Clone, Debug)]
pub(crate) struct GuardedConnector {
    target: Arc<Target>,
    policy: Arc<AddressPolicy>,
    timeout: Duration,
}

/// Why no socket was opened; travels inside the client's own error.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConnectError(pub(crate) Cause);

impl GuardedConnector {
    pub(crate) const fn new(target: Arc<Target>, policy: Arc<AddressPolicy>, timeout: Duration) -> Self {
        Self { target, policy, timeout }
    }

    async fn addresses(&self) -> Result<Vec<PublicAddress>, ConnectError> {
        let port = self.target.port();
        let found: Vec<SocketAddr> = match self.target.host() {
            TargetHost::Address(ip) => vec![SocketAddr::new(*ip, port)],
            TargetHost::Name(name) => tokio::net::lookup_host((name.as_str(), port))
                .await
                .map_err(|_| ConnectError(Cause::Resolve))?
                .collect(),
        };
        if found.is_empty() {
            return Err(ConnectError(Cause::Resolve));
        }
        // One bad address condemns the name: whoever controls it must not get a second draw.
        found
            .into_iter()
            .map(|address| self.policy.check(address).map_err(|refused| ConnectError(Cause::Refused(refused))))
            .collect()
    }

    async fn open(self) -> Result<TokioIo<TcpStream>, ConnectError> {
        let addresses = self.addresses().await?;
        for address in addresses {
            if let Ok(stream) = TcpStream::connect(address.socket()).await {
                let _ = stream.set_nodelay(true);
                return Ok(TokioIo::new(stream));
            }
        }
        Err(ConnectError(Cause::Connect))
    }
}

impl Service<Uri> for GuardedConnector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let timeout = this.timeout;
            tokio::time::timeout(timeout, this.open())
                .await
                .unwrap_or(Err(ConnectError(Cause::Connect)))
                .map_err(io::Error::other)
        })
    }
}
