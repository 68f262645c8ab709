//! Sending the request: attempts, waits, and what is known after the last.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use safeconduct_connector_domain::classify::{Cause, Ended, RetryState, classify, effect_after, next_attempt};
use safeconduct_connector_domain::conclude::{Attempts, conclude};
use safeconduct_connector_domain::definition::{Connector, Method as Declared};
use safeconduct_connector_domain::execution::{Effect, StoredOutcome};
use safeconduct_connector_domain::plan::RequestPlan;
use safeconduct_egress::Call;
use safeconduct_types::{Clock, Deadline, Random};
use tracing::Instrument as _;

use crate::answer;
use crate::workspaces::{CredentialHeader, Reachable};

/// What an attempt loop runs on.
pub(crate) struct Attempting<'a> {
    pub(crate) connector: &'a Connector,
    pub(crate) upstream: &'a Reachable,
    pub(crate) credential: Option<&'a CredentialHeader>,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) random: &'a dyn Random,
    /// When everything must be over, waits included.
    pub(crate) deadline: Deadline,
    /// What is known from before: an executor that takes over does not know what the first one has done.
    pub(crate) before: Before,
}

/// What was known when an executor began.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    pub(crate) effect: Effect,
    pub(crate) sent: bool,
}

impl Before {
    /// Nothing was done.
    pub(crate) const NOTHING: Self = Self { effect: Effect::None, sent: false };
    /// Somebody may have done it.
    pub(crate) const DOUBT: Self = Self { effect: Effect::Possible, sent: true };
}

/// Less than this is not worth sending for.
pub(crate) const SHORTEST_CALL: Duration = Duration::from_millis(100);

/// Whether the next attempt may be made: asked before its first byte.
#[tonic::async_trait]
pub(crate) trait Allowed: Sync {
    async fn attempt(&self) -> bool;
}

impl Attempting<'_> {
    /// Sends `plan` until the domain says that it is enough. `allowed` is asked before each attempt's first byte: an
    /// executor that lost its lease must not send, nor one for whom a mark has closed the way.
    pub(crate) async fn run(&self, plan: &RequestPlan, allowed: &dyn Allowed) -> StoredOutcome {
        let mut count: u8 = 0;
        let Before { mut effect, mut sent } = self.before;
        loop {
            count = count.saturating_add(1);
            let in_time = self.deadline.remaining(self.clock.instant()) >= SHORTEST_CALL;
            let ended = if in_time && allowed.attempt().await { self.once(plan, count).await } else { WITHHELD };
            sent |= !matches!(ended, Ended::Broken { sent: false, .. });
            let verdict = classify(self.connector, &ended);
            effect = effect_after(self.connector, effect, verdict);
            let state = RetryState {
                attempts: count,
                effect,
                retry_after: asked_to_wait(&ended),
                remaining: self.deadline.remaining(self.clock.instant()),
                fraction: fraction(self.random),
            };
            let Some(wait) = next_attempt(self.connector, verdict, state) else {
                let attempts = Attempts { count, effect, sent };
                return conclude(self.connector, &ended, verdict, attempts, self.clock.now());
            };
            tracing::info!(
                attempt = count,
                wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "will try again"
            );
            tokio::time::sleep(wait).await;
        }
    }

    async fn once(&self, plan: &RequestPlan, count: u8) -> Ended {
        let span = tracing::info_span!("connector.attempt", safeconduct.attempt = count);
        let Some(call) = self.call(plan) else {
            return Ended::Broken { cause: Cause::Forbidden, sent: false };
        };
        let result = self.upstream.client.call(call).instrument(span).await;
        if let Err(error) = &result {
            tracing::info!(attempt = count, sent = error.sent, cause = %error.cause, "the attempt failed");
        }
        answer::ended(result, self.clock.now())
    }

    fn call(&self, plan: &RequestPlan) -> Option<Call> {
        let mut headers = HeaderMap::new();
        for (name, value) in plan.headers() {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_str(value).ok()?);
        }
        // Last, so that nothing the definition says can stand in its place.
        if let Some(credential) = self.credential {
            headers.insert(credential.name.clone(), credential.value.clone());
        }
        let now = self.clock.instant();
        Some(Call {
            method: method(plan.method()),
            url: plan.url().clone(),
            headers,
            body: plan.body().map(Bytes::copy_from_slice).unwrap_or_default(),
            deadline: self.deadline.earlier(Deadline::within(now, plan.timeout())),
            max_bytes: plan.max_bytes(),
        })
    }
}

const WITHHELD: Ended = Ended::Broken { cause: Cause::Withheld, sent: false };

const fn asked_to_wait(ended: &Ended) -> Option<Duration> {
    match ended {
        Ended::Answered(answer) => answer.retry_after,
        Ended::Broken { .. } => None,
    }
}

const fn method(declared: Declared) -> Method {
    match declared {
        Declared::Get => Method::GET,
        Declared::Head => Method::HEAD,
        Declared::Post => Method::POST,
        Declared::Put => Method::PUT,
        Declared::Patch => Method::PATCH,
        Declared::Delete => Method::DELETE,
    }
}

/// A number from 0 to 1.
fn fraction(random: &dyn Random) -> f64 {
    f64::from(u32::from_be_bytes(random.bytes())) / f64::from(u32::MAX)
}
