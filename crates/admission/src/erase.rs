//! Forgets a contact: its executions with all that belongs to them, and its counters.
//!
//! Repeatable, and bounded a call: what is left is erased by the next. An execution that runs loses its lease, for its
//! record is gone; what it holds of shared limits stays counted. Marks on the contact stay: they close something. What
//! goes by itself (rates, the memory of operations and of single-use ids, keys that were linked to an execution) is
//! not looked for.

use std::collections::HashMap;

use safeconduct_admission_domain::step::{IndexOp, Step};
use safeconduct_admission_domain::{Change, Counted, Decision, Found, Listed, Name, parts};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_service::wire::Fields;
use safeconduct_store::RecordKey;
use safeconduct_types::{ContactId, ExecutionId, OperationId, Refusal, WorkspaceId};

use crate::Admission;
use crate::keys;
use crate::ledger::{Asked, Page, Ruled, refusal};
use crate::view::View;

/// The most lines of the contact's list that one call erases.
const MOST: usize = 256;

impl Admission {
    #[tracing::instrument(name = "erase_contact", skip_all, fields(safeconduct.workspace = request.workspace_id))]
    pub(crate) async fn erase_contact(
        &self,
        request: proto::EraseContactRequest,
    ) -> Result<proto::EraseContactResponse, Refusal> {
        let mut fields = Fields::new();
        let workspace = fields.parse::<WorkspaceId>("workspace_id", &request.workspace_id);
        let contact = fields.parse::<ContactId>("contact_id", &request.contact_id);
        let operation = fields.parse::<OperationId>("operation_id", &request.operation_id);
        fields.finish()?;
        let (Some(workspace), Some(contact), Some(operation)) = (workspace, contact, operation) else {
            return Err(Refusal::internal("a field was not parsed and not refused"));
        };
        let route = ExecutionId::route_of(&workspace, &contact);
        let page = self.ledger.page(&workspace, &route);
        let (keyer, slot) = (&self.ledger.keyer, &page.slot);
        let mut erased: HashMap<ExecutionId, bool> = HashMap::new();
        let mut counters: Vec<RecordKey> = Vec::new();
        let mut unlisted = Vec::new();
        let mut full = false;
        for index in [keys::list(keyer, slot), keys::reserving(keyer, slot)] {
            let engine = &self.ledger.engine;
            let (_, members) = engine.index(slot, &index, 0..=i64::MAX, MOST, true).await.map_err(refusal)?;
            full |= members.len() >= MOST;
            for (_, member) in members {
                match keys::counter_of(keyer, slot, &member) {
                    Some(counter) => {
                        counters.push(counter);
                        unlisted.push(IndexOp::Remove { key: index.clone(), member: member.to_vec() });
                    }
                    None => {
                        if let Some(id) = std::str::from_utf8(&member).ok().and_then(|text| text.parse().ok())
                            && !erased.contains_key(&id)
                        {
                            let was_there = self.erase(&page, operation, &id).await?;
                            erased.insert(id, was_there);
                        }
                    }
                }
            }
        }
        for some in counters.chunks(safeconduct_store::MAX_RECORDS) {
            self.ledger.engine.forget(slot, some).await.map_err(refusal)?;
        }
        if !unlisted.is_empty() {
            // Last: until it is done, another call finds the counters again.
            let step = Step { operation, changes: Vec::new(), meters: Vec::new(), index: unlisted };
            let _ = self.ledger.engine.step(slot, step).await.map_err(refusal)?;
        }
        let count = erased.values().filter(|was_there| **was_there).count();
        tracing::info!(records = count, complete = !full, "a contact was erased");
        Ok(proto::EraseContactResponse { erased_records: u32::try_from(count).unwrap_or(u32::MAX), complete: !full })
    }

    /// Erases one execution. Whether there was a record.
    async fn erase(&self, page: &Page<'_>, operation: OperationId, id: &ExecutionId) -> Result<bool, Refusal> {
        drop(self.ledger.executions.take(id));
        let names = [Name::Execution(id.clone())];
        let asked = Asked { operation, first: &names, marks: &[], charges: &[] };
        let follow = |found: &Found| found.execution(id).map(parts).unwrap_or_default();
        let ruled = page.decide(&asked, View::blank(), follow, |_, found| Ok(gone(id, found))).await?;
        let Ruled::Answer { now, answer: shared, .. } = ruled else {
            return Err(Refusal::internal("erasing was denied"));
        };
        if shared == Some(true) {
            self.ledger.close_erased(page.workspace, now, id).await?;
        }
        self.waiters.wake(id);
        Ok(shared.is_some())
    }
}

/// Nothing of it stays. Answers whether it held of shared limits, if it was there.
fn gone(id: &ExecutionId, found: &Found) -> Decision<Option<bool>> {
    let record = found.execution(id);
    let mine = |name: &Name| match (name, found.get(name)) {
        (_, None) => false,
        (Name::Key(_), Some(safeconduct_admission_domain::Record::Pointer(pointer))) => pointer.execution == *id,
        (_, Some(_)) => true,
    };
    let names = record.map(parts).unwrap_or_default();
    let change = |name| Change { name, record: None, expires: None };
    Decision {
        answer: record.map(safeconduct_admission_domain::Execution::has_shared),
        changes: names.into_iter().filter(mine).map(change).collect(),
        counted: Counted::Nothing,
        listed: vec![Listed::Undone(id.clone()), Listed::Resolved(id.clone())],
        asks: Vec::new(),
        optional: false,
    }
}
