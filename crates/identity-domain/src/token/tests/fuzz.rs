//! Whatever comes from outside: no panic, and nothing is accepted that was not signed. A short run in every test;
//! `make fuzz` runs longer.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::contact::{Identifier, Identity};
use crate::strict_json;
use crate::user_hash::compute;

type Pair = (KeySet, String);

/// A signed token of every algorithm with a public key, and one with a shared one.
static SIGNED: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let public = PUBLIC.into_iter().map(|alg| {
        let (keys, sign) = pair(alg);
        let token = sign(&claims(json!({})));
        (keys, token)
    });
    std::iter::once((keys(), hs256(HEADER, &claims(json!({}))))).chain(public).collect()
});

/// A change of one place in a text: a character put in, taken out or replaced, or two parts exchanged.
fn bend(text: &str, place: usize, how: u8, with: char) -> String {
    let mut all: Vec<char> = text.chars().collect();
    let place = place % all.len();
    match how % 4 {
        0 => all.insert(place, with),
        1 => drop(all.remove(place)),
        2 => all[place] = with,
        _ => all.rotate_left(place),
    }
    all.into_iter().collect()
}

proptest! {
    #[test]
    fn no_mutated_token_is_accepted(which in 0..6_usize, place: usize, how: u8, with in "[A-Za-z0-9_=. -]|\\PC") {
        let (keys, token) = &SIGNED[which];
        let bent = bend(token, place, how, with.chars().next().unwrap());
        prop_assert!(prove_with(keys, &plain(), token).is_ok());
        prop_assert!(bent == *token || prove_with(keys, &plain(), &bent).is_err(), "{}", bent);
    }

    #[test]
    fn no_token_with_a_flipped_bit_in_its_signature_is_accepted(which in 0..6_usize, bit: usize) {
        let (keys, token) = &SIGNED[which];
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = STRICT.decode(signature).unwrap();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let bent = format!("{signed}.{}", part(bytes));
        prop_assert!(prove_with(keys, &plain(), &bent).is_err());
    }

    #[test]
    fn no_claims_are_accepted_that_the_key_did_not_sign(which in 0..6_usize, user in "[a-z]{1,8}", header: bool) {
        let (keys, token) = &SIGNED[which];
        let parts: Vec<&str> = token.split('.').collect();
        let forged = part(claims(json!({"user_id": user, "x": 1})));
        let head = if header { part(r#"{"alg":"HS256"}"#) } else { parts[0].to_owned() };
        let token = format!("{head}.{forged}.{}", parts[2]);
        prop_assert!(prove_with(keys, &plain(), &token).is_err());
    }

    #[test]
    fn no_bytes_make_the_parser_of_tokens_fail_or_accept(text in "\\PC{0,200}|[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}") {
        for (keys, _) in SIGNED.iter() {
            prop_assert!(prove_with(keys, &plain(), &text).is_err());
        }
    }

    #[test]
    fn no_signed_bytes_make_the_parser_of_claims_fail(header in "\\PC{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let signed = format!("{}.{}", part(r#"{"alg":"HS256"}"#), part(&bytes));
        let made = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
        let _ = prove(&plain(), &format!("{signed}.{}", part(made)));
        let _ = prove(&plain(), &hs256(&header, &header));
    }

    #[test]
    fn no_json_makes_the_parser_of_claims_fail(text in json_text()) {
        let _ = prove(&policy(json!({"single_use": true, "issuer": "i", "audience": "a"})), &hs256(HEADER, &text));
        let _ = Token::parse(&hs256(&text, &claims(json!({}))));
    }

    #[test]
    fn no_bytes_make_the_parser_of_key_sets_fail(bytes in prop::collection::vec(any::<u8>(), 0..200), text in json_text()) {
        let _ = KeySet::parse(&bytes, &Algorithm::ALL);
        let _ = KeySet::parse(text.as_bytes(), &Algorithm::ALL);
        let _ = KeySet::parse(format!(r#"{{"keys":[{text}]}}"#).as_bytes(), &Algorithm::ALL);
        let _ = TokenKey::pem("k", Algorithm::Rs256, &format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", base64::engine::general_purpose::STANDARD.encode(&bytes)));
    }

    #[test]
    fn a_bent_public_key_verifies_nothing(which in 1..6_usize, byte: usize, xor in 1..=255_u8) {
        let jwk = bent_key(which, byte, xor);
        if let Ok((keys, _)) = KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes(), &Algorithm::ALL) {
            prop_assert!(prove_with(&keys, &plain(), &BENT[which - 1].1).is_err());
        }
    }

    #[test]
    fn no_other_json_than_the_strict_one_is_an_object(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(read) = strict_json::object::<serde_json::Map<String, Value>>(&bytes) {
            prop_assert_eq!(serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes).unwrap(), read);
        }
    }

    #[test]
    fn no_bytes_make_the_check_of_a_hash_fail_or_accept(user in "\\PC{1,40}", hash in "[0-9a-fA-F]{60,68}|\\PC{0,80}") {
        let file = json!({"secrets": [{"id": "h", "secret": "x", "use": "user_hash"}], "user_hash": {"over": "user_id"}});
        let policy: IdentityPolicy = serde_json::from_value(file).unwrap();
        let (secrets, _) = crate::secrets::Secrets::load(&policy, |_| Some(Secret::new(SECRET.to_vec())));
        if let Ok(user) = Identity::parse(Identifier::UserId, &user, "f") {
            let good = compute(&Secret::new(SECRET.to_vec()), user.value());
            prop_assert!(secrets.hashes.verify(&user, &good).is_ok());
            prop_assert!(hash.eq_ignore_ascii_case(&good) || secrets.hashes.verify(&user, &hash).is_err());
        }
    }
}

/// JSON of the names that count, with values of every kind, some members twice.
fn json_text() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "alg", "kid", "typ", "jwk", "crit", "user_id", "sub", "iss", "aud", "exp", "nbf", "iat", "jti", "email",
        "name", "keys", "kty", "crv", "x", "y", "n", "e", "d", "k", "use", "key_ops", "tier",
    ]);
    let value = prop::sample::select(vec![
        "null",
        "true",
        "1",
        "-1",
        "1e400",
        "1800000100",
        "1.5",
        "\"\"",
        "\"a\"",
        "\"HS256\"",
        "\"RSA\"",
        "\"AQAB\"",
        "\"P-256\"",
        "\"EC\"",
        "\"OKP\"",
        "\"Ed25519\"",
        "[]",
        "[\"a\"]",
        "{}",
        "{\"a\":1}",
        "[[[[[[]]]]]]",
        "\"\\ud800\"",
        "99999999999999999999999999",
        "{\"$serde_json::private::Number\":\"1\"}",
    ]);
    prop::collection::vec((names, value), 0..12).prop_map(|members| {
        let members: Vec<String> = members.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// A public key of each kind, with a token that it verifies.
static BENT: LazyLock<Vec<(Value, String)>> = LazyLock::new(|| {
    PUBLIC
        .into_iter()
        .map(|alg| {
            let (jwk, sign) = pair_with_key(alg);
            let token = sign(&claims(json!({})));
            assert!(prove_with(&set(&jwk), &plain(), &token).is_ok());
            (jwk, token)
        })
        .collect()
});

fn bent_key(which: usize, byte: usize, xor: u8) -> Value {
    let mut jwk = BENT[which - 1].0.clone();
    let member = if jwk["kty"] == "RSA" { "n" } else { "x" };
    let mut bytes = STRICT.decode(jwk[member].as_str().unwrap()).unwrap();
    let byte = byte % bytes.len();
    bytes[byte] ^= xor;
    jwk[member] = part(bytes).into();
    jwk
}
