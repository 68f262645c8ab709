//! The key by which an upstream recognises a repeat of a write.

use safeconduct_types::{ConnectorName, ContactId};

use crate::fingerprint::Digest;

/// The key of one generation of one request: a repeat gets the same one, whichever process sends it, and a request
/// that is made anew after the former was released gets another one. Shaped like a UUID of version 8 (RFC 9562), since
/// some upstreams insist on that.
pub fn derive(family: &ConnectorName, contact: &ContactId, key: &Digest, generation: u32) -> String {
    let digest = Digest::of(
        "safeconduct/upstream-key/v1",
        &[family.as_str().as_bytes(), contact.as_str().as_bytes(), key.as_bytes(), &generation.to_be_bytes()],
    );
    let mut hex: Vec<char> = digest.to_hex().chars().take(32).collect();
    // The version, and the variant within its two bits.
    if let Some(version) = hex.get_mut(12) {
        *version = '8';
    }
    if let Some(variant) = hex.get_mut(16) {
        let low = variant.to_digit(16).unwrap_or(0) & 3;
        *variant = char::from_digit(8 | low, 16).unwrap_or('8');
    }
    let mut text = String::with_capacity(36);
    for (index, digit) in hex.into_iter().enumerate() {
        if matches!(index, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_has_the_same_key_and_everything_else_another() {
        let contact = ContactId::from_digest(&[1; 16]);
        let (family, key) = ("refund".parse().unwrap(), Digest::of("k", &[]));
        let first = derive(&family, &contact, &key, 0);
        assert_eq!(first, derive(&family, &contact, &key, 0));
        let others = [
            derive(&"other".parse().unwrap(), &contact, &key, 0),
            derive(&family, &ContactId::from_digest(&[2; 16]), &key, 0),
            derive(&family, &contact, &Digest::of("l", &[]), 0),
            derive(&family, &contact, &key, 1),
        ];
        assert!(!others.contains(&first));
    }

    #[test]
    fn a_key_has_the_shape_of_a_uuid() {
        for generation in 0..64 {
            let key =
                derive(&"f".parse().unwrap(), &ContactId::from_digest(&[1; 16]), &Digest::of("k", &[]), generation);
            let groups: Vec<&str> = key.split('-').collect();
            assert_eq!(groups.iter().map(|group| group.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert!(groups[2].starts_with('8') && groups[3].starts_with(['8', '9', 'a', 'b']), "{key}");
        }
    }
}
