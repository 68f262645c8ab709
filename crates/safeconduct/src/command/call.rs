//! `call`: one execution, as an agent would ask for it.

use safeconduct_proto::common::v1::LimitRemaining;
use safeconduct_proto::connector::v1 as pb;
use serde_json::{Value, json};

use super::client;
use crate::cli::{CallArgs, Output};
use crate::exit::{Code, Failure, Outcome};
use crate::say::say;

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)
}

pub(crate) fn run(args: CallArgs) -> Outcome {
    let token = client::read_text(&args.token_file)?;
    let assertion = client::read_text(&args.assertion_file)?;
    let answer = runtime()?.block_on(async {
        let channel = client::connect(&args.address, &token, args.ca.as_deref())?;
        let request = pb::ExecuteRequest {
            assertion: assertion.expose().to_owned(),
            connector: args.connector,
            version: args.version,
            inputs_json: args.inputs,
            idempotency_key: args.key,
            ..pb::ExecuteRequest::default()
        };
        let answer = client::connector(&channel).execute(request).await;
        answer.map_err(|status| Failure::refused(client::explain(&status)))
    })?;
    let Some(execution) = answer.into_inner().execution else {
        return Err(Failure::internal("the answer holds no execution"));
    };
    show(&execution, args.output);
    let done = execution.state() == pb::ExecutionState::Succeeded;
    Ok(if done { Code::SUCCESS } else { Code::FAILURE })
}

/// Prints an execution.
pub(crate) fn show(execution: &pb::Execution, output: Output) {
    match output {
        Output::Human => say!("{}", human(execution)),
        Output::Json => say!("{}", to_json(execution)),
    }
}

/// An execution in a few lines.
pub(crate) fn human(execution: &pb::Execution) -> String {
    let mut lines = vec![format!(
        "{} {} {}: {}, effect {}{}",
        execution.execution_id,
        execution.connector,
        execution.version,
        short(execution.state().as_str_name(), "EXECUTION_STATE_"),
        short(execution.effect().as_str_name(), "EFFECT_"),
        if execution.replay.is_some() { ", replayed" } else { "" },
    )];
    if !execution.output_json.is_empty() {
        lines.push(execution.output_json.clone());
    }
    for limit in &execution.limits {
        let unit = if limit.unit.is_empty() { String::new() } else { format!(" {}", limit.unit) };
        lines.push(format!("limit {}: {} of {}{unit} left", limit.name, limit.left, limit.max));
    }
    if let Some(failure) = &execution.failure {
        lines.push(format!(
            "{} (HTTP {}) {}",
            short(failure.class().as_str_name(), "FAILURE_CLASS_"),
            failure.http_status,
            failure.problem_json
        ));
    }
    if let Some(error) = &execution.output_error {
        lines.push(format!("no output: {} {}", error.path, error.problem));
    }
    lines.push(client::agent_text(execution.guidance.as_ref()).to_owned());
    lines.join("\n  ")
}

fn short<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

fn limit(one: &LimitRemaining) -> Value {
    json!({"name": one.name, "unit": one.unit, "left": one.left, "max": one.max})
}

fn to_json(execution: &pb::Execution) -> Value {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    json!({
        "execution_id": execution.execution_id,
        "connector": execution.connector,
        "version": execution.version,
        "state": short(execution.state().as_str_name(), "EXECUTION_STATE_"),
        "final": execution.r#final,
        "effect": short(execution.effect().as_str_name(), "EFFECT_"),
        "output": parsed(&execution.output_json),
        "output_error": execution.output_error.as_ref().map(|one| json!({"path": one.path, "problem": one.problem})),
        "limits": execution.limits.iter().map(limit).collect::<Vec<_>>(),
        "replay_of": execution.replay.as_ref().map(|one| one.of_execution_id.clone()),
        "failure": execution.failure.as_ref().map(|one| json!({
            "class": short(one.class().as_str_name(), "FAILURE_CLASS_"),
            "http_status": one.http_status,
            "problem": parsed(&one.problem_json),
        })),
        "attempts": execution.attempts,
        "trace_id": execution.trace_id,
        "guidance": client::agent_text(execution.guidance.as_ref()),
    })
}
