//! May this request go ahead?

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use safeconduct_admission_domain::meter::Remaining;
use safeconduct_admission_domain::{Admit, AdmitAnswer, Admitted, Execution, Found, Matched, decide_admit};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::admit_response::Decision;
use safeconduct_proto::common::v1::LimitRemaining;
use safeconduct_service::wire::{to_mark, to_timestamp};
use safeconduct_types::{Reason, Refusal, Timestamp};
use tracing::Span;

use crate::Admission;
use crate::counts::{Split, to_all, to_denied};
use crate::healing::Healing;
use crate::ledger::{Asked, Page, RETRY_AFTER, Ruled, refusal};
use crate::shared::Shared;
use crate::view::View;
use crate::wire::{Checks, Entry, Parsed, parse_admit, to_key_reused, to_record};

/// How often a request is decided anew because it met a reservation that nobody reported back on.
const ROUNDS: usize = 4;

impl Admission {
    #[tracing::instrument(
        name = "admit",
        skip_all,
        fields(safeconduct.workspace = request.workspace_id, safeconduct.execution, safeconduct.decision)
    )]
    pub(crate) async fn admit(&self, request: proto::AdmitRequest) -> Result<proto::AdmitResponse, Refusal> {
        let parsed = parse_admit(request)?;
        let answer = match self.marks.met(&parsed.marks.others).await.map_err(refusal)? {
            Some(mark) => Decision::Marked(proto::Marked { mark: Some(to_mark(mark)) }),
            None => self.decide(parsed).await?,
        };
        let span = Span::current();
        span.record("safeconduct.decision", name(&answer));
        if let Decision::Replay(it) | Decision::Running(it) | Decision::Unknown(it) = &answer {
            span.record("safeconduct.execution", it.execution_id.as_str());
        }
        Ok(proto::AdmitResponse { decision: Some(answer) })
    }

    async fn decide(&self, parsed: Parsed<Entry>) -> Result<Decision, Refusal> {
        let Parsed { workspace, route, operation, asked, marks, .. } = parsed;
        match asked {
            Entry::Unrecorded(takes) => Box::pin(self.take(&workspace, &route, operation, takes, &marks)).await,
            Entry::Recorded(mut asked, wait) => {
                Span::current().record("safeconduct.execution", asked.execution.as_str());
                let page = self.ledger.page(&workspace, &route);
                let decision = self.admit_recorded(&page, &mut asked, &marks).await?;
                if wait > Duration::ZERO
                    && let Decision::Running(record) = decision
                {
                    return Box::pin(self.join(&page, &mut asked, &marks, record, wait)).await;
                }
                Ok(decision)
            }
        }
    }

    /// Decides about a request with a record. The first try supposes that it was never seen, which is one round trip.
    pub(crate) async fn admit_recorded(
        &self,
        page: &Page<'_>,
        asked: &mut Admit,
        marks: &Checks,
    ) -> Result<Decision, Refusal> {
        let split = Split::of(&asked.charges);
        if !split.shared.is_empty() {
            asked.epoch = self.ledger.shared(page.workspace).epoch().into();
        }
        if asked.resume.is_some() {
            asked.lost_until = page.lost_until();
        }
        let asked = &*asked;
        let reads = asked.reads();
        let question = Asked { operation: asked.operation, first: &reads, marks: &marks.own, charges: &split.own };
        let mut view = match asked.resume {
            None => page.suppose_nothing(&question),
            Some(_) => View::blank(),
        };
        let mut healing = Healing::default();
        let mut met = 0;
        while met < ROUNDS {
            let follow = |found: &Found| asked.follows(found);
            let again = AtomicBool::new(false);
            let decide = |now, found: &Found| {
                let decision = decide_admit(now, asked, found)?;
                let begun = matches!(decision.answer, AdmitAnswer::Reserved(_)) && decision.changes.is_empty();
                again.store(begun, Ordering::Relaxed);
                Ok(decision)
            };
            let ruled = page.decide(&question, view, follow, decide).await?;
            let epoch = page.epoch();
            let (now, answer, left, seen) = match ruled {
                Ruled::Marked(mark) => return Ok(Decision::Marked(proto::Marked { mark: Some(to_mark(mark)) })),
                Ruled::Denied(denial) => {
                    if denial.by_cap && Box::pin(self.ledger.heal(page, &mut healing)).await? {
                        view = View::blank();
                        continue;
                    }
                    let place = split.own_place(denial.first);
                    let left = split.places(&denial.left, &[]);
                    return Ok(Decision::Denied(to_denied(&asked.charges, &left, place, denial.now)));
                }
                Ruled::Answer { now, answer, left, view } => (now, answer, left, view),
            };
            return Ok(match answer {
                AdmitAnswer::Stuck(record) => {
                    Box::pin(self.ledger.resolve(page.workspace, record.id())).await?;
                    view = View::blank();
                    met += 1;
                    continue;
                }
                AdmitAnswer::Reserved(record) => {
                    // An earlier call of this operation began it and may be at it still: it may take, this one not.
                    if again.load(Ordering::Relaxed) && !Box::pin(self.ledger.is_promised(page, &record)).await? {
                        return Err(too_late());
                    }
                    return Box::pin(self.admit_shared(page, asked, &split, now, record, &left, seen)).await;
                }
                AdmitAnswer::Admitted(it) => {
                    let remaining = to_all(&asked.charges, &split.places(&left, &[]));
                    self.remember(&it.execution, seen);
                    Decision::Admitted(to_admitted(now, &it, remaining, epoch))
                }
                AdmitAnswer::Replay(it, by) => Decision::Replay(to_record(now, &it, by, &epoch)),
                AdmitAnswer::Running(it, by) => Decision::Running(to_record(now, &it, by, &epoch)),
                AdmitAnswer::Unknown(it, by) => Decision::Unknown(to_record(now, &it, by, &epoch)),
                AdmitAnswer::KeyReused(place) => Decision::KeyReused(to_key_reused(place)),
                AdmitAnswer::Consumed(place, by) => Decision::Consumed(proto::Consumed {
                    consume_index: u32::try_from(place).unwrap_or_default(),
                    execution_id: by.map(Into::into).unwrap_or_default(),
                }),
            });
        }
        Err(too_late())
    }

    /// The contact's part is taken; what is shared is taken now, or all is given back.
    #[allow(clippy::too_many_arguments, reason = "the two halves of one decision")]
    async fn admit_shared(
        &self,
        page: &Page<'_>,
        asked: &Admit,
        split: &Split,
        now: Timestamp,
        record: Execution,
        own: &[Remaining],
        view: View,
    ) -> Result<Decision, Refusal> {
        let lease = asked.lease.length();
        match self.ledger.take_shared(page.workspace, &record, asked.operation, lease).await? {
            Shared::Held(shared) => {
                let remaining = to_all(&asked.charges, &split.places(own, &shared));
                self.remember(&record, view);
                let admitted = Admitted { execution: record, resumed: false };
                Ok(Decision::Admitted(to_admitted(now, &admitted, remaining, page.epoch())))
            }
            Shared::Denied(denial) => {
                self.ledger.give_back(page, view, record.id(), asked.operation).await?;
                let place = split.shared_place(denial.first);
                let left = split.places(&[], &denial.left);
                Ok(Decision::Denied(to_denied(&asked.charges, &left, place, denial.now)))
            }
            Shared::TooLate => Err(too_late()),
        }
    }

    /// Remembers what was just written, for the executor's next word.
    pub(crate) fn remember(&self, record: &Execution, view: View) {
        let id = record.id().clone();
        let names = safeconduct_admission_domain::parts(record);
        self.ledger.executions.put(id, view.only(&names));
    }
}

/// Somebody took this request for one that died. It had no effect and never will.
pub(crate) fn too_late() -> Refusal {
    Refusal::new(
        Reason::Overloaded,
        "the request took longer than its lease and was given up; ask again with the same key",
    )
    .with_retry_after(RETRY_AFTER)
}

fn to_admitted(
    now: Timestamp,
    from: &Admitted,
    remaining: Vec<LimitRemaining>,
    store_epoch: String,
) -> proto::Admitted {
    proto::Admitted {
        fencing_token: from.execution.token().number(),
        generation: from.execution.generation(),
        remaining,
        lease_expire_time: from.execution.lease_ends().map(to_timestamp),
        resumed: from.resumed.then(|| to_record(now, &from.execution, Matched::Id, &store_epoch)),
        store_epoch,
    }
}

const fn name(decision: &Decision) -> &'static str {
    match decision {
        Decision::Admitted(proto::Admitted { resumed: Some(_), .. }) => "resumed",
        Decision::Admitted(_) => "admitted",
        Decision::Replay(_) => "replay",
        Decision::Running(_) => "running",
        Decision::Unknown(_) => "unknown",
        Decision::KeyReused(_) => "key_reused",
        Decision::Denied(_) => "denied",
        Decision::Marked(_) => "marked",
        Decision::Consumed(_) => "consumed",
    }
}
