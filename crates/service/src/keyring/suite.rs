//! The key files of the four services, kept consistent: a key that several share is the same in all of them.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use safeconduct_types::Random;

use super::{Key, KeyId, Keyring, KeyringError, Purpose};

/// Which service gets which keys.
const SERVICES: [(&str, &[Purpose]); 4] = [
    (
        "identity",
        &[
            Purpose::AssertionSigning,
            Purpose::ClaimSealing,
            Purpose::StoreHashing,
            Purpose::ContactHashing,
            Purpose::TraceHashing,
        ],
    ),
    ("otp", &[Purpose::ClaimSealing, Purpose::StoreHashing, Purpose::TraceHashing]),
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
}

fn path(directory: &Path, service: &str) -> PathBuf {
    directory.join(format!("{service}.keys"))
}

/// Makes the key files of all services. Refuses if one is already there: a new key in its place would make
/// everything unreadable that the old one sealed.
pub fn create_suite(directory: &Path, random: &dyn Random) -> Result<Vec<PathBuf>, KeyringError> {
    let files = SERVICES.map(|(service, _)| path(directory, service));
    if let Some(there) = files.iter().find(|file| file.exists()) {
        return Err(KeyringError::new(there, "is already there; `safeconduct keys rotate` replaces keys"));
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
        })
    });
    Ok(keys.collect())
}

/// Changes every file that has keys of this purpose: all changes are made before the first is written.
fn change(
    directory: &Path,
    purpose: Purpose,
    random: &dyn Random,
    mut edit: impl FnMut(&mut Keyring) -> Result<(), KeyringError>,
) -> Result<(), KeyringError> {
    let mut keyrings = load(directory)?;
    keyrings.retain(|keyring| keyring.all(purpose).next().is_some());
    if keyrings.is_empty() {
        return Err(KeyringError::new(directory, format!("no file here has a key for {purpose}")));
    }
    keyrings.iter_mut().try_for_each(&mut edit)?;
    keyrings.iter().try_for_each(|keyring| keyring.save(random))
}

/// Adds a new key to every file that has the purpose, not yet used to make anything. With several processes: stage,
/// restart all, promote, restart all. So that nobody meets a key that it doesn't have.
pub fn stage_suite(directory: &Path, purpose: Purpose, random: &dyn Random) -> Result<KeyId, KeyringError> {
    let key = Key::generate(purpose, false, random);
    change(directory, purpose, random, |keyring| keyring.insert(key.clone()))?;
    Ok(key.id)
}

/// Makes a staged key the primary one, in every file.
pub fn promote_suite(directory: &Path, purpose: Purpose, id: &KeyId, random: &dyn Random) -> Result<(), KeyringError> {
    change(directory, purpose, random, |keyring| keyring.promote(purpose, id))
}

/// Adds a new key and makes it the primary one in every file. For one process, or while all are stopped.
pub fn rotate_suite(directory: &Path, purpose: Purpose, random: &dyn Random) -> Result<KeyId, KeyringError> {
    let key = Key::generate(purpose, false, random);
    change(directory, purpose, random, |keyring| {
        keyring.insert(key.clone())?;
        keyring.promote(purpose, &key.id)
    })?;
    Ok(key.id)
}

/// Throws a key away in every file. What it sealed can never be opened again.
pub fn retire_suite(directory: &Path, purpose: Purpose, id: &KeyId, random: &dyn Random) -> Result<(), KeyringError> {
    change(directory, purpose, random, |keyring| keyring.retire(purpose, id))
}
