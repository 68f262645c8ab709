//! A running server for one test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_service::channel::{SisterChannel, TcpOptions};
use safeconduct_service::layers::{Layered, Routes, layered};
use safeconduct_service::process::{CallLimits, Process};
use safeconduct_service::server::{
    Document, DrainOptions, Drained, ListenerSpec, RuntimeKind, Server, ServerOptions, TlsOptions, TransportOptions,
};
use safeconduct_types::{SecretText, SystemClock};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;

use crate::echo::{Echo, Porter, descriptors};

pub(crate) const WITHIN: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) limits: CallLimits,
    pub(crate) drain: DrainOptions,
    pub(crate) runtime: RuntimeKind,
    pub(crate) tls: Option<TlsOptions>,
    pub(crate) transport: TransportOptions,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: CallLimits::default(),
            drain: DrainOptions { grace: Duration::ZERO, hard_deadline: Duration::from_secs(15) },
            runtime: RuntimeKind::PerCore,
            tls: None,
            transport: TransportOptions::default(),
        }
    }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) operations: SocketAddr,
    pub(crate) process: Process,
    pub(crate) echo: Echo,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Drained>,
}

impl Setup {
    pub(crate) fn start(self) -> Running {
        let clock = Arc::new(SystemClock);
        let descriptors: &'static [u8] = descriptors().leak();
        let process = Process::new(clock, &[descriptors], self.limits).expect("descriptors");
        let echo = Echo::default();
        let routes = {
            let echo = echo.clone();
            Arc::new(move || Routes::new(echo.clone()))
        };
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let spec = ListenerSpec {
            name: "echo",
            address: any,
            tls: self.tls,
            services: vec!["test.Echo"],
            routes,
            authenticator: Arc::new(Porter),
        };
        let options = ServerOptions {
            documents: vec![Document {
                path: "/a-document",
                media_type: "application/json",
                max_age: Duration::from_mins(5),
                text: Arc::new(|| "{}".to_owned()),
            }],
            runtime: self.runtime,
            workers: 2,
            transport: self.transport,
            drain: self.drain,
            operations: Some(any),
            descriptors: vec![descriptors],
        };
        let server = Server::bind(vec![spec], options, &process).expect("a free port");
        let (address, operations) = (server.address("echo").unwrap(), server.operations_address().unwrap());
        let (stop, stopped) = oneshot::channel();
        let server = tokio::task::spawn(async move {
            server.run(async { stopped.await.unwrap_or_default() }).await.expect("it runs")
        });
        Running { address, operations, process, echo, stop, server }
    }
}

impl Running {
    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A plain tonic channel with a connection of its own.
    pub(crate) fn plain(&self) -> tonic::transport::Channel {
        tonic::transport::Endpoint::from_shared(self.uri()).unwrap().connect_lazy()
    }

    pub(crate) fn sister(&self) -> SisterChannel {
        let options = TcpOptions { token: Some(SecretText::new("letmein".to_owned())), ..TcpOptions::new(self.uri()) };
        SisterChannel::tcp(&options, Arc::new(SystemClock)).expect("an address")
    }

    pub(crate) fn layered(&self) -> Layered {
        layered(&self.process, Arc::new(Porter), true, Routes::new(self.echo.clone()))
    }

    pub(crate) fn in_process(&self) -> SisterChannel {
        SisterChannel::in_process("connector", self.layered(), Arc::new(SystemClock))
    }

    pub(crate) async fn holding(&self, count: usize) {
        let mut holding = self.echo.holding.subscribe();
        let enough = holding.wait_for(|now| *now >= count);
        tokio::time::timeout(WITHIN, enough).await.expect("in time").expect("the sender lives");
    }

    /// Tells the server to stop, without waiting for it.
    pub(crate) fn signal(self) -> JoinHandle<Drained> {
        self.stop.send(()).ok();
        self.server
    }

    pub(crate) async fn stop(self) -> Drained {
        tokio::time::timeout(WITHIN, self.signal()).await.expect("in time").expect("no panic")
    }
}

/// A request with the token.
pub(crate) fn authorized(text: &str) -> tonic::Request<String> {
    let mut request = tonic::Request::new(text.to_owned());
    request.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer letmein"));
    request
}
