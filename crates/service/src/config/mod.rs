//! The configuration of a process: read once, refused whole if anything in it is wrong, typed from then on.
//!
//! Layers, later ones winning: `config.default.toml` (built in), `safeconduct.toml` in the configuration directory,
//! `SAFECONDUCT_...` environment variables, the command line. A key that nothing reads is refused. Loading is a
//! function of [`LoadOptions`] and of the file they name.

mod callers;
mod problem;
mod reader;
mod sections;
mod source;
mod store;
mod value;
mod wiring;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

pub use callers::{CallerConfig, Credential, IssuerConfig, San, TokenHash};
pub use problem::{ConfigError, Origin, Problem};
pub use store::{RedisConfig, RedisServersConfig, StoreConfig};

/// The defaults of every setting, with comments: the reference of the configuration.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// The file that is looked for in the configuration directory.
pub const FILE_NAME: &str = "safeconduct.toml";

/// What a configuration is made from.
#[derive(Clone, Default)]
pub struct LoadOptions {
    /// A file that must exist. Otherwise [`FILE_NAME`] in the configuration directory is read, if it is there.
    pub file: Option<PathBuf>,
    /// The environment: names and values. See [`process_environment`].
    pub environment: Vec<(String, String)>,
    /// `--config`: the configuration directory; otherwise `SAFECONDUCT_CONFIG`, otherwise `config`.
    pub config_dir: Option<PathBuf>,
    /// `--data-dir`: wins over every other setting of `data_dir`.
    pub data_dir: Option<PathBuf>,
}

/// Values of the environment can be secrets: names only.
impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("file", &self.file)
            .field("environment", &self.environment.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("config_dir", &self.config_dir)
            .field("data_dir", &self.data_dir)
            .finish()
    }
}

/// The environment of this process. A value that is not UTF-8 keeps its readable part, and then fails as a value.
pub fn process_environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect()
}

/// Everything that a process was told. Each field is a setting of `config.default.toml`, where its meaning is.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "config.default.toml is the documentation, and a test holds them together")]
pub struct Config {
    /// The directory that `safeconduct.toml`, `workspaces` and `secrets` are looked for in.
    pub config_dir: PathBuf,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub keyring_dir: PathBuf,
    pub workspaces_dir: PathBuf,
    pub secrets_dir: PathBuf,
    pub runtime: RuntimeConfig,
    pub log: LogConfig,
    pub store: StoreConfig,
    pub identity: ListenerConfig,
    /// How long identity's own signing keys sign; `None`: those of its key file sign.
    pub signing_period: Option<Duration>,
    pub otp: ListenerConfig,
    /// Whether codes may be printed, for development.
    pub otp_console: bool,
    pub connector: ListenerConfig,
    pub admission: ListenerConfig,
    pub envoy: EnvoyConfig,
    pub lease: Duration,
    pub operations: OperationsConfig,
    pub assertion: AssertionConfig,
    pub sisters: SistersConfig,
    pub limits: LimitsConfig,
    pub drain: DrainConfig,
    pub callers: Vec<CallerConfig>,
    pub issuers: Vec<IssuerConfig>,
}

/// How work is spread over cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// One single-threaded runtime a core.
    PerCore,
    /// One multi-threaded runtime.
    Shared,
}

/// Section `runtime`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "see config.default.toml")]
pub struct RuntimeConfig {
    pub kind: RuntimeKind,
    /// `None`: one a core.
    pub workers: Option<usize>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

/// Section `log`.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "see config.default.toml")]
pub struct LogConfig {
    pub format: LogFormat,
    pub level: String,
}

/// Sections `identity`, `otp`, `connector`, `admission`: where a service listens.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "see config.default.toml")]
pub struct ListenerConfig {
    pub listen: SocketAddr,
    pub insecure: bool,
    pub tls: Option<TlsConfig>,
}

/// The files of a listener's TLS, all PEM.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "see config.default.toml")]
pub struct TlsConfig {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
    pub client_required: bool,
}

/// Section `admission.envoy`: the limits of gateways.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "see config.default.toml")]
pub struct EnvoyConfig {
    /// A file or a folder. `None`: gateways are not served.
    pub descriptors: Option<PathBuf>,
    pub headers: GatewayHeaders,
}

/// Which headers tell a gateway's clients how their limits stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayHeaders {
    /// The fields of the IETF draft: `RateLimit-Policy` and `RateLimit`.
    Draft,
    /// Those of its old versions: `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`.
    Legacy,
    /// Both of them.
    Both,
    /// None, nor `Retry-After`.
    None,
}

/// Section `operations`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "see config.default.toml")]
pub struct OperationsConfig {
    pub listen: SocketAddr,
    pub insecure: bool,
}

/// Section `assertion`.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "see config.default.toml")]
pub struct AssertionConfig {
    pub issuer: String,
    pub audience: String,
    pub lifetime: Duration,
}

/// Section `sisters`.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "see config.default.toml")]
pub struct SistersConfig {
    pub identity: Url,
    pub admission: Url,
    pub ca: Option<PathBuf>,
    /// Certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
    pub token_file: Option<PathBuf>,
}

/// Section `limits`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "see config.default.toml")]
pub struct LimitsConfig {
    pub connections: usize,
    pub header_bytes: u32,
    pub handshake_timeout: Duration,
    pub message_bytes: usize,
    pub concurrent_streams: u32,
    pub in_flight: usize,
    pub default_deadline: Duration,
    pub max_deadline: Duration,
    pub keepalive_interval: Duration,
    pub keepalive_timeout: Duration,
}

/// Section `drain`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "see config.default.toml")]
pub struct DrainConfig {
    pub grace: Duration,
    pub hard_deadline: Duration,
}

impl Config {
    /// Reads the file that the options name and makes a configuration of all layers, or says all that is wrong.
    pub fn load(options: &LoadOptions) -> Result<Self, ConfigError> {
        let from_environment =
            options.environment.iter().find(|(name, _)| name == source::CONFIG).map(|(_, dir)| PathBuf::from(dir));
        let config_dir = options.config_dir.clone().or(from_environment).unwrap_or_else(|| PathBuf::from("config"));
        let (path, required) = match &options.file {
            Some(file) => (file.clone(), true),
            None => (config_dir.join(FILE_NAME), false),
        };
        let mut problems = Vec::new();
        if options.config_dir.is_some() && !config_dir.is_dir() {
            let message = format!("{} is not a directory; name one that exists", config_dir.display());
            problems.push(Problem { origin: Origin::CommandLine, key: "--config".to_owned(), message });
        }
        let mut take = |layer: Result<Option<source::Layer>, Problem>| {
            layer.map_err(|problem| problems.push(problem)).ok().flatten()
        };
        let mut layers: Vec<_> = take(source::parse(Origin::Default, DEFAULTS).map(Some)).into_iter().collect();
        let file = take(source::file(&path, required));
        let read = file.is_some().then_some(path);
        layers.extend(file);
        layers.extend(source::environment(&options.environment, &mut problems));
        layers.extend(options.data_dir.as_deref().map(command_line));

        let reader = reader::Reader::new(layers);
        let config = sections::read(&reader, config_dir, read);
        problems.extend(reader.finish().err().unwrap_or_default());
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigError::new(problems)),
        }
    }
}

fn command_line(data_dir: &Path) -> source::Layer {
    let value = toml::Value::String(data_dir.to_string_lossy().into_owned());
    source::Layer { origin: Origin::CommandLine, table: [("data_dir".to_owned(), value)].into_iter().collect() }
}

#[cfg(test)]
mod tests;
