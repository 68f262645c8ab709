//! May this request go ahead?

use safeconduct_admission_domain::{AdmitAnswer, Admitted, Matched, decide_admit};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::admit_response::Decision;
use safeconduct_service::wire::to_timestamp;
use safeconduct_types::{Refusal, Timestamp};
use tracing::Span;

use crate::Admission;
use crate::wire::{parse_admit, to_key_reused, to_record};

impl Admission {
    #[tracing::instrument(
        name = "admit",
        skip_all,
        fields(safeconduct.workspace = request.workspace_id, safeconduct.execution, safeconduct.decision)
    )]
    pub(crate) async fn admit(&self, request: proto::AdmitRequest) -> Result<proto::AdmitResponse, Refusal> {
        let parsed = parse_admit(request)?;
        let asked = &parsed.asked;
        let (now, answer) = self
            .ledger
            .page(&parsed.workspace, &parsed.route)
            .decide(
                parsed.operation,
                &asked.reads(),
                |found| asked.follows(found),
                |now, found| decide_admit(now, asked, found),
            )
            .await?;
        let span = Span::current();
        let (decision, answer) = match answer {
            AdmitAnswer::Admitted(it) => {
                span.record("safeconduct.execution", it.execution.id().as_str());
                (if it.resumed { "resumed" } else { "admitted" }, Decision::Admitted(to_admitted(now, &it)))
            }
            AdmitAnswer::Replay(it, by) => ("replay", Decision::Replay(to_record(now, &it, by))),
            AdmitAnswer::Running(it, by) => ("running", Decision::Running(to_record(now, &it, by))),
            AdmitAnswer::Unknown(it, by) => ("unknown", Decision::Unknown(to_record(now, &it, by))),
            AdmitAnswer::KeyReused(place) => ("key_reused", Decision::KeyReused(to_key_reused(place))),
        };
        span.record("safeconduct.decision", decision);
        if let Decision::Replay(it) | Decision::Running(it) | Decision::Unknown(it) = &answer {
            span.record("safeconduct.execution", it.execution_id.as_str());
        }
        Ok(proto::AdmitResponse { decision: Some(answer) })
    }
}

fn to_admitted(now: Timestamp, from: &Admitted) -> proto::Admitted {
    proto::Admitted {
        fencing_token: from.execution.token().number(),
        generation: from.execution.generation(),
        remaining: Vec::new(),
        store_epoch: String::new(),
        lease_expire_time: from.execution.lease_ends().map(to_timestamp),
        resumed: from.resumed.then(|| to_record(now, &from.execution, Matched::Id)),
    }
}
