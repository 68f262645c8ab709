//! The keys under which a request is known when it comes again.

use safeconduct_admission_client::{Key, KeyKind};
use safeconduct_connector_domain::fingerprint::Digest;
use safeconduct_types::ConnectorName;

/// The caller's key first: where both lead somewhere, it wins.
pub(crate) fn of_request(family: &ConnectorName, caller: Option<&str>, same: Option<&Digest>) -> Vec<Key> {
    let caller = caller.map(|key| of_caller(family, key));
    let same = same.map(|digest| Key { kind: KeyKind::Same, digest: *digest.as_bytes() });
    caller.into_iter().chain(same).collect()
}

/// A caller's idempotency key counts within one family. Contacts need not be told apart: each has its own shard.
pub(crate) fn of_caller(family: &ConnectorName, key: &str) -> Key {
    let digest = Digest::of("safeconduct/caller-key/v1", &[family.as_str().as_bytes(), key.as_bytes()]);
    Key { kind: KeyKind::Caller, digest: *digest.as_bytes() }
}
