//! One trace covers an execution: the caller's own, through connector and admission, out to the upstream.

use std::collections::BTreeMap;
use std::time::Duration;

use safeconduct_testkit::{Ask, CollectedSpan, Collector, Layout, Options, ShopUser, Store, Suite};

use crate::{refund, succeeded};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn in_one_process_a_trace_covers_the_services_and_the_upstream() {
    traced(Layout::All).await.unwrap();
}

#[tokio::test]
async fn over_four_processes_a_trace_covers_the_services_and_the_upstream() {
    traced(Layout::Separate).await.unwrap();
}

async fn traced(layout: Layout) -> anyhow::Result<()> {
    let collector = Collector::bind(([127, 0, 0, 1], 0).into())?;
    let options = Options::new(layout, Store::Embedded)
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())
        .set("OTEL_BSP_SCHEDULE_DELAY", "100");
    let suite = Suite::start(options).await?;
    let ada = suite.assertion(ShopUser::Ada).await?;
    let ask = Ask::new(&ada, "refund-order", &refund(321)).key("traced");
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let execution = suite.agent()?.execute_in(&ask, &traceparent).await?;
    succeeded(&execution);
    assert_eq!(execution.trace_id, TRACE);

    // The upstream got the same trace, and as its parent the span of the call to it.
    let effects = suite.shop.effects().await?;
    let at = effects.paths.iter().position(|path| path.ends_with("/refunds")).unwrap_or(usize::MAX);
    let received: Vec<&str> = effects.traceparents.get(at).map(|text| text.split('-').collect()).unwrap_or_default();
    assert_eq!(received.get(1), Some(&TRACE), "{effects:?}");
    let call = received.get(2).copied().unwrap_or_default().to_owned();

    let rpc = |spans: &[CollectedSpan], method: &str| {
        spans.iter().any(|span| span.trace_id == TRACE && span.kind == "server" && span.name.contains(method))
    };
    let enough = |spans: &[CollectedSpan]| {
        ["/Execute", "/Lookup", "/Admit", "/Settle"].iter().all(|method| rpc(spans, method))
            && spans.iter().any(|span| span.span_id == call)
    };
    let spans = collector.wait_for(enough, Duration::from_secs(15)).await;
    let spans = spans.unwrap_or_else(|spans| {
        let names: Vec<String> =
            spans.iter().map(|span| format!("{} {} {}", span.trace_id, span.kind, span.name)).collect();
        panic!("the trace lacks a span:\n{}", names.join("\n"))
    });
    // What asks several times a second is in nobody's way. It has asked: otherwise nobody's assertion had counted.
    let polls: Vec<&CollectedSpan> = spans.iter().filter(|span| span.name.contains("/GetJwks")).collect();
    assert!(polls.is_empty(), "{polls:?}");

    let spans: BTreeMap<&str, &CollectedSpan> =
        spans.iter().filter(|span| span.trace_id == TRACE).map(|span| (span.span_id.as_str(), span)).collect();

    // Every span leads to the caller's: there is one tree.
    for span in spans.values() {
        let mut at = *span;
        let mut names = vec![at.name.as_str()];
        while let Some(parent) = at.parent_id.as_deref().filter(|parent| *parent != PARENT) {
            let Some(next) = spans.get(parent) else { panic!("{names:?} lead to a span that was not exported") };
            names.push(&next.name);
            at = next;
        }
        assert_eq!(at.parent_id.as_deref(), Some(PARENT), "{names:?} does not lead to the caller");
    }
    assert_eq!(
        spans.get(call.as_str()).map(|span| span.kind),
        Some("client"),
        "the upstream's parent is the call to it"
    );
    let services: std::collections::BTreeSet<&str> = spans.values().map(|span| span.service.as_str()).collect();
    if layout == Layout::Separate {
        assert!(services.len() >= 2, "{services:?}");
    }
    Ok(())
}
