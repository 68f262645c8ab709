//! Where the keys of a request lead, and what happens when they disagree.

use safeconduct_types::{ExecutionId, Timestamp};

use crate::bounds::MAX_RETENTION;
use crate::execution::{Execution, Standing, State};
use crate::key::{Fingerprint, Key, KeyKind, Keys};
use crate::record::{AT_WRITE, Change, Found, Name, Pointer};

/// How an execution was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// By the key at this place of the request's keys.
    Key(usize),
    /// By its own id.
    Id,
}

/// Where the keys of a request lead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// No key leads to an execution that counts.
    Free {
        /// The generation of an execution that is admitted now.
        generation: u32,
    },
    /// To this execution.
    Taken { execution: ExecutionId, matched: Matched, links: Vec<Change> },
    /// The caller's key stands for another request.
    Reused { matched: usize },
}

/// The executions that the keys lead to, to be read before [`resolve`].
pub(crate) fn targets(keys: &Keys, found: &Found) -> Vec<Name> {
    let mut names: Vec<Name> = keys
        .iter()
        .filter_map(|key| found.pointer(key))
        .map(|pointer| Name::Execution(pointer.execution.clone()))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Asks the keys in their order; the first that leads to an execution that counts for its kind decides.
///
/// - The caller's key comes first, and wins over a `SAME` key that leads elsewhere: the caller asks for *that* request
///   again, and to answer with what it led to sends nothing. If its fingerprint is another, nothing else is asked.
/// - If a `SAME` key decides, a free caller's key is linked to the execution, with this request's fingerprint, so that
///   it is found by that key from now on. A link is no owner: it has an end of its own, and the record knows nothing
///   of it, so that a thousand duplicates with a key each do not fight over one record.
/// - A `SAME` key is never linked: it says that *these inputs* had this execution, and only the admission of an
///   execution with them makes that true.
pub(crate) fn resolve(now: Timestamp, keys: &Keys, fingerprint: Option<Fingerprint>, found: &Found) -> Resolved {
    let mut generation = 0;
    let mut free_caller: Option<(Key, u32)> = None;
    for (place, key) in keys.iter().enumerate() {
        let pointer = found.pointer(key);
        let floor = pointer.map_or(0, |pointer| pointer.floor);
        let leads_to = pointer.and_then(|pointer| found.execution(&pointer.execution));
        let leads_to = leads_to.filter(|execution| !execution.is_over(now));
        match leads_to {
            Some(execution) if counts(execution, key.kind) => {
                if let (KeyKind::Caller, Some(asked)) = (key.kind, fingerprint)
                    && pointer.and_then(|pointer| pointer.fingerprint) != Some(asked)
                {
                    return Resolved::Reused { matched: place };
                }
                let links = match (free_caller, fingerprint) {
                    (Some((key, floor)), Some(asked)) => vec![link(now, key, asked, floor, execution)],
                    _ => Vec::new(),
                };
                return Resolved::Taken { execution: execution.id().clone(), matched: Matched::Key(place), links };
            }
            Some(released) => {
                let next = floor.max(released.next_generation());
                generation = generation.max(next);
                free_caller = free_caller.or(caller(*key, next));
            }
            None => {
                generation = generation.max(floor);
                free_caller = free_caller.or(caller(*key, floor));
            }
        }
    }
    Resolved::Free { generation }
}

/// Whether an execution answers for a key of this kind, or leaves it free.
fn counts(execution: &Execution, kind: KeyKind) -> bool {
    match execution.state() {
        State::Reserving { .. } | State::Running { .. } | State::Completed { .. } | State::Unknown { .. } => true,
        State::Released { keep_for_caller_key, .. } => *keep_for_caller_key && kind == KeyKind::Caller,
    }
}

fn caller(key: Key, floor: u32) -> Option<(Key, u32)> {
    (key.kind == KeyKind::Caller).then_some((key, floor))
}

fn link(now: Timestamp, key: Key, fingerprint: Fingerprint, floor: u32, to: &Execution) -> Change {
    let pointer = Pointer { execution: to.id().clone(), fingerprint: Some(fingerprint), floor };
    let expires = match to.standing(now) {
        Standing::Completed | Standing::Released => to.expires(),
        // When it ends is not known yet. A link that is gone is made again by whoever asks with the same inputs.
        Standing::Reserving | Standing::Stuck | Standing::Running | Standing::Unknown => {
            Some(AT_WRITE.after(MAX_RETENTION))
        }
    };
    Change::pointer(key, pointer, expires)
}
