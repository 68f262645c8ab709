//! What verifies proofs in each workspace, prepared once and kept until the file or the bytes of a secret change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use safeconduct_identity_domain::secrets::{Resolved, Secrets};
use safeconduct_identity_domain::workspace::IdentityPolicy;
use safeconduct_telemetry::field;
use safeconduct_types::{Clock, Refusal, WorkspaceId};

use crate::workspaces::WorkspaceDirectory;

/// How long prepared secrets serve before their bytes are asked for again. With the half second for which a file's
/// content is kept (`safeconduct_service::secrets`), a removed secret verifies nothing after less than a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The workspaces' secrets, prepared.
#[derive(Debug)]
pub(crate) struct AllAccepted {
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<WorkspaceId, Known>>,
}

#[derive(Debug)]
struct Known {
    looked: Instant,
    accepted: Arc<Accepted>,
}

/// What one workspace accepts.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) policy: Arc<IdentityPolicy>,
    pub(crate) secrets: Secrets,
    resolved: Resolved,
}

impl Accepted {
    /// The ids of what verifies proofs here.
    pub(crate) fn ids(&self) -> impl Iterator<Item = String> {
        let secrets = self.policy.secrets().iter().map(|one| &one.id);
        secrets.cloned().chain(self.policy.tokens().keys().iter().map(|key| key.id().to_owned()))
    }
}

impl AllAccepted {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// What the workspace accepts now; `is_new` is told whenever that has changed.
    pub(crate) fn of(
        &self,
        workspace: &WorkspaceId,
        directory: &dyn WorkspaceDirectory,
        is_new: impl FnOnce(&Accepted),
    ) -> Result<Arc<Accepted>, Refusal> {
        let policy = directory.identity_policy(workspace).ok_or_else(crate::verify::unknown_workspace)?;
        let now = self.clock.instant();
        let mut before = None;
        if let Some(known) = self.locked().get_mut(workspace)
            && Arc::ptr_eq(&known.accepted.policy, &policy)
        {
            if now.saturating_duration_since(known.looked) < LOOK_EVERY {
                return Ok(Arc::clone(&known.accepted));
            }
            // One looks, whoever else comes goes on with what there is.
            known.looked = now;
            before = Some(Arc::clone(&known.accepted));
        }
        let resolved = Resolved::look(&policy, |name| directory.secret(workspace, name));
        if let Some(before) = before.filter(|before| before.resolved.is(&resolved)) {
            return Ok(before);
        }
        let (secrets, problems) = Secrets::prepare(&policy, &resolved);
        for problem in problems {
            tracing::warn!({ field::WORKSPACE } = %workspace, %problem, "a secret of the workspace is not accepted");
        }
        let accepted = Arc::new(Accepted { policy, secrets, resolved });
        is_new(&accepted);
        self.locked().insert(workspace.clone(), Known { looked: now, accepted: Arc::clone(&accepted) });
        Ok(accepted)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<WorkspaceId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
