//! The command line does what its help says, and its exit codes can be relied on.

use std::fs;
use std::process::Command;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use safeconduct_testkit::{
    HttpSink, Layout, Options, Output, ShopUser, Store, Suite, run, safeconduct, token, user_hash,
};
use serde_json::{Value, json};

use crate::otp::{otp, visitor};

#[tokio::test]
async fn the_demo_comes_out_as_told() {
    let demo = run(&["demo", "--once"], &[]).await.unwrap();
    assert_eq!(demo.code, Some(0), "{}", demo.text());
}

#[tokio::test]
async fn a_user_hash_is_made_as_a_backend_makes_it() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "test-messenger-secret\n").unwrap();
    let secret = secret.to_string_lossy().into_owned();
    let signed = run(&["sign", "user-hash", "--user-id", "cust_ada", "--secret-file", &secret], &[]).await.unwrap();
    assert_eq!((signed.code, signed.stdout.trim()), (Some(0), user_hash("cust_ada").as_str()), "{}", signed.stderr);
    assert!(!signed.text().contains("test-messenger-secret"));
}

/// Runs it with nobody who reads what it says; its exit code and its complaints.
fn run_unread(arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(safeconduct().unwrap());
    let output = command.args(arguments).stdout(writer).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_command_whose_reader_has_gone_ends_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let keys = keys.to_str().unwrap();
    for arguments in [&["keys", "init", "--dir", keys][..], &["keys", "list", "--dir", keys], &["errors"], &["--help"]]
    {
        assert_eq!(run_unread(arguments), (Some(0), String::new()), "{arguments:?}");
    }
    let (code, complaint) = run_unread(&["errors", "NO_SUCH_REASON"]);
    assert!(code == Some(64) && complaint.contains("NO_SUCH_REASON"), "a failure stays one: {complaint}");
}

#[tokio::test]
async fn a_connector_is_called_from_the_command_line() {
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await.unwrap();
    let address = format!("http://{}", suite.address("connector").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let assertion = file("assertion", &suite.assertion(ShopUser::Ada).await.unwrap());
    let agent = file("token", token::AGENT);
    let call = async |inputs: &str| -> Output {
        let arguments = ["call", "refund-order", "--address", &address, "--token-file", &agent];
        let more = ["--assertion-file", &assertion, "--inputs", inputs, "--output", "json"];
        run(&[&arguments[..], &more].concat(), &[]).await.unwrap()
    };
    let done = call(r#"{"order_id":"ord_a1b2c3","amount":42}"#).await;
    assert_eq!(done.code, Some(0), "{}", done.text());
    let said: Value = serde_json::from_str(&done.stdout).unwrap();
    assert!(said.to_string().contains("ref_1"), "{said}");
    let refused = call(r#"{"order_id":"ord_z9y8x7","amount":42}"#).await;
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    assert!(refused.text().contains("NOT_YOURS"), "{}", refused.text());
    for told in [done, refused] {
        assert!(!told.text().contains(token::AGENT));
    }
    assert_eq!(suite.shop.effects().await.unwrap().refunds.len(), 1);
}

#[tokio::test]
async fn a_token_is_signed_as_a_backend_signs_it() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let key = "a-secret-of-more-than-thirty-two-bytes";
    fs::write(&secret, format!("{key}\n")).unwrap();
    let secret = secret.to_string_lossy().into_owned();
    let sign = async |more: &[&str]| {
        let arguments = ["sign", "token", "--user-id", "cust_ada", "--secret-file", &secret];
        run(&[&arguments[..], more].concat(), &[]).await.unwrap()
    };
    let signed = sign(&["--lifetime", "60", "--claims", r#"{"plan":"gold"}"#]).await;
    assert_eq!(signed.code, Some(0), "{}", signed.stderr);
    let (input, signature) = signed.stdout.trim().rsplit_once('.').unwrap();
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    let hs256 = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    hmac::verify(&hs256, input.as_bytes(), &decode(signature)).unwrap();
    let (header, claims) = input.split_once('.').unwrap();
    let part = |text: &str| serde_json::from_slice::<Value>(&decode(text)).unwrap();
    assert_eq!(part(header)["alg"], "HS256");
    let claims = part(claims);
    assert_eq!((&claims["user_id"], &claims["plan"]), (&json!("cust_ada"), &json!("gold")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    for wrong in [&["--alg", "RS256"][..], &["--claims", "[]"]] {
        let refused = sign(wrong).await;
        assert_eq!(refused.code, Some(64), "{}", refused.text());
        assert!(refused.stdout.is_empty() && !refused.text().contains(key), "{}", refused.text());
    }
}

#[tokio::test]
async fn keys_are_staged_promoted_and_retired_and_none_too_early() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("keys").to_string_lossy().into_owned();
    let keys = async |what: &[&str]| {
        run(&[&["keys"], what, &["--dir", &dir, "--output", "json"]].concat(), &[]).await.unwrap()
    };
    let listed = async || -> Vec<(String, String)> {
        let list = keys(&["list"]).await;
        let list: Value = serde_json::from_str(&list.stdout).unwrap();
        let of = |key: &&Value| key["purpose"] == "assertion-signing";
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        list["keys"].as_array().unwrap().iter().filter(of).map(|key| (text(&key["id"]), text(&key["state"]))).collect()
    };
    assert_eq!(keys(&["init"]).await.code, Some(0));
    let first = listed().await.remove(0).0;
    let staged = keys(&["stage", "assertion-signing"]).await;
    assert_eq!(staged.code, Some(0), "{}", staged.text());
    let staged: Value = serde_json::from_str(&staged.stdout).unwrap();
    let second = staged["id"].as_str().unwrap().to_owned();
    assert!(listed().await.contains(&(second.clone(), "staged".to_owned())));
    // Others may still hold the public keys from before.
    let early = keys(&["promote", "assertion-signing", &second]).await;
    assert_eq!(early.code, Some(64), "{}", early.text());
    assert!(listed().await.contains(&(first.clone(), "primary".to_owned())), "nothing has changed");
    assert_eq!(keys(&["promote", "assertion-signing", &second, "--force"]).await.code, Some(0));
    assert!(listed().await.contains(&(first.clone(), "replaced".to_owned())));
    // What the first one signed is still presented, and the second one signs.
    for (id, force) in [(&first, &[][..]), (&second, &["--force"])] {
        let refused = keys(&[&["retire", "assertion-signing", id], force].concat()).await;
        assert_eq!(refused.code, Some(64), "{}", refused.text());
    }
    assert_eq!(keys(&["retire", "assertion-signing", &first, "--force"]).await.code, Some(0));
    assert_eq!(listed().await, [(second, "primary".to_owned())]);
    for wrong in [&["stage", "store-hashing"][..], &["stage", "no-such-purpose"], &["init"]] {
        assert_eq!(keys(wrong).await.code, Some(64), "{wrong:?}");
    }
}

#[tokio::test]
async fn an_address_is_verified_from_the_command_line() {
    let sink = HttpSink::start(200).unwrap();
    let api = json!({"http": {"url": format!("http://127.0.0.1:{}/", sink.port()), "insecure_http": true,
        "allow_addresses": ["127.0.0.0/8"], "form": {"code": "${code}"}}});
    let options = otp(Options::new(Layout::All, Store::Embedded), "[api]", &json!({"api": api}));
    let suite = Suite::start(options).await.unwrap();
    let server = format!("http://{}", suite.address("otp").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let website = file("token", token::WEBSITE);
    let assertion = file("assertion", &visitor(&suite.website().unwrap()).await.unwrap());
    let verify = async |what: &[&str]| {
        let whom = ["--server", &server, "--token-file", &website, "--assertion-file", &assertion];
        run(&[&["otp"], what, &whom].concat(), &[]).await.unwrap()
    };
    let start = ["start", "ada@example.com", "--purpose", "look-up-order"];
    let started = verify(&start).await;
    assert_eq!(started.code, Some(0), "{}", started.text());
    let id = started.stdout.trim().to_owned();
    let shown = verify(&["get", &id]).await;
    assert!(shown.stdout.contains("3 attempts left") && !shown.text().contains("ada@"), "{}", shown.text());
    let request = sink.request(1).await.unwrap();
    let code = request.rsplit_once("code=").unwrap().1;
    let wrong = verify(&["check", &id, if code == "777777" { "333333" } else { "777777" }]).await;
    assert!(wrong.code == Some(1) && wrong.text().contains("CODE_INVALID"), "{}", wrong.text());
    let proven = verify(&["check", &id, code]).await;
    assert_eq!((proven.code, proven.stdout.trim().split('.').count()), (Some(0), 3), "{}", proven.stderr);
    // The assertion from before is over now.
    let stale = verify(&["get", &id]).await;
    assert!(stale.code == Some(1) && stale.text().contains("ASSERTION_STALE"), "{}", stale.text());

    file("assertion", &visitor(&suite.website().unwrap()).await.unwrap());
    let second = verify(&["start", "grace@example.com", "--purpose", "look-up-order"]).await;
    let id = second.stdout.trim().to_owned();
    let soon = verify(&["resend", &id]).await;
    assert!(soon.code == Some(1) && soon.text().contains("RATE_LIMITED"), "{}", soon.text());
    let cancelled = verify(&["cancel", &id]).await;
    assert!(cancelled.code == Some(0) && cancelled.stdout.contains("CANCELLED"), "{}", cancelled.text());
}
