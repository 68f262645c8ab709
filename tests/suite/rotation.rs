//! Every key is replaced while people are verified and requests executed: no valid proof is refused, and what was
//! revoked counts no more a second later.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use safeconduct_proto::identity::v1::verify_identity_request::Proof;
use safeconduct_proto::identity::v1::{GetJwksRequest, UserHash, VerifyIdentityRequest, user_hash::Subject};
use safeconduct_testkit::{
    Ask, Caller, Layout, MailSink, Options, Page, Refused, ShopUser, Store, Suite, has_error_info, run, token, until,
    user_hash_of,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Code;

use crate::load::{LONGEST, rounds, say};
use crate::otp::{check, has_mail_server, otp, script, smtp, start, visitor};
use crate::token::{Signer, claims, hs256};
use crate::{refund, refused, succeeded};

/// A revocation holds so long after it was acknowledged.
const HOLDS_AFTER: Duration = Duration::from_secs(1);

/// A key that a customer withdrew counts no longer than this: so long its set may be kept (`cache-control`; five
/// seconds is the least), and so long the fetch of the next one may take.
const WITHDRAWN_AFTER: Duration = Duration::from_secs(5 + 2);

const CLIENTS: usize = 4;
/// Between two calls of a client: load enough to meet every moment of a rotation, and not all of the machine.
const PAUSE: Duration = Duration::from_millis(15);

/// People who are verified and look at their orders, again and again; every refusal is a failure.
struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<anyhow::Result<()>>,
}

/// Proves this user.
type Prove = Arc<dyn Fn(&str) -> Proof + Send + Sync>;

struct Shared {
    stop: AtomicBool,
    /// How the customer's backend proves its users at the moment.
    prove: Mutex<Prove>,
    /// How often each client came round.
    rounds: [AtomicUsize; CLIENTS],
    /// What the newest assertion of each client is signed with.
    signed_with: [Mutex<String>; CLIENTS],
}

impl Load {
    fn start(suite: &Suite) -> anyhow::Result<Self> {
        Self::proving(suite, Arc::new(|user| hash(FIRST_SECRET, user)))
    }

    fn proving(suite: &Suite, prove: Prove) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            prove: Mutex::new(prove),
            rounds: std::array::from_fn(|_| AtomicUsize::new(0)),
            signed_with: std::array::from_fn(|_| Mutex::default()),
        });
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (shared, website, agent) = (Arc::clone(&shared), suite.website()?, suite.agent()?);
            clients.spawn(async move {
                while !shared.stop.load(Ordering::Relaxed) {
                    shared.once(client, &website, &agent).await?;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            });
        }
        Ok(Self { shared, clients })
    }

    fn total(&self) -> usize {
        self.shared.rounds.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn prove_by(&self, prove: Prove) {
        *self.shared.prove.lock().unwrap_or_else(PoisonError::into_inner) = prove;
    }

    /// Waits until every client has begun and ended something, so that nothing from before is under way.
    async fn come_round(&mut self) -> anyhow::Result<()> {
        let counts = || self.shared.rounds.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = counts();
        let clients = &mut self.clients;
        let around = until("everybody to come round", LONGEST, async || {
            Ok(counts().iter().zip(&before).all(|(now, before)| *now >= before + 2).then_some(()))
        });
        tokio::select! {
            done = around => done,
            Some(ended) = clients.join_next() => {
                ended??;
                anyhow::bail!("a client ended")
            }
        }
    }

    fn all_signed_otherwise(&self, than: &str) -> bool {
        let other = |one: &Mutex<String>| *one.lock().unwrap_or_else(PoisonError::into_inner) != than;
        self.shared.signed_with.iter().all(other)
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended??;
        }
        Ok(())
    }
}

impl Shared {
    async fn once(&self, client: usize, website: &Caller, agent: &Caller) -> anyhow::Result<()> {
        let prove = Arc::clone(&self.prove.lock().unwrap_or_else(PoisonError::into_inner));
        let user = if client.is_multiple_of(2) { ShopUser::Ada } else { ShopUser::Grace };
        let proven = website.identity().verify_identity(asked(prove(user.id()))).await?.into_inner();
        signed_with(&proven.assertion)
            .clone_into(&mut self.signed_with[client].lock().unwrap_or_else(PoisonError::into_inner));
        let orders = agent.execute(&Ask::new(&proven.assertion, "list-orders", &json!({}))).await?;
        succeeded(&orders);
        self.rounds[client].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

const FIRST_SECRET: &str = "test-messenger-secret";

/// The part of an assertion that names its key.
fn signed_with(assertion: &str) -> &str {
    assertion.split('.').next().unwrap_or_default()
}

/// Runs `safeconduct keys` on the suite's files; what it says.
async fn keys(suite: &Suite, arguments: &[&str]) -> anyhow::Result<Value> {
    let folder = suite.keys();
    let folder = folder.to_str().unwrap_or_default();
    let (what, more) = arguments.split_at(1);
    let ran = run(&[&["keys"], what, &["--dir", folder, "--output", "json"], more].concat(), &[]).await?;
    anyhow::ensure!(ran.code == Some(0), "keys {arguments:?}: {}", ran.text());
    Ok(serde_json::from_str(&ran.stdout)?)
}

async fn published(suite: &Suite) -> anyhow::Result<String> {
    Ok(suite.agent()?.identity().get_jwks(GetJwksRequest {}).await?.into_inner().jwks_json)
}

fn id(told: &Value) -> String {
    told["id"].as_str().unwrap_or_default().to_owned()
}

/// The primary key of a purpose in the file of a service.
async fn primary(suite: &Suite, file: &str, purpose: &str) -> anyhow::Result<String> {
    let listed = keys(suite, &["list"]).await?;
    let all = listed["keys"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|key| key["file"] == file && key["purpose"] == purpose && key["state"] == "primary");
    found.map(id).ok_or_else(|| anyhow::anyhow!("no primary key for {purpose}: {listed}"))
}

/// Holds what must be refused a second after `acknowledged`, and for good.
async fn ends(
    what: &str,
    acknowledged: Instant,
    is_accepted: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    ends_within(HOLDS_AFTER, what, acknowledged, is_accepted).await
}

async fn ends_within(
    bound: Duration,
    what: &str,
    acknowledged: Instant,
    mut is_accepted: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut first = None;
    loop {
        let asked = Instant::now();
        let accepted = is_accepted().await?;
        if accepted {
            // What was asked in time may be answered later.
            anyhow::ensure!(asked < acknowledged + bound, "{what} counts after {:?}", asked - acknowledged);
            first = None;
        } else {
            first = first.or(Some(asked));
        }
        if asked > acknowledged + bound + Duration::from_millis(500) {
            let first = first.map(|first| first.saturating_duration_since(acknowledged));
            say(&format!("{what} was refused {first:?} after it was acknowledged"));
            return Ok(());
        }
    }
}

/// Whether the agent may act with this assertion; what refuses it is that its key is gone.
async fn acts(agent: &Caller, assertion: &str) -> anyhow::Result<bool> {
    match agent.execute(&Ask::new(assertion, "list-orders", &json!({}))).await {
        Ok(_) => Ok(true),
        Err(status) => {
            anyhow::ensure!(has_error_info(&status), "{status:?}");
            let refused = Refused::read(&status);
            anyhow::ensure!(refused.reason == "ASSERTION_INVALID", "{refused:?}");
            Ok(false)
        }
    }
}

/// Whether identity takes the session of this assertion for a new proof.
async fn renews(website: &Caller, assertion: &str) -> anyhow::Result<bool> {
    let proof = hash(FIRST_SECRET, "cust_ada");
    let asked = VerifyIdentityRequest { session_assertion: assertion.to_owned(), ..asked(proof) };
    match website.identity().verify_identity(asked).await {
        Ok(_) => Ok(true),
        Err(status) => {
            let refused = Refused::read(&status);
            anyhow::ensure!(refused.reason == "ASSERTION_INVALID", "{refused:?}");
            Ok(false)
        }
    }
}

fn hash(secret: &str, user: &str) -> Proof {
    let hash = user_hash_of(secret, user);
    Proof::UserHash(UserHash { subject: Some(Subject::UserId(user.to_owned())), hash })
}

fn jwt(secret: &str, user: &str) -> Proof {
    Proof::Jwt(hs256(secret, &claims(user)))
}

fn asked(proof: Proof) -> VerifyIdentityRequest {
    VerifyIdentityRequest {
        workspace_id: "demo-shop".to_owned(),
        proof: Some(proof),
        presenters: vec!["support-agent".to_owned(), "website".to_owned()],
        ..VerifyIdentityRequest::default()
    }
}

/// Whether identity takes this proof.
async fn accepts(website: &Caller, proof: Proof) -> anyhow::Result<bool> {
    match website.identity().verify_identity(asked(proof)).await {
        Ok(_) => Ok(true),
        Err(status) => {
            let refused = Refused::read(&status);
            // Many that fail are put off; that is no acceptance either.
            anyhow::ensure!(["PROOF_INVALID", "RATE_LIMITED"].contains(&refused.reason.as_str()), "{refused:?}");
            Ok(false)
        }
    }
}

#[tokio::test]
async fn signing_keys_rotate_under_load_and_a_retired_one_ends_within_a_second() {
    let _turn = crate::load::turn().await;
    let suite = Suite::start(Options::new(Layout::Separate, Store::Redis)).await.unwrap();
    let (website, agent) = (suite.website().unwrap(), suite.agent().unwrap());
    let mut load = Load::start(&suite).unwrap();
    let began = load.total();
    // Whoever was not told goes on with what a retired key signed, and takes nothing from the others by it.
    let mut stale = JoinSet::new();
    for _ in 0..2 + rounds() {
        let old_key = primary(&suite, "identity.keys", "assertion-signing").await.unwrap();
        let old = website.verify(ShopUser::Ada, &["support-agent", "website"]).await.unwrap();
        let staged = id(&keys(&suite, &["stage", "assertion-signing"]).await.unwrap());
        until("the staged key to be published", LONGEST, async || {
            Ok(published(&suite).await?.contains(&staged).then_some(()))
        })
        .await
        .unwrap();
        load.come_round().await.unwrap();
        let early = keys(&suite, &["promote", "assertion-signing", &staged]).await.unwrap_err().to_string();
        assert!(early.contains("--force"), "five minutes are not over: {early}");
        keys(&suite, &["promote", "assertion-signing", &staged, "--force"]).await.unwrap();
        let before = signed_with(&old).to_owned();
        until("the new key to sign", LONGEST, async || Ok(load.all_signed_otherwise(&before).then_some(())))
            .await
            .unwrap();
        load.come_round().await.unwrap();
        assert!(acts(&agent, &old).await.unwrap(), "what the old key signed counts on");
        assert!(renews(&website, &old).await.unwrap());

        let early = keys(&suite, &["retire", "assertion-signing", &old_key]).await.unwrap_err().to_string();
        assert!(early.contains("can still count"), "{early}");
        keys(&suite, &["retire", "assertion-signing", &old_key, "--force"]).await.unwrap();
        let acknowledged = Instant::now();
        let (by_connector, by_identity) = tokio::join!(
            ends("a retired signing key at the connector", acknowledged, async || acts(&agent, &old).await),
            ends("a retired signing key at identity", acknowledged, async || renews(&website, &old).await),
        );
        by_connector.unwrap();
        by_identity.unwrap();
        assert!(!published(&suite).await.unwrap().contains(&old_key));
        let agent = suite.agent().unwrap();
        stale.spawn(async move { while !acts(&agent, &old).await.unwrap() {} });
    }
    assert!(stale.try_join_next().is_none(), "what was retired stays so");
    say(&format!("{} verifications and executions, none refused", load.total() - began));
    load.stop().await.unwrap();
}

#[tokio::test]
async fn sealing_keys_rotate_under_load_and_what_the_old_ones_sealed_opens() {
    let _turn = crate::load::turn().await;
    let suite = Suite::start(Options::new(Layout::Separate, Store::Redis)).await.unwrap();
    let agent = suite.agent().unwrap();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    let ask = Ask::new(&ada, "refund-order", &refund(99)).key("sealed before");
    let before = agent.execute(&ask).await.unwrap();
    succeeded(&before);
    let mut load = Load::start(&suite).unwrap();
    for _ in 0..rounds() {
        for purpose in ["claim-sealing", "record-sealing"] {
            let file = "connector.keys";
            let old = primary(&suite, file, purpose).await.unwrap();
            let new = id(&keys(&suite, &["rotate", purpose]).await.unwrap());
            assert_eq!(primary(&suite, file, purpose).await.unwrap(), new);
            assert_ne!(old, new);
            load.come_round().await.unwrap();
        }
        let again = agent.execute(&ask).await.unwrap();
        assert_eq!((again.output_json.as_str(), again.replay.is_some()), (before.output_json.as_str(), true));
    }
    load.stop().await.unwrap();
    // All of that without a restart: one log line for each file that was taken anew.
    assert!(suite.logs().contains("took the key file as it is now"), "{}", suite.logs());
}

#[tokio::test]
async fn the_key_of_codes_rotates_without_a_restart_and_codes_of_the_old_one_verify_until_it_is_retired() {
    if !has_mail_server().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sink = MailSink::start(folder.path(), &script(), None).await.unwrap();
    let options = Options::new(Layout::Separate, Store::Redis);
    let suite = Suite::start(otp(options, "[mail]", &json!({"mail": smtp(sink.port())}))).await.unwrap();
    let website = suite.website().unwrap();
    let old = primary(&suite, "otp.keys", "code-derivation").await.unwrap();
    let taken = async |times: usize| {
        let seen = || suite.logs().matches("took the key file as it is now").count();
        until("otp to take its keys", LONGEST, async || Ok((seen() >= times).then_some(()))).await.unwrap();
    };
    let mut sent = Vec::new();
    for number in 1..=3 {
        if number == 3 {
            let staged = id(&keys(&suite, &["stage", "code-derivation"]).await.unwrap());
            taken(1).await;
            keys(&suite, &["promote", "code-derivation", &staged, "--force"]).await.unwrap();
            taken(2).await;
        }
        let visitor = visitor(&website).await.unwrap();
        let started = start(&website, &visitor, &format!("person-{number}@example.com")).await.unwrap();
        let code = sink.mail(number).await.unwrap().code().unwrap();
        sent.push((visitor, started.verification_id, code));
    }
    let tried = async |(visitor, id, code): &(String, String, String)| check(&website, visitor, id, code).await;
    tried(&sent[0]).await.expect("what the old key made counts on");
    keys(&suite, &["retire", "code-derivation", &old, "--force"]).await.unwrap();
    let acknowledged = Instant::now();
    until("a second to pass", LONGEST, async || Ok((acknowledged.elapsed() > HOLDS_AFTER).then_some(())))
        .await
        .unwrap();
    refused(tried(&sent[1]).await, Code::FailedPrecondition, "CHALLENGE_OVER");
    tried(&sent[2]).await.expect("the new key made it");
}

#[tokio::test]
async fn a_workspaces_secrets_rotate_under_load_and_a_replaced_one_ends_within_a_second() {
    secrets_rotate("user_hash", hash).await.unwrap();
}

#[tokio::test]
async fn secrets_of_tokens_rotate_under_load_and_a_replaced_one_ends_within_a_second() {
    secrets_rotate("jwt", jwt).await.unwrap();
}

/// Two secrets of this use, replaced in turns; `make` is how a backend proves a user with one.
async fn secrets_rotate(of: &str, make: fn(&str, &str) -> Proof) -> anyhow::Result<()> {
    let _turn = crate::load::turn().await;
    let names = ["rotated", "rotated-next"];
    let mut current = names.map(|name| format!("test-secret-called-{name}-0123456789abcdef"));
    let suite = Suite::start_with(Options::new(Layout::Separate, Store::Redis), |site| {
        let one = "secrets: [{id: s1, secret: messenger, use: user_hash}]";
        let [first, second] = names;
        let two = format!(
            "secrets: [{{id: s1, secret: messenger, use: user_hash}}, {{id: r1, secret: {first}, use: {of}, primary: \
             true}}, {{id: r2, secret: {second}, use: {of}}}]"
        );
        site.edit("workspace.yaml", one, &two)?;
        names.iter().zip(&current).try_for_each(|(name, secret)| site.secret("demo-shop", name, secret))
    })
    .await?;
    let website = suite.website()?;
    let with = |secret: &str| -> Prove {
        let secret = secret.to_owned();
        Arc::new(move |user| make(&secret, user))
    };
    let mut load = Load::proving(&suite, with(&current[0]))?;
    for round in 0..2 * (1 + rounds()) {
        // The load moves to the other secret, then the one that it has left is replaced.
        let left = round % 2;
        load.prove_by(with(&current[1 - left]));
        load.come_round().await?;
        let (old, new) = (current[left].clone(), format!("test-secret-of-round-{round}-0123456789abcdef"));
        suite.site().secret("demo-shop", names[left], &new)?;
        let acknowledged = Instant::now();
        until("a second to pass", LONGEST, async || Ok((acknowledged.elapsed() > HOLDS_AFTER).then_some(()))).await?;
        anyhow::ensure!(!accepts(&website, make(&old, "cust_ada")).await?, "it counts a second after it was replaced");
        until("the new secret to count", LONGEST, async || {
            Ok(accepts(&website, make(&new, "cust_ada")).await?.then_some(()))
        })
        .await?;
        current[left] = new;
        load.come_round().await?;
    }
    say(&format!("{} verifications and executions, none refused", load.total()));
    load.stop().await
}

#[tokio::test]
async fn a_customers_published_keys_rotate_under_load_and_a_withdrawn_one_ends_in_time() {
    let _turn = crate::load::turn().await;
    let mut old = Arc::new(Signer::new("of-the-beginning"));
    let page = Page::start(&Signer::set(&[&old]), "max-age=5").unwrap();
    let suite = Suite::start_with(Options::new(Layout::Separate, Store::Redis), |site| {
        let (secrets, url) = ("secrets: [{id: s1, secret: messenger, use: user_hash}]", page.url());
        let jwks = format!("{{url: '{url}', insecure_http: true, allow_addresses: [127.0.0.0/8]}}");
        site.edit("workspace.yaml", secrets, &format!("{secrets}\n    tokens: {{jwks: {jwks}}}"))
    })
    .await
    .unwrap();
    let website = suite.website().unwrap();
    let by = |signer: &Arc<Signer>| -> Prove {
        let signer = Arc::clone(signer);
        Arc::new(move |user| Proof::Jwt(signer.sign(&claims(user))))
    };
    let mut load = Load::proving(&suite, by(&old)).unwrap();
    for round in 0..=rounds() {
        // Published before it signs, and used for a while before the old one is withdrawn.
        let new = Arc::new(Signer::new(&format!("of-round-{round}")));
        page.show(&Signer::set(&[&old, &new]));
        let before = page.fetched();
        until("the set to be fetched", LONGEST, async || Ok((page.fetched() > before).then_some(()))).await.unwrap();
        load.prove_by(by(&new));
        load.come_round().await.unwrap();
        page.show(&Signer::set(&[&new]));
        let withdrawn = Instant::now();
        let is_accepted = async || accepts(&website, by(&old)("cust_ada")).await;
        ends_within(WITHDRAWN_AFTER, "a withdrawn key", withdrawn, is_accepted).await.unwrap();
        load.come_round().await.unwrap();
        old = new;
    }
    let seconds = 5 * page.fetched();
    say(&format!("{} verifications and executions, none refused; {} fetches", load.total(), page.fetched()));
    assert!(seconds < 600, "the set is fetched every five seconds, however many ask");
    load.stop().await.unwrap();
}

#[tokio::test]
async fn replicas_agree_on_signing_keys_that_they_keep_in_the_store() {
    let options = Options::new(Layout::Separate, Store::Redis).set("SAFECONDUCT_IDENTITY__SIGNING", "store");
    let mut suite = Suite::start(options).await.unwrap();
    suite.replicate("identity", "identity-b").await.unwrap();
    let (one, other) =
        (suite.caller_of("identity", token::WEBSITE).unwrap(), suite.caller_of("identity-b", token::WEBSITE).unwrap());
    let agent = suite.agent().unwrap();
    let mut signers = Vec::new();
    for website in [&one, &other] {
        let assertion = website.verify(ShopUser::Ada, &["support-agent"]).await.unwrap();
        assert!(acts(&agent, &assertion).await.unwrap());
        signers.push(signed_with(&assertion).to_owned());
    }
    let jwks =
        async |caller: &Caller| caller.identity().get_jwks(GetJwksRequest {}).await.unwrap().into_inner().jwks_json;
    assert_eq!(signers[0], signers[1], "one key signs");
    assert_eq!(jwks(&one).await, jwks(&other).await);
    // A restart finds the same key.
    let before = signers[0].clone();
    suite.kill("identity").unwrap();
    suite.exit("identity", Duration::from_secs(10)).await.unwrap();
    suite.restart("identity").await.unwrap();
    let again = suite.caller_of("identity", token::WEBSITE).unwrap();
    assert_eq!(signed_with(&again.verify(ShopUser::Ada, &["support-agent"]).await.unwrap()), before);
}

#[tokio::test]
async fn while_identity_is_away_its_assertions_count_on() {
    let mut suite = Suite::start(Options::new(Layout::Separate, Store::Redis)).await.unwrap();
    let agent = suite.agent().unwrap();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    assert!(acts(&agent, &ada).await.unwrap());
    suite.kill("identity").unwrap();
    suite.exit("identity", Duration::from_secs(10)).await.unwrap();
    for _ in 0..20 {
        assert!(acts(&agent, &ada).await.unwrap());
    }
}
