//! Inside panic, outside everything that can wait, so that no wait is longer than the caller's.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request};
use safeconduct_types::{Clock, Deadline, Reason, Refusal};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

use super::{InProcess, Method, Passing, Serve, refuse};
use crate::process::{CallLimits, Process};

const GRPC_TIMEOUT: &str = "grpc-timeout";

pub(super) struct Limit<S> {
    inner: S,
    limits: CallLimits,
    clock: Arc<dyn Clock>,
    draining: CancellationToken,
}

impl<S> Limit<S> {
    pub(super) fn new(inner: S, process: &Process) -> Self {
        Self { inner, limits: process.limits, clock: Arc::clone(&process.clock), draining: process.draining.clone() }
    }
}

/// When a call arrived, if it was not taken up at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived(pub(crate) std::time::Instant);

impl<S> Limit<S> {
    /// How long this call may take, which handlers find with the request.
    fn bound(&self, request: &mut Request<Body>) -> Result<Remaining, Refusal> {
        let timeout = parse_timeout(request.headers())?;
        let streams = request.extensions().get::<Arc<Method>>().is_some_and(|method| method.streams());
        let timeout = match timeout {
            // A stream lasts as long as its caller wants it to.
            given if streams => given,
            given => Some(given.unwrap_or(self.limits.default_deadline).min(self.limits.max_deadline)),
        };
        let now = self.clock.instant();
        // Time counts from the arrival, wherever the call waited since.
        let waited = request.extensions().get::<Arrived>().map(|arrived| now.saturating_duration_since(arrived.0));
        let timeout = timeout.map(|timeout| timeout.saturating_sub(waited.unwrap_or_default()));
        if timeout == Some(Duration::ZERO) {
            return Err(Refusal::new(Reason::DeadlineTooShort, "the deadline had passed when the call arrived"));
        }
        if let Some(timeout) = timeout {
            request.extensions_mut().insert(Deadline::within(now, timeout));
        }
        // A stream has no end of its own: it is told to go elsewhere. Whoever watches health has heard before that.
        // In process there is no elsewhere, and the sister still needs it for the calls that have begun.
        let is_ours = request.extensions().get::<InProcess>().is_some();
        let draining = (streams && !is_ours).then(|| self.draining.clone());
        Ok(Remaining::new(timeout, draining))
    }
}

impl<S: Serve> Serve for Limit<S> {
    fn serve(&self, mut request: Request<Body>) -> impl Future<Output = Passing> + Send + use<S> {
        let begun = self.bound(&mut request).map(|remaining| (remaining, self.inner.serve(request)));
        async move {
            let (mut remaining, answer) = match begun {
                Ok(begun) => begun,
                Err(refusal) => return refuse(&refusal).into(),
            };
            tokio::select! {
                biased;
                mut passing = answer => {
                    passing.held.remaining = Some(remaining);
                    passing
                }
                status = std::future::poll_fn(|cx| remaining.cut(cx)) => status.into_http().into(),
            }
        }
    }
}

/// The time that is left of a call, and for streams the end of the process.
pub(crate) struct Remaining {
    timer: Option<Timer>,
    draining: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Remaining {
    pub(crate) fn new(timeout: Option<Duration>, draining: Option<CancellationToken>) -> Self {
        Self { timer: timeout.and_then(Timer::new), draining: draining.map(|token| Box::pin(token.cancelled_owned())) }
    }
}

impl Remaining {
    /// Ready when the time is over, with what to tell.
    pub(crate) fn cut(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if self.timer.as_mut().is_some_and(|timer| timer.poll(cx).is_ready()) {
            return Poll::Ready(exceeded());
        }
        if self.draining.as_mut().is_some_and(|draining| draining.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Status::unavailable("the process is stopping; open the stream again elsewhere"));
        }
        Poll::Pending
    }
}

/// Most calls never wait: the runtime hears of the end when one does.
struct Timer {
    ends: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn new(timeout: Duration) -> Option<Self> {
        // What is too far away to be said is further than anybody waits.
        now().checked_add(timeout).map(|ends| Self { ends, sleep: None })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.sleep.is_none() && now() >= self.ends {
            return Poll::Ready(());
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(self.ends)));
        sleep.as_mut().poll(cx)
    }
}

#[allow(clippy::disallowed_methods, reason = "the clock of the runtime's own timers, which ends the wait")]
fn now() -> Instant {
    Instant::now()
}

/// Without `ErrorInfo`, which would claim that the call had no effect: the handler was cut off in the middle.
pub(crate) fn exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed before the answer was ready; ask again with the same key")
}

/// What the caller allows, strictly as the specification writes it: at most eight digits and a unit. Whatever else is
/// there is refused: a limit that is silently ignored is worse than none.
fn parse_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let mut values = headers.get_all(GRPC_TIMEOUT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::invalid_field(GRPC_TIMEOUT, "must be given once"));
    }
    duration(value.as_bytes())
        .map(Some)
        .ok_or_else(|| Refusal::invalid_field(GRPC_TIMEOUT, "must be 1 to 8 digits and one of H, M, S, m, u, n"))
}

fn duration(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// `timeout` as a value of `grpc-timeout`, rounded down to milliseconds but never to nothing.
pub(crate) fn timeout_value(timeout: Duration) -> Option<HeaderValue> {
    let millis = timeout.as_millis().max(1);
    let text =
        if millis < 100_000_000 { format!("{millis}m") } else { format!("{}S", timeout.as_secs().min(99_999_999)) };
    HeaderValue::from_maybe_shared(text.into_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit_and_nothing_else() {
        let cases: [(&str, Option<Duration>); 13] = [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("0m", Some(Duration::ZERO)),
            ("999999999n", None),
            ("5", None),
            ("S", None),
            ("", None),
            ("+5S", None),
            ("5s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_timeout_sent_reads_back_no_longer_than_it_was() {
        for timeout in [Duration::from_nanos(1), Duration::from_micros(15_500_900), Duration::from_secs(200_000)] {
            let value = timeout_value(timeout).expect("a header value");
            let read = duration(value.as_bytes()).expect("a timeout");
            assert!(read <= timeout.max(Duration::from_millis(1)), "{value:?}");
        }
    }

    #[tokio::test]
    async fn time_counts_from_the_beginning_also_for_what_waits_late() {
        let mut over = Timer { ends: now(), sleep: None };
        let mut left = Timer::new(Duration::from_hours(1)).expect("a time that can be said");
        let polled = std::future::poll_fn(|cx| Poll::Ready((over.poll(cx), left.poll(cx)))).await;
        assert_eq!(polled, (Poll::Ready(()), Poll::Pending), "nobody had waited for it yet");
    }

    #[test]
    fn what_a_call_waited_before_it_was_taken_up_counts() {
        let clock: Arc<dyn Clock> = Arc::new(safeconduct_types::SystemClock);
        let limits = CallLimits::default();
        let limit = Limit { inner: (), limits, clock: Arc::clone(&clock), draining: CancellationToken::new() };
        let waited = |timeout: &'static str, ago| {
            let mut request = Request::new(Body::empty());
            request.headers_mut().insert(GRPC_TIMEOUT, HeaderValue::from_static(timeout));
            let now = clock.instant();
            request.extensions_mut().insert(Arrived(now.checked_sub(ago).expect("the machine runs for longer")));
            let bound = limit.bound(&mut request).map(|_| ());
            bound.map(|()| request.extensions().get::<Deadline>().map(|deadline| deadline.remaining(now)))
        };
        let left = waited("5S", Duration::from_secs(2)).expect("time is left").expect("a deadline");
        assert!(left <= Duration::from_millis(3_500), "{left:?}");
        let refused = waited("1S", Duration::from_secs(2)).expect_err("none is left");
        assert_eq!(refused.reason(), Reason::DeadlineTooShort);
    }

    #[test]
    fn a_repeated_timeout_is_refused() {
        let mut headers = HeaderMap::new();
        headers.append(GRPC_TIMEOUT, HeaderValue::from_static("1S"));
        headers.append(GRPC_TIMEOUT, HeaderValue::from_static("1S"));
        assert!(parse_timeout(&headers).is_err());
    }
}
