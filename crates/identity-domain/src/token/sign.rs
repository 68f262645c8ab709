//! Making a token, as the customer's backend does: for trying out and for tests.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use safeconduct_types::Secret;
use serde_json::{Map, Value};

use super::Algorithm;

/// A token of these claims, signed with a shared secret; none if the algorithm is not one of shared secrets.
pub fn sign(alg: Algorithm, secret: &Secret, claims: &Map<String, Value>) -> Option<String> {
    let hash = match alg {
        Algorithm::Hs256 => hmac::HMAC_SHA256,
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return None,
    };
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let header = format!(r#"{{"alg":"{}","typ":"JWT"}}"#, alg.as_str());
    let signed = format!("{}.{}", part(&header), part(&Value::Object(claims.clone()).to_string()));
    let signature = hmac::sign(&hmac::Key::new(hash, secret.expose()), signed.as_bytes());
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
