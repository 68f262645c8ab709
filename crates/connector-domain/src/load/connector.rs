//! A document of kind Connector, read field by field. What one field says about another is checked in `check`.

use std::collections::BTreeSet;
use std::time::Duration;

use safeconduct_types::{ConnectorName, Version, WorkspaceId};
use serde_json::Value;

use super::inputs::{flatten, inputs, references};
use super::reader::{Fields, Reader, short};
use super::request::{header_name, request, retry};
use super::yaml::{Kind, Node};
use crate::definition::{
    Audience, Connector, ContactKind, DefinitionDigest, Effect, Example, Format, Idempotency, KeyPlace, Mode,
    OnStoreFailure, Response, Sensitivity, UpstreamKey,
};
use crate::diagnostic::Code;
use crate::projection::Projection;

const MAX_EXAMPLES: usize = 50;
const DEFAULT_RETAIN: Duration = Duration::from_hours(72);
const DEFAULT_MAX_BYTES: u32 = 65_536;
const MOST_MAX_BYTES: u32 = 1 << 20;

/// The definition, or `None` if a part of it could not be read.
pub(super) fn connector(
    r: &mut Reader,
    (workspace, name, version): (WorkspaceId, ConnectorName, Version),
    spec: &Node,
) -> Option<Connector> {
    let fields = r.fields(
        spec,
        "`spec`",
        &[
            "title",
            "description",
            "effect",
            "sensitivity",
            "audience",
            "purpose",
            "inputs",
            "idempotency",
            "limits",
            "on_store_failure",
            "request",
            "retry",
            "response",
            "examples",
        ],
        &["confirm", "policies", "gone", "repeatable", "steps", "await", "waive"],
    )?;
    let title = fields.get("title").map_or(Some(name.as_str()), |node| r.text(node, "`title`", 120));
    let description = fields.get("description").map_or(Some(""), |node| r.text(node, "`description`", 2000));
    let effect = r
        .required(fields, "effect")
        .and_then(|node| r.word(node, "`effect`", &[("read", Effect::Read), ("write", Effect::Write)], &[]));
    let sensitivity = sensitivity(r, fields);
    let audience = audience(r, fields, effect, sensitivity);
    let purpose = flatten(fields.get("purpose").map(|node| purpose(r, node)));
    let inputs = fields.get("inputs").map_or_else(|| Some(std::collections::BTreeMap::new()), |node| inputs(r, node));
    let idempotency = flatten(fields.get("idempotency").map(|node| idempotency(r, node)));
    let failures = [("deny", OnStoreFailure::Deny), ("allow", OnStoreFailure::Allow)];
    let on_store_failure = fields
        .get("on_store_failure")
        .map_or(Some(OnStoreFailure::Deny), |node| r.word(node, "`on_store_failure`", &failures, &[]));
    let request = if fields.get("request").is_none() && fields.get("steps").is_some() {
        None // `steps` was refused by name already
    } else {
        r.required(fields, "request").and_then(|node| request(r, node))
    };
    // What could not be read has a finding of its own; a second one about retries would only distract.
    let keyed = idempotency.as_ref().is_none_or(|one| one.as_ref().is_some_and(|one| one.upstream_key.is_some()));
    let retry = retry(r, fields.get("retry"), keyed || effect != Some(Effect::Write));
    let response = response(r, fields);
    let examples = fields.get("examples").map_or(Some(Vec::new()), |node| examples(r, node));
    Some(Connector {
        workspace,
        title: title?.to_owned(),
        name,
        version,
        description: description?.to_owned(),
        effect: effect?,
        sensitivity: sensitivity?,
        audience: audience?,
        // The workspace's, once it is known.
        needs: None,
        purpose: purpose?,
        inputs: inputs?,
        idempotency: idempotency?,
        // Resolved once the workspace is known.
        limits: Vec::new(),
        on_store_failure: on_store_failure?,
        request: request?,
        retry: retry?,
        response: response?,
        examples: examples?,
        digest: digest(spec),
    })
}

/// What a code would be for: a name in the workspace's `otp.purposes`, whose form this is.
fn purpose(r: &mut Reader, node: &Node) -> Option<String> {
    let text = r.text(node, "`purpose`", 64)?;
    let rest = text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if rest && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase()) {
        return Some(text.to_owned());
    }
    r.report(
        Code::BadValue,
        &node.place,
        "`purpose` is one of the workspace's `otp.purposes`, such as `look-up-order`",
    );
    None
}

/// Of what has an effect: a title, a description or an example can be corrected in a released version.
fn digest(spec: &Node) -> DefinitionDigest {
    let mut json = spec.to_json();
    if let Value::Object(members) = &mut json {
        for name in ["title", "description", "examples"] {
            members.remove(name);
        }
    }
    DefinitionDigest::of(&json)
}

fn sensitivity(r: &mut Reader, fields: Fields<'_>) -> Option<Sensitivity> {
    let words = [("private", Sensitivity::Private), ("public", Sensitivity::Public)];
    fields.get("sensitivity").map_or(Some(Sensitivity::Private), |node| r.word(node, "`sensitivity`", &words, &[]))
}

fn audience(
    r: &mut Reader,
    fields: Fields<'_>,
    effect: Option<Effect>,
    sensitivity: Option<Sensitivity>,
) -> Option<Audience> {
    let known = [("user", ContactKind::User), ("lead", ContactKind::Lead), ("visitor", ContactKind::Visitor)];
    let public = sensitivity == Some(Sensitivity::Public);
    let default = || {
        let mut kinds = BTreeSet::from([ContactKind::User, ContactKind::Lead]);
        if public && effect == Some(Effect::Read) {
            kinds.insert(ContactKind::Visitor);
        }
        Audience { kinds }
    };
    let Some(node) = fields.get("audience") else { return Some(default()) };
    let inner = r.fields(node, "`audience`", &["kinds"], &["when"])?;
    let Some(node) = inner.get("kinds") else { return Some(default()) };
    let items = r.items(node, "`kinds`", 3)?;
    if items.is_empty() {
        r.report(Code::BadValue, &node.place, "`kinds` names at least one of `user`, `lead`, `visitor`");
        return None;
    }
    let read: Vec<_> = items.iter().map(|item| r.word(item, "a kind of contact", &known, &[])).collect();
    let kinds = read.into_iter().collect::<Option<BTreeSet<_>>>()?;
    if kinds.contains(&ContactKind::Visitor) && sensitivity == Some(Sensitivity::Private) {
        let message = "a visitor has proven nothing; only what is public may be open to visitors. Remove `visitor`";
        r.report(Code::AudienceTooWide, &node.place, message);
    }
    Some(Audience { kinds })
}

fn idempotency(r: &mut Reader, node: &Node) -> Option<Idempotency> {
    let fields = r.fields(node, "`idempotency`", &["same", "retain", "upstream_key"], &["reconcile"])?;
    let same = fields.get("same").map_or(Some(Vec::new()), |node| references(r, node, "`same`"));
    let retain = fields.get("retain").map_or(Some(DEFAULT_RETAIN), |node| r.duration(node, "`retain`", "1m", "30d"));
    let upstream_key = flatten(fields.get("upstream_key").map(|node| upstream_key(r, node)));
    Some(Idempotency { same: same?, retain: retain?, upstream_key: upstream_key? })
}

fn upstream_key(r: &mut Reader, node: &Node) -> Option<UpstreamKey> {
    let known = ["header", "field", "natural", "honoured_for", "in_progress", "mismatch", "replays_errors"];
    let fields = r.fields(node, "`upstream_key`", &known, &[])?;
    let place = match (fields.get("header"), fields.get("field"), fields.get("natural")) {
        (Some(node), None, None) => {
            let text = r.text(node, "`header`", 64);
            text.and_then(|text| header_name(r, text, &node.place)).map(KeyPlace::Header)
        }
        (None, Some(node), None) => field_path(r, node).map(KeyPlace::Field),
        (None, None, Some(node)) => match r.boolean(node, "`natural`") {
            Some(true) => Some(KeyPlace::Natural),
            Some(false) => {
                r.report(Code::KeyPlace, &node.place, "`natural` is `true`, or the whole `upstream_key` is left out");
                None
            }
            None => None,
        },
        _ => {
            r.report(
                Code::KeyPlace,
                &node.place,
                "`upstream_key` has exactly one of `header`, `field` and `natural: true`",
            );
            None
        }
    };
    let honoured_for = match fields.get("honoured_for") {
        Some(node) => r.duration(node, "`honoured_for`", "1m", "30d").map(Some),
        None if fields.get("natural").is_some() => Some(None),
        None => r.required(fields, "honoured_for").map(|_| None),
    };
    let in_progress = fields.get("in_progress").map_or(Some(BTreeSet::new()), |node| r.statuses(node, "`in_progress`"));
    let mismatch = fields.get("mismatch").map_or(Some(BTreeSet::new()), |node| r.statuses(node, "`mismatch`"));
    if let (Some(running), Some(other)) = (&in_progress, &mismatch)
        && !running.is_disjoint(other)
    {
        r.report(
            Code::BadValue,
            &node.place,
            "`in_progress` and `mismatch` share a status; it can mean only one of the two",
        );
    }
    let replays_errors = r.flag(fields, "replays_errors");
    Some(UpstreamKey {
        place: place?,
        honoured_for: honoured_for?,
        in_progress: in_progress?,
        mismatch: mismatch?,
        replays_errors: replays_errors?,
    })
}

/// `name`, or a JSON pointer such as `/meta/request_id`.
fn field_path(r: &mut Reader, node: &Node) -> Option<Vec<String>> {
    let text = r.text(node, "`field`", 256)?;
    let names: Vec<String> = match text.strip_prefix('/') {
        Some(rest) => rest.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect(),
        None => vec![text.to_owned()],
    };
    if names.len() > 8 || names.iter().any(String::is_empty) || text.contains("${") {
        let message = "`field` is a member's name or a JSON pointer of at most 8 names, without references";
        r.report(Code::KeyPlace, &node.place, message);
        return None;
    }
    Some(names)
}

fn response(r: &mut Reader, fields: Fields<'_>) -> Option<Response> {
    let default = || Response {
        mode: Mode::Simple,
        format: Format::Json,
        max_bytes: DEFAULT_MAX_BYTES as usize,
        problem: Projection::default(),
        output: Projection::default(),
    };
    let Some(node) = fields.get("response") else { return Some(default()) };
    let fields = r.fields(node, "`response`", &["mode", "format", "max_bytes", "problem", "output"], &["outcomes"])?;
    let modes = [("simple", Mode::Simple), ("task", Mode::Task)];
    let mode = fields.get("mode").map_or(Some(Mode::Simple), |node| r.word(node, "`mode`", &modes, &[]));
    let format = fields.get("format").map_or(Some(Format::Json), |node| {
        r.word(node, "`format`", &[("json", Format::Json)], &["form", "text", "xml"])
    });
    let max_bytes =
        fields.get("max_bytes").map_or(Some(DEFAULT_MAX_BYTES), |node| r.whole(node, "`max_bytes`", 1, MOST_MAX_BYTES));
    let problem = fields.get("problem").map_or(Some(Projection::default()), |node| projection(r, node, "`problem`"));
    let output = fields.get("output").map_or(Some(Projection::default()), |node| projection(r, node, "`output`"));
    Some(Response {
        mode: mode?,
        format: format?,
        max_bytes: usize::try_from(max_bytes?).ok()?,
        problem: problem?,
        output: output?,
    })
}

fn projection(r: &mut Reader, node: &Node, what: &str) -> Option<Projection> {
    if !matches!(node.kind, Kind::Map(_)) {
        return r.members(node, what).map(|_| Projection::default());
    }
    match Projection::parse(&node.to_json()) {
        Ok(projection) => Some(projection),
        Err(error) => {
            r.report(Code::ProjectionInvalid, node.place_at(error.pointer()), format!("{what}: {error}"));
            None
        }
    }
}

fn examples(r: &mut Reader, node: &Node) -> Option<Vec<Example>> {
    let items = r.items(node, "`examples`", MAX_EXAMPLES)?;
    let mut names = BTreeSet::new();
    let read: Vec<_> = items
        .iter()
        .map(|item| {
            let fields =
                r.fields(item, "an example", &["name", "inputs", "answer", "expect"], &["contact", "caller_inputs"])?;
            let name = r.required(fields, "name").and_then(|node| r.text(node, "`name`", 120));
            if let Some(name) = name.filter(|name| !names.insert(*name)) {
                let message = format!("two examples are called `{}`; rename one", short(name));
                r.report(Code::DuplicateDefinition, &item.place, message);
            }
            let inputs = fields.get("inputs").map_or_else(|| Value::Object(serde_json::Map::new()), Node::to_json);
            let answer = r.required(fields, "answer").map(Node::to_json);
            let expect = r.required(fields, "expect").map(Node::to_json);
            Some(Example { name: name?.to_owned(), inputs, answer: answer?, expect: expect? })
        })
        .collect();
    read.into_iter().collect()
}
