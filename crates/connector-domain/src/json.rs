//! JSON text from outside: read strictly, and written in one form.
//!
//! Reading is done by our own parser because the usual one keeps the last of two members with the same name, and
//! (with numbers kept verbatim) takes an object with one magic member for a number. Here the text is bounded in size
//! and depth, a repeated member is refused, and so is that magic name.
//!
//! The canonical form, which fingerprints are made of:
//! - members sorted by name (by code point), no white space;
//! - strings and member names in Unicode NFC, escaped as `serde_json` does;
//! - numbers by value, never through a double: `1.0`, `1` and `10e-1` are all `1`. A number whose plain form would
//!   take more than 40 digits is written as its digits without trailing zeros, `e`, and the power of ten. Zero has
//!   no sign.
//!
//! Numbers have at most 128 characters and a magnitude within 10^-300 to 10^300, so that no later arithmetic on them
//! can be made expensive and every one of them has a finite neighbour among the doubles.

mod decimal;
mod parse;

use serde_json::{Map, Number, Value};
use unicode_normalization::UnicodeNormalization;

pub use decimal::Decimal;
pub use parse::{Bounds, JsonError, JsonProblem, parse, parse_bytes};

/// The member name that `serde_json` gives a meaning of its own when numbers are kept verbatim.
pub const MAGIC_MEMBER: &str = "$serde_json::private::Number";

/// The value with every string and member name in NFC and every number in its canonical form: what is bound, sent
/// and fingerprinted. Two members whose names become equal are refused.
pub fn normalise(value: Value) -> Result<Value, JsonError> {
    Ok(match value {
        Value::Null | Value::Bool(_) => value,
        Value::Number(number) => Value::Number(canonical_number(&number)),
        Value::String(text) => Value::String(nfc(text)),
        Value::Array(items) => Value::Array(items.into_iter().map(normalise).collect::<Result<_, _>>()?),
        Value::Object(members) => {
            let mut normal = Map::new();
            for (name, member) in members {
                if normal.insert(nfc(name), normalise(member)?).is_some() {
                    return Err(JsonError::of(JsonProblem::DuplicateMember));
                }
            }
            Value::Object(normal)
        }
    })
}

/// The canonical text of a value (see the module's own words).
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

/// Whether two values are the same: of the same JSON type, numbers compared by value, strings by code point.
pub fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Number(a), Value::Number(b)) => match (Decimal::of(a), Decimal::of(b)) {
            (Some(a), Some(b)) => a == b,
            (None, _) | (_, None) => a == b,
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => false,
    }
}

/// Whether an object in it has the reserved member name. For values that did not come through [`parse`].
pub fn contains_reserved(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        Value::Array(items) => items.iter().any(contains_reserved),
        Value::Object(members) => {
            members.iter().any(|(name, member)| name == MAGIC_MEMBER || contains_reserved(member))
        }
    }
}

fn nfc(text: String) -> String {
    if text.is_ascii() { text } else { text.nfc().collect() }
}

fn canonical_number(number: &Number) -> Number {
    Decimal::of(number).and_then(|decimal| decimal.canonical().parse().ok()).unwrap_or_else(|| number.clone())
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&Value::String(nfc(text.to_owned())).to_string());
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => out.push_str(&canonical_number(number).to_string()),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<(String, &Value)> =
                members.iter().map(|(name, member)| (nfc(name.clone()), member)).collect();
            sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
            out.push('{');
            for (index, (name, member)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(&name, out);
                out.push(':');
                write_canonical(member, out);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        parse(text, Bounds::INPUTS).unwrap()
    }

    #[test]
    fn one_value_has_one_canonical_form() {
        for (text, expected) in [
            ("1.0", "1"),
            ("10e-1", "1"),
            ("1", "1"),
            ("-0.0", "0"),
            ("0e9", "0"),
            ("1E+2", "100"),
            ("12.340", "12.34"),
            ("5e-3", "0.005"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("1e50", "1e+50"),
            ("10e49", "1e+50"),
            (r#"{"b":1,"a":[true,null]}"#, r#"{"a":[true,null],"b":1}"#),
            ("\"e\\u0301\"", "\"\u{e9}\""),
        ] {
            let value = read(text);
            assert_eq!(canonical(&value), expected, "{text}");
            assert_eq!(canonical(&normalise(value).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn members_that_normalise_to_one_name_are_refused() {
        let value = read("{\"e\\u0301\":1,\"\u{e9}\":2}");
        assert_eq!(normalise(value).unwrap_err().problem(), JsonProblem::DuplicateMember);
    }

    #[test]
    fn sameness_is_by_type_and_value() {
        assert!(same(&read("1.0"), &read("1")));
        assert!(same(&read("9007199254740993"), &read("9007199254740993.0")));
        assert!(!same(&read("9007199254740993"), &read("9007199254740992")));
        assert!(!same(&json!("1"), &json!(1)));
        assert!(!same(&json!(null), &json!(false)));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (any::<i64>(), -30i32..30).prop_map(|(n, e)| Value::Number(format!("{n}e{e}").parse().unwrap())),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_stable(value in any_value()) {
            let once = canonical(&value);
            let again = canonical(&parse(&once, Bounds::INPUTS).unwrap());
            prop_assert_eq!(once, again);
        }

        #[test]
        fn what_is_written_reads_back(value in any_value()) {
            let read = parse(&value.to_string(), Bounds::INPUTS).unwrap();
            prop_assert!(same(&read, &value));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = parse(&text, Bounds::INPUTS);
        }

        #[test]
        fn what_we_accept_serde_accepts_too(text in r#"[\[\]{}:,"0-9eE+.truefalsn\\ -]{0,24}"#) {
            if parse(&text, Bounds::INPUTS).is_ok() {
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
            }
        }
    }
}
