//! What this process wrote of executions that it will probably hear of again: with it, extending and settling take one
//! round trip. What somebody else has written since is noticed, because the store compares.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use safeconduct_types::ExecutionId;

use crate::view::View;

/// The most sealed bytes that are kept.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// What an entry takes besides.
const ENTRY: usize = 2048;

/// Executions that were written a short while ago; the oldest go first.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    next: u64,
    bytes: usize,
    views: HashMap<ExecutionId, (u64, usize, View)>,
    order: BTreeMap<u64, ExecutionId>,
}

impl Cache {
    /// Remembers the records of an execution as they were just written.
    pub(crate) fn put(&self, id: ExecutionId, view: View) {
        let size = ENTRY.saturating_add(view.found.execution(&id).map_or(0, sealed_bytes));
        let mut kept = self.lock();
        kept.take(&id);
        kept.next = kept.next.saturating_add(1);
        let number = kept.next;
        kept.bytes = kept.bytes.saturating_add(size);
        kept.order.insert(number, id.clone());
        kept.views.insert(id, (number, size, view));
        while kept.bytes > MAX_BYTES {
            let Some((_, oldest)) = kept.order.pop_first() else { break };
            kept.take(&oldest);
        }
    }

    /// Takes them out: whoever uses them writes them anew.
    pub(crate) fn take(&self, id: &ExecutionId) -> Option<View> {
        self.lock().take(id)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self, id: &ExecutionId) -> Option<View> {
        let (number, size, view) = self.views.remove(id)?;
        self.order.remove(&number);
        self.bytes = self.bytes.saturating_sub(size);
        Some(view)
    }
}

/// The sealed bytes of a record.
pub(crate) fn sealed_bytes(record: &safeconduct_admission_domain::Execution) -> usize {
    let sealed = [Some(record.intent()), record.checkpoint(), record.outcome()];
    sealed.into_iter().flatten().map(|one| one.as_bytes().len()).sum()
}
