//! What verifying an identity costs, beside an echo of the same messages, beside the bare cryptography, and beside a
//! service written by hand that does a verification and nothing else.
//!
//! Bare cryptography is what a verification cannot do without, done in a loop by this program: the caller's token is
//! hashed, the proof is checked, the contact and its record are named by keyed hashes, the record is opened, chance is
//! drawn for the session's id and for a nonce, the attributes are sealed, and the assertion is signed.
//!
//! The echo and the service by hand are tonic servers as its documentation shows them, on its runtime and the system's
//! allocator; ours is what is shipped, with both of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    ParsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use safeconduct_proto::identity::v1 as pb;
use safeconduct_proto::identity::v1::identity_service_client::IdentityServiceClient;
use safeconduct_testkit::{Layout, Options, Store, Suite, user_hash};
use tonic::transport::Channel;

use crate::cost::{cpu_nanos_of_thread, cpu_seconds, median};
use crate::{by_hand, echo};

const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;
const CONCURRENCY: usize = 32;
const CONNECTIONS: usize = 4;
/// Different users, each known after the first round.
pub(crate) const USERS: usize = 500;
/// Times that the bare operations are done for their cost.
const BARE: u32 = 5_000;
/// Bytes that are signed, sealed and opened: about those of the sample's assertion, its attributes and a record.
const SIGNED: usize = 800;
const SEALED: usize = 200;

const WORKSPACE: &str = "demo-shop";
const SECRET: &str = "a secret of the bench, for tokens only";

/// A way to prove, with the proofs of [`USERS`] users.
struct Row {
    name: &'static str,
    requests: Vec<pb::VerifyIdentityRequest>,
    /// Checks one, and nothing else.
    check: Box<dyn Fn() + Sync>,
}

/// What one round measured: calls per second, CPU milliseconds for 1,000 of them, and for 1,000 of the bare operations.
/// The machine is faster or slower from minute to minute, so each is measured beside the others.
#[derive(Clone, Copy)]
struct Round {
    rate: f64,
    total: f64,
    bare: f64,
    echo: f64,
}

/// What is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Verify,
    /// Answered from memory by the same server: what a call costs there in which nothing is decided.
    Keys,
}

/// A service beside ours, and its address.
struct Beside(Child, String);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(word: &str, directory: &Path) -> Beside {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program).arg(word).arg(directory).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut address = String::new();
    let out = child.stdout.take().expect("its output");
    BufReader::new(out).read_line(&mut address).expect("its address");
    Beside(child, address.trim().to_owned())
}

/// Prints the rows, each beside the echo of the same round.
pub(crate) async fn measure() {
    let keys = Keys::new();
    let suite = Suite::start(keys.options()).await.expect("the suite starts");
    suite.site().secret(WORKSPACE, "bench-tokens", SECRET).expect("a secret is written");
    let directory = tempfile::tempdir().expect("a directory");
    let (echo, by_hand) = (start(echo::WORD, directory.path()), start(by_hand::WORD, directory.path()));
    let identity = suite.address("identity").expect("identity listens");
    let process = suite.process_id(suite.executor()).expect("it runs");
    let rows = keys.rows();
    let hashes = rows.first().expect("the first row");
    let nothing = || 0.0;
    let ours = (identity.as_str(), process);
    let hand = (by_hand.1.as_str(), by_hand.0.id());

    let mut measured = vec![Vec::new(); rows.len()];
    let (mut by_hand, mut idle) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        for (row, rounds) in rows.iter().zip(&mut measured) {
            rounds.push(one(ours, &echo, row, Call::Verify, &|| keys.issue() + bare(&row.check)).await);
        }
        by_hand.push(one(hand, &echo, hashes, Call::Verify, &|| keys.issue() + bare(&hashes.check)).await);
        idle.push(one(ours, &echo, hashes, Call::Keys, &nothing).await);
        if round == 0 {
            // It has made the contacts and warmed up.
            measured.iter_mut().chain([&mut by_hand, &mut idle]).for_each(Vec::clear);
        }
    }
    println!("\nCPU of the server, ms for 1,000 calls; `/ echo`: the rest in relation to all of the echo\n");
    println!(
        "{:<20} {:>9} {:>9} {:>12} {:>9} {:>9} {:>8}",
        "proof", "calls/s", "total", "bare crypto", "rest", "echo", "/ echo"
    );
    for (row, rounds) in rows.iter().zip(measured) {
        line(row.name, &rounds);
    }
    line("user hash, by hand", &by_hand);
    line("GetJwks", &idle);
}

/// One round of a row, with the echo and the bare operations beside it.
async fn one(service: (&str, u32), echo: &Beside, row: &Row, call: Call, bare: &dyn Fn() -> f64) -> Round {
    let before = bare();
    let (rate, total) = load(service.0, service.1, row, call).await;
    let after = bare();
    let (_, echo) = load(&echo.1, echo.0.id(), row, Call::Verify).await;
    Round { rate, total, bare: f64::midpoint(before, after), echo }
}

/// Prints the medians of the rounds; the ratio is the median of the rounds' ratios.
fn line(name: &str, rounds: &[Round]) {
    let middle = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    println!(
        "{name:<20} {:>9.0} {:>9.1} {:>12.1} {:>9.1} {:>9.1} {:>8.2}",
        middle(|round| round.rate),
        middle(|round| round.total),
        middle(|round| round.bare),
        middle(|round| round.total - round.bare),
        middle(|round| round.echo),
        middle(|round| (round.total - round.bare) / round.echo),
    );
}

/// Calls per second and CPU milliseconds per 1,000 of them.
async fn load(address: &str, process: u32, row: &Row, call: Call) -> (f64, f64) {
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
                if call == Call::Keys {
                    client.get_jwks(signed_in(pb::GetJwksRequest {})).await.expect("the keys");
                } else {
                    let request = requests.get(number % USERS).expect("a proof").clone();
                    let answer = client.verify_identity(signed_in(request)).await;
                    assert!(answer.is_ok(), "{name}: {answer:?}");
                }
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

/// By the website.
fn signed_in<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let token = format!("Bearer {}", safeconduct_testkit::token::WEBSITE);
    request.metadata_mut().insert("authorization", token.parse().expect("a token"));
    request
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

    /// What every verification does, whatever proves it.
    fn issue(&self) -> f64 {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("a key"));
        let nonce = || {
            let mut nonce = [0; 12];
            rand::fill(&mut nonce).expect("chance");
            Nonce::assume_unique_for_key(nonce)
        };
        let mut record = vec![7; SEALED];
        let aside = [7; 128];
        let known = Nonce::assume_unique_for_key([7; 12]);
        key.seal_in_place_append_tag(known, Aad::from(aside), &mut record).expect("it is sealed");
        let token = safeconduct_testkit::token::WEBSITE.as_bytes();
        let text = [7; SIGNED];
        bare(|| {
            let caller = digest(&SHA256, token);
            // The contact; the slot and the key of its record.
            let named = [(); 3].map(|()| hmac::sign(&self.hs256, &aside));
            let mut opened = record.clone();
            let known = Nonce::assume_unique_for_key([7; 12]);
            key.open_in_place(known, Aad::from(aside), &mut opened).expect("it opens");
            let mut session = [0; 16];
            rand::fill(&mut session).expect("chance");
            let mut sealed = vec![7; SEALED];
            key.seal_in_place_append_tag(nonce(), Aad::from(aside), &mut sealed).expect("it is sealed");
            (caller, named, opened, session, sealed, self.ed25519.sign(&text))
        })
    }

    fn rows(&self) -> Vec<Row> {
        let random = SystemRandom::new();
        let users: Vec<String> = (0..USERS).map(|number| format!("bench_{number}")).collect();
        let hashes = users.iter().map(|user| by_hash(user)).collect();
        let hs256 = |text: &str| part(hmac::sign(&self.hs256, text.as_bytes()));
        let es256 = |text: &str| part(self.es256.sign(&random, text.as_bytes()).expect("a signature"));
        let eddsa = |text: &str| part(self.ed25519.sign(text.as_bytes()));
        let tokens = |header: &str, sign: &dyn Fn(&str) -> String| {
            users.iter().map(|user| by_token(user, header, sign)).collect::<Vec<_>>()
        };
        let text = [7; 200];
        let (key, tag) = (self.hs256.clone(), hmac::sign(&self.hs256, &text));
        let check_shared = move || hmac::verify(&key, &text, tag.as_ref()).expect("it verifies");
        let key = self.hs256.clone();
        let check_hash = move || {
            std::hint::black_box(hmac::sign(&key, b"bench_1"));
        };
        // Keys that are ready: ours prepares them when it takes a workspace.
        let signed = self.es256.sign(&random, &text).expect("a signature");
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.es256.public_key().as_ref()).expect("a key");
        let check_curve = move || key.verify_sig(&text, signed.as_ref()).expect("it verifies");
        let signed = self.ed25519.sign(&text);
        let key = ParsedPublicKey::new(&ED25519, self.ed25519.public_key().as_ref()).expect("a key");
        let check_edwards = move || key.verify_sig(&text, signed.as_ref()).expect("it verifies");
        let es256 = tokens(r#"{"alg":"ES256","kid":"es256"}"#, &es256);
        let eddsa = tokens(r#"{"alg":"EdDSA","kid":"eddsa"}"#, &eddsa);
        vec![
            Row { name: "user hash", requests: hashes, check: Box::new(check_hash) },
            Row { name: "HS256", requests: tokens(r#"{"alg":"HS256"}"#, &hs256), check: Box::new(check_shared) },
            Row { name: "ES256", requests: es256, check: Box::new(check_curve) },
            Row { name: "EdDSA", requests: eddsa, check: Box::new(check_edwards) },
        ]
    }
}

/// Milliseconds of CPU for 1,000 times, with all cores at it: what two threads of one core share, servers share as well.
fn bare<T>(work: impl Fn() -> T + Sync) -> f64 {
    let measure = || {
        let before = cpu_nanos_of_thread();
        for _ in 0..BARE {
            std::hint::black_box(work());
        }
        (cpu_nanos_of_thread() - before) / f64::from(BARE) / 1_000.0
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(measure)).collect();
        median(threads.into_iter().map(|thread| thread.join().expect("a measurement ends well")).collect())
    })
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
