//! Has this request been made before?

use safeconduct_admission_domain::{LookupAnswer, decide_lookup};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::lookup_response::Answer;
use safeconduct_types::Refusal;
use tracing::Span;

use crate::Admission;
use crate::wire::{parse_lookup, to_key_reused, to_record};

impl Admission {
    #[tracing::instrument(
        name = "lookup",
        skip_all,
        fields(safeconduct.workspace = request.workspace_id, safeconduct.execution, safeconduct.decision)
    )]
    pub(crate) async fn lookup(&self, request: proto::LookupRequest) -> Result<proto::LookupResponse, Refusal> {
        let parsed = parse_lookup(request)?;
        let asked = &parsed.asked;
        let (now, mut answer) = self
            .ledger
            .page(&parsed.workspace, &parsed.route)
            .decide(
                parsed.operation,
                &asked.reads(),
                |found| asked.follows(found),
                |now, found| decide_lookup(now, asked, found),
            )
            .await?;
        if !parsed.owned {
            // Somebody else's: the same work and the same answer as if there were none.
            answer = LookupAnswer::Absent;
        }
        let (decision, answer) = match answer {
            LookupAnswer::Absent => ("absent", Answer::Absent(proto::Absent::default())),
            LookupAnswer::Replay(it, by) => ("replay", Answer::Replay(to_record(now, &it, by))),
            LookupAnswer::Running(it, by) => ("running", Answer::Running(to_record(now, &it, by))),
            LookupAnswer::Unknown(it, by) => ("unknown", Answer::Unknown(to_record(now, &it, by))),
            LookupAnswer::KeyReused(place) => ("key_reused", Answer::KeyReused(to_key_reused(place))),
        };
        let span = Span::current();
        span.record("safeconduct.decision", decision);
        if let Answer::Replay(it) | Answer::Running(it) | Answer::Unknown(it) = &answer {
            span.record("safeconduct.execution", it.execution_id.as_str());
        }
        Ok(proto::LookupResponse { answer: Some(answer) })
    }
}
