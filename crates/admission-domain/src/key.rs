//! The keys under which a request is known.

use crate::bounds::{BoundsError, Digest, MAX_KEYS};

/// Two ways in which a request can be "the same one again".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// The caller's own idempotency key. The request that it stands for is compared: another one is refused.
    Caller,
    /// The inputs that make two requests the same for the connector. Nothing is compared: they are the request.
    Same,
}

impl KeyKind {
    /// Its name in logs and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "CALLER",
            Self::Same => "SAME",
        }
    }
}

/// One key: its kind and a digest. Keys of different kinds never meet, even with equal digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What the key stands for.
    pub kind: KeyKind,
    /// The digest that stands for the key's text.
    pub digest: Digest,
}

/// The digest of a whole request, in its canonical form: what a caller's key is compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(Digest);

impl Fingerprint {
    /// The fingerprint that this digest is.
    pub const fn new(digest: Digest) -> Self {
        Self(digest)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

/// The keys of one request, in the order in which they are asked: at most four, none twice, the caller's (at most one)
/// first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// The keys in this order.
    pub fn parse(keys: Vec<Key>) -> Result<Self, BoundsError> {
        if keys.len() > MAX_KEYS {
            return Err(BoundsError("must be at most 4 keys"));
        }
        if keys.iter().skip(1).any(|key| key.kind == KeyKind::Caller) {
            return Err(BoundsError("must have at most one key of kind CALLER, and that first"));
        }
        let mut seen = keys.clone();
        seen.sort_unstable();
        seen.dedup();
        if seen.len() != keys.len() {
            return Err(BoundsError("must not name a key twice"));
        }
        Ok(Self(keys))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the caller's own key is among them.
    pub fn has_caller(&self) -> bool {
        self.0.iter().any(|key| key.kind == KeyKind::Caller)
    }

    /// The keys, in the order in which they are asked.
    pub fn iter(&self) -> std::slice::Iter<'_, Key> {
        self.0.iter()
    }

    pub(crate) const fn stored(keys: Vec<Key>) -> Self {
        Self(keys)
    }
}

impl<'a> IntoIterator for &'a Keys {
    type Item = &'a Key;
    type IntoIter = std::slice::Iter<'a, Key>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{caller, same};

    #[test]
    fn a_request_has_one_caller_key_at_most_which_comes_first_and_no_key_twice() {
        assert!(Keys::parse(vec![caller(1), caller(2)]).is_err());
        assert!(Keys::parse(vec![same(1), caller(2)]).is_err());
        assert!(Keys::parse(vec![same(1), same(2), same(1)]).is_err());
        assert!(Keys::parse((0..5).map(same).collect()).is_err());
        assert!(Keys::parse(vec![caller(1), same(1)]).is_ok());
    }
}
