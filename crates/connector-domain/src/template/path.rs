//! The path of a request.

use std::fmt::Write as _;

use unicode_normalization::UnicodeNormalization;

use super::part::{self, Part};
use super::{Reference, RenderError, Scope, TemplateError};

/// Longest value in a path segment, in bytes.
const MAX_VALUE: usize = 1024;
/// How often a value is decoded when looking for what it hides.
const DECODINGS: usize = 4;

/// A path under an upstream's URL: fixed segments, and segments that values fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    source: String,
    segments: Vec<Vec<Part>>,
}

impl PathTemplate {
    /// Reads `/v2/orders/${inputs.order_id}`. Starts with `/`; fixed text is plain ASCII of a path, without `%`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(TemplateError::new("a path starts with `/`; the host is the upstream's"));
        };
        let raw: Vec<&str> = rest.split('/').collect();
        let last = raw.len() - 1;
        let mut segments = Vec::with_capacity(raw.len());
        for (index, segment) in raw.into_iter().enumerate() {
            if segment.is_empty() && index != last {
                return Err(TemplateError::new("a path has no empty segments (`//`)"));
            }
            if matches!(segment, "." | "..") {
                return Err(TemplateError::new("a path has no `.` or `..` segments"));
            }
            let parts = part::parse(segment)?;
            for part in &parts {
                if let Part::Text(text) = part
                    && !text.bytes().all(is_path_byte)
                {
                    return Err(TemplateError::new(
                        "the fixed text of a path is letters, digits and -._~!$&'()*+,;=:@ only; a query belongs in `query`",
                    ));
                }
            }
            segments.push(parts);
        }
        Ok(Self { source: text.to_owned(), segments })
    }

    /// The template as written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// What it refers to.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.segments.iter().flatten().filter_map(Part::reference)
    }

    /// What shares its segment with other text.
    pub fn embedded(&self) -> impl Iterator<Item = &Reference> {
        self.segments.iter().filter(|parts| parts.len() > 1).flatten().filter_map(Part::reference)
    }

    /// How many segments every rendering has; the empty one behind a trailing `/` counts.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The path with its values, each within its own segment.
    pub fn render(&self, scope: &dyn Scope) -> Result<String, RenderError> {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            path.push_str(&render_segment(segment, scope)?);
        }
        Ok(path)
    }
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

fn render_segment(parts: &[Part], scope: &dyn Scope) -> Result<String, RenderError> {
    let mut encoded = String::new();
    let mut plain = String::new();
    let mut reference = None;
    for part in parts {
        match part {
            Part::Text(text) => {
                encoded.push_str(text);
                plain.push_str(text);
            }
            Part::Reference(one) => {
                reference = Some(one);
                let Some(value) = scope.resolve(one) else {
                    return Err(RenderError::new(reference, "is needed for the path of the request"));
                };
                let text = part::text_of(one, value)?;
                if text.is_empty() {
                    return Err(RenderError::new(reference, "must not be empty"));
                }
                if text.len() > MAX_VALUE {
                    return Err(RenderError::new(reference, "must have at most 1024 bytes"));
                }
                encode(&text, &mut encoded);
                plain.push_str(&text);
            }
        }
    }
    // The whole segment, so that fixed text and several values do not make together what none is alone.
    if reference.is_some() && leaves_its_segment(&plain) {
        return Err(RenderError::new(
            reference,
            "must not be `.` or `..`, nor contain `/`, `\\` or control characters, nor encode any of them",
        ));
    }
    Ok(encoded)
}

/// Whether the text, or anything that decoding it could give, is not one ordinary path segment.
fn leaves_its_segment(text: &str) -> bool {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=DECODINGS {
        // No id is made of broken UTF-8, but overlong forms of `/` are; and some servers fold wide forms of `.` and `/`.
        let Ok(decoded) = std::str::from_utf8(&bytes) else { return true };
        let decoded: String = decoded.nfkc().collect();
        // Some servers cut a segment at `;` before they look for dots.
        let name = decoded.split(';').next().unwrap_or_default().trim();
        if matches!(name, "." | "..") || decoded.chars().any(|c| c == '/' || c == '\\' || c.is_control()) {
            return true;
        }
        let next = decode_once(&bytes);
        if next == bytes {
            return false;
        }
        bytes = next;
    }
    // Still changing after so many decodings: nobody writes an id like that.
    true
}

fn decode_once(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%'
            && let Some((digits, behind)) = after.split_at_checked(2)
            && let Some(byte) = hex_byte(digits)
        {
            decoded.push(byte);
            rest = behind;
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    decoded
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    // `from_str_radix` takes a sign.
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|c| c.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub(super) fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::testing::Inputs;
    use super::*;

    fn render(template: &str, value: &str) -> Result<String, RenderError> {
        PathTemplate::parse(template).unwrap().render(&Inputs::of(json!({ "x": value })))
    }

    #[test]
    fn a_value_is_encoded_into_one_segment() {
        assert_eq!(render("/a/${inputs.x}/b", "o 1?#&=é").unwrap(), "/a/o%201%3F%23%26%3D%C3%A9/b");
        assert_eq!(render("/a/${inputs.x}.json", "..").unwrap(), "/a/...json");
        assert_eq!(render("/a/${inputs.x}", "50%").unwrap(), "/a/50%25");
    }

    #[test]
    fn a_value_that_would_leave_its_segment_is_refused() {
        for bad in [
            "",
            ".",
            "..",
            "%2e",
            "%2E%2e",
            ".%2e",
            "%252e%252e",
            "%25252e.",
            "a/b",
            "a\\b",
            "a%2fb",
            "a%5Cb",
            "a%252Fb",
            "..;a",
            "%c0%af",
            "\u{ff0e}\u{ff0e}",
            "\u{2025}",
            "a\u{ff0f}b",
            "%2e%2e%3ba",
            "a\0",
            "a%00",
            "a\nb",
            "a%0d%0ab",
            ".. ",
            "/",
            "\u{85}",
        ] {
            assert!(render("/a/${inputs.x}/b", bad).is_err(), "{bad:?}");
        }
        assert!(render("/a/.${inputs.x}", ".").is_err());
        assert!(render("/a/${inputs.x}${inputs.x}", ".").is_err());
    }

    #[test]
    fn a_template_that_is_no_path_is_refused() {
        for bad in [
            "",
            "a",
            "//host/a",
            "/a//b",
            "/../a",
            "/a/.",
            "/a?b",
            "/a#b",
            "/a\\b",
            "/%2e%2e/a",
            "/é",
            "/a b",
            "/${inputs.x/y}",
        ] {
            assert!(PathTemplate::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(PathTemplate::parse("/a/").unwrap().segments(), 2);
        assert_eq!(PathTemplate::parse("/").unwrap().segments(), 1);
    }

    #[test]
    fn an_absent_or_shapeless_value_has_no_place_in_a_path() {
        let template = PathTemplate::parse("/a/${inputs.x}").unwrap();
        for inputs in [json!({}), json!({"x": null}), json!({"x": []}), json!({"x": {}})] {
            assert!(template.render(&Inputs::of(inputs)).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_value_changes_the_number_of_segments(value in any::<String>()) {
            if let Ok(path) = render("/a/${inputs.x}/b", &value) {
                let url = url::Url::parse(&format!("https://h.example{path}")).unwrap();
                prop_assert_eq!(url.path(), path.as_str());
                prop_assert_eq!(url.path_segments().unwrap().count(), 3);
                prop_assert!(url.query().is_none() && url.fragment().is_none());
            }
        }

        #[test]
        fn no_value_of_dots_and_escapes_does_either(value in "[.%2efF5cC/\\\\;a]{1,12}") {
            if let Ok(path) = render("/a/${inputs.x}/b", &value) {
                let url = url::Url::parse(&format!("https://h.example{path}")).unwrap();
                prop_assert_eq!(url.path(), path.as_str());
            }
        }
    }
}
