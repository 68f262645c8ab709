//! What a server is told.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::TlsOptions;
use crate::layers::{Authenticate, Routes};

/// Makes the routes of a listener. Called once for every worker, inside its runtime, so that what the routes hold may
/// belong to that runtime.
pub type RoutesFactory = Arc<dyn Fn() -> Routes + Send + Sync>;

/// One listener and what it serves.
pub struct ListenerSpec {
    /// Its name, for messages and [`super::Server::address`].
    pub name: &'static str,
    /// Where to listen; port 0 for any free port.
    pub address: SocketAddr,
    /// TLS; without it the listener speaks plain HTTP/2.
    pub tls: Option<TlsOptions>,
    /// Full names of the services among the routes, for health and reflection.
    pub services: Vec<&'static str>,
    /// The services. Health and reflection are added to them.
    pub routes: RoutesFactory,
    /// Who may call.
    pub authenticator: Arc<dyn Authenticate>,
}

impl fmt::Debug for ListenerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerSpec").field("name", &self.name).field("address", &self.address).finish_non_exhaustive()
    }
}

/// Which runtimes serve calls; `decisions/0002-runtime.md` says why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeKind {
    /// One single-threaded runtime for each worker; a connection stays with its worker.
    #[default]
    PerCore,
    /// The runtime that the server is run on.
    Shared,
}

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct TransportOptions {
    /// Connections at a time, over all listeners; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Calls at a time on one connection, as told to the peer.
    pub max_concurrent_streams: u32,
    /// Streams that the peer may have us reset for breaking the protocol before its connection is closed.
    pub max_local_error_reset_streams: usize,
    /// Bytes of headers in one call.
    pub max_header_bytes: u32,
    /// How long a peer may take for the TLS handshake, and again for its first bytes.
    pub handshake_timeout: Duration,
    /// After this much silence a peer is asked whether it is still there.
    pub keepalive_interval: Duration,
    /// How long it may take to answer that.
    pub keepalive_timeout: Duration,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_concurrent_streams: 256,
            max_local_error_reset_streams: 64,
            max_header_bytes: 32 * 1024,
            handshake_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
        }
    }
}

/// How the process goes.
#[derive(Clone, Copy, Debug)]
pub struct DrainOptions {
    /// How long it keeps accepting after it said that it goes, so that load balancers notice.
    pub grace: Duration,
    /// When it is over regardless, counted from the signal.
    pub hard_deadline: Duration,
}

impl Default for DrainOptions {
    fn default() -> Self {
        Self { grace: Duration::from_secs(5), hard_deadline: Duration::from_secs(25) }
    }
}

/// How a server runs.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Which runtimes serve calls.
    pub runtime: RuntimeKind,
    /// Workers for [`RuntimeKind::PerCore`]; 0: one for each core.
    pub workers: usize,
    /// Bounds on connections.
    pub transport: TransportOptions,
    /// How the process goes.
    pub drain: DrainOptions,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub operations: Option<SocketAddr>,
    /// What else the operations port shows: documents that are public.
    pub documents: Vec<Document>,
    /// Encoded `FileDescriptorSet`s for reflection.
    pub descriptors: Vec<&'static [u8]>,
}

/// A public document on the operations port.
#[derive(Clone)]
pub struct Document {
    /// Its path.
    pub path: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// How long whoever has it may keep it.
    pub max_age: Duration,
    /// It, as it is now.
    pub text: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("path", &self.path).finish_non_exhaustive()
    }
}
