//! What the service needs to know of a workspace.

use std::fmt;
use std::sync::Arc;

use safeconduct_otp_domain::policy::OtpPolicy;
use safeconduct_types::{Reason, Refusal, WorkspaceId};

/// The workspaces of this process, as they are in force now. Asked for every call, so that a change counts at once.
pub trait WorkspaceDirectory: Send + Sync + fmt::Debug + 'static {
    /// What the workspace says about one-time passwords; `None` if it says nothing, or there is no such workspace.
    fn otp_policy(&self, workspace: &WorkspaceId) -> Option<Arc<OtpPolicy>>;
}

/// The policy, or the refusal of who asks a workspace that has none. The assertion proves the workspace itself.
pub(crate) fn policy(directory: &dyn WorkspaceDirectory, workspace: &WorkspaceId) -> Result<Arc<OtpPolicy>, Refusal> {
    directory.otp_policy(workspace).ok_or_else(|| {
        Refusal::new(Reason::WorkspaceUnknown, "this workspace offers no one-time passwords here; see its `spec.otp`")
    })
}
