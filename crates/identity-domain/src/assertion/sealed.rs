//! The attributes within an assertion, and what proved them; readable by the suite only.

use std::borrow::Cow;
use std::fmt;

use safeconduct_types::{ContactId, SessionId, WorkspaceId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::contact::{Attributes, Proven};

/// Something could not be sealed or opened. Says no more: what failed to open is not ours to describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be sealed or opened with the keys at hand")]
pub struct SealError;

/// Authenticated encryption with the suite's key for claims. `context` is authenticated, not carried: what was
/// sealed in one context opens in no other.
pub trait Seal: Send + Sync + fmt::Debug + 'static {
    /// Encrypts.
    fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Decrypts what [`Seal::seal`] made in the same context.
    fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError>;
}

/// Whose attributes they are, so that a sealed claim cannot be moved into another assertion.
pub(super) struct Owner<'a> {
    pub(super) workspace: &'a WorkspaceId,
    pub(super) session: &'a SessionId,
    pub(super) contact: &'a ContactId,
}

impl Owner<'_> {
    fn context(&self) -> Vec<u8> {
        let mut context = Vec::with_capacity(192);
        for part in [
            "safeconduct/assertion/attributes/2",
            self.workspace.as_str(),
            self.session.as_str(),
            self.contact.as_str(),
        ] {
            context.extend_from_slice(&(part.len() as u64).to_be_bytes());
            context.extend_from_slice(part.as_bytes());
        }
        context
    }
}

/// What is sealed.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known<'a> {
    #[serde(rename = "a", default, skip_serializing_if = "nobody_knows")]
    pub(super) attributes: Cow<'a, Attributes>,
    #[serde(rename = "p", default, skip_serializing_if = "none_proven")]
    pub(super) proven: Cow<'a, Proven>,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(super) proven_by: Option<Cow<'a, str>>,
}

#[allow(clippy::ptr_arg, reason = "the shape that serde takes")]
fn nobody_knows(attributes: &Cow<'_, Attributes>) -> bool {
    attributes.is_empty()
}

#[allow(clippy::ptr_arg, reason = "the shape that serde takes")]
fn none_proven(proven: &Cow<'_, Proven>) -> bool {
    proven.is_empty()
}

pub(super) fn seal(seal: &dyn Seal, owner: &Owner<'_>, known: &Known<'_>) -> Result<Vec<u8>, SealError> {
    let plain = Zeroizing::new(serde_json::to_vec(known).map_err(|_| SealError)?);
    seal.seal(&owner.context(), &plain)
}

pub(super) fn open(seal: &dyn Seal, owner: &Owner<'_>, sealed: &[u8]) -> Result<Known<'static>, SealError> {
    let plain = seal.open(&owner.context(), sealed)?;
    serde_json::from_slice(&plain).map_err(|_| SealError)
}
