//! Listeners, the runtimes behind them, and the way to an end that loses nothing.
//!
//! One acceptor per listener hands each connection to the worker that has the fewest. Sockets are bound before
//! anything runs, so that a port in use is a start-up error and port 0 can be asked for.

mod accept;
mod connection;
mod demand;
mod drain;
mod health;
mod lend;
mod options;
mod tls;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use safeconduct_types::Clock;
use tonic_reflection::server::Builder as Reflection;

pub use drain::Drained;
pub use health::Health;
pub use options::{Document, DrainOptions, ListenerSpec, RoutesFactory, RuntimeKind, ServerOptions, TransportOptions};
pub use tls::{TlsError, TlsOptions};

use crate::layers::{Layered, Routes, layered};
use crate::ops::Operations;
use crate::process::Process;
use tls::Acceptor;
use worker::Workers;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address cannot be listened on.
    #[error("{name}: cannot listen on {address}: {source}")]
    Address {
        /// Which listener.
        name: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{name}: {source}")]
    Tls {
        /// Which listener.
        name: &'static str,
        /// Why.
        source: TlsError,
    },
    /// The descriptors for reflection do not decode or contradict each other.
    #[error("the contracts cannot be served by reflection: {0}")]
    Reflection(String),
}

/// A server whose sockets are bound.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Bound>,
    operations: Option<Operations>,
    options: ServerOptions,
    process: Process,
}

#[derive(Debug)]
struct Bound {
    socket: TcpListener,
    address: SocketAddr,
    stack: Stack,
}

/// What connections of one listener get. Each worker makes its own.
#[derive(Clone)]
struct Stack {
    spec: Arc<ListenerSpec>,
    tls: Option<Acceptor>,
    descriptors: Arc<[&'static [u8]]>,
    process: Process,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stack").field(&self.spec.name).finish()
    }
}

impl Stack {
    fn layered(&self) -> Result<Layered, BindError> {
        let routes = self.process.health.serve((self.spec.routes)());
        let routes = self.reflect(routes).map_err(|error| BindError::Reflection(error.to_string()))?;
        let loopback = self.spec.address.ip().is_loopback();
        Ok(layered(&self.process, Arc::clone(&self.spec.authenticator), loopback, routes))
    }

    /// Adds reflection in both versions: clients in the field ask for either.
    fn reflect(&self, routes: Routes) -> Result<Routes, tonic_reflection::server::Error> {
        let builder = || {
            let sets = self.descriptors.iter().copied().chain([tonic_health::pb::FILE_DESCRIPTOR_SET]);
            let builder = sets.fold(Reflection::configure(), Reflection::register_encoded_file_descriptor_set);
            let names = self.spec.services.iter().copied().chain(["grpc.health.v1.Health"]);
            names.fold(builder, Reflection::with_service_name)
        };
        Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
    }
}

impl Server {
    /// Binds all sockets.
    pub fn bind(listeners: Vec<ListenerSpec>, options: ServerOptions, process: &Process) -> Result<Self, BindError> {
        let descriptors: Arc<[_]> = options.descriptors.clone().into();
        let bind = |name, address| accept::bind(address).map_err(|source| BindError::Address { name, address, source });
        // Certificates before sockets: whoever cannot serve should not look as if.
        let mut prepared = Vec::with_capacity(listeners.len());
        for spec in listeners {
            let name = spec.name;
            let tls = spec.tls.as_ref().map(Acceptor::new).transpose();
            prepared.push((spec, tls.map_err(|source| BindError::Tls { name, source })?));
        }
        let operations = match options.operations {
            Some(address) => {
                Some(Operations::new(bind("operations", address)?, process.clone(), options.documents.clone()))
            }
            None => None,
        };
        let mut bound = Vec::with_capacity(prepared.len());
        for (spec, tls) in prepared {
            let (socket, address) = bind(spec.name, spec.address)?;
            let (descriptors, process) = (Arc::clone(&descriptors), process.clone());
            bound.push(Bound { socket, address, stack: Stack { spec: Arc::new(spec), tls, descriptors, process } });
        }
        Ok(Self { listeners: bound, operations, options, process: process.clone() })
    }

    /// Where the listener called `name` listens.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|bound| bound.stack.spec.name == name).map(|bound| bound.address)
    }

    /// Where `/livez`, `/readyz` and `/metrics` are.
    pub fn operations_address(&self) -> Option<SocketAddr> {
        self.operations.as_ref().map(Operations::address)
    }

    /// Serves until `shutdown`, then drains: first the process says that it is going and keeps accepting, then it
    /// stops listening and finishes what has begun, and at the hard deadline it ends regardless.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Drained, RunError> {
        let Self { listeners, operations, options, process } = self;
        let stacks = listeners.iter().map(|bound| bound.stack.clone()).collect();
        let workers = Arc::new(Workers::start(&options, stacks, &process).await?);
        let operations = operations.map(Operations::start);
        let mut names = vec![""];
        names.extend(listeners.iter().flat_map(|bound| bound.stack.spec.services.iter().copied()));
        process.health.start(&names).await;
        let sockets = listeners.into_iter().map(|bound| (bound.socket, bound.stack.spec.name)).collect();
        let accepting = accept::start(sockets, &workers, options.transport.max_connections)?;
        shutdown.await;
        let drained = drain::drain(&options.drain, &process, accepting, &workers).await;
        drop(operations);
        Ok(drained)
    }
}

/// Why a server stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A thread or a runtime cannot be had.
    #[error("a worker cannot be started: {0}")]
    Worker(#[from] io::Error),
    /// The routes cannot be made.
    #[error(transparent)]
    Routes(#[from] BindError),
    /// A worker ended while it was starting.
    #[error("a worker ended while it was starting")]
    WorkerGone,
}

/// How long a drain may still take.
fn until(clock: &dyn Clock, deadline: safeconduct_types::Deadline) -> std::time::Duration {
    deadline.remaining(clock.instant())
}
