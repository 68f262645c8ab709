//! The request keeps its shape, whoever supplies the values.

use std::collections::BTreeSet;

use safeconduct_types::Provenance;

use super::{Read, input_of, is_reserved_header, pattern, undeclared};
use crate::definition::{Connector, Effect, InputName, KeyPlace, Method, Source};
use crate::diagnostic::{Code, Place};
use crate::load::reader::Reader;
use crate::template::Reference;

/// Checks the request and answers which inputs appear in it.
pub(super) fn check(r: &mut Reader, read: &Read) -> BTreeSet<InputName> {
    let Read { connector, spec, .. } = read;
    let request = &connector.request;
    let mut used = BTreeSet::new();

    let at = |path: &[&str]| spec.place_of(&[&["request"], path].concat()).clone();
    let path = at(&["path"]);
    references(r, connector, &path, "`path`", request.path.references(), &mut used);
    embedded(r, connector, &path, "`path`", request.path.embedded());
    for name in request.path.references().filter_map(input_of) {
        if connector.inputs.get(name).is_some_and(|input| input.optional && input.default.is_none()) {
            let message =
                format!("`inputs.{name}` is optional and stands in the path; make it required or give it a default");
            r.report(Code::OptionalInPath, &path, message);
        }
    }
    for (name, values) in &request.query {
        let place = at(&["query", name]);
        for value in values.values() {
            references(r, connector, &place, "`query`", value.references(), &mut used);
            embedded(r, connector, &place, "`query`", value.embedded());
        }
    }
    for (n, (name, value)) in request.headers.iter().enumerate() {
        let place = header_place(read, n);
        references(r, connector, &place, "`headers`", value.references(), &mut used);
        embedded(r, connector, &place, "`headers`", value.embedded());
        header(r, &place, name, value.references().next().is_some());
    }
    if let Some(body) = &request.body {
        let place = at(&["body", "json"]);
        references(r, connector, &place, "`body`", body.references(), &mut used);
        embedded(r, connector, &place, "`body`", body.embedded());
        if matches!(request.method, Method::Get | Method::Head) {
            let message = format!("a {} has no body; use the query, or another method", request.method.as_str());
            r.report(Code::BodyOnGet, &at(&["body"]), message);
        }
    }
    method(r, connector, &at(&["method"]));
    key_place(r, read);
    used
}

/// The place of the header that was read as the `n`th: its name in the file need not be in lower case.
fn header_place(Read { spec, .. }: &Read, n: usize) -> Place {
    use crate::load::yaml::Kind;
    let headers = spec.get("request").and_then(|request| request.value.get("headers"));
    headers
        .and_then(|headers| match &headers.value.kind {
            Kind::Map(members) => members.get(n).map(|member| member.place.clone()),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) => None,
        })
        .unwrap_or_else(|| spec.place.clone())
}

fn references<'a>(
    r: &mut Reader,
    connector: &Connector,
    place: &Place,
    what: &str,
    all: impl Iterator<Item = &'a Reference>,
    used: &mut BTreeSet<InputName>,
) {
    for reference in all {
        match reference {
            Reference::Input(name) if connector.inputs.contains_key(name) => {
                used.insert(name.clone());
            }
            Reference::Input(name) => undeclared(r, place, what, name, connector),
            Reference::UpstreamKey => {
                if connector.idempotency.as_ref().is_none_or(|one| one.upstream_key.is_none()) {
                    let message = format!("{what} refers to the upstream's key; declare `idempotency.upstream_key`");
                    r.report(Code::UndeclaredReference, place, message);
                }
            }
        }
    }
}

/// A value inside a longer text cannot change what the text means.
fn embedded<'a>(
    r: &mut Reader,
    connector: &Connector,
    place: &Place,
    what: &str,
    all: impl Iterator<Item = &'a Reference>,
) {
    for name in all.filter_map(input_of) {
        let Some(input) = connector.inputs.get(name) else { continue };
        let weak = input.accept.iter().any(|one| one < Provenance::Server && one != Provenance::Constant);
        if !weak || matches!(input.source, Source::Constant(_) | Source::ContactId) {
            continue;
        }
        if !input.schema.as_ref().is_some_and(|schema| pattern::leaves_no_room(schema.as_value())) {
            let message = format!(
                "`inputs.{name}` stands inside a longer text in {what} and could change what it means; give it a schema \
                 that is a number, an `enum`, or a `pattern` anchored with `^` and `$` of letters, digits, `_` and `-`, \
                 or send it as a value of its own"
            );
            r.report(Code::EmbeddedUnguarded, place, message);
        }
    }
}

fn header(r: &mut Reader, place: &Place, name: &str, templated: bool) {
    if is_reserved_header(name) {
        let message = match name {
            "authorization" | "cookie" => format!("header `{name}` opens the upstream; declare a credential instead"),
            _ => format!("header `{name}` is not a definition's to set; remove it"),
        };
        r.report(Code::HeaderForbidden, place, message);
    } else if name == "content-type" && templated {
        r.report(Code::HeaderForbidden, place, "header `content-type` holds no reference; write the type itself");
    }
}

fn method(r: &mut Reader, connector: &Connector, place: &Place) {
    let fits = match (connector.effect, connector.request.method) {
        (Effect::Read, Method::Get | Method::Head | Method::Post)
        | (Effect::Write, Method::Post | Method::Put | Method::Patch | Method::Delete) => true,
        (Effect::Read, Method::Put | Method::Patch | Method::Delete) | (Effect::Write, Method::Get | Method::Head) => {
            false
        }
    };
    if !fits {
        let (effect, may) = match connector.effect {
            Effect::Read => ("read", "GET, HEAD or POST"),
            Effect::Write => ("write", "POST, PUT, PATCH or DELETE"),
        };
        let message =
            format!("a {effect} uses {may}, not {}; correct `method` or `effect`", connector.request.method.as_str());
        r.report(Code::MethodEffect, place, message);
    }
}

/// The upstream's key has a place of its own.
fn key_place(r: &mut Reader, Read { connector, spec, .. }: &Read) {
    let Some(key) = connector.idempotency.as_ref().and_then(|one| one.upstream_key.as_ref()) else { return };
    match &key.place {
        KeyPlace::Natural => {}
        KeyPlace::Header(name) => {
            let place = spec.place_of(&["idempotency", "upstream_key", "header"]);
            if is_reserved_header(name) || name == "content-type" {
                r.report(
                    Code::HeaderForbidden,
                    place,
                    format!("header `{name}` cannot carry the key; name the API's own"),
                );
            }
            if connector.request.headers.iter().any(|(one, _)| one == name) {
                let message = format!("header `{name}` is declared under `headers` as well; remove it there");
                r.report(Code::KeyPlace, place, message);
            }
        }
        KeyPlace::Field(names) => {
            let place = spec.place_of(&["idempotency", "upstream_key", "field"]);
            let body = spec
                .get("request")
                .and_then(|request| request.value.get("body"))
                .and_then(|body| body.value.get("json"))
                .map(|json| json.value.to_json());
            if let Err(message) = free_field(body.as_ref(), names) {
                r.report(Code::KeyPlace, place, message);
            }
        }
    }
}

/// Whether a member can be added to the body under this path.
fn free_field(body: Option<&serde_json::Value>, names: &[String]) -> Result<(), &'static str> {
    let mut value = body.ok_or("the key's field needs a JSON body; declare `request.body.json`")?;
    for (n, name) in names.iter().enumerate() {
        let members = value.as_object().ok_or("the key's field does not lie in an object of the body")?;
        match (members.get(name), n + 1 == names.len()) {
            (Some(_), true) => return Err("the key's field stands in the body already; remove it there"),
            (Some(next), false) => value = next,
            (None, _) => return Ok(()),
        }
    }
    Ok(())
}
