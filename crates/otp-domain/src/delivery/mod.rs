//! How messages travel: what a workspace may say under `spec.otp.delivery`, and what goes to a provider.
//!
//! Threat model. The address comes from whoever asks for a code, and the message's text from templates that name it
//! nowhere; both go to somebody else's API. So every value is encoded for the very place it stands in, none but the
//! message's own id may stand in a header, and none decides where a request goes.

mod http;
mod judge;
mod outgoing;
mod smtp;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use safeconduct_types::{IdError, Violation};
use serde::Deserialize;
use serde_json::Value;

pub use http::{HttpAuth, HttpProvider, HttpRequest, HttpSpec, Values};
pub use judge::{Verdict, judge_reply, judge_status};
pub use outgoing::Outgoing;
pub use smtp::{SmtpProvider, SmtpSpec, SmtpTls};

use crate::unquoted::unquoted;

/// The most providers of one workspace.
pub const MAX_PROVIDERS: usize = 16;

/// What a workspace calls a provider: 1 to 48 of a-z, 0-9 and `-`, starting with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(transparent)]
pub struct ProviderName(safeconduct_types::ConnectorName);

impl ProviderName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProviderName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self)
    }
}

/// One way for messages to travel.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a few in a process, and not moved")]
pub enum Provider {
    /// A mail server.
    Smtp(SmtpProvider),
    /// Somebody's API.
    Http(HttpProvider),
    /// The standard output of the process, where the process allows it. For development.
    Console,
}

impl Provider {
    /// Whether it takes email. Everything else takes either.
    pub const fn takes_email_only(&self) -> bool {
        matches!(self, Self::Smtp(_))
    }

    /// The name of the secret that it needs.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Smtp(smtp) => smtp.login.as_ref().map(|(_, password)| password.as_str()),
            Self::Http(http) => http.auth().map(HttpAuth::secret),
            Self::Console => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    smtp: Option<SmtpSpec>,
    http: Option<HttpSpec>,
    console: Option<bool>,
}

/// Reads the section `delivery`. Violations name their field from there on, and never repeat a value.
pub fn read(section: &Value) -> Result<BTreeMap<ProviderName, Provider>, Vec<Violation>> {
    let Value::Object(members) = section else {
        return Err(vec![Violation::new("delivery", "is a map from names to providers")]);
    };
    let mut violations = Vec::new();
    let mut found = BTreeMap::new();
    if members.len() > MAX_PROVIDERS {
        violations.push(Violation::new("delivery", format!("has more than {MAX_PROVIDERS} providers")));
    }
    for (name, value) in members.iter().take(MAX_PROVIDERS) {
        let named = name.parse::<ProviderName>();
        let field = named.as_ref().map_or_else(|_| "delivery".to_owned(), |name| format!("delivery.{name}"));
        match (named, provider(&field, value)) {
            (Ok(name), Ok(one)) => drop(found.insert(name, one)),
            (name, one) => {
                if name.is_err() {
                    let form = "a provider's name is 1 to 48 of a-z, 0-9 and `-`, starting with a letter";
                    violations.push(Violation::new("delivery", form));
                }
                violations.extend(one.err().unwrap_or_default());
            }
        }
    }
    if violations.is_empty() { Ok(found) } else { Err(violations) }
}

fn provider(field: &str, value: &Value) -> Result<Provider, Vec<Violation>> {
    let spec: Spec =
        serde_json::from_value(value.clone()).map_err(|error| vec![Violation::new(field, unquoted(&error))])?;
    match (spec.smtp, spec.http, spec.console) {
        (Some(smtp), None, None) => SmtpProvider::read(&format!("{field}.smtp"), smtp).map(Provider::Smtp),
        (None, Some(http), None) => HttpProvider::read(&format!("{field}.http"), http).map(Provider::Http),
        (None, None, Some(true)) => Ok(Provider::Console),
        _ => Err(vec![Violation::new(field, "is exactly one of `smtp`, `http` and `console: true`")]),
    }
}

/// `{secret: name}`: the only form in which a definition mentions a secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// The secret's name, a file of the workspace's secrets folder.
    pub secret: String,
}

impl SecretRef {
    fn check(&self, field: &str, violations: &mut Vec<Violation>) {
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let first = self.secret.bytes().next().is_some_and(|c| c != b'-');
        if !first || self.secret.len() > 63 || !self.secret.bytes().all(fits) {
            let form = "names a secret with 1 to 63 of a-z, 0-9 and `-`; if this was a secret itself, replace it";
            violations.push(Violation::new(field, form));
        }
    }
}

/// A host as a name or an address: nothing that a parser could take for something else.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    (1..=253).contains(&text.len()) && text.split('.').all(label) || text.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests;
