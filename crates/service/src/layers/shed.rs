//! Inside the deadline, so that what is admitted is bounded in time too; outside the caller, because checking a
//! signature is work that a flood must not be able to order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use safeconduct_types::{Reason, Refusal};
use tonic::body::Body;

use super::{InProcess, Metrics, Passing, Serve, is_health, refuse};

/// How long whoever was turned away should wait at least.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How many calls the process has let in, over all listeners and runtimes.
#[derive(Debug)]
pub(crate) struct Gate {
    inside: AtomicUsize,
    max: usize,
}

impl Gate {
    pub(crate) fn new(max: usize) -> Self {
        Self { inside: AtomicUsize::new(0), max }
    }

    fn enter(self: &Arc<Self>) -> Option<Permit> {
        if self.inside.fetch_add(1, Ordering::Relaxed) < self.max {
            return Some(Permit(Arc::clone(self)));
        }
        self.inside.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

/// The right to be inside, until the last byte of the answer is handed over.
pub(super) struct Permit(Arc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Shed<S> {
    inner: S,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
}

impl<S> Shed<S> {
    pub(super) fn new(inner: S, gate: Arc<Gate>, metrics: Arc<Metrics>) -> Self {
        Self { inner, gate, metrics }
    }
}

impl<S: Serve> Shed<S> {
    /// A place for this call, if it needs one.
    fn place(&self, request: &Request<Body>) -> Result<Option<Permit>, Refusal> {
        // A call from within belongs to one that was let in; refusing it would waste what that one has done.
        if is_health(request) || request.extensions().get::<InProcess>().is_some() {
            return Ok(None);
        }
        if let Some(permit) = self.gate.enter() {
            return Ok(Some(permit));
        }
        self.metrics.shed.fetch_add(1, Ordering::Relaxed);
        let refusal = Refusal::new(Reason::Overloaded, "too many calls are in flight; try again in a moment");
        Err(refusal.with_retry_after(RETRY_AFTER))
    }
}

impl<S: Serve> Serve for Shed<S> {
    fn serve(&self, request: Request<Body>) -> impl Future<Output = Passing> + Send + use<S> {
        let begun = self.place(&request).map(|permit| (permit, self.inner.serve(request)));
        async move {
            match begun {
                Ok((permit, answer)) => {
                    let mut passing = answer.await;
                    passing.held.permit = permit;
                    passing
                }
                Err(refusal) => refuse(&refusal).into(),
            }
        }
    }
}
