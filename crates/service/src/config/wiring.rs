//! From settings to what server and channels are told; the only step that reads the files they name.

use std::path::Path;

use safeconduct_types::{Secret, SecretText};
use url::Url;

use super::{Config, ConfigError, ListenerConfig, Origin, RuntimeKind};
use crate::channel::TcpOptions;
use crate::process::CallLimits;
use crate::server::{self, DrainOptions, ServerOptions, TlsOptions, TransportOptions};

/// Longer files are no certificates, keys or tokens.
const LONGEST_FILE: u64 = 1 << 20;

impl Config {
    /// How the server runs. Descriptors for reflection are added by whoever knows its services.
    pub fn server_options(&self) -> ServerOptions {
        ServerOptions {
            runtime: match self.runtime.kind {
                RuntimeKind::PerCore => server::RuntimeKind::PerCore,
                RuntimeKind::Shared => server::RuntimeKind::Shared,
            },
            workers: self.runtime.workers.unwrap_or_default(),
            transport: TransportOptions {
                max_connections: self.limits.connections,
                max_concurrent_streams: self.limits.concurrent_streams,
                max_header_bytes: self.limits.header_bytes,
                handshake_timeout: self.limits.handshake_timeout,
                keepalive_interval: self.limits.keepalive_interval,
                keepalive_timeout: self.limits.keepalive_timeout,
                ..TransportOptions::default()
            },
            drain: DrainOptions { grace: self.drain.grace, hard_deadline: self.drain.hard_deadline },
            operations: Some(self.operations.listen),
            documents: Vec::new(),
            descriptors: Vec::new(),
        }
    }

    /// How many calls at a time, and for how long each.
    pub fn call_limits(&self) -> CallLimits {
        CallLimits {
            max_in_flight: self.limits.in_flight,
            default_deadline: self.limits.default_deadline,
            max_deadline: self.limits.max_deadline,
        }
    }

    /// How identity is reached over TCP.
    pub fn identity_channel(&self) -> Result<TcpOptions, ConfigError> {
        self.sister(&self.sisters.identity)
    }

    /// How admission is reached over TCP.
    pub fn admission_channel(&self) -> Result<TcpOptions, ConfigError> {
        self.sister(&self.sisters.admission)
    }

    fn sister(&self, url: &Url) -> Result<TcpOptions, ConfigError> {
        let sisters = &self.sisters;
        let ca_pem = sisters.ca.as_deref().map(|path| read("sisters.ca", path)).transpose()?;
        let identity = match &sisters.client {
            Some((cert, key)) => Some((read("sisters.cert", cert)?, Secret::new(read("sisters.key", key)?))),
            None => None,
        };
        let token = sisters.token_file.as_deref().map(token).transpose()?;
        Ok(TcpOptions {
            ca_pem,
            identity,
            token,
            keepalive_interval: self.limits.keepalive_interval,
            keepalive_timeout: self.limits.keepalive_timeout,
            ..TcpOptions::new(url.as_str())
        })
    }
}

impl ListenerConfig {
    /// Certificate, key and client CA of the listener that `section` configures.
    pub fn tls_options(&self, section: &str) -> Result<Option<TlsOptions>, ConfigError> {
        let Some(tls) = &self.tls else { return Ok(None) };
        let get = |key: &str, path: &Path| read(&format!("{section}.tls.{key}"), path);
        Ok(Some(TlsOptions {
            certificate_pem: get("cert", &tls.cert)?,
            key_pem: Secret::new(get("key", &tls.key)?),
            client_ca_pem: tls.client_ca.as_deref().map(|path| get("client_ca", path)).transpose()?,
            client_required: tls.client_required,
        }))
    }
}

fn token(path: &Path) -> Result<SecretText, ConfigError> {
    let wrong = |message: &str| ConfigError::one(Origin::File(path.to_owned()), "sisters.token_file", message);
    let text = SecretText::new(
        String::from_utf8(read("sisters.token_file", path)?).map_err(|_| wrong("is not text; put the token there"))?,
    );
    let trimmed = text.expose().trim();
    if trimmed.is_empty() || trimmed.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(wrong("must hold one token and nothing else"));
    }
    Ok(SecretText::new(trimmed.to_owned()))
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    let wrong = |message: String| ConfigError::one(Origin::File(path.to_owned()), key, message);
    let failed = |error: std::io::Error| {
        wrong(format!("cannot be read ({}); name a file that exists and that this user may read", error.kind()))
    };
    if std::fs::metadata(path).map_err(failed)?.len() > LONGEST_FILE {
        return Err(wrong("is longer than 1 MiB; name the right file".to_owned()));
    }
    std::fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, FILE_NAME, LoadOptions};

    fn load(text: &str, directory: &tempfile::TempDir) -> Config {
        let path = directory.path().join(FILE_NAME);
        std::fs::write(&path, text.replace("DIR", &directory.path().to_string_lossy())).unwrap();
        Config::load(&LoadOptions { file: Some(path), ..LoadOptions::default() }).unwrap()
    }

    #[test]
    fn a_sister_is_shown_the_token_in_the_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let config = load("sisters.token_file = \"DIR/token\"", &directory);
        let told = config.identity_channel().unwrap_err().to_string();
        assert!(told.contains("sisters.token_file") && told.contains("token: "), "{told}");
        for bad in ["", "two words", "hunter2\nhunter3"] {
            std::fs::write(directory.path().join("token"), bad).unwrap();
            assert!(!config.identity_channel().unwrap_err().to_string().contains("hunter2"));
        }
        std::fs::write(directory.path().join("token"), "hunter2\n").unwrap();
        let options = config.admission_channel().unwrap();
        assert_eq!(options.token.unwrap().expose(), "hunter2");
        assert!(options.uri.starts_with("http://127.0.0.1:50054"), "{}", options.uri);
    }

    #[test]
    fn a_listeners_files_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let config = load("otp.tls = {cert = \"DIR/c\", key = \"DIR/k\"}", &directory);
        let told = config.otp.tls_options("otp").unwrap_err().to_string();
        assert!(told.contains("otp.tls.cert: cannot be read"), "{told}");
        std::fs::write(directory.path().join("c"), "cert").unwrap();
        std::fs::write(directory.path().join("k"), "key").unwrap();
        assert_eq!(config.otp.tls_options("otp").unwrap().unwrap().certificate_pem, b"cert");
        assert!(config.identity.tls_options("identity").unwrap().is_none());
    }

    #[test]
    fn limits_reach_the_server() {
        let directory = tempfile::tempdir().unwrap();
        let text =
            "[limits]\nconcurrent_streams = 3\nin_flight = 4\n[drain]\nhard_deadline = \"9s\"\n[runtime]\nworkers = 2";
        let config = load(text, &directory);
        let options = config.server_options();
        assert_eq!((options.workers, options.transport.max_concurrent_streams), (2, 3));
        assert_eq!(options.drain.hard_deadline.as_secs(), 9);
        assert_eq!(config.call_limits().max_in_flight, 4);
    }
}
