//! Keys that are fetched from a customer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::proofs::{part, with_token};
use super::*;

/// A source of keys: what it answers, and how often it was asked.
struct Source {
    address: SocketAddr,
    body: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Source {
    async fn start(body: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let body = Arc::new(Mutex::new(Some(body)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, counted) = (Arc::clone(&body), Arc::clone(&asked));
        drop(safeconduct_service::tasks::Tasks::new().spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 4096];
                if socket.read(&mut request).await.is_err() {
                    continue;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let body = answers.lock().unwrap().clone();
                let answer = match body {
                    Some(body) => format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\ncache-control: max-age=600\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    ),
                    None => "HTTP/1.1 503 Away\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
                };
                socket.write_all(answer.as_bytes()).await.ok();
            }
        }));
        Self { address, body, asked }
    }

    fn policy(&self) -> String {
        json!({"tokens": {"jwks": {"url": format!("http://{}/keys", self.address), "insecure_http": true,
            "allow_addresses": ["127.0.0.0/8"]}}})
        .to_string()
    }

    fn answers(&self, body: Option<String>) {
        *self.body.lock().unwrap() = body;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn jwks(keys: &[(&str, &Ed25519KeyPair)]) -> String {
    let one = |(kid, pair): &(&str, &Ed25519KeyPair)| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": part(pair.public_key())});
    json!({"keys": keys.iter().map(one).collect::<Vec<_>>()}).to_string()
}

fn eddsa(kid: &str, pair: &Ed25519KeyPair, now: Timestamp) -> pb::VerifyIdentityRequest {
    let claims = json!({"user_id": "u1", "exp": now.as_seconds() + 300});
    let signed = format!("{}.{}", part(json!({"alg": "EdDSA", "kid": kid}).to_string()), part(claims.to_string()));
    with_token(format!("{signed}.{}", part(pair.sign(signed.as_bytes()))))
}

#[tokio::test]
async fn what_a_workspace_has_itself_is_listed_while_the_source_of_the_others_is_away() {
    let source = Source::start(String::new()).await;
    source.answers(None);
    let mut written: Value = serde_json::from_str(&source.policy()).unwrap();
    written["secrets"] = json!([{"id": "s1", "secret": "current", "use": "user_hash"}]);
    written["user_hash"] = json!({"over": "user_id"});
    let suite = Suite::with(&written.to_string()).await;
    let asked = pb::ListProofKeysRequest { workspace_id: "acme".to_owned() };
    let answer = plain(suite.grpc.list_proof_keys(suite.request("operator", asked)).await).unwrap();
    assert_eq!(answer.keys.iter().map(|key| key.key_id.as_str()).collect::<Vec<_>>(), ["s1"]);
    assert_eq!(source.asked(), 1);
}

#[tokio::test]
async fn fetched_keys_come_and_go_and_outlive_their_source_for_a_bounded_time() {
    let (one, two) = (Ed25519KeyPair::generate().unwrap(), Ed25519KeyPair::generate().unwrap());
    let source = Source::start(jwks(&[("k1", &one)])).await;
    let suite = Suite::with(&source.policy()).await;
    let now = || suite.clock.now();
    let verify =
        async |kid: &str, pair: &Ed25519KeyPair| suite.verify("messenger", eddsa(kid, pair, now())).await.is_ok();

    assert!(verify("k1", &one).await);
    assert!(verify("k1", &one).await);
    assert_eq!(source.asked(), 1, "cached");
    // Unknown keys ask again, but not as often as somebody names one.
    for _ in 0..20 {
        assert!(!verify("k2", &two).await);
    }
    assert_eq!(source.asked(), 1, "too soon");
    source.answers(Some(jwks(&[("k1", &one), ("k2", &two)])));
    suite.clock.advance(Duration::from_secs(5));
    assert!(verify("k2", &two).await, "a new key is fetched when it is first named");
    assert_eq!(source.asked(), 2);
    assert!(!verify("k2", &one).await && !verify("k1", &two).await);
    // A withdrawn key counts until the source's max-age is over.
    source.answers(Some(jwks(&[("k2", &two)])));
    suite.clock.advance(Duration::from_secs(599));
    assert!(verify("k1", &one).await);
    suite.clock.advance(Duration::from_secs(1));
    assert!(!verify("k1", &one).await);
    // Away, or answering what is no set: what was known stays in force, for two hours.
    source.answers(None);
    suite.clock.advance(Duration::from_hours(1));
    assert!(verify("k2", &two).await);
    source.answers(Some(r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#.to_owned()));
    suite.clock.advance(Duration::from_mins(59));
    assert!(verify("k2", &two).await);
    suite.clock.advance(Duration::from_mins(1));
    let refusal = suite.verify("messenger", eddsa("k2", &two, now())).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::UpstreamCircuitOpen);
    assert!(refusal.retry_after().is_some());
}

#[tokio::test]
async fn keys_are_fetched_from_allowed_addresses_only() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let source = Source::start(jwks(&[("k1", &pair)])).await;
    let suite = Suite::with(&source.policy().replace("127.0.0.0/8", "10.0.0.0/8")).await;
    assert_eq!(reason(suite.verify("messenger", eddsa("k1", &pair, NOW)).await), Reason::UpstreamCircuitOpen);
    assert_eq!(source.asked(), 0);
}

#[tokio::test]
async fn a_token_that_a_key_of_the_file_signed_waits_for_no_other_server() {
    let own = Ed25519KeyPair::generate().unwrap();
    let source = Source::start(String::new()).await;
    source.answers(None);
    let mut policy: Value = serde_json::from_str(&source.policy()).unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": part(own.public_key())});
    policy["tokens"]["keys"] = json!([{"id": "own", "alg": "EdDSA", "jwk": jwk}]);
    let suite = Suite::with(&policy.to_string()).await;
    let claims = json!({"user_id": "u1", "exp": NOW.as_seconds() + 300}).to_string();
    // It names no key, so that a fetched one might have signed it, too.
    let signed = format!("{}.{}", part(r#"{"alg":"EdDSA"}"#), part(claims));
    let token = format!("{signed}.{}", part(own.sign(signed.as_bytes())));
    suite.verify("messenger", with_token(token)).await.unwrap();
    assert_eq!(source.asked(), 0);
}
