use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{CertificateParams, KeyPair, SanType};
use safeconduct_types::{ManualClock, Timestamp};
use serde_json::json;

use super::*;
use crate::config::{Config, LoadOptions};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const TOKEN: &str = "sct_hunter2";

struct Fixture {
    authenticator: Authenticator,
    issuer: KeyPair,
    _directory: tempfile::TempDir,
}

fn jwk(key: &KeyPair) -> serde_json::Value {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let point = key.public_key_raw();
    json!({"kty": "EC", "crv": "P-256", "kid": "k1", "x": encode(&point[1..33]), "y": encode(&point[33..])})
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let issuer = KeyPair::generate().unwrap();
    let jwks = directory.path().join("jwks.json");
    std::fs::write(&jwks, json!({"keys": [jwk(&issuer)]}).to_string()).unwrap();
    let file = directory.path().join("safeconduct.toml");
    let hash = hex::encode(digest(&SHA256, TOKEN.as_bytes()));
    let text = format!(
        r#"
        connector.tls = {{ cert = "c", key = "k", client_ca = "ca" }}
        [[callers]]
        name = "by-token"
        roles = ["agent"]
        workspaces = ["acme"]
        connectors = ["list-orders"]
        effects = ["read"]
        token_sha256 = "{hash}"
        [[callers]]
        name = "by-uri"
        roles = ["service"]
        workspaces = ["*"]
        san = "uri:spiffe://example.org/otp"
        [[callers]]
        name = "by-dns"
        roles = ["backend"]
        san = "dns:Backend.example.org"
        [[callers]]
        name = "by-jwt"
        roles = ["messenger"]
        jwt = {{ issuer = "https://issuer.example.org", subject = "chat" }}
        [[issuers]]
        issuer = "https://issuer.example.org"
        audience = "safeconduct"
        jwks_file = "{}"
        "#,
        jwks.display()
    );
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&LoadOptions { file: Some(file), ..LoadOptions::default() }).unwrap();
    Fixture {
        authenticator: Authenticator::new(&config, Arc::new(ManualClock::at(NOW))).unwrap(),
        issuer,
        _directory: directory,
    }
}

fn token(key: &KeyPair, header: &Header, change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut claims = json!({
        "iss": "https://issuer.example.org", "aud": "safeconduct", "sub": "chat",
        "exp": NOW.as_seconds() + 60, "nbf": NOW.as_seconds() - 60,
    });
    change(&mut claims);
    format!("Bearer {}", encode(header, &claims, &EncodingKey::from_ec_der(&key.serialize_der())).unwrap())
}

fn es256(kid: &str) -> Header {
    Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) }
}

impl Fixture {
    fn header(&self, header: &str) -> Result<String, Refusal> {
        self.authenticator.authenticate(None, Some(header), NOW).map(|caller| caller.name().to_string())
    }

    fn certificate(&self, names: &[&str]) -> Result<String, Refusal> {
        let der = certificate(names);
        self.authenticator.authenticate(Some(&der), None, NOW).map(|caller| caller.name().to_string())
    }
}

fn certificate(names: &[&str]) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.split_once(':') {
            Some(("dns", name)) => SanType::DnsName(name.try_into().unwrap()),
            Some((_, uri)) => SanType::URI(uri.try_into().unwrap()),
            None => unreachable!(),
        })
        .collect();
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn is_unauthenticated(result: Result<String, Refusal>) {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.reason(), Reason::CallerUnauthenticated);
    assert!(!refusal.to_string().contains("hunter2"), "{refusal}");
}

#[test]
fn a_caller_is_known_by_its_token() {
    let fixture = fixture();
    assert_eq!(fixture.header(&format!("Bearer {TOKEN}")).unwrap(), "by-token");
    assert_eq!(fixture.header(&format!("bearer {TOKEN}")).unwrap(), "by-token");
}

#[test]
fn who_proves_nothing_is_nobody() {
    let fixture = fixture();
    let nobody = fixture.authenticator.authenticate(None, None, NOW).map(|caller| caller.name().to_string());
    is_unauthenticated(nobody);
    let hash = hex::encode(digest(&SHA256, TOKEN.as_bytes()));
    for bad in ["", "Bearer", "Bearer ", "Basic hunter2", "Bearer hunter2", TOKEN, "Bearer a.b.hunter2"] {
        is_unauthenticated(fixture.header(bad));
    }
    is_unauthenticated(fixture.header(&format!("Bearer {hash}")));
    is_unauthenticated(fixture.header(&format!("Bearer {}", "x".repeat(9000))));
}

#[test]
fn a_bad_token_beside_a_good_certificate_is_refused() {
    let fixture = fixture();
    let der = certificate(&["uri:spiffe://example.org/otp"]);
    let result = fixture.authenticator.authenticate(Some(&der), Some("Bearer hunter2"), NOW);
    is_unauthenticated(result.map(|caller| caller.name().to_string()));
}

#[test]
fn a_caller_is_known_by_a_name_in_its_certificate() {
    let fixture = fixture();
    assert_eq!(fixture.certificate(&["uri:spiffe://example.org/otp"]).unwrap(), "by-uri");
    assert_eq!(fixture.certificate(&["dns:backend.example.org", "dns:other.example.org"]).unwrap(), "by-dns");
}

#[test]
fn certificates_without_a_known_name_or_with_two_are_refused() {
    let fixture = fixture();
    is_unauthenticated(fixture.certificate(&[]));
    is_unauthenticated(fixture.certificate(&["uri:spiffe://example.org/otp/x", "dns:spiffe.example.org"]));
    is_unauthenticated(fixture.certificate(&["dns:*.example.org"]));
    is_unauthenticated(fixture.certificate(&["uri:spiffe://example.org/otp", "dns:backend.example.org"]));
    let garbage = fixture.authenticator.authenticate(Some(b"garbage"), None, NOW);
    is_unauthenticated(garbage.map(|caller| caller.name().to_string()));
}

#[test]
fn a_caller_is_known_by_a_token_of_its_issuer() {
    let fixture = fixture();
    assert_eq!(fixture.header(&token(&fixture.issuer, &es256("k1"), |_| ())).unwrap(), "by-jwt");
}

#[test]
fn tokens_that_are_old_foreign_or_for_another_are_refused() {
    let fixture = fixture();
    let now = NOW.as_seconds();
    let with = |key: &str, value: serde_json::Value| token(&fixture.issuer, &es256("k1"), |claims| claims[key] = value);
    for bad in [
        with("exp", json!(now - 31)),
        with("nbf", json!(now + 31)),
        with("aud", json!("elsewhere")),
        with("iss", json!("https://evil.example.org")),
        with("sub", json!("stranger")),
        with("exp", json!(null)),
        token(&fixture.issuer, &es256("k2"), |_| ()),
        token(&KeyPair::generate().unwrap(), &es256("k1"), |_| ()),
        token(&fixture.issuer, &Header { crit: Some(vec!["x".to_owned()]), ..es256("k1") }, |_| ()),
    ] {
        is_unauthenticated(fixture.header(&bad));
    }
    for claim in ["exp", "aud", "iss", "sub"] {
        let without = token(&fixture.issuer, &es256("k1"), |claims| {
            claims.as_object_mut().unwrap().remove(claim);
        });
        is_unauthenticated(fixture.header(&without));
    }
    assert!(fixture.header(&with("exp", json!(now - 29))).is_ok(), "clocks may differ a little");
}

#[test]
fn a_token_does_not_choose_its_algorithm() {
    let fixture = fixture();
    let claims =
        json!({"iss": "https://issuer.example.org", "aud": "safeconduct", "sub": "chat", "exp": 2_000_000_000});
    for secret in [fixture.issuer.public_key_raw().to_vec(), jwk(&fixture.issuer).to_string().into_bytes()] {
        let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
        let forged = encode(&header, &claims, &EncodingKey::from_secret(&secret)).unwrap();
        is_unauthenticated(fixture.header(&format!("Bearer {forged}")));
    }
    // {"alg":"none","kid":"k1"}
    let good = token(&fixture.issuer, &es256("k1"), |_| ());
    let body = good.split('.').nth(1).unwrap();
    is_unauthenticated(fixture.header(&format!("Bearer eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.{body}.")));
}

#[test]
fn key_sets_that_leave_the_algorithm_or_the_key_open_are_refused() {
    let point = jwk(&KeyPair::generate().unwrap());
    let mut nameless = point.clone();
    nameless.as_object_mut().unwrap().remove("kid");
    let mut contrary = point.clone();
    contrary["alg"] = json!("ES384");
    let rsa = json!({"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB"});
    let secret = json!({"kty": "oct", "kid": "s", "k": "aHVudGVyMg"});
    for keys in [json!([]), json!([rsa]), json!([secret]), json!([contrary]), json!([nameless, point])] {
        assert!(jwks::parse(&json!({ "keys": keys }).to_string()).is_err(), "{keys}");
    }
    assert!(jwks::parse("{").is_err());
    assert_eq!(jwks::parse(&json!({"keys": [nameless]}).to_string()).map(|keys| keys.len()).ok(), Some(1));
}

#[test]
fn a_caller_may_do_what_is_listed_and_nothing_else() {
    let fixture = fixture();
    let caller = fixture.authenticator.authenticate(None, Some(&format!("Bearer {TOKEN}")), NOW).unwrap();
    let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
    caller.require(&[Role::Backend, Role::Agent], Some(&acme)).unwrap();
    caller.require(&[Role::Agent], None).unwrap();
    for refused in [caller.require(&[Role::Backend], Some(&acme)), caller.require(&[Role::Agent], Some(&other))] {
        assert_eq!(refused.unwrap_err().reason(), Reason::CallerNotAllowed);
    }
    assert!(caller.require(&[], None).is_err());
    let (listed, unlisted) = ("list-orders".parse().unwrap(), "refund-order".parse().unwrap());
    assert!(caller.may_use_connector(&listed) && !caller.may_use_connector(&unlisted));
    assert!(caller.may_effect(Effect::Read) && !caller.may_effect(Effect::Write));
    caller.require_connector(&listed, Effect::Read).unwrap();
    assert!(caller.require_connector(&listed, Effect::Write).is_err());
    assert!(caller.require_connector(&unlisted, Effect::Read).is_err());
}

#[test]
fn what_is_not_stated_is_not_allowed() {
    let fixture = fixture();
    let der = certificate(&["dns:backend.example.org"]);
    let caller = fixture.authenticator.authenticate(Some(&der), None, NOW).unwrap();
    assert!(caller.require(&[Role::Backend], Some(&"acme".parse().unwrap())).is_err());
    assert!(!caller.may_use_connector(&"list-orders".parse().unwrap()));
    assert!(!caller.may_effect(Effect::Read));
}

#[test]
fn a_sister_in_process_is_a_service_and_no_more() {
    let caller = Caller::sister("connector".parse().unwrap());
    caller.require(&[Role::Service], Some(&"acme".parse().unwrap())).unwrap();
    assert!(!caller.is(Role::Operator) && !caller.is(Role::Backend) && !caller.is(Role::Agent));
    assert!(!caller.may_effect(Effect::Read));
    assert!(!caller.may_use_connector(&"list-orders".parse().unwrap()));
}

#[test]
fn a_request_that_passed_no_layer_has_no_caller() {
    let status = caller(&tonic::Request::new(())).unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
}
