//! What is left of limits, without taking anything.

use std::sync::Arc;

use safeconduct_admission_domain::limit::{Charge, Shape, Unit};
use safeconduct_admission_domain::{Counted, Decision};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_service::wire::Fields;
use safeconduct_types::{ContactId, ExecutionId, OperationId, Refusal, WorkspaceId};

use crate::Admission;
use crate::counts::{Split, to_all};
use crate::ledger::{Asked, Page, Ruled};
use crate::shared::no_more;
use crate::view::View;
use crate::wire::parse_limit;

/// The most limits of one request.
const MAX_LIMITS: usize = 32;

impl Admission {
    #[tracing::instrument(name = "get_usage", skip_all, fields(safeconduct.workspace = request.workspace_id))]
    pub(crate) async fn get_usage(&self, request: proto::GetUsageRequest) -> Result<proto::GetUsageResponse, Refusal> {
        let (workspace, route, asked) = parse(request)?;
        let split = Split::of(&asked);
        let page = self.ledger.page(&workspace, &route);
        let own = read(&page, &split.own).await?;
        let shared = read(&self.ledger.shared(&workspace), &split.shared).await?;
        let remaining = to_all(&asked, &split.places(&own, &shared));
        Ok(proto::GetUsageResponse { remaining, store_epoch: page.epoch() })
    }
}

async fn read(
    page: &Page<'_>,
    asks: &[Arc<Charge>],
) -> Result<Vec<safeconduct_admission_domain::meter::Remaining>, Refusal> {
    if asks.is_empty() {
        return Ok(Vec::new());
    }
    let asked = Asked { operation: OperationId::from_bytes([0; 16]), first: &[], marks: &[], charges: &[] };
    let decide = |_, _: &_| {
        Ok(Decision {
            answer: (),
            changes: Vec::new(),
            counted: Counted::Nothing,
            listed: Vec::new(),
            asks: asks.to_vec(),
            optional: false,
        })
    };
    match page.decide(&asked, View::blank(), no_more, decide).await? {
        Ruled::Answer { left, .. } => Ok(left),
        Ruled::Denied(_) | Ruled::Marked(_) => Err(Refusal::internal("a question was denied")),
    }
}

/// A charge of nothing for each limit, and for each unit of a sum.
fn parse(from: proto::GetUsageRequest) -> Result<(WorkspaceId, String, Vec<Arc<Charge>>), Refusal> {
    let mut fields = Fields::new();
    let workspace = fields.parse::<WorkspaceId>("workspace_id", &from.workspace_id);
    let contact = fields.optional::<ContactId>("contact_id", &from.contact_id);
    if !(1..=MAX_LIMITS).contains(&from.limits.len()) {
        fields.wrong("limits", "must be between 1 and 32");
    }
    let mut asked = Vec::new();
    for (place, limit) in from.limits.into_iter().take(MAX_LIMITS).enumerate() {
        let at = format!("limits[{place}]");
        let Some(limit) = parse_limit(&mut fields, &at, Some(limit), contact.is_some()) else { continue };
        let units = match &limit.shape {
            Shape::Rate(_) => vec![Unit::NONE],
            Shape::Cap(cap) => cap.maxima().iter().map(|(unit, _)| unit.clone()).collect(),
        };
        for unit in units {
            match Charge::parse(limit.clone(), 0, unit) {
                Ok(charge) => asked.push(Arc::new(charge)),
                Err(errors) => {
                    for error in errors {
                        fields.wrong(&format!("{at}.{}", error.field), error.problem);
                    }
                }
            }
        }
    }
    fields.finish()?;
    let Some(workspace) = workspace else {
        return Err(Refusal::internal("a field was not parsed and not refused"));
    };
    let route = contact.map(|contact| ExecutionId::route_of(&workspace, &contact)).unwrap_or_default();
    Ok((workspace, route, asked))
}
