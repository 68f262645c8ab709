//! The key file: TOML, readable by its owner only, replaced as a whole.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use safeconduct_types::{Random, Secret, SecretText, Timestamp};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{KEY_LEN, Key, KeyringError};

/// Longer files are no key files.
const LONGEST_FILE: u64 = 256 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    purpose: String,
    id: String,
    #[serde(default)]
    primary: bool,
    /// Seconds of Unix time; so is the next one. Files from before these were kept have neither.
    #[serde(default)]
    staged: Option<i64>,
    #[serde(default)]
    replaced: Option<i64>,
    secret: SecretText,
}

/// The keys in a file.
pub(super) fn read(path: &Path) -> Result<Vec<Key>, KeyringError> {
    let text = text(path)?;
    // The parser's message could show a line, and the line a key: only the place is told.
    let document: Document = toml::from_str(&text).map_err(|error| {
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
        KeyringError::new(
            path,
            format!(
                "line {line}: not a key file; each [[key]] has purpose, id, primary and secret, and may have times"
            ),
        )
    })?;
    document.key.into_iter().enumerate().map(|(index, entry)| key(path, index + 1, &entry)).collect()
}

fn text(path: &Path) -> Result<Zeroizing<String>, KeyringError> {
    let failed = |error: std::io::Error| {
        let remedy =
            if error.kind() == std::io::ErrorKind::NotFound { "; `safeconduct keys init` makes it" } else { "" };
        KeyringError::new(path, format!("cannot be read: {}{remedy}", error.kind()))
    };
    let file = File::open(path).map_err(failed)?;
    // Asked of the opened file, so that nobody can exchange it in between.
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let message =
            format!("others than its owner may use this key file (mode {mode:04o}); run: chmod 600 {}", path.display());
        return Err(KeyringError::new(path, message));
    }
    if !metadata.is_file() || metadata.len() > LONGEST_FILE {
        return Err(KeyringError::new(path, "is not a key file"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LONGEST_FILE).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn key(path: &Path, number: usize, entry: &Entry) -> Result<Key, KeyringError> {
    let wrong = |message: &str| KeyringError::new(path, format!("[[key]] number {number}: {message}"));
    let secret = STANDARD
        .decode(entry.secret.expose())
        .ok()
        .filter(|bytes| bytes.len() == KEY_LEN)
        .ok_or_else(|| wrong("secret must be 32 bytes in base64"))?;
    Ok(Key {
        purpose: entry.purpose.parse().map_err(|message: String| wrong(&message))?,
        id: entry.id.parse().map_err(wrong)?,
        primary: entry.primary,
        staged: entry.staged.map(Timestamp::from_seconds),
        replaced: entry.replaced.map(Timestamp::from_seconds),
        secret: Secret::new(secret),
    })
}

fn render(keys: &[Key]) -> Zeroizing<String> {
    // Reserved at once: a string that grows leaves copies of the keys behind.
    let mut text = Zeroizing::new(String::with_capacity(512 + keys.len() * 256));
    text.push_str("# Keys of a Safeconduct service. Whoever has this file can read and forge what it protects.\n");
    text.push_str("# Written by `safeconduct keys`; back it up like a password, and never commit it.\n");
    for key in keys {
        let secret = Zeroizing::new(STANDARD.encode(key.secret.expose()));
        // Writing to a string cannot fail.
        let _ = write!(text, "\n[[key]]\npurpose = \"{}\"\nid = \"{}\"\n", key.purpose, key.id);
        let _ = writeln!(text, "primary = {}", key.primary);
        for (name, time) in [("staged", key.staged), ("replaced", key.replaced)] {
            if let Some(time) = time {
                let _ = writeln!(text, "{name} = {}", time.as_seconds());
            }
        }
        let _ = writeln!(text, "secret = \"{}\"", *secret);
    }
    text
}

/// Replaces the file (or makes it) in one step: a reader sees the old one or the new one, a crash leaves either.
pub(super) fn replace(path: &Path, keys: &[Key], random: &dyn Random) -> Result<(), KeyringError> {
    let failed = |error: std::io::Error| KeyringError::new(path, format!("cannot be written: {}", error.kind()));
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = directory.join(format!(".{name}.{}", hex::encode(random.bytes::<8>())));
    let written = write_draft(&draft, &render(keys)).and_then(|()| fs::rename(&draft, path));
    if let Err(error) = written {
        // Best effort: what matters is told below.
        let _ = fs::remove_file(&draft);
        return Err(failed(error));
    }
    // The rename itself is durable only once the directory is.
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

fn write_draft(draft: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
