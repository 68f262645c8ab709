//! The workspaces' files, from disk to what the services take.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safeconduct_connector_domain::diagnostic::{Diagnostics, Place, Severity};
use safeconduct_connector_domain::load::{self, SourceFile};
use safeconduct_connector_domain::workspace::Workspace;
use safeconduct_identity::WorkspaceDirectory;
use safeconduct_identity_domain::workspace::{IdentityPolicy, IdentitySpec};
use safeconduct_service::secrets::Secrets;
use safeconduct_types::{Secret, Violation, WorkspaceId};

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
}

/// Reads the files at `paths` (directories: every `.yaml` and `.yml` in them).
pub(crate) fn read(paths: &[PathBuf]) -> Result<Found, String> {
    let mut sources = Vec::new();
    for path in paths {
        collect(path, 0, &mut sources)?;
    }
    Ok(judge(sources))
}

fn collect(path: &Path, depth: usize, sources: &mut Vec<SourceFile>) -> Result<(), String> {
    let failed =
        |error: std::io::Error| format!("{}: cannot be read ({error}); check path and permissions", path.display());
    if fs::metadata(path).map_err(failed)?.is_dir() {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(path).map_err(failed)?.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        entries.sort();
        for entry in entries {
            // Kubernetes keeps the real files of a mount in folders that start with two dots.
            let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let is_yaml = entry.extension().is_some_and(|kind| kind == "yaml" || kind == "yml");
            if !hidden && ((entry.is_dir() && depth < DEEPEST) || (entry.is_file() && is_yaml)) {
                collect(&entry, depth + 1, sources)?;
            }
        }
        return Ok(());
    }
    let bytes = fs::read(path).map_err(failed)?;
    let text =
        String::from_utf8(bytes).map_err(|_| format!("{}: is not UTF-8 text; save it as such", path.display()))?;
    sources.push(SourceFile { path: path.display().to_string(), text });
    Ok(())
}

fn judge(sources: Vec<SourceFile>) -> Found {
    let loaded = load::workspaces(sources);
    let mut found = Found::default();
    found.tell(&loaded.stray);
    for one in loaded.workspaces {
        found.tell(&one.warnings);
        match one.result {
            Err(diagnostics) => found.tell(&diagnostics),
            Ok(workspace) => match identity(&workspace, &mut found) {
                Err(()) => {}
                Ok(identity) => {
                    found.connectors +=
                        workspace.connectors.values().map(|family| family.versions.len()).sum::<usize>();
                    found.workspaces.push(Taken { workspace: Arc::new(workspace), identity });
                }
            },
        }
    }
    found
}

impl Found {
    fn tell(&mut self, diagnostics: &Diagnostics) {
        self.errors += diagnostics.iter().filter(|one| one.severity() == Severity::Error).count();
        self.problems.extend(diagnostics.iter().map(ToString::to_string));
    }

    fn wrong(&mut self, place: &Place, violation: &Violation) {
        self.errors += 1;
        self.problems.push(format!(
            "{place}: error[IDENTITY_INVALID]: spec.identity.{}: {}",
            violation.field, violation.description
        ));
    }
}

/// The workspace's rules of identity. What this version does not do yet refuses the workspace: nothing that somebody
/// wrote down as a rule is passed over in silence.
fn identity(workspace: &Workspace, found: &mut Found) -> Result<Option<Arc<IdentityPolicy>>, ()> {
    let Some(section) = &workspace.identity else { return Ok(None) };
    let spec: IdentitySpec = match serde_json::from_value(section.value.clone()) {
        Ok(spec) => spec,
        Err(error) => {
            found.wrong(&section.place, &Violation::new("", error.to_string()));
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
    let mut missing = policy.not_yet_supported();
    if policy.writes_need().is_some() {
        missing.push(Violation::new(
            "writes_need",
            "is not enforced yet; leave it out, and mind that a user hash never expires",
        ));
    }
    for violation in &missing {
        found.errors += 1;
        found.problems.push(format!(
            "{}: error[NOT_YET_SUPPORTED]: spec.identity.{}: {}",
            section.place, violation.field, violation.description
        ));
    }
    if missing.is_empty() { Ok(Some(Arc::new(policy))) } else { Err(()) }
}

/// What identity asks about workspaces.
pub(crate) struct Directory {
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
        Self { policies, secrets }
    }
}

impl WorkspaceDirectory for Directory {
    fn identity_policy(&self, workspace: &WorkspaceId) -> Option<Arc<IdentityPolicy>> {
        self.policies.get(workspace).map(Arc::clone)
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
