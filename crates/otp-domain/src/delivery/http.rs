//! Somebody's API, reached by a request that a template makes.

mod template;

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use safeconduct_types::Violation;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use self::template::{Place, Text};
use super::{Outgoing, SecretRef};

/// How deep a JSON body may be.
const DEEPEST: usize = 16;
/// The most strings of a template.
const MAX_TEXTS: usize = 128;
/// Headers that the client sets, or that would change how the request is read.
const RESERVED: [&str; 14] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "traceparent",
];

/// As it stands in a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSpec {
    url: String,
    #[serde(default)]
    method: Method,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    json: Option<Value>,
    form: Option<BTreeMap<String, String>>,
    auth: Option<AuthSpec>,
    #[serde(default)]
    success: Vec<u16>,
    #[serde(default)]
    insecure_http: bool,
    #[serde(default)]
    allow_addresses: Vec<IpNet>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    #[default]
    Post,
    Put,
    Get,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum AuthSpec {
    Basic(BasicSpec),
    Bearer(SecretRef),
    Header(HeaderSpec),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BasicSpec {
    user: String,
    password: SecretRef,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderSpec {
    name: String,
    secret: String,
}

/// How the API knows us. Names secrets, holds none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAuth {
    /// `Authorization: Basic` (RFC 7617) with this user name and the password in this secret.
    Basic {
        /// The user name.
        user: String,
        /// The secret's name.
        password: String,
    },
    /// `Authorization: Bearer` (RFC 6750) with the token in this secret.
    Bearer(String),
    /// A header of the API's own with the secret as its value.
    Header {
        /// Its lower-case name.
        name: String,
        /// The secret's name.
        secret: String,
    },
}

/// An API, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProvider {
    url: Url,
    query: Option<Text>,
    method: Method,
    headers: Vec<(String, Text)>,
    body: Body,
    auth: Option<HttpAuth>,
    success: Vec<u16>,
    insecure_http: bool,
    allow_addresses: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq)]
enum Body {
    None,
    Json(Tree),
    Form(Vec<(String, Text)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Text(Text),
    Plain(Value),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// What a template may name.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    /// `${to}`, `${subject}`, `${text}`, `${html}`, `${code}` and `${id}`.
    pub message: Outgoing<'a>,
    /// `${from}`: the sender's address or number; empty if the workspace names none.
    pub from: &'a str,
    /// `${from_name}`: the sender's display name; empty if there is none.
    pub from_name: &'a str,
}

impl fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").field("message", &self.message).finish_non_exhaustive()
    }
}

/// A request without what authorises it.
#[derive(Clone, PartialEq)]
pub struct HttpRequest {
    /// `POST`, `PUT` or `GET`.
    pub method: &'static str,
    /// The whole URL, on the provider's own origin.
    pub url: Url,
    /// Lower-case names and values.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

/// Shows nothing of what was filled in.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest").field("method", &self.method).finish_non_exhaustive()
    }
}

impl HttpProvider {
    pub(super) fn read(field: &str, spec: HttpSpec) -> Result<Self, Vec<Violation>> {
        let mut violations = Vec::new();
        let mut wrong = |part: &str, what: String| {
            violations.push(Violation::new(format!("{field}.{part}"), what));
        };
        let (url, query) = match split(&spec.url, spec.insecure_http) {
            Ok((url, query)) => (Some(url), query),
            Err(what) => {
                wrong("url", what.to_owned());
                (None, None)
            }
        };
        let query = query
            .and_then(|query| Text::parse(&query, Place::Query).map_err(|what| wrong("url", what.to_owned())).ok());
        let mut headers = Vec::new();
        for (name, value) in &spec.headers {
            match header(name, value) {
                Ok(header) => headers.push(header),
                Err(what) => wrong("headers", what.to_owned()),
            }
        }
        let body = match (&spec.json, &spec.form) {
            (Some(_), Some(_)) => Err("`json` and `form` exclude each other"),
            (Some(tree), None) => Tree::read(tree, 0, &mut 0).map(Body::Json),
            (None, Some(form)) => fields(form).map(Body::Form),
            (None, None) => Ok(Body::None),
        };
        let body = body.unwrap_or_else(|what| {
            wrong("body", what.to_owned());
            Body::None
        });
        if spec.method == Method::Get && body != Body::None {
            wrong("method", "GET has no body; use POST, or put the values into the query".to_owned());
        }
        if spec.success.len() > 16 || spec.success.iter().any(|status| !(200..300).contains(status)) {
            wrong("success", "lists at most 16 statuses from 200 to 299".to_owned());
        }
        if spec.allow_addresses.len() > 16 || spec.allow_addresses.iter().any(|net| net.prefix_len() == 0) {
            wrong("allow_addresses", "lists at most 16 ranges, none of them the whole net".to_owned());
        }
        let auth = spec.auth.map(|auth| HttpAuth::read(&format!("{field}.auth"), auth, &mut violations));
        match url {
            Some(url) if violations.is_empty() => Ok(Self {
                url,
                query,
                method: spec.method,
                headers,
                body,
                auth,
                success: spec.success,
                insecure_http: spec.insecure_http,
                allow_addresses: spec.allow_addresses,
            }),
            _ => Err(violations),
        }
    }

    /// Where requests go, whatever they hold.
    pub fn origin(&self) -> &Url {
        &self.url
    }

    /// Whether it is reached without TLS.
    pub fn is_plain(&self) -> bool {
        self.insecure_http
    }

    /// Networks that may be connected to although the address policy would refuse them.
    pub fn allow_addresses(&self) -> &[IpNet] {
        &self.allow_addresses
    }

    /// How the API knows us.
    pub fn auth(&self) -> Option<&HttpAuth> {
        self.auth.as_ref()
    }

    /// Which statuses say that the message was taken; empty: all from 200 to 299.
    pub fn success(&self) -> &[u16] {
        &self.success
    }

    /// The request for one message.
    pub fn request(&self, values: &Values<'_>) -> HttpRequest {
        let mut url = self.url.clone();
        if let Some(query) = &self.query {
            url.set_query(Some(&query.fill(values)));
        }
        let mut headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.clone(), value.fill(values))).collect();
        let (kind, body) = match &self.body {
            Body::None => (None, Vec::new()),
            Body::Json(tree) => (Some("application/json"), tree.fill(values).to_string().into_bytes()),
            Body::Form(fields) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                for (name, value) in fields {
                    form.append_pair(name, &value.fill(values));
                }
                (Some("application/x-www-form-urlencoded"), form.finish().into_bytes())
            }
        };
        headers.extend(kind.map(|kind| ("content-type".to_owned(), kind.to_owned())));
        let method = match self.method {
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Get => "GET",
        };
        HttpRequest { method, url, headers, body }
    }
}

impl HttpAuth {
    /// The name of the secret in it.
    pub fn secret(&self) -> &str {
        match self {
            Self::Basic { password: secret, .. } | Self::Bearer(secret) | Self::Header { secret, .. } => secret,
        }
    }

    fn read(field: &str, spec: AuthSpec, violations: &mut Vec<Violation>) -> Self {
        match spec {
            AuthSpec::Basic(BasicSpec { user, password }) => {
                password.check(&format!("{field}.basic.password"), violations);
                if user.is_empty() || user.len() > 256 || user.contains(':') || user.chars().any(char::is_control) {
                    let form = "is 1 to 256 printable characters without a colon";
                    violations.push(Violation::new(format!("{field}.basic.user"), form));
                }
                Self::Basic { user, password: password.secret }
            }
            AuthSpec::Bearer(token) => {
                token.check(&format!("{field}.bearer"), violations);
                Self::Bearer(token.secret)
            }
            AuthSpec::Header(HeaderSpec { name, secret }) => {
                SecretRef { secret: secret.clone() }.check(&format!("{field}.header.secret"), violations);
                let name = name.to_ascii_lowercase();
                if !is_header_name(&name) || RESERVED.contains(&name.as_str()) {
                    let form = "is the name of a header of the API's own";
                    violations.push(Violation::new(format!("{field}.header.name"), form));
                }
                Self::Header { name, secret }
            }
        }
    }
}

/// The part that is fixed, and the template of the query.
fn split(text: &str, insecure_http: bool) -> Result<(Url, Option<String>), &'static str> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\' || c == '#') {
        return Err("holds white space, a backslash or a fragment");
    }
    let (fixed, query) = text.split_once('?').map_or((text, None), |(fixed, query)| (fixed, Some(query.to_owned())));
    if fixed.contains("${") {
        return Err("takes values in its query only: `https://host/path?to=${to}`");
    }
    let url = Url::parse(fixed).map_err(|_| "is no URL; write `https://host/path`")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password; use `auth`");
    }
    match url.scheme() {
        "https" => {}
        "http" if insecure_http => {}
        _ => return Err("starts with https:// (http:// only with `insecure_http: true`, for the same machine)"),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host");
    }
    Ok((url, query))
}

fn is_header_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
}

fn header(name: &str, value: &str) -> Result<(String, Text), &'static str> {
    let name = name.to_ascii_lowercase();
    if !is_header_name(&name) || RESERVED.contains(&name.as_str()) {
        return Err("names a header that is none or that is set by Safeconduct; use `auth` for what authorises");
    }
    if value.len() > 512 || !value.bytes().all(|c| (0x20..0x7f).contains(&c)) {
        return Err("holds a value that is not printable ASCII of at most 512 characters");
    }
    Ok((name, Text::parse(value, Place::Header)?))
}

fn fields(form: &BTreeMap<String, String>) -> Result<Vec<(String, Text)>, &'static str> {
    if form.len() > MAX_TEXTS {
        return Err("has more than 128 fields");
    }
    form.iter().map(|(name, value)| Ok((name.clone(), Text::parse(value, Place::Value)?))).collect()
}

impl Tree {
    fn read(value: &Value, depth: usize, texts: &mut usize) -> Result<Self, &'static str> {
        *texts += 1;
        if depth > DEEPEST || *texts > MAX_TEXTS {
            return Err("is deeper than 16 or has more than 128 values");
        }
        Ok(match value {
            Value::String(text) => Self::Text(Text::parse(text, Place::Value)?),
            Value::Array(items) => {
                Self::List(items.iter().map(|item| Self::read(item, depth + 1, texts)).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let mut read = |(name, value): (&String, &Value)| {
                    if name.contains("${") {
                        return Err("takes values as values, not as names");
                    }
                    Ok((name.clone(), Self::read(value, depth + 1, texts)?))
                };
                Self::Map(members.iter().map(&mut read).collect::<Result<_, _>>()?)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Plain(value.clone()),
        })
    }

    fn fill(&self, values: &Values<'_>) -> Value {
        match self {
            Self::Text(text) => Value::String(text.fill(values)),
            Self::Plain(value) => value.clone(),
            Self::List(items) => Value::Array(items.iter().map(|item| item.fill(values)).collect()),
            Self::Map(members) => {
                Value::Object(members.iter().map(|(name, value)| (name.clone(), value.fill(values))).collect())
            }
        }
    }
}
