//! JSON Schema (draft 2020-12) for inputs.
//!
//! Patterns run on an engine whose time is linear in the text, so patterns with look-around or back-references are
//! refused when the definition is read. Formats are checked, unknown ones refused, and a reference leads nowhere
//! outside the schema. What is said about a value names the rule and never the value.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use safeconduct_types::Violation;
use serde_json::Value;

use crate::json;

/// Size of a compiled pattern and of its cache, in bytes.
const PATTERN_BYTES: usize = 1 << 20;
/// Violations reported for one value.
const MAX_VIOLATIONS: usize = 16;
/// Characters of a rule (an enumeration, say) that a message repeats.
const MAX_SHOWN: usize = 200;

/// A compiled schema.
#[derive(Clone)]
pub struct Schema {
    value: Value,
    validator: Arc<Validator>,
}

/// Why a value is no schema. Operator-written text only, so it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError {
    message: String,
    pointer: String,
}

impl SchemaError {
    /// Where, as a JSON pointer into the schema; empty for all of it.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SchemaError {}

/// That a value does not have the form: one sentence for each rule it breaks, none of which repeats the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch(Vec<(String, String)>);

impl Mismatch {
    /// The same as violations of this field and its members.
    pub fn violations(self, field: &str) -> Vec<Violation> {
        self.0.into_iter().map(|(path, problem)| Violation::new(format!("{field}{path}"), problem)).collect()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (path, problem)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            if path.is_empty() { f.write_str(problem)? } else { write!(f, "{path} {problem}")? }
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}

impl Schema {
    /// Compiles a schema.
    pub fn compile(value: &Value) -> Result<Self, SchemaError> {
        if json::contains_reserved(value) {
            return Err(SchemaError {
                message: "has a member with a reserved name".to_owned(),
                pointer: String::new(),
            });
        }
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES))
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .offline()
            .build(value)
            .map_err(|error| SchemaError {
                message: error.to_string(),
                pointer: error.instance_path().as_str().to_owned(),
            })?;
        Ok(Self { value: value.clone(), validator: Arc::new(validator) })
    }

    /// The schema as written.
    pub const fn as_value(&self) -> &Value {
        &self.value
    }

    /// Whether the value has the form.
    pub fn accepts(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// Checks that the value has the form.
    pub fn validate(&self, value: &Value) -> Result<(), Mismatch> {
        if self.accepts(value) {
            return Ok(());
        }
        let mut problems: Vec<_> = self
            .validator
            .iter_errors(value)
            .take(MAX_VIOLATIONS)
            .map(|error| (path_of(&error), describe(error.kind())))
            .collect();
        if problems.is_empty() {
            problems.push((String::new(), "does not have the declared form".to_owned()));
        }
        Err(Mismatch(problems))
    }

    /// What is wrong with the value of this field; nothing if it has the form.
    pub fn check(&self, field: &str, value: &Value) -> Vec<Violation> {
        self.validate(value).err().map(|mismatch| mismatch.violations(field)).unwrap_or_default()
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.value).finish()
    }
}

/// Where in the value: `.lines[2].sku`. A member name that is no plain word could be anything the agent made up, so
/// it is shown as `?`.
fn path_of(error: &ValidationError<'_>) -> String {
    use jsonschema::paths::LocationSegment;
    let mut path = String::new();
    for segment in error.instance_path() {
        match segment {
            LocationSegment::Index(index) => {
                // Writing to a string cannot fail.
                let _ = write!(path, "[{index}]");
            }
            LocationSegment::Property(name) => {
                path.push('.');
                path.push_str(plain_word(&name).unwrap_or("?"));
            }
        }
    }
    path
}

/// The text if it is a plain word, fit for a message.
pub(crate) fn plain_word(text: &str) -> Option<&str> {
    let plain = !text.is_empty()
        && text.len() <= 48
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    plain.then_some(text)
}

fn shown(rule: &Value) -> String {
    let text = rule.to_string();
    if text.chars().count() <= MAX_SHOWN { text } else { text.chars().take(MAX_SHOWN).chain("...".chars()).collect() }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is the library's and grows; every other rule gets the general sentence"
)]
fn describe(kind: &ValidationErrorKind) -> String {
    use ValidationErrorKind as Kind;
    match kind {
        Kind::Type { kind: TypeKind::Single(one) } => format!("must be of type {one}"),
        Kind::Type { kind: TypeKind::Multiple(_) } => "must be of one of the declared types".to_owned(),
        Kind::Constant { expected_value } => format!("must be {}", shown(expected_value)),
        Kind::Enum { options } => format!("must be one of {}", shown(options)),
        Kind::Pattern { pattern } => format!("must match the pattern {}", shown(&Value::from(pattern.as_str()))),
        Kind::Format { format } => format!("must have the format {format}"),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::MinProperties { limit } => format!("must have at least {limit} members"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} members"),
        Kind::Minimum { limit } => format!("must be at least {}", shown(limit)),
        Kind::Maximum { limit } => format!("must be at most {}", shown(limit)),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {}", shown(limit)),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {}", shown(limit)),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::Required { property } => format!("needs the member {}", shown(property)),
        Kind::UniqueItems => "must not have an item twice".to_owned(),
        Kind::AdditionalProperties { .. } | Kind::UnevaluatedProperties { .. } => {
            "has a member that is not declared".to_owned()
        }
        other => format!("does not satisfy `{}` of its schema", other.keyword()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "reads better with `json!`")]
    fn schema(value: Value) -> Schema {
        Schema::compile(&value).unwrap()
    }

    #[test]
    fn a_violation_names_the_rule_and_never_the_value() {
        let cases = [
            (json!({"type": "string"}), json!(4711)),
            (json!({"pattern": "^ord_[a-z]+$"}), json!("hunter2")),
            (json!({"format": "email"}), json!("hunter2")),
            (json!({"enum": ["a", "b"]}), json!("hunter2")),
            (json!({"maxLength": 3}), json!("hunter2")),
            (json!({"additionalProperties": false}), json!({"hunter2": 1})),
            (json!({"additionalProperties": {"type": "string"}}), json!({"hunter 2": 4711})),
            (json!({"not": {}}), json!("hunter2")),
            (json!({"oneOf": [{"type": "integer"}]}), json!("hunter2")),
            (json!({"propertyNames": {"maxLength": 2}}), json!({"hunter2": 1})),
            (json!({"const": 1}), json!("hunter2")),
            (json!({"maximum": 5}), json!(4711)),
        ];
        for (rule, value) in cases {
            let violations = schema(rule.clone()).check("inputs.x", &value);
            assert!(!violations.is_empty(), "{rule}");
            let shown = format!("{violations:?}");
            assert!(!shown.contains("hunter") && !shown.contains("4711"), "{rule}: {shown}");
        }
    }

    #[test]
    fn nested_violations_say_where() {
        let violations = schema(json!({"items": {"properties": {"sku": {"type": "string"}}}}))
            .check("inputs.lines", &json!([{"sku": "a"}, {"sku": 1}]));
        assert_eq!(violations, [Violation::new("inputs.lines[1].sku", "must be of type string")]);
    }

    #[test]
    fn a_pattern_takes_linear_time_or_is_refused() {
        assert!(Schema::compile(&json!({"pattern": "(?=a)b"})).is_err());
        assert!(Schema::compile(&json!({"pattern": "(a)\\1"})).is_err());
        let evil = schema(json!({"pattern": "^(a+)+$"}));
        assert!(!evil.accepts(&json!(format!("{}!", "a".repeat(50_000)))));
    }

    #[test]
    fn nothing_is_fetched_and_nothing_unknown_is_ignored() {
        assert!(Schema::compile(&json!({"$ref": "https://example.com/schema.json"})).is_err());
        assert!(Schema::compile(&json!({"$ref": "file:///etc/passwd"})).is_err());
        assert!(Schema::compile(&json!({"format": "no-such-format"})).is_err());
        assert!(Schema::compile(&json!({"type": "strin"})).is_err());
    }

    #[test]
    fn limits_hold_beyond_the_precision_of_a_double() {
        let limited = schema(json!({"type": "integer", "maximum": 9_007_199_254_740_992_i64}));
        assert!(limited.accepts(&json!(9_007_199_254_740_992_i64)));
        assert!(!limited.accepts(&json!(9_007_199_254_740_993_i64)));
    }
}
