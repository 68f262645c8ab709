//! The life of a session: started, bound to one contact, over.

use std::time::Duration;

use safeconduct_types::{ContactId, Reason, Refusal, SessionId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

/// What identity remembers of a session. It is minted here and never invented by a caller; it belongs to nobody
/// until a proof binds it, and to that contact from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    id: SessionId,
    workspace: WorkspaceId,
    started: Timestamp,
    ends: Timestamp,
    epoch: u32,
    bound: Option<ContactId>,
}

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
    /// A session of a visitor. It ends `lifetime` after its start, whatever happens in it.
    pub fn start(id: SessionId, workspace: WorkspaceId, now: Timestamp, lifetime: Duration) -> Self {
        Self { id, workspace, started: now, ends: now.after(lifetime), epoch: FIRST_EPOCH, bound: None }
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

    /// Binds the session to a proven contact. Proving the same one again changes nothing (a caller whose answer got
    /// lost may ask again); another one is refused, because whatever was said in the session was said by the first.
    pub fn bind(self, contact: &ContactId, now: Timestamp) -> Result<Bound, Refusal> {
        if now >= self.ends {
            return Err(Refusal::new(Reason::AssertionExpired, "the session has ended; start a new one"));
        }
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
