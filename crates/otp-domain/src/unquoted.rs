//! Errors of a reader, without what it read.

/// What is wrong with a section that cannot be read, without what stands there: somebody may have written a secret where
/// its name belongs.
pub fn unquoted(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let Some(kind) = ["invalid type", "invalid value", "invalid length", "unknown field", "unknown variant"]
        .into_iter()
        .find(|kind| text.starts_with(kind))
    else {
        // All others are texts of ours, which quote nothing.
        return text;
    };
    // What was read comes first, and may contain anything; what was expected comes last.
    let expected = text.rsplit_once(", expected ").map(|(_, expected)| format!(", expected {expected}"));
    let name = (kind == "unknown field").then(|| text.split('`').nth(1)).flatten().filter(|name| is_plain(name));
    format!("{kind}{}{}", name.map(|name| format!(" `{name}`")).unwrap_or_default(), expected.unwrap_or_default())
}

/// Whether this looks like the name of a field and not like a secret.
fn is_plain(name: &str) -> bool {
    name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only errors are looked at")]
    struct Section {
        brand: String,
    }

    #[test]
    fn an_unknown_field_is_named_unless_it_may_be_a_secret() {
        let told = |text: &str| unquoted(&serde_json::from_str::<Section>(text).unwrap_err());
        assert!(told(r#"{"bramd": 1}"#).starts_with("unknown field `bramd`, expected `brand`"));
        assert!(told(r#"{"hunter2": 1}"#).starts_with("unknown field, expected `brand`"));
        assert!(told(r#"{"brand": 5551234}"#).starts_with("invalid type, expected a string"));
        assert!(told("{}").starts_with("missing field `brand`"));
    }
}
