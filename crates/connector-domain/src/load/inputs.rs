//! The inputs of a definition.

use safeconduct_types::{Provenance, ProvenanceSet};
use serde_json_path::JsonPath;

use super::reader::{Fields, Reader, short};
use super::yaml::{Kind, Node};
use crate::definition::{Choices, Input, InputName, Source};
use crate::diagnostic::Code;
use crate::schema::Schema;

/// The most inputs of a connector.
const MAX_INPUTS: usize = 32;

/// All inputs, or `None` if one of them could not be read.
pub(super) fn inputs(r: &mut Reader, node: &Node) -> Option<std::collections::BTreeMap<InputName, Input>> {
    let members = r.members_up_to(node, "`inputs`", MAX_INPUTS)?;
    let read: Vec<_> = members
        .iter()
        .map(|member| {
            let name = r_name(r, member);
            let input = input(r, &member.value);
            Some((name?, input?))
        })
        .collect();
    read.into_iter().collect()
}

fn r_name(r: &mut Reader, member: &super::yaml::Member) -> Option<InputName> {
    member.name.parse().map_err(|error| r.report(Code::BadValue, &member.place, format!("{error}"))).ok()
}

fn input(r: &mut Reader, node: &Node) -> Option<Input> {
    let fields = r.fields(
        node,
        "an input",
        &["from", "constant", "accept", "max_age", "identifies", "optional", "plain", "default", "schema", "choices"],
        &["owned_by", "asserted", "derive", "display", "quote"],
    )?;
    let source = source(r, fields, node);
    let accept = match fields.get("accept") {
        Some(node) => accept(r, node),
        None => Some(source.as_ref().map_or(ProvenanceSet::NONE, possible_by_default)),
    };
    let max_age = fields.get("max_age").map(|node| r.duration(node, "`max_age`", "1s", "90d"));
    let identifies = r.flag(fields, "identifies");
    let optional = r.flag(fields, "optional");
    let plain = r.flag(fields, "plain");
    let default = fields.get("default").map(Node::to_json);
    let schema = fields.get("schema").map(|node| {
        Schema::compile(&node.to_json())
            .map_err(|error| r.report(Code::SchemaInvalid, node.place_at(error.pointer()), error.to_string()))
            .ok()
    });
    let choices = fields.get("choices").map(|node| choices(r, node));
    Some(Input {
        source: source?,
        accept: accept?,
        max_age: flatten(max_age)?,
        identifies: identifies?,
        optional: optional? || default.is_some(),
        plain: plain?,
        default,
        schema: flatten(schema)?,
        choices: flatten(choices)?,
    })
}

/// What is absent is fine; what is there must have been read.
#[allow(clippy::option_option, reason = "absent, unreadable and read are three things")]
pub(super) fn flatten<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    match field {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}

fn source(r: &mut Reader, fields: Fields<'_>, node: &Node) -> Option<Source> {
    match (fields.get("from"), fields.get("constant")) {
        (Some(from), None) => from_text(r, from),
        (None, Some(constant)) => Some(Source::Constant(constant.to_json())),
        (Some(from), Some(_)) => {
            r.report(Code::InputContradiction, &from.place, "an input has either `from` or `constant`");
            None
        }
        (None, None) => {
            // `derive` was refused by name already.
            if fields.get("derive").is_none() {
                let message = "an input needs `from` (contact.attributes.NAME, contact.id, contact.proven.email, \
                               contact.proven.phone, agent, caller) or `constant`";
                r.report(Code::MissingField, &node.place, message);
            }
            None
        }
    }
}

fn from_text(r: &mut Reader, node: &Node) -> Option<Source> {
    let text = r.text(node, "`from`", 128)?;
    let source = match text {
        "agent" => Source::Agent,
        "caller" => Source::Caller,
        "contact.id" => Source::ContactId,
        "contact.proven.email" => Source::ProvenEmail,
        "contact.proven.phone" => Source::ProvenPhone,
        _ => {
            let Some(name) = text.strip_prefix("contact.attributes.") else {
                let message = "`from` is contact.attributes.NAME, contact.id, contact.proven.email, \
                               contact.proven.phone, agent or caller";
                r.report(Code::BadValue, &node.place, message);
                return None;
            };
            Source::ContactAttribute(r.ok(name.parse(), node, "`from`", Code::BadValue)?)
        }
    };
    Some(source)
}

/// What a source is accepted with if the file does not say.
fn possible_by_default(source: &Source) -> ProvenanceSet {
    use Provenance::{Agent, Caller, Constant, OtpEmail, OtpSms, Server, SignedHash, SignedToken};
    let all: &[Provenance] = match source {
        Source::ContactAttribute(_) => &[Server, SignedHash, SignedToken],
        Source::ContactId => &[OtpSms, OtpEmail, Server, SignedHash, SignedToken],
        Source::ProvenEmail => &[OtpEmail],
        Source::ProvenPhone => &[OtpSms],
        Source::Agent => &[Agent],
        Source::Caller => &[Caller, Server],
        Source::Constant(_) => &[Constant],
    };
    all.iter().copied().collect()
}

fn accept(r: &mut Reader, node: &Node) -> Option<ProvenanceSet> {
    let items = r.items(node, "`accept`", 16)?;
    if items.is_empty() {
        r.report(Code::BadValue, &node.place, "`accept` names at least one provenance");
        return None;
    }
    let mut accept = ProvenanceSet::NONE;
    let mut whole = true;
    for item in items {
        match r.text(item, "a provenance", 64) {
            Some("SIGNED") => accept = accept.with(Provenance::SignedHash).with(Provenance::SignedToken),
            Some(word @ ("CHOICE" | "UPSTREAM")) => {
                r.not_yet(&item.place, &format!("`{word}` in `accept`"));
                whole = false;
            }
            Some(word) => match r.ok(word.parse::<Provenance>(), item, "`accept`", Code::BadValue) {
                Some(one) => accept = accept.with(one),
                None => whole = false,
            },
            None => whole = false,
        }
    }
    whole.then_some(accept)
}

fn choices(r: &mut Reader, node: &Node) -> Option<Choices> {
    let fields = r.fields(
        node,
        "`choices`",
        &["connector", "items", "value", "max"],
        &["label", "description", "inputs", "query"],
    )?;
    let connector = r.required(fields, "connector").and_then(|node| r.parsed(node, "`connector`", Code::BadValue));
    let items = r.required(fields, "items").and_then(|node| path(r, node, "`items`"));
    let value = r.required(fields, "value").and_then(|node| path(r, node, "`value`"));
    let max = fields.get("max").map_or(Some(100), |node| r.whole(node, "`max`", 1, 1000));
    Some(Choices { connector: connector?, items: items?, value: value?, max: max? })
}

fn path(r: &mut Reader, node: &Node, what: &str) -> Option<JsonPath> {
    let text = r.text(node, what, 256)?;
    r.ok(JsonPath::parse(text).map_err(|error| format!("no JSONPath (RFC 9535): {error}")), node, what, Code::BadValue)
}

/// `inputs.NAME`, as `same` lists them.
pub(super) fn references(r: &mut Reader, node: &Node, what: &str) -> Option<Vec<InputName>> {
    let items = r.items(node, what, MAX_INPUTS)?;
    let read: Vec<Option<InputName>> = items
        .iter()
        .map(|item| {
            let text = r.text(item, what, 64)?;
            let name = text.strip_prefix("inputs.").and_then(|name| name.parse().ok());
            if name.is_none() {
                let message = format!("{what} lists inputs as `inputs.NAME`; `{}` is none", short(text));
                r.report(Code::BadValue, &item.place, message);
            }
            name
        })
        .collect();
    let mut names: Vec<InputName> = Vec::new();
    for (name, item) in read.into_iter().zip(items) {
        let name = name?;
        if names.contains(&name) {
            r.report(Code::DuplicateField, &item.place, format!("{what} lists `{name}` twice; remove one"));
        } else {
            names.push(name);
        }
    }
    Some(names)
}

/// Whether a node is written at all.
pub(super) const fn is_scalar(node: &Node) -> bool {
    matches!(node.kind, Kind::Bool(_) | Kind::Number(_) | Kind::Text(_))
}
