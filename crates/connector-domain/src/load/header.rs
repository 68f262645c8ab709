//! What every document begins with: `apiVersion`, `kind`, `metadata`.

use safeconduct_types::{ConnectorName, Version, WorkspaceId};

use super::reader::Reader;
use super::yaml::{Kind, Node};
use crate::diagnostic::{Code, Diagnostic, Place};

const API_VERSION: &str = "safeconduct.dev/v1";

/// A document whose head could be read.
#[derive(Debug)]
pub(super) struct Document {
    /// Where it begins.
    pub(super) place: Place,
    pub(super) body: Body,
    /// All of it.
    pub(super) spec: Node,
}

/// What a document describes.
#[derive(Debug)]
pub(super) enum Body {
    Workspace,
    CredentialSet,
    Connector(ConnectorName, Version),
    Release(ConnectorName),
}

/// A document whose head could not be read.
#[derive(Debug)]
pub(super) struct Refused {
    /// The workspace it belongs to, if it says so.
    pub(super) workspace: Option<WorkspaceId>,
    pub(super) found: Vec<Diagnostic>,
}

#[derive(Clone, Copy)]
enum Word {
    Workspace,
    CredentialSet,
    Connector,
    Release,
}

pub(super) fn read(root: &Node) -> Result<(WorkspaceId, Document), Refused> {
    let mut r = Reader::default();
    let head = head(&mut r, root);
    let found = r.into_found();
    let workspace = || root.get("metadata")?.value.get("workspace").and_then(|member| id(&member.value));
    match (head, found.is_empty()) {
        (Some((workspace, place, body)), true) => {
            let spec = root.get("spec").map(|member| member.value.clone());
            let Some(spec) = spec else { return Err(Refused { workspace: Some(workspace), found }) };
            Ok((workspace, Document { place, body, spec }))
        }
        _ => Err(Refused { workspace: workspace(), found }),
    }
}

fn id(node: &Node) -> Option<WorkspaceId> {
    match &node.kind {
        Kind::Text(text) => text.parse().ok(),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::List(_) | Kind::Map(_) => None,
    }
}

fn head(r: &mut Reader, root: &Node) -> Option<(WorkspaceId, Place, Body)> {
    let fields = r.fields(root, "a document", &["apiVersion", "kind", "metadata", "spec"], &[])?;
    let version =
        r.required(fields, "apiVersion").and_then(|node| r.word(node, "`apiVersion`", &[(API_VERSION, ())], &[]));
    let kinds = [
        ("Workspace", Word::Workspace),
        ("CredentialSet", Word::CredentialSet),
        ("Connector", Word::Connector),
        ("Release", Word::Release),
    ];
    let kind = r.required(fields, "kind").and_then(|node| r.word(node, "`kind`", &kinds, &[]));
    let spec = r.required(fields, "spec");
    let metadata = r.required(fields, "metadata");
    let (kind, metadata) = (kind?, metadata?);
    let known: &[&str] = match kind {
        Word::Workspace => &["workspace"],
        Word::CredentialSet | Word::Release => &["workspace", "name"],
        Word::Connector => &["workspace", "name", "version"],
    };
    let inner = r.fields(metadata, "`metadata`", known, &["stage"])?;
    let workspace = r.required(inner, "workspace").and_then(|node| r.parsed(node, "`workspace`", Code::BadValue));
    let body = match kind {
        Word::Workspace => Some(Body::Workspace),
        Word::CredentialSet => Some(Body::CredentialSet),
        Word::Release => {
            r.required(inner, "name").and_then(|node| r.parsed(node, "`name`", Code::BadValue)).map(Body::Release)
        }
        Word::Connector => {
            let name = r.required(inner, "name").and_then(|node| r.parsed(node, "`name`", Code::BadValue));
            let version = r.required(inner, "version").and_then(|node| r.parsed(node, "`version`", Code::BadValue));
            name.zip(version).map(|(name, version)| Body::Connector(name, version))
        }
    };
    version?;
    spec?;
    Some((workspace?, root.place.clone(), body?))
}
