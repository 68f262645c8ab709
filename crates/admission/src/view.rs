//! Records of one slot as a request has seen them, or supposes them to be.

use std::collections::BTreeMap;

use safeconduct_admission_domain::mark::{Mark, MarkCheck, is_met, key_bytes};
use safeconduct_admission_domain::{AtWrite as _, Change, Found, Name, Record, decode, mark};
use safeconduct_store::{Record as Stored, Revision};
use safeconduct_types::{Refusal, Timestamp};

/// When, what, and which write each record stems from. What is not named has not been looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The store's time of the last look; an estimate as long as nothing was looked at.
    pub(crate) now: Timestamp,
    pub(crate) found: Found,
    revisions: BTreeMap<Name, Option<Revision>>,
    /// Whether all of it was seen in this request. If not, nothing may be answered from it; it may only be tried.
    pub(crate) seen: bool,
}

impl View {
    /// Nothing is known.
    pub(crate) fn blank() -> Self {
        Self { seen: true, ..Self::default() }
    }

    /// None of these records is there: so it is for most requests, and the store says if it is not.
    pub(crate) fn of_nothing(now: Timestamp, names: &[Name]) -> Self {
        let revisions = names.iter().map(|name| (name.clone(), None)).collect();
        Self { now, found: Found::default(), revisions, seen: false }
    }

    /// As this process wrote it; somebody else may have written since.
    pub(crate) fn remembered(mut self, now: Timestamp) -> Self {
        self.now = now;
        self.seen = false;
        self
    }

    /// Supposes that these are absent, too, as far as they have not been looked at.
    pub(crate) fn suppose_absent(&mut self, names: impl Iterator<Item = Name>) {
        for name in names {
            self.revisions.entry(name).or_insert(None);
        }
    }

    pub(crate) fn knows(&self, name: &Name) -> bool {
        self.revisions.contains_key(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        self.revisions.keys()
    }

    /// The write that the record stems from; `None` if there is none, as far as is known.
    pub(crate) fn revision(&self, name: &Name) -> Option<Revision> {
        self.revisions.get(name).copied().flatten()
    }

    /// Takes in a record as it was found.
    pub(crate) fn see(&mut self, name: &Name, stored: Option<Stored>) -> Result<(), Refusal> {
        self.revisions.insert(name.clone(), stored.as_ref().map(|stored| stored.revision));
        match stored {
            Some(stored) => {
                let decoded = match name {
                    Name::Mark(_) => mark::decode(&stored.value).map(|mark| Record::Mark(Box::new(mark))),
                    Name::Key(_) | Name::Execution(_) | Name::Use(_) | Name::Operation(_) | Name::Hold(_) => {
                        decode(&stored.value, stored.written)
                    }
                };
                // What can't be read is neither absent nor free.
                self.found.insert(name.clone(), decoded.map_err(|error| Refusal::internal(error.to_string()))?);
            }
            None => self.found.remove(name),
        }
        Ok(())
    }

    /// The view after these changes were written at `at`, as the write of this revision.
    pub(crate) fn wrote(&mut self, at: Timestamp, revision: Revision, changes: Vec<Change>) {
        self.now = at;
        for Change { name, record, .. } in changes {
            if let Some(record) = record {
                self.revisions.insert(name.clone(), Some(revision));
                self.found.insert(name, record.written(at));
            } else {
                self.found.remove(&name);
                self.revisions.insert(name, None);
            }
        }
    }

    /// Only these records of it.
    pub(crate) fn only(mut self, names: &[Name]) -> Self {
        self.revisions.retain(|name, _| {
            let keep = names.contains(name);
            if !keep {
                self.found.remove(name);
            }
            keep
        });
        self
    }

    /// The first mark that closes what one of the checks asks for.
    pub(crate) fn met(&self, checks: &[MarkCheck]) -> Option<&Mark> {
        checks.iter().find_map(|check| match self.found.get(&mark_name(check)) {
            Some(Record::Mark(mark)) if is_met(mark, check, self.now) => Some(&**mark),
            Some(_) | None => None,
        })
    }
}

/// The record that this check looks at.
pub(crate) fn mark_name(check: &MarkCheck) -> Name {
    Name::Mark(key_bytes(&check.key))
}
