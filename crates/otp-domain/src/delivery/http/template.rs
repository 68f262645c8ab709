//! Text with references, each filled in as its place demands.

use std::fmt::Write as _;

use super::Values;

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A query: values are percent-encoded, whatever they hold.
    Query,
    /// A header: only the message's own id may stand in it.
    Header,
    /// A value whose encoding the body takes care of.
    Value,
}

/// A text, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    parts: Vec<Part>,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    To(Reference),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reference {
    To,
    From,
    SenderName,
    Subject,
    Text,
    Html,
    Code,
    Id,
}

impl Reference {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "to" => Self::To,
            "from" => Self::From,
            "from_name" => Self::SenderName,
            "subject" => Self::Subject,
            "text" => Self::Text,
            "html" => Self::Html,
            "code" => Self::Code,
            "id" => Self::Id,
            _ => return None,
        })
    }

    fn of<'a>(self, values: &Values<'a>) -> &'a str {
        match self {
            Self::To => values.message.to,
            Self::From => values.from,
            Self::SenderName => values.from_name,
            Self::Subject => values.message.subject,
            Self::Text => values.message.text,
            Self::Html => values.message.html,
            Self::Code => values.message.code.expose(),
            Self::Id => values.message.id,
        }
    }
}

impl Text {
    pub(super) fn parse(text: &str, place: Place) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or("has a `${` without its `}`")?;
            let name = Reference::parse(name)
                .ok_or("refers to something else than to, from, from_name, subject, text, html, code and id")?;
            if place == Place::Header && name != Reference::Id {
                return Err("takes nothing but `${id}` into a header");
            }
            if !before.is_empty() {
                parts.push(Part::Literal(before.to_owned()));
            }
            parts.push(Part::To(name));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { parts, place })
    }

    pub(super) fn fill(&self, values: &Values<'_>) -> String {
        let mut filled = String::new();
        for part in &self.parts {
            match (part, self.place) {
                (Part::Literal(text), _) => filled.push_str(text),
                (Part::To(name), Place::Query) => percent(&mut filled, name.of(values)),
                (Part::To(name), Place::Header | Place::Value) => filled.push_str(name.of(values)),
            }
        }
        filled
    }
}

/// Everything but the unreserved characters (RFC 3986, section 2.3).
fn percent(to: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(to, "%{byte:02X}");
        }
    }
}
