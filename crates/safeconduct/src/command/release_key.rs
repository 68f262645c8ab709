//! `release-key`: the same request may have an effect again.

use safeconduct_proto::connector::v1 as pb;
use serde_json::json;

use super::client::{self, Authenticated};
use crate::cli::{ActArgs, Output, ReleaseKeyArgs};
use crate::command::call;
use crate::exit::{Code, Failure, Outcome};
use crate::say::say;

/// An execution as the operator looks at it, and the way to act on it.
pub(super) struct LookedAt {
    pub(super) channel: Authenticated,
    pub(super) execution: pb::Execution,
}

impl LookedAt {
    /// Looks: what is done next is refused if the execution has changed since.
    pub(super) async fn look(act: &ActArgs) -> Result<Self, Failure> {
        let token = client::read_text(&act.token_file)?;
        let channel = client::connect(&act.address, &token, act.ca.as_deref())?;
        let target = pb::execution_target::Target::ExecutionId(act.execution_id.clone());
        let request = pb::GetExecutionRequest {
            target: Some(pb::ExecutionTarget { target: Some(target) }),
            workspace_id: act.workspace.clone(),
            ..pb::GetExecutionRequest::default()
        };
        let answer = client::connector(&channel).get_execution(request).await;
        let answer = answer.map_err(|status| Failure::refused(client::explain(&status)))?;
        let execution = answer.into_inner().execution;
        let execution = execution.ok_or_else(|| Failure::internal("the answer holds no execution"))?;
        Ok(Self { channel, execution })
    }
}

pub(crate) fn run(args: &ReleaseKeyArgs) -> Outcome {
    let (execution, released) = call::runtime()?.block_on(async {
        let LookedAt { channel, execution } = LookedAt::look(&args.act).await?;
        if execution.effect() == pb::Effect::Happened && !args.although_it_happened {
            return Err(Failure::refused(format!(
                "{}\n  This execution has had its effect. With its keys free, the same request has it once more; say \
                 --although-it-happened if that is what you want",
                call::human(&execution)
            )));
        }
        let request = pb::ReleaseKeyRequest {
            workspace_id: args.act.workspace.clone(),
            execution_id: args.act.execution_id.clone(),
            reason: args.act.reason.clone(),
            revision: execution.revision,
        };
        let answer = client::admin(&channel).release_key(request).await;
        let answer = answer.map_err(|status| Failure::refused(client::explain(&status)))?;
        Ok((execution, answer.into_inner().released))
    })?;
    match args.act.output {
        Output::Human if released => say!("{}: its keys are free", execution.execution_id),
        Output::Human => say!("{}: its keys were free before", execution.execution_id),
        Output::Json => say!("{}", json!({"execution_id": execution.execution_id, "released": released})),
    }
    Ok(Code::SUCCESS)
}
