//! From names to records and back: reads what a decision needs, commits what it changes, and decides again if others
//! were faster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use safeconduct_admission_domain::{Change, Decision, Found, KeyKind, Name, decode, encode};
use safeconduct_store::Write::Put;
use safeconduct_store::{Change as Write, Committed, Expected, Records, Revision, Slot, StoreError, StoreKeyer};
use safeconduct_types::{OperationId, Reason, Refusal, Timestamp, WorkspaceId};

/// How often a decision is made anew before the caller is told that too many want the same. Each time somebody else
/// has got ahead, so among as many rivals for one record all get through.
const ATTEMPTS: u32 = 64;
/// How often for changes that the answer does not depend on.
const OPTIONAL_ATTEMPTS: u32 = 3;
/// Records in one call to the store.
const BATCH: usize = safeconduct_store::MAX_RECORDS;
/// When to ask again after a fault of the store.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The records of all contacts.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    records: Arc<dyn Records>,
    keyer: StoreKeyer,
}

/// The records of one contact.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    ledger: &'a Ledger,
    slot: Slot,
}

/// Records as they were found: when, what, and which write each stems from.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) now: Timestamp,
    pub(crate) found: Found,
    revisions: BTreeMap<Name, Option<Revision>>,
}

impl Ledger {
    pub(crate) const fn new(records: Arc<dyn Records>, keyer: StoreKeyer) -> Self {
        Self { records, keyer }
    }

    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        self.records.ping().await
    }

    /// The records of the contact whose execution ids carry `route`.
    pub(crate) fn page(&self, workspace: &WorkspaceId, route: &str) -> Page<'_> {
        Page { ledger: self, slot: self.keyer.slot(&[workspace.as_str().as_bytes(), route.as_bytes()]) }
    }
}

impl Page<'_> {
    /// Reads what `first` and then `follow` name, lets `decide` decide, and commits what it changes. Yields the store's
    /// time of the decision and its answer, which is true then.
    pub(crate) async fn decide<A>(
        &self,
        operation: OperationId,
        first: &[Name],
        follow: impl Fn(&Found) -> Vec<Name>,
        decide: impl Fn(Timestamp, Found) -> Result<Decision<A>, Refusal>,
    ) -> Result<(Timestamp, A), Refusal> {
        for attempt in 1..=ATTEMPTS {
            let mut view = View::default();
            self.read(&mut view, first).await?;
            let next = follow(&view.found);
            self.read(&mut view, &next).await?;
            let View { now, found, revisions } = view;
            let Decision { answer, changes, optional } = decide(now, found)?;
            if changes.is_empty() {
                return Ok((now, answer));
            }
            let writes = self.writes(&revisions, changes)?;
            match self.commit(write_id(operation, &writes), &writes).await {
                Ok(Committed::Done) => return Ok((now, answer)),
                Ok(Committed::Conflict) if optional && attempt >= OPTIONAL_ATTEMPTS => return Ok((now, answer)),
                Ok(Committed::Conflict) => tracing::debug!(attempt, "others were faster, deciding again"),
                Err(error) if optional => {
                    tracing::warn!(error = %error, "a key could not be linked; it is linked by the next request");
                    return Ok((now, answer));
                }
                Err(error) => return Err(refusal(error)),
            }
            // Whoever was faster may need this thread to get on.
            tokio::task::yield_now().await;
        }
        Err(Refusal::new(Reason::Overloaded, "too many requests want the same record; ask again with the same key")
            .with_retry_after(RETRY_AFTER))
    }

    /// Adds these records to the view, as far as it does not have them.
    pub(crate) async fn read(&self, view: &mut View, names: &[Name]) -> Result<(), Refusal> {
        let mut missing: Vec<&Name> = names.iter().filter(|name| !view.revisions.contains_key(name)).collect();
        missing.dedup();
        for batch in missing.chunks(BATCH) {
            let keys: Vec<_> = batch.iter().map(|name| self.key(name)).collect();
            let snapshot = self.ledger.records.read(&self.slot, &keys).await.map_err(refusal)?;
            view.now = snapshot.now;
            for (name, record) in batch.iter().zip(snapshot.records) {
                view.revisions.insert((*name).clone(), record.as_ref().map(|record| record.revision));
                if let Some(record) = record {
                    // What can't be read is neither absent nor free.
                    let decoded = decode(&record.value).map_err(|error| Refusal::internal(error.to_string()))?;
                    view.found.insert((*name).clone(), decoded);
                }
            }
        }
        Ok(())
    }

    async fn commit(&self, operation: OperationId, writes: &[Write]) -> Result<Committed, StoreError> {
        match self.ledger.records.commit(&self.slot, operation, writes).await {
            // Whether it was written is found out by saying it again.
            Err(StoreError::Unanswered(_)) => self.ledger.records.commit(&self.slot, operation, writes).await,
            answered => answered,
        }
    }

    fn writes(
        &self,
        revisions: &BTreeMap<Name, Option<Revision>>,
        changes: Vec<Change>,
    ) -> Result<Vec<Write>, Refusal> {
        let write = |change: Change| {
            let read = revisions
                .get(&change.name)
                .ok_or_else(|| Refusal::internal("a decision changes a record that it did not ask for"))?;
            Ok(Write {
                key: self.key(&change.name),
                expected: read.map_or(Expected::Absent, Expected::At),
                write: safeconduct_store::Write::Put { value: encode(&change.record).into(), expires: change.expires },
            })
        };
        changes.into_iter().map(write).collect()
    }

    fn key(&self, name: &Name) -> safeconduct_store::RecordKey {
        let keyer = &self.ledger.keyer;
        match name {
            Name::Key(key) => {
                let kind: &[u8] = match key.kind {
                    KeyKind::Caller => b"caller",
                    KeyKind::Same => b"same",
                };
                keyer.key(&self.slot, "key", &[kind, key.digest.as_bytes()])
            }
            Name::Execution(id) => keyer.key(&self.slot, "exec", &[id.as_str().as_bytes()]),
            Name::Bucket(bucket) => keyer.key(&self.slot, "list", &[&[bucket.number()]]),
        }
    }
}

/// The store's name for these writes. It takes a second commit of one name for a repeat of the first, so the name is
/// made of what is written: another decision under the same operation (a key that was linked, then freed, then is
/// admitted with) is another commit. That an operation is applied once is for the records themselves to know.
fn write_id(operation: OperationId, writes: &[Write]) -> OperationId {
    let mut context = Context::new(&SHA256);
    context.update(operation.as_bytes());
    for write in writes {
        if let Put { value, expires } = &write.write {
            context.update(&(value.len() as u64).to_be_bytes());
            context.update(value);
            context.update(&expires.map_or(i64::MAX, Timestamp::as_millis).to_be_bytes());
        }
    }
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    OperationId::from_bytes(id)
}

fn refusal(error: StoreError) -> Refusal {
    let reason = error.reason();
    let refusal = Refusal::from(error);
    if reason == Reason::StoreUnavailable { refusal.with_retry_after(RETRY_AFTER) } else { refusal }
}
