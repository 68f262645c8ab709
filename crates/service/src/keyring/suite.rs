//! The key files of the four services, kept consistent: a key that several share is the same in all of them.

use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use safeconduct_types::{Random, Timestamp};

use super::{Key, KeyId, Keyring, KeyringError, Purpose};

/// Which service gets which keys.
const SERVICES: [(&str, &[Purpose]); 4] = [
    (
        "identity",
        &[
            Purpose::AssertionSigning,
            Purpose::ClaimSealing,
            Purpose::RecordSealing,
            Purpose::StoreHashing,
            Purpose::ContactHashing,
            Purpose::TraceHashing,
        ],
    ),
    (
        "otp",
        &[
            Purpose::ClaimSealing,
            Purpose::RecordSealing,
            Purpose::CodeDerivation,
            Purpose::StoreHashing,
            Purpose::TraceHashing,
        ],
    ),
    ("connector", &[Purpose::ClaimSealing, Purpose::RecordSealing, Purpose::StoreHashing, Purpose::TraceHashing]),
    ("admission", &[Purpose::StoreHashing, Purpose::TraceHashing]),
];

/// Purposes whose key is the same in every file that has it.
const SHARED: [Purpose; 2] = [Purpose::ClaimSealing, Purpose::TraceHashing];

/// A key as a person may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuiteKey {
    /// The file that has it.
    pub file: PathBuf,
    /// What it is for.
    pub purpose: Purpose,
    /// Its name.
    pub id: KeyId,
    /// Whether new things are made with it.
    pub primary: bool,
    /// When it was added beside another one; not known for the first.
    pub staged: Option<Timestamp>,
    /// When another one took its place.
    pub replaced: Option<Timestamp>,
}

/// A key that a file was missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The file that has it now.
    pub file: PathBuf,
    /// What it is for.
    pub purpose: Purpose,
}

/// What [`complete_suite`] does about a missing key that names what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanting {
    /// Makes one: somebody has said that nothing is stored under a lost one.
    Made,
    /// Refuses: it may be lost.
    Refused,
}

fn path(directory: &Path, service: &str) -> PathBuf {
    directory.join(format!("{service}.keys"))
}

/// Makes the key files of all services. Refuses if one is already there: a new key in its place would make
/// everything unreadable that the old one sealed.
pub fn create_suite(directory: &Path, random: &dyn Random) -> Result<Vec<PathBuf>, KeyringError> {
    let files = SERVICES.map(|(service, _)| path(directory, service));
    if let Some(there) = files.iter().find(|file| file.exists()) {
        return Err(KeyringError::new(
            there,
            "is already there; `safeconduct keys rotate` replaces keys, `safeconduct keys init --missing` adds those of newer versions",
        ));
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(directory)
        .map_err(|error| KeyringError::new(directory, format!("the directory cannot be made: {}", error.kind())))?;
    let shared = SHARED.map(|purpose| Key::generate(purpose, true, random));
    for ((_, purposes), file) in SERVICES.iter().zip(&files) {
        let key = |purpose: &Purpose| {
            let same = shared.iter().find(|key| key.purpose == *purpose).cloned();
            same.unwrap_or_else(|| Key::generate(*purpose, true, random))
        };
        Keyring { path: file.clone(), keys: purposes.iter().map(key).collect() }.save(random)?;
    }
    Ok(files.to_vec())
}

/// Adds to the key files that are there what they have no key for: files of an earlier version lack those of later
/// purposes. A purpose that several files share gets the keys that another file has.
pub fn complete_suite(directory: &Path, wanting: Wanting, random: &dyn Random) -> Result<Vec<Added>, KeyringError> {
    let before = load(directory)?;
    let mut shared: Vec<Key> = Vec::new();
    for purpose in SHARED {
        let known = before.iter().find(|keyring| keyring.all(purpose).next().is_some());
        match known {
            Some(keyring) => shared.extend(keyring.all(purpose).cloned()),
            None => shared.push(Key::generate(purpose, true, random)),
        }
    }
    let mut added = Vec::new();
    let mut changed = Vec::new();
    for (service, purposes) in SERVICES {
        let file = path(directory, service);
        let Some(mut keyring) = before.iter().find(|keyring| keyring.path() == file).cloned() else { continue };
        let missing: Vec<_> =
            purposes.iter().copied().filter(|purpose| keyring.all(*purpose).next().is_none()).collect();
        for purpose in missing {
            if wanting == Wanting::Refused && !purpose.rotates() && !SHARED.contains(&purpose) {
                let message = format!(
                    "has no key for {purpose}, which names what is stored; restore it, or, if nothing is stored yet, \
                     add one with `safeconduct keys init --missing --dir {}`",
                    directory.display()
                );
                return Err(KeyringError::new(&file, message));
            }
            let keys: Vec<_> = shared.iter().filter(|key| key.purpose == purpose).cloned().collect();
            if keys.is_empty() {
                keyring.keys.push(Key::generate(purpose, true, random));
            } else {
                keyring.keys.extend(keys);
            }
            added.push(Added { file: file.clone(), purpose });
        }
        keyring.check()?;
        changed.push(keyring);
    }
    let touched = |keyring: &&Keyring| added.iter().any(|one| one.file == keyring.path());
    changed.iter().filter(touched).try_for_each(|keyring| keyring.save(random))?;
    Ok(added)
}

/// The key files in a directory. Separate machines have only their own service's: those that are there.
fn load(directory: &Path) -> Result<Vec<Keyring>, KeyringError> {
    let files = SERVICES.map(|(service, _)| path(directory, service));
    let keyrings: Vec<_> =
        files.iter().filter(|file| file.exists()).map(|file| Keyring::load(file)).collect::<Result<_, _>>()?;
    if keyrings.is_empty() {
        return Err(KeyringError::new(directory, "has no key files; `safeconduct keys init` makes them"));
    }
    Ok(keyrings)
}

/// All keys of all files, without the keys themselves.
pub fn list_suite(directory: &Path) -> Result<Vec<SuiteKey>, KeyringError> {
    let keyrings = load(directory)?;
    let keys = keyrings.iter().flat_map(|keyring| {
        keyring.list().iter().map(|key| SuiteKey {
            file: keyring.path().to_owned(),
            purpose: key.purpose,
            id: key.id.clone(),
            primary: key.primary,
            staged: key.staged,
            replaced: key.replaced,
        })
    });
    Ok(keys.collect())
}

/// Changes these files: all changes are made before the first is written.
fn change(
    mut keyrings: Vec<Keyring>,
    random: &dyn Random,
    mut edit: impl FnMut(&mut Keyring) -> Result<(), KeyringError>,
) -> Result<(), KeyringError> {
    keyrings.iter_mut().try_for_each(&mut edit)?;
    keyrings.iter().try_for_each(|keyring| keyring.save(random))
}

/// Adds a new key to every file that has the purpose, not yet used to make anything. What several files share is one
/// key; of the others each file gets its own, by the same name. Once every process has taken it,
/// [`promote_suite`] follows, so that nobody meets a key that they lack.
pub fn stage_suite(
    directory: &Path,
    purpose: Purpose,
    now: Timestamp,
    random: &dyn Random,
) -> Result<KeyId, KeyringError> {
    let mut keyrings = load(directory)?;
    keyrings.retain(|keyring| keyring.all(purpose).next().is_some());
    if keyrings.is_empty() {
        return Err(KeyringError::new(directory, format!("no file here has a key for {purpose}")));
    }
    let key = Key::staged_at(purpose, now, random);
    change(keyrings, random, |keyring| {
        let secret =
            if SHARED.contains(&purpose) { key.secret.clone() } else { Key::generate(purpose, false, random).secret };
        keyring.insert(Key { secret, ..key.clone() })
    })?;
    Ok(key.id)
}

/// The files that have this key.
fn having(directory: &Path, purpose: Purpose, id: &KeyId) -> Result<Vec<Keyring>, KeyringError> {
    let all = load(directory)?;
    let ids: BTreeSet<_> = all.iter().flat_map(|keyring| keyring.all(purpose)).map(|key| key.id.to_string()).collect();
    let found: Vec<_> = all.into_iter().filter(|keyring| keyring.get(purpose, id.as_str()).is_some()).collect();
    if found.is_empty() {
        let known = if ids.is_empty() { "none".to_owned() } else { ids.into_iter().collect::<Vec<_>>().join(", ") };
        let message = format!("no file here has a key {id} for {purpose}; there is: {known}");
        return Err(KeyringError::new(directory, message));
    }
    Ok(found)
}

/// Makes a staged key the primary one, in every file that has it. As [`Keyring::promote`] otherwise.
pub fn promote_suite(
    directory: &Path,
    purpose: Purpose,
    id: &KeyId,
    (now, forced): (Timestamp, bool),
    random: &dyn Random,
) -> Result<(), KeyringError> {
    change(having(directory, purpose, id)?, random, |keyring| keyring.promote(purpose, id, now, forced))
}

/// Throws a key away in every file that has it. As [`Keyring::retire`] otherwise.
pub fn retire_suite(
    directory: &Path,
    purpose: Purpose,
    id: &KeyId,
    (now, forced): (Timestamp, bool),
    random: &dyn Random,
) -> Result<(), KeyringError> {
    change(having(directory, purpose, id)?, random, |keyring| keyring.retire(purpose, id, now, forced))
}
