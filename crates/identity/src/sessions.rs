//! Sessions in the store: one slot, one sealed record each, gone soon after the session ends. Most sessions have none:
//! it is written when something happens that their assertions do not say.

use std::sync::Arc;

use safeconduct_identity_domain::session::{Bound, Session};
use safeconduct_store::{Ends, StoreKeyer};
use safeconduct_types::{Random, Reason, Refusal, SessionId, WorkspaceId};

use crate::contacts::{Edit, Place, Vault};
use crate::marks::CLOCK_MARGIN;

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

    /// The session's record, if anything was ever stored of it.
    pub(crate) async fn read(&self, workspace: &WorkspaceId, id: &SessionId) -> Result<Option<Session>, Refusal> {
        self.vault.read(&self.place(workspace, id)).await
    }

    /// Changes a session, exactly once however many try. Without a record it is the one that is `unrecorded`, and over
    /// if there is none. What is unchanged is not stored.
    pub(crate) async fn change(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
        unrecorded: Option<Session>,
        mut change: impl FnMut(Session) -> Result<Bound, Refusal>,
    ) -> Result<Session, Refusal> {
        let edit = |found: Option<Session>| {
            let session = found.or_else(|| unrecorded.clone()).ok_or_else(ended)?;
            Ok(match change(session)? {
                Bound::Unchanged(session) => Edit::Keep(session),
                Bound::Upgraded(session) => {
                    let ends = Ends::At(session.ends().after(CLOCK_MARGIN));
                    Edit::Put(session.clone(), ends, session)
                }
            })
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
