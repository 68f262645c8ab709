//! Tokens as a customer's backend makes them.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// That this is the user, for ten minutes.
pub(crate) fn claims(user: &str) -> Value {
    json!({"user_id": user, "iat": now(), "exp": now() + 600})
}

fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Signed with a shared secret.
pub(crate) fn hs256(secret: &str, claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    token(&json!({"alg": "HS256", "typ": "JWT"}), claims, |text| hmac::sign(&key, text).as_ref().to_vec())
}

/// A key pair of the backend, whose public part it publishes.
pub(crate) struct Signer {
    kid: String,
    pair: Ed25519KeyPair,
}

impl Signer {
    /// A new one.
    pub(crate) fn new(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: Ed25519KeyPair::generate().unwrap() }
    }

    /// The token that says this.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": self.kid});
        token(&header, claims, |text| self.pair.sign(text).as_ref().to_vec())
    }

    /// A JSON Web Key Set of these (RFC 7517; RFC 8037 for the curve).
    pub(crate) fn set(signers: &[&Self]) -> String {
        let keys = signers.iter().map(|signer| {
            let x = URL_SAFE_NO_PAD.encode(signer.pair.public_key());
            json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": signer.kid, "x": x})
        });
        json!({"keys": keys.collect::<Vec<_>>()}).to_string()
    }
}
