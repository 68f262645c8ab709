//! A mail server.

use ipnet::IpNet;
use safeconduct_types::Violation;
use serde::Deserialize;

use super::{SecretRef, is_host};

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// From the first byte (RFC 8314, section 3.3), on port 465 by default.
    Tls,
    /// By STARTTLS (RFC 3207), which must succeed; on port 587 by default. What a server said before it does not count.
    StartTls,
    /// Not at all. For a server on this machine only: a password is not sent so.
    None,
}

impl SmtpTls {
    /// The port for submissions in this way.
    const fn port(self) -> u16 {
        match self {
            Self::Tls => 465,
            Self::StartTls => 587,
            Self::None => 25,
        }
    }
}

/// As it stands in a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpSpec {
    host: String,
    port: Option<u16>,
    #[serde(default = "encrypted")]
    tls: SmtpTls,
    user: Option<String>,
    password: Option<SecretRef>,
    /// PEM text.
    ca: Option<String>,
    #[serde(default)]
    hello: Option<String>,
    #[serde(default)]
    allow_addresses: Vec<IpNet>,
}

const fn encrypted() -> SmtpTls {
    SmtpTls::Tls
}

/// A mail server, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpProvider {
    /// Its name or address; the certificate must be for it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// Whom it knows us as: a user name and the secret that holds the password.
    pub login: Option<(String, String)>,
    /// The only certificates that may vouch for it (PEM); none: those that the machine trusts.
    pub ca: Option<String>,
    /// What we call ourselves in EHLO; the sender's domain, if nothing is said.
    pub hello: Option<String>,
    /// Networks that may be connected to although the address policy would refuse them.
    pub allow_addresses: Vec<IpNet>,
}

impl SmtpProvider {
    pub(super) fn read(field: &str, spec: SmtpSpec) -> Result<Self, Vec<Violation>> {
        let mut violations = Vec::new();
        let mut wrong = |part: &str, what: &str| violations.push(Violation::new(format!("{field}.{part}"), what));
        if !is_host(&spec.host) {
            wrong("host", "is a host name (A-labels) or an address, without scheme and port");
        }
        if spec.port == Some(0) {
            wrong("port", "is 1 to 65535");
        }
        if spec.ca.as_deref().is_some_and(|ca| !is_certificates(ca)) {
            wrong("ca", "is certificates as PEM text, at most 64 KiB, without a key");
        }
        if spec.ca.is_some() && spec.tls == SmtpTls::None {
            wrong("ca", "needs `tls` or `starttls`");
        }
        if spec.hello.as_deref().is_some_and(|hello| !is_host(hello)) {
            wrong("hello", "is a host name");
        }
        if spec.allow_addresses.iter().any(|net| net.prefix_len() == 0) || spec.allow_addresses.len() > 16 {
            wrong("allow_addresses", "lists at most 16 ranges, none of them the whole net");
        }
        let printable = |text: &String| (1..=256).contains(&text.len()) && !text.chars().any(char::is_control);
        let login = match (spec.user, spec.password) {
            (None, None) => None,
            (Some(user), Some(password)) if printable(&user) => {
                password.check(&format!("{field}.password"), &mut violations);
                Some((user, password.secret))
            }
            (Some(_), Some(_)) => {
                violations.push(Violation::new(format!("{field}.user"), "is 1 to 256 printable characters"));
                None
            }
            (None, Some(_)) | (Some(_), None) => {
                violations.push(Violation::new(field, "has `user` and `password`, or neither"));
                None
            }
        };
        if login.is_some() && spec.tls == SmtpTls::None {
            let told = "is `tls` or `starttls` where a password is sent";
            violations.push(Violation::new(format!("{field}.tls"), told));
        }
        if !violations.is_empty() {
            return Err(violations);
        }
        Ok(Self {
            port: spec.port.unwrap_or(spec.tls.port()),
            host: spec.host,
            tls: spec.tls,
            login,
            ca: spec.ca,
            hello: spec.hello,
            allow_addresses: spec.allow_addresses,
        })
    }
}

/// Whether it looks like certificates; whether it is some, the TLS library says when the provider is set up.
fn is_certificates(pem: &str) -> bool {
    pem.len() <= 65_536 && pem.contains("-----BEGIN CERTIFICATE-----") && !pem.contains("PRIVATE KEY-----")
}
