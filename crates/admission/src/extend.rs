//! An executor is still at it.

use safeconduct_admission_domain::decide_extend;
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::extend_response::Decision;
use safeconduct_service::wire::to_timestamp;
use safeconduct_types::Refusal;
use tracing::Span;

use crate::Admission;
use crate::settle::somebody_elses;
use crate::wire::parse_extend;

impl Admission {
    #[tracing::instrument(
        name = "extend",
        skip_all,
        fields(
            safeconduct.workspace = request.workspace_id,
            safeconduct.execution = request.execution_id,
            safeconduct.decision,
        )
    )]
    pub(crate) async fn extend(&self, request: proto::ExtendRequest) -> Result<proto::ExtendResponse, Refusal> {
        let parsed = parse_extend(request)?;
        if !parsed.owned {
            return Err(somebody_elses());
        }
        let asked = &parsed.asked;
        let (_, record) = self
            .ledger
            .page(&parsed.workspace, &parsed.route)
            .decide(parsed.operation, &asked.reads(), |_| Vec::new(), |now, found| decide_extend(now, asked, found))
            .await?;
        Span::current().record("safeconduct.decision", "extended");
        let extended = proto::Extended {
            lease_expire_time: record.lease_ends().map(to_timestamp),
            remaining: Vec::new(),
            revision: record.revision().into(),
            store_epoch: String::new(),
        };
        Ok(proto::ExtendResponse { decision: Some(Decision::Extended(extended)) })
    }
}
