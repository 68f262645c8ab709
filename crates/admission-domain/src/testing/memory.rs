//! A shelf in memory.

use std::collections::HashMap;

use safeconduct_types::OperationId;

use crate::meter::{Corrupt, Keep, Kind};
use crate::step::{IndexOp, Shelf, Verdict};

/// A record in a scenario: it is to be written, provided that nobody has written it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note(pub u32);

/// Counters, records and nothing else, in memory. Counters are named by numbers.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What is stored, and until when (milliseconds).
    pub states: HashMap<(usize, Kind), (Vec<u8>, i64)>,
    /// Who wrote which record.
    pub notes: HashMap<u32, OperationId>,
    /// The time that decides what has expired, in milliseconds.
    pub now_ms: i64,
}

impl Shelf for Memory {
    type Key = usize;
    type Change = Note;
    type Error = Corrupt;

    fn judge(&mut self, operation: OperationId, changes: &[Note]) -> Result<Verdict, Corrupt> {
        let found: Vec<_> = changes.iter().filter_map(|note| self.notes.get(&note.0)).collect();
        Ok(if found.contains(&&operation) {
            Verdict::Repeated
        } else if found.is_empty() {
            Verdict::Apply
        } else {
            Verdict::Conflict
        })
    }

    fn state(&mut self, key: &usize, kind: Kind) -> Result<Option<Vec<u8>>, Corrupt> {
        let found = self.states.get(&(*key, kind)).filter(|(_, expires)| self.now_ms < *expires);
        Ok(found.map(|(state, _)| state.clone()))
    }

    fn write(&mut self, operation: OperationId, changes: &[Note], _now_us: i64) -> Result<(), Corrupt> {
        self.notes.extend(changes.iter().map(|note| (note.0, operation)));
        Ok(())
    }

    fn keep(&mut self, key: &usize, kind: Kind, keep: &Keep) -> Result<(), Corrupt> {
        match keep {
            Keep::Put { state, expires_ms } => self.states.insert((*key, kind), (state.clone(), *expires_ms)),
            Keep::Delete => self.states.remove(&(*key, kind)),
        };
        Ok(())
    }

    fn index(&mut self, _change: &IndexOp<usize>, _now_us: i64) -> Result<(), Corrupt> {
        Ok(())
    }
}
