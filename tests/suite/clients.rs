//! Clients that know nothing of us but the address: `buf curl` and Python's grpcio, both by reflection.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use safeconduct_testkit::{Layout, Options, Store, Suite, error_info, token, user_hash};
use serde_json::{Value, json};
use tokio::process::Command;

/// `make test` sets it: then a client that is missing is a failure, and not a reason to leave its test out.
const REQUIRED: &str = "TEST_REQUIRE_CLIENTS";

pub(crate) async fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let works = command.status().await.is_ok_and(|status| status.success());
    assert!(
        works || std::env::var_os(REQUIRED) != Some(OsString::from("1")),
        "{program} is missing: `make test` installs it"
    );
    works
}

/// Runs `buf curl`: whether it succeeded, and the JSON that it printed.
async fn buf(address: &str, method: &str, message: &Value, token: &str) -> anyhow::Result<(bool, Value)> {
    let authorization = format!("authorization: Bearer {token}");
    let output = Command::new("buf")
        .args(["curl", "--protocol", "grpc", "--http2-prior-knowledge", "--emit-defaults"])
        .args(["--header", &authorization, "--reflect-header", &authorization, "--data", &message.to_string()])
        .arg(format!("http://{address}/{method}"))
        .env_remove("SSL_CERT_FILE")
        .output()
        .await?;
    let text = if output.status.success() { &output.stdout } else { &output.stderr };
    let text = String::from_utf8_lossy(text);
    let json = text.find('{').and_then(|start| text.get(start..)).context("no JSON")?;
    let value = serde_json::Deserializer::from_str(json).into_iter().next().context("no JSON")?;
    Ok((output.status.success(), value.with_context(|| text.clone().into_owned())?))
}

#[tokio::test]
async fn buf_curl_tells_the_story_by_reflection() {
    if !works("buf", &["--version"]).await {
        return;
    }
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await.unwrap();
    let identity = suite.address("identity").unwrap();
    let connector = suite.address("connector").unwrap();
    let verify = "safeconduct.identity.v1.IdentityService/VerifyIdentity";
    let execute = "safeconduct.connector.v1.ConnectorService/Execute";

    let mut proof = json!({"workspaceId": "demo-shop", "presenters": ["support-agent"],
        "userHash": {"userId": "cust_ada", "hash": user_hash("cust_ada")}});
    let (fine, proven) = buf(&identity, verify, &proof, token::WEBSITE).await.unwrap();
    assert!(fine, "{proven}");
    let refund = json!({"assertion": proven["assertion"], "connector": "refund-order",
        "inputsJson": "{\"order_id\":\"ord_a1b2c3\",\"amount\":5}", "idempotencyKey": "buf"});
    let (fine, refunded) = buf(&connector, execute, &refund, token::AGENT).await.unwrap();
    assert!(fine, "{refunded}");
    assert_eq!(refunded["execution"]["state"], "EXECUTION_STATE_SUCCEEDED");
    let (_, again) = buf(&connector, execute, &refund, token::AGENT).await.unwrap();
    assert_eq!(again["execution"]["replay"]["ofExecutionId"], refunded["execution"]["executionId"]);

    proof["userHash"]["hash"] = json!(user_hash("cust_grace"));
    let (fine, forged) = buf(&identity, verify, &proof, token::WEBSITE).await.unwrap();
    assert!(!fine && forged["code"] == "unauthenticated", "{forged}");
    let details = forged["details"].as_array().cloned().unwrap_or_default();
    let info = details.iter().find(|one| one["type"] == "google.rpc.ErrorInfo").expect("google.rpc details");
    let info = error_info(info["value"].as_str().unwrap_or_default()).unwrap();
    assert_eq!(info, ("safeconduct.dev".to_owned(), "PROOF_INVALID".to_owned()));
    assert!(details.iter().any(|one| one["type"] == "safeconduct.common.v1.Guidance"), "{details:?}");
}

#[tokio::test]
async fn a_python_client_tells_the_story_by_reflection() {
    if !works("python3", &["-c", "import grpc, grpc_reflection, grpc_status"]).await {
        return;
    }
    let suite = Suite::start(Options::new(Layout::Separate, Store::Embedded)).await.unwrap();
    let output = Command::new("python3")
        .arg(script("story.py"))
        .args(["--identity", &suite.address("identity").unwrap()])
        .args(["--connector", &suite.address("connector").unwrap()])
        .args(["--website-token", token::WEBSITE, "--agent-token", token::AGENT])
        .args(["--user-hash", &user_hash("cust_ada")])
        .output()
        .await
        .unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    let effects = suite.shop.effects().await.unwrap();
    assert_eq!(effects.refunds.len(), 1, "{told}");
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}
