use std::sync::Mutex;

use safeconduct_otp_domain::delivery::read;
use safeconduct_types::{ManualClock, SystemClock};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const AMPLE: Duration = Duration::from_secs(20);

/// Written down by a server of a test.
type Seen = Arc<Mutex<Vec<String>>>;

fn seen(seen: &Seen) -> Vec<String> {
    seen.lock().unwrap().clone()
}

/// A server on a port of its own.
async fn serve<F>(seen: &Seen, handle: impl Fn(TcpStream, Seen) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::clone(seen);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(handle(stream, Arc::clone(&seen)));
        }
    });
    port
}

/// Answers each HTTP request with this status, once it has all of it.
async fn http(mut stream: TcpStream, seen: Seen, status: u16, headers: &'static str) {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            body.len() >= length.unwrap_or(0)
        });
        if whole {
            break;
        }
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => text.push_str(&String::from_utf8_lossy(&buffer[..read])),
            _ => return,
        }
    }
    seen.lock().unwrap().push(text);
    let answer = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n{headers}content-length: 0\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// Speaks just enough SMTP. `extensions` follow its name, `recipient` is what it answers to RCPT.
async fn smtp(stream: TcpStream, seen: Seen, extensions: &'static [&'static str], recipient: &'static str) {
    let mut stream = BufReader::new(stream);
    let _ = stream.write_all(b"220 ready\r\n").await;
    let mut line = String::new();
    let mut data = None;
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        let text = std::mem::take(&mut line).trim_end().to_owned();
        if let Some(mail) = data.as_mut() {
            if text == "." {
                seen.lock().unwrap().push(data.take().unwrap());
                let _ = stream.write_all(b"250 taken\r\n").await;
            } else {
                let mail: &mut String = mail;
                mail.push_str(&text);
                mail.push('\n');
            }
            continue;
        }
        let command = text.split([' ', ':']).next().unwrap_or_default().to_uppercase();
        let answer = match command.as_str() {
            "EHLO" => {
                let mut lines = vec!["250-here".to_owned()];
                lines.extend(extensions.iter().map(|one| format!("250-{one}")));
                lines.push("250 HELP".to_owned());
                lines.join("\r\n")
            }
            "RCPT" => recipient.to_owned(),
            "DATA" => {
                data = Some(String::new());
                "354 go on".to_owned()
            }
            "AUTH" => "235 welcome".to_owned(),
            _ => "250 fine".to_owned(),
        };
        seen.lock().unwrap().push(text);
        let _ = stream.write_all(format!("{answer}\r\n").as_bytes()).await;
    }
}

struct Fixture {
    deliveries: Deliveries,
    refused: Vec<SetUpError>,
    _folder: tempfile::TempDir,
}

fn fixture(delivery: &Value, via: &[&str], console: Option<&Console>, clock: &Arc<dyn Clock>) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("acme")).unwrap();
    std::fs::write(folder.path().join("acme/api-key"), "hunter2").unwrap();
    let secrets = Arc::new(Secrets::new(folder.path().to_owned(), [], Arc::clone(clock)));
    let from = Sender { name: "Acme".to_owned(), address: "no-reply@acme.example".to_owned() };
    let routes = WorkspaceRoutes {
        workspace: workspace(),
        email: Some(Route { from, via: via.iter().map(|name| name.parse().unwrap()).collect() }),
        sms: None,
        providers: read(delivery).unwrap(),
    };
    let (deliveries, refused) = Deliveries::new([routes], &secrets, console, clock);
    Fixture { deliveries, refused, _folder: folder }
}

fn workspace() -> WorkspaceId {
    "acme".parse().unwrap()
}

fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

impl Fixture {
    async fn send(&self, within: Duration) -> Outcome {
        let code = SecretText::new("123456".to_owned());
        let message = Outgoing {
            id: "0af1",
            to: "ada@b.example",
            subject: "Your code",
            text: "123456 is your code",
            html: "<p>123456</p>",
            code: &code,
        };
        self.deliveries.send(&workspace(), Channel::Email, &message, within).await
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        self.deliveries.metrics(&mut text);
        text
    }
}

fn http_spec(port: u16) -> Value {
    json!({"http": {"url": format!("http://127.0.0.1:{port}/send"), "insecure_http": true,
        "allow_addresses": ["127.0.0.0/8"], "auth": {"bearer": {"secret": "api-key"}},
        "json": {"to": "${to}", "from": "${from}", "text": "${text}"}}})
}

fn smtp_spec(port: u16, tls: &str) -> Value {
    json!({"smtp": {"host": "127.0.0.1", "port": port, "tls": tls, "allow_addresses": ["127.0.0.0/8"]}})
}

/// On a thread of its own, with the servers that it starts.
async fn alone(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn an_api_is_sent_the_filled_template_and_what_authorises() {
    alone(async {
        let log = Seen::default();
        let port = serve(&log, |stream, seen| http(stream, seen, 202, "")).await;
        let fixture = fixture(&json!({"api": http_spec(port)}), &["api"], None, &system());
        assert_eq!(fixture.send(AMPLE).await, Outcome::Sent);
        let request = seen(&log).remove(0);
        assert!(request.starts_with("POST /send HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("authorization: Bearer hunter2\r\n"), "{request}");
        assert!(request.contains("content-type: application/json\r\n"), "{request}");
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        let expected = json!({"to": "ada@b.example", "from": "no-reply@acme.example", "text": "123456 is your code"});
        assert_eq!(body, expected);
    })
    .await;
}

#[tokio::test]
async fn the_next_provider_takes_what_the_first_does_not() {
    alone(async {
        for first in [400, 401, 429, 500] {
            let (failing, working) = (Seen::default(), Seen::default());
            let one = serve(&failing, move |stream, seen| http(stream, seen, first, "")).await;
            let two = serve(&working, |stream, seen| http(stream, seen, 200, "")).await;
            let spec = json!({"one": http_spec(one), "two": http_spec(two)});
            let fixture = fixture(&spec, &["one", "two"], None, &system());
            assert_eq!(fixture.send(AMPLE).await, Outcome::Sent, "{first}");
            assert_eq!((seen(&failing).len(), seen(&working).len()), (1, 1), "{first}");
            let text = fixture.metrics();
            assert!(text.contains("safeconduct_otp_fallbacks_total 1"), "{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_hangs_leaves_time_for_the_next_and_is_asked_last_for_a_while() {
    alone(async {
        let (hanging, working) = (Seen::default(), Seen::default());
        let one = serve(&hanging, |stream, seen| async move {
            seen.lock().unwrap().push("asked".to_owned());
            let _stream = stream;
            std::future::pending::<()>().await;
        })
        .await;
        let two = serve(&working, |stream, seen| http(stream, seen, 200, "")).await;
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let spec = json!({"one": http_spec(one), "two": http_spec(two)});
        let fixture = fixture(&spec, &["one", "two"], None, &shared);
        let brief = Duration::from_millis(400);
        assert_eq!(fixture.send(brief).await, Outcome::Sent);
        assert_eq!(fixture.send(brief).await, Outcome::Sent);
        assert_eq!((seen(&hanging).len(), seen(&working).len()), (1, 2), "it rests");
        clock.advance(REST);
        assert_eq!(fixture.send(brief).await, Outcome::Sent);
        assert_eq!((seen(&hanging).len(), seen(&working).len()), (2, 3));
    })
    .await;
}

#[tokio::test]
async fn what_nobody_takes_is_refused_or_comes_again_as_the_providers_say() {
    alone(async {
        let log = Seen::default();
        let never = serve(&log, |stream, seen| http(stream, seen, 400, "")).await;
        let busy = serve(&log, |stream, seen| http(stream, seen, 429, "retry-after: 7\r\n")).await;
        let spec = json!({"never": http_spec(never), "busy": http_spec(busy)});
        let outcome = async |via: &[&str]| fixture(&spec, via, None, &system()).send(AMPLE).await;
        assert_eq!(outcome(&["never"]).await, Outcome::Refused("status"));
        let later = Outcome::Later("status", Some(Duration::from_secs(7)));
        assert_eq!(outcome(&["busy"]).await, later);
        assert_eq!((outcome(&["never", "busy"]).await, outcome(&["busy", "never"]).await), (later, later));
        assert_eq!(outcome(&[]).await, Outcome::Refused("no provider"));
    })
    .await;
}

#[tokio::test]
async fn a_private_address_is_not_connected_to_unless_the_file_says_so() {
    alone(async {
        let log = Seen::default();
        let port = serve(&log, |stream, seen| smtp(stream, seen, &[], "250 fine")).await;
        let mut mail = smtp_spec(port, "none");
        mail["smtp"].as_object_mut().unwrap().remove("allow_addresses");
        let mut api = http_spec(port);
        api["http"].as_object_mut().unwrap().remove("allow_addresses");
        for spec in [mail, api] {
            let fixture = fixture(&json!({"one": spec}), &["one"], None, &system());
            assert_eq!(fixture.send(AMPLE).await, Outcome::Refused("address"));
        }
        assert!(seen(&log).is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_mail_server_gets_the_mail_and_a_connection_serves_again() {
    alone(async {
        let log = Seen::default();
        let port = serve(&log, |stream, seen| smtp(stream, seen, &[], "250 fine")).await;
        let fixture = fixture(&json!({"mail": smtp_spec(port, "none")}), &["mail"], None, &system());
        assert_eq!((fixture.send(AMPLE).await, fixture.send(AMPLE).await), (Outcome::Sent, Outcome::Sent));
        let seen = seen(&log);
        let count = |what: &str| seen.iter().filter(|line| line.starts_with(what)).count();
        assert_eq!(
            (count("EHLO acme.example"), count("RCPT TO:<ada@b.example>"), count("NOOP")),
            (1, 2, 1),
            "{seen:?}"
        );
        assert!(seen.iter().any(|line| line.contains("Message-ID: <0af1@acme.example>")), "{seen:?}");
    })
    .await;
}

#[tokio::test]
async fn what_a_mail_server_answers_decides() {
    alone(async {
        for (reply, expected) in
            [("550 no such user", Outcome::Refused("reply")), ("451 greylisted", Outcome::Later("reply", None))]
        {
            let log = Seen::default();
            let port = serve(&log, move |stream, seen| smtp(stream, seen, &[], reply)).await;
            let fixture = fixture(&json!({"mail": smtp_spec(port, "none")}), &["mail"], None, &system());
            assert_eq!(fixture.send(AMPLE).await, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn without_starttls_neither_a_password_nor_a_mail_is_sent() {
    alone(async {
        let log = Seen::default();
        let port = serve(&log, |stream, seen| smtp(stream, seen, &["AUTH PLAIN LOGIN"], "250 fine")).await;
        let mut spec = smtp_spec(port, "starttls");
        spec["smtp"]["user"] = json!("me");
        spec["smtp"]["password"] = json!({"secret": "api-key"});
        let fixture = fixture(&json!({"mail": spec}), &["mail"], None, &system());
        assert!(matches!(fixture.send(AMPLE).await, Outcome::Refused(_)));
        let seen = seen(&log);
        assert!(seen.iter().all(|line| line.starts_with("EHLO") || line.starts_with("QUIT")), "{seen:?}");
    })
    .await;
}

/// A writer whose text can be read.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sender_is_an_address_with_or_without_a_name() {
    let sender = |name: &str, address: &str| Sender { name: name.to_owned(), address: address.to_owned() };
    for (from, expected) in [
        ("no-reply@a.example", sender("", "no-reply@a.example")),
        ("Acme <no-reply@a.example>", sender("Acme", "no-reply@a.example")),
        ("\"Acme, Inc.\" <no-reply@a.example>", sender("Acme, Inc.", "no-reply@a.example")),
    ] {
        assert_eq!(Sender::parse(from), expected);
    }
}

#[tokio::test]
async fn a_process_prints_codes_only_if_it_was_told_that_it_may() {
    let spec = json!({"dev": {"console": true}});
    let refused = fixture(&spec, &["dev"], None, &system());
    assert!(!refused.deliveries.serves(&workspace()) && refused.refused.len() == 1);
    let refused = refused.refused[0].to_string();
    assert!(refused.contains("workspace acme: spec.otp.delivery.dev") && refused.contains("otp.console"), "{refused}");
    let page = Page::default();
    let allowed = fixture(&spec, &["dev"], Some(&Console::to(page.clone())), &system());
    assert_eq!(allowed.send(AMPLE).await, Outcome::Sent);
    let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("to: ada@b.example\nsubject: Your code\n\n123456 is your code\n"), "{text}");
}
