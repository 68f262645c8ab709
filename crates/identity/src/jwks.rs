//! The public keys, for whoever checks assertions.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;

use crate::Identity;

/// Where the keys are on HTTP.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// How long the keys may be cached. A key is published at least this long before it signs.
pub(crate) const MAX_AGE: Duration = Duration::from_mins(5);

impl Identity {
    /// The public keys as a JSON Web Key Set.
    pub fn jwks_json(&self) -> &str {
        &self.jwks_json
    }

    /// The answer to an HTTP request for [`JWKS_PATH`]. The keys are public; nobody needs to prove who they are.
    pub fn jwks_http(&self, method: &Method) -> Response<Full<Bytes>> {
        let body = match *method {
            Method::GET => Bytes::copy_from_slice(self.jwks_json.as_bytes()),
            Method::HEAD => Bytes::new(),
            _ => {
                let mut refused = Response::new(Full::default());
                *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
                return refused;
            }
        };
        let mut answer = Response::new(Full::new(body));
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.jwks_json.len()));
        answer
    }
}
