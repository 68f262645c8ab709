//! The life of a session: started, bound to one contact, over.

use std::time::Duration;

use safeconduct_types::{Channel, ContactId, Reason, Refusal, SessionId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::assertion::VerifiedContact;
use crate::contact::{Attribute, Proven, visitor};

/// A session. It is minted here and never invented by a caller; it belongs to nobody until a proof binds it, and to
/// that contact from then on.
///
/// Until something happens in it that assertions do not say (an upgrade, an address, a revocation), nothing of it is
/// stored: its assertions say all there is ([`Session::unrecorded`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    id: SessionId,
    workspace: WorkspaceId,
    started: Timestamp,
    ends: Timestamp,
    epoch: u32,
    bound: Option<ContactId>,
    /// Revoked: nothing is bound to it or issued in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    revoked: bool,
    /// Addresses that were proven in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    proofs: Vec<AddressProof>,
    /// The verifications that upgraded it, the latest last: each counts once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    verifications: Vec<String>,
}

/// An address that was proven in a session, and until when that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressProof {
    /// How it was proven.
    pub channel: Channel,
    /// The address, its provenance and when it was proven.
    pub address: Attribute,
    /// From when on it counts no more.
    pub expires: Timestamp,
}

/// Most verifications that a session remembers.
const REMEMBERED: usize = 8;

/// What binding a session came to. Both carry the session as it now is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Bound {
    /// The contact is new to the session: the epoch has risen, which ends earlier assertions. Store it.
    Upgraded(Session),
    /// The session was that contact's already; there is nothing to store.
    Unchanged(Session),
}

/// The epoch of a session that was never upgraded.
pub const FIRST_EPOCH: u32 = 1;

impl Session {
    /// A session of a visitor. It starts with the second, as assertions carry it, and ends `lifetime` later, whatever
    /// happens in it.
    pub fn start(id: SessionId, workspace: WorkspaceId, now: Timestamp, lifetime: Duration) -> Self {
        let started = Timestamp::from_seconds(now.as_seconds());
        Self {
            id,
            workspace,
            started,
            ends: started.after(lifetime),
            epoch: FIRST_EPOCH,
            bound: None,
            revoked: false,
            proofs: Vec::new(),
            verifications: Vec::new(),
        }
    }

    /// A session that belongs to a contact from its start, because the proof came first.
    pub fn start_bound(
        id: SessionId,
        workspace: WorkspaceId,
        contact: ContactId,
        now: Timestamp,
        lifetime: Duration,
    ) -> Self {
        Self { bound: Some(contact), ..Self::start(id, workspace, now, lifetime) }
    }

    /// The session behind a verified assertion, where no record of it is found: what it was when it started, for nothing
    /// has happened in it. An assertion of a later epoch needs the record, which is gone with the session.
    pub fn unrecorded(held: &VerifiedContact, lifetime: Duration) -> Option<Self> {
        if held.epoch() != FIRST_EPOCH {
            return None;
        }
        let (workspace, id, contact) = (held.workspace(), held.session(), &held.contact().id);
        let began = Self::start(id.clone(), workspace.clone(), held.session_start(), lifetime);
        // Bound to whoever it is about, unless that is the visitor which the session itself stands for.
        Some(Self { bound: (*contact != visitor(workspace, id)).then(|| contact.clone()), ..began })
    }

    /// Binds the session to a proven contact. Proving the same one again changes nothing (a caller whose answer got
    /// lost may ask again); another one is refused, because whatever was said in the session was said by the first.
    pub fn bind(self, contact: &ContactId, now: Timestamp) -> Result<Bound, Refusal> {
        self.is_open(now)?;
        match &self.bound {
            Some(owner) if owner == contact => Ok(Bound::Unchanged(self)),
            Some(_) => Err(Refusal::new(
                Reason::SessionBound,
                "the session belongs to another contact; start a new session for this one",
            )),
            None => {
                Ok(Bound::Upgraded(Self { epoch: self.epoch.saturating_add(1), bound: Some(contact.clone()), ..self }))
            }
        }
    }

    /// Refuses a session that has ended or was revoked.
    pub fn is_open(&self, now: Timestamp) -> Result<(), Refusal> {
        if now >= self.ends {
            return Err(Refusal::new(Reason::AssertionExpired, "the session has ended; start a new one"));
        }
        if self.revoked {
            return Err(Refusal::new(Reason::AssertionRevoked, "the session was revoked; start a new one"));
        }
        Ok(())
    }

    /// Refuses an assertion of another epoch: one from before the session was upgraded.
    pub fn is_latest(&self, epoch: u32) -> Result<(), Refusal> {
        if epoch == self.epoch {
            return Ok(());
        }
        let what = "the session was upgraded since the assertion was issued; use the newest one";
        Err(Refusal::new(Reason::AssertionStale, what).with_metadata("changed", "session"))
    }

    /// Adds a proven address: binds the session to `lead` if it belongs to nobody yet, else the proof is added to whom
    /// it belongs to. Each verification counts once; it may be repeated. `epoch` is that of the assertion it was made
    /// with: who has upgraded the session since may be somebody else.
    ///
    /// A lead is one address: another one of the same channel is another contact.
    pub fn prove_address(
        self,
        verification: &str,
        proof: AddressProof,
        lead: &ContactId,
        is_user: bool,
        epoch: u32,
        now: Timestamp,
    ) -> Result<Bound, Refusal> {
        self.is_open(now)?;
        if self.counts(verification) {
            return Ok(Bound::Unchanged(self));
        }
        self.is_latest(epoch)?;
        let names_another = |owner: &ContactId| {
            let other = |one: &AddressProof| one.channel == proof.channel && one.address.value != proof.address.value;
            !is_user && owner != lead && self.proofs.iter().any(other)
        };
        if self.bound.as_ref().is_some_and(names_another) {
            return Err(Refusal::new(
                Reason::SessionBound,
                "the session belongs to the lead of another address; start a new session for this one",
            ));
        }
        let mut next = Self { epoch: self.epoch.saturating_add(1), ..self };
        next.bound.get_or_insert_with(|| lead.clone());
        next.proofs.retain(|one| one.channel != proof.channel);
        next.proofs.push(proof);
        if next.verifications.len() >= REMEMBERED {
            next.verifications.remove(0);
        }
        next.verifications.push(verification.to_owned());
        Ok(Bound::Upgraded(next))
    }

    /// Whether this verification has upgraded the session.
    pub fn counts(&self, verification: &str) -> bool {
        self.verifications.iter().any(|one| one == verification)
    }

    /// Ends the session. One that was ended before stays so.
    pub fn revoke(self) -> Bound {
        if self.revoked {
            return Bound::Unchanged(self);
        }
        Bound::Upgraded(Self { revoked: true, proofs: Vec::new(), ..self })
    }

    /// The addresses whose proof counts at `now`, and when the first of them ends.
    pub fn proven(&self, now: Timestamp) -> (Proven, Option<Timestamp>) {
        let mut proven = Proven::default();
        let mut ends: Option<Timestamp> = None;
        for one in self.proofs.iter().filter(|one| now < one.expires) {
            let place = match one.channel {
                Channel::Email => &mut proven.email,
                Channel::Sms => &mut proven.phone,
            };
            *place = Some(one.address.clone());
            ends = Some(ends.map_or(one.expires, |sooner| sooner.min(one.expires)));
        }
        (proven, ends)
    }

    /// Its id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// The tenant it belongs to.
    pub fn workspace(&self) -> &WorkspaceId {
        &self.workspace
    }

    /// When it started.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// When it ends; no assertion for it outlives this.
    pub fn ends(&self) -> Timestamp {
        self.ends
    }

    /// How often it was upgraded, counted from 1.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whose it is.
    pub fn bound(&self) -> Option<&ContactId> {
        self.bound.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);
    const HOUR: Duration = Duration::from_hours(1);

    fn session() -> Session {
        Session::start("ses_1".parse().unwrap(), "acme".parse().unwrap(), NOW, HOUR)
    }

    fn contact(n: u8) -> ContactId {
        ContactId::from_digest(&[n; 16])
    }

    fn upgraded(session: Session, by: u8) -> Session {
        match session.bind(&contact(by), NOW).unwrap() {
            Bound::Upgraded(session) => session,
            Bound::Unchanged(_) => panic!("was bound already"),
        }
    }

    #[test]
    fn the_first_proof_binds_a_session_and_raises_its_epoch() {
        let bound = upgraded(session(), 1);
        assert_eq!(bound.bound(), Some(&contact(1)));
        assert!(bound.epoch() > session().epoch());
        assert_eq!((bound.started(), bound.ends()), (session().started(), session().ends()));
    }

    #[test]
    fn proving_the_same_contact_again_changes_nothing() {
        let bound = upgraded(session(), 1);
        assert_eq!(bound.clone().bind(&contact(1), NOW), Ok(Bound::Unchanged(bound)));
    }

    #[test]
    fn a_session_never_changes_hands() {
        let refused = upgraded(session(), 1).bind(&contact(2), NOW).unwrap_err();
        assert_eq!(refused.reason(), Reason::SessionBound);
        let implicit = Session::start_bound("ses_2".parse().unwrap(), "acme".parse().unwrap(), contact(1), NOW, HOUR);
        assert_eq!(implicit.bind(&contact(2), NOW).unwrap_err().reason(), Reason::SessionBound);
    }

    #[test]
    fn an_address_that_a_visitor_proved_is_not_added_to_who_was_bound_in_the_meantime() {
        let address =
            Attribute { value: "ann@example.com".into(), provenance: Channel::Email.proves(), proof_time: NOW };
        let proof = AddressProof { channel: Channel::Email, address, expires: NOW.after(HOUR) };
        let held = session().epoch();
        let prove = |session: Session| session.prove_address("v1", proof.clone(), &contact(9), false, held, NOW);
        let refused = prove(upgraded(session(), 1)).unwrap_err();
        assert_eq!(refused.reason(), Reason::AssertionStale);
        let Bound::Upgraded(lead) = prove(session()).unwrap() else { panic!("a visitor's session becomes the lead's") };
        assert_eq!(prove(lead.clone()), Ok(Bound::Unchanged(lead)), "repeated with the assertion from before");
    }

    #[test]
    fn a_session_that_has_ended_binds_to_nobody() {
        let refused = session().bind(&contact(1), NOW.after(HOUR)).unwrap_err();
        assert_eq!(refused.reason(), Reason::AssertionExpired);
    }

    #[test]
    fn a_session_reads_back_from_its_record() {
        for session in [session(), upgraded(session(), 1)] {
            let text = serde_json::to_string(&session).unwrap();
            assert_eq!(serde_json::from_str::<Session>(&text).unwrap(), session);
        }
    }
}
