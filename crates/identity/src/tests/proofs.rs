//! Proofs by token, what becomes of those that fail, and how secrets and keys come and go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use safeconduct_admission_client::{
    Admission, Admit, AdmitAnswer, Denied, Extend, ExtendAnswer, LimitKind, Lookup, LookupAnswer, Remaining, Settle,
    Settled, Shape, Take, TakeAnswer, Taken, Usage,
};
use serde_json::{Value, json};

use super::*;

/// Counts what is taken; nothing comes back.
#[derive(Debug, Default)]
pub(super) struct Counting {
    taken: Mutex<HashMap<(String, [u8; 32]), u32>>,
    pub(super) asked: AtomicUsize,
    is_away: Mutex<bool>,
}

#[tonic::async_trait]
impl Admission for Counting {
    async fn take(&self, asked: Take, _: Deadline) -> Result<TakeAnswer, Refusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if *self.is_away.lock().unwrap() {
            return Err(Refusal::new(Reason::StoreUnavailable, "away"));
        }
        let mut taken = self.taken.lock().unwrap();
        let counter = |charge: &safeconduct_admission_client::Charge| {
            (charge.limit.name.clone(), charge.limit.dimensions.unwrap())
        };
        for charge in &asked.charges {
            let Shape::Rate { burst, .. } = charge.limit.shape else { panic!("a rate") };
            if taken.get(&counter(charge)).is_some_and(|count| *count >= burst) {
                let limit = Remaining {
                    name: charge.limit.name.clone(),
                    kind: LimitKind::Rate,
                    unit: String::new(),
                    left: 0,
                    max: burst.into(),
                    resets: None,
                };
                let retry_after = Some(Duration::from_mins(1));
                return Ok(TakeAnswer::Denied(Denied { limit, retry_after, remaining: Vec::new() }));
            }
        }
        for charge in &asked.charges {
            *taken.entry(counter(charge)).or_default() += 1;
        }
        Ok(TakeAnswer::Taken(Taken::default()))
    }

    async fn lookup(&self, _: Lookup, _: Deadline) -> Result<LookupAnswer, Refusal> {
        Err(Refusal::internal("not asked"))
    }

    async fn admit(&self, _: Admit, _: Deadline) -> Result<AdmitAnswer, Refusal> {
        Err(Refusal::internal("not asked"))
    }

    async fn extend(&self, _: Extend, _: Deadline) -> Result<ExtendAnswer, Refusal> {
        Err(Refusal::internal("not asked"))
    }

    async fn settle(&self, _: Settle, _: Deadline) -> Result<Settled, Refusal> {
        Err(Refusal::internal("not asked"))
    }

    async fn usage(&self, _: Usage, _: Deadline) -> Result<Taken, Refusal> {
        Err(Refusal::internal("not asked"))
    }
}

pub(super) const TOKENS: &[u8] = b"the backend's secret for tokens, of 2026";

pub(super) fn part(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token of the workspace's secret.
fn token(secret: &[u8], claims: &Value) -> String {
    let signed = format!("{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(claims.to_string()));
    let made = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", part(made))
}

fn claims(user: &str) -> Value {
    json!({"user_id": user, "iat": NOW.as_seconds(), "exp": NOW.as_seconds() + 300})
}

pub(super) fn with_token(jwt: String) -> pb::VerifyIdentityRequest {
    pb::VerifyIdentityRequest {
        workspace_id: "acme".to_owned(),
        proof: Some(pb::verify_identity_request::Proof::Jwt(jwt)),
        ..Default::default()
    }
}

const BY_TOKEN: &str = r#"{"secrets":[{"id":"t1","secret":"tokens","use":"jwt"},
    {"id":"s1","secret":"current","use":"user_hash"}],"user_hash":{"over":"user_id"}}"#;

impl Suite {
    /// The suite, with this policy for `acme`.
    pub(super) async fn with(text: &str) -> Self {
        let suite = Self::start().await;
        suite.set_policy(text);
        suite
    }

    fn set_policy(&self, text: &str) {
        self.directory.0.lock().unwrap().retain(|(name, _)| *name != "acme");
        self.directory.0.lock().unwrap().push(("acme", policy(text)));
    }
}

#[tokio::test]
async fn a_token_proves_the_user_whom_a_hash_proves_too() {
    let suite = Suite::with(BY_TOKEN).await;
    let by_token = suite.verify("messenger", with_token(token(TOKENS, &claims("u1")))).await.unwrap();
    let read = suite.read(&by_token.assertion, "messenger").unwrap();
    assert_eq!(read.contact().kind, ContactKind::User);
    assert_eq!(read.contact().attributes["user_id"].provenance, Provenance::SignedToken);
    let by_hash = suite.verify("messenger", hashed("u1", SECRET)).await.unwrap();
    assert_eq!(by_hash.contact.unwrap().contact_id, read.contact().id.as_str());
    for bad in [token(SECRET, &claims("u1")), token(TOKENS, &json!({"user_id": "u1"})), "a.b.c".to_owned()] {
        assert_eq!(reason(suite.verify("messenger", with_token(bad)).await), Reason::ProofInvalid);
    }
    let other =
        pb::VerifyIdentityRequest { workspace_id: "globex".to_owned(), ..with_token(token(TOKENS, &claims("u1"))) };
    assert_eq!(reason(suite.verify("messenger", other).await), Reason::ProofInvalid);
}

#[tokio::test]
async fn a_token_that_counts_once_counts_once_under_ten_thousand_replays() {
    let text = r#"{"secrets":[{"id":"t1","secret":"tokens","use":"jwt"}],"tokens":{"single_use":true}}"#;
    let suite = Arc::new(Suite::with(text).await);
    let mut once = claims("u1");
    once["jti"] = json!("t-1");
    let jwt = token(TOKENS, &once);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let (suite, jwt) = (Arc::clone(&suite), jwt.clone());
        all.spawn(async move { suite.verify("messenger", with_token(jwt)).await });
    }
    let (mut proven, mut refused) = (0, 0);
    while let Some(answer) = all.join_next().await {
        match answer.unwrap() {
            Ok(_) => proven += 1,
            Err(refusal) => {
                assert!(matches!(refusal.reason(), Reason::ProofInvalid | Reason::RateLimited), "{refusal}");
                refused += 1;
            }
        }
    }
    assert_eq!((proven, refused), (1, 9_999));
    // Nor just before its end; and another token counts.
    suite.clock.advance(Duration::from_secs(329));
    assert!(suite.verify("messenger", with_token(jwt)).await.is_err());
    once["jti"] = json!("t-2");
    assert!(suite.verify("messenger", with_token(token(TOKENS, &once))).await.is_ok());
}

#[tokio::test]
async fn a_removed_or_changed_secret_verifies_nothing_a_second_later() {
    let suite = Suite::with(BY_TOKEN).await;
    let jwt = token(TOKENS, &claims("u1"));
    suite.verify("messenger", with_token(jwt.clone())).await.unwrap();
    suite.verify("messenger", hashed("u1", SECRET)).await.unwrap();
    suite.directory.1.lock().unwrap().insert("current", None);
    suite.directory.1.lock().unwrap().insert("tokens", Some(b"another secret, long enough for HS256".to_vec()));
    suite.clock.advance(Duration::from_millis(250));
    assert!(suite.verify("messenger", hashed("u1", SECRET)).await.is_err());
    assert_eq!(reason(suite.verify("messenger", with_token(jwt)).await), Reason::ProofInvalid);
    let renewed = token(b"another secret, long enough for HS256", &claims("u1"));
    assert!(suite.verify("messenger", with_token(renewed)).await.is_ok());
    suite.directory.1.lock().unwrap().clear();
    suite.clock.advance(Duration::from_millis(250));
    assert!(suite.verify("messenger", hashed("u1", SECRET)).await.is_ok());
}

#[tokio::test]
async fn a_changed_policy_counts_at_once() {
    let suite = Suite::with(BY_TOKEN).await;
    let jwt = token(TOKENS, &claims("u1"));
    suite.verify("messenger", with_token(jwt.clone())).await.unwrap();
    suite.set_policy(ONE);
    assert_eq!(reason(suite.verify("messenger", with_token(jwt)).await), Reason::ProofInvalid);
}

#[tokio::test]
async fn report_only_starts_no_session_in_a_workspace_that_is_disabled() {
    let suite = Suite::with(&BY_TOKEN.replacen('{', r#"{"enforce":false,"#, 1)).await;
    let key = MarkKey::new("acme".parse().unwrap(), Subject::WorkspaceDisabled);
    *suite.marks.lock().unwrap() = vec![mark(key)];
    let bad = with_token(token(SPARE, &claims("u1")));
    assert_eq!(reason(suite.verify("messenger", bad).await), Reason::ConnectorDisabled);
}

#[tokio::test]
async fn report_only_lets_through_as_a_visitor_and_never_as_the_user() {
    let suite = Suite::with(&BY_TOKEN.replacen('{', r#"{"enforce":false,"#, 1)).await;
    let session = suite.begin("messenger", visitor()).await.unwrap();
    for bad in [hashed("u1", SPARE), with_token(token(SECRET, &claims("u1"))), with_token("a.b.c".to_owned())] {
        let passed = suite.verify("messenger", within(&session.assertion, bad)).await.unwrap();
        let read = suite.read(&passed.assertion, "messenger").unwrap();
        assert_eq!((read.contact().kind, read.contact().attributes.len()), (ContactKind::Visitor, 0));
        assert_eq!(passed.contact.unwrap().user_id, "");
    }
    let proven = suite.verify("messenger", hashed("u1", SECRET)).await.unwrap();
    assert_eq!(suite.read(&proven.assertion, "messenger").unwrap().contact().kind, ContactKind::User);
    let mut metrics = String::new();
    suite.identity.metrics(&mut metrics);
    for expected in [
        r#"proofs_total{workspace="acme",proof="token",verdict="reported"} 2"#,
        r#"proofs_total{workspace="acme",proof="user_hash",verdict="reported"} 1"#,
        r#"proofs_total{workspace="acme",proof="user_hash",verdict="verified"} 1"#,
        r#"key_uses_total{workspace="acme",key="s1"} 1"#,
    ] {
        assert!(metrics.contains(expected), "{expected} is missing in {metrics}");
    }
}

#[tokio::test]
async fn report_only_goes_on_with_the_visitors_session_and_with_nobody_elses() {
    let suite = Suite::with(&BY_TOKEN.replacen('{', r#"{"enforce":false,"#, 1)).await;
    let session = suite.begin("messenger", visitor()).await.unwrap();
    let began = suite.read(&session.assertion, "messenger").unwrap();
    let failed = || within(&session.assertion, hashed("u1", SPARE));
    suite.clock.advance(Duration::from_mins(5));
    let passed = suite.verify("messenger", failed()).await.unwrap();
    let read = suite.read(&passed.assertion, "messenger").unwrap();
    assert_eq!((passed.session_id.as_str(), read.session()), (session.session_id.as_str(), began.session()));
    assert_eq!((&read.contact().id, read.session_start()), (&began.contact().id, began.session_start()));
    assert_eq!(passed.expire_time.unwrap().seconds, NOW.as_seconds() + 300 + 900, "fresh");
    // A valid proof still binds it, and from then on it is the user's: who fails is a visitor elsewhere.
    let proven = suite.verify("messenger", within(&passed.assertion, hashed("u1", SECRET))).await.unwrap();
    assert_eq!(proven.session_id, session.session_id);
    for assertion in [&session.assertion, &proven.assertion] {
        let passed = suite.verify("messenger", within(assertion, hashed("u2", SPARE))).await.unwrap();
        assert_ne!(passed.session_id, session.session_id);
        let read = suite.read(&passed.assertion, "messenger").unwrap();
        assert_eq!((read.contact().kind, read.contact().attributes.len()), (ContactKind::Visitor, 0));
    }
}

#[tokio::test]
async fn failures_slow_whoever_failed_and_lock_nobody_out() {
    let suite = Suite::with(BY_TOKEN).await;
    let session = suite.begin("messenger", visitor()).await.unwrap();
    let victim = suite.begin("messenger", visitor()).await.unwrap();
    let attack = || within(&session.assertion, hashed("victim", SPARE));
    for _ in 0..10 {
        assert_eq!(reason(suite.verify("messenger", attack()).await), Reason::ProofInvalid);
    }
    let slowed = suite.verify("messenger", attack()).await.unwrap_err();
    assert_eq!((slowed.reason(), slowed.retry_after()), (Reason::RateLimited, Some(Duration::from_mins(1))));
    // Who rests is not counted again.
    let asked = suite.admission.asked.load(Ordering::SeqCst);
    assert_eq!(reason(suite.verify("messenger", attack()).await), Reason::RateLimited);
    assert_eq!(suite.admission.asked.load(Ordering::SeqCst), asked);
    // The victim, in a session of their own and in the very one that failed.
    assert!(suite.verify("messenger", within(&victim.assertion, hashed("victim", SECRET))).await.is_ok());
    assert!(suite.verify("messenger", within(&session.assertion, hashed("victim", SECRET))).await.is_ok());
}

#[tokio::test]
async fn the_budget_of_a_claimed_contact_slows_failures_and_never_a_valid_proof() {
    let suite = Suite::with(BY_TOKEN).await;
    for _ in 0..30 {
        let session = suite.begin("messenger", visitor()).await.unwrap();
        let failed = suite.verify("messenger", within(&session.assertion, hashed("victim", SPARE))).await;
        assert_eq!(reason(failed), Reason::ProofInvalid);
    }
    let session = suite.begin("messenger", visitor()).await.unwrap();
    let failing = || within(&session.assertion, hashed("victim", SPARE));
    assert_eq!(reason(suite.verify("messenger", failing()).await), Reason::RateLimited);
    assert!(suite.verify("messenger", within(&session.assertion, hashed("victim", SECRET))).await.is_ok());
    // Another contact is another budget.
    assert_eq!(reason(suite.verify("messenger", hashed("other", SPARE)).await), Reason::ProofInvalid);
}

#[tokio::test]
async fn without_admission_a_failure_is_a_refusal_all_the_same() {
    let suite = Suite::with(BY_TOKEN).await;
    *suite.admission.is_away.lock().unwrap() = true;
    assert_eq!(reason(suite.verify("messenger", hashed("u1", SPARE)).await), Reason::ProofInvalid);
    assert!(suite.verify("messenger", hashed("u1", SECRET)).await.is_ok());
}

#[tokio::test]
async fn the_last_use_of_a_key_outlives_the_process_and_is_written_once_a_minute() {
    let suite = Suite::with(BY_TOKEN).await;
    suite.verify("messenger", with_token(token(TOKENS, &claims("u1")))).await.unwrap();
    suite.clock.advance(Duration::from_secs(59));
    suite.verify("messenger", with_token(token(TOKENS, &claims("u1")))).await.unwrap();
    suite.tasks.finish().await;
    let shown = |suite: &Suite| {
        let mut text = String::new();
        suite.identity.metrics(&mut text);
        text
    };
    let last = |key: &str, at: i64| format!(r#"key_last_use_seconds{{workspace="acme",key="{key}"}} {at}"#);
    let text = shown(&suite);
    assert!(text.contains(&last("t1", NOW.as_seconds() + 59)) && text.contains(&last("s1", 0)), "{text}");
    // Another process on the same store, asked for another proof, knows.
    let ports = Ports { tasks: Tasks::new(), ..suite.identity.ports.clone() };
    let (keyer, random) = (suite.identity.store.clone(), Arc::clone(&ports.random));
    let other = Arc::new(crate::evidence::Evidence::new(ports.records, keyer, random, ports.tasks.clone()));
    other.recall(&"acme".parse().unwrap(), ["t1".to_owned(), "s1".to_owned()]);
    ports.tasks.finish().await;
    let mut text = String::new();
    other.metrics(&mut text);
    assert!(text.contains(&last("t1", NOW.as_seconds())), "the second use came within the minute: {text}");
    assert!(text.contains(&last("s1", 0)), "{text}");
}

#[tokio::test]
async fn an_operator_sees_which_keys_are_in_use_over_all_processes() {
    let own = Ed25519KeyPair::generate().unwrap();
    let mut written: Value = serde_json::from_str(BY_TOKEN).unwrap();
    written["secrets"][1]["primary"] = true.into();
    written["secrets"].as_array_mut().unwrap().push(json!({"id": "gone", "secret": "no-such", "use": "user_hash"}));
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": part(own.public_key())});
    written["tokens"] = json!({"keys": [{"id": "own", "alg": "EdDSA", "jwk": jwk}]});
    let suite = Suite::with(&written.to_string()).await;
    suite.verify("messenger", with_token(token(TOKENS, &claims("u1")))).await.unwrap();
    suite.tasks.finish().await;
    let listed = async |identity: &Arc<Identity>, caller: &str| {
        let asked = pb::ListProofKeysRequest { workspace_id: "acme".to_owned() };
        let grpc = IdentityGrpc::over(Arc::clone(identity));
        let answer = plain(grpc.list_proof_keys(suite.request(caller, asked)).await)?;
        let row = |key: pb::ProofKey| {
            (key.key_id.clone(), key.kind(), key.primary, key.accepted, key.last_use_time.map(|time| time.seconds))
        };
        Ok::<_, Refusal>(answer.keys.into_iter().map(row).collect::<Vec<_>>())
    };
    // Another process on the same store: nothing was proven there, and it tells all the same.
    let keys = Keys::from_keyring(&suite.keyring, Arc::clone(&suite.identity.ports.random)).unwrap();
    let ports = Ports { tasks: Tasks::new(), ..suite.identity.ports.clone() };
    let other = Identity::new(Settings::default(), keys, ports);
    let used = Some(NOW.as_seconds());
    for identity in [&suite.identity, &other] {
        for caller in ["operator", "backend"] {
            let expected = [
                ("t1", pb::ProofKeyKind::TokenSecret, true, true, used),
                ("s1", pb::ProofKeyKind::UserHashSecret, true, true, None),
                ("gone", pb::ProofKeyKind::UserHashSecret, false, false, None),
                ("own", pb::ProofKeyKind::PublicKey, false, true, None),
            ];
            let expected = expected.map(|(id, kind, primary, good, last)| (id.to_owned(), kind, primary, good, last));
            assert_eq!(listed(identity, caller).await.unwrap(), expected);
        }
        for caller in ["messenger", "agent", "otp"] {
            assert_eq!(reason(listed(identity, caller).await), Reason::CallerNotAllowed, "{caller}");
        }
    }
}
