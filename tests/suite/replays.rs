//! A token that counts once proves somebody once, however many bring it to however many processes; and which keys are
//! in use, every process tells of all of them.

use std::collections::BTreeMap;
use std::fs;

use safeconduct_proto::identity::v1::VerifyIdentityRequest;
use safeconduct_proto::identity::v1::verify_identity_request::Proof;
use safeconduct_testkit::{Layout, Options, Refused, Store, Suite, run, token};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::token::{claims, hs256};

const SECRET: &str = "a-secret-for-tokens-of-more-than-thirty-two-bytes";
const REPLAYS: usize = 10_000;
/// Clients that ask at once, half of them at each process, with a connection for twenty of them.
const CLIENTS: usize = 400;
const PER_CONNECTION: usize = 20;

fn proof(jwt: String) -> VerifyIdentityRequest {
    VerifyIdentityRequest {
        workspace_id: "demo-shop".to_owned(),
        proof: Some(Proof::Jwt(jwt)),
        ..VerifyIdentityRequest::default()
    }
}

/// The suite with two processes of identity on one Redis, and tokens that count once.
async fn two_identities() -> anyhow::Result<Suite> {
    let sample = include_str!("../../crates/safeconduct/sample/workspaces/workspace.yaml");
    let one = "secrets: [{id: s1, secret: messenger, use: user_hash}]";
    assert!(sample.contains(one));
    let two = "tokens: {single_use: true}\n    \
        secrets: [{id: s1, secret: messenger, use: user_hash}, {id: t1, secret: tokens, use: jwt}]";
    let options = Options::new(Layout::Separate, Store::Redis).workspace(&sample.replace(one, two));
    let mut suite = Suite::start_with(options, |site| site.secret("demo-shop", "tokens", SECRET)).await?;
    suite.replicate("identity", "identity-two").await?;
    Ok(suite)
}

#[tokio::test]
async fn a_token_that_counts_once_counts_once_under_ten_thousand_replays_at_two_processes_on_redis() {
    let _turn = crate::load::turn().await;
    let suite = two_identities().await.unwrap();
    let mut once = claims("cust_ada");
    once["jti"] = json!("the-one");
    let jwt = hs256(SECRET, &once);
    let mut clients = JoinSet::new();
    for connection in 0..CLIENTS / PER_CONNECTION {
        let process = if connection.is_multiple_of(2) { "identity" } else { "identity-two" };
        let caller = suite.caller_of(process, token::WEBSITE).unwrap();
        for _ in 0..PER_CONNECTION {
            let (mut identity, jwt) = (caller.identity(), jwt.clone());
            clients.spawn(async move {
                let mut answers: BTreeMap<String, usize> = BTreeMap::new();
                for _ in 0..REPLAYS / CLIENTS {
                    let answer = match identity.verify_identity(proof(jwt.clone())).await {
                        Ok(_) => "proven".to_owned(),
                        Err(status) => Refused::read(&status).reason,
                    };
                    *answers.entry(answer).or_default() += 1;
                }
                answers
            });
        }
    }
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    for answers in clients.join_all().await {
        for (answer, count) in answers {
            *all.entry(answer).or_default() += count;
        }
    }
    assert_eq!(all.remove("proven"), Some(1), "{all:?}");
    // Whoever fails very often is told to wait; a machine that has more to do than it can says so, or hears of marks
    // too late to let anybody in.
    let told = ["PROOF_INVALID", "RATE_LIMITED", "OVERLOADED", "MARKS_LAGGING"];
    let refused = told.map(|reason| all.remove(reason).unwrap_or_default());
    assert_eq!((refused.iter().sum::<usize>(), all), (REPLAYS - 1, BTreeMap::new()));
    assert!(refused[0] > 0, "{refused:?}");
    once["jti"] = json!("another");
    let mut other = suite.caller_of("identity-two", token::WEBSITE).unwrap().identity();
    other.verify_identity(proof(hs256(SECRET, &once))).await.unwrap();
}

#[tokio::test]
async fn an_operator_sees_which_keys_are_in_use_at_any_process_and_after_a_restart() {
    let mut suite = two_identities().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let token_file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (ops, agent) = (token_file("ops", token::OPS), token_file("agent", token::AGENT));
    let used = async |suite: &Suite, process: &str, token_file: &str| {
        let address = format!("http://{}", suite.address_of(process, "identity").unwrap());
        let arguments = ["keys", "used", "--workspace", "demo-shop", "--address", &address, "--output", "json"];
        run(&[&arguments[..], &["--token-file", token_file]].concat(), &[]).await.unwrap()
    };
    let refused = used(&suite, "identity", &agent).await;
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    assert!(refused.text().contains("CALLER_NOT_ALLOWED"), "{}", refused.text());

    let last_uses = async |suite: &Suite, process: &str| -> Vec<(String, bool)> {
        let told = used(suite, process, &ops).await;
        assert_eq!(told.code, Some(0), "{}", told.text());
        assert!(!told.text().contains(SECRET));
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        let row = |key: &Value| (key["id"].as_str().unwrap().to_owned(), key["last_use_time"].is_string());
        told["keys"].as_array().unwrap().iter().map(row).collect()
    };
    let rows = |hash: bool, jwt: bool| vec![("s1".to_owned(), hash), ("t1".to_owned(), jwt)];
    assert_eq!(last_uses(&suite, "identity").await, rows(false, false));
    let mut claims = claims("cust_ada");
    claims["jti"] = json!("one");
    let mut identity = suite.caller_of("identity", token::WEBSITE).unwrap().identity();
    identity.verify_identity(proof(hs256(SECRET, &claims))).await.unwrap();
    // It is written beside the answer: a process that is asked to end ends its work first.
    suite.terminate("identity").unwrap();
    suite.exit("identity", std::time::Duration::from_secs(30)).await.unwrap();
    assert_eq!(last_uses(&suite, "identity-two").await, rows(false, true));
    suite.restart("identity").await.unwrap();
    assert_eq!(last_uses(&suite, "identity").await, rows(false, true));
}
