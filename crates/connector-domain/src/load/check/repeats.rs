//! What guards a write against being done twice: in one definition, and over all versions of a family.

use std::collections::{BTreeMap, BTreeSet};

use safeconduct_types::Version;
use serde_json::Value;

use super::Read;
use crate::definition::{Connector, Effect, Input, InputName, KeyPlace};
use crate::diagnostic::Code;
use crate::load::reader::Reader;

/// The most bytes that a write may read of an answer: what is made of it is kept in the execution's record.
const MOST_ANSWER_OF_WRITE: usize = 64 * 1024;
/// What a value can be where no schema says it.
const JSON_TYPES: [&str; 6] = ["array", "boolean", "null", "number", "object", "string"];

/// What one definition says of repeats fits together.
pub(super) fn alone(r: &mut Reader, Read { connector, spec, .. }: &Read) {
    if connector.effect == Effect::Write && connector.response.max_bytes > MOST_ANSWER_OF_WRITE {
        let message = format!(
            "the answer of a write is kept in its record and has at most {MOST_ANSWER_OF_WRITE} bytes; lower \
             `max_bytes`, and fetch what is longer with a read"
        );
        r.report(Code::AnswerTooLarge, spec.place_of(&["response", "max_bytes"]), message);
    }
    let Some(one) = &connector.idempotency else { return };
    let Some(key) = &one.upstream_key else { return };
    if key.honoured_for.is_some_and(|honoured_for| one.retain < honoured_for) {
        let message = "`retain` is shorter than `honoured_for` (without one it is 72h): a request that is forgotten \
                       here would still get its old answer from the upstream; set `retain` to at least `honoured_for`";
        r.report(Code::RetainTooShort, spec.place_of(&["idempotency", "retain"]), message);
    }
    if key.replays_errors && key.in_progress.is_empty() {
        let message = "`replays_errors: true` needs `in_progress`, such as `[409]`: the statuses that mean that the \
                       first request is still running and are no refusal";
        r.report(Code::InProgressMissing, spec.place_of(&["idempotency", "upstream_key", "replays_errors"]), message);
    }
}

/// Every version of a family recognises the requests of every other: they share their records, so a request that moves
/// from one version to the next must be the same request there.
pub(in crate::load) fn family(r: &mut Reader, versions: &BTreeMap<Version, Option<Read>>) {
    // A version that could not be read has findings of its own.
    let mut readable: Vec<_> = versions.values().flatten().collect();
    // So that v10 comes after v9.
    readable.sort_by_key(|read| read.connector.version.as_str().len());
    let mut readable = readable.into_iter();
    let Some(first) = readable.next() else { return };
    for later in readable {
        agree(r, &first.connector, later);
    }
}

fn agree(r: &mut Reader, first: &Connector, Read { connector, spec, .. }: &Read) {
    let version = &first.version;
    if first.effect != connector.effect {
        let message = format!("version {version} has another `effect`; give one of the two another name");
        r.report(Code::FamilyDisagrees, spec.place_of(&["effect"]), message);
        return;
    }
    if connector.effect == Effect::Read {
        return;
    }
    let mut disagree = |what: &str| {
        let message = format!(
            "{what} differs from version {version}, so that a request moved between the two would be made twice; use \
             the same in both, or give this connector another name"
        );
        r.report(Code::FamilyDisagrees, spec.place_of(&["idempotency"]), message);
    };
    let (ours, theirs) = (same(connector), same(first));
    if ours != theirs {
        disagree("the set of inputs in `same`");
    }
    for name in ours.intersection(&theirs) {
        let (Some(ours), Some(theirs)) = (connector.inputs.get(*name), first.inputs.get(*name)) else { continue };
        if ours.source != theirs.source {
            disagree(&format!("the source of `inputs.{name}`"));
        }
        if types(ours) != types(theirs) {
            disagree(&format!("the JSON type of `inputs.{name}` (`type` of its `schema`)"));
        }
        // What is left out counts as its default.
        if ours.default != theirs.default {
            disagree(&format!("the default of `inputs.{name}`"));
        }
    }
    if key_place(connector) != key_place(first) {
        disagree("the place of `upstream_key`, or whether there is one,");
    }
}

fn same(connector: &Connector) -> BTreeSet<&InputName> {
    connector.idempotency.iter().flat_map(|one| &one.same).collect()
}

fn key_place(connector: &Connector) -> Option<&KeyPlace> {
    Some(&connector.idempotency.as_ref()?.upstream_key.as_ref()?.place)
}

/// The types that the schema leaves: as it names them, or those of the values that it lists. An integer is a number.
fn types(input: &Input) -> BTreeSet<&str> {
    let schema = input.schema.as_ref().map(crate::schema::Schema::as_value);
    let field = |name: &str| schema.and_then(|schema| schema.get(name));
    match (field("type"), field("enum"), field("const")) {
        (Some(Value::String(one)), _, _) => BTreeSet::from([json_type(one)]),
        (Some(Value::Array(many)), _, _) => many.iter().filter_map(Value::as_str).map(json_type).collect(),
        (_, Some(Value::Array(values)), _) => values.iter().map(type_of).collect(),
        (_, _, Some(value)) => BTreeSet::from([type_of(value)]),
        _ => BTreeSet::from(JSON_TYPES),
    }
}

fn json_type(schema_type: &str) -> &str {
    if schema_type == "integer" { "number" } else { schema_type }
}

const fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
