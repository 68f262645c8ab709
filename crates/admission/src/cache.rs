//! What this process wrote of executions that it will probably hear of again: with it, extending and settling take one
//! round trip. What somebody else has written since is noticed, because the store compares.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use safeconduct_types::ExecutionId;

use crate::view::View;

/// The most sealed bytes that are kept.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// What an entry takes besides.
const ENTRY: usize = 2048;
/// Entries of the order that stand for nothing and are no reason to tidy it.
const SPARE: usize = 64;

/// Executions that were written a short while ago; the oldest go first.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    next: u64,
    bytes: usize,
    views: HashMap<ExecutionId, (u64, usize, View)>,
    /// By age. Those that were taken out stay until they are the oldest, or too many.
    order: VecDeque<(u64, ExecutionId)>,
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
        kept.order.push_back((number, id.clone()));
        kept.views.insert(id, (number, size, view));
        while kept.bytes > MAX_BYTES {
            let Some((number, oldest)) = kept.order.pop_front() else { break };
            if kept.has(number, &oldest) {
                kept.take(&oldest);
            }
        }
        if kept.order.len() > 2 * kept.views.len() + SPARE {
            let mut order = std::mem::take(&mut kept.order);
            order.retain(|(number, id)| kept.has(*number, id));
            kept.order = order;
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
    /// Whether this is what was put last under that id.
    fn has(&self, number: u64, id: &ExecutionId) -> bool {
        self.views.get(id).is_some_and(|(last, ..)| *last == number)
    }

    fn take(&mut self, id: &ExecutionId) -> Option<View> {
        let (_, size, view) = self.views.remove(id)?;
        self.bytes = self.bytes.saturating_sub(size);
        Some(view)
    }
}

/// The sealed bytes of a record.
pub(crate) fn sealed_bytes(record: &safeconduct_admission_domain::Execution) -> usize {
    let sealed = [Some(record.intent()), record.checkpoint(), record.outcome()];
    sealed.into_iter().flatten().map(|one| one.as_bytes().len()).sum()
}

#[cfg(test)]
mod tests {
    use safeconduct_types::{ContactId, SystemRandom};

    use super::*;

    fn ids(count: usize) -> Vec<ExecutionId> {
        let contact = ContactId::from_digest(&[7; 16]);
        let workspace = "acme".parse().unwrap();
        (0..count).map(|_| ExecutionId::generate(&workspace, &contact, &SystemRandom)).collect()
    }

    #[test]
    fn the_oldest_go_first_and_what_was_put_again_is_young() {
        let cache = Cache::default();
        let room = MAX_BYTES / ENTRY;
        let ids = ids(room + 2);
        for id in ids.iter().take(room).chain(ids.first()).chain(ids.iter().skip(room)) {
            cache.put(id.clone(), View::blank());
        }
        let kept: Vec<bool> = ids.iter().map(|id| cache.take(id).is_some()).collect();
        assert_eq!(kept.get(..4).unwrap(), [true, false, false, true]);
        assert_eq!(kept.iter().filter(|kept| **kept).count(), room);
        assert_eq!(cache.lock().bytes, 0);
    }

    #[test]
    fn what_was_taken_out_leaves_no_trace_for_long() {
        let cache = Cache::default();
        for id in ids(10 * SPARE) {
            cache.put(id.clone(), View::blank());
            assert!(cache.take(&id).is_some());
            assert!(cache.lock().order.len() <= SPARE + 2);
        }
    }
}
