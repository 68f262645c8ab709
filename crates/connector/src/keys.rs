//! The keys under which a request is known when it comes again. Each names the contact, although a contact has a shard
//! of its own: that two contacts could ever share one is no reason for them to share a refund.

use safeconduct_admission_client::{Key, KeyKind};
use safeconduct_connector_domain::fingerprint::Digest;
use safeconduct_types::{ConnectorName, ContactId};

/// The caller's key first: where both lead somewhere, it wins.
pub(crate) fn of_request(
    contact: &ContactId,
    family: &ConnectorName,
    caller: Option<&str>,
    same: Option<&Digest>,
) -> Vec<Key> {
    let caller = caller.map(|key| of_caller(contact, family, key));
    let same = same.map(|same| {
        let digest = digest("safeconduct/same-key/v1", contact, family, same.as_bytes());
        Key { kind: KeyKind::Same, digest }
    });
    caller.into_iter().chain(same).collect()
}

/// A caller's idempotency key, which counts within one family.
pub(crate) fn of_caller(contact: &ContactId, family: &ConnectorName, key: &str) -> Key {
    Key { kind: KeyKind::Caller, digest: digest("safeconduct/caller-key/v1", contact, family, key.as_bytes()) }
}

fn digest(usage: &str, contact: &ContactId, family: &ConnectorName, key: &[u8]) -> [u8; 32] {
    *Digest::of(usage, &[contact.as_str().as_bytes(), family.as_str().as_bytes(), key]).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contact_family_kind_and_key_all_count() {
        let (one, other) = (ContactId::from_digest(&[1; 16]), ContactId::from_digest(&[2; 16]));
        let (refund, cancel): (ConnectorName, ConnectorName) = ("refund".parse().unwrap(), "cancel".parse().unwrap());
        let same = Digest::of("s", &[]);
        let keys = [
            of_caller(&one, &refund, "k").digest,
            of_caller(&other, &refund, "k").digest,
            of_caller(&one, &cancel, "k").digest,
            of_caller(&one, &refund, "l").digest,
            of_request(&one, &refund, None, Some(&same))[0].digest,
            of_request(&other, &refund, None, Some(&same))[0].digest,
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{index}");
        }
        let both = of_request(&one, &refund, Some("k"), Some(&same));
        assert_eq!(both.iter().map(|key| key.kind).collect::<Vec<_>>(), [KeyKind::Caller, KeyKind::Same]);
    }
}
