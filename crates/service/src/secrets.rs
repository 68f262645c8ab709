//! The workspaces' secrets: files and environment variables, read when needed, never kept longer than they are true.
//!
//! A secret is named, never written into a definition. Its value is the file `<secrets_dir>/<workspace>/<name>`
//! (without one trailing line break), or the variable `SAFECONDUCT_SECRET_<WORKSPACE>_<NAME>` in capitals with `_`
//! for `-`. A name cannot leave its workspace's folder: it has no separators, and a link that leads out is refused.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use safeconduct_types::{Secret, WorkspaceId};

/// What the variables that hold secrets begin with.
pub const VARIABLE_PREFIX: &str = "SAFECONDUCT_SECRET_";

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
    known: Mutex<HashMap<PathBuf, Read>>,
}

#[derive(Debug)]
struct Read {
    changed: SystemTime,
    len: u64,
    secret: Secret,
}

impl Secrets {
    /// Secrets in `folder`, and those of the variables whose name begins with [`VARIABLE_PREFIX`].
    pub fn new(folder: PathBuf, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let variables = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .map(|(name, value)| (name, Secret::new(value.into_bytes())))
            .collect();
        Self { folder, variables, known: Mutex::default() }
    }

    /// The secret as it is now: a changed file counts from the next call on.
    pub fn get(&self, workspace: &WorkspaceId, name: &str) -> Result<Secret, SecretError> {
        if !is_name(name) {
            return Err(SecretError::Name);
        }
        let variable = format!("{VARIABLE_PREFIX}{}_{}", in_capitals(workspace.as_str()), in_capitals(name));
        let folder = self.folder.join(workspace.as_str());
        let file = folder.join(name);
        match fs::metadata(&file) {
            Ok(found) => self.read(&folder, file, &found),
            Err(_) => self.variables.get(&variable).cloned().ok_or_else(|| SecretError::Missing {
                workspace: workspace.clone(),
                name: name.to_owned(),
                file,
                variable,
            }),
        }
    }

    fn read(&self, folder: &Path, file: PathBuf, found: &fs::Metadata) -> Result<Secret, SecretError> {
        let changed = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = known.get(&file).filter(|one| one.changed == changed && one.len == found.len()) {
            return Ok(one.secret.clone());
        }
        let unusable = |problem| SecretError::Unusable { file: file.clone(), problem };
        // Kubernetes mounts secrets as links within the mount; what matters is where they end.
        let inside = match (fs::canonicalize(folder), fs::canonicalize(&file)) {
            (Ok(top), Ok(real)) => real.starts_with(top),
            _ => false,
        };
        if !inside {
            return Err(unusable("leads out of its workspace's folder; put the file itself there"));
        }
        if found.len() > LONGEST {
            return Err(unusable("is longer than 64 KiB; that is no secret"));
        }
        let mut bytes = fs::read(&file).map_err(|_| unusable("cannot be read; check its permissions"))?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            return Err(unusable("is empty"));
        }
        let secret = Secret::new(bytes);
        known.insert(file, Read { changed, len: found.len(), secret: secret.clone() });
        Ok(secret)
    }
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
    use super::*;

    fn workspace() -> WorkspaceId {
        "acme".parse().unwrap()
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("acme")).unwrap();
        folder
    }

    #[test]
    fn a_file_is_read_again_when_it_changes() {
        let folder = folder();
        let file = folder.path().join("acme/api-token");
        let secrets = Secrets::new(folder.path().to_owned(), []);
        fs::write(&file, "one\n").unwrap();
        assert_eq!(secrets.get(&workspace(), "api-token").unwrap().expose(), b"one");
        fs::write(&file, "second\r\n").unwrap();
        assert_eq!(secrets.get(&workspace(), "api-token").unwrap().expose(), b"second");
    }

    #[test]
    fn a_variable_of_the_workspace_serves_where_no_file_is() {
        let variables = [("SAFECONDUCT_SECRET_ACME_API_TOKEN".to_owned(), "three".to_owned())];
        let secrets = Secrets::new(folder().path().to_owned(), variables);
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
        let secrets = Secrets::new(folder.path().to_owned(), []);
        assert!(matches!(secrets.get(&workspace(), "link"), Err(SecretError::Unusable { .. })));
        for name in ["../outside", "", ".", "..", "a/b", "A", "a\0"] {
            assert_eq!(secrets.get(&workspace(), name).unwrap_err(), SecretError::Name, "{name}");
        }
    }
}
