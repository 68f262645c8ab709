//! The pieces of a template's text.

use std::borrow::Cow;

use serde_json::Value;

use super::{Reference, RenderError, Scope, TemplateError};

/// A piece of a template's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Text as it stands.
    Text(String),
    /// Something to fill in.
    Reference(Reference),
}

impl Part {
    pub(super) const fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Text(_) => None,
            Self::Reference(reference) => Some(reference),
        }
    }
}

/// Longest template text, in bytes.
const MAX_TEXT: usize = 8192;

/// Splits a text into its pieces.
pub(super) fn parse(text: &str) -> Result<Vec<Part>, TemplateError> {
    if text.len() > MAX_TEXT {
        return Err(TemplateError::new("a template has at most 8192 bytes"));
    }
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        literal.push_str(before);
        if let Some(after) = from.strip_prefix("$${") {
            literal.push_str("${");
            rest = after;
        } else if let Some(after) = from.strip_prefix("${") {
            let Some((inner, after)) = after.split_once('}') else {
                return Err(TemplateError::new("`${` without its `}`; write `$${` for a literal `${`"));
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Reference(Reference::parse(inner)?));
            rest = after;
        } else {
            literal.push('$');
            rest = from.strip_prefix('$').unwrap_or("");
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

/// The value as the text that stands for it; refuses what has none.
pub(super) fn text_of<'a>(reference: &Reference, value: &'a Value) -> Result<Cow<'a, str>, RenderError> {
    match value {
        Value::String(text) => Ok(Cow::Borrowed(text)),
        Value::Number(number) => Ok(Cow::Owned(number.to_string())),
        Value::Bool(true) => Ok(Cow::Borrowed("true")),
        Value::Bool(false) => Ok(Cow::Borrowed("false")),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(RenderError::new(Some(reference), "must be a string, a number or a boolean to be used in text"))
        }
    }
}

/// The whole text, or `None` if a reference in it is absent.
pub(super) fn join(parts: &[Part], scope: &dyn Scope) -> Result<Option<String>, RenderError> {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Reference(reference) => match scope.resolve(reference) {
                Some(value) => text.push_str(&text_of(reference, value)?),
                None => return Ok(None),
            },
        }
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollar_dollar_brace_is_literal() {
        assert_eq!(parse("$${a} $5 $$").unwrap(), [Part::Text("${a} $5 $$".to_owned())]);
    }

    #[test]
    fn a_reference_is_dotted_and_nothing_else() {
        for bad in
            ["${}", "${inputs}", "${inputs.a.b}", "${inputs.a + 1}", "${ inputs.a }", "${contact.id}", "${inputs.a"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("${execution.upstream_key}").unwrap(), [Part::Reference(Reference::UpstreamKey)]);
    }
}
