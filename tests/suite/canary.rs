//! Secrets, tokens and persons are found nowhere: not in logs, spans, metrics or errors, not in what the store holds,
//! in whichever of the usual forms.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use aho_corasick::AhoCorasick;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use safeconduct_proto::identity::v1::VerifyIdentityRequest;
use safeconduct_proto::identity::v1::verify_identity_request::Proof;
use safeconduct_proto::otp::v1::DeliveryState;
use safeconduct_testkit::{
    Ask, Collector, HttpSink, Layout, MailSink, Options, Refused, Servers, ShopUser, Store, Suite, token, user_hash,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};

use crate::otp::{
    TWILIO, check, delivered, has_mail_server, offer_sms, otp, script, sms_body, smtp, start, twilio, visitor,
};
use crate::token::{hs256, now};
use crate::{ORDER, refused, succeeded};

const NOTE: &str = "canary-note-7d1f";
const EMAIL: &str = "canary.person@mail.example";
/// A lead's address in its canonical form, and as she types it.
const LEAD: &str = "ada@example.com";
const TYPED: &str = "ADA@Example.com";
/// A phone in its canonical form, the part of it that a library may speak of, and as its owner types it.
const PHONE: &str = "+353861234789";
const NATIONAL: &str = "861234789";
const TYPED_PHONE: &str = "+353 (0)86 123-4789";
const REFUSED: &str = "canary.refused@post.example";
const NAME: &str = "Canary Nameson-4b1c";
const USER: &str = "canary-user-5e2a";
const TOKEN_SECRET: &str = "canary-secret-of-tokens-0123456789abcdef";

fn hex(text: &str) -> String {
    let pairs: Vec<String> = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    pairs.concat()
}

/// What must be found nowhere.
struct Canaries(BTreeMap<&'static str, String>);

impl Canaries {
    /// Every form in which it would still be readable.
    fn forms(canary: &str) -> Vec<(&'static str, Vec<u8>)> {
        let hexed = hex(canary);
        let quoted: String = canary
            .bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect();
        let mut forms = vec![
            ("as it is", canary.as_bytes().to_vec()),
            ("in capitals", canary.to_uppercase().into_bytes()),
            ("in hexadecimal digits", hexed.to_uppercase().into_bytes()),
            ("in hexadecimal digits", hexed.into_bytes()),
            ("in a URL", quoted.into_bytes()),
        ];
        // Wherever it begins within a group of three: what its neighbours have a part in is left out.
        for shift in 0..3 {
            let shifted = [vec![0; shift], canary.as_bytes().to_vec()].concat();
            let whole = shifted.len() / 3 * 3;
            let inner = &shifted[shift.div_ceil(3) * 3..whole];
            forms.push(("in base64", STANDARD.encode(inner).into_bytes()));
            forms.push(("in base64url", URL_SAFE_NO_PAD.encode(inner).into_bytes()));
        }
        forms
    }

    /// All of them in all forms, to be looked for at once.
    fn search(&self) -> Search {
        let forms = self.0.iter().flat_map(|(what, canary)| Self::forms(canary).into_iter().map(|form| (*what, form)));
        let (told, bytes): (Vec<_>, Vec<_>) = forms.map(|(what, (form, bytes))| ((what, form), bytes)).unzip();
        Search { told, automaton: AhoCorasick::new(bytes).unwrap() }
    }
}

struct Search {
    told: Vec<(&'static str, &'static str)>,
    automaton: AhoCorasick,
}

impl Search {
    /// Fails if one of them is in `text`, which is `place`.
    #[track_caller]
    fn finds_nothing_in(&self, place: &str, text: &[u8]) {
        if let Some(found) = self.automaton.find(text) {
            let (what, form) = self.told[found.pattern().as_usize()];
            let around = &text[found.start().saturating_sub(200)..(found.end() + 60).min(text.len())];
            panic!("{what} is in {place}, {form}: {}", String::from_utf8_lossy(around));
        }
    }
}

#[test]
fn a_canary_is_found_in_every_form() {
    let search = Canaries([("a note", NOTE.to_owned())].into()).search();
    let encoded = |prefix: &str| STANDARD.encode(format!("{prefix}{NOTE} and more"));
    for text in [
        format!("note={NOTE}"),
        NOTE.to_uppercase(),
        hex(NOTE).to_uppercase(),
        NOTE.replace('-', "%2D"),
        encoded(""),
        encoded("x"),
        encoded("xy"),
        URL_SAFE_NO_PAD.encode(NOTE),
    ] {
        let looked = std::panic::catch_unwind(|| search.finds_nothing_in("a text", text.as_bytes()));
        assert!(looked.is_err(), "{text}");
    }
    search.finds_nothing_in("a text", b"canary-note-7d1e and canary");
}

async fn page(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// All that a refusal says.
fn said(status: &Status) -> String {
    let refused = Refused::read(status);
    format!("{status:?} {refused:?} {}", String::from_utf8_lossy(status.details()))
}

/// What the store holds, as it lies there: keys and values.
async fn stored(suite: &mut Suite) -> anyhow::Result<Vec<u8>> {
    let mut held = Vec::new();
    if let Servers::One(redis) = suite.servers() {
        // So that a dump shows what is there.
        let _: String = redis.command(&["CONFIG", "SET", "rdbcompression", "no"]).await?;
        let keys: Vec<String> = redis.command(&["KEYS", "*"]).await?;
        anyhow::ensure!(!keys.is_empty(), "nothing is stored");
        for key in keys {
            held.extend_from_slice(key.as_bytes());
            let dumped: Option<Vec<u8>> = redis.command(&["DUMP", &key]).await?;
            held.extend(dumped.unwrap_or_default());
        }
        return Ok(held);
    }
    for entry in std::fs::read_dir(suite.data("all"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "redb") {
            held.extend(std::fs::read(path)?);
        }
    }
    anyhow::ensure!(held.len() > 4096, "nothing is stored");
    Ok(held)
}

/// Lives through everything that identity and connector do; what was refused, in words.
async fn live(suite: &Suite, canaries: &mut Canaries) -> anyhow::Result<String> {
    let (website, agent) = (suite.website()?, suite.agent()?);
    let mut told = String::new();
    let mut refuse = |answer: Result<(), Status>| match answer {
        Ok(()) => anyhow::bail!("a refusal was expected"),
        Err(status) => {
            told += &said(&status);
            Ok(())
        }
    };
    let ada = suite.assertion(ShopUser::Ada).await?;
    let inputs = json!({"order_id": ORDER, "amount": 4321, "note": NOTE});
    succeeded(&agent.execute(&Ask::new(&ada, "list-orders", &json!({}))).await?);
    succeeded(&agent.execute(&Ask::new(&ada, "refund-order", &inputs).key("canary-key")).await?);
    let wrong = json!({"order_id": format!("{NOTE}/.."), "amount": NOTE});
    refuse(agent.execute(&Ask::new(&ada, "refund-order", &wrong)).await.map(drop))?;
    refuse(agent.execute(&Ask::new(&format!("{ada}x"), "refund-order", &inputs)).await.map(drop))?;
    refuse(website.prove(USER, &user_hash("cust_ada"), &[]).await.map(drop))?;
    refuse(website.prove(USER, &format!("{NOTE}{NOTE}"), &[]).await.map(drop))?;
    let visitor = visitor(&website).await?;
    let now = now();
    let claims = |exp: u64| json!({"user_id": USER, "email": EMAIL, "name": NAME, "iat": now, "exp": exp});
    let proof = |jwt: &str, session: &str| VerifyIdentityRequest {
        workspace_id: "demo-shop".to_owned(),
        proof: Some(Proof::Jwt(jwt.to_owned())),
        session_assertion: session.to_owned(),
        presenters: vec!["support-agent".to_owned(), "website".to_owned()],
        ..VerifyIdentityRequest::default()
    };
    let jwt = hs256(TOKEN_SECRET, &claims(now + 600));
    let proven = website.identity().verify_identity(proof(&jwt, &visitor)).await?.into_inner();
    let expired = hs256(TOKEN_SECRET, &claims(now - 600));
    refuse(website.identity().verify_identity(proof(&expired, "")).await.map(drop))?;
    refuse(website.identity().verify_identity(proof(&format!("{jwt}AAAA"), "")).await.map(drop))?;
    // The shop does not know this user.
    let orders = agent.execute(&Ask::new(&proven.assertion, "list-orders", &json!({}))).await;
    write!(told, "{:?}", orders.map(|execution| execution.output_error))?;

    canaries.0.extend([
        ("an assertion", ada),
        ("a visitor's assertion", visitor),
        ("a token user's assertion", proven.assertion),
        ("a token", jwt),
        ("a token that has expired", expired),
    ]);
    Ok(told)
}

/// A lead proves an address by a code, after wrong guesses and with an address that never gets a mail; what was
/// refused, in words.
async fn lead(suite: &Suite, sink: &MailSink, api: &HttpSink, canaries: &mut Canaries) -> anyhow::Result<String> {
    let (website, agent) = (suite.website()?, suite.agent()?);
    let mut told = String::new();
    let visitor = visitor(&website).await?;
    let no_address = start(&website, &visitor, &format!("{LEAD}@{LEAD}")).await.err().context("it is no address")?;
    told += &said(&no_address);
    let started = start(&website, &visitor, TYPED).await?;
    let code = letters(&sink.mail(1).await?.text)?;
    delivered(&website, &visitor, &started.verification_id, DeliveryState::Sent).await?;
    for wrong in ["ZZZZZZZZZZ", "no code!"] {
        let wrong = check(&website, &visitor, &started.verification_id, wrong).await;
        told += &said(&wrong.err().context("a wrong code is refused")?);
    }
    let proven = check(&website, &visitor, &started.verification_id, &code).await?;
    succeeded(&agent.execute(&Ask::new(&proven.assertion, "find-orders", &json!({}))).await?);
    let refund = json!({"order_id": ORDER, "amount": 1});
    let signed_only = agent.execute(&Ask::new(&proven.assertion, "refund-order", &refund)).await;
    write!(told, "{:?}", refused(signed_only, Code::FailedPrecondition, "VERIFICATION_REQUIRED"))?;
    // The mail server refuses this one.
    let lost = start(&website, &proven.assertion, REFUSED).await?;
    delivered(&website, &proven.assertion, &lost.verification_id, DeliveryState::Failed).await?;
    // The same by phone, and to one that gets no text messages.
    let caller = crate::otp::visitor(&website).await?;
    let landline = start(&website, &caller, "+35315123456").await.err().context("it is a landline")?;
    told += &said(&landline);
    let texting = start(&website, &caller, TYPED_PHONE).await?;
    let request = api.request(1).await?;
    anyhow::ensure!(request.ends_with(&format!("To=%2B{}", &PHONE[1..])), "{request}");
    let texted = letters(sms_body(&request)?)?;
    delivered(&website, &caller, &texting.verification_id, DeliveryState::Sent).await?;
    let wrong = check(&website, &caller, &texting.verification_id, "ZZZZZZZZZZ").await;
    told += &said(&wrong.err().context("a wrong code is refused")?);
    let by_phone = check(&website, &caller, &texting.verification_id, &texted).await?;
    canaries.0.extend([("a texted code", texted), ("the assertion of a phone's owner", by_phone.assertion)]);
    canaries.0.extend([("a one-time code", code), ("a lead's assertion", proven.assertion)]);
    Ok(told)
}

/// The code in a mail: ten letters, which nothing has by chance.
fn letters(text: &str) -> anyhow::Result<String> {
    let is_code = |word: &&str| word.len() == 10 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    let found = text.split(|c: char| !c.is_ascii_alphanumeric()).find(is_code);
    found.map(str::to_owned).with_context(|| format!("no code in: {text}"))
}

async fn nothing_is_found(layout: Layout, store: Store) -> anyhow::Result<()> {
    if !has_mail_server().await {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let sink = MailSink::start(folder.path(), &script(), None).await?;
    let collector = Collector::bind(([127, 0, 0, 1], 0).into())?;
    let api = HttpSink::start(201)?;
    let delivery = json!({"mail": smtp(sink.port()), "twilio": twilio(api.port())});
    let options = otp(Options::new(layout, store), "[mail]", &delivery)
        .set(TWILIO.0, TWILIO.1)
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())
        .set("OTEL_BSP_SCHEDULE_DELAY", "100")
        .set("SAFECONDUCT_LOG__FORMAT", "json")
        .set("SAFECONDUCT_LOG__LEVEL", "trace")
        .set("SAFECONDUCT_DRAIN__GRACE", "100ms");
    let mut suite = Suite::start_with(options, |site| {
        let one = "secrets: [{id: s1, secret: messenger, use: user_hash}]";
        let two = "secrets: [{id: s1, secret: messenger, use: user_hash}, {id: t1, secret: tokens, use: jwt}]";
        site.edit("workspace.yaml", one, two)?;
        offer_sms(site)?;
        let brand = "brand: Demo Shop";
        site.edit("workspace.yaml", brand, &format!("{brand}\n    code: {{alphabet: letters, length: 10}}"))?;
        site.secret("demo-shop", "tokens", TOKEN_SECRET)
    })
    .await?;
    let mut canaries = Canaries(
        [
            ("the agent's token", token::AGENT),
            ("the website's token", token::WEBSITE),
            ("the sisters' token", token::SISTER),
            ("the shop's token", "sample-shop-token"),
            ("the workspace's secret", "test-messenger-secret"),
            ("the secret of tokens", TOKEN_SECRET),
            ("a user hash", &user_hash("cust_ada")),
            ("a user's id", "cust_ada"),
            ("a token's user", USER),
            ("an address", EMAIL),
            ("a lead's address", LEAD),
            ("a lead's address as it was typed", TYPED),
            ("an address that refuses mail", REFUSED),
            ("a phone", PHONE),
            ("a phone's number in its country", NATIONAL),
            ("a phone as it was typed", TYPED_PHONE),
            ("the password of a provider", TWILIO.1),
            ("a name", NAME),
            ("an input", NOTE),
            ("an input that names an object", ORDER),
            ("an output", "Brass sextant"),
        ]
        .map(|(what, canary)| (what, canary.to_owned()))
        .into(),
    );
    let told = live(&suite, &mut canaries).await?;
    let told = told + &lead(&suite, &sink, &api, &mut canaries).await?;
    let search = canaries.search();
    search.finds_nothing_in("an error", told.as_bytes());
    let processes: &[&str] = match layout {
        Layout::All => &["all"],
        Layout::Separate | Layout::Only(_) => &["connector", "identity", "admission", "otp"],
    };
    for process in processes {
        let operations = suite.address_of(process, "operations")?;
        for path in ["/metrics", "/readyz", "/.well-known/jwks.json"] {
            search.finds_nothing_in(&format!("{path} of {process}"), page(&operations, path).await?.as_bytes());
        }
    }
    search.finds_nothing_in("the store", &stored(&mut suite).await?);
    // All spans are exported with the processes' end.
    for process in processes {
        suite.terminate(process)?;
        suite.exit(process, Duration::from_secs(30)).await?;
    }
    let (spans, logs) = (collector.spans(), suite.logs());
    anyhow::ensure!(spans.len() > 20 && logs.contains("\"TRACE\""), "{} spans, {} of logs", spans.len(), logs.len());
    for method in ["/VerifyIdentity", "/StartVerification", "/CheckVerification", "/Execute"] {
        anyhow::ensure!(spans.iter().any(|span| span.name.ends_with(method)), "no span of {method}");
    }
    search.finds_nothing_in("the logs", logs.as_bytes());
    search.finds_nothing_in("a span", format!("{spans:?}").as_bytes());
    Ok(())
}

#[tokio::test]
async fn what_is_secret_or_personal_is_found_nowhere_on_redis() {
    nothing_is_found(Layout::Separate, Store::Redis).await.unwrap();
}

#[tokio::test]
async fn what_is_secret_or_personal_is_found_nowhere_on_the_embedded_store() {
    nothing_is_found(Layout::All, Store::Embedded).await.unwrap();
}
