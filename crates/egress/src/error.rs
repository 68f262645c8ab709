//! How a call fails.

use crate::policy::RefusedAddress;

/// A call that brought no usable answer.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct CallError {
    /// Whether a byte of the request may have left. Where that is not known: `true`.
    pub sent: bool,
    /// What went wrong.
    pub cause: Cause,
}

/// What went wrong. Carries no part of the request or the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The request does not go to the upstream that it names.
    #[error("the request does not go to its upstream")]
    OtherOrigin,
    /// The upstream's name has no address.
    #[error("the upstream's name does not resolve")]
    Resolve,
    /// One of its addresses must not be called.
    #[error(transparent)]
    Refused(#[from] RefusedAddress),
    /// No connection.
    #[error("no connection to the upstream")]
    Connect,
    /// TLS failed: the certificate is not for that name, or is not trusted.
    #[error("no trusted TLS connection to the upstream")]
    Tls,
    /// Too many calls to this upstream are under way.
    #[error("too many calls to the upstream are under way")]
    Busy,
    /// The deadline came first.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// The connection broke before an answer came.
    #[error("the connection to the upstream broke before an answer came")]
    Broken,
}

/// Why a body is not whole. The head of the answer is there, and may say all that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("the upstream's answer is longer than max_bytes")]
    TooLong,
    /// It is compressed, although that was not asked for.
    #[error("the upstream's answer is encoded in a way that was not asked for")]
    Encoded,
    /// The connection broke within it.
    #[error("the connection to the upstream broke before the answer was whole")]
    Broken,
    /// The deadline came within it.
    #[error("the upstream's answer was not whole in time")]
    Timeout,
}

impl CallError {
    pub(crate) const fn unsent(cause: Cause) -> Self {
        Self { sent: false, cause }
    }

    pub(crate) const fn after_sending(cause: Cause) -> Self {
        Self { sent: true, cause }
    }
}
