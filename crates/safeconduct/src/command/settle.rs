//! `settle`: what became of an execution whose outcome was unknown.

use safeconduct_proto::connector::v1 as pb;

use super::client;
use super::release_key::LookedAt;
use crate::cli::{FoundOut, SettleArgs};
use crate::command::call;
use crate::exit::{Code, Failure, Outcome};

pub(crate) fn run(args: &SettleArgs) -> Outcome {
    let (state, effect) = match args.state {
        FoundOut::Succeeded => (pb::ExecutionState::Succeeded, pb::Effect::Happened),
        FoundOut::FailedWithEffect => (pb::ExecutionState::Failed, pb::Effect::Happened),
        FoundOut::Failed => (pb::ExecutionState::Failed, pb::Effect::None),
    };
    let settled = call::runtime()?.block_on(async {
        let LookedAt { channel, execution } = LookedAt::look(&args.act).await?;
        let request = pb::SettleExecutionRequest {
            workspace_id: args.act.workspace.clone(),
            execution_id: args.act.execution_id.clone(),
            state: state.into(),
            effect: effect.into(),
            output_json: args.output_json.clone(),
            reason: args.act.reason.clone(),
            revision: execution.revision,
        };
        let answer = client::admin(&channel).settle_execution(request).await;
        answer.map_err(|status| Failure::refused(client::explain(&status)))
    })?;
    let Some(execution) = settled.into_inner().execution else {
        return Err(Failure::internal("the answer holds no execution"));
    };
    call::show(&execution, args.act.output);
    Ok(Code::SUCCESS)
}
