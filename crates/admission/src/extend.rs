//! An executor is still at it.

use std::sync::atomic::{AtomicBool, Ordering};

use safeconduct_admission_domain::{Execution, Extend, Found, decide_extend, decide_withdraw};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::extend_response::Decision;
use safeconduct_service::wire::{to_mark, to_timestamp};
use safeconduct_types::{Reason, Refusal};
use tracing::Span;

use crate::Admission;
use crate::counts::{Split, to_all, to_denied};
use crate::healing::Healing;
use crate::ledger::{Asked, Page, RETRY_AFTER, Ruled, refusal};
use crate::settle::somebody_elses;
use crate::shared::{Shared, no_more};
use crate::view::View;
use crate::wire::{Checks, parse_extend};

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
        let decision = if let Some(mark) = self.marks.met(&parsed.marks.others).await.map_err(refusal)? {
            Decision::Marked(proto::Marked { mark: Some(to_mark(mark)) })
        } else {
            let page = self.ledger.page(&parsed.workspace, &parsed.route);
            self.extend_at(&page, &parsed.asked, &parsed.marks).await?
        };
        let name = match &decision {
            Decision::Extended(_) => "extended",
            Decision::Denied(_) => "denied",
            Decision::Marked(_) => "marked",
        };
        Span::current().record("safeconduct.decision", name);
        Ok(proto::ExtendResponse { decision: Some(decision) })
    }

    async fn extend_at(&self, page: &Page<'_>, asked: &Extend, marks: &Checks) -> Result<Decision, Refusal> {
        let split = Split::of(&asked.charges);
        let reads = asked.reads();
        let question = Asked { operation: asked.operation, first: &reads, marks: &marks.own, charges: &split.own };
        let mut view = match self.ledger.executions.take(&asked.execution) {
            Some(mut view) => {
                view.suppose_absent(marks.own.iter().map(crate::view::mark_name));
                view.remembered(self.ledger.engine.now_estimate())
            }
            None => View::blank(),
        };
        let mut healing = Healing::default();
        let again = AtomicBool::new(false);
        let (record, left, seen) = loop {
            let decide = |now, found: &Found| {
                let decision = decide_extend(now, asked, found)?;
                again.store(decision.changes.is_empty(), Ordering::Relaxed);
                Ok(decision)
            };
            match page.decide(&question, view, no_more, decide).await? {
                Ruled::Answer { answer, left, view, .. } => break (answer, left, view),
                Ruled::Marked(mark) => return Ok(Decision::Marked(proto::Marked { mark: Some(to_mark(mark)) })),
                Ruled::Denied(denial) => {
                    if !denial.by_cap || !self.ledger.heal(page, &mut healing).await? {
                        let all = split.places(&denial.left, &[]);
                        let place = split.own_place(denial.first);
                        return Ok(Decision::Denied(to_denied(&asked.charges, &all, place, denial.now)));
                    }
                    view = View::blank();
                }
            }
        };
        let mut shared = Vec::new();
        if !split.shared.is_empty() && again.load(Ordering::Relaxed) {
            // An earlier call of this operation may be at it still: it may take, this one not, for what that one is
            // denied it takes back.
            if !self.ledger.is_held(page.workspace, &record, asked.operation).await? {
                self.withdraw(page, asked, View::blank()).await?;
                return Err(broken_off());
            }
        } else if !split.shared.is_empty() {
            let lease = record.lease_ends().map(|end| end.since(self.ledger.engine.now_estimate()));
            match self.ledger.take_shared(page.workspace, &record, asked.operation, lease.unwrap_or_default()).await? {
                Shared::Held(left) => shared = left,
                Shared::TooLate => return Err(over()),
                Shared::Denied(denial) => {
                    self.withdraw(page, asked, seen).await?;
                    let all = split.places(&[], &denial.left);
                    let place = split.shared_place(denial.first);
                    return Ok(Decision::Denied(to_denied(&asked.charges, &all, place, denial.now)));
                }
            }
        }
        let extended = to_extended(&record, to_all(&asked.charges, &split.places(&left, &shared)), page.epoch());
        self.remember(&record, seen);
        Ok(Decision::Extended(extended))
    }

    /// Takes back the charges of an extension that a shared limit denied.
    async fn withdraw(&self, page: &Page<'_>, asked: &Extend, view: View) -> Result<(), Refusal> {
        let reads = asked.reads();
        let question = Asked { operation: asked.operation, first: &reads, marks: &[], charges: &[] };
        let decide = |_, found: &Found| decide_withdraw(asked, found);
        page.decide(&question, view, no_more, decide).await.map(drop)
    }
}

fn broken_off() -> Refusal {
    Refusal::new(Reason::Overloaded, "the extension was given up half way; ask again as another operation")
        .with_retry_after(RETRY_AFTER)
}

fn over() -> Refusal {
    Refusal::new(Reason::LeaseLost, "the execution has ended or another executor has it; look it up")
}

fn to_extended(
    record: &Execution,
    remaining: Vec<safeconduct_proto::common::v1::LimitRemaining>,
    store_epoch: String,
) -> proto::Extended {
    proto::Extended {
        lease_expire_time: record.lease_ends().map(to_timestamp),
        remaining,
        revision: record.revision().into(),
        store_epoch,
    }
}
