//! Bad input at every edge gets a clear error and has no effect.

use safeconduct_proto::connector::v1::{Effect, ExecuteRequest, Execution, ExecutionState, FailureClass};
use safeconduct_testkit::{
    Ask, Caller, Layout, Options, Output, ShopUser, Site, Store, Suite, has_error_info, run, token,
};
use safeconduct_types::{Clock as _, SystemClock};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;
use tonic::{Code, Request};

use crate::{ORDER, refund, refused, refused_field, succeeded};

/// A workspace of its own with a public read whose input has no pattern: only the path's template stands in between.
const PAGES: &str = "\
apiVersion: safeconduct.dev/v1
kind: Workspace
metadata: {workspace: other-shop}
spec:
  upstreams: {shop: {url: 'http://127.0.0.1:1/', insecure_http: true, allow_addresses: [127.0.0.0/8]}}
---
apiVersion: safeconduct.dev/v1
kind: Connector
metadata: {workspace: demo-shop, name: read-page, version: v1}
spec:
  effect: read
  sensitivity: public
  inputs: {page: {from: agent, schema: {type: string, maxLength: 64}}}
  request: {upstream: shop, method: GET, path: '/v2/pages/${inputs.page}'}
";

fn options() -> Options {
    Options::new(Layout::All, Store::Embedded).file("pages.yaml", PAGES)
}

#[tokio::test]
async fn inputs_that_do_not_have_the_declared_form_are_refused_and_nothing_is_sent() {
    let suite = Suite::start(options()).await.unwrap();
    let (agent, ada) = (suite.agent().unwrap(), suite.assertion(ShopUser::Ada).await.unwrap());
    let ask = |inputs: &str| Ask { inputs: inputs.to_owned(), ..Ask::new(&ada, "refund-order", &Value::Null) };
    for (inputs, field) in [
        (r#"{"order_id":"ord_a1b2c3"}"#, "amount"),
        (r#"{"order_id":"ord_a1b2c3","amount":"5"}"#, "amount"),
        (r#"{"order_id":"ord_a1b2c3","amount":1.5}"#, "amount"),
        (r#"{"order_id":"ord_a1b2c3","amount":0}"#, "amount"),
        (r#"{"order_id":"ord_a1b2c3","amount":99999999999999999999999}"#, "amount"),
        (r#"{"order_id":"ord_a1b2c3","amount":null}"#, "amount"),
        (r#"{"order_id":["ord_a1b2c3"],"amount":5}"#, "order_id"),
        (r#"{"order_id":"Ord_A1B2C3","amount":5}"#, "order_id"),
        (r#"{"order_id":"ord_a1b2c3\n","amount":5}"#, "order_id"),
        (r#"{"order_id":"ord_a1b2c3","amount":5,"customer_id":"cust_grace"}"#, "customer_id"),
        (r#"{"order_id":"ord_a1b2c3","amount":5,"amuont":6}"#, "amuont"),
        (r#"{"order_id":"ord_a1b2c3","amount":5,"amount":6}"#, "inputs"),
        (r#"{"order_id":"ord_a1b2c3","amount":5,"#, "inputs"),
        ("[]", "inputs"),
        ("null", "inputs"),
        (r#"{"order_id":"ord_a1b2c3","amount":{"$serde_json::private::Number":"5"}}"#, ""),
    ] {
        refused_field(agent.execute(&ask(inputs)).await, field);
    }
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    refused_field(agent.execute(&ask(&format!(r#"{{"order_id":{deep},"amount":5}}"#))).await, "");
    let long = format!(r#"{{"order_id":"ord_a1b2c3","amount":5,"note":"{}"}}"#, "x".repeat(70_000));
    refused_field(agent.execute(&ask(&long)).await, "inputs");
    // All that is wrong is told at once.
    let all =
        refused(agent.execute(&ask(r#"{"order_id":7,"amount":"x"}"#)).await, Code::InvalidArgument, "INPUT_INVALID");
    assert!(all.fields.len() >= 2 && !all.message.contains('7'), "{all:?}");

    for page in ["..", ".", "a/b", "%2e%2e", "%252e%252e", "a\\b", "..;a", "\u{ff0e}\u{ff0e}", "a\u{0}b"] {
        refused_field(agent.execute(&Ask::new(&ada, "read-page", &json!({"page": page}))).await, "page");
    }
    for (key, field) in [("\u{e9}", "idempotency_key"), (&"k".repeat(129), "idempotency_key")] {
        refused_field(agent.execute(&Ask::new(&ada, "refund-order", &refund(5)).key(key)).await, field);
    }
    refused_field(agent.execute(&Ask::new(&ada, "Refund Order", &refund(5))).await, "connector");
    refused(agent.execute(&Ask::new(&ada, "no-such", &json!({}))).await, Code::NotFound, "CONNECTOR_UNKNOWN");
    let pinned = ExecuteRequest {
        assertion: ada.clone(),
        connector: "refund-order".to_owned(),
        version: "v9".to_owned(),
        inputs_json: refund(5).to_string(),
        ..ExecuteRequest::default()
    };
    refused(agent.connector().execute(pinned).await, Code::NotFound, "VERSION_UNKNOWN");
    assert_eq!(suite.shop.effects().await.unwrap().calls, 0, "nothing was sent");
}

#[tokio::test]
async fn messages_and_headers_out_of_bounds_are_refused_and_nothing_is_sent() {
    let suite = Suite::start(options()).await.unwrap();
    let (agent, ada) = (suite.agent().unwrap(), suite.assertion(ShopUser::Ada).await.unwrap());
    let huge = Ask { inputs: format!("\"{}\"", "x".repeat(8 << 20)), ..Ask::new(&ada, "refund-order", &Value::Null) };
    refused(agent.execute(&huge).await, Code::InvalidArgument, "INPUT_INVALID");

    for timeout in ["soon", "5", "123456789S", "-1S", "1s "] {
        let mut request = Request::new(ExecuteRequest {
            assertion: ada.clone(),
            connector: "refund-order".to_owned(),
            inputs_json: refund(5).to_string(),
            ..ExecuteRequest::default()
        });
        request.metadata_mut().insert("grpc-timeout", timeout.trim_end_matches('\n').parse().unwrap());
        let status = agent.connector().execute(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{timeout:?}: {status:?}");
        assert!(has_error_info(&status), "{timeout:?}: {status:?}");
    }
    assert_eq!(suite.shop.effects().await.unwrap().calls, 0, "nothing was sent");
}

/// What the shop does instead of answering rightly.
fn unusable() -> Vec<(&'static str, Value)> {
    vec![
        ("html", json!("html")),
        ("10 MiB", json!({"huge": 10 << 20})),
        ("nothing", json!("empty")),
        ("another shape", json!({"body": "{\"refund\":{\"id\":7},\"orders\":\"none\"}"})),
        ("no json", json!({"body": "{\"refund\":"})),
        ("depth", json!({"body": format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))})),
    ]
}

async fn with_fault(suite: &Suite, agent: &Caller, method: &str, kind: &Value, ask: &Ask) -> anyhow::Result<Execution> {
    let path = if method == "POST" { "/refunds" } else { "" };
    suite.shop.fault(&json!({"method": method, "path": path, "after_effect": true, "kind": kind})).await?;
    Ok(agent.execute(ask).await?)
}

#[tokio::test]
async fn a_read_with_an_unusable_answer_has_failed() {
    let suite = Suite::start(options()).await.unwrap();
    let (agent, ada) = (suite.agent().unwrap(), suite.assertion(ShopUser::Ada).await.unwrap());
    let list = Ask::new(&ada, "list-orders", &json!({}));
    for (name, kind) in unusable() {
        let execution = with_fault(&suite, &agent, "GET", &kind, &list).await.unwrap();
        assert_eq!(execution.state(), ExecutionState::Failed, "{name}: {execution:?}");
        assert_eq!(execution.effect(), Effect::None, "{name}");
        let failure = execution.failure.unwrap_or_default();
        assert_eq!(failure.class(), FailureClass::InvalidResponse, "{name}: {failure:?}");
        assert!(execution.output_json.is_empty(), "{name}");
    }
    // A redirect is not followed: nobody else gets the credential.
    let away = json!({"redirect": format!("http://{}/v2/customers/cust_grace/orders", suite.shop.address())});
    let before = suite.shop.effects().await.unwrap().calls;
    let execution = with_fault(&suite, &agent, "GET", &away, &list).await.unwrap();
    assert_eq!(execution.state(), ExecutionState::Failed, "{execution:?}");
    assert_eq!(suite.shop.effects().await.unwrap().calls, before + 1);
    succeeded(&agent.execute(&list).await.unwrap());
}

#[tokio::test]
async fn a_write_with_an_unusable_answer_has_succeeded_without_output_and_is_not_sent_again() {
    let suite = Suite::start(options()).await.unwrap();
    let (agent, ada) = (suite.agent().unwrap(), suite.assertion(ShopUser::Ada).await.unwrap());
    for (n, (name, kind)) in unusable().into_iter().enumerate() {
        let ask = Ask::new(&ada, "refund-order", &refund(100 + u32::try_from(n).unwrap()));
        let execution = with_fault(&suite, &agent, "POST", &kind, &ask).await.unwrap();
        assert_eq!(execution.state(), ExecutionState::Succeeded, "{name}: {execution:?}");
        assert_eq!(execution.effect(), Effect::Happened, "{name}");
        assert!(execution.output_error.is_some() && execution.output_json.is_empty(), "{name}: {execution:?}");
        let again = agent.execute(&ask).await.unwrap();
        assert_eq!((again.state(), again.execution_id), (ExecutionState::Succeeded, execution.execution_id), "{name}");
        assert_eq!(again.output_error, execution.output_error);
        assert_eq!(suite.shop.effects().await.unwrap().refunds.len(), n + 1, "{name}: one effect");
    }
}

#[tokio::test]
async fn an_upstream_that_never_answers_costs_15_seconds_at_most_and_nobody_is_told_more_than_is_known() {
    let suite = Suite::start(options()).await.unwrap();
    let (agent, ada) = (suite.agent().unwrap(), suite.assertion(ShopUser::Ada).await.unwrap());
    for (method, path) in [("POST", "/refunds"), ("GET", "/parcel")] {
        suite.shop.fault(&json!({"method": method, "path": path, "times": 9, "kind": "hang"})).await.unwrap();
    }
    let began = SystemClock.instant();
    let write = Ask::new(&ada, "refund-order-unkeyed", &refund(66));
    let read = Ask::new(&ada, "track-parcel", &json!({"order_id": ORDER}));
    let (write, read) = tokio::join!(agent.execute(&write), agent.execute(&read));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(17), "{took:?}");
    let (write, read) = (write.unwrap(), read.unwrap());
    assert_eq!((write.state(), write.effect()), (ExecutionState::OutcomeUnknown, Effect::Possible), "{write:?}");
    assert_eq!((read.state(), read.effect()), (ExecutionState::Failed, Effect::None), "{read:?}");
    assert_eq!(read.failure.unwrap_or_default().class(), FailureClass::Timeout);
    assert_eq!(suite.shop.effects().await.unwrap().refund_calls, 1, "a write without a key is sent once");
}

#[tokio::test]
async fn an_upstream_that_refuses_is_told_with_the_declared_fields_and_no_more() {
    let suite = Suite::start(options()).await.unwrap();
    let (agent, ada) = (suite.agent().unwrap(), suite.assertion(ShopUser::Ada).await.unwrap());
    let ask = Ask::new(&ada, "refund-order", &refund(55));
    suite.shop.fault(&json!({"method": "POST", "kind": {"status": 400}})).await.unwrap();
    let execution = agent.execute(&ask).await.unwrap();
    assert_eq!((execution.state(), execution.effect()), (ExecutionState::Failed, Effect::None), "{execution:?}");
    assert_eq!(execution.failure.unwrap_or_default().class(), FailureClass::Rejected);
    let unknown = Ask::new(&ada, "get-order", &json!({"order_id": ORDER}));
    suite.shop.fault(&json!({"path": "/v2/orders/", "kind": {"status": 404}})).await.unwrap();
    let execution = agent.execute(&unknown).await.unwrap();
    let failure = execution.failure.clone().unwrap_or_default();
    assert_eq!((execution.state(), failure.class()), (ExecutionState::Failed, FailureClass::Rejected), "{execution:?}");
    assert_eq!(failure.http_status, 404);
    assert_eq!(failure.problem_json, r#"{"code":"fault"}"#);
}

/// The line of a file that contains this text, from 1.
fn line_of(site: &Site, file: &str, text: &str) -> usize {
    let content = fs::read_to_string(site.folder().join("workspaces").join(file)).unwrap();
    content.lines().position(|line| line.contains(text)).unwrap() + 1
}

#[tokio::test]
async fn mistakes_in_yaml_are_told_with_file_line_and_column() {
    for (from, to, place, column, code) in [
        ("  idempotency:", "  idempotenty:", "idempotenty:", 3, "UNKNOWN_FIELD"),
        ("effect: write", "effect: wirte", "wirte", 11, "BAD_VALUE"),
        ("plain: true, schema", "plain: 1, schema", "plain: 1", 34, "WRONG_TYPE"),
        (
            "path: /v2/orders/${inputs.order_id}",
            "path: /v2/orders/${input.order_id}",
            "${input.order",
            11,
            "TEMPLATE_INVALID",
        ),
        ("upstream: shop", "upstream: shoop", "shoop", 15, "UPSTREAM_UNKNOWN"),
        ("  idempotency:\n", "  idempotency: [\n", "", 0, "YAML_SYNTAX"),
        ("accept: [SIGNED]", "accept: [CLIENT]", "CLIENT", 0, "UNVERIFIED_IDENTIFIER"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::write(folder.path(), "127.0.0.1:1").unwrap();
        let fine = run(&["check", &folder_of(&site)], &[]).await.unwrap();
        assert_eq!(fine.code, Some(0), "the sample has no mistakes:\n{}", fine.text());
        site.edit("refund-order.yaml", from, to).unwrap();
        let told = run(&["check", &folder_of(&site)], &[]).await.unwrap();
        assert_eq!(told.code, Some(65), "{code}:\n{}", told.text());
        let found = told.text();
        assert!(found.contains(&format!("[{code}]")) && found.contains("refund-order.yaml:"), "{code}:\n{found}");
        if column > 0 {
            let place =
                format!("refund-order.yaml:{}:{column}: error[{code}]", line_of(&site, "refund-order.yaml", place));
            assert!(found.contains(&place), "{place} is not in:\n{found}");
        }
    }
}

#[tokio::test]
async fn a_workspace_with_a_mistake_is_not_served_and_touches_no_other() {
    let broken = PAGES.replace("metadata: {workspace: demo-shop, name", "metadata: {workspace: other-shop, name");
    let broken = broken.replace("  sensitivity: public", "  sensitivty: public");
    let suite = Suite::start(Options::new(Layout::All, Store::Embedded).file("other.yaml", &broken)).await.unwrap();
    let line = broken.lines().position(|line| line.contains("sensitivty")).unwrap() + 1;
    let logs = suite.logs();
    assert!(logs.contains(&format!("other.yaml:{line}:3")) && logs.contains("UNKNOWN_FIELD"), "{logs}");
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    succeeded(&suite.agent().unwrap().execute(&Ask::new(&ada, "list-orders", &json!({}))).await.unwrap());
}

#[tokio::test]
async fn a_process_without_a_workspace_that_can_be_taken_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::write(folder.path(), "127.0.0.1:1").unwrap();
    site.edit("refund-order.yaml", "  idempotency:", "  idempotenty:").unwrap();
    let line = line_of(&site, "refund-order.yaml", "idempotenty:");
    let (ready, data) = (folder.path().join("ready"), folder.path().join("data"));
    let (ready_text, data) = (ready.to_string_lossy().into_owned(), data.to_string_lossy().into_owned());
    let arguments = ["serve", "all", "--config", &folder_of(&site), "--data-dir", &data, "--ready-file", &ready_text];
    let ended = run(&arguments, &[]).await.unwrap();
    assert_eq!(ended.code, Some(65), "{}", ended.text());
    assert!(ended.stderr.contains(&format!("refund-order.yaml:{line}:3: error[UNKNOWN_FIELD]")), "{}", ended.text());
    assert!(!ready.exists());
}

#[tokio::test]
async fn wrong_settings_end_the_process_with_64_before_a_port_is_bound() {
    for (more, name, value, told) in [
        ("[lmits]\nin_flight = 1\n", "", "", "lmits"),
        ("[limits]\nin_flihgt = 1\n", "", "", "in_flihgt"),
        ("[limits]\nin_flight = \"many\"\n", "", "", "in_flight"),
        ("[limits]\nin_flight = 0\n", "", "", "in_flight"),
        ("[limits\n", "", "", "safeconduct.toml"),
        ("", "SAFECONDUCT_STORE__KIDN", "redis", "SAFECONDUCT_STORE__KIDN"),
        ("", "SAFECONDUCT_STORE__KIND", "postgres", "SAFECONDUCT_STORE__KIND"),
        ("", "SAFECONDUCT_CONNECTOR__LISTEN", "here", "SAFECONDUCT_CONNECTOR__LISTEN"),
        ("", "SAFECONDUCT_CONNECTOR__LISTEN", "0.0.0.0:0", "connector"),
        ("", "SAFECONDUCT_OPERATIONS__LISTEN", "[::]:0", "operations"),
        ("[otp.tls]\ncert = \"/dev/null\"\nkey = \"/dev/null\"\n", "", "", "otp.tls.cert"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::write(folder.path(), "127.0.0.1:1").unwrap();
        let settings = fs::read_to_string(site.settings()).unwrap();
        fs::write(site.settings(), format!("{settings}\n{more}")).unwrap();
        let (ready, data) = (folder.path().join("ready"), folder.path().join("data"));
        let (ready_text, data) = (ready.to_string_lossy().into_owned(), data.to_string_lossy().into_owned());
        let arguments =
            ["serve", "all", "--config", &folder_of(&site), "--data-dir", &data, "--ready-file", &ready_text];
        let environment: &[(&str, &str)] = if name.is_empty() { &[] } else { &[(name, value)] };
        let ended = run(&arguments, environment).await.unwrap();
        assert_eq!(ended.code, Some(64), "{more}{name}={value}:\n{}", ended.text());
        assert!(ended.stderr.contains(told), "{told} is not told:\n{}", ended.text());
        assert!(!ready.exists() && !ended.text().contains(token::AGENT));
    }
}

/// Whoever starts it takes an end by a signal for a crash; what its threads were doing then is no reason for one.
#[tokio::test]
async fn a_process_that_ends_while_its_threads_work_says_how_it_ended() {
    const AT_ONCE: usize = 6;
    for _ in 0..8 {
        let ends: [_; AT_ONCE] = std::array::from_fn(|_| tokio::spawn(ends_when_all_is_open()));
        for ended in ends {
            let ended = ended.await.unwrap();
            assert_eq!(ended.code, Some(64), "{}", ended.text());
        }
    }
}

/// A certificate is looked at last, when the stores are open and everything in the background has begun.
async fn ends_when_all_is_open() -> Output {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::write(folder.path(), "127.0.0.1:1").unwrap();
    let settings = fs::read_to_string(site.settings()).unwrap();
    let broken = "[otp.tls]\ncert = \"/dev/null\"\nkey = \"/dev/null\"\n";
    fs::write(site.settings(), format!("{settings}\n{broken}")).unwrap();
    let data = folder.path().join("data").to_string_lossy().into_owned();
    run(&["serve", "all", "--config", &folder_of(&site), "--data-dir", &data], &[]).await.unwrap()
}

#[tokio::test]
async fn a_store_without_its_keys_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::write(folder.path(), "127.0.0.1:1").unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("admission.redb"), "what was done").unwrap();
    let data = data.to_string_lossy().into_owned();
    let arguments = ["serve", "all", "--config", &folder_of(&site), "--data-dir", &data];
    let redis: &[(&str, &str)] =
        &[("SAFECONDUCT_STORE__KIND", "redis"), ("SAFECONDUCT_STORE__URL", "redis://127.0.0.1:1")];
    // Keys made now would find nothing of what was done, and all of it could be done again.
    for environment in [&[], redis] {
        let ended = run(&arguments, environment).await.unwrap();
        assert_eq!(ended.code, Some(64), "{}", ended.text());
        assert!(ended.stderr.contains("key files are missing"), "{}", ended.text());
        assert!(!folder.path().join("data/keys").exists(), "nothing was made");
    }
}

fn folder_of(site: &Site) -> String {
    site.folder().to_string_lossy().into_owned()
}
