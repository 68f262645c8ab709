//! One workspace out of its documents: all of them, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use safeconduct_types::{ConnectorName, Version, WorkspaceId};
use serde_json::{Value, json};

use super::check::{self, Families, Read};
use super::header::{Body, Document};
use super::limits::declared;
use super::reader::{Reader, nearest};
use super::workspace::{Settings, credentials, release, settings};
use super::yaml::Node;
use super::{LoadedWorkspace, MAX_DOCUMENTS};
use crate::definition::{DefinitionDigest, Effect, KeyPlace, SecretName};
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Place};
use crate::workspace::{Credential, Family, Workspace};

/// The documents of one workspace, and what is wrong with those that could not be read.
#[derive(Debug, Default)]
pub(super) struct Pile {
    pub(super) documents: Vec<Document>,
    pub(super) found: Vec<Diagnostic>,
}

/// The documents by what they describe.
#[derive(Default)]
struct Sorted {
    workspaces: Vec<(Place, Node)>,
    credentials: Vec<Node>,
    connectors: BTreeMap<(ConnectorName, Version), Vec<(Place, Node)>>,
    releases: BTreeMap<ConnectorName, Vec<(Place, Node)>>,
}

pub(super) fn workspace(id: WorkspaceId, pile: Pile) -> LoadedWorkspace {
    let mut r = Reader::default();
    let built = if pile.documents.len() > MAX_DOCUMENTS {
        let message = format!("workspace `{id}` has more than {MAX_DOCUMENTS} documents");
        if let Some(document) = pile.documents.last() {
            r.report(Code::LimitExceeded, &document.place, message);
        }
        None
    } else {
        build(&mut r, &id, pile.documents, pile.found.is_empty())
    };
    let mut found = pile.found;
    found.extend(r.into_found());
    let found = Diagnostics::new(found);
    match built {
        Some(workspace) if !found.has_errors() => LoadedWorkspace { id, result: Ok(workspace), warnings: found },
        _ => LoadedWorkspace { id, result: Err(found), warnings: Diagnostics::default() },
    }
}

/// `all_read`: whether every document of the workspace could be read, so that a missing one is really missing.
fn build(r: &mut Reader, id: &WorkspaceId, mut documents: Vec<Document>, all_read: bool) -> Option<Workspace> {
    documents.sort_by(|one, other| one.place.cmp(&other.place));
    let digest = digest(&documents);
    let anywhere = documents.first().map(|document| document.place.clone());
    let sorted = sort(documents);
    for (place, _) in sorted.workspaces.iter().skip(1) {
        r.report(
            Code::DuplicateDefinition,
            place,
            format!("workspace `{id}` has a second document of kind Workspace; remove one"),
        );
    }
    if let (true, true, Some(place)) = (sorted.workspaces.is_empty(), all_read, &anywhere) {
        let message =
            format!("no document of kind Workspace describes `{id}`; add one, or correct `metadata.workspace`");
        r.report(Code::WorkspaceMissing, place, message);
    }
    let settings = sorted.workspaces.first().and_then(|(_, spec)| settings(r, spec));
    let credentials = all_credentials(r, &sorted.credentials);
    let zone = settings.as_ref().map_or("UTC", |settings| settings.timezone.as_str());
    let mut families = families(r, id, &sorted.connectors, zone);
    let live = releases(r, &sorted.releases, &families);
    let upstreams_spec = sorted.workspaces.first().map(|(_, spec)| spec);
    if let (Some(settings), Some(spec)) = (&settings, upstreams_spec) {
        opened(r, settings, spec, &credentials, all_read);
    }
    checked(r, &families, settings.as_ref(), &credentials, all_read);
    let settings = settings?;
    limited(r, &mut families, &settings, all_read);
    let connectors = families
        .into_iter()
        .map(|(name, versions)| {
            let versions = versions
                .into_iter()
                .map(|(version, read)| {
                    let mut connector = read?.connector;
                    connector.needs = settings.writes_need.filter(|_| connector.effect == Effect::Write);
                    Some((version, Arc::new(connector)))
                })
                .collect::<Option<BTreeMap<_, _>>>()?;
            let live = live.get(&name).cloned().flatten();
            let only = || versions.keys().next().filter(|_| versions.len() == 1).cloned();
            let live = live.or_else(only);
            Some((name, Family { versions, live }))
        })
        .collect::<Option<BTreeMap<_, _>>>()?;
    let credentials = credentials
        .into_iter()
        .map(|(name, credential)| Some((name, credential?)))
        .collect::<Option<BTreeMap<_, _>>>()?;
    Some(Workspace {
        id: id.clone(),
        timezone: settings.timezone,
        identity: settings.identity,
        attributes: settings.attributes,
        otp: settings.otp,
        upstreams: settings.upstreams,
        credentials,
        connectors,
        digest,
    })
}

/// The same for the same documents, however they are spread over files.
fn digest(documents: &[Document]) -> DefinitionDigest {
    let mut all: Vec<_> = documents
        .iter()
        .map(|document| {
            let head = match &document.body {
                Body::Workspace => json!(["Workspace"]),
                Body::CredentialSet => json!(["CredentialSet"]),
                Body::Connector(name, version) => json!(["Connector", name.as_str(), version.as_str()]),
                Body::Release(name) => json!(["Release", name.as_str()]),
            };
            *DefinitionDigest::of(&Value::Array(vec![head, document.spec.to_json()])).as_bytes()
        })
        .collect();
    all.sort_unstable();
    DefinitionDigest::of(&Value::from(all.iter().map(hex::encode).collect::<Vec<_>>()))
}

fn sort(documents: Vec<Document>) -> Sorted {
    let mut sorted = Sorted::default();
    for Document { place, body, spec } in documents {
        match body {
            Body::Workspace => sorted.workspaces.push((place, spec)),
            Body::CredentialSet => sorted.credentials.push(spec),
            Body::Connector(name, version) => sorted.connectors.entry((name, version)).or_default().push((place, spec)),
            Body::Release(name) => sorted.releases.entry(name).or_default().push((place, spec)),
        }
    }
    sorted
}

fn all_credentials(r: &mut Reader, specs: &[Node]) -> BTreeMap<SecretName, Option<Credential>> {
    let mut all = BTreeMap::new();
    for spec in specs {
        for (name, node, credential) in credentials(r, spec) {
            if all.contains_key(&name) {
                r.report(
                    Code::DuplicateDefinition,
                    &node.place,
                    format!("credential `{name}` is defined twice; remove one"),
                );
            }
            all.insert(name, credential);
        }
    }
    all
}

fn families(
    r: &mut Reader,
    id: &WorkspaceId,
    connectors: &BTreeMap<(ConnectorName, Version), Vec<(Place, Node)>>,
    zone: &str,
) -> Families {
    let mut families = Families::new();
    for ((name, version), specs) in connectors {
        for (place, _) in specs.iter().skip(1) {
            let message = format!("`{name}` {version} is defined twice; remove one, or give it another version");
            r.report(Code::DuplicateDefinition, place, message);
        }
        let Some((_, spec)) = specs.first() else { continue };
        let connector = super::connector::connector(r, (id.clone(), name.clone(), version.clone()), spec);
        let limits = spec.get("limits").map_or_else(|| Some(Vec::new()), |limits| declared(r, &limits.value, zone));
        let read = connector.zip(limits).map(|(connector, limits)| Read { connector, spec: spec.clone(), limits });
        families.entry(name.clone()).or_default().insert(version.clone(), read);
    }
    families
}

/// The live version of each connector that has a release.
fn releases(
    r: &mut Reader,
    releases: &BTreeMap<ConnectorName, Vec<(Place, Node)>>,
    families: &Families,
) -> BTreeMap<ConnectorName, Option<Version>> {
    let mut live = BTreeMap::new();
    for (name, specs) in releases {
        for (place, _) in specs.iter().skip(1) {
            r.report(Code::DuplicateDefinition, place, format!("`{name}` has two releases; remove one"));
        }
        let Some((place, spec)) = specs.first() else { continue };
        let version = release(r, spec);
        match (families.get(name), &version) {
            (None, _) => r.report(Code::ReleaseUnknown, place, format!("there is no connector `{name}` to release")),
            (Some(versions), Some(version)) if !versions.contains_key(version) => {
                let message = format!("`{name}` has no version {version}; correct it, or add the definition");
                r.report(Code::ReleaseUnknown, spec.place_of(&["live"]), message);
            }
            (Some(_), _) => {}
        }
        live.insert(name.clone(), version);
    }
    for (name, versions) in families.iter().filter(|(name, versions)| versions.len() > 1 && !live.contains_key(*name)) {
        if let Some(read) = versions.values().flatten().next() {
            let message = format!(
                "`{name}` has several versions and no Release says which is live; requests must name the version"
            );
            r.report(Code::ReleaseMissing, &read.spec.place, message);
        }
    }
    live
}

/// Every credential that an upstream names is there.
fn opened(
    r: &mut Reader,
    settings: &Settings,
    spec: &Node,
    credentials: &BTreeMap<SecretName, Option<Credential>>,
    all_read: bool,
) {
    for (name, upstream) in &settings.upstreams {
        if let Some(credential) = upstream.credential.as_ref().filter(|one| all_read && !credentials.contains_key(*one))
        {
            let near = nearest(credential.as_str(), credentials.keys().map(SecretName::as_str))
                .map_or_else(|| "declare it in a CredentialSet".to_owned(), |near| format!("did you mean `{near}`?"));
            let place = spec.place_of(&["upstreams", name.as_str(), "credential"]);
            r.report(Code::CredentialUnknown, place, format!("there is no credential `{credential}`; {near}"));
        }
    }
}

/// The checks of every definition, alone and against the others.
fn checked(
    r: &mut Reader,
    families: &Families,
    settings: Option<&Settings>,
    credentials: &BTreeMap<SecretName, Option<Credential>>,
    all_read: bool,
) {
    let attributes = settings.and_then(declared_attributes);
    for versions in families.values() {
        check::family(r, versions);
        check::limits::family(r, versions);
    }
    for read in families.values().flat_map(BTreeMap::values).flatten() {
        check::connector(r, read, attributes.as_ref());
        if all_read {
            check::choices(r, read, families);
        }
        own_header(r, read, settings, credentials);
        let upstream = &read.connector.request.upstream;
        if let Some(settings) = settings.filter(|settings| !settings.upstreams.contains_key(upstream)) {
            let near =
                nearest(upstream.as_str(), settings.upstreams.keys().map(crate::definition::UpstreamName::as_str))
                    .map_or_else(|| "declare it in the workspace".to_owned(), |near| format!("did you mean `{near}`?"));
            let place = read.spec.value_place_of(&["request", "upstream"]);
            r.report(Code::UpstreamUnknown, place, format!("the workspace has no upstream `{upstream}`; {near}"));
        }
    }
}

/// Every connector gets the limits that it is under.
fn limited(r: &mut Reader, families: &mut Families, settings: &Settings, all_read: bool) {
    for read in families.values_mut().flat_map(BTreeMap::values_mut).flatten() {
        read.connector.limits = check::limits::resolve(r, read, settings);
    }
    let all_read = all_read && families.values().flat_map(BTreeMap::values).all(Option::is_some);
    let reads = families.values().flat_map(BTreeMap::values).flatten();
    check::limits::of_workspace(r, &settings.limits, settings.says_timezone, reads, all_read);
}

/// The header that opens the upstream is the credential's alone.
fn own_header(
    r: &mut Reader,
    read: &Read,
    settings: Option<&Settings>,
    credentials: &BTreeMap<SecretName, Option<Credential>>,
) {
    let upstream = settings.and_then(|settings| settings.upstreams.get(&read.connector.request.upstream));
    let credential = upstream.and_then(|upstream| credentials.get(upstream.credential.as_ref()?)?.as_ref());
    let Some(Credential::Static(credential)) = credential else { return };
    let key = read.connector.idempotency.as_ref().and_then(|one| one.upstream_key.as_ref()).map(|key| &key.place);
    let is_key = matches!(key, Some(KeyPlace::Header(name)) if *name == credential.header);
    if is_key || read.connector.request.headers.iter().any(|(name, _)| *name == credential.header) {
        let message = format!("header `{}` is the credential's of this upstream; remove it", credential.header);
        r.report(Code::HeaderForbidden, read.spec.place_of(&["request", "headers"]), message);
    }
}

/// The attributes that the workspace speaks of; `None` if it speaks of none, so that nothing can be misspelt.
fn declared_attributes(settings: &Settings) -> Option<BTreeSet<String>> {
    let declared =
        settings.attributes.iter().filter_map(|section| section.value.as_object()).flat_map(|all| all.keys().cloned());
    let carried = settings
        .identity
        .iter()
        .filter_map(|section| section.value.get("assertion_attributes")?.as_array())
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned));
    let all: BTreeSet<String> = declared.chain(carried).collect();
    (!all.is_empty()).then_some(all)
}
