//! Sessions in the store: one slot, one record each, gone when the session ends.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_identity_domain::session::{Bound, Session};
use safeconduct_store::{Change, Committed, Ends, Expected, RecordKey, Records, Slot, StoreError, StoreKeyer, Write};
use safeconduct_types::{ContactId, OperationId, Random, Reason, Refusal, SessionId, WorkspaceId};
use serde::{Deserialize, Serialize};

/// How often a bind is tried against others that change the same session.
const ATTEMPTS: usize = 4;

#[derive(Debug)]
pub(crate) struct Sessions {
    records: Arc<dyn Records>,
    keyer: StoreKeyer,
    random: Arc<dyn Random>,
}

/// The record's form. Another form needs another number; an unknown one is refused, never guessed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    form: u8,
    session: Session,
}

const FORM: u8 = 1;

impl Sessions {
    pub(crate) fn new(records: Arc<dyn Records>, keyer: StoreKeyer, random: Arc<dyn Random>) -> Self {
        Self { records, keyer, random }
    }

    /// A session id that nobody has.
    pub(crate) fn mint(&self) -> SessionId {
        SessionId::generate(&*self.random)
    }

    /// Stores a session that was just minted.
    pub(crate) async fn create(&self, session: &Session) -> Result<(), Refusal> {
        let (slot, key) = self.place(session.workspace(), session.id());
        match self.put(&slot, key, Expected::Absent, session).await? {
            Committed::Done => Ok(()),
            Committed::Conflict => Err(Refusal::internal("a session id was minted twice")),
        }
    }

    /// Binds the session to a proven contact, exactly once however many try.
    pub(crate) async fn bind(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
        contact: &ContactId,
    ) -> Result<Session, Refusal> {
        let (slot, key) = self.place(workspace, id);
        for _ in 0..ATTEMPTS {
            let snapshot = self.records.read(&slot, std::slice::from_ref(&key)).await?;
            let Some(record) = snapshot.records.into_iter().next().flatten() else {
                return Err(Refusal::new(Reason::AssertionExpired, "the session has ended; start a new one"));
            };
            match decode(&record.value)?.bind(contact, snapshot.now)? {
                Bound::Unchanged(session) => return Ok(session),
                Bound::Upgraded(session) => {
                    match self.put(&slot, key.clone(), Expected::At(record.revision), &session).await? {
                        Committed::Done => return Ok(session),
                        // Somebody else was faster: what they made of it decides.
                        Committed::Conflict => {}
                    }
                }
            }
        }
        Err(Refusal::new(Reason::Overloaded, "many calls change this session at once; try again")
            .with_retry_after(Duration::from_millis(100)))
    }

    fn place(&self, workspace: &WorkspaceId, id: &SessionId) -> (Slot, RecordKey) {
        let slot = self.keyer.slot(&[b"session", workspace.as_str().as_bytes(), id.as_str().as_bytes()]);
        let key = self.keyer.key(&slot, "session", &[]);
        (slot, key)
    }

    async fn put(
        &self,
        slot: &Slot,
        key: RecordKey,
        expected: Expected,
        session: &Session,
    ) -> Result<Committed, Refusal> {
        let stored = Stored { form: FORM, session: session.clone() };
        let value = serde_json::to_vec(&stored).map_err(|_| Refusal::internal("a session cannot be written"))?;
        let write = Write::put(value, Ends::At(session.ends()));
        let change = [Change { key, expected, write }];
        let operation = OperationId::generate(&*self.random);
        match self.records.commit(slot, operation, &change).await {
            // It may have been written; the same operation tells.
            Err(StoreError::Unanswered(_)) => Ok(self.records.commit(slot, operation, &change).await?),
            other => Ok(other?),
        }
    }
}

fn decode(value: &[u8]) -> Result<Session, Refusal> {
    match serde_json::from_slice(value) {
        Ok(Stored { form: FORM, session }) => Ok(session),
        Ok(_) | Err(_) => Err(Refusal::internal("the record of a session is not one of this version")),
    }
}
