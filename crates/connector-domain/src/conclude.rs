//! What an execution comes to, once its last attempt has ended.

use std::time::Duration;

use safeconduct_types::Timestamp;
use serde_json::Value;

use crate::classify::{Answer, BodyProblem, Ended, Verdict};
use crate::definition::{Connector, Effect as Declared};
use crate::execution::{Effect, Failure, FailureClass, State, StoredOutcome};
use crate::json::{self, Bounds, JsonProblem};
use crate::projection::{OutputError, Shaped, examine};

/// What is known when the last attempt has ended.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    /// How many were made.
    pub count: u8,
    /// What is known of the effect after all of them (see [`crate::classify::effect_after`]).
    pub effect: Effect,
    /// Whether any byte of any of them left.
    pub sent: bool,
}

/// The outcome of an execution.
///
/// A write that got its 2xx has succeeded, whatever is wrong with the body: then `output_error` says why there is no
/// output. A read without a usable body has failed, for its output was all that was wanted.
pub fn conclude(
    connector: &Connector,
    ended: &Ended,
    verdict: Verdict,
    attempts: Attempts,
    now: Timestamp,
) -> StoredOutcome {
    let mut outcome = StoredOutcome {
        state: State::Succeeded,
        effect: attempts.effect,
        output_json: None,
        output_error: None,
        untrusted: Vec::new(),
        truncated: Vec::new(),
        failure: None,
        sent: attempts.sent,
        attempts: attempts.count,
        ended: now,
        by_operator: false,
    };
    let answer = match ended {
        Ended::Answered(answer) => Some(answer),
        Ended::Broken { .. } => None,
    };
    let class = match (verdict.class, answer) {
        (None, Some(answer)) => match shape(connector, answer) {
            Ok(shaped) => {
                outcome.untrusted = examine(&shaped.output);
                outcome.truncated = shaped.truncated;
                outcome.output_json = Some(shaped.output.to_string());
                return outcome;
            }
            Err(error) => {
                outcome.output_error = Some(error);
                match connector.effect {
                    Declared::Write => return outcome,
                    Declared::Read => unusable_class(answer),
                }
            }
        },
        (Some(class), _) => class,
        (None, None) => FailureClass::InvalidResponse,
    };
    outcome.state = if outcome.effect == Effect::Possible { State::OutcomeUnknown } else { State::Failed };
    outcome.failure = Some(failure(connector, class, answer));
    outcome
}

const fn unusable_class(answer: &Answer) -> FailureClass {
    match answer.body {
        Err(BodyProblem::Timeout) => FailureClass::Timeout,
        Err(BodyProblem::Cut) => FailureClass::Retryable,
        Err(BodyProblem::TooLarge | BodyProblem::Encoding) | Ok(_) => FailureClass::InvalidResponse,
    }
}

fn failure(connector: &Connector, class: FailureClass, answer: Option<&Answer>) -> Failure {
    let problem = answer
        .filter(|answer| answer.status >= 400 && !connector.response.problem.is_empty())
        .and_then(|answer| read(connector, answer).ok())
        .map(|body| connector.response.problem.apply_leniently(&body).output);
    Failure {
        class,
        http_status: answer.map(|answer| answer.status),
        retry_after_ms: answer.and_then(|answer| answer.retry_after).map(millis),
        problem_untrusted: problem.as_ref().map(examine).unwrap_or_default(),
        problem,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The declared fields of a success.
fn shape(connector: &Connector, answer: &Answer) -> Result<Shaped, OutputError> {
    connector.response.output.apply(&read(connector, answer)?)
}

/// The body as JSON. No body at all is `null`, which suits a connector that requires nothing of it.
fn read(connector: &Connector, answer: &Answer) -> Result<Value, OutputError> {
    let body = answer.body.as_ref().map_err(|problem| OutputError::whole(problem.describe()))?;
    if body.iter().all(u8::is_ascii_whitespace) {
        // A path that can match many would read "nothing" as "none".
        return if connector.response.output.requires_something() {
            Err(OutputError::whole("the answer has no body"))
        } else {
            Ok(Value::Null)
        };
    }
    json::parse_bytes(body, Bounds::answer(connector.response.max_bytes)).map_err(|error| {
        let looks_like_markup = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<');
        OutputError::whole(if looks_like_markup && error.problem() == JsonProblem::Syntax {
            "the answer is not JSON but looks like HTML or XML".to_owned()
        } else {
            format!("the answer {error}")
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::classify::{Cause, classify, effect_after};
    use crate::projection::Projection;
    use crate::testing;

    fn with_output(mut connector: Connector) -> Connector {
        connector.response.output = Projection::parse(&json!({"id": {"path": "$.id", "type": "string"}})).unwrap();
        connector.response.problem = Projection::parse(&json!({"code": {"path": "$.error.code"}})).unwrap();
        connector
    }

    fn run(connector: &Connector, ended: &Ended) -> StoredOutcome {
        let verdict = classify(connector, ended);
        let effect = effect_after(connector, Effect::None, verdict);
        let sent = !matches!(ended, Ended::Broken { sent: false, .. });
        conclude(connector, ended, verdict, Attempts { count: 1, effect, sent }, Timestamp::from_seconds(1))
    }

    fn answer(status: u16, body: &[u8]) -> Ended {
        Ended::Answered(Answer { status, retry_after: Some(Duration::from_secs(2)), body: Ok(body.to_vec()) })
    }

    #[test]
    fn a_success_keeps_the_declared_fields_and_marks_them() {
        let outcome = run(&with_output(testing::write()), &answer(201, br#"{"id":"r www.x","card":"4242"}"#));
        assert_eq!((outcome.state, outcome.effect), (State::Succeeded, Effect::Happened));
        assert_eq!(outcome.output_json.as_deref(), Some(r#"{"id":"r www.x"}"#));
        assert_eq!(outcome.untrusted[0].pointer, "/id");
        assert!(outcome.failure.is_none());
    }

    #[test]
    fn a_write_with_an_unusable_body_has_succeeded_and_a_read_has_failed() {
        let deep = "[".repeat(200);
        for (body, problem) in [
            (Ok(b"<html>x</html>".to_vec()), "the answer is not JSON but looks like HTML or XML"),
            (Ok(b"not json".to_vec()), "the answer is not JSON, at byte 0"),
            (Ok(Vec::new()), "the answer has no body"),
            (Ok(br#"{"id":1}"#.to_vec()), "is not a string"),
            (
                Ok(br#"{"id":"a","id":"b"}"#.to_vec()),
                "the answer has two members of one name in one object, at byte 18",
            ),
            (Ok(deep.into_bytes()), "the answer is nested deeper than allowed, at byte 64"),
            (Ok(vec![b' '; 65_537].into_iter().chain(*b"{}").collect()), "the answer is larger than allowed"),
            (Err(BodyProblem::TooLarge), "the answer is larger than the definition allows"),
            (Err(BodyProblem::Cut), "the answer ended early"),
        ] {
            let ended = Ended::Answered(Answer { status: 200, retry_after: None, body });
            let write = run(&with_output(testing::write()), &ended);
            assert_eq!((write.state, write.effect), (State::Succeeded, Effect::Happened));
            assert_eq!(write.output_error.as_ref().unwrap().problem, problem);
            let read = run(&with_output(testing::connector()), &ended);
            assert_eq!((read.state, read.effect), (State::Failed, Effect::None));
            assert_eq!(read.output_error.unwrap().problem, problem);
            assert!(read.output_json.is_none() && write.output_json.is_none());
        }
    }

    #[test]
    fn an_empty_success_suits_a_connector_that_wants_nothing() {
        let outcome = run(&testing::write(), &answer(204, b""));
        assert_eq!((outcome.state, outcome.output_json.as_deref()), (State::Succeeded, Some("{}")));
    }

    #[test]
    fn a_refusal_keeps_the_declared_problem() {
        let outcome =
            run(&with_output(testing::write()), &answer(422, br#"{"error":{"code":"too_late","trace":"x"}}"#));
        let failure = outcome.failure.unwrap();
        assert_eq!(
            (outcome.state, outcome.effect, failure.class),
            (State::Failed, Effect::None, FailureClass::Rejected)
        );
        assert_eq!(failure.problem, Some(json!({"code": "too_late"})));
        assert_eq!((failure.http_status, failure.retry_after_ms), (Some(422), Some(2000)));
        assert_eq!(failure.problem_untrusted[0].pointer, "/code");
        let markup = run(&with_output(testing::write()), &answer(400, b"<html>"));
        assert_eq!(markup.failure.unwrap().problem, None);
    }

    #[test]
    fn a_write_that_may_have_happened_is_unknown() {
        for ended in [answer(503, b""), answer(302, b""), Ended::Broken { cause: Cause::Timeout, sent: true }] {
            let outcome = run(&with_output(testing::write()), &ended);
            assert_eq!((outcome.state, outcome.effect), (State::OutcomeUnknown, Effect::Possible), "{ended:?}");
            let read = run(&with_output(testing::connector()), &ended);
            assert_eq!((read.state, read.effect), (State::Failed, Effect::None), "{ended:?}");
        }
        let unsent = run(&with_output(testing::write()), &Ended::Broken { cause: Cause::Connect, sent: false });
        assert_eq!((unsent.state, unsent.effect, unsent.sent), (State::Failed, Effect::None, false));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(status in any::<u16>(), body in any::<Vec<u8>>()) {
            for connector in [with_output(testing::write()), with_output(testing::connector())] {
                let outcome = run(&connector, &answer(status, &body));
                prop_assert!(outcome.state != State::Succeeded || outcome.output_json.is_some() != outcome.output_error.is_some());
            }
        }

        #[test]
        fn no_json_makes_it_panic(text in r#"[{}\[\]"id:,0-9.eE\\u -]{0,40}"#) {
            run(&with_output(testing::connector()), &answer(200, text.as_bytes()));
        }
    }
}
