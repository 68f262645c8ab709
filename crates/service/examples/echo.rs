//! Measures the runtimes: a server that echoes, and a caller that counts. See `crates/decisions/0002-runtime.md`.
//!
//! ```text
//! echo serve per-core|shared [WORKERS]          prints its address, serves until standard input closes
//! echo load ADDRESS CONNECTIONS STREAMS CALLS   prints calls per second
//! ```

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring tool, not a service"
)]

#[path = "../tests/it/echo.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod echo;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use echo::{Echo, Porter, call, descriptors};
use safeconduct_service::layers::Routes;
use safeconduct_service::process::{CallLimits, Process};
use safeconduct_service::server::{DrainOptions, ListenerSpec, RuntimeKind, Server, ServerOptions};
use safeconduct_types::{Clock, SystemClock};
use tonic::metadata::MetadataValue;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", kind, rest @ ..] => {
            let workers = rest.first().map_or(0, |workers| workers.parse().expect("a number"));
            match *kind {
                "per-core" => block_on(1, serve(RuntimeKind::PerCore, workers)),
                _ => block_on(2, serve(RuntimeKind::Shared, workers)),
            }
        }
        ["load", address, connections, streams, calls] => {
            let number = |text: &str| text.parse::<u64>().expect("a number");
            block_on(1, load((*address).to_owned(), number(connections), number(streams), number(calls)));
        }
        _ => println!("echo serve per-core|shared [WORKERS] | echo load ADDRESS CONNECTIONS STREAMS CALLS"),
    }
}

fn block_on(threads: usize, future: impl Future<Output = ()>) {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build().unwrap().block_on(future);
}

async fn serve(runtime: RuntimeKind, workers: usize) {
    let descriptors: &'static [u8] = descriptors().leak();
    let process = Process::new(Arc::new(SystemClock), &[descriptors], CallLimits::default()).unwrap();
    let spec = ListenerSpec {
        name: "echo",
        address: ([127, 0, 0, 1], 0).into(),
        tls: None,
        services: vec!["test.Echo"],
        routes: Arc::new(|| Routes::new(Echo::default())),
        authenticator: Arc::new(Porter),
    };
    let drain = DrainOptions { grace: std::time::Duration::ZERO, ..DrainOptions::default() };
    let options = ServerOptions { runtime, workers, drain, ..ServerOptions::default() };
    let server = Server::bind(vec![spec], options, &process).unwrap();
    println!("{}", server.address("echo").unwrap());
    let over = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    server.run(async { drop(over.await) }).await.unwrap();
}

async fn load(address: String, connections: u64, streams: u64, calls: u64) {
    let left = Arc::new(AtomicU64::new(calls));
    let began = SystemClock.instant();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        for _ in 0..streams {
            let (channel, left) = (channel.clone(), Arc::clone(&left));
            callers.spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let mut request = tonic::Request::new("hello, world".to_owned());
                    request.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer letmein"));
                    call(&channel, "Say", request).await.expect("an answer");
                }
            });
        }
    }
    while callers.join_next().await.is_some() {}
    let seconds = SystemClock.instant().duration_since(began).as_secs_f64();
    println!("{:.0}", f64::from(u32::try_from(calls).unwrap()) / seconds);
}
