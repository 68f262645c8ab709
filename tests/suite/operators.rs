//! What the people who operate the suite can find out and put right from the command line, and the trail that it
//! leaves.

use std::fs;

use safeconduct_proto::connector::v1::{Effect, Execution, ExecutionState, SettledBy};
use safeconduct_testkit::{Ask, Layout, Options, Output, ShopUser, Store, Suite, run, token, user_hash};
use serde_json::{Value, json};

use crate::{refund, succeeded};

struct Desk {
    suite: Suite,
    folder: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Self {
        let suite = Suite::start(Options::new(Layout::All, Store::Embedded)).await.unwrap();
        Self { suite, folder: tempfile::tempdir().unwrap() }
    }

    /// Runs a command as whoever has this token.
    async fn run(&self, service: &str, token: &str, arguments: &[&str]) -> Output {
        let file = self.folder.path().join("token");
        fs::write(&file, token).unwrap();
        let address = format!("http://{}", self.suite.address(service).unwrap());
        let common = ["--workspace", "demo-shop", "--address", &address, "--token-file", file.to_str().unwrap()];
        run(&[arguments, &common].concat(), &[]).await.unwrap()
    }

    /// A refund of which nobody knows whether it was made.
    async fn in_doubt(&self, ask: &Ask, happens: bool) -> Execution {
        let fault = json!({"method": "POST", "path": "/refunds", "after_effect": happens, "kind": {"status": 500}});
        self.suite.shop.fault(&fault).await.unwrap();
        let execution = self.suite.agent().unwrap().execute(ask).await.unwrap();
        assert_eq!(execution.state(), ExecutionState::OutcomeUnknown, "{execution:?}");
        execution
    }

    async fn refunds(&self) -> usize {
        self.suite.shop.effects().await.unwrap().refunds.len()
    }
}

const WHY: [&str; 2] = ["--reason", "ticket 4711: the shop has no such refund"];

#[tokio::test]
async fn an_operator_frees_a_key_in_doubt_and_the_request_has_its_one_effect() {
    let desk = Desk::new().await;
    let ada = desk.suite.assertion(ShopUser::Ada).await.unwrap();
    let ask = Ask::new(&ada, "refund-order-unkeyed", &refund(78)).key("doubt");
    let first = desk.in_doubt(&ask, false).await;
    let id = first.execution_id.as_str();
    let release = [&["release-key", id], &WHY[..]].concat();

    for token in [token::AGENT, token::WEBSITE] {
        let refused = desk.run("connector", token, &release).await;
        assert_eq!(refused.code, Some(1), "only operators: {}", refused.text());
    }
    let agent = desk.suite.agent().unwrap();
    assert_eq!(agent.execute(&ask).await.unwrap().state(), ExecutionState::OutcomeUnknown);

    let done = desk.run("connector", token::OPS, &release).await;
    assert_eq!(done.code, Some(0), "{}", done.text());
    let found = agent.get(&ada, id).await.unwrap();
    assert_eq!((found.state(), found.effect()), (ExecutionState::Failed, Effect::None), "{found:?}");
    assert_eq!(found.settled_by(), SettledBy::Operator);
    let again = agent.execute(&ask).await.unwrap();
    succeeded(&again);
    assert_ne!(again.execution_id, id);
    assert_eq!(desk.refunds().await, 1);

    let logs = desk.suite.logs();
    let trail = logs.lines().find(|line| line.contains("release_key") && line.contains("an operator acted"));
    let trail = trail.unwrap_or_else(|| panic!("no trail: {logs}"));
    for part in ["ops", id, "ticket 4711"] {
        assert!(trail.contains(part), "{part}: {trail}");
    }
    assert!(!trail.contains("cust_ada"), "{trail}");
    // What is free is not freed again, and says so.
    let twice = desk.run("connector", token::OPS, &[&release[..], &["--output", "json"]].concat()).await;
    assert_eq!(serde_json::from_str::<Value>(&twice.stdout).unwrap()["released"], json!(false), "{}", twice.text());
}

#[tokio::test]
async fn what_is_known_to_have_happened_is_freed_only_if_that_is_said_too() {
    let desk = Desk::new().await;
    let ada = desk.suite.assertion(ShopUser::Ada).await.unwrap();
    let ask = Ask::new(&ada, "refund-order-unkeyed", &refund(79)).key("done");
    let agent = desk.suite.agent().unwrap();
    let first = agent.execute(&ask).await.unwrap();
    succeeded(&first);
    let id = first.execution_id.as_str();
    let release = [&["release-key", id], &WHY[..]].concat();
    let refused = desk.run("connector", token::OPS, &release).await;
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    assert!(refused.text().contains("--although-it-happened"), "{}", refused.text());
    assert_eq!(agent.execute(&ask).await.unwrap().execution_id, id);

    let done = desk.run("connector", token::OPS, &[&release[..], &["--although-it-happened"]].concat()).await;
    assert_eq!(done.code, Some(0), "{}", done.text());
    // What it did stays what it did.
    let found = agent.get(&ada, id).await.unwrap();
    assert_eq!((found.state(), found.effect()), (ExecutionState::Succeeded, Effect::Happened), "{found:?}");
    let again = agent.execute(&ask).await.unwrap();
    assert!(again.replay.is_none() && again.execution_id != id, "{again:?}");
    assert_eq!(desk.refunds().await, 2);
}

#[tokio::test]
async fn an_operator_says_what_became_of_an_execution_and_that_is_replayed() {
    let desk = Desk::new().await;
    let ada = desk.suite.assertion(ShopUser::Ada).await.unwrap();
    let ask = Ask::new(&ada, "refund-order-unkeyed", &refund(80)).key("settle");
    let first = desk.in_doubt(&ask, true).await;
    let id = first.execution_id.as_str();
    let saying =
        |output: &'static str| [&["settle", id, "--state", "succeeded", "--output-json", output], &WHY[..]].concat();
    let settle = saying(r#"{"refund_id":"ref_1","amount":80,"status":"done"}"#);
    let refused = desk.run("connector", token::AGENT, &settle).await;
    assert_eq!(refused.code, Some(1), "only operators: {}", refused.text());
    let other = desk.run("connector", token::OPS, &saying(r#"{"refund_id":7,"amount":80,"status":"done"}"#)).await;
    assert!(other.code == Some(1) && other.text().contains("output_json.refund_id"), "{}", other.text());
    let done = desk.run("connector", token::OPS, &settle).await;
    assert_eq!(done.code, Some(0), "{}", done.text());
    let again = desk.suite.agent().unwrap().execute(&ask).await.unwrap();
    assert_eq!(succeeded(&again)["refund_id"], "ref_1");
    assert_eq!((again.execution_id.as_str(), again.settled_by()), (id, SettledBy::Operator));
    assert_eq!((again.effect(), desk.refunds().await), (Effect::Happened, 1));
    // The first word stands.
    let twice = desk.run("connector", token::OPS, &settle).await;
    assert!(twice.code == Some(1) && twice.text().contains("LEASE_LOST"), "{}", twice.text());
}

#[tokio::test]
async fn usage_shows_what_is_taken_and_what_is_left() {
    let desk = Desk::new().await;
    let website = desk.suite.website().unwrap();
    let proven = website.prove("cust_ada", &user_hash("cust_ada"), &["support-agent"]).await.unwrap();
    let (ada, contact) = (proven.assertion, proven.contact.unwrap().contact_id);
    let agent = desk.suite.agent().unwrap();
    let folder = desk.suite.site().folder().join("workspaces");
    let usage = ["usage", "--definitions", folder.to_str().unwrap(), "--contact-id", &contact, "--output", "json"];
    let money = async || -> Value {
        let shown = desk.run("admission", token::OPS, &usage).await;
        assert_eq!(shown.code, Some(0), "{}", shown.text());
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        let limits = shown["limits"].as_array().unwrap();
        limits.iter().find(|one| one["name"] == "money-out").unwrap_or_else(|| panic!("{shown}")).clone()
    };
    let before = money().await;
    assert_eq!(before["used"], json!(0), "{before}");
    succeeded(&agent.execute(&Ask::new(&ada, "refund-order", &refund(1299)).key("usage")).await.unwrap());
    let after = money().await;
    assert_eq!(after["used"], json!(1299), "{after}");
    assert_eq!(after["left"].as_i64().unwrap() + 1299, after["max"].as_i64().unwrap(), "{after}");
    let refused = desk.run("admission", token::AGENT, &usage).await;
    assert!(refused.code == Some(1) && refused.text().contains("CALLER_NOT_ALLOWED"), "{}", refused.text());
    let logs = desk.suite.logs();
    let trail: Vec<&str> = logs.lines().filter(|line| line.contains("an operator looked")).collect();
    assert_eq!(trail.len(), 2, "each look, and nobody's who was refused: {trail:?}");
    for line in trail {
        assert!(["get_usage", "ops", "demo-shop"].iter().all(|part| line.contains(part)), "{line}");
        assert!(!line.contains("cust_ada") && !line.contains(&contact), "{line}");
    }
    let table = desk.run("admission", token::OPS, &usage[..5]).await;
    assert!(table.stdout.contains("money-out") && table.stdout.contains("1299"), "{}", table.text());
    let of_all = desk.run("admission", token::OPS, &usage[..3]).await;
    assert!(of_all.code == Some(0) && !of_all.stdout.contains("money-out"), "{}", of_all.text());
}
