//! The short-lived signed statement who a contact is, for calls between services.
//!
//! An assertion is a compact JWS (RFC 7515) signed with `EdDSA`, type `sc-assertion+jwt`. Identity signs, every
//! service checks with identity's JWKS and nothing else. Only [`Verifier::verify`] makes a [`VerifiedContact`], and
//! what acts for somebody takes one. The attributes travel as a sealed claim: a runtime, a log or a model that sees
//! the assertion learns none of them.

mod jwks;
mod marks;
mod sealed;
mod sign;
mod verify;

pub use jwks::{JwkSet, JwksError, KeyId};
pub use sealed::{Seal, SealError};
pub use sign::{Claims, SignError, SigningKey, Validity, sign};
pub use verify::{VerifiedContact, Verifier};

use std::borrow::Cow;

use base64::engine::general_purpose::URL_SAFE_NO_PAD as STRICT;
use safeconduct_types::{CallerName, ContactId, SessionId, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::contact::{ContactKind, Method};

/// The only algorithm.
const ALGORITHM: &str = "EdDSA";
/// The type of an assertion: no other token of ours, and no token of anybody else, passes for one.
const TYPE: &str = "sc-assertion+jwt";
/// Most bytes of an assertion.
pub const MAX_LEN: usize = 4096;
/// Most callers that may present one assertion.
pub const MAX_PRESENTERS: usize = 16;

/// Three members and no other: `jwk`, `jku`, `x5u`, `x5c`, `crit`, `b64`, `zip` and whatever else a header can say
/// is refused by not being here.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: KeyId,
    typ: String,
}

/// The claims as they are written. Times are seconds since the epoch. A member that is not known is left alone, so
/// that identity may be a version ahead; what must not be ignored needs another [`TYPE`].
#[derive(Serialize, Deserialize)]
struct Payload<'a> {
    iss: Cow<'a, str>,
    aud: Cow<'a, str>,
    /// Who may present it.
    azp: Cow<'a, [CallerName]>,
    iat: i64,
    exp: i64,
    /// The proof's end.
    pxp: i64,
    wsp: Cow<'a, WorkspaceId>,
    sid: Cow<'a, SessionId>,
    /// The session's start.
    sst: i64,
    /// The session's epoch.
    sep: u32,
    sub: Cow<'a, ContactId>,
    knd: ContactKind,
    mth: Method,
    /// The sealed attributes, base64url.
    att: Cow<'a, str>,
}
