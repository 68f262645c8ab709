//! What may leave of an upstream's answer: the declared fields, and nothing else.
//!
//! - A field is required unless it says `optional: true`. Absent and `null` are the same: a required field that is
//!   missing makes the output unusable, an optional one is left out.
//! - A scalar's path may match one value; several are an error, never the first of them.
//! - An array takes the items of the one array that its path names, or, if the path can match several values
//!   (`[*]`), the matches themselves; then none at all is an empty array. Items past `max_items` are cut off, which
//!   the shaped output states.
//! - Numbers are exact: as written, except that `integer` and `decimal_minor(n)` come out as plain integers.
//!   `decimal_minor(2)` makes `1234` of `12.34`, `"12.34"` and `12.340`, and refuses `12.345`.

mod apply;
mod parse;
mod untrusted;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json_path::JsonPath;

pub use parse::{ProjectionError, parse_path};
pub use untrusted::{Finding, Untrusted, examine};

/// Declared fields, by name. The default keeps nothing.
#[derive(Clone, Debug, Default)]
pub struct Projection {
    fields: Fields,
}

type Fields = BTreeMap<String, Field>;

/// One declared field.
#[derive(Clone, Debug)]
struct Field {
    path: JsonPath,
    /// Whether the path can match at most one value.
    singular: bool,
    optional: bool,
    kind: Kind,
}

/// What a field's value must be.
#[derive(Clone, Debug)]
enum Kind {
    Scalar { of: Scalar, allowed: Vec<Value> },
    DecimalMinor { places: u8 },
    Array { max_items: usize, items: Items },
    Object { fields: Fields },
}

/// What an array's items must be.
#[derive(Clone, Debug)]
enum Items {
    Each(Box<Kind>),
    Fields(Fields),
}

/// The types of a value that holds no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scalar {
    Any,
    String,
    Integer,
    Number,
    Boolean,
}

/// The declared fields of an answer.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Shaped {
    /// An object with the declared fields.
    pub output: Value,
    /// JSON pointers of the arrays of which items were cut off.
    pub truncated: Vec<String>,
}

impl fmt::Debug for Shaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shaped").field("truncated", &self.truncated).finish_non_exhaustive()
    }
}

/// Why an answer has no usable output. Names the declared field and the rule, never the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputError {
    /// The declared field, as in `items[2].price`; empty for the whole answer.
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

impl OutputError {
    /// The whole answer is unusable.
    pub fn whole(problem: impl Into<String>) -> Self {
        Self { path: String::new(), problem: problem.into() }
    }
}

impl Projection {
    /// Reads the declaration, a map from name to field.
    pub fn parse(value: &Value) -> Result<Self, ProjectionError> {
        parse::fields(value).map(|fields| Self { fields })
    }

    /// Whether it keeps nothing.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether a field on the first level must be there.
    pub fn requires_something(&self) -> bool {
        self.fields.values().any(|field| !field.optional)
    }

    /// How deep the output is: 1 if all fields are scalars or arrays of scalars, one more for each `fields` within.
    pub fn depth(&self) -> usize {
        depth(&self.fields)
    }

    /// The names of the fields on the first level.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// A JSON Schema of the output, for the model that reads it.
    pub fn output_schema(&self) -> Value {
        parse::schema_of(&self.fields)
    }

    /// The declared fields of this answer.
    pub fn apply(&self, answer: &Value) -> Result<Shaped, OutputError> {
        apply::apply(&self.fields, answer)
    }

    /// As many of the declared fields as this answer has: for a refusal's `problem`, where something is better than
    /// nothing.
    pub fn apply_leniently(&self, answer: &Value) -> Shaped {
        apply::apply_leniently(&self.fields, answer)
    }
}

fn depth(fields: &Fields) -> usize {
    1 + fields.values().map(|field| inner_depth(&field.kind)).max().unwrap_or(0)
}

fn inner_depth(kind: &Kind) -> usize {
    match kind {
        Kind::Scalar { .. } | Kind::DecimalMinor { .. } => 0,
        Kind::Array { items: Items::Each(kind), .. } => inner_depth(kind),
        Kind::Array { items: Items::Fields(fields), .. } | Kind::Object { fields } => depth(fields),
    }
}
