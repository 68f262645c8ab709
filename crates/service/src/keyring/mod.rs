//! The keys of a service: a file that only its owner can read, with the purpose of every key.
//!
//! Threat model: whoever reads the store, a backup or a log must learn nothing without these files, and whoever
//! changes the store must be noticed. So a key has one purpose, a file that others can read is refused, and what
//! can't be opened (changed, foreign context, retired key) fails closed. Keys never leave this module as text, except
//! into their file.

mod file;
mod sealer;
mod suite;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use safeconduct_types::{Random, Secret};

pub use sealer::{NotOpened, NotSealed, Sealer};
pub use suite::{SuiteKey, create_suite, list_suite, promote_suite, retire_suite, rotate_suite, stage_suite};

/// Bytes of every key.
pub const KEY_LEN: usize = 32;

/// What a key is for; nothing else uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Signs assertions (an Ed25519 seed). Identity only.
    AssertionSigning,
    /// Seals the attributes inside assertions (AES-256-GCM). Shared by identity, otp and connector.
    ClaimSealing,
    /// Seals what the connector keeps in records (AES-256-GCM).
    RecordSealing,
    /// Hashes the store's keys (HMAC-SHA256), one key a service.
    StoreHashing,
    /// Makes contact ids (HMAC-SHA256). Identity only.
    ContactHashing,
    /// Hashes contacts in traces and logs (HMAC-SHA256). Shared by all, so that a contact looks the same everywhere.
    TraceHashing,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 6] = [
        Self::AssertionSigning,
        Self::ClaimSealing,
        Self::RecordSealing,
        Self::StoreHashing,
        Self::ContactHashing,
        Self::TraceHashing,
    ];

    /// Its name in a key file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AssertionSigning => "assertion-signing",
            Self::ClaimSealing => "claim-sealing",
            Self::RecordSealing => "record-sealing",
            Self::StoreHashing => "store-hashing",
            Self::ContactHashing => "contact-hashing",
            Self::TraceHashing => "trace-hashing",
        }
    }

    /// Whether older keys still open or verify after a rotation. Others name things: with a new key the old
    /// names are not found again.
    pub const fn rotates(self) -> bool {
        match self {
            Self::AssertionSigning | Self::ClaimSealing | Self::RecordSealing => true,
            Self::StoreHashing | Self::ContactHashing | Self::TraceHashing => false,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Purpose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|purpose| purpose.as_str()).collect();
            format!("purpose must be one of {}", names.join(", "))
        })
    }
}

/// The name of a key: 1 to 32 of a-z, 0-9 and `-`. Not secret; it travels with what the key made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn generate(random: &dyn Random) -> Self {
        Self(format!("k{}", hex::encode(random.bytes::<6>())))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err("id must be 1 to 32 of a-z, 0-9 and `-`")
        }
    }
}

/// One key.
#[derive(Clone, Debug)]
pub struct Key {
    pub(super) purpose: Purpose,
    pub(super) id: KeyId,
    pub(super) primary: bool,
    pub(super) secret: Secret,
}

impl Key {
    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Whether new things are made with it.
    pub fn is_primary(&self) -> bool {
        self.primary
    }

    /// The key itself, [`KEY_LEN`] bytes.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    fn generate(purpose: Purpose, primary: bool, random: &dyn Random) -> Self {
        let secret = Secret::new(random.bytes::<KEY_LEN>().to_vec());
        Self { purpose, id: KeyId::generate(random), primary, secret }
    }
}

/// Why a key file or a key can't be used. Names the file and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct KeyringError {
    path: PathBuf,
    message: String,
}

impl KeyringError {
    fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into() }
    }
}

/// The keys of one service.
#[derive(Clone, Debug)]
pub struct Keyring {
    path: PathBuf,
    keys: Vec<Key>,
}

impl Keyring {
    /// Reads a key file. Refuses one that others than its owner can read.
    pub fn load(path: &Path) -> Result<Self, KeyringError> {
        let keyring = Self { path: path.to_owned(), keys: file::read(path)? };
        keyring.check()?;
        Ok(keyring)
    }

    /// A keyring that was never in a file: one new key for each purpose. For `demo` and tests.
    pub fn generate(path: &Path, purposes: &[Purpose], random: &dyn Random) -> Self {
        let keys = purposes.iter().map(|purpose| Key::generate(*purpose, true, random)).collect();
        Self { path: path.to_owned(), keys }
    }

    /// Writes the file anew, readable by its owner only: afterwards it holds all of this or all that it held before.
    pub fn save(&self, random: &dyn Random) -> Result<(), KeyringError> {
        file::replace(&self.path, &self.keys, random)
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All keys, in the file's order.
    pub fn list(&self) -> &[Key] {
        &self.keys
    }

    /// The key that makes new things.
    pub fn primary(&self, purpose: Purpose) -> Result<&Key, KeyringError> {
        self.all(purpose).find(|key| key.primary).ok_or_else(|| {
            let message = format!("has no key for {purpose}; `safeconduct keys init` makes key files, once");
            KeyringError::new(&self.path, message)
        })
    }

    /// The key of this purpose and name.
    pub fn get(&self, purpose: Purpose, id: &str) -> Option<&Key> {
        self.all(purpose).find(|key| key.id.as_str() == id)
    }

    /// All keys of this purpose.
    pub fn all(&self, purpose: Purpose) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.purpose == purpose)
    }

    /// Adds a new key that is not yet used to make anything; [`Self::promote`] follows once every process has it.
    pub fn stage(&mut self, purpose: Purpose, random: &dyn Random) -> Result<KeyId, KeyringError> {
        let key = Key::generate(purpose, false, random);
        let id = key.id.clone();
        self.insert(key)?;
        Ok(id)
    }

    /// Makes this key the primary one of its purpose. The former one still opens.
    pub fn promote(&mut self, purpose: Purpose, id: &KeyId) -> Result<(), KeyringError> {
        if self.get(purpose, id.as_str()).is_none() {
            return Err(self.unknown(purpose, id));
        }
        for key in self.keys.iter_mut().filter(|key| key.purpose == purpose) {
            key.primary = key.id == *id;
        }
        Ok(())
    }

    /// Adds a new key and makes it the primary one.
    pub fn rotate(&mut self, purpose: Purpose, random: &dyn Random) -> Result<KeyId, KeyringError> {
        let id = self.stage(purpose, random)?;
        self.promote(purpose, &id)?;
        Ok(id)
    }

    /// Throws a key away: what it sealed can never be opened again. The primary one can't be retired.
    pub fn retire(&mut self, purpose: Purpose, id: &KeyId) -> Result<(), KeyringError> {
        match self.get(purpose, id.as_str()) {
            None => Err(self.unknown(purpose, id)),
            Some(key) if key.primary => {
                let message = format!("key {id} is the primary one for {purpose}; rotate first");
                Err(KeyringError::new(&self.path, message))
            }
            Some(_) => {
                self.keys.retain(|key| key.purpose != purpose || key.id != *id);
                Ok(())
            }
        }
    }

    fn insert(&mut self, key: Key) -> Result<(), KeyringError> {
        let purpose = key.purpose;
        if !purpose.rotates() {
            let message = format!(
                "the key for {purpose} names what is stored and cannot be replaced: \
                                   with another one nothing is found again"
            );
            return Err(KeyringError::new(&self.path, message));
        }
        self.primary(purpose)?;
        self.keys.push(key);
        self.check()
    }

    fn unknown(&self, purpose: Purpose, id: &KeyId) -> KeyringError {
        let ids: Vec<_> = self.all(purpose).map(|key| key.id.as_str()).collect();
        KeyringError::new(&self.path, format!("has no key {id} for {purpose}; it has: {}", ids.join(", ")))
    }

    /// One primary key a purpose, and no name twice.
    fn check(&self) -> Result<(), KeyringError> {
        for purpose in Purpose::ALL {
            let primaries = self.all(purpose).filter(|key| key.primary).count();
            if primaries != 1 && self.all(purpose).next().is_some() {
                let message =
                    format!("{primaries} keys for {purpose} are primary; set `primary = true` on exactly one");
                return Err(KeyringError::new(&self.path, message));
            }
            let mut ids: Vec<_> = self.all(purpose).map(Key::id).collect();
            ids.sort_unstable();
            if let Some(twice) = ids.windows(2).find_map(|pair| pair.first().filter(|id| pair.last() == Some(id))) {
                return Err(KeyringError::new(&self.path, format!("key {twice} for {purpose} is there twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
