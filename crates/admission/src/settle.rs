//! An executor says how it ended.

use safeconduct_admission_domain::{Matched, Standing, decide_settle};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_types::{Reason, Refusal};
use tracing::Span;

use crate::Admission;
use crate::wire::{parse_settle, to_record};

impl Admission {
    #[tracing::instrument(
        name = "settle",
        skip_all,
        fields(
            safeconduct.workspace = request.workspace_id,
            safeconduct.execution = request.execution_id,
            safeconduct.decision,
        )
    )]
    pub(crate) async fn settle(&self, request: proto::SettleRequest) -> Result<proto::SettleResponse, Refusal> {
        let parsed = parse_settle(request)?;
        if !parsed.owned {
            return Err(somebody_elses());
        }
        let asked = &parsed.asked;
        let (now, record) = self
            .ledger
            .page(&parsed.workspace, &parsed.route)
            .decide(
                parsed.operation,
                &asked.reads(),
                |found| asked.follows(found),
                |now, found| decide_settle(now, asked, found),
            )
            .await?;
        let decision = match record.standing(now) {
            Standing::Completed => "completed",
            Standing::Released => "released",
            Standing::Unknown | Standing::Running => "unknown",
        };
        Span::current().record("safeconduct.decision", decision);
        Ok(proto::SettleResponse { record: Some(to_record(now, &record, Matched::Id)), remaining: Vec::new() })
    }
}

/// The execution is not this contact's: for it, there is none.
pub(crate) fn somebody_elses() -> Refusal {
    Refusal::new(Reason::ExecutionUnknown, "there is no such execution")
}
