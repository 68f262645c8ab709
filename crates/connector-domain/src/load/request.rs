//! The request of a definition, and what is asked for again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::inputs::{flatten, is_scalar};
use super::reader::{Reader, short};
use super::yaml::{Kind, Node};
use crate::definition::{Method, QueryValue, Request, Retry};
use crate::diagnostic::Code;
use crate::template::{JsonTemplate, PathTemplate, ValueTemplate};

const MAX_PARAMETERS: usize = 32;
const MAX_TEMPLATE: usize = 2048;

/// What an attempt may take if the file does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(8);
/// The statuses that are asked for again if the file does not say.
const DEFAULT_RETRY_ON: [u16; 5] = [429, 500, 502, 503, 504];

pub(super) fn request(r: &mut Reader, node: &Node) -> Option<Request> {
    let fields = r.fields(
        node,
        "`request`",
        &["upstream", "method", "path", "query", "headers", "body", "timeout"],
        &["when", "assert", "extract", "owns", "redirects", "outcomes", "credential"],
    )?;
    let upstream = r.required(fields, "upstream").and_then(|node| r.parsed(node, "`upstream`", Code::BadValue));
    let methods = Method::ALL.map(|method| (method.as_str(), method));
    let method = r.required(fields, "method").and_then(|node| r.word(node, "`method`", &methods, &[]));
    let path = r.required(fields, "path").and_then(|node| {
        let text = r.text(node, "`path`", MAX_TEMPLATE)?;
        r.ok(PathTemplate::parse(text), node, "`path`", Code::TemplateInvalid)
    });
    let query = fields.get("query").map_or(Some(Vec::new()), |node| query(r, node));
    let headers = fields.get("headers").map_or(Some(Vec::new()), |node| headers(r, node));
    let body = fields.get("body").map(|node| body(r, node));
    let timeout =
        fields.get("timeout").map_or(Some(DEFAULT_TIMEOUT), |node| r.duration(node, "`timeout`", "100ms", "15s"));
    Some(Request {
        upstream: upstream?,
        method: method?,
        path: path?,
        query: query?,
        headers: headers?,
        body: flatten(body)?,
        timeout: timeout?,
    })
}

/// A parameter's or header's value: a template, or a number or boolean as it is written.
fn value(r: &mut Reader, node: &Node, what: &str) -> Option<ValueTemplate> {
    let text = match &node.kind {
        Kind::Number(number) => number.to_string(),
        Kind::Bool(value) => value.to_string(),
        Kind::Null | Kind::Text(_) | Kind::List(_) | Kind::Map(_) => r.text(node, what, MAX_TEMPLATE)?.to_owned(),
    };
    r.ok(ValueTemplate::parse(&text), node, what, Code::TemplateInvalid)
}

fn query(r: &mut Reader, node: &Node) -> Option<Vec<(String, QueryValue)>> {
    let members = r.members_up_to(node, "`query`", MAX_PARAMETERS)?;
    let read: Vec<_> = members
        .iter()
        .map(|member| {
            let what = format!("parameter `{}`", short(&member.name));
            if member.name.is_empty() || member.name.len() > 128 || member.name.contains("${") {
                let message = "a parameter's name is a text of 1 to 128 bytes without references";
                r.report(Code::TemplateInvalid, &member.place, message);
                return None;
            }
            let values = if is_scalar(&member.value) {
                QueryValue::One(value(r, &member.value, &what)?)
            } else {
                let items: Vec<_> =
                    r.items(&member.value, &what, MAX_PARAMETERS)?.iter().map(|item| value(r, item, &what)).collect();
                QueryValue::Many(items.into_iter().collect::<Option<_>>()?)
            };
            Some((member.name.clone(), values))
        })
        .collect();
    read.into_iter().collect()
}

fn headers(r: &mut Reader, node: &Node) -> Option<Vec<(String, ValueTemplate)>> {
    let members = r.members_up_to(node, "`headers`", MAX_PARAMETERS)?;
    let mut names = BTreeSet::new();
    let read: Vec<_> = members
        .iter()
        .map(|member| {
            let name = header_name(r, &member.name, &member.place)?;
            if !names.insert(name.clone()) {
                let message = format!("header `{name}` stands twice (case does not matter); remove one");
                r.report(Code::DuplicateField, &member.place, message);
            }
            Some((name.clone(), value(r, &member.value, &format!("header `{name}`"))?))
        })
        .collect();
    read.into_iter().collect()
}

/// A header's name in lower case.
pub(super) fn header_name(r: &mut Reader, text: &str, place: &crate::diagnostic::Place) -> Option<String> {
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(token) {
        r.report(Code::BadValue, place, "a header's name is 1 to 64 letters, digits and `-`");
        return None;
    }
    Some(text.to_ascii_lowercase())
}

fn body(r: &mut Reader, node: &Node) -> Option<JsonTemplate> {
    let fields = r.fields(node, "`body`", &["json"], &["form", "xml", "multipart", "text", "graphql"])?;
    if fields.get("json").is_none() && matches!(&node.kind, Kind::Map(members) if !members.is_empty()) {
        return None; // said already: another kind of body, or a misspelt one
    }
    let json = r.required(fields, "json")?;
    JsonTemplate::parse(&json.to_json())
        .map_err(|error| r.report(Code::TemplateInvalid, json.place_at(error.pointer()), error.to_string()))
        .ok()
}

/// What the file says of retries. `safe`: whether a second attempt cannot have a second effect.
pub(super) fn retry(r: &mut Reader, node: Option<&Node>, safe: bool) -> Option<Retry> {
    let default = Retry { attempts: if safe { 3 } else { 1 }, on: BTreeSet::from(DEFAULT_RETRY_ON) };
    let Some(node) = node else { return Some(default) };
    let fields = r.fields(node, "`retry`", &["attempts", "on"], &["backoff", "budget"])?;
    let attempts =
        fields.get("attempts").map_or(Some(u32::from(default.attempts)), |node| r.whole(node, "`attempts`", 1, 5));
    let on = match fields.get("on") {
        Some(node) => {
            let on = r.statuses(node, "`on`");
            if on.iter().flatten().any(|status| *status != 429 && *status < 500) {
                r.report(
                    Code::RetryStatus,
                    &node.place,
                    "only 429 and 500 to 599 are asked for again; remove the others",
                );
            }
            on
        }
        None => Some(default.on),
    };
    let attempts = u8::try_from(attempts?).ok()?;
    if !safe && attempts > 1 {
        let message = "a second attempt of this write could happen twice; declare `idempotency.upstream_key`, or set \
                       `attempts: 1`";
        r.report(Code::RetryCouldDouble, node.place_of(&["attempts"]), message);
    }
    Some(Retry { attempts, on: on? })
}
