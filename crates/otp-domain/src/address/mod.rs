//! Addresses in the one form in which they are counted, keyed, bound and sent to.
//!
//! Two ways to write an address that reach the same mailbox or phone must not be two counters: whoever guesses or
//! floods would get a budget for each. So an address is normalised before anything is keyed by it, and normalising twice
//! changes nothing more.

mod country;
mod email;
mod phone;

use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;

pub use country::{Country, CountryError};
pub use email::{EmailAddress, MAX_EMAIL, PlusTags};
pub use phone::{MAX_PHONE, PhoneNumber};
pub use safeconduct_types::Channel;

/// Why a text is no address. Says what would be right, never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(pub(crate) &'static str);

/// A canonical address: what a code is sent to, and what it proves. Personal data: never printed.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// A mailbox.
    Email(EmailAddress),
    /// A phone.
    Sms(PhoneNumber),
}

impl Address {
    /// Normalises what somebody wrote.
    pub fn parse(channel: Channel, text: &str, plus_tags: PlusTags) -> Result<Self, AddressError> {
        match channel {
            Channel::Email => EmailAddress::parse(text, plus_tags).map(Self::Email),
            Channel::Sms => PhoneNumber::parse(text).map(Self::Sms),
        }
    }

    /// How a code gets there.
    pub const fn channel(&self) -> Channel {
        match self {
            Self::Email(_) => Channel::Email,
            Self::Sms(_) => Channel::Sms,
        }
    }

    /// The canonical text; personal data.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Email(email) => email.as_str(),
            Self::Sms(phone) => phone.as_str(),
        }
    }

    /// The address with most characters hidden, such as `a***@e***.com` or `+353***67`. The number of stars says
    /// nothing of the length.
    pub fn masked(&self) -> String {
        match self {
            Self::Email(email) => email.masked(),
            Self::Sms(phone) => phone.masked(),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({}, [redacted])", self.channel().as_str())
    }
}

/// Most bytes of a text that is looked at: an address, and some blanks around it.
const MAX_TEXT: usize = 1024;

/// Trims, refuses what is invisible or turns text around, and folds compatible forms (NFKC), so that full-width
/// letters and digits are the plain ones.
fn fold(text: &str) -> Result<String, AddressError> {
    if text.len() > MAX_TEXT {
        return Err(AddressError("is too long"));
    }
    let text = text.trim();
    if text.chars().any(is_invisible) {
        return Err(AddressError("must have no control, zero-width or direction characters"));
    }
    let folded: String = text.nfkc().collect();
    // Blanks that are only compatible with one become one here.
    Ok(folded.trim().to_owned())
}

/// What a reader does not see: controls, and what Unicode calls default-ignorable (`DerivedCoreProperties.txt`), among
/// it the zero-width and the bidirectional characters. IDNA would map some of them to nothing.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}' | '\u{2028}' | '\u{2029}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{fff0}'..='\u{fffd}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests;
