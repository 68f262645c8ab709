//! Spans of store calls: which store, which operation, how many records. Never a key or a value.

use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use crate::StoreError;

pub(crate) async fn traced<T>(
    system: &'static str,
    operation: &'static str,
    records: usize,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let span = info_span!(
        "store",
        otel.kind = "client",
        otel.name = operation,
        db.system.name = system,
        db.operation.name = operation,
        db.operation.batch.size = records,
        "error.type" = Empty,
    );
    async {
        let answer = call.await;
        if let Err(error) = &answer {
            Span::current().record("error.type", error.name());
        }
        answer
    }
    .instrument(span)
    .await
}
