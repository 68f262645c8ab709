//! What an attempt's end means, and whether there is another attempt.
//!
//! The rule behind every row: a status in the 400s says that the upstream refused and did nothing; anything that ends
//! after bytes were sent without such an answer may have had an effect, if the connector writes. Redirects are not
//! followed and not understood, so they count as an answer that makes no sense.

mod retry_after;

use std::fmt;
use std::time::Duration;

use crate::definition::{Connector, Effect as Declared, KeyPlace, Retry, UpstreamKey};
use crate::execution::{Effect, FailureClass};

pub use retry_after::parse_retry_after;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer.
    Answered(Answer),
    /// Without one.
    Broken {
        /// Why.
        cause: Cause,
        /// Whether any byte of the request left. If in doubt, it did.
        sent: bool,
    },
}

/// An upstream's answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// How long the upstream asks to be left alone (see [`parse_retry_after`]).
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Result<Vec<u8>, BodyProblem>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .field("body", &self.body.as_ref().map(Vec::len))
            .finish()
    }
}

/// Why a body could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyProblem {
    /// It is larger than the definition allows.
    TooLarge,
    /// The connection ended within it.
    Cut,
    /// It did not come in time.
    Timeout,
    /// It could not be decompressed.
    Encoding,
}

impl BodyProblem {
    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Self::TooLarge => "the answer is larger than the definition allows",
            Self::Cut => "the answer ended early",
            Self::Timeout => "the answer did not come to its end in time",
            Self::Encoding => "the answer could not be decompressed",
        }
    }
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection came about: name, address, TLS.
    Connect,
    /// The address is one that may not be called.
    Forbidden,
    /// We did not send: the lease or the time was up before the attempt began.
    Withheld,
    /// The time was up.
    Timeout,
    /// The connection broke, or what came is not HTTP.
    Io,
}

/// What an attempt's end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why it failed; `None` if it succeeded.
    pub class: Option<FailureClass>,
    /// What is known of the effect of this attempt.
    pub effect: Effect,
    /// Whether the answer is one that only the upstream itself gives, knowing what was asked before.
    authentic: bool,
    /// Whether another attempt may help, if it can do no harm.
    again: bool,
}

/// What this end of an attempt means for this connector.
pub fn classify(connector: &Connector, ended: &Ended) -> Verdict {
    let (class, acted, again) = match ended {
        Ended::Answered(answer) => of_status(connector, answer.status),
        Ended::Broken { cause, sent } => {
            let (class, again) = match cause {
                Cause::Connect | Cause::Io => (FailureClass::Retryable, true),
                Cause::Timeout => (FailureClass::Timeout, true),
                Cause::Withheld => (FailureClass::Retryable, false),
                // Not the upstream's word: whoever operates it has to look.
                Cause::Forbidden => (FailureClass::InvalidResponse, false),
            };
            (Some(class), if *sent { Effect::Possible } else { Effect::None }, again)
        }
    };
    // What only reads changes nothing, however it ends.
    let effect = match connector.effect {
        Declared::Read => Effect::None,
        Declared::Write => acted,
    };
    let authentic = matches!(ended, Ended::Answered(answer) if REFUSALS.contains(&answer.status));
    Verdict { class, effect, authentic, again }
}

/// Statuses by which an application refuses. What stands in front of it (a firewall, a balancer) also says 401, 403,
/// 404, 413 or 429, and knows nothing of an earlier attempt.
const REFUSALS: [u16; 5] = [400, 402, 409, 410, 422];

/// What a status means for a connector that writes.
fn of_status(connector: &Connector, status: u16) -> (Option<FailureClass>, Effect, bool) {
    let listed = connector.retry.on.contains(&status);
    if let Some(key) = upstream_key(connector) {
        if key.in_progress.contains(&status) {
            // The first request is still at work: ask again, with the same key.
            return (Some(FailureClass::Retryable), Effect::Possible, true);
        }
        if key.mismatch.contains(&status) {
            // Something else was sent under this key before, and may have been done.
            return (Some(FailureClass::Rejected), Effect::Possible, false);
        }
    }
    match status {
        200..=299 => (None, Effect::Happened, false),
        401 => (Some(FailureClass::Unauthorized), Effect::None, false),
        410 => (Some(FailureClass::Gone), Effect::None, false),
        // Some servers give up on a request that they have already handed on.
        408 => (Some(FailureClass::Timeout), Effect::Possible, listed),
        429 => (Some(FailureClass::Retryable), Effect::None, listed),
        400..=499 => (Some(FailureClass::Rejected), Effect::None, false),
        500..=599 => (Some(FailureClass::Retryable), Effect::Possible, listed),
        _ => (Some(FailureClass::InvalidResponse), Effect::Possible, false),
    }
}

fn upstream_key(connector: &Connector) -> Option<&UpstreamKey> {
    connector.idempotency.as_ref().and_then(|one| one.upstream_key.as_ref())
}

/// What is known of the effect after another attempt, given what was known before it.
///
/// A doubt stays until it is resolved: by a success, or by a refusal of an upstream that knows the key and repeats its
/// first answer for it. Of any other upstream a refusal speaks of the last attempt only.
pub fn effect_after(connector: &Connector, before: Effect, verdict: Verdict) -> Effect {
    let repeats_answers =
        upstream_key(connector).is_some_and(|key| key.replays_errors && key.place != KeyPlace::Natural);
    let resolved = repeats_answers
        && verdict.authentic
        && matches!(verdict.class, Some(FailureClass::Rejected | FailureClass::Gone));
    if resolved { verdict.effect } else { before.max(verdict.effect) }
}

/// What a decision about another attempt looks at.
#[derive(Clone, Copy, Debug)]
pub struct RetryState {
    /// Attempts made so far, at least one.
    pub attempts: u8,
    /// What is known of the effect after all of them.
    pub effect: Effect,
    /// How long the upstream asks to be left alone.
    pub retry_after: Option<Duration>,
    /// What is left of the budget for the whole call.
    pub remaining: Duration,
    /// A random number from 0 to 1.
    pub fraction: f64,
}

/// The longest wait before the second attempt; doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait between two attempts, unless the upstream asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Less than this is not worth an attempt.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(100);

/// How long to wait before the next attempt; `None` if there is none.
///
/// Waits are "full jitter": a random part of a bound that doubles. `Retry-After` comes on top, so that those who were
/// sent away together do not come back together.
pub fn next_attempt(connector: &Connector, verdict: Verdict, state: RetryState) -> Option<Duration> {
    let Retry { attempts, .. } = &connector.retry;
    let harmless = state.effect == Effect::None || upstream_key(connector).is_some();
    if !verdict.again || !harmless || state.attempts >= *attempts {
        return None;
    }
    let doublings = u32::from(state.attempts.saturating_sub(1)).min(8);
    let bound = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    let fraction = if state.fraction.is_finite() { state.fraction.clamp(0.0, 1.0) } else { 1.0 };
    let wait = state.retry_after.unwrap_or_default().saturating_add(bound.mul_f64(fraction));
    (wait.saturating_add(SHORTEST_ATTEMPT) <= state.remaining).then_some(wait)
}

#[cfg(test)]
mod tests;
