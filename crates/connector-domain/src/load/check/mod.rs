//! What the parts of a definition say about each other: the checks that keep one contact from acting for another, a
//! write from happening twice, and a request in its shape.

mod choices;
mod inputs;
pub(super) mod limits;
mod pattern;
mod repeats;
mod request;

pub(super) use choices::{Families, choices};
pub(super) use repeats::family;

use std::collections::BTreeSet;

use super::limits::Declared;
use super::reader::Reader;
use super::yaml::Node;
use crate::definition::{Connector, Effect, InputName, Mode};
use crate::diagnostic::Code;
use crate::template::Reference;

/// A definition, and the tree that it was read from, for places.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) connector: Connector,
    pub(super) spec: Node,
    /// Its `limits`, not yet resolved.
    pub(super) limits: Vec<Declared>,
}

/// Everything that one definition alone can get wrong. `attributes`: those that the workspace declares, if it does.
pub(super) fn connector(r: &mut Reader, read: &Read, attributes: Option<&BTreeSet<String>>) {
    let mut used = request::check(r, read);
    used.extend(limits::used(&read.limits));
    inputs::check(r, read, &used, attributes);
    effect(r, read);
    repeats::alone(r, read);
    limits::alone(r, read);
    let Read { connector, spec, .. } = read;
    if connector.response.mode == Mode::Simple && connector.response.output.depth() > 2 {
        let message =
            "the output has more than two levels; reach the values directly by their path, or declare `mode: task`";
        r.report(Code::OutputTooDeep, spec.place_of(&["response", "output"]), message);
    }
}

/// A repeat of a write is recognised; a read has nothing to recognise.
fn effect(r: &mut Reader, Read { connector, spec, .. }: &Read) {
    let same = connector.idempotency.iter().flat_map(|one| &one.same);
    for name in same {
        if !connector.inputs.contains_key(name) {
            undeclared(r, spec.place_of(&["idempotency", "same"]), "`same`", name, connector);
        }
    }
    match (connector.effect, &connector.idempotency) {
        (Effect::Write, one) if one.as_ref().is_none_or(|one| one.same.is_empty()) => {
            let message = "a write needs `idempotency: {same: [inputs.…]}`: the inputs that make two requests the same";
            r.report(Code::SameMissing, spec.place_of(&["idempotency", "same"]), message);
        }
        (Effect::Read, Some(one)) if !one.same.is_empty() || one.upstream_key.is_some() => {
            let message = "a read has no effect to guard; remove `same` and `upstream_key`, or say `effect: write`";
            r.report(Code::ReadWithSame, spec.place_of(&["idempotency"]), message);
        }
        (Effect::Read | Effect::Write, _) => {}
    }
}

fn undeclared(r: &mut Reader, place: &crate::diagnostic::Place, what: &str, name: &InputName, connector: &Connector) {
    let known = connector.inputs.keys().map(InputName::as_str);
    let hint = super::reader::nearest(name.as_str(), known)
        .map_or_else(|| "declare it under `inputs`".to_owned(), |near| format!("did you mean `inputs.{near}`?"));
    r.report(
        Code::UndeclaredReference,
        place,
        format!("{what} refers to `inputs.{name}`, which is not declared; {hint}"),
    );
}

/// The inputs among these references.
fn input_of(reference: &Reference) -> Option<&InputName> {
    match reference {
        Reference::Input(name) => Some(name),
        Reference::UpstreamKey => None,
    }
}

/// Whether this header (by its lower-case name) frames or routes a request, or speaks for its sender: then no
/// definition sets it.
pub fn is_reserved_header(name: &str) -> bool {
    const EXACT: [&str; 20] = [
        "host",
        "authorization",
        "cookie",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "forwarded",
        "via",
        "accept-encoding",
        "traceparent",
        "tracestate",
        "baggage",
        "range",
        "http2-settings",
    ];
    EXACT.contains(&name)
        || ["proxy-", "x-forwarded-", ":"].iter().any(|prefix| name.starts_with(prefix))
        || matches!(name, "x-real-ip" | "x-http-method-override" | "x-method-override" | "x-http-method")
}
