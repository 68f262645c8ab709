//! What verifying an identity costs, beside an echo of the same messages and beside the bare cryptography.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use safeconduct_proto::identity::v1 as pb;
use safeconduct_proto::identity::v1::identity_service_client::IdentityServiceClient;
use safeconduct_testkit::{Layout, Options, Store, Suite, user_hash};
use tonic::transport::Channel;

use crate::cost::{cpu_seconds, median};
use crate::echo;

const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;
const CONCURRENCY: usize = 32;
const CONNECTIONS: usize = 4;
/// Different users, each known after the first round.
const USERS: usize = 500;
/// Times that the bare operation is done for its cost.
const BARE: u32 = 2_000;

const WORKSPACE: &str = "demo-shop";
const SECRET: &str = "a secret of the bench, for tokens only";

/// A way to prove, with the proofs of [`USERS`] users and what it costs to check one.
struct Row {
    name: &'static str,
    requests: Vec<pb::VerifyIdentityRequest>,
    /// Milliseconds for 1,000 of the bare operation.
    bare: f64,
}

struct EchoProcess(Child, String);

impl Drop for EchoProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_echo() -> EchoProcess {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program).arg(echo::WORD).stdout(Stdio::piped()).spawn().expect("the echo starts");
    let mut address = String::new();
    let out = child.stdout.take().expect("its output");
    BufReader::new(out).read_line(&mut address).expect("its address");
    EchoProcess(child, address.trim().to_owned())
}

/// Prints the rows, each beside the echo of the same round.
pub(crate) async fn measure() {
    let keys = Keys::new();
    let suite = Suite::start(keys.options()).await.expect("the suite starts");
    suite.site().secret(WORKSPACE, "bench-tokens", SECRET).expect("a secret is written");
    let echo = start_echo();
    let identity = suite.address("identity").expect("identity listens");
    let process = suite.process_id(suite.executor()).expect("it runs");
    let rows = keys.rows();

    println!(
        "\n{:<10} {:>12} {:>14} {:>14} {:>22}",
        "proof", "calls/s", "CPU ms/1,000", "bare crypto", "rest against echo"
    );
    let mut ours = vec![Vec::new(); rows.len()];
    let mut floor = Vec::new();
    for round in 0..=ROUNDS {
        for (row, cost) in rows.iter().zip(&mut ours) {
            let measured = load(&identity, process, row).await;
            let beside = load(&echo.1, echo.0.id(), row).await;
            // The first round makes the contacts and warms up.
            if round > 0 {
                cost.push(measured);
                floor.push(beside.1);
            }
        }
    }
    let floor = median(floor);
    for (row, cost) in rows.iter().zip(ours) {
        let (rate, cpu): (Vec<f64>, Vec<f64>) = cost.into_iter().unzip();
        let (rate, cpu) = (median(rate), median(cpu));
        let rest = (cpu - row.bare) / floor;
        println!("{:<10} {rate:>12.0} {cpu:>14.1} {:>14.1} {rest:>22.2}", row.name, row.bare);
    }
    println!("{:<10} {:>12} {floor:>14.1}", "echo", "");
}

/// Calls per second and CPU milliseconds per 1,000 of them.
async fn load(address: &str, process: u32, row: &Row) -> (f64, f64) {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
        clients.push(IdentityServiceClient::new(channel.connect().await.expect("a connection")));
    }
    let next = Arc::new(AtomicUsize::new(0));
    let (before, start) = (cpu_seconds(process), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..CONCURRENCY {
        let mut client = clients.get(index % CONNECTIONS).expect("a client").clone();
        let (next, requests) = (Arc::clone(&next), row.requests.clone());
        let name = row.name;
        tasks.spawn(async move {
            while start.elapsed() < ROUND {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let mut request = tonic::Request::new(requests.get(number % USERS).expect("a proof").clone());
                let token = format!("Bearer {}", safeconduct_testkit::token::WEBSITE);
                request.metadata_mut().insert("authorization", token.parse().expect("a token"));
                let answer = client.verify_identity(request).await;
                assert!(answer.is_ok(), "{name}: {answer:?}");
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a caller of the bench ends well");
    }
    let calls = next.load(Ordering::Relaxed);
    #[allow(clippy::cast_precision_loss, reason = "thousands")]
    let calls = calls as f64;
    let elapsed = start.elapsed().as_secs_f64();
    (calls / elapsed, (cpu_seconds(process) - before) * 1_000_000.0 / calls)
}

struct Keys {
    hs256: hmac::Key,
    es256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

fn part(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Keys {
    fn new() -> Self {
        Self {
            hs256: hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()),
            es256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
            ed25519: Ed25519KeyPair::generate().expect("a key"),
        }
    }

    /// The sample's workspace, with a secret and two public keys for tokens.
    fn options(&self) -> Options {
        let sample = include_str!("../../crates/safeconduct/sample/workspaces/workspace.yaml");
        let point = self.es256.public_key().as_ref();
        let (x, y) = (part(point.get(1..33).expect("a point")), part(point.get(33..65).expect("a point")));
        let edwards = part(self.ed25519.public_key());
        let tokens = format!(
            "user_hash: {{over: user_id}}\n    tokens:\n      keys:\n        - {{id: es256, alg: ES256, jwk: {{kty: EC, \
             crv: P-256, x: {x}, y: {y}}}}}\n        - {{id: eddsa, alg: EdDSA, jwk: {{kty: OKP, crv: Ed25519, x: \
             {edwards}}}}}"
        );
        let secret = "secrets: [{id: bench-tokens, secret: bench-tokens, use: jwt}, {id: s1";
        let text = sample.replacen("secrets: [{id: s1", secret, 1);
        let text = text.replacen("user_hash: {over: user_id}", &tokens, 1);
        assert!(text.contains("tokens:") && text.contains(secret), "the sample is written otherwise");
        Options::new(Layout::All, Store::Embedded).file("workspace.yaml", &text)
    }

    fn rows(&self) -> Vec<Row> {
        let random = SystemRandom::new();
        let users: Vec<String> = (0..USERS).map(|number| format!("bench_{number}")).collect();
        let hashes = users.iter().map(|user| by_hash(user)).collect();
        let bare_hash = bare(|| hmac::sign(&self.hs256, b"bench_1"));
        let hs256 = |text: &str| part(hmac::sign(&self.hs256, text.as_bytes()));
        let es256 = |text: &str| part(self.es256.sign(&random, text.as_bytes()).expect("a signature"));
        let eddsa = |text: &str| part(self.ed25519.sign(text.as_bytes()));
        let text = [7; 200];
        let tag = hmac::sign(&self.hs256, &text);
        let bare_hs256 = bare(|| hmac::verify(&self.hs256, &text, tag.as_ref()).expect("it verifies"));
        let signature = self.es256.sign(&random, &text).expect("a signature");
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.es256.public_key().as_ref().to_vec());
        let bare_curve = bare(|| public.verify(&text, signature.as_ref()).expect("it verifies"));
        let signature = self.ed25519.sign(&text);
        let public = UnparsedPublicKey::new(&ED25519, self.ed25519.public_key().as_ref().to_vec());
        let bare_eddsa = bare(|| public.verify(&text, signature.as_ref()).expect("it verifies"));
        // Every answer is signed: that is cryptography as well.
        let issue = bare(|| self.ed25519.sign(&text));
        let tokens = |header: &str, sign: &dyn Fn(&str) -> String| {
            users.iter().map(|user| by_token(user, header, sign)).collect::<Vec<_>>()
        };
        vec![
            Row { name: "user hash", requests: hashes, bare: bare_hash + issue },
            Row { name: "HS256", requests: tokens(r#"{"alg":"HS256"}"#, &hs256), bare: bare_hs256 + issue },
            Row {
                name: "ES256",
                requests: tokens(r#"{"alg":"ES256","kid":"es256"}"#, &es256),
                bare: bare_curve + issue,
            },
            Row {
                name: "EdDSA",
                requests: tokens(r#"{"alg":"EdDSA","kid":"eddsa"}"#, &eddsa),
                bare: bare_eddsa + issue,
            },
        ]
    }
}

/// Milliseconds for 1,000 times.
fn bare<T>(work: impl Fn() -> T) -> f64 {
    let start = Instant::now();
    for _ in 0..BARE {
        std::hint::black_box(work());
    }
    start.elapsed().as_secs_f64() * 1_000_000.0 / f64::from(BARE)
}

fn by_hash(user: &str) -> pb::VerifyIdentityRequest {
    let subject = Some(pb::user_hash::Subject::UserId(user.to_owned()));
    let proof = pb::verify_identity_request::Proof::UserHash(pb::UserHash { subject, hash: user_hash(user) });
    asked(proof)
}

fn by_token(user: &str, header: &str, sign: &dyn Fn(&str) -> String) -> pb::VerifyIdentityRequest {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let claims = format!(r#"{{"user_id":"{user}","iat":{now},"exp":{}}}"#, now + 3_000);
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = sign(&signed);
    asked(pb::verify_identity_request::Proof::Jwt(format!("{signed}.{signature}")))
}

fn asked(proof: pb::verify_identity_request::Proof) -> pb::VerifyIdentityRequest {
    pb::VerifyIdentityRequest { workspace_id: WORKSPACE.to_owned(), proof: Some(proof), ..Default::default() }
}
