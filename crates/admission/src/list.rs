//! The executions of one contact, newest first.

use safeconduct_admission_domain::{Entry, Matched, Name, Standing};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_types::{Refusal, Timestamp};

use crate::Admission;
use crate::cache::sealed_bytes;
use crate::keys;
use crate::ledger::{Page, refusal};
use crate::view::View;
use crate::wire::{ListPage, page_token, parse_list, to_record, to_state};

/// A page ends when its records have this many sealed bytes, so that every answer fits into a message.
const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;
/// How far the store's clock may be ahead of what is estimated.
const SKEW: std::time::Duration = std::time::Duration::from_hours(24);
/// Lines of the list in one call to the store.
const LINES: usize = 128;

impl Admission {
    #[tracing::instrument(name = "list_records", skip_all, fields(safeconduct.workspace = request.workspace_id))]
    pub(crate) async fn list_records(
        &self,
        request: proto::ListRecordsRequest,
    ) -> Result<proto::ListRecordsResponse, Refusal> {
        let mut asked = parse_list(&request)?;
        let workspace = asked.workspace.clone();
        let route = asked.route.clone();
        let page = self.ledger.page(&workspace, &route);
        let mut records = Vec::new();
        let mut bytes = 0_usize;
        loop {
            let lines = lines(&page, asked.after.as_ref()).await?;
            let Some(last) = lines.last().cloned() else { break };
            // As many at a time as the page may take: with a filter, more are read until it is full.
            for batch in lines.chunks(asked.size) {
                let found = fill(&page, &asked, batch).await?;
                for (entry, record) in found {
                    bytes = bytes.saturating_add(record.1);
                    records.push(record.0);
                    if records.len() >= asked.size || bytes >= MAX_PAGE_BYTES {
                        let more = entry != last || !self::lines(&page, Some(&entry)).await?.is_empty();
                        let next_page_token = if more { page_token(&entry) } else { String::new() };
                        return Ok(proto::ListRecordsResponse { records, next_page_token });
                    }
                }
            }
            asked.after = Some(last);
        }
        Ok(proto::ListRecordsResponse { records, next_page_token: String::new() })
    }
}

/// What is listed below `after`, newest first; as much as one call tells.
pub(crate) async fn lines(page: &Page<'_>, after: Option<&Entry>) -> Result<Vec<Entry>, Refusal> {
    let key = keys::list(&page.ledger.keyer, &page.slot);
    // What lies ahead are counters.
    let now = page.ledger.engine.now_estimate().after(SKEW).as_millis();
    let mut end = after.map_or(now, |entry| entry.admitted.as_millis());
    let mut limit = LINES;
    loop {
        let (_, members) = page.ledger.engine.index(&page.slot, &key, 0..=end, limit, true).await.map_err(refusal)?;
        let full = members.len() >= limit;
        let entry = |(score, member): (i64, bytes::Bytes)| {
            let execution = std::str::from_utf8(&member).ok()?.parse().ok()?;
            Some(Entry { admitted: Timestamp::from_millis(score), execution })
        };
        let below: Vec<Entry> =
            members.into_iter().filter_map(entry).filter(|entry| after.is_none_or(|after| entry < after)).collect();
        if !below.is_empty() || !full {
            return Ok(below);
        }
        // More began in the same millisecond than one call tells.
        limit = limit.saturating_mul(2);
        end = after.map_or(end, |entry| entry.admitted.as_millis());
    }
}

type Line = (Entry, (proto::ExecutionRecord, usize));

async fn fill(page: &Page<'_>, asked: &ListPage, batch: &[Entry]) -> Result<Vec<Line>, Refusal> {
    let mut view = View::blank();
    let names: Vec<Name> = batch.iter().map(|entry| Name::Execution(entry.execution.clone())).collect();
    page.read(&mut view, &names).await?;
    let line = |entry: &Entry| {
        // What has been forgotten is listed a while longer.
        let record = view.found.execution(&entry.execution).filter(|record| !record.is_over(view.now))?;
        let standing = record.standing(view.now);
        let wanted = asked.states.is_empty() || asked.states.contains(&to_state(standing));
        // What may never have begun is nothing to look back at.
        let begun = standing != Standing::Stuck;
        (wanted && begun).then(|| {
            let shown = to_record(view.now, record, Matched::Id, &page.epoch());
            (entry.clone(), (shown, sealed_bytes(record)))
        })
    };
    Ok(batch.iter().filter_map(line).collect())
}
