//! The records of contacts: one slot each, sealed; and which contacts an email address leads to.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_identity_domain::record::{Addresses, ContactRecord, Named};
use safeconduct_service::keyring::Sealer;
use safeconduct_store::{
    Change, Committed, Ends, Expected, Record, RecordKey, Records, Slot, StoreError, StoreKeyer, Write,
};
use safeconduct_types::{ContactId, OperationId, Random, Reason, Refusal, WorkspaceId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How often a change is tried against others that change the same record.
const ATTEMPTS: usize = 8;
/// Most contacts that are remembered for one address; the latest stay.
const MOST_OF_ADDRESS: usize = 64;

/// The form of records. Another form needs another number; an unknown one is refused, never guessed.
const FORM: u8 = 1;

#[derive(Debug)]
pub(crate) struct Contacts {
    vault: Vault,
    keyer: StoreKeyer,
}

/// Sealed records, each changed by compare-and-set.
#[derive(Clone, Debug)]
pub(crate) struct Vault {
    records: Arc<dyn Records>,
    sealer: Arc<Sealer>,
    random: Arc<dyn Random>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<T> {
    form: u8,
    value: T,
}

/// What becomes of a record.
pub(crate) enum Edit<V, T> {
    /// Nothing; the answer.
    Keep(T),
    /// This, until then; the answer.
    Put(V, Ends, T),
    /// It goes; the answer.
    Delete(T),
}

/// Where a record is, and what else it is bound to.
pub(crate) struct Place {
    pub(crate) slot: Slot,
    pub(crate) key: RecordKey,
    /// Sealed for this place and no other.
    context: Vec<u8>,
}

impl Place {
    pub(crate) fn new(keyer: &StoreKeyer, space: &'static str, workspace: &WorkspaceId, name: &str) -> Self {
        let parts = [space.as_bytes(), workspace.as_str().as_bytes(), name.as_bytes()];
        let slot = keyer.slot(&parts);
        let key = keyer.key(&slot, space, &[]);
        let mut context = Vec::with_capacity(192);
        for part in [b"safeconduct/identity/record/1".as_slice()].iter().chain(&parts) {
            context.extend((part.len() as u64).to_be_bytes());
            context.extend_from_slice(part);
        }
        Self { slot, key, context }
    }
}

impl Vault {
    pub(crate) fn new(records: Arc<dyn Records>, sealer: Arc<Sealer>, random: Arc<dyn Random>) -> Self {
        Self { records, sealer, random }
    }

    pub(crate) async fn read<V: DeserializeOwned>(&self, place: &Place) -> Result<Option<V>, Refusal> {
        let snapshot = self.records.read(&place.slot, std::slice::from_ref(&place.key)).await?;
        snapshot.records.into_iter().next().flatten().map(|record| self.open(place, &record)).transpose()
    }

    /// Changes a record, against whoever else does. `edit` may be asked several times.
    pub(crate) async fn update<V: Serialize + DeserializeOwned, T>(
        &self,
        place: &Place,
        mut edit: impl FnMut(Option<V>) -> Result<Edit<V, T>, Refusal>,
    ) -> Result<T, Refusal> {
        for _ in 0..ATTEMPTS {
            let snapshot = self.records.read(&place.slot, std::slice::from_ref(&place.key)).await?;
            let found = snapshot.records.into_iter().next().flatten();
            let expected = found.as_ref().map_or(Expected::Absent, |record| Expected::At(record.revision));
            let value = found.map(|record| self.open(place, &record)).transpose()?;
            let (write, answer) = match edit(value)? {
                Edit::Keep(answer) => return Ok(answer),
                Edit::Put(value, ends, answer) => (Write::put(self.seal(place, value)?, ends), answer),
                Edit::Delete(answer) if expected == Expected::Absent => return Ok(answer),
                Edit::Delete(answer) => (Write::Delete, answer),
            };
            match self.commit(place, expected, write).await? {
                Committed::Done => return Ok(answer),
                // Somebody else was faster: what they made of it decides.
                Committed::Conflict => {}
            }
        }
        Err(Refusal::new(Reason::Overloaded, "many calls change the same record at once; try again")
            .with_retry_after(Duration::from_millis(100)))
    }

    async fn commit(&self, place: &Place, expected: Expected, write: Write) -> Result<Committed, Refusal> {
        let change = [Change { key: place.key.clone(), expected, write }];
        let operation = OperationId::generate(&*self.random);
        match self.records.commit(&place.slot, operation, &change).await {
            // It may have been written; the same operation tells.
            Err(StoreError::Unanswered(_)) => Ok(self.records.commit(&place.slot, operation, &change).await?),
            other => Ok(other?),
        }
    }

    fn seal<V: Serialize>(&self, place: &Place, value: V) -> Result<Vec<u8>, Refusal> {
        let plain = serde_json::to_vec(&Stored { form: FORM, value })
            .map_err(|_| Refusal::internal("a record of identity cannot be written"))?;
        self.sealer.seal(&plain, &place.context).map_err(|_| Refusal::internal("a record of identity cannot be sealed"))
    }

    fn open<V: DeserializeOwned>(&self, place: &Place, record: &Record) -> Result<V, Refusal> {
        let plain = self.sealer.open(&record.value, &place.context).map_err(|_| {
            Refusal::internal("a record of identity cannot be opened; is a key of purpose record-sealing missing?")
        })?;
        match serde_json::from_slice(&plain) {
            Ok(Stored { form: FORM, value }) => Ok(value),
            Ok(_) | Err(_) => Err(Refusal::internal("a record of identity is not one of this version")),
        }
    }
}

impl Contacts {
    pub(crate) fn new(vault: Vault, keyer: StoreKeyer) -> Self {
        Self { vault, keyer }
    }

    pub(crate) async fn read(
        &self,
        workspace: &WorkspaceId,
        contact: &ContactId,
    ) -> Result<Option<ContactRecord>, Refusal> {
        self.vault.read(&self.place(workspace, contact)).await
    }

    /// Changes a contact's record. The address that leads to it is indexed before the record says so, and one that does
    /// so no more is forgotten after it: what the index leads to is looked at, so that too much in it does no harm.
    pub(crate) async fn update<T>(
        &self,
        workspace: &WorkspaceId,
        contact: &ContactId,
        mut edit: impl FnMut(Option<ContactRecord>) -> Result<Edit<ContactRecord, T>, Refusal>,
    ) -> Result<T, Refusal> {
        let place = self.place(workspace, contact);
        let mut indexed: Option<String> = None;
        loop {
            let (mut left, mut again) = (Addresses::default(), None);
            let attempt = self.vault.update(&place, |found: Option<ContactRecord>| {
                let before = found.as_ref().and_then(|record| record.email().map(str::to_owned));
                let known = found.as_ref().map(ContactRecord::addresses).unwrap_or_default();
                let former = found.as_ref().map(|record| record.former.clone()).unwrap_or_default();
                left = former.clone();
                Ok(match edit(found)? {
                    Edit::Put(mut record, ends, answer) => {
                        let address = record.email().map(str::to_owned);
                        // Somebody else is about to make the index forget it.
                        again = address.clone().filter(|now| former.has(now));
                        let is_unindexed = |now: &String| before.as_ref() != Some(now) && indexed.as_ref() != Some(now);
                        if let Some(unindexed) = address.filter(is_unindexed) {
                            Edit::Keep(Err(unindexed))
                        } else {
                            left = record.leaves(&known);
                            Edit::Put(record, ends, Ok(answer))
                        }
                    }
                    Edit::Keep(answer) => Edit::Keep(Ok(answer)),
                    Edit::Delete(answer) => {
                        left = known;
                        Edit::Delete(Ok(answer))
                    }
                })
            });
            match attempt.await? {
                Ok(answer) => {
                    if let Some(address) = again {
                        self.index(workspace, contact, &address).await?;
                    }
                    if !left.is_empty()
                        && let Err(error) = self.leave(workspace, contact, &left).await
                    {
                        // The record says that it is still to be done.
                        tracing::debug!(%error, "an address that led to a contact is not forgotten yet");
                    }
                    return Ok(answer);
                }
                Err(address) => {
                    self.index(workspace, contact, &address).await?;
                    indexed = Some(address);
                }
            }
        }
    }

    /// Makes the index forget these addresses, and then the record that there was something to forget.
    async fn leave(&self, workspace: &WorkspaceId, contact: &ContactId, left: &Addresses) -> Result<(), Refusal> {
        for address in left.iter() {
            self.forget(workspace, contact, address).await?;
        }
        let clean = |found: Option<ContactRecord>| {
            let Some(mut record) = found.filter(|record| record.named != Named::Nothing) else {
                return Ok(Edit::Keep(None));
            };
            // One may lead here again: whoever changed it back found it in the index, just before it went.
            let again = record.email().filter(|now| left.has(now)).map(str::to_owned);
            let rest = record.former.without(left);
            if rest == record.former {
                return Ok(Edit::Keep(again));
            }
            record.former = rest;
            Ok(Edit::Put(record, Ends::Never, again))
        };
        match self.vault.update(&self.place(workspace, contact), clean).await? {
            Some(address) => self.index(workspace, contact, &address).await,
            None => Ok(()),
        }
    }

    async fn index(&self, workspace: &WorkspaceId, contact: &ContactId, address: &str) -> Result<(), Refusal> {
        let add = |found: Option<Vec<ContactId>>| {
            let mut all = found.unwrap_or_default();
            if all.contains(contact) {
                return Ok(Edit::Keep(()));
            }
            if all.len() >= MOST_OF_ADDRESS {
                all.remove(0);
            }
            all.push(contact.clone());
            Ok(Edit::Put(all, Ends::Never, ()))
        };
        self.vault.update(&self.of_address(workspace, address), add).await
    }

    /// Forgets that the address leads to the contact.
    pub(crate) async fn forget(
        &self,
        workspace: &WorkspaceId,
        contact: &ContactId,
        address: &str,
    ) -> Result<(), Refusal> {
        let remove = |found: Option<Vec<ContactId>>| {
            let mut all = found.unwrap_or_default();
            let before = all.len();
            all.retain(|one| one != contact);
            Ok(match all.len() {
                same if same == before => Edit::Keep(()),
                0 => Edit::Delete(()),
                _ => Edit::Put(all, Ends::Never, ()),
            })
        };
        self.vault.update(&self.of_address(workspace, address), remove).await
    }

    /// The contacts that the address leads to now, with their records.
    pub(crate) async fn by_email(
        &self,
        workspace: &WorkspaceId,
        address: &str,
    ) -> Result<Vec<(ContactId, ContactRecord)>, Refusal> {
        let listed: Vec<ContactId> = self.vault.read(&self.of_address(workspace, address)).await?.unwrap_or_default();
        let mut found = Vec::new();
        for contact in listed {
            if let Some(record) = self.read(workspace, &contact).await?
                && record.email().is_some_and(|email| folded(email) == folded(address))
            {
                found.push((contact, record));
            }
        }
        Ok(found)
    }

    fn place(&self, workspace: &WorkspaceId, contact: &ContactId) -> Place {
        Place::new(&self.keyer, "contact", workspace, contact.as_str())
    }

    fn of_address(&self, workspace: &WorkspaceId, address: &str) -> Place {
        Place::new(&self.keyer, "address", workspace, &folded(address))
    }
}

#[cfg(test)]
impl Contacts {
    /// Whom the index has for the address.
    pub(crate) async fn indexed(&self, workspace: &WorkspaceId, address: &str) -> Result<Vec<ContactId>, Refusal> {
        Ok(self.vault.read(&self.of_address(workspace, address)).await?.unwrap_or_default())
    }

    /// Gives an attribute another value, as a process does that dies right after it.
    pub(crate) async fn change_and_die(&self, workspace: &WorkspaceId, contact: &ContactId, name: &str, value: &str) {
        let edit = |found: Option<ContactRecord>| {
            let mut record = found.expect("a record");
            let before = record.addresses();
            record.attributes.get_mut(name).expect("the attribute").attribute.value = value.into();
            let _left = record.leaves(&before);
            Ok(Edit::Put(record, Ends::Never, ()))
        };
        self.index(workspace, contact, value).await.expect("indexed");
        self.vault.update(&self.place(workspace, contact), edit).await.expect("stored");
    }
}

/// For looking up only: who an address belongs to is decided over its bytes.
fn folded(address: &str) -> String {
    address.to_lowercase()
}
