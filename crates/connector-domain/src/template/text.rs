//! The value of a query parameter or a header.

use super::part::{self, Part};
use super::path::encode;
use super::{Reference, RenderError, Scope, TemplateError};

/// Longest header value, in bytes.
pub const MAX_HEADER_VALUE: usize = 4096;
/// Longest query value before encoding, in bytes.
const MAX_QUERY_VALUE: usize = 4096;

/// Headers that belong to the client itself: a definition that set them could change where a request goes, as whom,
/// or where its body ends.
const RESERVED_HEADERS: [&str; 17] = [
    "host",
    "authorization",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "forwarded",
    "via",
    "cookie",
    "accept-encoding",
    "traceparent",
    "tracestate",
];

/// A text with references, for one query value or one header value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueTemplate {
    parts: Vec<Part>,
}

impl ValueTemplate {
    /// Reads `charge` or `${inputs.customer_id}` or a mixture.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let parts = part::parse(text)?;
        for part in &parts {
            if let Part::Text(text) = part
                && text.chars().any(char::is_control)
            {
                return Err(TemplateError::new("a query or header value has no control characters"));
            }
        }
        Ok(Self { parts })
    }

    /// What it refers to.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.parts.iter().filter_map(Part::reference)
    }

    /// The references that share the text with something else.
    pub fn embedded(&self) -> impl Iterator<Item = &Reference> {
        let alone = self.parts.len() == 1;
        self.references().filter(move |_| !alone)
    }

    /// The percent-encoded query value; `None` if a reference is absent.
    pub fn render_query(&self, scope: &dyn Scope) -> Result<Option<String>, RenderError> {
        let Some(text) = part::join(&self.parts, scope)? else { return Ok(None) };
        if text.len() > MAX_QUERY_VALUE {
            return Err(RenderError::new(self.references().last(), "must have at most 4096 bytes in the query"));
        }
        Ok(Some(encode_query(&text)))
    }

    /// The header value; `None` if a reference is absent. Visible ASCII with spaces inside, and nothing else: a header
    /// has no encoding that every server undoes in the same way.
    pub fn render_header(&self, scope: &dyn Scope) -> Result<Option<String>, RenderError> {
        let Some(text) = part::join(&self.parts, scope)? else { return Ok(None) };
        let bad = |problem| Err(RenderError::new(self.references().last(), problem));
        if !text.bytes().all(|c| (0x20..=0x7e).contains(&c)) || text.starts_with(' ') || text.ends_with(' ') {
            return bad("must be visible ASCII characters, with spaces only between them, to be sent in a header");
        }
        if text.is_empty() {
            return bad("must not be empty to be sent in a header");
        }
        if text.len() > MAX_HEADER_VALUE {
            return bad("must have at most 4096 bytes in a header");
        }
        Ok(Some(text))
    }
}

/// Percent-encodes a name or a value of a query.
pub fn encode_query(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    encode(text, &mut encoded);
    encoded
}

/// Checks that a definition may set this header: a lower-case token that is not the client's own business.
pub fn check_header_name(name: &str) -> Result<(), TemplateError> {
    let is_token = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&c);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(is_token) {
        return Err(TemplateError::new("a header's name is 1 to 128 letters, digits and -_.!#$%&'*+^`|~"));
    }
    let reserved = RESERVED_HEADERS.contains(&name)
        || ["proxy-", "x-forwarded-", "sec-"].iter().any(|prefix| name.starts_with(prefix));
    if reserved {
        return Err(TemplateError::new("this header is set by the client or the credential, not by a definition"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::testing::Inputs;
    use super::*;

    fn template(text: &str) -> ValueTemplate {
        ValueTemplate::parse(text).unwrap()
    }

    #[test]
    fn an_absent_optional_drops_out() {
        let inputs = Inputs::of(json!({}));
        assert_eq!(template("${inputs.x}").render_query(&inputs), Ok(None));
        assert_eq!(template("a ${inputs.x}").render_header(&inputs), Ok(None));
    }

    #[test]
    fn a_header_takes_no_line_break_and_nothing_invisible() {
        for bad in ["a\r\nX: y", "a\nb", "é", " a", "a ", "", "\u{7f}", "\0"] {
            assert!(template("${inputs.x}").render_header(&Inputs::of(json!({ "x": bad }))).is_err(), "{bad:?}");
        }
        let long = "a".repeat(MAX_HEADER_VALUE + 1);
        assert!(template("${inputs.x}").render_header(&Inputs::of(json!({ "x": long }))).is_err());
        assert_eq!(template("id=${inputs.x}").render_header(&Inputs::of(json!({"x": 12}))).unwrap().unwrap(), "id=12");
    }

    #[test]
    fn a_reference_beside_text_is_embedded() {
        assert_eq!(template("${inputs.x}").embedded().count(), 0);
        assert_eq!(template("q:${inputs.x}").embedded().count(), 1);
        assert_eq!(template("${inputs.x}${inputs.y}").embedded().count(), 2);
    }

    #[test]
    fn headers_that_decide_where_a_request_goes_cannot_be_set() {
        for bad in [
            "host",
            "authorization",
            "content-length",
            "transfer-encoding",
            "connection",
            "forwarded",
            "proxy-authorization",
            "x-forwarded-host",
            "",
            "a b",
            "a:b",
            "X-A",
            "é",
        ] {
            assert!(check_header_name(bad).is_err(), "{bad}");
        }
        assert!(check_header_name("idempotency-key").is_ok());
    }

    proptest! {
        #[test]
        fn a_query_value_decodes_to_itself_and_stays_one_pair(value in any::<String>()) {
            let shown = template("${inputs.x}").render_query(&Inputs::of(json!({ "x": value.clone() })));
            if let Ok(Some(encoded)) = shown {
                let url = url::Url::parse(&format!("https://h.example/?a={encoded}&b=1")).unwrap();
                let pairs: Vec<_> = url.query_pairs().into_owned().collect();
                prop_assert_eq!(pairs, vec![("a".to_owned(), value), ("b".to_owned(), "1".to_owned())]);
            }
        }

        #[test]
        fn a_header_value_is_visible_ascii(value in any::<String>()) {
            if let Ok(Some(text)) = template("${inputs.x}").render_header(&Inputs::of(json!({ "x": Value::from(value) }))) {
                prop_assert!(text.bytes().all(|c| (0x20..=0x7e).contains(&c)));
            }
        }
    }
}
