//! Files to workspaces: everything is read and checked, all findings are told at once, and a workspace is taken whole
//! or not at all. One workspace's mistake touches no other.

mod assemble;
mod check;
mod connector;
mod header;
mod inputs;
mod limits;
mod reader;
mod request;
#[cfg(test)]
mod tests;
mod workspace;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use safeconduct_types::WorkspaceId;

pub use check::is_reserved_header;

use crate::diagnostic::{Code, Diagnostic, Diagnostics, Place};
use crate::workspace::Workspace;

/// The most bytes of a file.
pub const MAX_FILE_BYTES: usize = 256 * 1024;
/// The most documents of a workspace.
pub const MAX_DOCUMENTS: usize = 1000;

/// A file as it was found.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path, for messages only.
    pub path: String,
    /// Its text; of a file that is too large or damaged, as much of it as there is.
    pub text: String,
    /// Why it could not be read as text, if it could not: what to say of it, and what to do.
    pub damage: Option<String>,
}

/// What came of the files.
#[derive(Debug)]
pub struct Loaded {
    /// The workspaces, by id.
    pub workspaces: Vec<LoadedWorkspace>,
    /// What is wrong with documents that do not say to which workspace they belong. Errors in here belong to no
    /// workspace, and any workspace could lack what stands there: whoever reloads should keep what is in force.
    pub stray: Diagnostics,
}

/// What came of one workspace's documents.
#[derive(Debug)]
pub struct LoadedWorkspace {
    /// Its id.
    pub id: WorkspaceId,
    /// The workspace, or everything that keeps it from being taken (with the warnings).
    pub result: Result<Workspace, Diagnostics>,
    /// What somebody should look at; of a workspace that was taken.
    pub warnings: Diagnostics,
}

/// Reads and checks all files. The order of files has no influence on the outcome.
pub fn workspaces(files: Vec<SourceFile>) -> Loaded {
    let mut piles: BTreeMap<WorkspaceId, assemble::Pile> = BTreeMap::new();
    let mut stray = Vec::new();
    let mut unread = Vec::new();
    for file in files {
        if let Some((code, message)) = refusal(&file) {
            let place = Place { file: Arc::from(file.path), line: 0, column: 0 };
            let named: BTreeSet<_> = named_workspaces(&file.text).collect();
            unread.push((Diagnostic { place, code, message }, named));
            continue;
        }
        let SourceFile { path, text, .. } = file;
        let path: Arc<str> = Arc::from(path);
        for document in yaml::documents(&path, &text) {
            match document {
                Err((diagnostic, part)) => {
                    spread(&mut piles, &mut stray, named_workspaces(&part).take(1).collect(), &diagnostic);
                }
                Ok(node) => match header::read(&node) {
                    Ok((workspace, document)) => piles.entry(workspace).or_default().documents.push(document),
                    Err(header::Refused { workspace: Some(workspace), found }) => {
                        piles.entry(workspace).or_default().found.extend(found);
                    }
                    Err(header::Refused { workspace: None, found }) => stray.extend(found),
                },
            }
        }
    }
    for (diagnostic, named) in unread {
        let around = neighbours(&piles, &diagnostic.place.file);
        spread(&mut piles, &mut stray, named.into_iter().chain(around).collect(), &diagnostic);
    }
    let workspaces = piles.into_iter().map(|(id, pile)| assemble::workspace(id, pile)).collect();
    Loaded { workspaces, stray: Diagnostics::new(stray) }
}

/// Why nothing of this file is read.
fn refusal(file: &SourceFile) -> Option<(Code, String)> {
    if let Some(damage) = &file.damage {
        return Some((Code::FileUnreadable, damage.clone()));
    }
    let message = || format!("the file is larger than {} KiB; split it", MAX_FILE_BYTES / 1024);
    (file.text.len() > MAX_FILE_BYTES).then(|| (Code::LimitExceeded, message()))
}

/// The workspaces that could lack what stands in a file that was not read: those with a document in its folder or in a
/// folder above. Rather one workspace too many is refused than one taken without its release, or without a version.
fn neighbours(piles: &BTreeMap<WorkspaceId, assemble::Pile>, file: &str) -> BTreeSet<WorkspaceId> {
    let Some(folder) = Path::new(file).parent() else { return BTreeSet::new() };
    let is_near = |document: &header::Document| {
        Path::new(&*document.place.file).parent().is_some_and(|other| folder.starts_with(other))
    };
    piles.iter().filter(|(_, pile)| pile.documents.iter().any(is_near)).map(|(id, _)| id.clone()).collect()
}

/// What cannot be read belongs to the workspaces that it names, as far as its text shows.
fn spread(
    piles: &mut BTreeMap<WorkspaceId, assemble::Pile>,
    stray: &mut Vec<Diagnostic>,
    named: BTreeSet<WorkspaceId>,
    diagnostic: &Diagnostic,
) {
    if named.is_empty() {
        stray.push(diagnostic.clone());
    }
    for workspace in named {
        piles.entry(workspace).or_default().found.push(diagnostic.clone());
    }
}

/// The ids that follow `workspace:` in a text that is no YAML, in its order. A document belongs to the first:
/// another one can only stand in its texts.
fn named_workspaces(text: &str) -> impl Iterator<Item = WorkspaceId> {
    text.split("workspace:").skip(1).filter_map(|rest| {
        let rest = rest.trim_start_matches([' ', '\t', '"', '\'']);
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
        rest.get(..end)?.parse().ok()
    })
}
