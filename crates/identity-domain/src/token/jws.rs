//! The compact serialisation (RFC 7515, section 7.1), and no other.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as STRICT;
use safeconduct_types::{Reason, Refusal};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::{Algorithm, MAX_LEN};
use crate::strict_json;

/// Most bytes of a key's id in a token.
const MAX_KID: usize = 256;

/// A token taken apart, nothing of it believed.
pub struct Token<'a> {
    alg: Algorithm,
    kid: Option<String>,
    typ: Option<String>,
    signed: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// What is read of a header. Members that are not named here say nothing that counts (RFC 7515, section 4) and are
/// left alone; the marked ones would change what is verified or with what, and are refused whatever they hold.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    cty: Option<String>,
    #[serde(default, deserialize_with = "present")]
    jwk: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    jku: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    x5u: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    x5c: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    zip: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    enc: Option<IgnoredAny>,
}

/// `null` is a value too: where one is not expected it is refused like any other.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<'a> Token<'a> {
    /// Takes a compact token apart.
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > MAX_LEN {
            return Err(refused("it has more than 8192 bytes"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or_else(form)?;
        let (header, payload) = signed.split_once('.').ok_or_else(form)?;
        let decode = |part: &str| STRICT.decode(part).map_err(|_| form());
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let header: Header = strict_json::object(&header).map_err(|_| refused("its header cannot be read"))?;
        header.check()?;
        let alg = Algorithm::from_name(&header.alg)
            .ok_or_else(|| refused("its algorithm is none that a key can have here"))?;
        if signature.is_empty() {
            return Err(refused("it is not signed"));
        }
        Ok(Self { alg, kid: header.kid, typ: header.typ, signed, payload, signature })
    }

    /// The algorithm that it says it is signed with. It only ever rules keys out.
    pub fn algorithm(&self) -> Algorithm {
        self.alg
    }

    /// The key that it names.
    pub fn key_id(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(super) fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// What the signature is over.
    pub(super) fn signed(&self) -> &[u8] {
        self.signed.as_bytes()
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// Whether a key can be called so.
pub(super) fn is_kid(kid: &str) -> bool {
    !kid.is_empty() && kid.len() <= MAX_KID && !kid.chars().any(char::is_control)
}

impl Header {
    fn check(&self) -> Result<(), Refusal> {
        if self.jwk.is_some() || self.jku.is_some() || self.x5u.is_some() || self.x5c.is_some() {
            return Err(refused(
                "it brings or names its own key (jwk, jku, x5u, x5c); keys are configured, never taken from a token",
            ));
        }
        if self.crit.is_some() || self.b64.is_some() {
            return Err(refused("it needs an extension (crit, b64); none is supported"));
        }
        if self.zip.is_some() || self.enc.is_some() {
            return Err(refused("it is compressed or encrypted; send a signed token"));
        }
        if self.cty.as_deref().is_some_and(|kind| kind.to_ascii_lowercase().ends_with("jwt")) {
            return Err(refused("it holds another token; send the inner one"));
        }
        if !self.kid.as_deref().is_none_or(is_kid) {
            return Err(refused("its kid must have 1 to 256 bytes without control characters"));
        }
        Ok(())
    }
}

/// Shows neither claims nor signature.
impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("alg", &self.alg).finish_non_exhaustive()
    }
}

fn form() -> Refusal {
    refused("it is no compact token of three base64url parts without padding")
}

/// The refusal of a token. `why` is the same for everybody: it holds nothing out of the token.
pub(super) fn refused(why: &str) -> Refusal {
    Refusal::new(Reason::ProofInvalid, format!("the token is not accepted: {why}"))
}
