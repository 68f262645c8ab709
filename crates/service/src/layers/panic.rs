//! Inside the trace, which shows what it answers; outside everything else, so that a panic anywhere ends one call and
//! not the connection with all its other calls.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use http::Request;
use safeconduct_telemetry::propagate;
use tonic::Status;
use tonic::body::Body;

use super::{Metrics, Passing, Serve};

pub(super) struct Panic<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Panic<S> {
    pub(super) fn new(inner: S, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl<S: Serve> Serve for Panic<S> {
    fn serve(&self, request: Request<Body>) -> impl Future<Output = Passing> + Send + use<S> {
        let unwinding = Unwinding(Arc::clone(&self.metrics));
        // What calls share is atomic, or behind locks in whose every section it stays whole: what a panic leaves behind
        // can be used.
        let begun = catch_unwind(AssertUnwindSafe(|| self.inner.serve(request)));
        async move {
            let answered = match begun {
                Ok(answer) => AssertUnwindSafe(answer).catch_unwind().await,
                Err(payload) => Err(payload),
            };
            match answered {
                Ok(mut passing) => {
                    passing.held.unwinding = Some(unwinding);
                    passing
                }
                Err(payload) => unwinding.status(payload).into_http().into(),
            }
        }
    }
}

pub(super) struct Unwinding(Arc<Metrics>);

impl Unwinding {
    /// Without `ErrorInfo`, which would claim that the call had no effect: a handler that panicked may have acted.
    pub(super) fn status(&self, payload: Box<dyn Any + Send>) -> Status {
        // The payload can hold anything the handler held; nobody gets to see it.
        drop(payload);
        self.0.panics.fetch_add(1, Ordering::Relaxed);
        let trace = propagate::current_trace_id().unwrap_or_default();
        tracing::error!(trace, "a call ended in a panic");
        Status::internal(format!("a fault of ours ended this call; ask again with the same key (trace {trace})"))
    }
}

/// Has the process log where a panic happened and nothing of what it says, which the standard hook would print. To be
/// called once by the binary.
pub fn hide_panic_payloads() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
}
