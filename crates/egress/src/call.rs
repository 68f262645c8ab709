//! What goes out and what comes back.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use safeconduct_types::Deadline;
use url::Url;

use crate::error::BodyError;

/// A request, made by the domain. Its URL must lie on the upstream's origin.
pub struct Call {
    /// The method.
    pub method: Method,
    /// The whole URL.
    pub url: Url,
    /// Headers of the definition, and the credential's.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
    /// When the answer must be whole.
    pub deadline: Deadline,
    /// The longest body that is read.
    pub max_bytes: usize,
}

/// Shows neither path nor headers nor body: all of them may hold personal data or a credential.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

/// An answer: its head, and its body as far as that could be had.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, at most `max_bytes` long.
    pub body: Result<Bytes, BodyError>,
}

/// Shows the status and the length only.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("body", &self.body.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}
