//! Reading the declaration of an output.

use std::fmt;

use serde_json::{Map, Value, json};
use serde_json_path::JsonPath;

use super::{Field, Fields, Items, Kind, Scalar};
use crate::json::contains_reserved;

/// Longest path expression, in characters.
const MAX_PATH: usize = 256;
/// Fields of one declaration, on one level.
const MAX_FIELDS: usize = 100;
/// `fields` within `fields`.
const MAX_DEPTH: usize = 8;
/// Items that an array may keep, and how many it keeps if it does not say.
const MAX_ITEMS: usize = 1000;
const DEFAULT_ITEMS: usize = 100;
/// Decimal places of `decimal_minor`.
const MAX_PLACES: u8 = 18;

/// Why a declaration makes no sense. Operator-written text only, so it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionError {
    message: String,
    pointer: String,
}

impl ProjectionError {
    /// Where, as a JSON pointer into the declaration; empty for all of it.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }
}

impl fmt::Display for ProjectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ProjectionError {}

/// Reads a JSONPath (RFC 9535) within bounds: 256 characters, `..` once, since each one multiplies the work.
pub fn parse_path(text: &str) -> Result<JsonPath, String> {
    if text.chars().count() > MAX_PATH || text.matches("..").count() > 1 {
        return Err("a path has at most 256 characters and one `..`".to_owned());
    }
    JsonPath::parse(text).map_err(|error| format!("is no JSONPath (RFC 9535): {error}"))
}

/// Whether the path can match at most one value: names and indexes only.
fn is_singular(path: &str) -> bool {
    let mut quote = None;
    let mut escaped = false;
    for c in path.chars() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if matches!(c, '*' | '?' | ':' | ',') => return false,
            Some(_) | None => {}
        }
    }
    // Within quotes this may be part of a name; then an array of one is expected, which is no worse.
    !path.contains("..")
}

struct At(String);

impl At {
    fn under(&self, name: &str) -> Self {
        Self(format!("{}/{}", self.0, name.replace('~', "~0").replace('/', "~1")))
    }

    fn error(&self, message: impl Into<String>) -> ProjectionError {
        ProjectionError { message: message.into(), pointer: self.0.clone() }
    }
}

pub(super) fn fields(value: &Value) -> Result<Fields, ProjectionError> {
    let at = At(String::new());
    if contains_reserved(value) {
        return Err(at.error("has a member with a reserved name"));
    }
    fields_at(value, &at, 0)
}

fn fields_at(value: &Value, at: &At, depth: usize) -> Result<Fields, ProjectionError> {
    let Value::Object(members) = value else {
        return Err(at.error("must be a map from a field's name to `{path: ...}`"));
    };
    if depth >= MAX_DEPTH {
        return Err(at.error("`fields` are nested at most 8 levels deep"));
    }
    if members.len() > MAX_FIELDS {
        return Err(at.error("at most 100 fields"));
    }
    let mut fields = Fields::new();
    for (name, member) in members {
        let here = at.under(name);
        if crate::schema::plain_word(name).is_none() {
            return Err(here.error("a field's name is 1 to 48 letters, digits, `_` and `-`"));
        }
        fields.insert(name.clone(), field_at(member, &here, depth)?);
    }
    Ok(fields)
}

fn field_at(value: &Value, at: &At, depth: usize) -> Result<Field, ProjectionError> {
    let Value::Object(members) = value else { return Err(at.error("must be a map with a `path`")) };
    let text = match members.get("path") {
        Some(Value::String(text)) => text,
        Some(_) => return Err(at.under("path").error("`path` must be a text")),
        None => return Err(at.error("needs a `path`")),
    };
    let path = parse_path(text).map_err(|message| at.under("path").error(message))?;
    let optional = match members.get("optional") {
        None => false,
        Some(Value::Bool(optional)) => *optional,
        Some(_) => return Err(at.under("optional").error("`optional` must be true or false")),
    };
    let kind = kind_at(members, at, depth, &["path", "optional"])?;
    Ok(Field { path, singular: is_singular(text), optional, kind })
}

fn kind_at(members: &Map<String, Value>, at: &At, depth: usize, also: &[&str]) -> Result<Kind, ProjectionError> {
    let only = |known: &[&str]| {
        let unknown = members.keys().find(|name| !known.contains(&name.as_str()) && !also.contains(&name.as_str()));
        unknown.map_or(Ok(()), |name| {
            Err(at
                .under(name)
                .error(format!("`{name}` has no place here; known are {}", [also, known].concat().join(", "))))
        })
    };
    if let Some(form) = members.get("as") {
        only(&["as"])?;
        return decimal_minor(form).map(|places| Kind::DecimalMinor { places }).ok_or_else(|| {
            at.under("as").error("`as` is `decimal_minor(N)` with N from 0 to 18, and stands instead of `type`")
        });
    }
    let of = match members.get("type").map(|name| name.as_str().unwrap_or_default()) {
        None if members.contains_key("fields") || members.contains_key("items") => {
            return Err(at.error("needs `type: object` or `type: array`"));
        }
        None => Scalar::Any,
        Some("string") => Scalar::String,
        Some("integer") => Scalar::Integer,
        Some("number") => Scalar::Number,
        Some("boolean") => Scalar::Boolean,
        Some("array") => {
            only(&["type", "max_items", "items"])?;
            return array_at(members, at, depth);
        }
        Some("object") => {
            only(&["type", "fields"])?;
            let Some(inner) = members.get("fields") else { return Err(at.error("an object needs its `fields`")) };
            return Ok(Kind::Object { fields: fields_at(inner, &at.under("fields"), depth + 1)? });
        }
        Some(_) => {
            return Err(at.under("type").error("`type` is string, integer, number, boolean, array or object"));
        }
    };
    only(&["type", "enum"])?;
    let allowed = match members.get("enum") {
        None => Vec::new(),
        Some(Value::Array(values)) if !values.is_empty() => values.clone(),
        Some(_) => return Err(at.under("enum").error("`enum` must be a list with at least one value")),
    };
    if let Some(index) = allowed.iter().position(|value| !of.accepts(value)) {
        return Err(at.under("enum").under(&index.to_string()).error("is not of the field's type"));
    }
    Ok(Kind::Scalar { of, allowed })
}

fn array_at(members: &Map<String, Value>, at: &At, depth: usize) -> Result<Kind, ProjectionError> {
    let max_items = match members.get("max_items") {
        None => DEFAULT_ITEMS,
        Some(value) => value
            .as_u64()
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| (1..=MAX_ITEMS).contains(count))
            .ok_or_else(|| at.under("max_items").error("`max_items` is a number from 1 to 1000"))?,
    };
    let here = at.under("items");
    let items = match members.get("items") {
        None => return Err(at.error("an array needs `items`: either `{fields: ...}` or `{type: ...}`")),
        Some(Value::Object(items)) if items.contains_key("fields") && !items.contains_key("type") => {
            if let Some(name) = items.keys().find(|name| *name != "fields") {
                return Err(here.under(name).error("nothing stands beside `fields` here"));
            }
            Items::Fields(fields_at(items.get("fields").unwrap_or(&Value::Null), &here.under("fields"), depth + 1)?)
        }
        Some(Value::Object(items)) => {
            let kind = kind_at(items, &here, depth, &[])?;
            if matches!(kind, Kind::Array { .. } | Kind::Object { .. }) {
                return Err(here.error("items are scalars, or have `fields` with paths of their own"));
            }
            Items::Each(Box::new(kind))
        }
        Some(_) => return Err(here.error("must be a map")),
    };
    Ok(Kind::Array { max_items, items })
}

fn decimal_minor(form: &Value) -> Option<u8> {
    let places = form.as_str()?.strip_prefix("decimal_minor(")?.strip_suffix(')')?;
    let is_number = !places.is_empty() && places.bytes().all(|c| c.is_ascii_digit());
    places.parse().ok().filter(|places| is_number && *places <= MAX_PLACES)
}

/// The JSON Schema that every output of these fields follows.
pub(super) fn schema_of(fields: &Fields) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|(name, field)| (name.clone(), schema_of_kind(&field.kind))).collect();
    let required: Vec<&String> = fields.iter().filter(|(_, field)| !field.optional).map(|(name, _)| name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn schema_of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::Scalar { of, allowed } => {
            let mut schema = Map::new();
            schema.insert("type".to_owned(), of.schema_type());
            if !allowed.is_empty() {
                schema.insert("enum".to_owned(), Value::Array(allowed.clone()));
            }
            Value::Object(schema)
        }
        Kind::DecimalMinor { .. } => json!({"type": "integer"}),
        Kind::Array { max_items, items } => {
            let items = match items {
                Items::Each(kind) => schema_of_kind(kind),
                Items::Fields(fields) => schema_of(fields),
            };
            json!({"type": "array", "maxItems": max_items, "items": items})
        }
        Kind::Object { fields } => schema_of(fields),
    }
}

impl Scalar {
    fn schema_type(self) -> Value {
        match self {
            Self::Any => json!(["string", "number", "boolean"]),
            Self::String => json!("string"),
            Self::Integer => json!("integer"),
            Self::Number => json!("number"),
            Self::Boolean => json!("boolean"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Projection;
    use super::*;

    fn pointer(value: &Value) -> String {
        Projection::parse(value).unwrap_err().pointer().to_owned()
    }

    #[test]
    fn a_mistake_is_pointed_at() {
        assert_eq!(pointer(&json!({"a": {}})), "/a");
        assert_eq!(pointer(&json!({"a": {"path": "x"}})), "/a/path");
        assert_eq!(pointer(&json!({"a": {"path": "$..b..c"}})), "/a/path");
        assert_eq!(pointer(&json!({"a": {"path": "$.b", "typ": "string"}})), "/a/typ");
        assert_eq!(pointer(&json!({"a": {"path": "$.b", "type": "text"}})), "/a/type");
        assert_eq!(pointer(&json!({"a": {"path": "$.b", "as": "decimal_minor(+2)"}})), "/a/as");
        assert_eq!(pointer(&json!({"a": {"path": "$.b", "type": "integer", "enum": [1, "2"]}})), "/a/enum/1");
        assert_eq!(pointer(&json!({"a": {"path": "$.b", "type": "array"}})), "/a");
        assert_eq!(
            pointer(&json!({"a": {"path": "$.b", "type": "array", "items": {"fields": {"c": {"path": 1}}}}})),
            "/a/items/fields/c/path"
        );
    }

    #[test]
    fn depth_counts_fields_within_fields() {
        let depth = |value: &Value| Projection::parse(value).unwrap().depth();
        assert_eq!(depth(&json!({"a": {"path": "$.a"}})), 1);
        assert_eq!(depth(&json!({"a": {"path": "$.a", "type": "array", "items": {"type": "string"}}})), 1);
        let inner = json!({"b": {"path": "$.b"}});
        assert_eq!(depth(&json!({"a": {"path": "$.a", "type": "array", "items": {"fields": inner}}})), 2);
        let middle = json!({"c": {"path": "$.c", "type": "object", "fields": inner}});
        assert_eq!(depth(&json!({"a": {"path": "$.a", "type": "object", "fields": middle}})), 3);
    }

    #[test]
    fn a_path_of_names_and_indexes_is_singular() {
        for path in ["$", "$.a.b", "$['a,*']['b']", "$.a[0]", "$[\"a\\\"*\"]"] {
            assert!(is_singular(path), "{path}");
        }
        for path in ["$.*", "$[*]", "$..a", "$[?@.a]", "$[0,1]", "$[0:2]"] {
            assert!(!is_singular(path), "{path}");
        }
    }

    #[test]
    fn the_output_follows_its_schema() {
        let projection = Projection::parse(&json!({
            "id": {"path": "$.id", "type": "string"},
            "total": {"path": "$.total", "as": "decimal_minor(2)"},
            "lines": {"path": "$.lines", "type": "array", "items": {"fields": {"n": {"path": "$.n", "type": "integer"}}}, "optional": true},
        }))
        .unwrap();
        let schema = crate::schema::Schema::compile(&projection.output_schema()).unwrap();
        let shaped = projection.apply(&json!({"id": "a", "total": "1.50", "lines": [{"n": 1}], "x": 1})).unwrap();
        assert_eq!(schema.validate(&shaped.output), Ok(()));
    }
}
