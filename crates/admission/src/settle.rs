//! An executor says how it ended.

use safeconduct_admission_domain::meter::Remaining;
use safeconduct_admission_domain::{Execution, Found, Matched, Settle, Settlement, Standing, decide_settle};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_types::{Reason, Refusal, Timestamp};
use tracing::Span;

use crate::Admission;
use crate::counts::{Split, to_all};
use crate::ledger::{Asked, Page, Ruled};
use crate::view::View;
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
        let page = self.ledger.page(&parsed.workspace, &parsed.route);
        let (now, record, left) = self.settle_at(&page, &parsed.asked).await?;
        let decision = match record.standing(now) {
            Standing::Completed => "completed",
            Standing::Released => "released",
            Standing::Unknown | Standing::Running | Standing::Reserving | Standing::Stuck => "unknown",
        };
        Span::current().record("safeconduct.decision", decision);
        let charges: Vec<_> = record.charges().iter().map(|held| std::sync::Arc::clone(&held.charge)).collect();
        Ok(proto::SettleResponse {
            remaining: to_all(&charges, &left),
            record: Some(to_record(now, &record, Matched::Id, &page.epoch())),
        })
    }

    /// The record afterwards, and what is left of each of its limits.
    pub(crate) async fn settle_at(
        &self,
        page: &Page<'_>,
        asked: &Settle,
    ) -> Result<(Timestamp, Execution, Vec<Option<Remaining>>), Refusal> {
        if matches!(asked.settlement, Settlement::Released { free_completed: true, .. }) {
            // Whoever is denied by the shared limits finishes it, should this process not come to it.
            self.ledger.announce_closing(page.workspace, &asked.execution).await?;
        }
        let reads = asked.reads();
        let question = Asked { operation: asked.operation, first: &reads, marks: &[], charges: &[] };
        let view = match self.ledger.executions.take(&asked.execution) {
            Some(view) => view.remembered(self.ledger.engine.now_estimate()),
            None => View::blank(),
        };
        let follow = |found: &Found| asked.follows(found);
        let ruled = page.decide(&question, view, follow, |_, found| decide_settle(asked, found)).await?;
        let Ruled::Answer { now, answer: record, left: own, .. } = ruled else {
            return Err(Refusal::internal("a settle was denied"));
        };
        self.waiters.wake(record.id());
        let mut shared = Vec::new();
        if record.has_shared() && record.expires().is_some() {
            match self.ledger.close_shared(page.workspace, now, &record).await {
                Ok(left) => shared = left,
                // The record is the truth; whoever is denied by these limits next closes the hold.
                Err(refusal) => tracing::warn!(reason = refusal.reason().as_str(), "a hold was not closed yet"),
            }
        }
        let charges: Vec<_> = record.charges().iter().map(|held| std::sync::Arc::clone(&held.charge)).collect();
        let left = Split::of(&charges).places(&own, &shared);
        Ok((now, record, left))
    }
}

/// The execution is not this contact's: for it, there is none.
pub(crate) fn somebody_elses() -> Refusal {
    Refusal::new(Reason::ExecutionUnknown, "there is no such execution")
}
