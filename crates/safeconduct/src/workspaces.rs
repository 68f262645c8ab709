//! The workspaces' files, from disk to what the services take.

mod otp;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safeconduct_connector_domain::diagnostic::{Diagnostics, Place, Severity};
use safeconduct_connector_domain::load::{self, SourceFile};
use safeconduct_connector_domain::workspace::Workspace;
use safeconduct_egress::Target;
use safeconduct_identity::WorkspaceDirectory;
use safeconduct_identity_domain::attribute::AttributePolicy;
use safeconduct_identity_domain::workspace::{IdentityPolicy, IdentitySpec};
use safeconduct_otp_domain::policy::OtpPolicy;
use safeconduct_service::secrets::Secrets;
use safeconduct_types::{Secret, Violation, WorkspaceId};

pub(crate) use otp::{OtpDirectory, routes as otp_routes};

/// Deeper folders hold no definitions.
const DEEPEST: usize = 8;

/// What was found on disk.
#[derive(Default)]
pub(crate) struct Found {
    /// The workspaces that can be taken.
    pub(crate) workspaces: Vec<Taken>,
    /// Everything that is wrong or worth a look, as lines that name file, line and column.
    pub(crate) problems: Vec<String>,
    /// How many of them are errors.
    pub(crate) errors: usize,
    /// How many connectors were taken.
    pub(crate) connectors: usize,
}

/// A workspace that was read and checked whole.
pub(crate) struct Taken {
    pub(crate) workspace: Arc<Workspace>,
    pub(crate) identity: Option<Arc<IdentityPolicy>>,
    pub(crate) attributes: Arc<AttributePolicy>,
    pub(crate) otp: Option<Arc<OtpPolicy>>,
}

/// Reads the files at `paths` (directories: every `.yaml` and `.yml` in them). A path that is not there is the only
/// thing that stops it: a file or folder that cannot be read becomes an error of its own, and the others are judged all
/// the same. Not taken are the workspaces that could lack what stands in it: those that it names, and those with a
/// document in its folder or in a folder above. So `check` tells everything and fails, and `serve` starts with the rest.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Found, String> {
    let mut walk = Walk::default();
    for path in paths {
        let is_dir =
            fs::metadata(path).map_err(|error| format!("{}: {}", path.display(), unreadable(&error)))?.is_dir();
        walk.visit(path, is_dir, 0);
    }
    Ok(judge(walk.sources))
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read ({error}); check path and permissions")
}

/// A walk over files and folders.
#[derive(Default)]
struct Walk {
    sources: Vec<SourceFile>,
    /// Where it has been, links resolved: a link that leads back is not followed again, and nothing is read twice.
    seen: BTreeSet<PathBuf>,
}

impl Walk {
    fn visit(&mut self, path: &Path, is_dir: bool, depth: usize) {
        let done = fs::canonicalize(path).and_then(|real| {
            if !self.seen.insert(real) {
                return Ok(());
            }
            if is_dir { self.folder(path, depth) } else { self.file(path) }
        });
        if let Err(error) = done {
            self.damaged(path, unreadable(&error));
        }
    }

    fn folder(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        let mut entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        entries.sort();
        for entry in entries {
            // Kubernetes keeps the real files of a mount in folders that start with two dots.
            if entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                continue;
            }
            let is_yaml = entry.extension().is_some_and(|kind| kind == "yaml" || kind == "yml");
            match fs::metadata(&entry).map(|found| found.is_dir()) {
                Ok(true) if depth < DEEPEST => self.visit(&entry, true, depth + 1),
                Ok(false) if is_yaml => self.visit(&entry, false, depth + 1),
                // What could have been a folder of definitions is not passed over.
                Err(error) if is_yaml || error.kind() == io::ErrorKind::PermissionDenied => {
                    self.damaged(&entry, unreadable(&error));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        // Opening a pipe would wait for somebody who writes.
        if !fs::metadata(path)?.is_file() {
            self.damaged(path, "is no regular file; remove it".to_owned());
            return Ok(());
        }
        // One byte more than is taken shows that there is more, whatever the file's size claims to be.
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(load::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        // The cut can lie within a character; nothing of such a file is read anyway.
        let cut = bytes.len() > load::MAX_FILE_BYTES;
        match String::from_utf8(bytes) {
            Ok(text) => self.found(path, text, None),
            Err(error) => {
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                self.found(path, text, (!cut).then(|| "is not UTF-8 text; save it as such".to_owned()));
            }
        }
        Ok(())
    }

    fn damaged(&mut self, path: &Path, damage: String) {
        self.found(path, String::new(), Some(damage));
    }

    fn found(&mut self, path: &Path, text: String, damage: Option<String>) {
        self.sources.push(SourceFile { path: path.display().to_string(), text, damage });
    }
}

fn judge(sources: Vec<SourceFile>) -> Found {
    let loaded = load::workspaces(sources);
    let mut found = Found::default();
    found.tell(&loaded.stray);
    for one in loaded.workspaces {
        found.tell(&one.warnings);
        match one.result {
            Err(diagnostics) => found.tell(&diagnostics),
            Ok(workspace) => match (
                identity(&workspace, &mut found),
                attributes(&workspace, &mut found),
                otp::policy(&workspace, &mut found),
            ) {
                (Err(()), ..) | (_, Err(()), _) | (.., Err(())) => {}
                (Ok(identity), Ok(attributes), Ok(otp)) => {
                    found.connectors +=
                        workspace.connectors.values().map(|family| family.versions.len()).sum::<usize>();
                    found.workspaces.push(Taken { workspace: Arc::new(workspace), identity, attributes, otp });
                }
            },
        }
    }
    found
}

impl Found {
    fn tell(&mut self, diagnostics: &Diagnostics) {
        for diagnostic in diagnostics {
            let line = diagnostic.to_string();
            // A whole file that cannot be read can concern several workspaces, and is one error.
            if diagnostic.place.line > 0 || !self.problems.contains(&line) {
                self.errors += usize::from(diagnostic.severity() == Severity::Error);
                self.problems.push(line);
            }
        }
    }

    fn wrong(&mut self, place: &Place, violation: &Violation) {
        self.wrong_in("identity", place, violation);
    }

    fn wrong_in(&mut self, section: &str, place: &Place, violation: &Violation) {
        self.errors += 1;
        self.problems.push(format!(
            "{place}: error[IDENTITY_INVALID]: spec.{section}.{}: {}",
            violation.field, violation.description
        ));
    }
}

/// The workspace's rules of identity: nothing that somebody wrote down as a rule is passed over in silence.
fn identity(workspace: &Workspace, found: &mut Found) -> Result<Option<Arc<IdentityPolicy>>, ()> {
    let Some(section) = &workspace.identity else { return Ok(None) };
    let spec: IdentitySpec = match serde_json::from_value(section.value.clone()) {
        Ok(spec) => spec,
        Err(error) => {
            found.wrong(&section.place, &Violation::new("", otp::unquoted(&error)));
            return Err(());
        }
    };
    let policy = match IdentityPolicy::try_from(spec) {
        Ok(policy) => policy,
        Err(error) => {
            for violation in &error.0 {
                found.wrong(&section.place, violation);
            }
            return Err(());
        }
    };
    if let Some(jwks) = policy.tokens().jwks()
        && let Err(error) = Target::parse(&jwks.url, jwks.insecure_http)
    {
        found.wrong(&section.place, &Violation::new("tokens.jwks.url", error.to_string()));
        return Err(());
    }
    Ok(Some(Arc::new(policy)))
}

/// What may be known of the workspace's contacts.
fn attributes(workspace: &Workspace, found: &mut Found) -> Result<Arc<AttributePolicy>, ()> {
    let Some(section) = &workspace.attributes else { return Ok(Arc::default()) };
    AttributePolicy::parse(&section.value).map(Arc::new).map_err(|violations| {
        for one in violations {
            found.wrong_in("attributes", &section.place, &one);
        }
    })
}

/// What identity asks about workspaces.
pub(crate) struct Directory {
    attributes: BTreeMap<WorkspaceId, Arc<AttributePolicy>>,
    policies: BTreeMap<WorkspaceId, Arc<IdentityPolicy>>,
    secrets: Arc<Secrets>,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("workspaces", &self.policies.keys()).finish_non_exhaustive()
    }
}

impl Directory {
    pub(crate) fn new(taken: &[Taken], secrets: Arc<Secrets>) -> Self {
        let policies = taken
            .iter()
            .filter_map(|one| Some((one.workspace.id.clone(), Arc::clone(one.identity.as_ref()?))))
            .collect();
        let attributes = taken.iter().map(|one| (one.workspace.id.clone(), Arc::clone(&one.attributes))).collect();
        Self { attributes, policies, secrets }
    }
}

impl WorkspaceDirectory for Directory {
    fn identity_policy(&self, workspace: &WorkspaceId) -> Option<Arc<IdentityPolicy>> {
        self.policies.get(workspace).map(Arc::clone)
    }

    fn attribute_policy(&self, workspace: &WorkspaceId) -> Arc<AttributePolicy> {
        self.attributes.get(workspace).map(Arc::clone).unwrap_or_default()
    }

    fn secret(&self, workspace: &WorkspaceId, name: &str) -> Option<Secret> {
        match self.secrets.get(workspace, name) {
            Ok(secret) => Some(secret),
            Err(error) => {
                tracing::error!(%error, "a secret is not to be had");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    type Damage<'a> = &'a dyn Fn(&Path);

    fn workspace(id: &str) -> String {
        format!("apiVersion: safeconduct.dev/v1\nkind: Workspace\nmetadata: {{workspace: {id}}}\nspec: {{}}\n")
    }

    /// The folders `acme` and `beta`, each with a workspace.
    fn two() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for id in ["acme", "beta"] {
            fs::create_dir(folder.path().join(id)).unwrap();
            fs::write(folder.path().join(id).join("workspace.yaml"), workspace(id)).unwrap();
        }
        folder
    }

    /// Which workspaces are taken, and how many errors there are.
    fn judged(folder: &Path) -> (Vec<String>, usize, String) {
        let found = read(&[folder.to_owned()]).unwrap();
        let taken = found.workspaces.iter().map(|one| one.workspace.id.to_string()).collect();
        (taken, found.errors, found.problems.join("\n"))
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_and_refuses_its_own_workspace_only() {
        let pipe = |path: &Path| {
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        };
        let cases: [(&str, Damage<'_>); 5] = [
            ("is not UTF-8 text", &|path| fs::write(path, b"title: caf\xe9\n").unwrap()),
            ("cannot be read", &|path| symlink("nowhere.yaml", path).unwrap()),
            ("cannot be read", &|path| symlink(path, path).unwrap()),
            ("larger than 256 KiB", &|path| fs::File::create(path).unwrap().set_len(1 << 32).unwrap()),
            ("is no regular file", &pipe),
        ];
        for (told, damage) in cases {
            let folder = two();
            damage(&folder.path().join("acme/refund.yaml"));
            let (taken, errors, problems) = judged(folder.path());
            assert_eq!((taken, errors), (vec!["beta".to_owned()], 1), "{problems}");
            assert!(problems.contains("acme/refund.yaml: error[") && problems.contains(told), "{problems}");
        }
    }

    #[test]
    fn a_file_that_concerns_two_workspaces_is_told_once_and_both_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for id in ["acme", "beta"] {
            fs::write(folder.path().join(id).with_extension("yaml"), workspace(id)).unwrap();
        }
        fs::write(folder.path().join("refund.yml"), b"\xff\xfe").unwrap();
        let (taken, errors, problems) = judged(folder.path());
        assert_eq!((taken.len(), errors), (0, 1), "{problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }

    #[test]
    fn links_that_lead_back_are_followed_once() {
        let folder = two();
        for n in 0..8 {
            symlink(folder.path(), folder.path().join(format!("acme/loop{n}"))).unwrap();
            symlink("../acme/workspace.yaml", folder.path().join(format!("beta/link{n}.yaml"))).unwrap();
        }
        let (taken, errors, problems) = judged(folder.path());
        assert_eq!((taken.len(), errors), (2, 0), "{problems}");
    }

    #[test]
    fn a_path_that_is_not_there_is_the_callers_mistake() {
        let folder = two();
        assert!(read(&[folder.path().join("nowhere")]).is_err_and(|told| told.contains("nowhere")));
    }
}
