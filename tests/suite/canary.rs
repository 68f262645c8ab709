//! Secrets, tokens and persons are found nowhere: not in logs, spans, metrics or errors, not in what the store holds,
//! in whichever of the usual forms.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use safeconduct_proto::identity::v1::verify_identity_request::Proof;
use safeconduct_proto::identity::v1::{StartSessionRequest, VerifyIdentityRequest};
use safeconduct_testkit::{
    Ask, Collector, Layout, Options, Refused, Servers, ShopUser, Store, Suite, token, user_hash,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Status;

use crate::{ORDER, succeeded};

const NOTE: &str = "canary-note-7d1f";
const EMAIL: &str = "canary.person@mail.example";
const NAME: &str = "Canary Nameson-4b1c";
const USER: &str = "canary-user-5e2a";
const TOKEN_SECRET: &str = "canary-secret-of-tokens-0123456789abcdef";

/// What must be found nowhere.
struct Canaries(BTreeMap<&'static str, String>);

impl Canaries {
    /// Every form in which it would still be readable.
    fn forms(canary: &str) -> Vec<(&'static str, Vec<u8>)> {
        let hexed: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
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

    /// Fails if one of them is in `text`, which is `place`.
    #[track_caller]
    fn are_not_in(&self, place: &str, text: &[u8]) {
        for (what, canary) in &self.0 {
            for (form, bytes) in Self::forms(canary) {
                let found = text.windows(bytes.len()).position(|window| window == bytes);
                if let Some(at) = found {
                    let around = &text[at.saturating_sub(200)..(at + bytes.len() + 60).min(text.len())];
                    panic!("{what} is in {place}, {form}: {}", String::from_utf8_lossy(around));
                }
            }
        }
    }
}

#[test]
fn a_canary_is_found_in_every_form() {
    let canaries = Canaries([("a note", NOTE.to_owned())].into());
    let encoded = |prefix: &str| STANDARD.encode(format!("{prefix}{NOTE} and more"));
    for text in [
        format!("note={NOTE}"),
        NOTE.to_uppercase(),
        NOTE.bytes().map(|byte| format!("{byte:02X}")).collect(),
        NOTE.replace('-', "%2D"),
        encoded(""),
        encoded("x"),
        encoded("xy"),
        URL_SAFE_NO_PAD.encode(NOTE),
    ] {
        let looked = std::panic::catch_unwind(|| canaries.are_not_in("a text", text.as_bytes()));
        assert!(looked.is_err(), "{text}");
    }
    canaries.are_not_in("a text", b"canary-note-7d1e and canary");
}

/// A token as a customer's backend makes it.
fn signed(claims: &serde_json::Value) -> String {
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, TOKEN_SECRET.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())))
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
    let visitor = StartSessionRequest {
        workspace_id: "demo-shop".to_owned(),
        presenters: vec!["website".to_owned()],
        ..StartSessionRequest::default()
    };
    let visitor = website.identity().start_session(visitor).await?.into_inner().assertion;

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let claims = |exp: u64| json!({"user_id": USER, "email": EMAIL, "name": NAME, "iat": now, "exp": exp});
    let proof = |jwt: &str, session: &str| VerifyIdentityRequest {
        workspace_id: "demo-shop".to_owned(),
        proof: Some(Proof::Jwt(jwt.to_owned())),
        session_assertion: session.to_owned(),
        presenters: vec!["support-agent".to_owned(), "website".to_owned()],
        ..VerifyIdentityRequest::default()
    };
    let jwt = signed(&claims(now + 600));
    let proven = website.identity().verify_identity(proof(&jwt, &visitor)).await?.into_inner();
    let expired = signed(&claims(now - 600));
    refuse(website.identity().verify_identity(proof(&expired, "")).await.map(drop))?;
    refuse(website.identity().verify_identity(proof(&format!("{jwt}AAAA"), "")).await.map(drop))?;
    // The shop does not know this user.
    let orders = agent.execute(&Ask::new(&proven.assertion, "list-orders", &json!({}))).await;
    told += &format!("{:?}", orders.map(|execution| execution.output_error));

    canaries.0.extend([
        ("an assertion", ada),
        ("a visitor's assertion", visitor),
        ("a token user's assertion", proven.assertion),
        ("a token", jwt),
        ("a token that has expired", expired),
    ]);
    Ok(told)
}

async fn nothing_is_found(layout: Layout, store: Store) -> anyhow::Result<()> {
    let collector = Collector::bind(([127, 0, 0, 1], 0).into())?;
    let options = Options::new(layout, store)
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())
        .set("OTEL_BSP_SCHEDULE_DELAY", "100")
        .set("SAFECONDUCT_LOG__FORMAT", "json")
        .set("SAFECONDUCT_LOG__LEVEL", "trace")
        .set("SAFECONDUCT_DRAIN__GRACE", "100ms");
    let mut suite = Suite::start_with(options, |site| {
        let one = "secrets: [{id: s1, secret: messenger, use: user_hash}]";
        let two = "secrets: [{id: s1, secret: messenger, use: user_hash}, {id: t1, secret: tokens, use: jwt}]";
        site.edit("workspace.yaml", one, two)?;
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
            ("a name", NAME),
            ("an input", NOTE),
            ("an input that names an object", ORDER),
            ("an output", "Brass sextant"),
        ]
        .map(|(what, canary)| (what, canary.to_owned()))
        .into(),
    );
    let told = live(&suite, &mut canaries).await?;
    canaries.are_not_in("an error", told.as_bytes());
    let processes: &[&str] = match layout {
        Layout::All => &["all"],
        Layout::Separate | Layout::Only(_) => &["connector", "identity", "admission", "otp"],
    };
    for process in processes {
        let operations = suite.address_of(process, "operations")?;
        for path in ["/metrics", "/readyz", "/.well-known/jwks.json"] {
            canaries.are_not_in(&format!("{path} of {process}"), page(&operations, path).await?.as_bytes());
        }
    }
    canaries.are_not_in("the store", &stored(&mut suite).await?);
    // All spans are exported with the processes' end.
    for process in processes {
        suite.terminate(process)?;
        suite.exit(process, Duration::from_secs(30)).await?;
    }
    let (spans, logs) = (collector.spans(), suite.logs());
    anyhow::ensure!(spans.len() > 20 && logs.contains("\"TRACE\""), "{} spans, {} of logs", spans.len(), logs.len());
    canaries.are_not_in("the logs", logs.as_bytes());
    canaries.are_not_in("a span", format!("{spans:?}").as_bytes());
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
