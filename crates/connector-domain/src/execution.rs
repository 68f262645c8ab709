//! What an execution leaves behind: the two documents that the connector seals into the admission record. They are
//! JSON, and read back by whichever version of the service comes next: fields are only ever added, with a default.

use std::fmt;
use std::time::Duration;

use safeconduct_types::{ConnectorName, ContactId, Timestamp, Version};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::bind::BoundInputs;
use crate::definition::{Connector, Effect as DeclaredEffect};
use crate::fingerprint::Digest;
use crate::json;
use crate::projection::{OutputError, Untrusted, examine};

/// Where an execution stands when its call is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// It did what was asked.
    Succeeded,
    /// It did not.
    Failed,
    /// It is not known whether the upstream acted.
    OutcomeUnknown,
}

/// What is known of the change that a connector makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Effect {
    /// There was none.
    None,
    /// There may have been one.
    Possible,
    /// There was one.
    Happened,
}

/// Why an execution failed, or is not known to have succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureClass {
    /// Later it may work.
    Retryable,
    /// The object is gone for good.
    Gone,
    /// The upstream does not take the credential.
    Unauthorized,
    /// The upstream refused.
    Rejected,
    /// The upstream's answer makes no sense.
    InvalidResponse,
    /// The upstream did not answer in time.
    Timeout,
}

/// What is known of a failure.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Why.
    pub class: FailureClass,
    /// The status of the last answer, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// How long the upstream asked to be left alone, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The declared fields of the upstream's refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Value>,
    /// The strings in `problem`, all of them from outside. Not stored: it follows from `problem`.
    #[serde(skip)]
    pub problem_untrusted: Vec<Untrusted>,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("class", &self.class)
            .field("http_status", &self.http_status)
            .field("retry_after_ms", &self.retry_after_ms)
            .finish_non_exhaustive()
    }
}

/// By what an upstream knows a repeat of a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRepeat {
    /// What the upstream's key derives from, with the record's generation (see [`crate::upstream_key`]).
    pub same: Digest,
    /// Until when the upstream knows the key; nothing is resent later. None: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Between now and the end of the upstream's memory, for a resend to be safe: a whole call, and clocks that differ.
const RESEND_MARGIN: Duration = Duration::from_secs(75);

/// What an execution is about to do; stored before the first byte leaves.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredIntent {
    /// The contact for whom.
    pub contact: ContactId,
    /// The connector.
    pub connector: ConnectorName,
    /// Its version.
    pub version: Version,
    /// Hash of the definition that was in force, in hexadecimal digits.
    pub definition: String,
    /// Where the upstream was. Somebody else there knows nothing of a first request.
    pub upstream: String,
    /// Whether it changes something.
    pub write: bool,
    /// All bound inputs, as canonical JSON text. Personal data.
    pub inputs_json: String,
    /// By what the upstream knows a repeat, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<StoredRepeat>,
    /// The caller's label of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The caller's label of the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// The trace in which it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// When it started.
    pub started: Timestamp,
}

impl StoredIntent {
    /// The intent of this execution, without the caller's labels and the trace, which the shell adds.
    pub fn new(
        connector: &Connector,
        contact: &ContactId,
        inputs: &BoundInputs,
        upstream: &Url,
        now: Timestamp,
    ) -> Self {
        let idempotency = connector.idempotency.as_ref();
        let repeat = idempotency.and_then(|one| {
            let key = one.upstream_key.as_ref()?;
            Some(StoredRepeat { same: inputs.same(&one.same), until: key.honoured_for.map(|length| now.after(length)) })
        });
        Self {
            contact: contact.clone(),
            connector: connector.name.clone(),
            version: connector.version.clone(),
            definition: connector.digest.to_string(),
            upstream: upstream.to_string(),
            write: connector.effect == DeclaredEffect::Write,
            inputs_json: json::canonical(&inputs.to_json()),
            repeat,
            request_id: None,
            conversation_id: None,
            trace_id: None,
            started: now,
        }
    }

    /// Whether it changes something.
    pub const fn effect(&self) -> DeclaredEffect {
        if self.write { DeclaredEffect::Write } else { DeclaredEffect::Read }
    }

    /// Whether an execution that was cut off at this point can be sent again without doing its work twice.
    pub fn can_be_resent(&self, now: Timestamp) -> bool {
        let end = now.after(RESEND_MARGIN);
        !self.write || self.repeat.as_ref().is_some_and(|one| one.until.is_none_or(|until| end < until))
    }
}

impl fmt::Debug for StoredIntent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredIntent")
            .field("connector", &self.connector)
            .field("version", &self.version)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

/// What came of an execution.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredOutcome {
    /// Where it stands.
    pub state: State,
    /// What is known of its effect.
    pub effect: Effect,
    /// The shaped output as JSON text, if there is one. Personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_json: Option<String>,
    /// Why there is no output although the upstream said yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_error: Option<OutputError>,
    /// The strings in the output, all of them from outside. Not stored, for it can be many times as long as the output
    /// from which it follows: see [`StoredOutcome::examine`].
    #[serde(skip)]
    pub untrusted: Vec<Untrusted>,
    /// Pointers of the arrays in the output that were cut off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether any byte of a request left.
    pub sent: bool,
    /// How many attempts were made.
    pub attempts: u8,
    /// When the last one ended.
    pub ended: Timestamp,
    /// Whether an operator said so, who found out afterwards.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_operator: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde takes")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Which keys of an execution answer the next same request with this outcome; the others are free for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptKeys {
    /// The caller's key and the guard over the definition's `same` inputs.
    All,
    /// The caller's key alone: under another key the request may be made again.
    CallersOnly,
    /// None: a repeat is a new request.
    None,
}

impl StoredOutcome {
    /// What is known of an execution that sent nothing and will not: it may be asked for again.
    pub fn nothing_sent(now: Timestamp) -> Self {
        Self {
            state: State::Failed,
            effect: Effect::None,
            output_json: None,
            output_error: None,
            untrusted: Vec::new(),
            truncated: Vec::new(),
            failure: Some(Failure {
                class: FailureClass::Retryable,
                http_status: None,
                retry_after_ms: None,
                problem: None,
                problem_untrusted: Vec::new(),
            }),
            sent: false,
            attempts: 0,
            ended: now,
            by_operator: false,
        }
    }

    /// What an operator has found out about an execution of which nothing more was known than `known`, if that: it
    /// succeeded, or it failed with this effect. An effect that is only possible is not found out.
    pub fn found_out(
        known: Option<&Self>,
        state: State,
        effect: Effect,
        output_json: Option<String>,
        now: Timestamp,
    ) -> Self {
        let failure = (state == State::Failed).then_some(Failure {
            class: FailureClass::Rejected,
            http_status: known.and_then(|one| one.failure.as_ref()?.http_status),
            retry_after_ms: None,
            problem: None,
            problem_untrusted: Vec::new(),
        });
        let mut outcome = Self {
            state,
            effect,
            output_json,
            failure,
            // Whoever has lost sight of it may have sent it.
            sent: true,
            attempts: known.map_or(0, |one| one.attempts),
            by_operator: true,
            ..Self::nothing_sent(now)
        };
        outcome.examine();
        outcome
    }

    /// Marks the strings from outside, as was done when the outcome was concluded. To be called on what was read back.
    pub fn examine(&mut self) {
        let output = self.output_json.as_deref().and_then(|text| serde_json::from_str(text).ok());
        self.untrusted = output.as_ref().map(examine).unwrap_or_default();
        if let Some(failure) = &mut self.failure {
            failure.problem_untrusted = failure.problem.as_ref().map(examine).unwrap_or_default();
        }
    }

    /// The same outcome without what the upstream said, for when that is too long to be kept. What is known of the
    /// effect must always be.
    #[must_use]
    pub fn without_answer(mut self) -> Self {
        self.output_json = None;
        self.untrusted = Vec::new();
        self.truncated = Vec::new();
        self.output_error = Some(OutputError::whole("the answer is too long to be kept"));
        if let Some(failure) = &mut self.failure {
            failure.problem = None;
            failure.problem_untrusted = Vec::new();
        }
        self
    }

    /// Which keys this outcome keeps.
    ///
    /// | state, class, effect | the next same request gets |
    /// |---|---|
    /// | succeeded, or unknown | this outcome, under either key |
    /// | failed with effect `NONE`, class `RETRYABLE` or `TIMEOUT` | a new execution |
    /// | failed with effect `NONE`, any other class | this outcome under the caller's key, else a new execution |
    /// | failed with any other effect | this outcome, under either key |
    pub fn kept_keys(&self) -> KeptKeys {
        match (self.state, self.effect, self.failure.as_ref().map(|failure| failure.class)) {
            (State::Failed, Effect::None, Some(FailureClass::Retryable | FailureClass::Timeout)) => KeptKeys::None,
            (State::Failed, Effect::None, _) => KeptKeys::CallersOnly,
            _ => KeptKeys::All,
        }
    }
}

impl fmt::Debug for StoredOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredOutcome")
            .field("state", &self.state)
            .field("effect", &self.effect)
            .field("output_error", &self.output_error)
            .field("failure", &self.failure)
            .field("sent", &self.sent)
            .field("attempts", &self.attempts)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome() -> StoredOutcome {
        StoredOutcome {
            state: State::Failed,
            effect: Effect::None,
            output_json: Some(r#"{"id":"hunter2"}"#.to_owned()),
            output_error: None,
            untrusted: vec![],
            truncated: vec![],
            failure: Some(Failure {
                class: FailureClass::Rejected,
                http_status: Some(422),
                retry_after_ms: None,
                problem: Some(json!({"amount": "hunter2"})),
                problem_untrusted: vec![],
            }),
            sent: true,
            attempts: 1,
            ended: Timestamp::from_seconds(5),
            by_operator: false,
        }
    }

    #[test]
    fn what_is_stored_reads_back() {
        let text = serde_json::to_string(&outcome()).unwrap();
        assert_eq!(serde_json::from_str::<StoredOutcome>(&text).unwrap(), outcome());
        let oldest = r#"{"state":"SUCCEEDED","effect":"HAPPENED","sent":true,"attempts":1,"ended":5000}"#;
        assert!(serde_json::from_str::<StoredOutcome>(oldest).is_ok());
    }

    #[test]
    fn debug_shows_no_personal_data() {
        let intent = StoredIntent {
            contact: ContactId::from_digest(&[1; 16]),
            upstream: String::new(),
            connector: "f".parse().unwrap(),
            version: "v1".parse().unwrap(),
            definition: String::new(),
            write: true,
            inputs_json: r#"{"id":"hunter2"}"#.to_owned(),
            repeat: None,
            request_id: None,
            conversation_id: None,
            trace_id: None,
            started: Timestamp::from_seconds(1),
        };
        assert!(!format!("{intent:?} {:?}", outcome()).contains("hunter2"));
        let text = serde_json::to_string(&intent).unwrap();
        assert_eq!(serde_json::from_str::<StoredIntent>(&text).unwrap(), intent);
    }

    #[test]
    fn an_intent_says_whether_it_can_be_sent_again() {
        use crate::definition::KeyPlace;
        use crate::testing;
        let start = Timestamp::from_seconds(0);
        let later = |seconds| Timestamp::from_seconds(seconds);
        let intent = |connector: &Connector| {
            let contact = crate::contact::ContactView {
                id: safeconduct_types::ContactId::from_digest(&[1; 16]),
                kind: crate::contact::ContactKind::User,
                known_by: None,
                attributes: [].into(),
                proven: crate::contact::ProvenAddresses::default(),
            };
            let inputs = crate::bind::bind(connector, &contact, &crate::bind::Supplied::nothing(), start).unwrap();
            let inputs = inputs.complete().unwrap();
            let upstream = "https://a.example".parse().unwrap();
            let intent = StoredIntent::new(connector, &contact.id, &inputs, &upstream, start);
            assert_eq!(BoundInputs::from_intent(connector, &intent).unwrap().to_json(), inputs.to_json());
            let other = StoredIntent { definition: "another".to_owned(), ..intent.clone() };
            assert!(BoundInputs::from_intent(connector, &other).is_none(), "of another definition");
            intent
        };
        assert!(intent(&testing::connector()).can_be_resent(later(1)), "a read");
        assert!(!intent(&testing::write()).can_be_resent(later(1)), "a key that is sent nowhere helps nothing");
        for place in [KeyPlace::Header("x-key".to_owned()), KeyPlace::Natural] {
            let keyed = intent(&testing::keyed(testing::write(), place));
            assert!(keyed.can_be_resent(later(86_324)) && !keyed.can_be_resent(later(86_325)));
        }
    }

    #[test]
    fn only_what_surely_did_nothing_frees_a_key() {
        let of = |state, effect, class| {
            let mut outcome = outcome();
            (outcome.state, outcome.effect) = (state, effect);
            outcome.failure.as_mut().unwrap().class = class;
            outcome.kept_keys()
        };
        assert_eq!(of(State::Failed, Effect::None, FailureClass::Retryable), KeptKeys::None);
        assert_eq!(of(State::Failed, Effect::None, FailureClass::Timeout), KeptKeys::None);
        assert_eq!(of(State::Failed, Effect::None, FailureClass::Rejected), KeptKeys::CallersOnly);
        assert_eq!(of(State::OutcomeUnknown, Effect::Possible, FailureClass::Retryable), KeptKeys::All);
        assert_eq!(of(State::Failed, Effect::Happened, FailureClass::Rejected), KeptKeys::All);
        assert_eq!(of(State::Succeeded, Effect::Happened, FailureClass::Rejected), KeptKeys::All);
    }
}
