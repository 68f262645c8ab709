//! The keys of a service: a file that only its owner can read, with the purpose of every key.
//!
//! Threat model: whoever reads the store, a backup or a log must learn nothing without these files, and whoever
//! changes the store must be noticed. So a key has one purpose, a file that others can read is refused, and what
//! can't be opened (changed, foreign context, retired key) fails closed. Keys never leave this module as text, except
//! into their file.

mod file;
mod live;
mod purpose;
mod sealer;
mod suite;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use safeconduct_types::{Random, Secret, Timestamp};
use subtle::ConstantTimeEq as _;

pub use live::{LOOK_EVERY, Live, LiveKeyring, Look};
pub use purpose::{ASSERTIONS_LIVE, JWKS_MAX_AGE, Purpose, TAKEN_WITHIN};
pub use sealer::{NotOpened, NotSealed, Sealer};
pub use suite::{
    Added, SuiteKey, Wanting, complete_suite, create_suite, list_suite, promote_suite, retire_suite, stage_suite,
};

/// The most keys of one purpose in a file: the one in use, those before it, the next one.
const MAX_KEYS: usize = 16;

/// Bytes of every key.
pub const KEY_LEN: usize = 32;

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
    pub(super) staged: Option<Timestamp>,
    pub(super) replaced: Option<Timestamp>,
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

    /// When it was added beside another one, in whole seconds; not known for the first key of a file.
    pub fn staged(&self) -> Option<Timestamp> {
        self.staged
    }

    /// When another one took its place, in whole seconds.
    pub fn replaced(&self) -> Option<Timestamp> {
        self.replaced
    }

    /// The key itself, [`KEY_LEN`] bytes.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    fn generate(purpose: Purpose, primary: bool, random: &dyn Random) -> Self {
        let secret = Secret::new(random.bytes::<KEY_LEN>().to_vec());
        Self { purpose, id: KeyId::generate(random), primary, staged: None, replaced: None, secret }
    }

    fn staged_at(purpose: Purpose, now: Timestamp, random: &dyn Random) -> Self {
        Self { staged: Some(now), ..Self::generate(purpose, false, random) }
    }

    fn same_as(&self, other: &Self) -> bool {
        (self.purpose, &self.id, self.primary) == (other.purpose, &other.id, other.primary)
            && bool::from(self.secret.expose().ct_eq(other.secret.expose()))
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
    pub fn stage(&mut self, purpose: Purpose, now: Timestamp, random: &dyn Random) -> Result<KeyId, KeyringError> {
        let key = Key::staged_at(purpose, now, random);
        let id = key.id.clone();
        self.insert(key)?;
        Ok(id)
    }

    /// Makes this key the primary one of its purpose. The former one still opens. Refused, unless `forced`, before the
    /// key has been staged for [`Purpose::known_before`]: somebody might meet it who does not have it.
    pub fn promote(&mut self, purpose: Purpose, id: &KeyId, now: Timestamp, forced: bool) -> Result<(), KeyringError> {
        let key = self.get(purpose, id.as_str()).ok_or_else(|| self.unknown(purpose, id))?;
        if key.primary {
            return Ok(());
        }
        let ready = key.staged.map(|staged| staged.after(purpose.known_before()));
        if let Some(ready) = ready.filter(|ready| now < *ready && !forced) {
            return Err(self.not_yet(format!(
                "key {id} for {purpose} was staged less than {} ago, and caches may lack it; promote it in {}",
                spoken(purpose.known_before()),
                spoken(ready.since(now))
            )));
        }
        for key in self.keys.iter_mut().filter(|key| key.purpose == purpose) {
            if key.primary {
                key.replaced = Some(now);
            }
            key.primary = key.id == *id;
            if key.primary {
                key.replaced = None;
            }
        }
        Ok(())
    }

    /// Adds a new key and makes it the primary one, whoever may not have it yet.
    pub fn rotate(&mut self, purpose: Purpose, now: Timestamp, random: &dyn Random) -> Result<KeyId, KeyringError> {
        let id = self.stage(purpose, now, random)?;
        self.promote(purpose, &id, now, true)?;
        Ok(id)
    }

    /// Throws a key away: what it sealed can never be opened again, what it signed verifies no more. The primary one
    /// can't be retired. Refused, unless `forced`, while something that it made can still count.
    pub fn retire(&mut self, purpose: Purpose, id: &KeyId, now: Timestamp, forced: bool) -> Result<(), KeyringError> {
        let key = self.get(purpose, id.as_str()).ok_or_else(|| self.unknown(purpose, id))?;
        if key.primary {
            let message = format!("key {id} is the primary one for {purpose}; stage and promote another one first");
            return Err(KeyringError::new(&self.path, message));
        }
        // A key that was only ever staged has made nothing.
        let was_used = key.replaced.is_some() || key.staged.is_none();
        if was_used && !forced {
            let over = key.replaced.zip(purpose.needed_after()).map(|(replaced, needed)| replaced.after(needed));
            match over {
                Some(over) if now >= over => {}
                Some(over) => {
                    return Err(self.not_yet(format!(
                        "what key {id} for {purpose} made can still count; retire it in {}",
                        spoken(over.since(now))
                    )));
                }
                None => {
                    return Err(self.not_yet(format!(
                        "it is not known whether anything that key {id} for {purpose} made is still needed"
                    )));
                }
            }
        }
        self.keys.retain(|key| key.purpose != purpose || key.id != *id);
        Ok(())
    }

    /// Whether both hold the same keys for the same ends.
    fn same_as(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len() && self.keys.iter().zip(&other.keys).all(|(one, other)| one.same_as(other))
    }

    /// Whether a process that runs on `before` may go on with this: keys that name things must be what they were.
    fn may_follow(&self, before: &Self) -> Result<(), KeyringError> {
        for purpose in Purpose::ALL.into_iter().filter(|purpose| !purpose.rotates()) {
            let was: Vec<_> = before.all(purpose).collect();
            let is: Vec<_> = self.all(purpose).collect();
            let same = was.len() == is.len() && was.iter().zip(&is).all(|(was, is)| was.same_as(is));
            // A purpose that had no key was not in use.
            if !was.is_empty() && !same {
                let message = format!(
                    "the key for {purpose} is another one, and what is stored would not be found with it; restore it"
                );
                return Err(KeyringError::new(&self.path, message));
            }
        }
        Ok(())
    }

    fn not_yet(&self, why: String) -> KeyringError {
        KeyringError::new(&self.path, why + ", or do it all the same with --force")
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
            if self.all(purpose).count() > MAX_KEYS {
                let message = format!("more than {MAX_KEYS} keys for {purpose}; retire those that are not needed");
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

/// A length for people: in minutes from two of them on.
fn spoken(length: Duration) -> String {
    match length.as_secs() {
        seconds if seconds >= 120 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} s", length.as_millis().div_ceil(1000)),
    }
}

#[cfg(test)]
mod tests;
