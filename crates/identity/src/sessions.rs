//! Sessions in the store: one slot, one sealed record each, gone when the session ends.

use std::sync::Arc;

use safeconduct_identity_domain::session::{Bound, Session};
use safeconduct_store::{Ends, StoreKeyer};
use safeconduct_types::{ContactId, Random, Reason, Refusal, SessionId, Timestamp, WorkspaceId};

use crate::contacts::{Edit, Place, Vault};

#[derive(Debug)]
pub(crate) struct Sessions {
    vault: Vault,
    keyer: StoreKeyer,
    random: Arc<dyn Random>,
}

impl Sessions {
    pub(crate) fn new(vault: Vault, keyer: StoreKeyer, random: Arc<dyn Random>) -> Self {
        Self { vault, keyer, random }
    }

    /// A session id that nobody has.
    pub(crate) fn mint(&self) -> SessionId {
        SessionId::generate(&*self.random)
    }

    /// Stores a session that was just minted.
    pub(crate) async fn create(&self, session: &Session) -> Result<(), Refusal> {
        let place = self.place(session.workspace(), session.id());
        let is_new = self.vault.create(&place, session, Ends::At(session.ends())).await?;
        if is_new { Ok(()) } else { Err(Refusal::internal("a session id was minted twice")) }
    }

    pub(crate) async fn read(&self, workspace: &WorkspaceId, id: &SessionId) -> Result<Option<Session>, Refusal> {
        self.vault.read(&self.place(workspace, id)).await
    }

    /// Binds the session to a contact that was proven by the key of this mark, exactly once however many try.
    pub(crate) async fn bind(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
        contact: &ContactId,
        mark: &str,
        now: Timestamp,
    ) -> Result<Session, Refusal> {
        let bind = |session: Session| {
            Ok(match session.bind(contact, now)? {
                Bound::Unchanged(session) if session.proven_by() == Some(mark) => Bound::Unchanged(session),
                Bound::Unchanged(session) | Bound::Upgraded(session) => Bound::Upgraded(session.by(mark)),
            })
        };
        self.change(workspace, id, bind).await
    }

    /// Changes a session that is there. What is unchanged is not stored again.
    pub(crate) async fn change(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
        mut change: impl FnMut(Session) -> Result<Bound, Refusal>,
    ) -> Result<Session, Refusal> {
        let edit = |found: Option<Session>| match change(found.ok_or_else(ended)?)? {
            Bound::Unchanged(session) => Ok(Edit::Keep(session)),
            Bound::Upgraded(session) => Ok(Edit::Put(session.clone(), Ends::At(session.ends()), session)),
        };
        self.vault.update(&self.place(workspace, id), edit).await
    }

    fn place(&self, workspace: &WorkspaceId, id: &SessionId) -> Place {
        Place::new(&self.keyer, "session", workspace, id.as_str())
    }
}

pub(crate) fn ended() -> Refusal {
    Refusal::new(Reason::AssertionExpired, "the session has ended; start a new one")
}
