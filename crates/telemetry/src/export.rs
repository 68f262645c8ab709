//! The span exporter, as the standard `OTEL_*` variables say.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, TracerProviderBuilder};
use tokio::sync::oneshot;
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::init::{InitError, Options};

/// Looks up a variable of the environment. Passed in, so that only the configuration reads the environment.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How long the last spans may take to leave when the process ends.
const FLUSH: Duration = Duration::from_secs(1);

/// The provider of trace ids, and the thread that exports if an exporter is configured.
pub(crate) struct Exporting {
    pub(crate) provider: SdkTracerProvider,
    runtime: Option<ExportRuntime>,
}

impl Exporting {
    /// Whether spans go anywhere.
    pub(crate) const fn exports(&self) -> bool {
        self.runtime.is_some()
    }

    pub(crate) fn flush(&self) {
        // What cannot be sent is lost, as it would be later.
        let _unsent = self.provider.force_flush();
    }

    /// Ends exporting: what is still queued leaves within a second or is lost.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Past the second the exporter's thread is left to the end of the process.
            let _late = self.provider.shutdown_with_timeout(FLUSH);
            runtime.stop();
        }
    }
}

pub(crate) fn start(options: &Options, env: Env<'_>) -> Result<Exporting, InitError> {
    let service = env("OTEL_SERVICE_NAME").filter(|name| !name.is_empty());
    let resource = Resource::builder()
        .with_service_name(service.unwrap_or_else(|| options.service_name.clone()))
        .with_attribute(KeyValue::new("service.version", options.service_version.clone()))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    if let Some(target) = target(env)? {
        return exporting(builder, &target);
    }
    // Traces are numbered even if nobody collects them: logs and executions name them, and a sampled trace that comes
    // in goes on to our upstreams.
    let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
    Ok(Exporting { provider: builder.with_sampler(sampler).build(), runtime: None })
}

struct Target {
    endpoint: String,
    authority: Option<String>,
}

fn target(env: Env<'_>) -> Result<Option<Target>, InitError> {
    let get = |name: &str| env(name).filter(|value| !value.is_empty());
    let disabled = get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let exporter = get("OTEL_TRACES_EXPORTER");
    if disabled || exporter.as_deref() == Some("none") {
        return Ok(None);
    }
    let traces = get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    let Some(endpoint) = traces.or_else(|| get("OTEL_EXPORTER_OTLP_ENDPOINT")) else { return Ok(None) };
    if exporter.is_some_and(|name| name != "otlp") {
        return Err(InitError::Unsupported { variable: "OTEL_TRACES_EXPORTER", remedy: "use `otlp` or `none`" });
    }
    let protocol = get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| get("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if protocol.is_some_and(|name| name != "grpc") {
        return Err(InitError::Unsupported { variable: "OTEL_EXPORTER_OTLP_PROTOCOL", remedy: "use `grpc`" });
    }
    let certificate = get("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE").or_else(|| get("OTEL_EXPORTER_OTLP_CERTIFICATE"));
    let authority = certificate.map(std::fs::read_to_string).transpose().map_err(InitError::Certificate)?;
    Ok(Some(Target { endpoint, authority }))
}

fn exporting(builder: TracerProviderBuilder, target: &Target) -> Result<Exporting, InitError> {
    let runtime = ExportRuntime::start().map_err(InitError::Thread)?;
    let provider = {
        // The exporter's connection is driven by the runtime that it is made in.
        let _inside = runtime.handle.enter();
        let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(&target.endpoint);
        if let Some(authority) = &target.authority {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
            exporter = exporter.with_tls_config(tls);
        }
        let exporter = exporter.build().map_err(|error| InitError::Exporter(error.to_string()))?;
        // Batches on a thread of its own; sampler, limits and batch sizes come from the standard variables.
        builder.with_batch_exporter(exporter).build()
    };
    Ok(Exporting { provider, runtime: Some(runtime) })
}

/// A thread with a small runtime for the exporter's connection, independent of the runtimes that serve calls.
struct ExportRuntime {
    handle: tokio::runtime::Handle,
    stop: oneshot::Sender<()>,
}

impl ExportRuntime {
    fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new().name("otlp-export".to_owned()).spawn(move || {
            // A dropped sender stops it just as well.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop })
    }

    fn stop(self) {
        let _gone = self.stop.send(());
    }
}
