//! Charges that leave no record: what identity and OTP count. Nothing is to be settled.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_domain::limit::{Charge, Kind};
use safeconduct_admission_domain::{
    Admit, BRIEF, Found, Keys, Lease, Retention, Sealed, Settle, Settlement, Takes as Asking, TakesAnswer, Token,
    decide_takes,
};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::admit_response::Decision;
use safeconduct_service::wire::to_mark;
use safeconduct_types::{ExecutionId, OperationId, Refusal, Timestamp, WorkspaceId};

use crate::Admission;
use crate::admit::too_late;
use crate::counts::{Split, to_all, to_denied};
use crate::healing::Healing;
use crate::ledger::{Asked, Page, Ruled};
use crate::shared::no_more;
use crate::view::View;
use crate::wire::{Checks, Takes};

/// How long an execution that is settled at once may take.
const LEASE: Duration = Duration::from_secs(10);

impl Admission {
    pub(crate) async fn take(
        &self,
        workspace: &WorkspaceId,
        route: &str,
        operation: OperationId,
        takes: Takes,
        marks: &Checks,
    ) -> Result<Decision, Refusal> {
        let split = Split::of(&takes.charges);
        let durable = |charge: &Arc<Charge>| charge.limit().kind() != Kind::Rate;
        let own_durable = split.own.iter().any(durable) || !takes.consume.is_empty();
        if own_durable && !split.shared.is_empty() {
            return self.take_both(&self.ledger.page(workspace, route), operation, takes, marks).await;
        }
        let mut left = (Vec::new(), Vec::new());
        let own = Asking { operation, consume: takes.consume, remembered: own_durable };
        let of_shared = Asking { operation, consume: Vec::new(), remembered: split.shared.iter().any(durable) };
        let wanted = !split.own.is_empty() || own_durable || !marks.own.is_empty();
        if wanted {
            let page = self.ledger.page(workspace, route);
            match self.take_at(&page, &own, &split.own, marks).await? {
                Ruled::Answer { answer: TakesAnswer::Taken, left: own, .. } => left.0 = own,
                Ruled::Answer { answer: TakesAnswer::Consumed(place, by), .. } => {
                    return Ok(Decision::Consumed(proto::Consumed {
                        consume_index: u32::try_from(place).unwrap_or_default(),
                        execution_id: by.map(Into::into).unwrap_or_default(),
                    }));
                }
                Ruled::Denied(denial) => {
                    let all = split.places(&denial.left, &[]);
                    let place = split.own_place(denial.first);
                    return Ok(Decision::Denied(to_denied(&takes.charges, &all, place, denial.now)));
                }
                Ruled::Marked(mark) => return Ok(Decision::Marked(proto::Marked { mark: Some(to_mark(mark)) })),
            }
        }
        if !split.shared.is_empty() {
            let page = self.ledger.shared(workspace);
            match self.take_at(&page, &of_shared, &split.shared, &Checks::default()).await? {
                Ruled::Answer { left: shared, .. } => left.1 = shared,
                Ruled::Denied(denial) => {
                    let all = split.places(&left.0, &denial.left);
                    let place = split.shared_place(denial.first);
                    return Ok(Decision::Denied(to_denied(&takes.charges, &all, place, denial.now)));
                }
                Ruled::Marked(mark) => return Ok(Decision::Marked(proto::Marked { mark: Some(to_mark(mark)) })),
            }
        }
        Ok(Decision::Admitted(proto::Admitted {
            remaining: to_all(&takes.charges, &split.places(&left.0, &left.1)),
            store_epoch: self.ledger.page(workspace, route).epoch(),
            ..proto::Admitted::default()
        }))
    }

    /// In one slot. Denied by a cap, it looks after reservations that are due, and tries again.
    async fn take_at(
        &self,
        page: &Page<'_>,
        asking: &Asking,
        charges: &[Arc<Charge>],
        marks: &Checks,
    ) -> Result<Ruled<TakesAnswer>, Refusal> {
        let reads = asking.reads();
        let asked = Asked { operation: asking.operation, first: &reads, marks: &marks.own, charges };
        let mut view = page.suppose_nothing(&asked);
        let mut healing = Healing::default();
        loop {
            match page.decide(&asked, view, no_more, |_, found: &Found| Ok(decide_takes(asking, found))).await? {
                Ruled::Denied(denial) if denial.by_cap && self.ledger.heal(page, &mut healing).await? => {
                    view = View::blank();
                }
                ruled @ (Ruled::Answer { .. } | Ruled::Denied(_) | Ruled::Marked(_)) => return Ok(ruled),
            }
        }
    }

    /// In both slots: as an execution of its own, whose id is the operation's, that is settled at once.
    async fn take_both(
        &self,
        page: &Page<'_>,
        operation: OperationId,
        takes: Takes,
        marks: &Checks,
    ) -> Result<Decision, Refusal> {
        let internal = |_| Refusal::internal("a constant is out of its bounds");
        let execution: ExecutionId = format!("exe_{}{operation}", page.route)
            .parse()
            .map_err(|_| Refusal::internal("an operation does not make an execution id"))?;
        let mut asked = Admit {
            execution: execution.clone(),
            operation,
            keys: Keys::default(),
            fingerprint: None,
            retain: Retention::parse(BRIEF).map_err(internal)?,
            lease: Lease::parse(LEASE).map_err(internal)?,
            intent: Sealed::parse(Vec::new()).map_err(internal)?,
            resume: None,
            charges: takes.charges,
            consume: takes.consume,
            epoch: Box::default(),
            lost_until: Timestamp::default(),
            listed: false,
        };
        match self.admit_recorded(page, &mut asked, marks).await? {
            Decision::Admitted(admitted) => {
                let outcome = Sealed::parse(Vec::new()).map_err(internal)?;
                let settlement = Settlement::Completed { outcome, retain: None, actual: Vec::new() };
                let token = Token::new(admitted.fencing_token);
                let word = Settle { execution, operation, token, settlement };
                if let Err(refusal) = self.settle_at(page, &word).await {
                    // It is taken all the same; the record will read as unknown.
                    tracing::warn!(reason = refusal.reason().as_str(), "charges were taken and not settled");
                }
                Ok(Decision::Admitted(proto::Admitted {
                    remaining: admitted.remaining,
                    store_epoch: admitted.store_epoch,
                    ..proto::Admitted::default()
                }))
            }
            // A repeat: it was taken, and settled or not.
            Decision::Replay(record) if record.state == i32::from(proto::RecordState::Released) => Err(too_late()),
            Decision::Replay(record) | Decision::Unknown(record) => Ok(Decision::Admitted(proto::Admitted {
                store_epoch: record.store_epoch,
                ..proto::Admitted::default()
            })),
            other @ (Decision::Running(_)
            | Decision::KeyReused(_)
            | Decision::Denied(_)
            | Decision::Marked(_)
            | Decision::Consumed(_)) => Ok(other),
        }
    }
}
