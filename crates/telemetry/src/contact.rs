//! How a contact may appear in telemetry.

use std::fmt;

use aws_lc_rs::hmac;
use safeconduct_types::{Secret, WorkspaceId};
use tracing::Span;

use crate::field;

/// Turns whatever identifies a contact into a keyed hash that is the same in all services that share the key.
/// Without the key nobody can test a guess against it.
#[derive(Clone)]
pub struct ContactHasher(hmac::Key);

impl ContactHasher {
    /// The hasher of this key (the keyring's purpose `trace-hashing`).
    pub fn new(key: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// The hash of a contact's id or user id within a workspace: 24 hexadecimal digits.
    pub fn hash(&self, workspace: &WorkspaceId, identifier: &str) -> String {
        let mut text = Vec::with_capacity(128);
        for part in [workspace.as_str().as_bytes(), identifier.as_bytes()] {
            // Length-prefixed, so that no two pairs run together into the same bytes.
            text.extend((part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
        hex::encode(hmac::sign(&self.0, &text).as_ref().get(..12).unwrap_or_default())
    }

    /// Tells the current span which contact it is about. Where the span does not take it nothing is computed.
    pub fn tell_span(&self, workspace: &WorkspaceId, identifier: &str) {
        let span = Span::current();
        if span.has_field(field::CONTACT) {
            span.record(field::CONTACT, self.hash(workspace, identifier));
        }
    }
}

impl fmt::Debug for ContactHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContactHasher([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(name: &str) -> WorkspaceId {
        name.parse().expect("a workspace id")
    }

    #[test]
    fn a_contact_looks_the_same_wherever_the_key_is_the_same() {
        let (one, other) = (Secret::new(vec![1; 32]), Secret::new(vec![1; 32]));
        let (one, other) = (ContactHasher::new(&one), ContactHasher::new(&other));
        assert_eq!(one.hash(&workspace("shop"), "u-1"), other.hash(&workspace("shop"), "u-1"));
    }

    #[test]
    fn key_workspace_and_contact_all_count() {
        let hasher = ContactHasher::new(&Secret::new(vec![1; 32]));
        let other = ContactHasher::new(&Secret::new(vec![2; 32]));
        let hash = hasher.hash(&workspace("shop"), "u-1");
        assert_ne!(hash, hasher.hash(&workspace("shop"), "u-2"));
        assert_ne!(hash, hasher.hash(&workspace("shopu"), "-1"));
        assert_ne!(hash, other.hash(&workspace("shop"), "u-1"));
        assert!(!hash.contains("u-1"));
    }
}
