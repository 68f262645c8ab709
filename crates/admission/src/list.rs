//! The executions of one contact, newest first.

use safeconduct_admission_domain::{Bucket, Entry, Execution, Matched, Name, Record, entries};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_types::Refusal;

use crate::Admission;
use crate::ledger::{Page, View};
use crate::wire::{ListPage, page_token, parse_list, to_record};

/// A page ends when its records have this many sealed bytes, so that every answer fits into a message.
const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;

impl Admission {
    #[tracing::instrument(name = "list_records", skip_all, fields(safeconduct.workspace = request.workspace_id))]
    pub(crate) async fn list_records(
        &self,
        request: proto::ListRecordsRequest,
    ) -> Result<proto::ListRecordsResponse, Refusal> {
        let asked = parse_list(&request)?;
        let page = self.ledger.page(&asked.workspace, &asked.route);
        let mut listed = View::default();
        page.read(&mut listed, &Bucket::all().map(Name::Bucket).collect::<Vec<_>>()).await?;
        fill(&page, &asked, &entries(&listed.found, asked.after.as_ref())).await
    }
}

async fn fill(page: &Page<'_>, asked: &ListPage, listed: &[Entry]) -> Result<proto::ListRecordsResponse, Refusal> {
    let mut records = Vec::new();
    let mut bytes = 0_usize;
    // As many at a time as the page may take: with a filter, more are read until it is full.
    for batch in listed.chunks(asked.size) {
        let mut view = View::default();
        let names: Vec<Name> = batch.iter().map(|entry| Name::Execution(entry.execution.clone())).collect();
        page.read(&mut view, &names).await?;
        for (entry, name) in batch.iter().zip(&names) {
            // What has been forgotten is listed a while longer.
            let Some(Record::Execution(record)) = view.found.get(name) else { continue };
            if !asked.standings.is_empty() && !asked.standings.contains(&record.standing(view.now)) {
                continue;
            }
            bytes = bytes.saturating_add(size(record));
            records.push(to_record(view.now, record, Matched::Id));
            if records.len() >= asked.size || bytes >= MAX_PAGE_BYTES {
                let more = listed.last() != Some(entry);
                let next_page_token = if more { page_token(entry) } else { String::new() };
                return Ok(proto::ListRecordsResponse { records, next_page_token });
            }
        }
    }
    Ok(proto::ListRecordsResponse { records, next_page_token: String::new() })
}

fn size(record: &Execution) -> usize {
    [Some(record.intent()), record.checkpoint(), record.outcome()]
        .into_iter()
        .flatten()
        .map(|sealed| sealed.as_bytes().len())
        .sum()
}
