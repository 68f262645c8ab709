//! What is secret or personal is in no log line and in no span, however much is logged.

use std::collections::BTreeMap;
use std::time::Duration;

use safeconduct_testkit::{Ask, Collector, Layout, Options, ShopUser, Store, Suite, token, user_hash};
use serde_json::json;

use crate::{ORDER, succeeded};

const NOTE: &str = "canary-note-7d1f";

#[tokio::test]
async fn nothing_secret_or_personal_is_in_a_log_line_or_span() {
    let collector = Collector::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let mut options = Options::new(Layout::Separate, Store::Redis)
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())
        .set("OTEL_BSP_SCHEDULE_DELAY", "100")
        .set("SAFECONDUCT_LOG__FORMAT", "json")
        .set("SAFECONDUCT_LOG__LEVEL", "trace");
    options = options.set("SAFECONDUCT_DRAIN__GRACE", "100ms");
    let mut suite = Suite::start(options).await.unwrap();
    let (website, agent) = (suite.website().unwrap(), suite.agent().unwrap());
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    let inputs = json!({"order_id": ORDER, "amount": 4321, "note": NOTE});
    let ask = Ask::new(&ada, "refund-order", &inputs).key("canary-key");
    succeeded(&agent.execute(&Ask::new(&ada, "list-orders", &json!({}))).await.unwrap());
    succeeded(&agent.execute(&ask).await.unwrap());
    succeeded(&agent.execute(&ask).await.unwrap());
    // Refusals and failures are logged more than the rest.
    let forged = "f0".repeat(32);
    assert!(website.prove("cust_ada", &forged, &["support-agent"]).await.is_err());
    let wrong = json!({"order_id": format!("{NOTE}/.."), "amount": NOTE});
    assert!(agent.execute(&Ask::new(&ada, "refund-order", &wrong)).await.is_err());
    assert!(agent.execute(&Ask::new(&format!("{ada}x"), "refund-order", &inputs)).await.is_err());
    suite.shop.fault(&json!({"path": "/orders/", "kind": "html"})).await.unwrap();
    let get = Ask::new(&ada, "get-order", &json!({"order_id": ORDER}));
    agent.execute(&get).await.unwrap();
    suite.shop.fault(&json!({"path": "/orders/", "kind": {"status": 400}})).await.unwrap();
    agent.execute(&get).await.unwrap();

    // All of them are exported by now, or with the processes' end.
    for process in ["connector", "identity", "admission", "otp"] {
        suite.terminate(process).unwrap();
        suite.exit(process, Duration::from_secs(30)).await.unwrap();
    }
    let (spans, logs) = (collector.spans(), suite.logs());
    assert!(spans.len() > 50 && logs.lines().count() > 500, "{} spans, {} bytes of logs", spans.len(), logs.len());
    assert!(logs.contains("\"TRACE\""), "everything is logged");

    let signature = ada.rsplit_once('.').map_or("", |(_, signature)| signature);
    let hash = user_hash("cust_ada");
    let canaries: BTreeMap<&str, &str> = [
        ("the agent's token", token::AGENT),
        ("the website's token", token::WEBSITE),
        ("the sisters' token", token::SISTER),
        ("the shop's token", "sample-shop-token"),
        ("the workspace's secret", "test-messenger-secret"),
        ("a user hash", &hash),
        ("a forged hash", &forged),
        ("an assertion", &ada),
        ("an assertion's signature", signature),
        ("the user's id", "cust_ada"),
        ("an input", NOTE),
        ("an input that names an object", ORDER),
        ("an output", "Brass sextant"),
        ("an output that was dropped", "DUB-3"),
        ("an upstream's page", "Please sign in"),
    ]
    .into();
    for (what, canary) in canaries {
        for line in logs.lines() {
            assert!(!line.contains(canary), "{what} is in a log line: {}", around(line, canary));
        }
        for span in &spans {
            let text = format!("{span:?}");
            assert!(!text.contains(canary), "{what} is in a span: {}", around(&text, canary));
        }
    }
}

/// A long line, where it matters.
fn around(line: &str, canary: &str) -> String {
    let at = line.find(canary).unwrap_or_default();
    let start = line.floor_char_boundary(at.saturating_sub(300));
    let end = line.floor_char_boundary((at + canary.len() + 100).min(line.len()));
    line[start..end].to_owned()
}
