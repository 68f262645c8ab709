//! Keys that say nothing and never collide.

use std::fmt;

use aws_lc_rs::hmac;
use safeconduct_types::Secret;

/// Bytes of a hash that go into a key: 128 bits of a keyed hash.
const HASH_LEN: usize = 16;

/// Makes slots and keys from their parts, with the service's `store-hashing` key.
///
/// Another key means other slots and records: it must be the same for all replicas and for as long as the
/// records live.
#[derive(Clone)]
pub struct StoreKeyer(hmac::Key);

impl StoreKeyer {
    /// A keyer with this key; 32 random bytes are right.
    pub fn new(key: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// The slot that these parts name.
    pub fn slot(&self, parts: &[&[u8]]) -> Slot {
        Slot(self.hash("slot", parts))
    }

    /// The record of `slot` that these parts name within `space` (lower-case letters and `-`).
    pub fn key(&self, slot: &Slot, space: &'static str, parts: &[&[u8]]) -> RecordKey {
        // The braces are Redis' hash tag: all records of a slot stay on one node.
        RecordKey { text: format!("{{{}}}:{space}:{}", slot.0, self.hash(space, parts)), slot: slot.clone() }
    }

    fn hash(&self, label: &str, parts: &[&[u8]]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for part in std::iter::once(&label.as_bytes()).chain(parts) {
            // Length first: no two lists of parts read the same.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        hex::encode(tag.as_ref().get(..HASH_LEN).unwrap_or_default())
    }
}

impl fmt::Debug for StoreKeyer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKeyer([redacted])")
    }
}

/// A group of records that can change together: on Redis, those of one hash slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slot(String);

/// The key of one record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordKey {
    text: String,
    slot: Slot,
}

impl RecordKey {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_in(&self, slot: &Slot) -> bool {
        self.slot == *slot
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keyer(seed: u8) -> StoreKeyer {
        StoreKeyer::new(&Secret::new(vec![seed; 32]))
    }

    proptest! {
        #[test]
        fn two_lists_of_parts_meet_in_one_key_only_if_they_are_equal(
            a in prop::collection::vec("[ab]{0,2}", 0..4),
            b in prop::collection::vec("[ab]{0,2}", 0..4),
        ) {
            let keyer = keyer(1);
            let slot = keyer.slot(&[b"w"]);
            let parts = |list: &[String]| {
                let list: Vec<_> = list.iter().map(|part| part.as_bytes().to_vec()).collect();
                list
            };
            let (left, right) = (parts(&a), parts(&b));
            let left: Vec<&[u8]> = left.iter().map(Vec::as_slice).collect();
            let right: Vec<&[u8]> = right.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(keyer.key(&slot, "x", &left) == keyer.key(&slot, "x", &right), a == b);
            prop_assert_eq!(keyer.slot(&left) == keyer.slot(&right), a == b);
        }
    }

    #[test]
    fn another_secret_space_or_slot_makes_another_key() {
        let (one, two) = (keyer(1), keyer(2));
        let slot = one.slot(&[b"acme"]);
        let key = one.key(&slot, "exec", &[b"a"]);
        assert_ne!(key, two.key(&slot, "exec", &[b"a"]));
        assert_ne!(key, one.key(&slot, "key", &[b"a"]));
        assert_ne!(key, one.key(&one.slot(&[b"other"]), "exec", &[b"a"]));
    }

    #[test]
    fn a_key_carries_its_slot_as_the_only_hash_tag_and_none_of_its_parts() {
        let keyer = keyer(1);
        let slot = keyer.slot(&[b"acme"]);
        let key = keyer.key(&slot, "exec", &[b"{alice}@example.com"]);
        assert!(key.as_str().starts_with(&format!("{{{}}}:exec:", slot.0)), "{key:?}");
        assert_eq!(key.as_str().matches('{').count(), 1);
        assert!(!key.as_str().contains("alice"));
    }
}
