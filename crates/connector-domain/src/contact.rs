//! The contact as a connector sees it: what the assertion says, and how that is known.

use std::collections::BTreeMap;
use std::fmt;

use safeconduct_types::{ContactId, Provenance, Timestamp};
use serde_json::Value;

pub use crate::definition::ContactKind;

/// One attribute of a contact.
#[derive(Clone, PartialEq, Eq)]
pub struct AttributeValue {
    /// The value. Personal data.
    pub value: Value,
    /// Where it came from.
    pub provenance: Provenance,
    /// When it was proven; none if nobody vouches for it.
    pub proof_time: Option<Timestamp>,
}

impl fmt::Debug for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttributeValue")
            .field("provenance", &self.provenance)
            .field("proof_time", &self.proof_time)
            .finish_non_exhaustive()
    }
}

/// A contact. The shell makes it out of a verified assertion and of nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactView {
    /// The contact's id.
    pub id: ContactId,
    /// How the contact is known.
    pub kind: ContactKind,
    /// The proof that made the contact what it is; none for a visitor.
    pub known_by: Option<Provenance>,
    /// What is known, by name.
    pub attributes: BTreeMap<String, AttributeValue>,
    /// The addresses whose control was proven, apart from what is known by name.
    pub proven: ProvenAddresses,
}

/// Addresses that a one-time password has proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvenAddresses {
    /// The email address.
    pub email: Option<AttributeValue>,
    /// The phone number.
    pub phone: Option<AttributeValue>,
}
