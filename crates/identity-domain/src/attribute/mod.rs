//! What may be known of contacts (`spec.attributes` of a workspace file), and who may say it.
//!
//! Everything that is not declared is refused. A name is exactly the declared bytes, of a-z, 0-9 and `_`: another case,
//! a look-alike of another script, an invisible character or a path into another value is another name, hence unknown.

mod change;
mod policy;
mod schema;

pub use change::{Applied, Change, Refused, Writer, apply};
pub use policy::{AttributePolicy, Rule};
pub use schema::Schema;

use safeconduct_types::Violation;
use serde_json::Value;

use crate::strict_json;

/// Most bytes of a value, as JSON text.
pub const MAX_VALUE: usize = 4096;
/// Most attributes that one request may change.
pub const MAX_CHANGES: usize = 64;
/// How deep a value may be nested.
const MAX_DEPTH: usize = 8;

/// A value as a caller sends it: JSON in which no member occurs twice, within the bounds. `null` is no value.
pub fn parse_value(text: &str, field: &str) -> Result<Option<Value>, Violation> {
    let wrong = |what: &str| Violation::new(field, what);
    if text.len() > MAX_VALUE {
        return Err(wrong("must have at most 4096 bytes"));
    }
    let wrapped = format!("{{\"v\":{text}}}");
    let mut object: serde_json::Map<String, Value> = strict_json::object(wrapped.as_bytes())
        .map_err(|_| wrong("must be one JSON value in which no member occurs twice"))?;
    // More than one member: the text was no single value.
    match (object.remove("v"), object.is_empty()) {
        (Some(Value::Null), true) => Ok(None),
        (Some(value), true) if fits(&value) => Ok(Some(value)),
        (Some(_), true) => Err(wrong("must not be nested deeper than 8")),
        (_, _) => Err(wrong("must be one JSON value in which no member occurs twice")),
    }
}

/// Whether a value keeps the bounds that hold whatever the schema says.
pub(crate) fn fits(value: &Value) -> bool {
    depth(value, 0) <= MAX_DEPTH
}

fn depth(value: &Value, at: usize) -> usize {
    if at > MAX_DEPTH {
        return at;
    }
    match value {
        Value::Array(items) => items.iter().map(|item| depth(item, at + 1)).max().unwrap_or(at),
        Value::Object(members) => members.values().map(|member| depth(member, at + 1)).max().unwrap_or(at),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => at,
    }
}

#[cfg(test)]
mod tests;
