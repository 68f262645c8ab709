//! Keys that say nothing and never collide.

use std::fmt;
use std::sync::Arc;

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
        let hash = self.hash("slot", parts);
        let mut text = String::with_capacity(2 * HASH_LEN);
        push_hex(&mut text, hash);
        Slot { text: text.into(), id: u128::from_be_bytes(hash) }
    }

    /// The record of `slot` that these parts name within `space` (lower-case letters and `-`).
    pub fn key(&self, slot: &Slot, space: &'static str, parts: &[&[u8]]) -> RecordKey {
        self.name(space, parts).within(slot)
    }

    /// What these parts name within `space`, in whichever slot: for whoever asks for the same in many.
    pub fn name(&self, space: &'static str, parts: &[&[u8]]) -> KeyName {
        KeyName { space, hash: self.hash(space, parts) }
    }

    fn hash(&self, label: &str, parts: &[&[u8]]) -> [u8; HASH_LEN] {
        // Put together first: a call of the library costs more than the bytes.
        let mut text = Vec::with_capacity(128);
        for part in std::iter::once(&label.as_bytes()).chain(parts) {
            // Length first: no two lists of parts read the same.
            text.extend((part.len() as u64).to_be_bytes());
            text.extend(*part);
        }
        let tag = hmac::sign(&self.0, &text);
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

fn push_hex(to: &mut String, bytes: [u8; HASH_LEN]) {
    let mut digits = [0; 2 * HASH_LEN];
    // The lengths fit, and digits are text.
    if hex::encode_to_slice(bytes, &mut digits).is_ok() {
        to.push_str(std::str::from_utf8(&digits).unwrap_or_default());
    }
}

impl fmt::Debug for StoreKeyer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKeyer([redacted])")
    }
}

/// What a record is called within its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyName {
    space: &'static str,
    hash: [u8; HASH_LEN],
}

impl KeyName {
    /// The record of this name in `slot`.
    pub fn within(&self, slot: &Slot) -> RecordKey {
        let mut text = String::with_capacity(4 * HASH_LEN + self.space.len() + 4);
        // The braces are Redis' hash tag: all records of a slot stay on one node.
        for part in ["{", &slot.text, "}:", self.space, ":"] {
            text.push_str(part);
        }
        push_hex(&mut text, self.hash);
        // Turned, as `slot` and `hash` may come from the same parts.
        let id = slot.id.rotate_left(1) ^ u128::from_be_bytes(self.hash);
        RecordKey { text: text.into(), id, slot: slot.clone() }
    }
}

/// A group of records that can change together: on Redis, those of one hash slot. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Slot {
    text: Arc<str>,
    id: u128,
}

impl Slot {
    /// The hash tag of its keys.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The keyed hash that it is.
    pub(crate) fn id(&self) -> u128 {
        self.id
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.text).finish()
    }
}

/// The key of one record. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RecordKey {
    text: Arc<str>,
    id: u128,
    slot: Slot,
}

impl RecordKey {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// 128 bits of keyed hashes that tell it from every other.
    pub(crate) fn id(&self) -> u128 {
        self.id
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    pub(crate) fn is_in(&self, slot: &Slot) -> bool {
        self.slot == *slot
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecordKey").field(&self.text).finish()
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
        assert!(key.as_str().starts_with(&format!("{{{}}}:exec:", slot.text)), "{key:?}");
        assert_eq!(key.as_str().matches('{').count(), 1);
        assert!(!key.as_str().contains("alice"));
    }
}
