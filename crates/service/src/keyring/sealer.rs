//! Sealing: AES-256-GCM with a random nonce, bound to a context.
//!
//! Sealed bytes: version (1) | length of the key id (1) | key id | nonce (12) | ciphertext and tag (16). All before
//! the ciphertext is authenticated together with the context, so that nothing can be moved elsewhere. Random nonces
//! hold for 2^32 seals with one key; rotate before that.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use safeconduct_types::Random;
use zeroize::Zeroizing;

use super::{Keyring, KeyringError, Live, Purpose};

const VERSION: u8 = 1;

/// What was given was not sealed here for this context, was changed, or its key is retired. There is no telling
/// which: the difference would help whoever tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed data could not be opened")]
pub struct NotOpened;

/// Seals with the primary key of a purpose, opens with any of its keys. Clones share the keys.
#[derive(Clone)]
pub struct Sealer {
    keys: Live<Keys>,
    random: Arc<dyn Random>,
}

/// The keys of one sealing purpose.
pub(super) struct Keys {
    primary: String,
    all: BTreeMap<String, LessSafeKey>,
}

impl Keys {
    pub(super) fn of(keyring: &Keyring, purpose: Purpose) -> Result<Self, KeyringError> {
        let unusable = |what: &str| KeyringError::new(keyring.path(), format!("{purpose}: {what}"));
        if !matches!(purpose, Purpose::ClaimSealing | Purpose::RecordSealing) {
            return Err(unusable("is not a purpose that seals"));
        }
        let primary = keyring.primary(purpose)?.id().as_str().to_owned();
        let all = keyring
            .all(purpose)
            .map(|key| {
                let unbound = UnboundKey::new(&AES_256_GCM, key.secret().expose()).map_err(|_| unusable("bad key"))?;
                Ok((key.id().as_str().to_owned(), LessSafeKey::new(unbound)))
            })
            .collect::<Result<_, KeyringError>>()?;
        Ok(Self { primary, all })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("primary", &self.keys.get().primary).finish_non_exhaustive()
    }
}

impl Sealer {
    /// Seals with what this keyring has for the purpose, and goes on so. A process that serves follows its file:
    /// [`super::LiveKeyring::sealer`].
    pub fn new(keyring: &Keyring, purpose: Purpose, random: Arc<dyn Random>) -> Result<Self, KeyringError> {
        Ok(Self::following(Live::fixed(Keys::of(keyring, purpose)?), random))
    }

    pub(super) const fn following(keys: Live<Keys>, random: Arc<dyn Random>) -> Self {
        Self { keys, random }
    }

    /// Whether it was sealed with the key that is primary now: what is not should be sealed again before that key goes.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        parts(sealed).is_some_and(|(id, _, _)| id == self.keys.get().primary)
    }

    /// Seals `plain` for `context`: only who names the same context opens it.
    pub fn seal(&self, plain: &[u8], context: &[u8]) -> Result<Vec<u8>, NotSealed> {
        let keys = self.keys.get();
        let primary = keys.primary.as_str();
        let key = keys.all.get(primary).ok_or(NotSealed)?;
        let nonce: [u8; NONCE_LEN] = self.random.bytes();
        let mut sealed = Vec::with_capacity(2 + primary.len() + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.push(u8::try_from(primary.len()).map_err(|_| NotSealed)?);
        sealed.extend_from_slice(primary.as_bytes());
        let aad = aad(&sealed, context);
        sealed.extend_from_slice(&nonce);
        let start = sealed.len();
        sealed.extend_from_slice(plain);
        let body = sealed.get_mut(start..).ok_or(NotSealed)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        // Encrypted in place: no plain copy stays behind.
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), body).map_err(|_| NotSealed)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed for `context` with a key that is not retired.
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        let (id, nonce, body) = parts(sealed).ok_or(NotOpened)?;
        let keys = self.keys.get();
        let key = keys.all.get(id).ok_or(NotOpened)?;
        let header = sealed.get(..2 + id.len()).ok_or(NotOpened)?;
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.open_in_place(nonce, Aad::from(aad(header, context)), &mut body).map_err(|_| NotOpened)?;
        let length = opened.len();
        body.truncate(length);
        Ok(body)
    }
}

/// The data could not be sealed: the key or the length is unusable. Never sent on unsealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("data could not be sealed")]
pub struct NotSealed;

/// The key's name, the nonce, and what is encrypted.
fn parts(sealed: &[u8]) -> Option<(&str, &[u8; NONCE_LEN], &[u8])> {
    let (&[version, id_len], rest) = sealed.split_first_chunk::<2>()?;
    if version != VERSION {
        return None;
    }
    let (id, rest) = rest.split_at_checked(usize::from(id_len))?;
    let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
    Some((std::str::from_utf8(id).ok()?, nonce, body))
}

/// The header says its own length, so that header and context can't be divided otherwise.
fn aad(header: &[u8], context: &[u8]) -> Vec<u8> {
    [header, context].concat()
}
