use serde_json::json;

use super::*;

/// As far as this crate looks.
const CA: &str = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n";

fn http(provider: &Value) -> HttpProvider {
    let Provider::Http(http) = one(&json!({"http": provider})) else { panic!("it is an HTTP provider") };
    http
}

fn one(provider: &Value) -> Provider {
    let mut found = read(&json!({"one": provider})).unwrap();
    found.remove(&"one".parse().unwrap()).unwrap()
}

fn refused(provider: &Value) -> String {
    let violations = read(&json!({"one": provider})).unwrap_err();
    violations.iter().map(|one| format!("{}: {}", one.field, one.description)).collect::<Vec<_>>().join("\n")
}

fn values<'a>(to: &'a str, subject: &'a str, code: &'a SecretText) -> Values<'a> {
    let message = Outgoing { id: "0af1", to, subject, text: "t", html: "<p>t</p>", code };
    Values { message, from: "a@b.example", from_name: "Acme" }
}

use safeconduct_types::SecretText;

/// What could end a JSON string, a form field, a header line or a query parameter.
const HOSTILE: &str = "\"}\r\nX-Evil: 1\r\n\r\n&to=other#?%00\u{202e}${code}'; --";

#[test]
fn a_hostile_value_stays_in_its_place() {
    let code = SecretText::new("123456".to_owned());
    let json_shaped = http(&json!({"url": "https://a.example/send?x=1&to=${to}",
        "headers": {"Idempotency-Key": "otp-${id}"},
        "json": {"to": [{"email": "${to}"}], "subject": "[${subject}]", "n": 5, "deep": {"code": "${code}"}}}));
    let request = json_shaped.request(&values(HOSTILE, HOSTILE, &code));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(
        body,
        json!({"to": [{"email": HOSTILE}], "subject": format!("[{HOSTILE}]"), "n": 5, "deep": {"code": "123456"}})
    );
    let pairs: Vec<_> =
        request.url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    assert_eq!(pairs, [("x".to_owned(), "1".to_owned()), ("to".to_owned(), HOSTILE.to_owned())]);
    assert_eq!(
        (request.url.host_str(), request.url.path(), request.url.fragment()),
        (Some("a.example"), "/send", None)
    );
    assert_eq!(request.headers.iter().find(|(name, _)| name == "idempotency-key").unwrap().1, "otp-0af1");

    let form = http(&json!({"url": "https://a.example/send", "form": {"To": "${to}", "Body": "${subject} ${text}"}}));
    let request = form.request(&values(HOSTILE, HOSTILE, &code));
    let fields: Vec<_> =
        url::form_urlencoded::parse(&request.body).map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
    let text = format!("{HOSTILE} t");
    assert_eq!(fields, [("Body".to_owned(), text), ("To".to_owned(), HOSTILE.to_owned())]);
}

#[test]
fn nothing_but_the_messages_id_reaches_a_header_and_nothing_decides_where_it_goes() {
    for (name, value) in [("X-To", "${to}"), ("X-S", "a ${subject}"), ("X-Code", "${code}"), ("X-A", "a\r\nb: c")] {
        let told = refused(&json!({"http": {"url": "https://a.example/", "headers": {name: value}}}));
        assert!(told.contains("delivery.one.http.headers"), "{told}");
    }
    for header in ["Host", "authorization", "Content-Length", "Transfer-Encoding", "a b", ""] {
        refused(&json!({"http": {"url": "https://a.example/", "headers": {header: "x"}}}));
    }
    for url in [
        "https://${to}/",
        "https://a.example/${to}",
        "http://a.example/",
        "https://me:pw@a.example/",
        "ftp://a.example",
        "https://a.example/#${to}",
        "https://a.example\\@b.example/",
        "not a url",
    ] {
        let told = refused(&json!({"http": {"url": url}}));
        assert!(told.contains("delivery.one.http.url") && !told.contains("pw"), "{told}");
    }
}

#[test]
fn what_nobody_reads_and_what_contradicts_itself_is_refused() {
    for provider in [
        json!({}),
        json!({"console": false}),
        json!({"console": true, "smtp": {"host": "a.example"}}),
        json!({"smtp": {"host": "a.example", "tls": "maybe"}}),
        json!({"smtp": {"host": "a.example", "pasword": {"secret": "x"}}}),
        json!({"smtp": {"host": "a.example", "user": "u"}}),
        json!({"smtp": {"host": "a.example", "tls": "none", "user": "u", "password": {"secret": "p"}}}),
        json!({"smtp": {"host": "a.example", "ca": "tls/ca.pem"}}),
        json!({"smtp": {"host": "a.example", "ca": format!("{CA}-----BEGIN PRIVATE KEY-----")}}),
        json!({"smtp": {"host": "a.example", "ca": CA, "tls": "none"}}),
        json!({"smtp": {"host": "smtp://a.example"}}),
        json!({"smtp": {"host": "a.example:25"}}),
        json!({"smtp": {"host": "a.example", "allow_addresses": ["0.0.0.0/0"]}}),
        json!({"http": {"url": "https://a.example/", "json": {}, "form": {}}}),
        json!({"http": {"url": "https://a.example/", "json": {"${to}": 1}}}),
        json!({"http": {"url": "https://a.example/", "json": {"a": "${password}"}}}),
        json!({"http": {"url": "https://a.example/", "json": {"a": "${to"}}}),
        json!({"http": {"url": "https://a.example/", "method": "GET", "form": {"a": "b"}}}),
        json!({"http": {"url": "https://a.example/", "method": "DELETE"}}),
        json!({"http": {"url": "https://a.example/", "success": [404]}}),
        json!({"http": {"url": "https://a.example/", "auth": {"basic": {"user": "a:b", "password": {"secret": "x"}}}}}),
    ] {
        let shown = provider.to_string();
        assert!(!refused(&provider).is_empty(), "{shown}");
    }
    assert!(read(&json!({"No Name": {"console": true}})).is_err());
}

#[test]
fn a_secret_that_was_written_into_the_file_is_not_repeated() {
    let inline = "SG.hunter2-Very.Secret";
    for provider in [
        json!({"smtp": {"host": "a.example", "user": "u", "password": inline}}),
        json!({"smtp": {"host": "a.example", "user": "u", "password": {"secret": inline}}}),
        json!({"http": {"url": "https://a.example/", "auth": {"bearer": {"secret": inline}}}}),
        json!({"http": {"url": "https://a.example/", "auth": {"bearer": inline}}}),
    ] {
        let told = refused(&provider);
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn mail_is_encrypted_unless_the_file_says_otherwise() {
    let Provider::Smtp(smtp) = one(&json!({"smtp": {"host": "mail.example"}})) else { panic!() };
    assert_eq!((smtp.tls, smtp.port), (SmtpTls::Tls, 465));
    let Provider::Smtp(smtp) = one(&json!({"smtp": {"host": "mail.example", "tls": "starttls", "ca": CA}})) else {
        panic!()
    };
    assert_eq!((smtp.tls, smtp.port, smtp.ca.as_deref()), (SmtpTls::StartTls, 587, Some(CA)));
}
