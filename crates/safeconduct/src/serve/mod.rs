//! `serve`: from the configuration to a running process.

mod keys;
mod marks;
mod probe;
mod store;
mod suite;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use safeconduct_service::config::{Config, LoadOptions, LogFormat, RuntimeKind, process_environment};
use safeconduct_service::layers::hide_panic_payloads;
use safeconduct_service::server::{BindError, Server};
use safeconduct_telemetry as telemetry;
use safeconduct_types::SystemClock;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{ServeArgs, Which};
use crate::exit::{Code, Failure, Outcome};

const SERVICES: [&str; 4] = ["identity", "otp", "connector", "admission"];

pub(crate) fn run(args: &ServeArgs) -> Outcome {
    let environment = process_environment();
    let options = LoadOptions {
        environment: environment.clone(),
        config_dir: args.config.clone(),
        data_dir: args.data_dir.clone(),
        ..LoadOptions::default()
    };
    let config = Config::load(&options).map_err(Failure::usage)?;
    let name = match args.which {
        Which::All => "safeconduct",
        Which::Identity => "safeconduct-identity",
        Which::Otp => "safeconduct-otp",
        Which::Connector => "safeconduct-connector",
        Which::Admission => "safeconduct-admission",
    };
    let mut telling = telemetry::Options::new(name, env!("CARGO_PKG_VERSION"));
    telling.filter.clone_from(&config.log.level);
    telling.format = match config.log.format {
        LogFormat::Auto => telemetry::LogFormat::Auto,
        LogFormat::Json => telemetry::LogFormat::Json,
        LogFormat::Human => telemetry::LogFormat::Human,
    };
    let variables: BTreeMap<String, String> = environment.iter().cloned().collect();
    let guard = telemetry::init(&telling, &|name| variables.get(name).cloned()).map_err(Failure::usage)?;
    hide_panic_payloads();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(match config.runtime.kind {
            RuntimeKind::Shared => config.runtime.workers.unwrap_or_else(cores),
            // Calls have runtimes of their own; what is left is background work.
            RuntimeKind::PerCore => 1,
        })
        .enable_all()
        .build()
        .map_err(Failure::internal)?;
    let outcome = runtime.block_on(serve(args, config, environment));
    // What still runs past the hard deadline is cut here.
    runtime.shutdown_background();
    drop(guard);
    outcome
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

async fn serve(args: &ServeArgs, config: Config, environment: Vec<(String, String)>) -> Outcome {
    let clock = Arc::new(SystemClock);
    let mut stop = Stop::listen().map_err(Failure::internal)?;
    let suite = suite::Suite::build(args.which, &config, environment, clock).await?;
    let mut options = config.server_options();
    // With the standard error details, so that clients that know us by reflection only can read refusals.
    options.descriptors.extend([safeconduct_proto::FILE_DESCRIPTOR_SET, tonic_types::pb::FILE_DESCRIPTOR_SET]);
    options.documents = suite.documents;
    let server = Server::bind(suite.listeners, options, &suite.process).map_err(|error| match &error {
        BindError::Tls { name, source } => Failure::usage(format!(
            "{name}.tls: {source}; see to {name}.tls.cert, {name}.tls.key and {name}.tls.client_ca"
        )),
        BindError::Address { .. } | BindError::Reflection(_) => Failure::unavailable(error),
    })?;
    let addresses = addresses(&server);
    for (name, address) in &addresses {
        tracing::info!(listener = name, address, "listening");
    }
    if let Some(path) = &args.ready_file {
        write_ready(path, &addresses)?;
    }
    let drained = server.run(async move { stop.wait().await }).await.map_err(Failure::unavailable)?;
    tracing::info!(calls_cut = drained.calls_cut, tasks_cut = drained.tasks_cut, "stopped");
    Ok(Code::SUCCESS)
}

fn addresses(server: &Server) -> BTreeMap<&'static str, String> {
    let mut found: BTreeMap<&'static str, String> = SERVICES
        .into_iter()
        .filter_map(|name| server.address(name).map(|address| (name, address.to_string())))
        .collect();
    if let Some(address) = server.operations_address() {
        found.insert("operations", address.to_string());
    }
    found
}

/// Whole or not at all: whoever waits for the file never reads half of it.
pub(crate) fn write_ready(path: &Path, addresses: &BTreeMap<&'static str, String>) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::unavailable(format!("{}: cannot be written ({error})", path.display()));
    let text = serde_json::to_string(addresses).map_err(Failure::internal)?;
    let half = path.with_extension("half");
    std::fs::write(&half, text).map_err(failed)?;
    std::fs::rename(&half, path).map_err(failed)
}

/// The signals that end the process in order.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("told to stop (SIGTERM)"),
            _ = self.interrupt.recv() => tracing::info!("told to stop (SIGINT)"),
        }
    }
}
