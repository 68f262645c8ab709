//! Verifications in the store.
//!
//! All of one session share a slot: a new one and the end of the one that it supersedes are one commit. Records are
//! sealed, for they name an address; each is written only if it still is what was read, so of any number of callers that
//! change the same one, each sees what the others did.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use safeconduct_otp_domain::address::{Address, Channel};
use safeconduct_otp_domain::budget::{Namer, Network};
use safeconduct_otp_domain::challenge::{Challenge, Delivery, ToSend, VerificationId};
use safeconduct_otp_domain::code::CodeKeys;
use safeconduct_service::keyring::{Live, Sealer};
use safeconduct_store::{
    Change, Committed, Ends, Expected, Record, RecordKey, Records, Revision, Slot, StoreError, StoreKeyer, Write,
};
use safeconduct_types::{OperationId, Random, Reason, Refusal, SecretText, SessionId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::outbox::{Challenges, Content, Due, Message};
use crate::resend::forgotten;
use crate::workspaces::{WorkspaceDirectory, policy};

/// How long a verification is remembered after its code has ended: so long it can be looked at, and the right code of
/// one that was met is answered again.
pub(crate) const REMEMBERED: Duration = Duration::from_hours(1);
/// How long a network counts as one that proved an address.
const FAMILIAR: Duration = Duration::from_hours(24 * 90);
/// How often a change is tried against others that change the same record.
pub(crate) const ATTEMPTS: usize = 16;

/// The records.
pub struct Verifications {
    records: Arc<dyn Records>,
    keyer: StoreKeyer,
    namer: Namer,
    sealer: Arc<Sealer>,
    codes: Live<CodeKeys>,
    workspaces: Arc<dyn WorkspaceDirectory>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for Verifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifications")
    }
}

/// What the records need.
pub struct Parts {
    /// Where they are, in otp's own keyspace.
    pub records: Arc<dyn Records>,
    /// Names them.
    pub keyer: StoreKeyer,
    /// Names counters and routes.
    pub namer: Namer,
    /// Seals them (purpose `record-sealing`).
    pub sealer: Arc<Sealer>,
    /// Derives codes (purpose `code-derivation`).
    pub codes: Live<CodeKeys>,
    /// What the workspaces say.
    pub workspaces: Arc<dyn WorkspaceDirectory>,
    /// Chance.
    pub random: Arc<dyn Random>,
}

/// The record's form. Another form needs another number; an unknown one is refused, never guessed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    form: u8,
    challenge: Challenge,
}

const FORM: u8 = 1;

/// A verification as it was read.
pub(crate) struct Found {
    pub(crate) challenge: Challenge,
    revision: Revision,
    pub(crate) now: Timestamp,
}

/// The latest verification of an address in a session, and what time it is in the store.
pub(crate) struct Latest {
    /// What the pointer must still be for a new one to take its place.
    pointer: Expected,
    pub(crate) earlier: Option<Found>,
    /// There was one that cannot be read. Nobody can: it goes when another one takes its place.
    unreadable: Option<(RecordKey, Revision)>,
    pub(crate) now: Timestamp,
}

impl Latest {
    /// Messages that this session was sent to this address by earlier challenges, for the growing delay. What cannot be
    /// read counts as `most`: a delay is not shortened by losing a key.
    pub(crate) fn sends_before(&self, most: u8) -> u8 {
        let unreadable = self.unreadable.as_ref().map_or(0, |_| most);
        self.earlier.as_ref().map_or(unreadable, |found| found.challenge.sends_to_remember())
    }
}

impl Verifications {
    /// The records of these parts.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { records, keyer, namer, sealer, codes, workspaces, random } = parts;
        Arc::new(Self { records, keyer, namer, sealer, codes, workspaces, random })
    }

    /// The keys of codes as they are now.
    pub(crate) fn codes(&self) -> Arc<CodeKeys> {
        self.codes.get()
    }

    pub(crate) fn namer(&self) -> &Namer {
        &self.namer
    }

    /// An id for a new verification of this session.
    pub(crate) fn mint(&self, workspace: &WorkspaceId, session: &SessionId) -> VerificationId {
        VerificationId::generate(self.namer.route(workspace, session), &*self.random)
    }

    /// The verification of this name. `None`: there is none, or it is forgotten.
    pub(crate) async fn read(&self, workspace: &WorkspaceId, id: VerificationId) -> Result<Option<Found>, Refusal> {
        let (slot, key) = self.place(workspace, id);
        let snapshot = self.records.read(&slot, std::slice::from_ref(&key)).await?;
        let now = snapshot.now;
        let record = snapshot.records.into_iter().next().flatten();
        // Its code can be compared no more, so the person needs another one, and whoever runs this a hint.
        record.map(|record| self.open(workspace, id, &record, now).ok_or_else(forgotten)).transpose()
    }

    /// The verification of this name, if it is this session's.
    pub(crate) async fn of_session(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
        id: VerificationId,
    ) -> Result<Option<Found>, Refusal> {
        let found = self.read(workspace, id).await?;
        Ok(found.filter(|found| found.challenge.facts().binding.session == *session))
    }

    /// The latest verification of this address in this session.
    pub(crate) async fn latest(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
        address: &Address,
    ) -> Result<Latest, Refusal> {
        let slot = self.slot(workspace, self.namer.route(workspace, session));
        let key = self.pointer(&slot, address);
        let snapshot = self.records.read(&slot, std::slice::from_ref(&key)).await?;
        let Some(record) = snapshot.records.into_iter().next().flatten() else {
            return Ok(Latest { pointer: Expected::Absent, earlier: None, unreadable: None, now: snapshot.now });
        };
        let pointer = Expected::At(record.revision);
        let id = std::str::from_utf8(&record.value).ok().and_then(|text| text.parse().ok());
        let id = id.ok_or_else(|| Refusal::internal("the name of a verification is not one of this version"))?;
        let (_, key) = self.place(workspace, id);
        let snapshot = self.records.read(&slot, std::slice::from_ref(&key)).await?;
        let now = snapshot.now;
        let Some(record) = snapshot.records.into_iter().next().flatten() else {
            return Ok(Latest { pointer, earlier: None, unreadable: None, now });
        };
        let found = self.open(workspace, id, &record, now);
        let unreadable = found.is_none().then_some((key, record.revision));
        let earlier = found.filter(|found| found.challenge.facts().binding.session == *session);
        Ok(Latest { pointer, earlier, unreadable, now })
    }

    /// Stores a new verification as the latest, and what becomes of the earlier one with it.
    pub(crate) async fn supersede(
        &self,
        latest: &Latest,
        superseded: Option<Challenge>,
        new: &Challenge,
    ) -> Result<Committed, Refusal> {
        let facts = new.facts();
        let workspace = &facts.binding.workspace;
        let (slot, key) = self.place(workspace, facts.id);
        let ends = Ends::At(facts.expires.after(REMEMBERED));
        let mut changes = vec![
            Change { key, expected: Expected::Absent, write: Write::put(self.seal(new)?, ends) },
            Change {
                key: self.pointer(&slot, &facts.binding.address),
                expected: latest.pointer,
                write: Write::put(facts.id.to_string(), ends),
            },
        ];
        if let Some((earlier, after)) = latest.earlier.as_ref().zip(superseded) {
            changes.push(self.change(earlier.revision, &after)?);
        }
        if let Some((key, revision)) = &latest.unreadable {
            changes.push(Change { key: key.clone(), expected: Expected::At(*revision), write: Write::Delete });
        }
        self.commit(&slot, &changes).await
    }

    /// Replaces a verification by what became of it, if it is still what was read.
    pub(crate) async fn replace(&self, found: Revision, after: &Challenge) -> Result<Committed, Refusal> {
        let change = self.change(found, after)?;
        let facts = after.facts();
        let (slot, _) = self.place(&facts.binding.workspace, facts.id);
        self.commit(&slot, &[change]).await
    }

    /// Whether this network proved this address within the last months.
    pub(crate) async fn is_familiar(
        &self,
        workspace: &WorkspaceId,
        address: &Address,
        network: &Network,
    ) -> Result<bool, Refusal> {
        let (slot, key) = self.familiar(workspace, address, network);
        Ok(self.records.read(&slot, &[key]).await?.records.into_iter().next().flatten().is_some())
    }

    /// Notes that this network proved this address.
    pub(crate) async fn make_familiar(
        &self,
        workspace: &WorkspaceId,
        address: &Address,
        network: &Network,
    ) -> Result<(), Refusal> {
        let (slot, key) = self.familiar(workspace, address, network);
        let known = self.records.read(&slot, std::slice::from_ref(&key)).await?.records.into_iter().next().flatten();
        let expected = known.map_or(Expected::Absent, |record| Expected::At(record.revision));
        let change = Change { key, expected, write: Write::put(&b"1"[..], Ends::After(FAMILIAR)) };
        // A conflict: somebody else noted it just now.
        self.commit(&slot, &[change]).await.map(drop)
    }

    fn familiar(&self, workspace: &WorkspaceId, address: &Address, network: &Network) -> (Slot, RecordKey) {
        let (channel, text) = (address.channel().as_str().as_bytes(), address.as_str().as_bytes());
        let slot = self.keyer.slot(&[b"familiar", workspace.as_str().as_bytes(), channel, text]);
        let key = self.keyer.key(&slot, "familiar", &[network.as_str().as_bytes()]);
        (slot, key)
    }

    fn slot(&self, workspace: &WorkspaceId, route: [u8; 8]) -> Slot {
        self.keyer.slot(&[b"verifications", workspace.as_str().as_bytes(), &route])
    }

    fn place(&self, workspace: &WorkspaceId, id: VerificationId) -> (Slot, RecordKey) {
        let slot = self.slot(workspace, id.route());
        let key = self.keyer.key(&slot, "verification", &[id.operation().as_bytes()]);
        (slot, key)
    }

    fn pointer(&self, slot: &Slot, address: &Address) -> RecordKey {
        let parts = [address.channel().as_str().as_bytes(), address.as_str().as_bytes()];
        self.keyer.key(slot, "latest", &parts)
    }

    fn change(&self, found: Revision, after: &Challenge) -> Result<Change, Refusal> {
        let facts = after.facts();
        let (_, key) = self.place(&facts.binding.workspace, facts.id);
        let write = Write::put(self.seal(after)?, Ends::At(facts.expires.after(REMEMBERED)));
        Ok(Change { key, expected: Expected::At(found), write })
    }

    async fn commit(&self, slot: &Slot, changes: &[Change]) -> Result<Committed, Refusal> {
        let operation = OperationId::generate(&*self.random);
        match self.records.commit(slot, operation, changes).await {
            // It may have been written; the same operation tells.
            Err(StoreError::Unanswered(_)) => Ok(self.records.commit(slot, operation, changes).await?),
            other => Ok(other?),
        }
    }

    fn seal(&self, challenge: &Challenge) -> Result<Vec<u8>, Refusal> {
        let unwritable = || Refusal::internal("a verification cannot be written");
        let plain = serde_json::to_vec(&Stored { form: FORM, challenge: challenge.clone() });
        let plain = Zeroizing::new(plain.map_err(|_| unwritable())?);
        let facts = challenge.facts();
        self.sealer.seal(&plain, &context(&facts.binding.workspace, facts.id)).map_err(|_| unwritable())
    }

    /// `None`: it cannot be read, for good as far as this process knows.
    fn open(&self, workspace: &WorkspaceId, id: VerificationId, record: &Record, now: Timestamp) -> Option<Found> {
        let Ok(plain) = self.sealer.open(&record.value, &context(workspace, id)) else {
            tracing::warn!(
                "the record of a verification cannot be opened: its key (record-sealing) is not, or no longer, in the \
                 key file; its person needs another code"
            );
            return None;
        };
        if let Ok(Stored { form: FORM, challenge }) = serde_json::from_slice(&plain) {
            return Some(Found { challenge, revision: record.revision, now });
        }
        tracing::warn!("the record of a verification is not one of this version; its person needs another code");
        None
    }
}

#[cfg(test)]
impl Verifications {
    /// The bytes that the store is given.
    pub(crate) fn sealed(&self, challenge: &Challenge) -> Vec<u8> {
        self.seal(challenge).unwrap()
    }
}

impl Found {
    /// What it was read as, to be replaced.
    pub(crate) const fn revision(&self) -> Revision {
        self.revision
    }
}

/// What a sealed record belongs to: moved elsewhere it does not open.
fn context(workspace: &WorkspaceId, id: VerificationId) -> Vec<u8> {
    let mut context = b"safeconduct/otp-verification/v1".to_vec();
    for part in [workspace.as_str().as_bytes(), id.operation().as_bytes()] {
        context.extend((part.len() as u64).to_be_bytes());
        context.extend(part);
    }
    context
}

/// Whoever changes a verification that others change all the time.
pub(crate) fn contended() -> Refusal {
    Refusal::new(Reason::Overloaded, "many calls change this verification at once; try again")
        .with_retry_after(Duration::from_millis(100))
}

#[async_trait]
impl Challenges for Verifications {
    async fn content(&self, message: &Message) -> Result<Due, Refusal> {
        let Some((found, send)) = self.of_message(message).await? else { return Ok(Due::Nothing) };
        let code = match found.challenge.code_to_send(send, &self.codes(), found.now) {
            ToSend::Code(code) => code,
            ToSend::Nothing => return Ok(Due::Nothing),
            ToSend::KeyRetired => return Ok(Due::Never("the key of its code (code-derivation) was retired")),
        };
        let facts = found.challenge.facts();
        let policy = policy(&*self.workspaces, &message.workspace)?;
        let left = facts.expires.since(found.now);
        let rendered = policy.message(facts.locale.as_ref(), &facts.binding.purpose, left, &code);
        let code = SecretText::new(code.expose().to_owned());
        Ok(Due::Send(match found.challenge.channel() {
            Channel::Email => Content {
                subject: rendered.subject,
                text: rendered.text.to_string(),
                html: rendered.html.to_string(),
                code,
            },
            Channel::Sms => {
                Content { subject: String::new(), text: rendered.sms.to_string(), html: String::new(), code }
            }
        }))
    }

    async fn report(&self, message: &Message, delivery: Delivery) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS {
            let Some((found, send)) = self.of_message(message).await? else { return Ok(()) };
            let revision = found.revision();
            let Some(after) = found.challenge.delivered(send, delivery) else { return Ok(()) };
            if self.replace(revision, &after).await? == Committed::Done {
                return Ok(());
            }
        }
        Err(contended())
    }
}

impl Verifications {
    async fn of_message(&self, message: &Message) -> Result<Option<(Found, u8)>, Refusal> {
        let (Ok(id), Ok(send)) = (message.verification_id.parse(), u8::try_from(message.send_number)) else {
            return Err(Refusal::internal("a message names no verification"));
        };
        Ok(self.read(&message.workspace, id).await?.map(|found| (found, send)))
    }
}
