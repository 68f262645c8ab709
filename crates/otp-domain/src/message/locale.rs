//! Languages.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A language tag (BCP 47): at most 35 letters, digits and `-`, in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Locale(String);

/// Why a text is no language tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a language tag (BCP 47) of at most 35 characters, such as de or pt-BR")]
pub struct LocaleError;

impl Locale {
    /// English.
    pub fn english() -> Self {
        Self("en".to_owned())
    }

    /// The tag in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag, then what is left of it as its ends are cut off (RFC 4647, section 3.4).
    pub fn fallbacks(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.0.as_str()), |tag| tag.rsplit_once('-').map(|(shorter, _)| shorter))
            .map(|tag| Self(tag.to_owned()))
            .collect::<Vec<_>>()
            .into_iter()
    }
}

impl FromStr for Locale {
    type Err = LocaleError;

    fn from_str(text: &str) -> Result<Self, LocaleError> {
        let is_part = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_alphanumeric());
        let mut parts = text.split('-');
        let language = parts.next().unwrap_or_default();
        let is_language = (2..=8).contains(&language.len()) && language.bytes().all(|c| c.is_ascii_alphabetic());
        if text.len() <= 35 && is_language && parts.all(is_part) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(LocaleError)
        }
    }
}

impl TryFrom<String> for Locale {
    type Error = LocaleError;

    fn try_from(text: String) -> Result<Self, LocaleError> {
        text.parse()
    }
}

impl From<Locale> for String {
    fn from(locale: Locale) -> Self {
        locale.0
    }
}

impl fmt::Debug for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
