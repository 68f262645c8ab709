//! A small service whose answers show what the layers did, its client, and an authenticator for it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use http::{Request, Response};
use prost::Message;
use prost_types::{
    DescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};
use safeconduct_service::layers::{Authenticate, CallerExtension};
use safeconduct_types::{Deadline, Reason, Refusal};
use tokio::sync::{Semaphore, watch};
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Texts = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

/// Who called, as a handler finds it.
#[derive(Clone, Debug)]
pub(crate) struct Who(pub String);

/// What the test and the service share.
#[derive(Clone, Debug)]
pub(crate) struct Echo {
    /// Calls of `Hold` that have begun.
    pub(crate) holding: watch::Sender<usize>,
    /// A permit lets one `Hold` go on.
    pub(crate) release: Arc<Semaphore>,
    /// Calls of `Say` that reached the handler.
    pub(crate) said: Arc<AtomicU64>,
}

impl Default for Echo {
    fn default() -> Self {
        Self { holding: watch::Sender::new(0), release: Arc::new(Semaphore::new(0)), said: Arc::default() }
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

/// The descriptors of `test.Echo`, so that spans and counters know it.
pub(crate) fn descriptors() -> Vec<u8> {
    let names = ["Say", "Hold", "Wait", "Panic", "Left", "Caller", "Thread", "Work", "Flood", "Watch", "Break"];
    let method = |name: &str| MethodDescriptorProto {
        name: Some(name.to_owned()),
        input_type: Some(".test.Text".to_owned()),
        output_type: Some(".test.Text".to_owned()),
        server_streaming: Some(["Flood", "Watch", "Break"].contains(&name)),
        ..MethodDescriptorProto::default()
    };
    let service = ServiceDescriptorProto {
        name: Some("Echo".to_owned()),
        method: names.into_iter().map(method).collect(),
        options: None,
    };
    let file = FileDescriptorProto {
        name: Some("test.proto".to_owned()),
        package: Some("test".to_owned()),
        message_type: vec![DescriptorProto { name: Some("Text".to_owned()), ..DescriptorProto::default() }],
        service: vec![service],
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<String, String>::default());
            let name = request.uri().path().trim_start_matches("/test.Echo/").to_owned();
            Ok(match name.as_str() {
                "Flood" | "Watch" | "Break" => grpc.server_streaming(Handler { echo, name }, request).await,
                _ => grpc.unary(Handler { echo, name }, request).await,
            })
        })
    }
}

struct Handler {
    echo: Echo,
    name: String,
}

impl UnaryService<String> for Handler {
    type Response = String;
    type Future = Boxed<Result<tonic::Response<String>, Status>>;

    fn call(&mut self, request: tonic::Request<String>) -> Self::Future {
        let (echo, name) = (self.echo.clone(), self.name.clone());
        Box::pin(async move {
            let text = match name.as_str() {
                "Say" => {
                    echo.said.fetch_add(1, Ordering::Relaxed);
                    request.into_inner()
                }
                "Work" => {
                    // About as much as checking a signature.
                    let sum = (0..100_000u64).fold(0u64, |sum, next| std::hint::black_box(sum ^ next));
                    assert_ne!(sum, 1);
                    std::thread::current().name().unwrap_or_default().to_owned()
                }
                "Hold" => {
                    echo.holding.send_modify(|count| *count += 1);
                    echo.release.acquire().await.expect("never closed").forget();
                    request.into_inner()
                }
                "Wait" => std::future::pending().await,
                "Panic" => panic!("the secret is {}", request.into_inner()),
                "Left" => {
                    let deadline = request.extensions().get::<Deadline>().expect("every call has one");
                    let now = safeconduct_types::Clock::instant(&safeconduct_types::SystemClock);
                    deadline.remaining(now).as_millis().to_string()
                }
                "Caller" => {
                    assert!(request.metadata().get("authorization").is_none(), "no handler gets the credential");
                    request.extensions().get::<Who>().map(|who| who.0.clone()).unwrap_or_default()
                }
                "Thread" => std::thread::current().name().unwrap_or_default().to_owned(),
                _ => return Err(Status::unimplemented("no such method")),
            };
            Ok(tonic::Response::new(text))
        })
    }
}

impl ServerStreamingService<String> for Handler {
    type Response = String;
    type ResponseStream = Texts;
    type Future = Boxed<Result<tonic::Response<Texts>, Status>>;

    fn call(&mut self, request: tonic::Request<String>) -> Self::Future {
        let (name, text) = (self.name.clone(), request.into_inner());
        Box::pin(async move {
            let first = tokio_stream::once(Ok("begun".to_owned()));
            let rest: Texts = match name.as_str() {
                "Flood" => Box::pin(tokio_stream::iter(std::iter::repeat_with(|| Ok("x".repeat(64 * 1024))))),
                "Break" => Box::pin(futures_util::stream::once(async move {
                    // What was said before has gone out by then.
                    tokio::task::yield_now().await;
                    drop(tracing::info_span!(target: "safeconduct_test", "rest"));
                    panic!("the secret is {text}")
                })),
                _ => Box::pin(tokio_stream::pending()),
            };
            let stream: Texts = Box::pin(tokio_stream::StreamExt::chain(first, rest));
            Ok(tonic::Response::new(stream))
        })
    }
}

/// Calls `test.Echo/<method>` over any channel.
pub(crate) async fn call<C>(channel: &C, method: &str, request: tonic::Request<String>) -> Result<String, Status>
where
    C: Service<Request<Body>, Response = Response<Body>> + Clone,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    ask(channel, &format!("/test.Echo/{method}"), request).await
}

/// Calls this path over any channel.
pub(crate) async fn ask<C>(channel: &C, path: &str, request: tonic::Request<String>) -> Result<String, Status>
where
    C: Service<Request<Body>, Response = Response<Body>> + Clone,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::new(Code::Unavailable, error.into().to_string()))?;
    let path = PathAndQuery::try_from(path).expect("a path");
    client.unary(request, path, ProstCodec::<String, String>::default()).await.map(tonic::Response::into_inner)
}

/// Opens `test.Echo/Watch`, which says "begun" and then nothing.
pub(crate) async fn watch<C>(channel: C, request: tonic::Request<String>) -> tonic::Streaming<String>
where
    C: Service<Request<Body>, Response = Response<Body>>,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    open(channel, "Watch", request).await
}

/// Opens a stream of `test.Echo`. `Break` says "begun" and then panics.
pub(crate) async fn open<C>(channel: C, method: &str, request: tonic::Request<String>) -> tonic::Streaming<String>
where
    C: Service<Request<Body>, Response = Response<Body>>,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut client = tonic::client::Grpc::new(channel);
    assert!(client.ready().await.is_ok(), "there is a connection");
    let path = PathAndQuery::try_from(format!("/test.Echo/{method}")).expect("a path");
    let stream = client.server_streaming(request, path, ProstCodec::<String, String>::default()).await;
    stream.expect("a stream").into_inner()
}

/// Lets in whoever has the token `letmein` or a certificate.
#[derive(Debug)]
pub(crate) struct Porter;

impl Authenticate for Porter {
    fn authenticate(
        &self,
        certificate: Option<&[u8]>,
        authorization: Option<&str>,
    ) -> Result<CallerExtension, Refusal> {
        match (certificate, authorization) {
            (Some(_), _) => Ok(CallerExtension::new("certified", Who("certified".to_owned()))),
            (None, Some("Bearer letmein")) => Ok(CallerExtension::new("bearer", Who("bearer".to_owned()))),
            (None, _) => Err(Refusal::new(Reason::CallerUnauthenticated, "who are you?")),
        }
    }

    fn in_process(&self, service: &'static str) -> CallerExtension {
        CallerExtension::new(service, Who(format!("in process: {service}")))
    }
}
