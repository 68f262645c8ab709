//! Who may call: `[[callers]]` and `[[issuers]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use safeconduct_types::{CallerName, ConnectorName, WorkspaceId};

use super::reader::Reader;
use crate::caller::{Effect, Role, Scope};

/// One entry of `[[callers]]`.
#[derive(Clone, Debug)]
pub struct CallerConfig {
    /// Its name; unique.
    pub name: CallerName,
    /// What it may be.
    pub roles: BTreeSet<Role>,
    /// Where it may act.
    pub workspaces: Scope<WorkspaceId>,
    /// What it may execute.
    pub connectors: Scope<ConnectorName>,
    /// What its executions may do.
    pub effects: BTreeSet<Effect>,
    /// The domains of limits that it may ask about, as a gateway.
    pub domains: Scope<String>,
    /// How it proves who it is.
    pub credential: Credential,
}

/// How a caller proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// By a bearer token with one of these hashes.
    Token(Vec<TokenHash>),
    /// By a name in its client certificate.
    San(San),
    /// By a JWT of this issuer with this subject.
    Jwt {
        /// `iss`.
        issuer: String,
        /// `sub`.
        subject: String,
    },
}

/// The SHA-256 of a bearer token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenHash(pub(crate) [u8; 32]);

/// A hash of a weak token would give it away.
impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash([redacted])")
    }
}

impl FromStr for TokenHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(
            |_| "expected the SHA-256 of the token as 64 hexadecimal digits; the token itself has no place here",
        )?;
        Ok(Self(hash))
    }
}

/// A name in a client certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum San {
    /// A DNS name, in lower case.
    Dns(String),
    /// A URI, compared as it is.
    Uri(String),
}

impl FromStr for San {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("dns", name)) if !name.is_empty() && !name.contains('*') => Ok(Self::Dns(name.to_ascii_lowercase())),
            Some(("uri", uri)) if uri.contains(':') => Ok(Self::Uri(uri.to_owned())),
            _ => Err("expected \"dns:\" and a name without `*`, or \"uri:\" and a URI"),
        }
    }
}

/// One entry of `[[issuers]]`.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// `iss`; unique.
    pub issuer: String,
    /// What `aud` must name.
    pub audience: String,
    /// The issuer's public keys.
    pub jwks_file: PathBuf,
}

const ROLES: &[(&str, Role)] = &[
    ("agent", Role::Agent),
    ("messenger", Role::Messenger),
    ("backend", Role::Backend),
    ("operator", Role::Operator),
    ("gateway", Role::Gateway),
    ("service", Role::Service),
];

const EFFECTS: &[(&str, Effect)] = &[("read", Effect::Read), ("write", Effect::Write)];

pub(super) fn issuers(reader: &Reader) -> Vec<IssuerConfig> {
    let issuers = reader.entries("issuers", |entry| {
        let audience = entry.name("audience");
        Some(IssuerConfig { issuer: entry.name("issuer"), audience, jwks_file: entry.path("jwks_file") })
    });
    let mut seen = BTreeSet::new();
    for one in &issuers {
        if !seen.insert(&one.issuer) {
            reader.wrong("issuers", format!("`{}` is there twice; each issuer once", one.issuer));
        }
    }
    issuers
}

pub(super) fn callers(reader: &Reader, issuers: &[IssuerConfig]) -> Vec<CallerConfig> {
    let callers = reader.entries("callers", caller);
    let mut names = BTreeSet::new();
    // Two callers with one credential could not be told apart.
    let mut credentials = BTreeMap::new();
    for one in &callers {
        if !names.insert(&one.name) {
            reader.wrong("callers", format!("`{}` is there twice; each name once", one.name));
        }
        for credential in identities(&one.credential) {
            if let Some(other) = credentials.insert(credential, &one.name) {
                reader.wrong("callers", format!("`{}` and `{other}` have the same credential; each its own", one.name));
            }
        }
        if let Credential::Jwt { issuer, .. } = &one.credential
            && !issuers.iter().any(|known| known.issuer == *issuer)
            && reader.is_right(&["issuers"])
        {
            reader.wrong("callers", format!("`{}` names an issuer that is not among [[issuers]]; add it", one.name));
        }
    }
    callers
}

fn identities(credential: &Credential) -> Vec<String> {
    match credential {
        Credential::Token(hashes) => hashes.iter().map(|hash| format!("token {}", hex::encode(hash.0))).collect(),
        Credential::San(San::Dns(name)) => vec![format!("dns {name}")],
        Credential::San(San::Uri(uri)) => vec![format!("uri {uri}")],
        Credential::Jwt { issuer, subject } => vec![format!("jwt {} {issuer} {subject}", issuer.len())],
    }
}

fn caller(entry: &Reader) -> Option<CallerConfig> {
    let name = entry.parsed::<CallerName>("name", "1 to 48 of a-z, 0-9 and `-`, starting with a letter");
    let roles: BTreeSet<_> = entry.choices("roles", ROLES).into_iter().collect();
    if roles.is_empty() && entry.list("roles").is_empty() {
        entry.wrong("roles", "expected at least one role");
    }
    let more = [Role::Messenger, Role::Backend, Role::Operator];
    if roles.contains(&Role::Agent) && more.iter().any(|role| roles.contains(role)) {
        // An agent that could also speak as the backend could sign off what it made up.
        let message = "`agent` cannot be combined with messenger, backend or operator; make two callers of it";
        entry.wrong("roles", message);
    }
    let workspaces = scope(entry, "workspaces");
    let connectors = scope(entry, "connectors");
    let effects = entry.choices("effects", EFFECTS).into_iter().collect();
    let domains = scope(entry, "domains");
    if roles.contains(&Role::Gateway) && domains == Scope::Only(BTreeSet::new()) && entry.is_right(&["domains"]) {
        entry.wrong("domains", "expected the domains of limits that this gateway may ask about; [\"*\"] means all");
    }
    let credential = credential(entry);
    Some(CallerConfig { name: name?, roles, workspaces, connectors, effects, domains, credential: credential? })
}

fn scope<T: FromStr<Err: fmt::Display> + Ord>(entry: &Reader, key: &str) -> Scope<T> {
    let texts = entry.list(key);
    if texts.iter().any(|text| text == "*") {
        if texts.len() > 1 {
            entry.wrong(key, "\"*\" means all and stands alone");
        }
        return Scope::All;
    }
    Scope::Only(entry.parsed_list(key).into_iter().collect())
}

fn credential(entry: &Reader) -> Option<Credential> {
    let token = entry.has("token_sha256");
    let san = entry.has("san");
    let jwt = [entry.has("jwt.issuer"), entry.has("jwt.subject")].contains(&true);
    match (token, san, jwt) {
        (true, false, false) => {
            let hashes: Vec<TokenHash> = entry.parsed_list("token_sha256");
            if !(1..=2).contains(&hashes.len()) && entry.is_right(&["token_sha256"]) {
                entry.wrong("token_sha256", "expected one hash, or two while a token is being replaced");
            }
            Some(Credential::Token(hashes))
        }
        (false, true, false) => match entry.text("san").parse() {
            Ok(san) => Some(Credential::San(san)),
            Err(message) => {
                entry.wrong("san", message);
                None
            }
        },
        (false, false, true) => {
            Some(Credential::Jwt { issuer: entry.name("jwt.issuer"), subject: entry.name("jwt.subject") })
        }
        _ => {
            entry.wrong("", "expected exactly one of token_sha256, san and jwt = {issuer, subject}");
            None
        }
    }
}
