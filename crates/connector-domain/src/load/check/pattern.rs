//! Whether a schema leaves a value no room to change the meaning of the text around it.

use serde_json::Value;

/// Numbers and booleans, enumerations of harmless words, and strings under a pattern of nothing but letters, digits,
/// `_` and `-`. Reads schemas by their face: what it does not understand leaves room.
pub(super) fn leaves_no_room(schema: &Value) -> bool {
    let harmless = |value: &Value| match value {
        Value::String(text) => text.chars().all(is_harmless),
        Value::Number(_) | Value::Bool(_) => true,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    };
    if let Some(value) = schema.get("const") {
        return harmless(value);
    }
    if let Some(Value::Array(values)) = schema.get("enum") {
        return values.iter().all(harmless);
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("integer" | "number" | "boolean") => true,
        Some("string") => schema.get("pattern").and_then(Value::as_str).is_some_and(allows_only_words),
        Some(_) | None => false,
    }
}

const fn is_harmless(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// `^…$` around harmless letters, classes of them, `\d`, quantifiers, and groups. An alternation stands in a group:
/// outside of one, `^a|b$` anchors neither branch at both ends.
fn allows_only_words(pattern: &str) -> bool {
    let Some(inner) = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')) else { return false };
    let mut chars = inner.chars().peekable();
    let mut depth = 0_u32;
    while let Some(c) = chars.next() {
        let fine = match c {
            '[' => class(&mut chars),
            '{' => {
                let mut digits = chars.by_ref().take_while(|c| *c != '}');
                digits.all(|c| c.is_ascii_digit() || c == ',')
            }
            '(' => {
                depth += 1;
                // `(?` begins a group with a meaning of its own; only `(?:` is one that is understood here.
                if chars.next_if_eq(&'?').is_some() { chars.next() == Some(':') } else { true }
            }
            ')' => {
                let open = depth > 0;
                depth = depth.saturating_sub(1);
                open
            }
            '|' => depth > 0,
            '?' | '*' | '+' => true,
            '\\' => chars.next() == Some('d'),
            other => is_harmless(other),
        };
        if !fine {
            return false;
        }
    }
    depth == 0
}

/// A class of single letters and ranges within letters or digits.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    let mut last = None;
    loop {
        match chars.next() {
            Some(']') => return true,
            Some('-') if last.is_some() && chars.peek().is_some_and(|c| *c != ']') => {
                let (Some(from), Some(to)) = (last, chars.next()) else { return false };
                let same = |test: fn(&char) -> bool| test(&from) && test(&to);
                let one_kind =
                    same(char::is_ascii_lowercase) || same(char::is_ascii_uppercase) || same(char::is_ascii_digit);
                if !one_kind {
                    return false;
                }
                last = None;
            }
            Some('\\') => {
                if chars.next() != Some('d') {
                    return false;
                }
                last = None;
            }
            Some(c) if is_harmless(c) => last = Some(c),
            Some(_) | None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pattern_of_words_leaves_no_room() {
        for pattern in ["^ord_[a-z0-9]{6,32}$", "^[A-Za-z0-9_-]+$", r"^\d{4}$", "^(a|b)-?[0-9]*$", "^(?:x|y)$", "^$"] {
            assert!(allows_only_words(pattern), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_lets_something_else_through_leaves_room() {
        let patterns = [
            "[a-z]+",
            "^[a-z]+",
            "[a-z]+$",
            "^a|b$",
            "^.*$",
            "^[^a]$",
            "^[ -~]$",
            "^[+-z]$",
            "^[a-z ]$",
            r"^\w$",
            r"^\S$",
            "^a b$",
            r"^[\s]$",
            "^[A-z]$",
            "^(?i)x$",
            "^(?=.)$",
            "^a'$",
            "^[[:alpha:]]$",
            "^(a$",
            "^a)|(b$",
            r"^\$",
            "^[a",
            "^[a-z&&[^b]]$",
        ];
        for pattern in patterns {
            assert!(!allows_only_words(pattern), "{pattern}");
        }
    }

    #[test]
    fn numbers_and_plain_enumerations_leave_no_room() {
        assert!(leaves_no_room(&json!({"type": "integer"})));
        assert!(leaves_no_room(&json!({"enum": ["open", "done", 3]})));
        assert!(!leaves_no_room(&json!({"enum": ["open", "' OR 1=1"]})));
        assert!(!leaves_no_room(&json!({"type": "string", "maxLength": 20})));
        assert!(!leaves_no_room(&json!({"type": ["integer", "string"]})));
        assert!(!leaves_no_room(&json!({"type": "array"})));
    }
}
