//! The command line does what its help says, and its exit codes can be relied on.

use std::fs;

use safeconduct_testkit::{Layout, Options, Output, ShopUser, Store, Suite, run, token, user_hash};
use serde_json::Value;

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
