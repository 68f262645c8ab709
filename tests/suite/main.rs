//! What the suite promises, each promise in a file, held against real processes: the binary as it is shipped, a Redis,
//! a shop, sockets. See `tests/README.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "all of this is tests, its helpers too: a panic is a failed test"
)]
#![allow(clippy::disallowed_methods, reason = "how long something really takes is what some of them look at")]

mod admission;
mod bad_input;
mod callers;
mod canary;
mod clients;
mod clock;
mod command_line;
mod crash;
mod deadline;
mod doubt;
mod drain;
mod envoy;
mod failover;
mod limits;
mod load;
mod marks;
mod operators;
mod otp;
mod outage;
mod races;
mod replays;
mod rotation;
mod secrets;
mod story;
mod token;
mod trace;

use std::fmt::Debug;

use safeconduct_proto::connector::v1::{Execution, ExecutionState};
use safeconduct_testkit::Refused;
use serde_json::{Value, json};
use tonic::{Code, Status};

/// One of Ada's orders.
const ORDER: &str = "ord_a1b2c3";

/// What a refund of Ada's order takes.
fn refund(amount: u32) -> Value {
    json!({"order_id": ORDER, "amount": amount})
}

/// It was refused, in this way.
#[track_caller]
fn refused<T: Debug>(answer: Result<T, Status>, code: Code, reason: &str) -> Refused {
    match answer {
        Ok(answer) => panic!("{reason} was expected, not {answer:?}"),
        Err(status) => {
            let refused = Refused::read(&status);
            assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{}", refused.message);
            assert!(refused.guidance.next_action != 0 && !refused.message.is_empty(), "{refused:?}");
            refused
        }
    }
}

/// It was refused because of this field.
#[track_caller]
fn refused_field<T: Debug>(answer: Result<T, Status>, field: &str) {
    let refused = refused(answer, Code::InvalidArgument, "INPUT_INVALID");
    assert!(refused.fields.iter().any(|one| one.contains(field)), "{:?} does not name {field}", refused.fields);
}

/// It succeeded; what it says.
#[track_caller]
fn succeeded(execution: &Execution) -> Value {
    assert_eq!(execution.state(), ExecutionState::Succeeded, "{execution:?}");
    assert!(execution.r#final, "{execution:?}");
    match serde_json::from_str(&execution.output_json) {
        Ok(output) => output,
        Err(error) => panic!("the output is no JSON ({error}): {}", execution.output_json),
    }
}
