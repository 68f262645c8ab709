//! Heeding marks: on every call, and again before each attempt's first byte.

use std::sync::Arc;

use safeconduct_admission_client::{MirrorAnswer, closed, lagging};
use safeconduct_connector_domain::definition::{Connector, Effect, OnStoreFailure, Sensitivity};
use safeconduct_types::{MarkCheck, MarkKey, Refusal, Subject, WorkspaceId};

use crate::Service;
use crate::attempt::Allowed;

/// What may be done while it is not known what was closed in the last second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stakes {
    /// Goes on: it touches nobody's own.
    GoesOn,
    /// Asks admission, and goes on if its store is gone: its definition says `on_store_failure: allow`.
    Anyway,
    /// Is refused.
    Private,
    /// Asks admission, which decides exactly.
    Write,
}

impl Stakes {
    pub(crate) const fn of(connector: &Connector) -> Self {
        match (connector.effect, connector.sensitivity, connector.on_store_failure) {
            (Effect::Write, ..) => Self::Write,
            (Effect::Read, Sensitivity::Public, _) => Self::GoesOn,
            (Effect::Read, Sensitivity::Private, OnStoreFailure::Allow) => Self::Anyway,
            (Effect::Read, Sensitivity::Private, OnStoreFailure::Deny) => Self::Private,
        }
    }
}

impl Stakes {
    /// Those of a list that is read to decide about a request for `connector`: a write asks admission for its lists, too.
    pub(crate) fn of_list(connector: &Connector, list: &Connector) -> Self {
        match Self::of(connector) {
            Self::Write => Self::Write,
            Self::GoesOn | Self::Anyway | Self::Private => Self::of(list),
        }
    }
}

/// The marks that executions of this connector must not meet.
pub(crate) fn of_connector(workspace: &WorkspaceId, connector: &Connector) -> [MarkCheck; 3] {
    let name = || connector.name.clone();
    [
        Subject::ConnectorDisabled(name()),
        Subject::ConnectorGone(name()),
        Subject::VersionDisabled(name(), connector.version.clone()),
    ]
    .map(|subject| MarkCheck::any(MarkKey::new(workspace.clone(), subject)))
}

/// The marks of a request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Heeded {
    pub(crate) checks: Arc<[MarkCheck]>,
    /// The mirror could not say: whatever is answered, admission must have been asked.
    pub(crate) ask: bool,
}

impl Heeded {
    /// What admission is to check before it answers from a record.
    pub(crate) fn for_look_up(&self) -> Vec<MarkCheck> {
        if self.ask { self.checks.to_vec() } else { Vec::new() }
    }
}

/// A read before its next attempt.
pub(crate) struct Reading<'a> {
    pub(crate) service: &'a Service,
    pub(crate) marks: &'a [MarkCheck],
    pub(crate) stakes: Stakes,
}

#[tonic::async_trait]
impl Allowed for Reading<'_> {
    async fn attempt(&self) -> bool {
        self.service.may_read(self.marks, self.stakes).is_ok()
    }
}

impl Service {
    /// Refuses what a mark closes.
    pub(crate) fn heed(&self, checks: Vec<MarkCheck>, stakes: Stakes) -> Result<Heeded, Refusal> {
        let ask = match (self.mirror.check(&checks, self.clock.instant()), stakes) {
            (MirrorAnswer::Clear, _) | (MirrorAnswer::Lagging(None), Stakes::GoesOn) => false,
            (MirrorAnswer::Met(mark), _) | (MirrorAnswer::Lagging(Some(mark)), Stakes::GoesOn | Stakes::Anyway) => {
                return Err(closed(&mark));
            }
            (MirrorAnswer::Lagging(_), Stakes::Private) => return Err(lagging()),
            (MirrorAnswer::Lagging(_), Stakes::Write | Stakes::Anyway) => true,
        };
        Ok(Heeded { checks: checks.into(), ask })
    }

    /// Whether a read may be sent now. Where the mirror cannot say, a list for a write goes on: admission was asked just
    /// before, and is asked again before the write.
    pub(crate) fn may_read(&self, checks: &[MarkCheck], stakes: Stakes) -> Result<(), Refusal> {
        match (self.mirror.check(checks, self.clock.instant()), stakes) {
            (MirrorAnswer::Clear, _)
            | (MirrorAnswer::Lagging(None), Stakes::GoesOn | Stakes::Anyway | Stakes::Write) => Ok(()),
            (MirrorAnswer::Met(mark), _)
            | (MirrorAnswer::Lagging(Some(mark)), Stakes::GoesOn | Stakes::Anyway | Stakes::Write) => {
                Err(closed(&mark))
            }
            (MirrorAnswer::Lagging(_), Stakes::Private) => Err(lagging()),
        }
    }
}
