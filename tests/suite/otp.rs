//! A lead proves an address: the code arrives, counts once, and opens what it should and nothing else.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use safeconduct_proto::common::v1::guidance::Detail;
use safeconduct_proto::common::v1::{ContactKind, VerificationMethod};
use safeconduct_proto::identity::v1::StartSessionRequest;
use safeconduct_proto::otp::v1 as pb;
use safeconduct_testkit::{Ask, Caller, HttpSink, Layout, MailSink, MailTls, Options, Site, Store, Suite, until};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::{refused, refused_field, succeeded};

const EMAIL: &str = "ada@example.com";
const PLENTY: Duration = Duration::from_mins(1);

/// Whether Python has a mail server here; `make test` brings one and insists on it.
pub(crate) async fn has_mail_server() -> bool {
    let asked = tokio::process::Command::new("python3").args(["-c", "import aiosmtpd"]).output().await;
    let has = asked.is_ok_and(|output| output.status.success());
    assert!(has || std::env::var_os("TEST_REQUIRE_CLIENTS").is_none(), "aiosmtpd is missing; `make test` installs it");
    has
}

pub(crate) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/mail.py")
}

/// The sample with codes that travel so.
pub(crate) fn otp(options: Options, via: &str, delivery: &Value) -> Options {
    let sample = include_str!("../../crates/safeconduct/sample/workspaces/workspace.yaml");
    let text = sample
        .replace("via: [screen]", &format!("via: {via}"))
        .replace("delivery: {screen: {console: true}}", &format!("delivery: {delivery}"));
    assert!(text.contains(via) && !text.contains("screen"), "the sample has changed");
    options.workspace(&text)
}

pub(crate) fn smtp(port: u16) -> Value {
    json!({"smtp": {"host": "127.0.0.1", "port": port, "tls": "none", "allow_addresses": ["127.0.0.0/8"]}})
}

pub(crate) async fn visitor(website: &Caller) -> Result<String, Status> {
    visitor_of(website, "demo-shop").await
}

async fn visitor_of(website: &Caller, workspace: &str) -> Result<String, Status> {
    let request = StartSessionRequest {
        workspace_id: workspace.to_owned(),
        presenters: vec!["website".to_owned(), "support-agent".to_owned()],
        ..StartSessionRequest::default()
    };
    Ok(website.identity().start_session(request).await?.into_inner().assertion)
}

/// The shape of Twilio's Messages resource, at a port of this machine.
pub(crate) fn twilio(port: u16) -> Value {
    json!({"http": {"url": format!("http://127.0.0.1:{port}/2010-04-01/Accounts/AC0123456789/Messages.json"),
        "insecure_http": true, "allow_addresses": ["127.0.0.0/8"], "success": [201],
        "auth": {"basic": {"user": "AC0123456789", "password": {"secret": "twilio-token"}}},
        "form": {"To": "${to}", "From": "+353800000000", "Body": "${text}"}}})
}

/// The password of that.
pub(crate) const TWILIO: (&str, &str) = ("SAFECONDUCT_SECRET_DEMO_SHOP_TWILIO_TOKEN", "test-twilio-token");

/// The sample's codes go to phones in Ireland, too.
pub(crate) fn offer_sms(site: &Site) -> anyhow::Result<()> {
    site.edit("workspace.yaml", "    email: {from", "    sms: {via: [twilio], countries: [IE]}\n    email: {from")
}

/// The body of the text message in a request to Twilio.
pub(crate) fn sms_body(request: &str) -> anyhow::Result<&str> {
    let (_, body) = request.split_once("Body=").context("no body")?;
    Ok(body.split_once('&').map_or(body, |(body, _)| body))
}

pub(crate) async fn start(
    website: &Caller,
    assertion: &str,
    address: &str,
) -> Result<pb::StartVerificationResponse, Status> {
    let channel = if address.starts_with('+') { pb::Channel::Sms } else { pb::Channel::Email };
    let request = pb::StartVerificationRequest {
        assertion: assertion.to_owned(),
        channel: channel.into(),
        address: address.to_owned(),
        purpose: "look-up-order".to_owned(),
        ..pb::StartVerificationRequest::default()
    };
    Ok(website.otp().start_verification(request).await?.into_inner())
}

pub(crate) async fn check(
    website: &Caller,
    assertion: &str,
    id: &str,
    code: &str,
) -> Result<pb::CheckVerificationResponse, Status> {
    let request = pb::CheckVerificationRequest {
        assertion: assertion.to_owned(),
        verification_id: id.to_owned(),
        code: code.to_owned(),
        ..pb::CheckVerificationRequest::default()
    };
    Ok(website.otp().check_verification(request).await?.into_inner())
}

async fn delivery(website: &Caller, assertion: &str, id: &str) -> anyhow::Result<pb::DeliveryState> {
    let request = pb::GetVerificationRequest { assertion: assertion.to_owned(), verification_id: id.to_owned() };
    let found = website.otp().get_verification(request).await?.into_inner().verification;
    Ok(found.context("no verification")?.delivery())
}

pub(crate) async fn delivered(
    website: &Caller,
    assertion: &str,
    id: &str,
    state: pb::DeliveryState,
) -> anyhow::Result<()> {
    until("the state of the delivery", PLENTY, async || {
        Ok((delivery(website, assertion, id).await? == state).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_lead_is_let_in_by_a_mail_on_the_embedded_store() {
    lead(Layout::All, Store::Embedded).await.unwrap();
}

#[tokio::test]
async fn a_lead_is_let_in_by_a_mail_with_separate_processes_on_redis() {
    lead(Layout::Separate, Store::Redis).await.unwrap();
}

async fn lead(layout: Layout, store: Store) -> anyhow::Result<()> {
    if !has_mail_server().await {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let sink = MailSink::start(folder.path(), &script(), None).await?;
    let suite = Suite::start(otp(Options::new(layout, store), "[mail]", &json!({"mail": smtp(sink.port())}))).await?;
    let (website, agent) = (suite.website()?, suite.agent()?);
    let visitor = visitor(&website).await?;

    // What the agent is told is enough to start.
    let asked = agent.execute(&Ask::new(&visitor, "find-orders", &json!({}))).await;
    let told = refused(asked, Code::FailedPrecondition, "VERIFICATION_REQUIRED");
    let Some(Detail::Verification(needed)) = told.guidance.detail else { panic!("{told:?}") };
    assert_eq!((needed.attribute.as_str(), needed.purpose.as_str()), ("email", "look-up-order"));
    assert_eq!(needed.methods, [i32::from(VerificationMethod::EmailCode)]);

    let started = start(&website, &visitor, "  ADA@Example.COM ").await?;
    assert!(!started.masked_address.contains("ada@"), "{}", started.masked_address);
    let mail = sink.mail(1).await?;
    assert_eq!(mail.to, [EMAIL]);
    assert_eq!(mail.header("to"), Some(EMAIL));
    assert_eq!(mail.header("from"), Some("Demo Shop <no-reply@shop.example>"));
    assert_eq!(mail.header("auto-submitted"), Some("auto-generated"));
    let code = mail.code()?;
    assert!(mail.html.contains(&code) && mail.text.contains("look up your orders"), "{mail:?}");
    assert!(!mail.header("subject").unwrap_or_default().contains(&code), "not on a lock screen");
    delivered(&website, &visitor, &started.verification_id, pb::DeliveryState::Sent).await?;

    let wrong = if code.starts_with('7') { "333333" } else { "777777" };
    let guessed = check(&website, &visitor, &started.verification_id, wrong).await;
    refused(guessed, Code::Unauthenticated, "CODE_INVALID");
    let proven = check(&website, &visitor, &started.verification_id, &code).await?;
    assert_eq!(proven.kind(), ContactKind::Lead);

    let found = agent.execute(&Ask::new(&proven.assertion, "find-orders", &json!({}))).await?;
    assert_eq!(succeeded(&found)["orders"].as_array().map(Vec::len), Some(3));
    // A lead is no user, and nobody else's mailbox opens.
    for connector in ["list-orders", "get-order", "refund-order"] {
        let inputs = match connector {
            "refund-order" => json!({"order_id": "ord_a1b2c3", "amount": 1}),
            "get-order" => json!({"order_id": "ord_a1b2c3"}),
            _ => json!({}),
        };
        let refused = refused(
            agent.execute(&Ask::new(&proven.assertion, connector, &inputs)).await,
            Code::FailedPrecondition,
            "VERIFICATION_REQUIRED",
        );
        let Some(Detail::Verification(needed)) = refused.guidance.detail else { panic!("{refused:?}") };
        assert!(!needed.methods.contains(&VerificationMethod::EmailCode.into()), "a code would not help: {needed:?}");
    }
    let other = json!({"email": "grace@example.com"});
    assert!(agent.execute(&Ask::new(&proven.assertion, "find-orders", &other)).await.is_err());
    assert_eq!(sink.mails()?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_lead_proves_a_phone_by_a_text_message_and_is_the_same_lead_in_every_session() {
    let sink = HttpSink::start(201).unwrap();
    let paper = json!({"http": {"url": "https://mail.example/", "form": {"to": "${to}", "text": "${text}"}}});
    let delivery = json!({"paper": paper, "twilio": twilio(sink.port())});
    let options = otp(Options::new(Layout::Separate, Store::Redis), "[paper]", &delivery).set(TWILIO.0, TWILIO.1);
    let suite = Suite::start_with(options, offer_sms).await.unwrap();
    let (website, agent) = (suite.website().unwrap(), suite.agent().unwrap());
    let mut contacts = Vec::new();
    for (number, typed) in ["+353 (0)85 123-4567", "+353 85 1234567"].into_iter().enumerate() {
        let visitor = visitor(&website).await.unwrap();
        // A landline of the country, and a phone of another.
        for closed in ["+35315123456", "+447400123456"] {
            refused_field(start(&website, &visitor, closed).await, "address");
        }
        let started = start(&website, &visitor, typed).await.unwrap();
        assert_eq!(started.masked_address, "+353***67");
        let request = sink.request(number + 1).await.unwrap();
        let head = request.to_lowercase();
        assert!(head.starts_with("post /2010-04-01/accounts/ac0123456789/messages.json http/1.1\r\n"), "{head}");
        assert!(request.contains("authorization: Basic QUMwMTIzNDU2Nzg5OnRlc3QtdHdpbGlvLXRva2Vu"), "{request}");
        assert!(request.ends_with("To=%2B353851234567"), "{request}");
        let code = digits(sms_body(&request).unwrap()).unwrap();
        delivered(&website, &visitor, &started.verification_id, pb::DeliveryState::Sent).await.unwrap();
        let proven = check(&website, &visitor, &started.verification_id, code).await.unwrap();
        assert_eq!(proven.kind(), ContactKind::Lead);
        contacts.push(proven.contact_id);
        // A phone is no email address.
        let asked = agent.execute(&Ask::new(&proven.assertion, "find-orders", &json!({}))).await;
        let told = refused(asked, Code::FailedPrecondition, "VERIFICATION_REQUIRED");
        let Some(Detail::Verification(needed)) = told.guidance.detail else { panic!("{told:?}") };
        assert_eq!(needed.methods, [i32::from(VerificationMethod::EmailCode)]);
    }
    assert_eq!(contacts[0], contacts[1]);
    assert_eq!(sink.requests().len(), 2, "nothing went to the others");
}

/// The six digits in a text.
fn digits(text: &str) -> anyhow::Result<&str> {
    text.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 6).context("no code")
}

/// Takes connections, and answers nothing for as long as the guard lives.
struct Hanging {
    port: u16,
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl Hanging {
    fn start() -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let held = Arc::<Mutex<Vec<TcpStream>>>::default();
        let holding = Arc::clone(&held);
        std::thread::spawn(move || holding_all(&listener, &holding));
        Ok(Self { port, held })
    }

    fn connections(&self) -> usize {
        self.held.lock().unwrap().len()
    }
}

fn holding_all(listener: &std::net::TcpListener, held: &Mutex<Vec<TcpStream>>) {
    for stream in listener.incoming().flatten() {
        held.lock().unwrap().push(stream);
    }
}

/// What a process holds in memory, in KiB.
fn resident(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[tokio::test]
async fn a_mail_server_that_hangs_keeps_nobody_waiting_and_no_other_workspace() {
    const ROWS: usize = 40;
    let (mail, api) = (Hanging::start().unwrap(), HttpSink::start(200).unwrap());
    let sample = include_str!("../../crates/safeconduct/sample/workspaces/workspace.yaml");
    let (workspace, _) = sample.split_once("\n---\n").unwrap();
    let next = json!({"http": {"url": format!("http://127.0.0.1:{}/", api.port()), "insecure_http": true,
        "allow_addresses": ["127.0.0.0/8"], "form": {"to": "${to}", "text": "${text}"}}});
    let other = workspace
        .replace("workspace: demo-shop", "workspace: next-door")
        .replace("via: [screen]", "via: [api]")
        .replace("{screen: {console: true}}", &json!({"api": next}).to_string())
        .split_once("  # Shared by all connectors")
        .unwrap()
        .0
        .to_owned();
    let options = otp(Options::new(Layout::All, Store::Embedded), "[mail]", &json!({"mail": smtp(mail.port)}))
        .file("other.yaml", &other)
        .set("SAFECONDUCT_DRAIN__GRACE", "200ms")
        .set("SAFECONDUCT_DRAIN__HARD_DEADLINE", "40s");
    let prepare = |site: &Site| {
        let settings = std::fs::read_to_string(site.settings())?;
        std::fs::write(site.settings(), settings.replace(r#"workspaces = ["demo-shop"]"#, r#"workspaces = ["*"]"#))?;
        site.secret("next-door", "messenger", "test-messenger-secret")
    };
    let mut suite = Suite::start_with(options, prepare).await.unwrap();
    let website = Arc::new(suite.website().unwrap());
    let process = suite.process_id("all").unwrap();
    let before = resident(process).unwrap();
    let mut rows = JoinSet::new();
    for row in 0..ROWS {
        let website = Arc::clone(&website);
        rows.spawn(async move {
            let (session, mut longest, mut last) = (visitor(&website).await.unwrap(), Duration::ZERO, String::new());
            for number in 0..5 {
                let since = Instant::now();
                let started = start(&website, &session, &format!("person{row}.{number}@example.com")).await.unwrap();
                (last, longest) = (started.verification_id, longest.max(since.elapsed()));
            }
            (session, last, longest)
        });
    }
    let started = rows.join_all().await;
    until("somebody hangs", PLENTY, async || Ok((mail.connections() > 1).then_some(()))).await.unwrap();
    // An attempt is given 25 s.
    let longest = started.iter().map(|(_, _, took)| *took).max().unwrap();
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    // Half of the places stay free.
    assert!(mail.connections() <= 64, "{} connections", mail.connections());
    let stranger = visitor_of(&website, "next-door").await.unwrap();
    let begun = start(&website, &stranger, EMAIL).await.unwrap();
    let request = api.request(1).await.unwrap();
    let code = digits(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert!(check(&website, &stranger, &begun.verification_id, code).await.is_ok());
    let after = resident(process).unwrap();
    assert!(after < before + 96 * 1024, "from {before} to {after} KiB");
    // Whoever hangs does not keep the process.
    suite.terminate("all").unwrap();
    let status = suite.exit("all", Duration::from_secs(45)).await.unwrap();
    assert!(status.success(), "{status}");
    suite.restart("all").await.unwrap();
    let website = suite.website().unwrap();
    let (session, id, _) = started.last().unwrap();
    let state = delivery(&website, session, id).await.unwrap();
    assert_eq!(state, pb::DeliveryState::Queued, "it still waits");
}

#[tokio::test]
async fn an_api_takes_over_while_the_mail_server_is_down() {
    let sink = HttpSink::start(202).unwrap();
    // Nobody listens there.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let api = json!({"http": {"url": format!("http://127.0.0.1:{}/v3/mail/send", sink.port()), "insecure_http": true,
        "allow_addresses": ["127.0.0.0/8"], "auth": {"bearer": {"secret": "shop-token"}}, "success": [202],
        "json": {"personalizations": [{"to": [{"email": "${to}"}]}], "from": {"email": "${from}", "name": "${from_name}"},
                 "subject": "${subject}", "content": [{"type": "text/plain", "value": "${text}"}]}}});
    let delivery = json!({"mail": smtp(dead), "api": api});
    let options = otp(Options::new(Layout::All, Store::Embedded), "[mail, api]", &delivery);
    let suite = Suite::start(options).await.unwrap();
    let website = suite.website().unwrap();
    let visitor = visitor(&website).await.unwrap();
    let started = start(&website, &visitor, EMAIL).await.unwrap();
    let request = sink.request(1).await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v3/mail/send HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Bearer sample-shop-token"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["personalizations"][0]["to"][0]["email"], EMAIL);
    assert_eq!(body["from"], json!({"email": "no-reply@shop.example", "name": "Demo Shop"}));
    let text = body["content"][0]["value"].as_str().unwrap();
    let code = text.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 6).unwrap();
    let proven = check(&website, &visitor, &started.verification_id, code).await.unwrap();
    assert_eq!(proven.kind(), ContactKind::Lead);
}

#[tokio::test]
async fn an_answer_is_kept_although_the_process_dies_before_it_sends_on_the_embedded_store() {
    killed(Layout::All, Store::Embedded).await.unwrap();
}

#[tokio::test]
async fn an_answer_is_kept_although_the_process_dies_before_it_sends_on_redis() {
    killed(Layout::Separate, Store::Redis).await.unwrap();
}

/// Kills otp between its answer and the sending, which waits for a mail server that comes up later.
async fn killed(layout: Layout, store: Store) -> anyhow::Result<()> {
    let gate = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = gate.local_addr()?.port();
    let api = json!({"http": {"url": format!("http://127.0.0.1:{port}/"), "insecure_http": true,
        "allow_addresses": ["127.0.0.0/8"], "form": {"to": "${to}", "text": "${text}"}}});
    let mut suite = Suite::start(otp(Options::new(layout, store), "[api]", &json!({"api": api}))).await?;
    let website = suite.website()?;
    let visitor = visitor(&website).await?;
    // The gate takes connections and answers nothing: whoever sends is held.
    let started = start(&website, &visitor, EMAIL).await?;
    let process = if layout == Layout::All { "all" } else { "otp" };
    suite.kill(process)?;
    drop(gate);
    let sink = HttpSink::start_at(port, 200)?;
    suite.restart(process).await?;
    let website = suite.website()?;
    let request = sink.request(1).await?;
    let (_, body) = request.split_once("\r\n\r\n").context("no body")?;
    let code = body.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 6).context("no code")?;
    let proven = check(&website, &visitor, &started.verification_id, code).await?;
    assert_eq!(proven.kind(), ContactKind::Lead);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_delivered_shows_in_the_verification_and_in_no_answer() {
    let sink = HttpSink::start(400).unwrap();
    let api = json!({"http": {"url": format!("http://127.0.0.1:{}/", sink.port()), "insecure_http": true,
        "allow_addresses": ["127.0.0.0/8"], "form": {"to": "${to}"}}});
    let options = otp(Options::new(Layout::All, Store::Embedded), "[api]", &json!({"api": api}));
    let suite = Suite::start(options).await.unwrap();
    let website = suite.website().unwrap();
    let visitor = visitor(&website).await.unwrap();
    let started = start(&website, &visitor, EMAIL).await.unwrap();
    delivered(&website, &visitor, &started.verification_id, pb::DeliveryState::Failed).await.unwrap();
    assert_eq!(sink.requests().len(), 1, "a refusal is not asked again");
    assert!(!suite.logs().contains(EMAIL), "no address is in a log");
}

/// A CA with a certificate for 127.0.0.1, as files, and the CA's certificate as text.
fn certificates(folder: &Path) -> (PathBuf, PathBuf, String) {
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.distinguished_name.push(rcgen::DnType::CommonName, "a CA");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(ca, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let (certificate_file, key_file) = (folder.join("mail.pem"), folder.join("mail.key"));
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    (certificate_file, key_file, ca.pem())
}

#[tokio::test]
async fn mail_goes_over_tls_with_a_login_to_a_server_that_the_named_ca_vouches_for_and_to_no_other() {
    if !has_mail_server().await {
        return;
    }
    for mode in [MailTls::StartTls, MailTls::Tls] {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key, ca) = certificates(folder.path());
        let sink = MailSink::start(folder.path(), &script(), Some((mode, &certificate, &key))).await.unwrap();
        let foreign = tempfile::tempdir().unwrap();
        let (_, _, other) = certificates(foreign.path());
        let mut told = smtp(sink.port());
        told["smtp"]["tls"] = json!(mode.as_str());
        told["smtp"]["user"] = json!("otp");
        told["smtp"]["password"] = json!({"secret": "smtp-password"});
        for (ca, arrives) in [(Some(other), false), (None, false), (Some(ca), true)] {
            // Who is refused by the mail server's certificate falls back, so that the test need not wait for a mail that
            // never comes.
            let api = HttpSink::start(200).unwrap();
            let next = json!({"http": {"url": format!("http://127.0.0.1:{}/", api.port()), "insecure_http": true,
                "allow_addresses": ["127.0.0.0/8"], "form": {"to": "${to}", "text": "${text}"}}});
            told["smtp"]["ca"] = json!(ca);
            let delivery = json!({"mail": told, "api": next});
            let options = otp(Options::new(Layout::All, Store::Embedded), "[mail, api]", &delivery)
                .set("SAFECONDUCT_SECRET_DEMO_SHOP_SMTP_PASSWORD", "test-smtp-password");
            let suite = Suite::start(options).await.unwrap();
            let website = suite.website().unwrap();
            let visitor = visitor(&website).await.unwrap();
            let started = start(&website, &visitor, EMAIL).await.unwrap();
            delivered(&website, &visitor, &started.verification_id, pb::DeliveryState::Sent).await.unwrap();
            assert!(!suite.logs().contains("test-smtp-password"));
            if arrives {
                let mail = sink.mail(1).await.unwrap();
                assert_eq!((mail.tls, mail.login.as_deref()), (true, Some("otp")), "{mode:?}");
                check(&website, &visitor, &started.verification_id, &mail.code().unwrap()).await.unwrap();
                assert!(api.requests().is_empty(), "{mode:?}");
            } else {
                assert_eq!((sink.mails().unwrap().len(), api.requests().len()), (0, 1), "{mode:?}");
            }
        }
    }
}
