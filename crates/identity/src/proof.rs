//! What a proof came to, however it was made.

use std::collections::BTreeMap;
use std::fmt;

use safeconduct_identity_domain::contact::{Identity as Claimed, Method};
use safeconduct_types::{Provenance, Timestamp};
use serde_json::Value;

/// A user is proven. Only what verifies one makes one.
#[derive(Clone, PartialEq)]
#[allow(clippy::struct_field_names, reason = "its id and time are those of the proof, not of the person")]
pub(crate) struct Proof {
    /// Who, byte for byte.
    pub(crate) identity: Claimed,
    /// What was proven of them besides, by name.
    pub(crate) attributes: BTreeMap<String, Value>,
    /// What all of it is worth.
    pub(crate) provenance: Provenance,
    /// How it was proven.
    pub(crate) method: Method,
    /// The key that proved it.
    pub(crate) proof_id: String,
    /// What tells that key from every other.
    pub(crate) proof_mark: String,
    /// When.
    pub(crate) proof_time: Timestamp,
    /// Until when the proof itself says that it holds; a user hash never ends.
    pub(crate) expires: Option<Timestamp>,
}

/// Who it is is personal.
impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof")
            .field("method", &self.method)
            .field("proof_id", &self.proof_id)
            .field("proof_time", &self.proof_time)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
