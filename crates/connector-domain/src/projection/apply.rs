//! Taking the declared fields out of an answer.

use serde_json::{Map, Value};

use super::{Field, Fields, Items, Kind, OutputError, Scalar, Shaped};
use crate::json::{Decimal, same};

/// Values that are looked for in one answer: paths within paths multiply, and the answer is not ours.
const MAX_VALUES: usize = 50_000;

pub(super) fn apply(fields: &Fields, answer: &Value) -> Result<Shaped, OutputError> {
    let mut shaping = Shaping { truncated: Vec::new(), left: MAX_VALUES };
    let output = shaping.object(fields, answer, &Place::default())?;
    Ok(Shaped { output, truncated: shaping.truncated })
}

pub(super) fn apply_leniently(fields: &Fields, answer: &Value) -> Shaped {
    let mut shaping = Shaping { truncated: Vec::new(), left: MAX_VALUES };
    let mut members = Map::new();
    for (name, field) in fields {
        if let Ok(Some(value)) = shaping.field(field, answer, &Place::default().member(name)) {
            members.insert(name.clone(), value);
        }
    }
    Shaped { output: Value::Object(members), truncated: shaping.truncated }
}

impl Scalar {
    pub(super) fn accepts(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Any, Value::String(_) | Value::Number(_) | Value::Bool(_))
            | (Self::String, Value::String(_))
            | (Self::Number, Value::Number(_))
            | (Self::Boolean, Value::Bool(_)) => true,
            (Self::Integer, Value::Number(number)) => Decimal::of(number).is_some_and(|one| one.is_integer()),
            _ => false,
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Any => "is not a string, a number or a boolean",
            Self::String => "is not a string",
            Self::Integer => "is not an integer",
            Self::Number => "is not a number",
            Self::Boolean => "is not a boolean",
        }
    }
}

/// Where in the output: for people, and as a JSON pointer.
#[derive(Clone, Default)]
struct Place {
    path: String,
    pointer: String,
}

impl Place {
    fn member(&self, name: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        // A field's name has neither `~` nor `/`.
        Self { path: format!("{}{dot}{name}", self.path), pointer: format!("{}/{name}", self.pointer) }
    }

    fn item(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), pointer: format!("{}/{index}", self.pointer) }
    }

    fn error(&self, problem: &str) -> OutputError {
        OutputError { path: self.path.clone(), problem: problem.to_owned() }
    }
}

struct Shaping {
    truncated: Vec<String>,
    /// Values that may still be looked for.
    left: usize,
}

impl Shaping {
    fn object(&mut self, fields: &Fields, source: &Value, place: &Place) -> Result<Value, OutputError> {
        let mut members = Map::new();
        for (name, field) in fields {
            if let Some(value) = self.field(field, source, &place.member(name))? {
                members.insert(name.clone(), value);
            }
        }
        Ok(Value::Object(members))
    }

    fn field(&mut self, field: &Field, source: &Value, place: &Place) -> Result<Option<Value>, OutputError> {
        self.left = self.left.checked_sub(1).ok_or_else(|| place.error("is one value too many"))?;
        let found = field.path.query(source).all();
        if let Kind::Array { max_items, items } = &field.kind
            && !field.singular
        {
            return self.array(found.into_iter(), *max_items, items, place).map(Some);
        }
        match found.as_slice() {
            [] | [Value::Null] if field.optional => Ok(None),
            [] | [Value::Null] => Err(place.error("is missing")),
            [value] => self.value(&field.kind, value, place).map(Some),
            _ => Err(place.error("is there more than once")),
        }
    }

    fn value(&mut self, kind: &Kind, value: &Value, place: &Place) -> Result<Value, OutputError> {
        match kind {
            Kind::Scalar { of, allowed } => {
                if !of.accepts(value) {
                    return Err(place.error(of.expected()));
                }
                if !allowed.is_empty() && !allowed.iter().any(|one| same(one, value)) {
                    return Err(place.error("is none of the declared values"));
                }
                Ok(if *of == Scalar::Integer {
                    crate::json::normalise(value.clone()).unwrap_or_default()
                } else {
                    value.clone()
                })
            }
            Kind::DecimalMinor { places } => {
                let decimal = match value {
                    Value::Number(number) => Decimal::of(number),
                    Value::String(text) => Decimal::parse(text),
                    Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
                };
                match decimal {
                    None => Err(place.error("is not a decimal number")),
                    Some(decimal) => decimal
                        .minor(*places)
                        .map(Value::from)
                        .ok_or_else(|| place.error("has more decimal places than declared, or is too large")),
                }
            }
            Kind::Array { max_items, items } => match value {
                Value::Array(found) => self.array(found.iter(), *max_items, items, place),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    Err(place.error("is not an array"))
                }
            },
            Kind::Object { fields } => match value {
                Value::Object(_) => self.object(fields, value, place),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                    Err(place.error("is not an object"))
                }
            },
        }
    }

    fn array<'a>(
        &mut self,
        found: impl ExactSizeIterator<Item = &'a Value>,
        max_items: usize,
        items: &Items,
        place: &Place,
    ) -> Result<Value, OutputError> {
        if found.len() > max_items {
            self.truncated.push(place.pointer.clone());
        }
        let shaped: Result<Vec<Value>, OutputError> = found
            .take(max_items)
            .enumerate()
            .map(|(index, item)| match items {
                Items::Each(kind) => self.value(kind, item, &place.item(index)),
                Items::Fields(fields) => self.object(fields, item, &place.item(index)),
            })
            .collect();
        shaped.map(Value::Array)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::Projection;
    use super::*;
    use crate::json::{Bounds, parse};

    fn projection(value: &Value) -> Projection {
        Projection::parse(value).unwrap()
    }

    fn problem(declared: &Value, answer: &Value) -> (String, String) {
        let error = projection(declared).apply(answer).unwrap_err();
        (error.path, error.problem)
    }

    fn refunds() -> Projection {
        projection(&json!({
            "id": {"path": "$.refund.id", "type": "string"},
            "status": {"path": "$.refund.status", "type": "string", "enum": ["queued", "done"]},
            "note": {"path": "$.refund.note", "type": "string", "optional": true},
            "lines": {"path": "$.refund.lines[*]", "type": "array", "max_items": 2, "items": {"fields": {
                "sku": {"path": "$.sku", "type": "string"},
                "price": {"path": "$.price", "as": "decimal_minor(2)"},
            }}},
        }))
    }

    #[test]
    fn only_declared_fields_leave() {
        let answer = parse(
            r#"{"refund": {"id": "r1", "status": "done", "note": null, "card": "4242", "lines": [
                {"sku": "a", "price": "12.30", "cost": 1}, {"sku": "b", "price": 0.1}, {"sku": "c", "price": 1}]}, "debug": "x"}"#,
            Bounds::INPUTS,
        )
        .unwrap();
        let shaped = refunds().apply(&answer).unwrap();
        assert_eq!(
            shaped.output,
            json!({"id": "r1", "status": "done", "lines": [{"sku": "a", "price": 1230}, {"sku": "b", "price": 10}]})
        );
        assert_eq!(shaped.truncated, ["/lines"]);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_and_not_shown() {
        let one = |kind: Value| {
            let mut field = json!({"path": "$.a"});
            field.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
            json!({ "a": field })
        };
        let cases = [
            (json!({}), json!({}), "is missing"),
            (json!({}), json!({"a": null}), "is missing"),
            (json!({}), json!({"a": {"b": 1}}), "is not a string, a number or a boolean"),
            (json!({"type": "integer"}), json!({"a": 1.5}), "is not an integer"),
            (json!({"type": "integer"}), json!({"a": "4711"}), "is not an integer"),
            (json!({"type": "string", "enum": ["x"]}), json!({"a": "4711"}), "is none of the declared values"),
            (
                json!({"as": "decimal_minor(2)"}),
                json!({"a": "1.234"}),
                "has more decimal places than declared, or is too large",
            ),
            (json!({"as": "decimal_minor(2)"}), json!({"a": "EUR 4711"}), "is not a decimal number"),
            (json!({"type": "array", "items": {"type": "string"}}), json!({"a": "4711"}), "is not an array"),
        ];
        for (kind, answer, expected) in cases {
            assert_eq!(problem(&one(kind), &answer), ("a".to_owned(), expected.to_owned()));
        }
        assert_eq!(problem(&json!({"a": {"path": "$[*]"}}), &json!([1, 2])).1, "is there more than once");
        let lines = json!({"l": {"path": "$", "type": "array", "items": {"fields": {"n": {"path": "$.n", "type": "integer"}}}}});
        assert_eq!(problem(&lines, &json!([{"n": 1}, {"n": "x"}])).0, "l[1].n");
    }

    #[test]
    fn numbers_are_exact() {
        let declared = json!({"n": {"path": "$.n", "type": "number"}, "i": {"path": "$.i", "type": "integer"}});
        let answer = parse(r#"{"n": 0.10000000000000000000001, "i": 12345678901234567890.0}"#, Bounds::INPUTS).unwrap();
        let shaped = projection(&declared).apply(&answer).unwrap();
        assert_eq!(shaped.output.to_string(), r#"{"i":12345678901234567890,"n":0.10000000000000000000001}"#);
    }

    #[test]
    fn fields_within_fields_cannot_multiply_without_end() {
        let mut declared = json!({"n": {"path": "$.x", "optional": true}});
        for _ in 0..6 {
            declared =
                json!({"l": {"path": "$..*", "type": "array", "max_items": 1000, "items": {"fields": declared}}});
        }
        let answer = (0..60).fold(json!({}), |inner, _| json!({ "a": inner }));
        assert_eq!(projection(&declared).apply(&answer).unwrap_err().problem, "is one value too many");
    }

    #[test]
    fn an_empty_match_of_a_wildcard_is_an_empty_array() {
        let declared = json!({"a": {"path": "$.a[*]", "type": "array", "items": {"type": "string"}}});
        assert_eq!(projection(&declared).apply(&json!({})).unwrap().output, json!({"a": []}));
    }

    #[test]
    fn a_problem_keeps_what_it_can() {
        let declared = projection(&json!({"code": {"path": "$.error.code"}, "detail": {"path": "$.error.message"}}));
        assert_eq!(
            declared.apply_leniently(&json!({"error": {"code": "x", "secret": 1}})).output,
            json!({"code": "x"})
        );
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic_or_leak(text in any::<String>(), number in any::<f64>()) {
            let answer = json!({"refund": {"id": text.clone(), "status": text.clone(), "lines": [{"sku": text.clone(), "price": text.clone()}, {"price": number}]}, "secret": "s3cr3t"});
            if let Ok(shaped) = refunds().apply(&answer) {
                prop_assert!(!shaped.output.to_string().contains("s3cr3t"));
            }
        }
    }
}
