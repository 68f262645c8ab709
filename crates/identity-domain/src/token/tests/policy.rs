//! What the workspace wants of tokens.

use std::time::Duration;

use super::*;
use crate::contact::Identifier;

const SECOND: i64 = NOW.as_seconds();

fn at(changes: Value) -> Result<ProvenToken, Refusal> {
    prove(&plain(), &hs256(HEADER, &claims(changes)))
}

#[test]
fn a_token_proves_its_user_byte_for_byte_and_brings_what_is_declared() {
    let said = claims(json!({"user_id": "Ann@Example.com ", "email": "ann@example.com", "name": "Ann", "tier": 0,
        "secret_plan": "x", "exp": SECOND + 60}));
    let proven = prove(&plain(), &hs256(HEADER, &said.replace(r#""tier":0"#, r#""tier":{"a":1.50}"#))).unwrap();
    assert_eq!((proven.identity().identifier(), proven.identity().value()), (Identifier::UserId, "Ann@Example.com "));
    let names: Vec<&str> = proven.attributes().keys().map(String::as_str).collect();
    assert_eq!(names, ["email", "name", "tier"], "claims of the token itself are no attributes, declared or not");
    assert_eq!(proven.attributes()["tier"].to_string(), r#"{"a":1.50}"#);
    assert_eq!(proven.expires(), Timestamp::from_seconds(SECOND + 60));
    assert!(proven.once().is_none());
    let shown = format!("{proven:?}");
    assert!(!shown.contains("nn"), "{shown}");
}

#[test]
fn a_token_holds_from_its_start_to_its_end_with_half_a_minute_of_leeway() {
    for (changes, fits) in [
        (json!({"exp": SECOND + 1}), true),
        (json!({"exp": SECOND - 29}), true),
        (json!({"exp": SECOND - 30}), false),
        (json!({"iat": SECOND + 30}), true),
        (json!({"iat": SECOND + 31}), false),
        (json!({"nbf": SECOND + 30}), true),
        (json!({"nbf": SECOND + 31}), false),
        (json!({"nbf": SECOND - 1000}), true),
        (json!({"exp": 1.5e9}), false),
        (json!({"exp": format!("{SECOND}")}), false),
        (json!({"exp": true}), false),
        (json!({"exp": -1}), false),
        (json!({"exp": 1e300}), false),
        (json!({"exp": i64::MAX}), false),
        (json!({"exp": u64::MAX}), false),
        (json!({"iat": "now"}), false),
        (json!({"nbf": []}), false),
    ] {
        assert_eq!(at(changes.clone()).is_ok(), fits, "{changes}");
    }
}

#[test]
fn a_fraction_of_a_second_counts_so_that_tokens_of_one_second_have_an_order() {
    let written = |text: &str, at: i64| claims(json!({})).replace(&at.to_string(), &format!("{at}{text}"));
    let token = |claims: String| prove(&plain(), &hs256(HEADER, &claims)).unwrap();
    for (text, millis) in [("", 0), (".0", 0), (".1", 100), (".75", 750), (".0014", 1), (".999", 999)] {
        assert_eq!(
            token(written(text, SECOND + 300)).expires(),
            Timestamp::from_millis((SECOND + 300) * 1000 + millis)
        );
        assert_eq!(token(written(text, SECOND - 10)).said(), Timestamp::from_millis((SECOND - 10) * 1000 + millis));
    }
}

#[test]
fn a_token_that_does_not_say_when_it_was_made_is_no_newer_when_it_is_brought_again() {
    let said = at(json!({"iat": null, "exp": SECOND + 60})).unwrap().said();
    assert_eq!(said, Timestamp::from_seconds(SECOND + 60 - 3600));
    assert_eq!(at(json!({"iat": null, "exp": SECOND + 3630})).unwrap().said(), NOW, "and not of the future");
    assert_eq!(at(json!({})).unwrap().said(), Timestamp::from_seconds(SECOND - 10));
}

#[test]
fn an_end_is_needed_and_lies_within_the_longest_life() {
    assert!(why(at(json!({"exp": null}))).contains("exp"));
    assert!(at(json!({"iat": SECOND - 10, "exp": SECOND + 3590})).is_ok());
    assert!(why(at(json!({"iat": SECOND - 10, "exp": SECOND + 3591}))).contains("3600 s"));
    // Without iat it counts from now.
    assert!(at(json!({"iat": null, "exp": SECOND + 3630})).is_ok());
    assert!(at(json!({"iat": null, "exp": SECOND + 3631})).is_err());
    let lax = policy(json!({"require_exp": false, "max_lifetime": "10m"}));
    let token = |changes| hs256(HEADER, &claims(changes));
    let proven = prove(&lax, &token(json!({"exp": null}))).unwrap();
    assert_eq!(proven.expires(), Timestamp::from_seconds(SECOND - 10 + 600));
    assert!(prove(&lax, &token(json!({"exp": null, "iat": SECOND - 631}))).is_err());
    assert!(why(prove(&lax, &token(json!({"exp": null, "iat": null})))).contains("never end"));
}

#[test]
fn single_use_needs_an_id_and_is_remembered_until_the_token_is_too_old() {
    let once = policy(json!({"single_use": true}));
    let token = |changes| hs256(HEADER, &claims(changes));
    assert!(why(prove(&once, &token(json!({})))).contains("jti"));
    for bad in [json!(""), json!(7), json!("x".repeat(257))] {
        assert!(why(prove(&once, &token(json!({"jti": bad})))).contains("jti"));
    }
    let proven = prove(&once, &token(json!({"jti": "t-1", "iss": "i", "exp": SECOND + 60}))).unwrap();
    let used = proven.once().unwrap();
    assert_eq!((used.issuer.as_str(), used.id.as_str()), ("i", "t-1"));
    assert_eq!(used.until, Timestamp::from_seconds(SECOND + 60).after(Duration::from_secs(30)));
}

#[test]
fn an_email_or_name_that_is_none_is_refused() {
    for changes in [
        json!({"email": "ann"}),
        json!({"email": 1}),
        json!({"email": "a b@example.com"}),
        json!({"name": "a\nb"}),
        json!({"name": "x".repeat(257)}),
        json!({"name": {"first": "Ann"}}),
    ] {
        assert!(at(changes.clone()).is_err(), "{changes}");
    }
}

#[test]
fn everything_wrong_with_the_file_is_told_at_once() {
    let file = json!({"tokens": {"issuer": "", "max_lifetime": "31d", "keys": [
        {"id": "a b", "alg": "ES256"},
        {"id": "k", "alg": "RS256", "pem": "-----BEGIN PRIVATE KEY-----"},
        {"id": "k", "alg": "EdDSA", "jwk": {"kty": "OKP", "crv": "Ed25519", "kid": "other", "x": "AA"}}],
        "jwks": {"url": "http://auth.example", "algs": ["HS256"], "allow_addresses": ["0.0.0.0/0"]}},
        "secrets": [{"id": "s", "secret": "x", "use": "jwt", "alg": "RS256"}]});
    let told = serde_json::from_value::<IdentityPolicy>(file).unwrap_err().to_string();
    for expected in [
        "tokens.issuer",
        "tokens.max_lifetime",
        "tokens.keys[0].id",
        "tokens.keys[0]: needs exactly one",
        "tokens.keys[1]: is not accepted: it is a private key",
        "tokens.keys[2].id",
        "tokens.keys[2].jwk.kid",
        "tokens.jwks.url",
        "tokens.jwks.algs",
        "tokens.jwks.allow_addresses",
        "secrets[0].alg",
    ] {
        assert!(told.contains(expected), "{expected} is missing in: {told}");
    }
    let twice = json!({"tokens": {"keys": [{"id": "s", "alg": "EdDSA", "jwk": {"kty": "OKP", "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}]}, "secrets": [{"id": "s", "secret": "x", "use": "jwt"}]});
    let told = serde_json::from_value::<IdentityPolicy>(twice).unwrap_err().to_string();
    assert!(told.contains("secrets[0].id"), "{told}");
    for bad in [
        json!({"algorithms": []}),
        json!({"max_lifetime": 3600}),
        json!({"keys": [{"id": "k", "alg": "none", "pem": ""}]}),
    ] {
        assert!(serde_json::from_value::<IdentityPolicy>(json!({"tokens": bad})).is_err());
    }
}

#[test]
fn a_key_in_pem_is_the_same_as_in_jwk() {
    for alg in PUBLIC {
        let (_, sign) = pair(alg);
        drop(sign);
    }
    let ed = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    assert!(TokenKey::pem("k", Algorithm::EdDsa, ed).is_ok());
    for alg in Algorithm::ALL.into_iter().filter(|alg| *alg != Algorithm::EdDsa) {
        assert!(TokenKey::pem("k", alg, ed).is_err(), "one key, one algorithm: {alg:?}");
    }
    for bad in [
        ed.replace("MCow", "MCsw"),
        ed.replace("HURo=", "HURoA"),
        ed.replace("PUBLIC", "RSA PUBLIC"),
        ed.replace("PUBLIC KEY", "CERTIFICATE"),
        format!("{ed}{ed}"),
        String::new(),
    ] {
        assert!(TokenKey::pem("k", Algorithm::EdDsa, &bad).is_err(), "{bad}");
    }
}
