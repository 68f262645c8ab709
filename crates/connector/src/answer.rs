//! From what the guarded client says to what the domain judges.

use http::header::RETRY_AFTER;
use safeconduct_connector_domain::classify::{Answer, BodyProblem, Cause, Ended, parse_retry_after};
use safeconduct_egress as egress;
use safeconduct_egress::{BodyError, CallError};
use safeconduct_types::Timestamp;

pub(crate) fn ended(result: Result<egress::Answer, CallError>, now: Timestamp) -> Ended {
    match result {
        Ok(answer) => {
            let retry_after = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            Ended::Answered(Answer {
                status: answer.status.as_u16(),
                retry_after: retry_after.and_then(|text| parse_retry_after(text, now)),
                body: answer.body.map(Vec::from).map_err(problem),
            })
        }
        Err(error) => Ended::Broken { cause: cause(error.cause), sent: error.sent },
    }
}

const fn problem(error: BodyError) -> BodyProblem {
    match error {
        BodyError::TooLong => BodyProblem::TooLarge,
        BodyError::Encoded => BodyProblem::Encoding,
        BodyError::Broken => BodyProblem::Cut,
        BodyError::Timeout => BodyProblem::Timeout,
    }
}

const fn cause(cause: egress::Cause) -> Cause {
    match cause {
        egress::Cause::OtherOrigin | egress::Cause::Refused(_) => Cause::Forbidden,
        egress::Cause::Resolve | egress::Cause::Connect | egress::Cause::Tls | egress::Cause::Busy => Cause::Connect,
        egress::Cause::Timeout => Cause::Timeout,
        egress::Cause::Broken => Cause::Io,
    }
}
