//! What the service needs to know of a workspace.

use std::fmt;
use std::sync::Arc;

use safeconduct_identity_domain::attribute::AttributePolicy;
use safeconduct_identity_domain::workspace::IdentityPolicy;
use safeconduct_types::{Secret, WorkspaceId};

/// The workspaces of this process, as they are in force now. Asked for every call, so that a change counts at once.
pub trait WorkspaceDirectory: Send + Sync + fmt::Debug + 'static {
    /// What the workspace says about identity; `None` if there is no such workspace.
    fn identity_policy(&self, workspace: &WorkspaceId) -> Option<Arc<IdentityPolicy>>;

    /// Which attributes the workspace declares; those that are built in, if it says nothing of them.
    fn attribute_policy(&self, workspace: &WorkspaceId) -> Arc<AttributePolicy>;

    /// The workspace's own secret of this name; `None` if there is none. Never another workspace's.
    fn secret(&self, workspace: &WorkspaceId, name: &str) -> Option<Secret>;
}
