//! Tokens made in the tests, and what is common to them.

#![allow(clippy::needless_pass_by_value, reason = "what is passed is written out at the call")]

mod fuzz;
mod policy;
mod practices;
mod vectors;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as STRICT;
use safeconduct_types::{Reason, Refusal, Secret, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::workspace::IdentityPolicy;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const SECRET: &[u8] = b"a secret of the customer's backend, long enough for every hash!!";

fn part(bytes: impl AsRef<[u8]>) -> String {
    STRICT.encode(bytes)
}

/// A token of these two texts, signed with [`SECRET`].
fn hs256(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    format!("{signed}.{}", part(hmac::sign(&key, signed.as_bytes())))
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Claims that prove `u1` now, changed by `changes`; `null` takes one away.
fn claims(changes: Value) -> String {
    let mut all = json!({"user_id": "u1", "iat": NOW.as_seconds() - 10, "exp": NOW.as_seconds() + 300});
    let members = all.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    all.to_string()
}

fn policy(tokens: Value) -> TokenPolicy {
    let file: IdentityPolicy = serde_json::from_value(json!({"tokens": tokens})).unwrap();
    file.tokens().clone()
}

fn key(alg: Algorithm) -> TokenKey {
    TokenKey::shared("s1", alg, &Secret::new(SECRET.to_vec())).unwrap()
}

fn keys() -> KeySet {
    KeySet::of([key(Algorithm::Hs256)])
}

fn prove_with(keys: &KeySet, policy: &TokenPolicy, token: &str) -> Result<ProvenToken, Refusal> {
    let token = Token::parse(token)?;
    let Some(signed) = keys.verify(&token) else {
        return Err(jws::refused("no key"));
    };
    signed.prove(policy, |name| ["tier", "exp", "user_id"].contains(&name), NOW)
}

fn prove(policy: &TokenPolicy, token: &str) -> Result<ProvenToken, Refusal> {
    prove_with(&keys(), policy, token)
}

/// What the refusal says; panics if the token was accepted.
#[track_caller]
fn why(result: Result<ProvenToken, Refusal>) -> String {
    let refusal = result.expect_err("the token was accepted");
    assert_eq!(refusal.reason(), Reason::ProofInvalid);
    refusal.detail().to_owned()
}

type Sign = Box<dyn Fn(&str) -> String>;

/// A pair of keys of a public algorithm: the set with the public one, and what signs.
fn pair(alg: Algorithm) -> (KeySet, Sign) {
    let (jwk, sign) = pair_with_key(alg);
    (set(&jwk), sign)
}

fn pair_with_key(alg: Algorithm) -> (Value, Sign) {
    let header = format!(r#"{{"alg":"{}"}}"#, alg.as_str());
    let random = SystemRandom::new();
    match alg {
        Algorithm::Es256 | Algorithm::Es384 => {
            let (kind, crv, len) = if alg == Algorithm::Es256 {
                (&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", 32)
            } else {
                (&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", 48)
            };
            let pair = EcdsaKeyPair::generate(kind).unwrap();
            let point = pair.public_key().as_ref()[1..].to_vec();
            let jwk = json!({"kty": "EC", "crv": crv, "x": part(&point[..len]), "y": part(&point[len..])});
            let sign = move |claims: &str| {
                let signed = format!("{}.{}", part(&header), part(claims));
                let signature = pair.sign(&random, signed.as_bytes()).unwrap();
                format!("{signed}.{}", part(signature))
            };
            (jwk, Box::new(sign))
        }
        Algorithm::Rs256 | Algorithm::Ps256 => {
            let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
            let (n, e) = numbers(&pair);
            let jwk = json!({"kty": "RSA", "alg": alg.as_str(), "n": part(n), "e": part(e)});
            let sign = move |claims: &str| {
                let signed = format!("{}.{}", part(&header), part(claims));
                let mut made = vec![0; pair.public_modulus_len()];
                let padding: &dyn signature::RsaEncoding =
                    if alg == Algorithm::Rs256 { &signature::RSA_PKCS1_SHA256 } else { &signature::RSA_PSS_SHA256 };
                pair.sign(padding, &random, signed.as_bytes(), &mut made).unwrap();
                format!("{signed}.{}", part(made))
            };
            (jwk, Box::new(sign))
        }
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => panic!("{alg:?} has no pairs"),
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate().unwrap();
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": part(pair.public_key())});
            let sign = move |claims: &str| {
                let signed = format!("{}.{}", part(&header), part(claims));
                format!("{signed}.{}", part(pair.sign(signed.as_bytes())))
            };
            (jwk, Box::new(sign))
        }
    }
}

const PUBLIC: [Algorithm; 5] =
    [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];

fn set(jwk: &Value) -> KeySet {
    let (keys, left_out) = KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes(), &Algorithm::ALL).unwrap();
    assert_eq!(left_out, []);
    keys
}

/// Modulus and exponent.
fn numbers(pair: &aws_lc_rs::rsa::KeyPair) -> (Vec<u8>, Vec<u8>) {
    match der::rsa(pair.public_key().as_ref()) {
        Some(key::Public::Rsa { n, e }) => (n, e),
        _ => panic!("no RSA key"),
    }
}

/// A workspace that says nothing of tokens.
fn plain() -> TokenPolicy {
    policy(json!({}))
}
