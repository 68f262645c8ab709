//! Phone numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::country::{self, Country};
use super::{AddressError, fold};

/// Most characters of a canonical phone number: `+` and 15 digits (ITU-T E.164, section 6.1).
pub const MAX_PHONE: usize = 16;
/// The fewest digits, country code included, that are taken for a number that can be dialled from abroad.
const MIN_DIGITS: usize = 7;
const MAX_DIGITS: usize = 15;
/// Digits at the end that change within the block of numbers that a network operator was given.
const BLOCK: usize = 4;

/// A canonical phone number: `+`, country code, number; digits only. Personal data: never printed.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// Normalises what somebody wrote: international form with a `+`; blanks, hyphens, dots, slashes and brackets go.
    /// The national `0` has to be left out where it is not part of the number; `(0)` is taken for it.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        const FORM: AddressError =
            AddressError("must be a phone number with `+` and country code, such as +353851234567");
        let folded = fold(text)?;
        let number = folded.strip_prefix('+').ok_or(FORM)?.replace("(0)", "");
        let is_separator =
            |c: char| c.is_whitespace() || matches!(c, '-' | '.' | '/' | '(' | ')' | '\u{2010}'..='\u{2015}');
        let digits: String = number.chars().filter(|c| !is_separator(*c)).collect();
        if !(MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()) || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return Err(FORM);
        }
        let plan = country::plan(&digits).ok_or(AddressError("must begin with the code of a country"))?;
        let national = digits.get(plan.code.len()..).unwrap_or_default();
        if plan.drops_zero && national.starts_with('0') {
            return Err(AddressError("must not have the national 0 after the country code"));
        }
        if !plan.lengths.contains(&national.len()) {
            return Err(AddressError("has too many or too few digits for its country"));
        }
        Ok(Self(format!("+{digits}")))
    }

    /// The canonical text; personal data.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The country whose numbering plan it is in. `None`: a number of no country (satellite, freephone, premium and
    /// personal numbers that are sold worldwide), which nothing is ever sent to.
    pub fn country(&self) -> Option<Country> {
        country::of(self.digits())
    }

    /// Whether who is called gets paid for it, or the number leads anywhere: premium, shared-cost and personal numbers.
    pub fn is_premium(&self) -> bool {
        country::is_premium(self.digits())
    }

    /// The number without its last four digits: the block that an operator was given. Frauds that earn by text messages
    /// use many numbers of few blocks.
    pub fn prefix(&self) -> &str {
        self.0.get(..self.0.len().saturating_sub(BLOCK)).unwrap_or_default()
    }

    /// Country code and the last two digits.
    pub(super) fn masked(&self) -> String {
        let code = country::plan(self.digits()).map_or("", |plan| plan.code);
        let last = self.0.get(self.0.len().saturating_sub(2)..).unwrap_or_default();
        format!("+{code}***{last}")
    }

    fn digits(&self) -> &str {
        self.0.get(1..).unwrap_or_default()
    }
}

impl TryFrom<String> for PhoneNumber {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        let parsed = Self::parse(&text)?;
        if parsed.0 == text { Ok(parsed) } else { Err(AddressError("is not canonical")) }
    }
}

impl From<PhoneNumber> for String {
    fn from(number: PhoneNumber) -> Self {
        number.0
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber([redacted])")
    }
}
