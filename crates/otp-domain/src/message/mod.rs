//! What a person reads: localised texts with a few named places, rendered as plain text and as HTML.
//!
//! Nothing that came with a request stands in a message: the places are filled with the code and with words of the
//! workspace file, and a request only picks the language and one of the declared purposes. Each value is escaped for
//! where it lands all the same.

mod builtin;
mod locale;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::code::Code;
use crate::policy::OtpPolicy;

pub use locale::Locale;

/// A text in several languages.
pub type Texts = BTreeMap<Locale, String>;

/// The texts of a message in one language. Places are written `${code}`, `${purpose}`, `${minutes}` and `${brand}`;
/// `$${` is a literal `${`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The subject of an email; never holds the code, for subjects are shown on locked screens.
    pub subject: String,
    /// The plain part of an email.
    pub text: String,
    /// The HTML part of an email.
    pub html: String,
    /// A text message.
    pub sms: String,
}

/// A message, ready to be sent. Holds the code: never printed, wiped when dropped.
pub struct Rendered {
    /// The subject of an email; one line.
    pub subject: String,
    /// The plain part of an email.
    pub text: Zeroizing<String>,
    /// The HTML part of an email.
    pub html: Zeroizing<String>,
    /// A text message.
    pub sms: Zeroizing<String>,
    /// The language it is in.
    pub locale: Locale,
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered").field("locale", &self.locale).finish_non_exhaustive()
    }
}

/// Why a text is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(&'static str);

const CODE: &str = "code";
const PLACES: [&str; 4] = [CODE, "purpose", "minutes", "brand"];

/// Where a value lands.
#[derive(Clone, Copy)]
enum Into {
    Line,
    Text,
    Html,
}

/// A piece of a template.
enum Piece<'a> {
    Literal(&'a str),
    Place(&'a str),
}

/// Takes a template apart. The one reading of it, for checking and for rendering.
fn pieces(template: &str) -> impl Iterator<Item = Result<Piece<'_>, TemplateError>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find("${") else {
            return Some(Ok(Piece::Literal(std::mem::take(&mut rest))));
        };
        let (before, after) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            // `$${`: the text before, or the literal itself.
            if before.is_empty() {
                rest = after.get(2..).unwrap_or_default();
                return Some(Ok(Piece::Literal("${")));
            }
            rest = rest.get(before.len()..).unwrap_or_default();
            return Some(Ok(Piece::Literal(before)));
        }
        if !before.is_empty() {
            rest = after;
            return Some(Ok(Piece::Literal(before)));
        }
        let Some((name, left)) = after.get(2..).and_then(|after| after.split_once('}')) else {
            rest = "";
            return Some(Err(TemplateError("has a `${` without its `}`")));
        };
        rest = left;
        if PLACES.contains(&name) {
            Some(Ok(Piece::Place(name)))
        } else {
            Some(Err(TemplateError("may hold ${code}, ${purpose}, ${minutes} and ${brand} only")))
        }
    })
}

/// Checks a body: known places only, the code among them.
pub(crate) fn check_body(template: &str) -> Result<(), TemplateError> {
    let mut has_code = false;
    for piece in pieces(template) {
        has_code |= matches!(piece?, Piece::Place(CODE));
    }
    if has_code { Ok(()) } else { Err(TemplateError("must hold ${code}")) }
}

/// Checks a subject: one line, known places only, the code not among them.
pub(crate) fn check_subject(template: &str) -> Result<(), TemplateError> {
    if template.chars().any(char::is_control) || template.is_empty() {
        return Err(TemplateError("must be one line"));
    }
    for piece in pieces(template) {
        if matches!(piece?, Piece::Place(CODE)) {
            return Err(TemplateError("must not hold ${code}: subjects are shown on locked screens"));
        }
    }
    Ok(())
}

/// The words that go into the places.
struct Words<'a> {
    code: &'a str,
    purpose: &'a str,
    minutes: &'a str,
    brand: &'a str,
}

impl Words<'_> {
    fn fill(&self, template: &str, into: Into) -> Zeroizing<String> {
        let mut filled = Zeroizing::new(String::with_capacity(2 * template.len() + 256));
        // A template that could not be taken apart was refused with its file.
        for piece in pieces(template).filter_map(Result::ok) {
            match piece {
                Piece::Literal(text) => filled.push_str(text),
                Piece::Place("code") => push(&mut filled, self.code, into),
                Piece::Place("purpose") => push(&mut filled, self.purpose, into),
                Piece::Place("minutes") => push(&mut filled, self.minutes, into),
                Piece::Place(_) => push(&mut filled, self.brand, into),
            }
        }
        filled
    }
}

fn push(to: &mut String, value: &str, into: Into) {
    for c in value.chars() {
        match (into, c) {
            (Into::Html, '&') => to.push_str("&amp;"),
            (Into::Html, '<') => to.push_str("&lt;"),
            (Into::Html, '>') => to.push_str("&gt;"),
            (Into::Html, '"') => to.push_str("&quot;"),
            (Into::Html, '\'') => to.push_str("&#39;"),
            (Into::Line | Into::Html | Into::Text, c) if c.is_control() => to.push(' '),
            (Into::Line | Into::Html | Into::Text, c) => to.push(c),
        }
    }
}

impl OtpPolicy {
    /// The message that brings this code, in the language that is nearest to the one asked for: the very one, its
    /// primary language, the workspace's default, English.
    pub fn message(&self, asked: Option<&Locale>, purpose: &str, left: Duration, code: &Code) -> Rendered {
        let (locale, template) = self.template(asked);
        let purpose = self.purposes.get(purpose).and_then(|texts| {
            let near = locale.fallbacks().chain(self.default_locale.fallbacks()).find_map(|one| texts.get(&one));
            near.or_else(|| texts.values().next())
        });
        // A code that has less than a minute left is said to have one.
        let minutes = left.as_secs().div_ceil(60).max(1).to_string();
        let words = Words {
            code: code.expose(),
            purpose: purpose.map_or("", String::as_str),
            minutes: &minutes,
            brand: &self.brand,
        };
        Rendered {
            subject: words.fill(&template.subject, Into::Line).to_string(),
            text: words.fill(&template.text, Into::Text),
            html: words.fill(&template.html, Into::Html),
            sms: words.fill(&template.sms, Into::Text),
            locale,
        }
    }

    fn template(&self, asked: Option<&Locale>) -> (Locale, &Template) {
        let asked = asked.into_iter().flat_map(Locale::fallbacks);
        for locale in asked.chain(self.default_locale.fallbacks()) {
            if let Some(template) = self.templates.get(&locale).or_else(|| builtin::template(&locale)) {
                return (locale, template);
            }
        }
        (Locale::english(), builtin::english())
    }
}

#[cfg(test)]
mod tests;
