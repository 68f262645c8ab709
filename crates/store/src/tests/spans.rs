//! Store calls are seen in traces, what they carry is not.

use std::fmt;
use std::sync::{Arc, LazyLock, Mutex};

use tracing::Dispatch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::Bench;
use crate::{Committed, Expected};

/// All names and values that spans were given, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.lock().unwrap().push(format!("{}={value:?}", field.name()));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        attributes.record(&mut self.clone());
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        values.record(&mut self.clone());
    }
}

/// While there is one subscriber only, a span that another thread is the first to meet is asked of that thread's
/// subscriber, and without one never seen again.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

impl Seen {
    fn watch(&self) -> DefaultGuard {
        LazyLock::force(&ANOTHER);
        tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()))
    }
}

async fn spans_name_the_call_and_never_its_key_or_value(bench: Bench, system: &str) {
    let seen = Seen::default();
    let watching = seen.watch();
    let change = [bench.put("order-4711", Expected::Absent, "hunter2", None)];
    assert_eq!(bench.commit(bench.operation(), &change).await, Committed::Done);
    bench.value("order-4711").await;
    bench.try_commit(bench.operation(), &[]).await.unwrap_err();
    drop(watching);
    let seen = seen.0.lock().unwrap().join("\n");
    for part in [
        format!("db.system.name={system:?}"),
        "db.operation.name=\"commit\"".to_owned(),
        "db.operation.name=\"read\"".to_owned(),
        "db.operation.batch.size=1".to_owned(),
        "error.type=\"invalid\"".to_owned(),
    ] {
        assert!(seen.contains(&part), "{part} is not in\n{seen}");
    }
    let key = bench.key("order-4711");
    assert!(!seen.contains("hunter2") && !seen.contains("4711") && !seen.contains(key.as_str()), "{seen}");
}

#[tokio::test]
async fn spans_of_the_embedded_store_name_the_call_and_never_its_key_or_value() {
    spans_name_the_call_and_never_its_key_or_value(Bench::embedded().await, "redb").await;
}

#[tokio::test]
async fn spans_of_redis_name_the_call_and_never_its_key_or_value() {
    spans_name_the_call_and_never_its_key_or_value(Bench::redis().await, "redis").await;
}
