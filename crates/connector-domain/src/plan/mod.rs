//! The one request that an execution sends, worked out whole before anything is.
//!
//! Whatever the values are, the request keeps the shape that the definition gives it. Encoding makes that so; here it
//! is proven once more on the result: the finished URL is read again by the parser that the client uses, and must
//! have the upstream's scheme, host and port, exactly the path and query that were written, and as many segments and
//! parameters as the definition says.

use std::fmt;
use std::time::Duration;

use safeconduct_types::{Reason, Refusal};
use serde_json::Value;
use url::Url;

use crate::bind::{Binding, BoundInputs};
use crate::definition::{Connector, KeyPlace, Method};
use crate::template::{Reference, Scope, encode_query};

/// Largest request body, in bytes.
const MAX_BODY: usize = 256 * 1024;
/// Longest URL, in bytes.
const MAX_URL: usize = 8 * 1024;

/// A request, ready to be sent. It lacks the credential, which is added last, by the client.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct RequestPlan {
    method: Method,
    url: Url,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    timeout: Duration,
    max_bytes: usize,
}

impl RequestPlan {
    /// The method.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Where to. Holds input values.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Lower-case names and visible ASCII values, no name twice. Holds input values.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The body. Holds input values.
    pub fn body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }

    /// The most time one attempt may take.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The most bytes of an answer that are read.
    pub const fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}

impl fmt::Debug for RequestPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestPlan")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.as_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}

/// The request for these inputs. `base` is the upstream's URL, `upstream_key` the key of this execution's generation
/// (see [`crate::upstream_key::derive`]); it is sent where the definition says, if it says so.
pub fn plan(
    connector: &Connector,
    inputs: &BoundInputs,
    base: &Url,
    upstream_key: Option<&str>,
) -> Result<RequestPlan, Refusal> {
    let key = upstream_key.map(Value::from);
    render(connector, &WithKey { inputs, key: key.as_ref() }, base, key.as_ref())
}

/// Whether a request can be made of these inputs: everything that [`plan`] refuses, refused before a list is read to
/// prove their choices. Yields nothing that could be sent.
pub fn rehearse(
    connector: &Connector,
    binding: &Binding,
    base: &Url,
    upstream_key: Option<&str>,
) -> Result<(), Refusal> {
    plan(connector, binding.unproven(), base, upstream_key).map(drop)
}

struct WithKey<'a> {
    inputs: &'a BoundInputs,
    key: Option<&'a Value>,
}

impl Scope for WithKey<'_> {
    fn resolve(&self, reference: &Reference) -> Option<&Value> {
        match reference {
            Reference::Input(_) => self.inputs.resolve(reference),
            Reference::UpstreamKey => self.key,
        }
    }
}

fn render(connector: &Connector, scope: &dyn Scope, base: &Url, key: Option<&Value>) -> Result<RequestPlan, Refusal> {
    let request = &connector.request;
    let place = connector.idempotency.as_ref().and_then(|one| one.upstream_key.as_ref()).map(|one| &one.place);
    let query = render_query(connector, scope)?;
    let url = build_url(base, &request.path.render(scope)?, request.path.segments(), &query)?;

    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, template) in &request.headers {
        if let Some(value) = template.render_header(scope)? {
            headers.push((name.clone(), value));
        }
    }
    let mut body = request.body.as_ref().map(|body| body.render(scope)).transpose()?.flatten();
    match (place, key) {
        (None | Some(KeyPlace::Natural), _) => {}
        (Some(_), None) => return Err(Refusal::internal("the definition sends an upstream key and none was derived")),
        (Some(KeyPlace::Header(name)), Some(key)) => {
            headers.push((name.clone(), key.as_str().unwrap_or_default().to_owned()));
        }
        (Some(KeyPlace::Field(path)), Some(key)) => {
            let root = body.as_mut().and_then(|body| set_member(body, path, key));
            root.ok_or_else(|| Refusal::internal("the body has no place for the upstream key"))?;
        }
    }
    let body = body.map(|body| body.to_string().into_bytes());
    if body.as_ref().is_some_and(|body| body.len() > MAX_BODY) {
        return Err(Refusal::invalid_field("inputs", "make a request body of more than 256 KiB"));
    }
    let mut fixed = vec![("accept", "application/json")];
    if body.is_some() {
        fixed.push(("content-type", "application/json"));
    }
    for (name, value) in fixed {
        if headers.iter().all(|(other, _)| other != name) {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok(RequestPlan {
        method: request.method,
        url,
        headers,
        body,
        timeout: request.timeout,
        max_bytes: connector.response.max_bytes,
    })
}

/// The query's pairs, encoded, in the definition's order.
fn render_query(connector: &Connector, scope: &dyn Scope) -> Result<Vec<String>, Refusal> {
    let mut pairs = Vec::new();
    for (name, values) in &connector.request.query {
        for template in values.values() {
            if let Some(value) = template.render_query(scope)? {
                pairs.push(format!("{}={value}", encode_query(name)));
            }
        }
    }
    Ok(pairs)
}

/// Sets a member of the body, with the objects on the way to it; `None` if something else stands in the way.
fn set_member(body: &mut Value, path: &[String], value: &Value) -> Option<()> {
    let (last, way) = path.split_last()?;
    let mut here = body;
    for name in way {
        here = here.as_object_mut()?.entry(name.clone()).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    here.as_object_mut()?.insert(last.clone(), value.clone());
    Some(())
}

fn build_url(base: &Url, path: &str, segments: usize, query: &[String]) -> Result<Url, Refusal> {
    let changed =
        || Refusal::internal("the finished URL is not the one that the definition describes; nothing was sent");
    let plain_base = base.host_str().is_some_and(|host| !host.is_empty())
        && matches!(base.scheme(), "https" | "http")
        && base.query().is_none()
        && base.fragment().is_none()
        && base.username().is_empty()
        && base.password().is_none();
    if !plain_base {
        return Err(Refusal::internal(
            "an upstream's URL has a scheme, a host, perhaps a port and a path, and nothing else",
        ));
    }
    let prefix = base.path().trim_end_matches('/');
    let whole_path = format!("{prefix}{path}");
    let root = base.as_str().strip_suffix(base.path()).ok_or_else(changed)?;
    let mut text = format!("{root}{whole_path}");
    if !query.is_empty() {
        text.push('?');
        text.push_str(&query.join("&"));
    }
    if text.len() > MAX_URL {
        return Err(Refusal::new(Reason::InputInvalid, "the inputs make a URL of more than 8 KiB"));
    }

    let url = Url::parse(&text).map_err(|_| changed())?;
    let expected_segments = prefix.matches('/').count() + segments;
    let kept = url.as_str() == text
        && url.scheme() == base.scheme()
        && url.host() == base.host()
        && url.port_or_known_default() == base.port_or_known_default()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
        && url.path() == whole_path
        && url.path_segments().is_some_and(|all| all.count() == expected_segments)
        && url.query_pairs().count() == query.len();
    if kept { Ok(url) } else { Err(changed()) }
}

#[cfg(test)]
mod tests;
