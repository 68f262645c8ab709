//! The workspaces' secrets: files and environment variables, kept as long as they are true: a change counts within
//! [`LOOK_EVERY`].
//!
//! A secret is named, never written into a definition. Its value is the file `<secrets_dir>/<workspace>/<name>`
//! (without one trailing line break), or the variable `SAFECONDUCT_SECRET_<WORKSPACE>_<NAME>` in capitals with `_`
//! for `-`. A name cannot leave its workspace's folder: it has no separators, and a link that leads out is refused.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use safeconduct_types::{Clock, Secret, WorkspaceId};

use crate::file_stamp::Stamp;

/// What the variables that hold secrets begin with.
pub const VARIABLE_PREFIX: &str = "SAFECONDUCT_SECRET_";

/// How long a secret serves before its file is looked at again.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The longest secret, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Why a secret is not to be had. Names the secret, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Neither a file nor a variable.
    #[error("secret `{name}` of workspace `{workspace}` is missing: write it to {file} or set {variable}", file = file.display())]
    Missing {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        name: String,
        /// Where the file would be.
        file: PathBuf,
        /// What the variable would be called.
        variable: String,
    },
    /// The file cannot serve.
    #[error("secret file {} {problem}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and what would be right.
        problem: &'static str,
    },
    /// A name that could lead out of the folder.
    #[error("a secret's name must be 1 to 63 of a-z, 0-9 and `-`, starting with a letter or digit")]
    Name,
}

/// Where secrets come from. Shared by whoever needs one.
#[derive(Debug)]
pub struct Secrets {
    folder: PathBuf,
    variables: HashMap<String, Secret>,
    /// By workspace and name. The definitions say which there are, no caller does.
    known: Mutex<HashMap<WorkspaceId, HashMap<String, Known>>>,
    clock: Arc<dyn Clock>,
}

/// What the last look found.
#[derive(Debug)]
struct Known {
    looked: Instant,
    /// None: the secret is that of a variable.
    stamp: Option<Stamp>,
    secret: Secret,
}

impl Secrets {
    /// Secrets in `folder`, and those of the variables whose name begins with [`VARIABLE_PREFIX`].
    pub fn new(folder: PathBuf, variables: impl IntoIterator<Item = (String, String)>, clock: Arc<dyn Clock>) -> Self {
        let variables = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .map(|(name, value)| (name, Secret::new(value.into_bytes())))
            .collect();
        Self { folder, variables, known: Mutex::default(), clock }
    }

    /// The secret as it is now, or was at most [`LOOK_EVERY`] ago. Looks at its file that often, and reads it only
    /// when it has changed: what is in between asks no file system.
    pub fn get(&self, workspace: &WorkspaceId, name: &str) -> Result<Secret, SecretError> {
        let now = self.clock.instant();
        if let Some(one) = self.locked().get_mut(workspace).and_then(|all| all.get_mut(name)) {
            if now.saturating_duration_since(one.looked) < LOOK_EVERY {
                return Ok(one.secret.clone());
            }
            // One looks, whoever else comes goes on with what there is.
            one.looked = now;
        }
        if !is_name(name) {
            return Err(SecretError::Name);
        }
        let looked = self.look(workspace, name);
        let mut known = self.locked();
        let all = known.entry(workspace.clone()).or_default();
        match looked {
            Ok(None) => all.get(name).map(|one| one.secret.clone()).ok_or_else(|| self.missing(workspace, name)),
            Ok(Some((stamp, secret))) => {
                all.insert(name.to_owned(), Known { looked: now, stamp, secret: secret.clone() });
                Ok(secret)
            }
            Err(error) => {
                all.remove(name);
                Err(error)
            }
        }
    }

    /// What there is now; `None` if that is what is known.
    fn look(&self, workspace: &WorkspaceId, name: &str) -> Result<Option<(Option<Stamp>, Secret)>, SecretError> {
        let folder = self.folder.join(workspace.as_str());
        let file = folder.join(name);
        let Ok(found) = fs::metadata(&file) else {
            let secret = self.variables.get(&variable(workspace, name));
            return secret.map(|secret| Some((None, secret.clone()))).ok_or_else(|| self.missing(workspace, name));
        };
        let stamp = Stamp::of(&found, self.clock.now());
        let known = self.locked().get(workspace).and_then(|all| all.get(name)).and_then(|one| one.stamp);
        if known.is_some_and(|known| known.holds(stamp)) {
            return Ok(None);
        }
        self.read(&folder, &file).map(|(stamp, secret)| Some((Some(stamp), secret)))
    }

    fn read(&self, folder: &Path, file: &Path) -> Result<(Stamp, Secret), SecretError> {
        let unusable = |problem| SecretError::Unusable { file: file.to_owned(), problem };
        // Kubernetes mounts secrets as links within the mount; what matters is where they end.
        let real = match (fs::canonicalize(folder), fs::canonicalize(file)) {
            (Ok(top), Ok(real)) if real.starts_with(&top) => real,
            _ => return Err(unusable("leads out of its workspace's folder; put the file itself there")),
        };
        let unreadable = || unusable("cannot be read; check its permissions");
        // Asked before it is opened: opening a pipe waits for somebody who writes.
        if !fs::metadata(&real).is_ok_and(|found| found.is_file()) {
            return Err(unusable("is no file"));
        }
        let opened = File::open(&real).map_err(|_| unreadable())?;
        // Before it is read: what changes afterwards looks different at the next look.
        let stamp = Stamp::of(&opened.metadata().map_err(|_| unreadable())?, self.clock.now());
        if stamp.len() > LONGEST {
            return Err(unusable("is longer than 64 KiB; that is no secret"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(stamp.len()).unwrap_or_default());
        opened.take(LONGEST).read_to_end(&mut bytes).map_err(|_| unreadable())?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            return Err(unusable("is empty"));
        }
        Ok((stamp, Secret::new(bytes)))
    }

    fn missing(&self, workspace: &WorkspaceId, name: &str) -> SecretError {
        SecretError::Missing {
            workspace: workspace.clone(),
            name: name.to_owned(),
            file: self.folder.join(workspace.as_str()).join(name),
            variable: variable(workspace, name),
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<WorkspaceId, HashMap<String, Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn variable(workspace: &WorkspaceId, name: &str) -> String {
    format!("{VARIABLE_PREFIX}{}_{}", in_capitals(workspace.as_str()), in_capitals(name))
}

fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

fn in_capitals(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use safeconduct_types::{ManualClock, SystemClock};

    use super::*;

    fn workspace() -> WorkspaceId {
        "acme".parse().unwrap()
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("acme")).unwrap();
        folder
    }

    /// A clock that the files of a test lie well behind.
    fn later() -> Arc<ManualClock> {
        Arc::new(ManualClock::at(SystemClock.now().after(Duration::from_hours(1))))
    }

    fn secrets(folder: &tempfile::TempDir, clock: &Arc<ManualClock>) -> Secrets {
        Secrets::new(folder.path().to_owned(), [], Arc::<ManualClock>::clone(clock))
    }

    fn token(secrets: &Secrets) -> Option<String> {
        let secret = secrets.get(&workspace(), "api-token").ok()?;
        Some(String::from_utf8(secret.expose().to_vec()).unwrap())
    }

    #[test]
    fn a_file_is_read_again_when_it_changes() {
        let (folder, clock) = (folder(), later());
        let file = folder.path().join("acme/api-token");
        let secrets = secrets(&folder, &clock);
        fs::write(&file, "one\n").unwrap();
        assert_eq!(token(&secrets).as_deref(), Some("one"));
        fs::write(&file, "second\r\n").unwrap();
        clock.advance(LOOK_EVERY);
        assert_eq!(token(&secrets).as_deref(), Some("second"));
    }

    #[test]
    fn a_file_is_looked_at_no_more_often_than_said() {
        let (folder, clock) = (folder(), later());
        let file = folder.path().join("acme/api-token");
        let secrets = secrets(&folder, &clock);
        fs::write(&file, "one").unwrap();
        assert_eq!(token(&secrets).as_deref(), Some("one"));
        fs::remove_file(&file).unwrap();
        clock.advance(LOOK_EVERY.saturating_sub(Duration::from_millis(1)));
        assert_eq!(token(&secrets).as_deref(), Some("one"), "no file system was asked");
        clock.advance(Duration::from_millis(1));
        assert_eq!(token(&secrets), None, "a removed file stops counting");
        fs::write(&file, "two").unwrap();
        assert_eq!(token(&secrets).as_deref(), Some("two"), "what is missing is asked for each time");
    }

    #[test]
    fn another_secret_of_the_same_length_and_time_is_another() {
        let (folder, clock) = (folder(), later());
        let file = folder.path().join("acme/api-token");
        let secrets = secrets(&folder, &clock);
        fs::write(&file, "one").unwrap();
        let before = fs::metadata(&file).unwrap();
        assert_eq!(token(&secrets).as_deref(), Some("one"));
        let next = folder.path().join("acme/next");
        fs::write(&next, "two").unwrap();
        File::options().write(true).open(&next).unwrap().set_modified(before.modified().unwrap()).unwrap();
        fs::rename(&next, &file).unwrap();
        clock.advance(LOOK_EVERY);
        assert_eq!(token(&secrets).as_deref(), Some("two"), "put in its place");

        let before = fs::metadata(&file).unwrap();
        // Until the file system's clock has moved on.
        while fs::metadata(&file).unwrap().ctime_nsec() == before.ctime_nsec() {
            fs::write(&file, "six").unwrap();
            File::options().write(true).open(&file).unwrap().set_modified(before.modified().unwrap()).unwrap();
        }
        clock.advance(LOOK_EVERY);
        assert_eq!(token(&secrets).as_deref(), Some("six"), "written over it");
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let (folder, clock) = (folder(), later());
        let pipe = folder.path().join("acme/api-token");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let refused = secrets(&folder, &clock).get(&workspace(), "api-token").unwrap_err();
        assert_eq!(refused, SecretError::Unusable { file: pipe, problem: "is no file" });
    }

    #[test]
    fn a_variable_of_the_workspace_serves_where_no_file_is() {
        let variables = [("SAFECONDUCT_SECRET_ACME_API_TOKEN".to_owned(), "three".to_owned())];
        let secrets = Secrets::new(folder().path().to_owned(), variables, later());
        assert_eq!(secrets.get(&workspace(), "api-token").unwrap().expose(), b"three");
        let other: WorkspaceId = "other".parse().unwrap();
        let missing = secrets.get(&other, "api-token").unwrap_err().to_string();
        assert!(missing.contains("SAFECONDUCT_SECRET_OTHER_API_TOKEN"), "{missing}");
    }

    #[test]
    fn no_name_and_no_link_leads_out_of_the_folder() {
        let folder = folder();
        fs::write(folder.path().join("outside"), "x").unwrap();
        std::os::unix::fs::symlink(folder.path().join("outside"), folder.path().join("acme/link")).unwrap();
        let secrets = secrets(&folder, &later());
        assert!(matches!(secrets.get(&workspace(), "link"), Err(SecretError::Unusable { .. })));
        for name in ["../outside", "", ".", "..", "a/b", "A", "a\0"] {
            assert_eq!(secrets.get(&workspace(), name).unwrap_err(), SecretError::Name, "{name}");
        }
    }
}
