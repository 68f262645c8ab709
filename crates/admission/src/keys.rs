//! What records, counters and lists are called in the store.

use safeconduct_admission_domain::limit::{Charge, Kind};
use safeconduct_admission_domain::mark::{parts, put};
use safeconduct_admission_domain::{KeyKind, Name};
use safeconduct_store::{RecordKey, Slot, StoreKeyer};
use safeconduct_types::WorkspaceId;

/// The slot of the contact whose execution ids carry `route`.
pub(crate) fn contact_slot(keyer: &StoreKeyer, workspace: &WorkspaceId, route: &str) -> Slot {
    keyer.slot(&[workspace.as_str().as_bytes(), route.as_bytes()])
}

/// The slot of what is counted over all contacts of a workspace.
pub(crate) fn shared_slot(keyer: &StoreKeyer, workspace: &WorkspaceId) -> Slot {
    keyer.slot(&[b"shared", workspace.as_str().as_bytes()])
}

/// The record of this name.
pub(crate) fn record(keyer: &StoreKeyer, slot: &Slot, name: &Name) -> RecordKey {
    match name {
        Name::Key(key) => {
            let kind: &[u8] = match key.kind {
                KeyKind::Caller => b"caller",
                KeyKind::Same => b"same",
            };
            keyer.key(slot, "key", &[kind, key.digest.as_bytes()])
        }
        Name::Execution(id) => keyer.key(slot, "exec", &[id.as_str().as_bytes()]),
        Name::Use(digest) => keyer.key(slot, "use", &[digest.as_bytes()]),
        Name::Operation(operation) => keyer.key(slot, "op", &[operation.as_bytes()]),
        Name::Hold(id) => keyer.key(slot, "hold", &[id.as_str().as_bytes()]),
        Name::Mark(key) => mark(keyer, slot, key),
    }
}

/// The record of the mark whose key has these bytes.
pub(crate) fn mark(keyer: &StoreKeyer, slot: &Slot, key: &[u8]) -> RecordKey {
    keyer.key(slot, "mark", &[key])
}

/// The counter of this charge.
pub(crate) fn counter(keyer: &StoreKeyer, slot: &Slot, charge: &Charge) -> RecordKey {
    let space = match charge.limit().kind() {
        Kind::Rate => "rate",
        Kind::Count | Kind::Sum => "cap",
    };
    charge.identified(|parts| keyer.key(slot, space, parts))
}

/// What stands in the contact's list for the counter of a cap, so that it is found when the contact is erased.
pub(crate) fn counter_member(charge: &Charge) -> Vec<u8> {
    let mut member = vec![COUNTER];
    charge.identified(|parts| parts.iter().for_each(|part| put(&mut member, part)));
    member
}

/// The counter that a member of the contact's list stands for, if it does for one.
pub(crate) fn counter_of(keyer: &StoreKeyer, slot: &Slot, member: &[u8]) -> Option<RecordKey> {
    let (first, identity) = member.split_first()?;
    let parts = parts(identity).ok().filter(|_| *first == COUNTER)?;
    Some(keyer.key(slot, "cap", &parts))
}

/// No execution id begins so.
const COUNTER: u8 = b'#';

/// The contact's executions, by the time of their admission.
pub(crate) fn list(keyer: &StoreKeyer, slot: &Slot) -> RecordKey {
    keyer.key(slot, "list", &[])
}

/// The contact's executions that are not yet promised, by the end of their lease.
pub(crate) fn reserving(keyer: &StoreKeyer, slot: &Slot) -> RecordKey {
    keyer.key(slot, "reserving", &[])
}

/// The executions that hold of the workspace's limits, by when to look after them.
pub(crate) fn holds(keyer: &StoreKeyer, slot: &Slot) -> RecordKey {
    keyer.key(slot, "holds", &[])
}
