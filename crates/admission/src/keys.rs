//! What records, counters and lists are called in the store.

use std::collections::HashMap;
use std::sync::{OnceLock, PoisonError, RwLock};

use safeconduct_admission_domain::limit::{Charge, Kind};
use safeconduct_admission_domain::mark::{parts, put};
use safeconduct_admission_domain::{KeyKind, Name};
use safeconduct_store::{KeyName, RecordKey, Slot, StoreKeyer};
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

/// Names that all contacts have in common, remembered: a keyed hash costs more than to look it up.
#[derive(Debug, Default)]
pub(crate) struct Common {
    list: OnceLock<KeyName>,
    counters: RwLock<HashMap<Vec<u8>, KeyName>>,
}

impl Common {
    /// The most that are remembered. Limits are defined by connectors, a few for each.
    const MOST: usize = 4096;

    /// As [`list`].
    pub(crate) fn list(&self, keyer: &StoreKeyer, slot: &Slot) -> RecordKey {
        self.list.get_or_init(|| keyer.name(LIST, &[])).within(slot)
    }

    /// The counter of this charge.
    pub(crate) fn counter(&self, keyer: &StoreKeyer, slot: &Slot, charge: &Charge) -> RecordKey {
        let space = match charge.limit().kind() {
            Kind::Rate => "rate",
            Kind::Count | Kind::Sum => "cap",
        };
        charge.identified(|parts| {
            // Of dimensions there are as many as values.
            if charge.limit().dimensions.is_some() {
                return keyer.key(slot, space, parts);
            }
            let mut identity = Vec::with_capacity(128);
            for part in std::iter::once(&space.as_bytes()).chain(parts) {
                put(&mut identity, part);
            }
            if let Some(name) = self.counters.read().unwrap_or_else(PoisonError::into_inner).get(&identity) {
                return name.within(slot);
            }
            let name = keyer.name(space, parts);
            let mut known = self.counters.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= Self::MOST {
                known.clear();
            }
            known.insert(identity, name);
            name.within(slot)
        })
    }
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

const LIST: &str = "list";
/// No execution id begins so.
const COUNTER: u8 = b'#';

/// The contact's executions, by the time of their admission.
pub(crate) fn list(keyer: &StoreKeyer, slot: &Slot) -> RecordKey {
    keyer.key(slot, LIST, &[])
}

/// The contact's executions that are not yet promised, by the end of their lease.
pub(crate) fn reserving(keyer: &StoreKeyer, slot: &Slot) -> RecordKey {
    keyer.key(slot, "reserving", &[])
}

/// The executions that hold of the workspace's limits, by when to look after them.
pub(crate) fn holds(keyer: &StoreKeyer, slot: &Slot) -> RecordKey {
    keyer.key(slot, "holds", &[])
}

#[cfg(test)]
mod tests {
    use safeconduct_admission_domain::Digest;
    use safeconduct_admission_domain::limit::{Limit, LimitName, Rate, Scope, Shape, Unit};
    use safeconduct_types::Secret;

    use super::*;

    #[test]
    fn a_remembered_name_is_the_one_that_would_be_made_anew() {
        let keyer = StoreKeyer::new(&Secret::new(vec![7; 32]));
        let slots = [b"a", b"b"].map(|slot| keyer.slot(&[slot]));
        let charge = |name: &str, dimensions| {
            let shape = Shape::Rate(Rate::parse(1, 1000, 0).unwrap());
            let name = LimitName::parse(name).unwrap();
            let limit = Limit { name, scope: Scope::Workspace, per_contact: true, dimensions, shape };
            Charge::parse(limit, 1, Unit::NONE).unwrap()
        };
        let charges = [charge("x", None), charge("y", None), charge("x", Some(Digest::new([1; 32])))];
        let common = Common::default();
        for _ in 0..2 {
            for slot in &slots {
                for charge in &charges {
                    let anew = charge.identified(|parts| keyer.key(slot, "rate", parts));
                    assert_eq!(common.counter(&keyer, slot, charge), anew);
                }
                assert_eq!(common.list(&keyer, slot), list(&keyer, slot));
            }
        }
        assert_eq!(common.counters.read().unwrap().len(), 2, "what has dimensions is not remembered");
    }
}
