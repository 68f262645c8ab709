//! Calls that another worker runs.
//!
//! A connection stays with its worker, which is what makes cheap calls cheap. But a caller with one connection and
//! costly calls would be served by one core while the others idle. So calls of methods that have proven costly go to
//! the worker that has the fewest of them, if that is less than half as many as here and its own connections ask for
//! far less. Handing one over wakes two threads and answers one call where several would be answered at once, which
//! only those can bear, and only where somebody else is idle.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use safeconduct_types::Clock;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;

use super::demand::{Demand, Tick};
use crate::layers::{Answer, Arrived, Layered, Method};

/// From this much work on a call is worth handing over.
const COSTLY: Duration = Duration::from_micros(50);

/// A worker as the others see it.
#[derive(Clone, Debug)]
pub(super) struct Lender {
    handle: Handle,
    /// Costly calls that it runs.
    calls: Arc<AtomicUsize>,
    /// Costly calls that its own connections bring.
    demand: Arc<Demand>,
}

impl Lender {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, calls: Arc::default(), demand: Arc::default() }
    }

    fn load(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

/// All workers, seen from one of them.
#[derive(Clone, Debug)]
pub(super) struct Lending {
    pub(super) workers: Arc<[Lender]>,
    /// Which of them this is.
    pub(super) own: usize,
    pub(super) clock: Arc<dyn Clock>,
    /// When the workers began.
    pub(super) began: Instant,
}

impl Lending {
    /// Runs a call here or, if it is a costly one and somebody else has fewer of those, there.
    pub(super) fn run(&self, service: &Layered, mut request: Request<Body>, method: Arc<Method>) -> Running {
        let costly = method.cost() >= COSTLY;
        let counts = if costly { 1 } else { method.sampled() };
        let Some(own) = self.workers.get(self.own).filter(|_| counts > 0) else {
            return Running { answer: service.serve(request), meter: None };
        };
        let arrived = self.clock.instant();
        let now = Tick::after(arrived.saturating_duration_since(self.began));
        own.demand.add(now, method.cost().saturating_mul(counts));
        if !costly {
            return self.begun(service, request, method, None);
        }
        let other = self.idler(own, now);
        let taken = Taken::new(&other.unwrap_or(own).calls);
        let Some(other) = other else { return self.begun(service, request, method, Some(taken)) };
        request.extensions_mut().insert(Arrived(arrived));
        let there = self.clone();
        let service = service.clone();
        // Dropping the handle ends the call, as dropping the call would.
        let task = AbortOnDropHandle::new(
            other.handle.spawn(async move { there.begun(&service, request, method, Some(taken)).await }),
        );
        Running {
            answer: Box::pin(async move {
                match task.await {
                    Ok(answer) => answer,
                    // Panics are answered within; only the end of its runtime ends the task.
                    Err(_) => Ok(Status::unavailable("the process is stopping").into_http()),
                }
            }),
            meter: None,
        }
    }

    /// Who should run a call of `own`'s connections in its place, if anybody.
    fn idler(&self, own: &Lender, now: Tick) -> Option<&Lender> {
        let asked = own.demand.at(now);
        // Where the connections keep all workers busy, differences come and go by themselves.
        let idle = self.workers.iter().filter(|other| other.demand.at(now) < asked / 4);
        idle.min_by_key(|other| other.load()).filter(|least| own.load() > 2 * least.load())
    }

    /// Begins a call that is measured. Whoever calls is looked at before anything is polled, which may be most of it.
    fn begun(&self, service: &Layered, request: Request<Body>, method: Arc<Method>, taken: Option<Taken>) -> Running {
        let clock = Arc::clone(&self.clock);
        let began = clock.instant();
        let answer = service.serve(request);
        let spent = clock.instant().saturating_duration_since(began);
        Running { answer, meter: Some(Meter { method, clock, spent, _taken: taken }) }
    }
}

/// A call's place in its worker's count.
struct Taken(Arc<AtomicUsize>);

impl Taken {
    fn new(calls: &Arc<AtomicUsize>) -> Self {
        calls.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(calls))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call under way, and how much work it was so far.
pub(super) struct Running {
    answer: Answer,
    meter: Option<Meter>,
}

struct Meter {
    method: Arc<Method>,
    clock: Arc<dyn Clock>,
    spent: Duration,
    _taken: Option<Taken>,
}

impl Future for Running {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(meter) = &mut this.meter else { return this.answer.as_mut().poll(cx) };
        let began = meter.clock.instant();
        let polled = this.answer.as_mut().poll(cx);
        meter.spent += meter.clock.instant().saturating_duration_since(began);
        if polled.is_ready() {
            meter.method.worked(meter.spent);
            this.meter = None;
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use safeconduct_types::SystemClock;

    use super::*;

    #[tokio::test]
    async fn a_call_goes_to_who_has_less_to_do_and_is_asked_for_far_less() {
        let workers: Arc<[Lender]> = [Lender::new(Handle::current()), Lender::new(Handle::current())].into();
        let began = SystemClock.instant();
        let lending = Lending { workers: Arc::clone(&workers), own: 0, clock: Arc::new(SystemClock), began };
        let (own, other) = (&workers[0], &workers[1]);
        let now = Tick::after(Duration::ZERO);
        own.demand.add(now, Duration::from_micros(400));
        assert!(lending.idler(own, now).is_none(), "nothing waits here");
        let _here = [Taken::new(&own.calls), Taken::new(&own.calls), Taken::new(&own.calls)];
        assert!(lending.idler(own, now).is_some_and(|idler| std::ptr::eq(idler, other)));
        other.demand.add(now, Duration::from_micros(99));
        assert!(lending.idler(own, now).is_some(), "a little of its own");
        let there = Taken::new(&other.calls);
        assert!(lending.idler(own, now).is_some());
        let both = Taken::new(&other.calls);
        assert!(lending.idler(own, now).is_none(), "it has as much to do");
        drop((there, both));
        other.demand.add(now, Duration::from_micros(1));
        assert!(lending.idler(own, now).is_none(), "its own connections are about to keep it busy");
    }
}
