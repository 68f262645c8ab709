//! The public keys of an issuer, each fixed to one algorithm.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

/// A key that verifies tokens of one algorithm.
pub(super) struct IssuerKey {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// The keys of a JWKS; those that sign nothing are left out. The error says what to mend.
pub(super) fn parse(text: &str) -> Result<Vec<IssuerKey>, String> {
    let set: JwkSet = serde_json::from_str(text)
        .map_err(|error| format!("is not a JWKS (line {}, column {})", error.line(), error.column()))?;
    let signs = |jwk: &&Jwk| !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
    let keys: Vec<_> = set.keys.iter().filter(signs).enumerate().map(key).collect::<Result<_, _>>()?;
    if keys.is_empty() {
        return Err("has no key that verifies signatures; get the issuer's JWKS again".to_owned());
    }
    if keys.len() > 1 && keys.iter().any(|key| key.id.is_none()) {
        return Err("has several keys, and one without `kid`; which key signed must be known".to_owned());
    }
    Ok(keys)
}

fn key((index, jwk): (usize, &Jwk)) -> Result<IssuerKey, String> {
    let number = index + 1;
    // The key says which algorithm, so that no token can choose: HS256 with a public key as secret, `none`, ...
    let curve = if let AlgorithmParameters::RSA(_) = &jwk.algorithm {
        return rsa(number, jwk);
    } else if let AlgorithmParameters::EllipticCurve(key) = &jwk.algorithm {
        Some(&key.curve)
    } else if let AlgorithmParameters::OctetKeyPair(key) = &jwk.algorithm {
        Some(&key.curve)
    } else {
        None
    };
    let accepted = [
        (EllipticCurve::P256, Algorithm::ES256),
        (EllipticCurve::P384, Algorithm::ES384),
        (EllipticCurve::Ed25519, Algorithm::EdDSA),
    ];
    let natural = accepted.iter().find(|(known, _)| curve == Some(known)).map(|(_, algorithm)| *algorithm);
    let algorithm = natural.ok_or_else(|| {
        format!("key number {number} is of a kind that is not accepted; use RSA, P-256, P-384 or Ed25519")
    })?;
    let named = jwk.common.key_algorithm.map(Algorithm::try_from);
    if named.is_some_and(|named| named.ok() != Some(algorithm)) {
        return Err(format!("key number {number} has an `alg` that does not fit its kind"));
    }
    finish(number, jwk, algorithm)
}

fn rsa(number: usize, jwk: &Jwk) -> Result<IssuerKey, String> {
    let algorithm = match jwk.common.key_algorithm {
        Some(KeyAlgorithm::RS256) => Algorithm::RS256,
        Some(KeyAlgorithm::RS384) => Algorithm::RS384,
        Some(KeyAlgorithm::RS512) => Algorithm::RS512,
        Some(KeyAlgorithm::PS256) => Algorithm::PS256,
        Some(KeyAlgorithm::PS384) => Algorithm::PS384,
        Some(KeyAlgorithm::PS512) => Algorithm::PS512,
        _ => return Err(format!("key number {number} is RSA without an `alg` such as RS256; add it")),
    };
    finish(number, jwk, algorithm)
}

fn finish(number: usize, jwk: &Jwk, algorithm: Algorithm) -> Result<IssuerKey, String> {
    let key = DecodingKey::from_jwk(jwk).map_err(|_| format!("key number {number} cannot be read"))?;
    Ok(IssuerKey { id: jwk.common.key_id.clone(), algorithm, key })
}
