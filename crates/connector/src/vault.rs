//! Sealing what goes into the admission record, so that whoever reads the store reads nothing.

use safeconduct_connector_domain::execution::{StoredIntent, StoredOutcome};
use safeconduct_service::keyring::Sealer;
use safeconduct_types::{ExecutionId, Refusal, WorkspaceId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// Seals intents and outcomes, each bound to its execution: moved to another one it does not open.
#[derive(Debug)]
pub struct Vault {
    sealer: Sealer,
}

#[derive(Clone, Copy)]
enum Document {
    Intent,
    Outcome,
}

impl Vault {
    /// Seals with the keys of purpose `record-sealing`.
    pub const fn new(sealer: Sealer) -> Self {
        Self { sealer }
    }

    pub(crate) fn seal_intent(&self, owner: Owner<'_>, intent: &StoredIntent) -> Result<Vec<u8>, Refusal> {
        self.seal(owner, Document::Intent, intent)
    }

    pub(crate) fn seal_outcome(&self, owner: Owner<'_>, outcome: &StoredOutcome) -> Result<Vec<u8>, Refusal> {
        self.seal(owner, Document::Outcome, outcome)
    }

    pub(crate) fn open_intent(&self, owner: Owner<'_>, sealed: &[u8]) -> Result<StoredIntent, Refusal> {
        self.open(owner, Document::Intent, sealed)
    }

    /// What came of it; none if nothing was said.
    pub(crate) fn open_outcome(&self, owner: Owner<'_>, sealed: &[u8]) -> Result<Option<StoredOutcome>, Refusal> {
        if sealed.is_empty() {
            return Ok(None);
        }
        let mut outcome: StoredOutcome = self.open(owner, Document::Outcome, sealed)?;
        outcome.examine();
        Ok(Some(outcome))
    }

    fn seal<T: Serialize>(&self, owner: Owner<'_>, document: Document, value: &T) -> Result<Vec<u8>, Refusal> {
        let plain = serde_json::to_vec(value).map_err(|_| Refusal::internal("a record could not be written"))?;
        let plain = Zeroizing::new(plain);
        self.sealer
            .seal(&plain, &owner.context(document))
            .map_err(|_| Refusal::internal("a record could not be sealed"))
    }

    fn open<T: DeserializeOwned>(&self, owner: Owner<'_>, document: Document, sealed: &[u8]) -> Result<T, Refusal> {
        let plain = self.sealer.open(sealed, &owner.context(document)).map_err(|_| {
            Refusal::internal("the execution's record cannot be opened: its key is not, or no longer, in the key file")
        })?;
        serde_json::from_slice(&plain).map_err(|_| Refusal::internal("the execution's record cannot be read"))
    }
}

/// Whose record it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    pub(crate) workspace: &'a WorkspaceId,
    pub(crate) execution: &'a ExecutionId,
}

impl Owner<'_> {
    fn context(self, document: Document) -> Vec<u8> {
        let kind = match document {
            Document::Intent => "safeconduct/record/intent/1",
            Document::Outcome => "safeconduct/record/outcome/1",
        };
        let mut context = Vec::with_capacity(160);
        for part in [kind, self.workspace.as_str(), self.execution.as_str()] {
            context.extend_from_slice(&(part.len() as u64).to_be_bytes());
            context.extend_from_slice(part.as_bytes());
        }
        context
    }
}
