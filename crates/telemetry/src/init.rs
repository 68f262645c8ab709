//! The subscriber of the process.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, ParseError, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::export::{self, Exporting};
use crate::json::JsonLines;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

/// What the process says about itself and how. What goes to a collector comes from the standard `OTEL_*` variables.
#[derive(Clone, Debug)]
pub struct Options {
    /// `service.name`, unless `OTEL_SERVICE_NAME` says otherwise.
    pub service_name: String,
    /// `service.version`.
    pub service_version: String,
    /// How log lines look.
    pub format: LogFormat,
    /// Which log lines appear, as a `tracing` filter (`info`, `warn,safeconduct_connector=debug`). Spans are exported
    /// regardless.
    pub filter: String,
}

impl Options {
    /// Log lines of level `info` and above, JSON unless on a terminal.
    pub fn new(service_name: impl Into<String>, service_version: impl Into<String>) -> Self {
        Self {
            service_name: service_name.into(),
            service_version: service_version.into(),
            format: LogFormat::Auto,
            filter: "info".to_owned(),
        }
    }
}

/// Why telemetry cannot start. All of them are configuration.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The log filter does not parse.
    #[error("the log level is not a filter such as `info` or `warn,safeconduct_connector=debug`: {0}")]
    Filter(#[from] ParseError),
    /// A standard variable asks for what this build does not have.
    #[error("{variable} asks for something this build does not have: {remedy}")]
    Unsupported {
        /// The variable.
        variable: &'static str,
        /// What to set instead.
        remedy: &'static str,
    },
    /// The collector's certificate cannot be read.
    #[error("the file that OTEL_EXPORTER_OTLP_CERTIFICATE names cannot be read: {0}")]
    Certificate(std::io::Error),
    /// The exporter refuses its settings.
    #[error("the OTLP exporter cannot be set up as the OTEL_EXPORTER_OTLP_* variables say: {0}")]
    Exporter(String),
    /// The exporter's thread cannot be started.
    #[error("the exporter's thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// Somebody else has installed a subscriber.
    #[error("telemetry was set up twice in this process")]
    AlreadySet,
}

/// Keeps telemetry going. Dropping it flushes what is queued, for at most one second: a dead collector delays the end
/// of the process by no more than that.
#[must_use = "telemetry ends when the guard is dropped"]
pub struct Guard(Exporting);

impl Guard {
    /// Sends what is queued now, waiting for it; for tests and tools that look at the spans at once.
    pub fn flush(&self) {
        self.0.flush();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

/// Sets up the telemetry of this process. `env` looks up a variable of the environment; the SDK itself reads the
/// rest of the standard variables (sampler, limits, headers, batch sizes) from the process.
pub fn init(options: &Options, env: &dyn Fn(&str) -> Option<String>) -> Result<Guard, InitError> {
    let (dispatch, guard) = build(options, env)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| InitError::AlreadySet)?;
    Ok(guard)
}

/// As [`init`], but without installing it: for tests that look at one process's telemetry among several.
pub fn build(options: &Options, env: &dyn Fn(&str) -> Option<String>) -> Result<(Dispatch, Guard), InitError> {
    // The filter sits on the log branch only: on the registry it would also decide which spans are exported.
    let filter = EnvFilter::builder().parse(&options.filter)?;
    let exporting = export::start(options, env)?;
    let spans = tracing_opentelemetry::layer()
        .with_tracer(exporting.provider.tracer("safeconduct"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(numbered(exporting.exports() || !json(options.format)));
    let subscriber = Registry::default().with(spans).with(lines(options.format, filter));
    Ok((Dispatch::new(subscriber), Guard(exporting)))
}

/// Our own spans only: transports open thousands of their own. If nobody reads them, a span is worth its cost only
/// where another is begun under it, which takes its trace id: not where a decision is made, a contact is verified or
/// the store is called; there the call's own span has the same one. And nothing need be told about a call.
fn numbered(read: bool) -> Targets {
    let ours = Targets::new().with_target("safeconduct", LevelFilter::INFO);
    let quiet = if read { &[][..] } else { &QUIET };
    quiet.iter().fold(ours, |ours, target| ours.with_target(*target, LevelFilter::OFF))
}

const QUIET: [&str; 4] =
    ["safeconduct_admission", "safeconduct_identity", "safeconduct_store", "safeconduct_service::call"];

/// Whether a line is one JSON object.
fn json(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Human => false,
    }
}

fn lines<S>(format: LogFormat, filter: EnvFilter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if json(format) {
        // Its lines name the span by its ids only: nothing is to be formatted when one begins.
        #[allow(clippy::redundant_closure_for_method_calls, reason = "the method is bound to one lifetime")]
        let events = filter_fn(|about| about.is_event());
        layer.event_format(JsonLines).with_filter(filter.and(events)).boxed()
    } else {
        layer.with_ansi(std::io::stderr().is_terminal()).compact().with_filter(filter).boxed()
    }
}
