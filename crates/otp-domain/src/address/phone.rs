//! Phone numbers.
//!
//! Which digits are one number, whose country's it is and of which kind says libphonenumber's metadata (the crate
//! `rlibphonenumber`): numbering plans change every month, and the rules of national prefixes are not worth guessing.
//! It sees `+` and digits only; everything else that it could read (extensions, letters, `tel:`) is refused before it.

use std::fmt;

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, PhoneNumberType};
use serde::{Deserialize, Serialize};

use super::country::Country;
use super::{AddressError, fold};

/// Most characters of a canonical phone number: `+` and 15 digits (ITU-T E.164, section 6.1).
pub const MAX_PHONE: usize = 16;
/// The fewest digits, country code included, that are taken for a number that can be dialled from abroad.
const MIN_DIGITS: usize = 7;
const MAX_DIGITS: usize = 15;
/// Digits that may be written besides, as a national prefix.
const MAX_NATIONAL_PREFIX: usize = 3;
/// Digits at the end that change within the block of numbers that a network operator was given.
const BLOCK: usize = 4;

/// A canonical phone number: `+`, country code, number; digits only. Personal data: never printed.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhoneNumber {
    text: String,
    /// Digits of the country code.
    code: usize,
    country: Option<Country>,
    is_mobile: bool,
}

impl PhoneNumber {
    /// Normalises what somebody wrote: international form with a `+`; blanks, hyphens, dots, slashes and brackets go.
    /// A national prefix goes where it is no part of the number, in brackets or not: `+44 (0)20` loses its zero, and
    /// `+39 06` keeps it. Refused: what is no number of any plan.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        const FORM: AddressError =
            AddressError("must be a phone number with `+` and country code, such as +353851234567");
        let folded = fold(text)?;
        let number = folded.strip_prefix('+').ok_or(FORM)?;
        let is_separator =
            |c: char| c.is_whitespace() || matches!(c, '-' | '.' | '/' | '(' | ')' | '\u{2010}'..='\u{2015}');
        let digits: String = number.chars().filter(|c| !is_separator(*c)).collect();
        if !(MIN_DIGITS..=MAX_DIGITS + MAX_NATIONAL_PREFIX).contains(&digits.len()) || !is_digits(&digits) {
            return Err(FORM);
        }
        let (canonical, is_valid) = canonical(&digits).ok_or(AddressError("must begin with the code of a country"))?;
        if !is_valid {
            return Err(AddressError("is no number of its country: digits are missing, or too many, or wrong"));
        }
        let parsed = Self::try_from(canonical)?;
        // Two forms of one number would be two keys.
        let again = self::canonical(parsed.digits());
        if again.is_some_and(|(again, is_valid)| is_valid && again == parsed.text) { Ok(parsed) } else { Err(FORM) }
    }

    /// The canonical text; personal data.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The country that the number belongs to, also where several share a code (+1, +7, +44, +39 and others). `None`: a
    /// number of no country (satellite, freephone, premium numbers that are sold worldwide), which nothing is ever sent
    /// to.
    pub fn country(&self) -> Option<Country> {
        self.country
    }

    /// Whether it is a mobile phone's, or can be one's in a plan that does not tell them apart (North America). All
    /// others get no text messages: who is called on premium, shared-cost, personal and universal access numbers gets
    /// paid for it; freephone, pagers, voicemail, internet telephony and landlines do not show what was sent, or read it
    /// aloud to whoever is in the room.
    pub fn is_mobile(&self) -> bool {
        self.is_mobile
    }

    /// The number without its last four digits: the block that an operator was given. Frauds that earn by text messages
    /// use many numbers of few blocks.
    pub fn prefix(&self) -> &str {
        self.text.get(..self.text.len().saturating_sub(BLOCK)).unwrap_or_default()
    }

    /// Country code and the last two digits.
    pub(super) fn masked(&self) -> String {
        let code = self.text.get(..=self.code).unwrap_or_default();
        let last = self.text.get(self.text.len().saturating_sub(2)..).unwrap_or_default();
        format!("{code}***{last}")
    }

    fn digits(&self) -> &str {
        self.text.get(1..).unwrap_or_default()
    }
}

/// The number's one form, and whether there is such a number. `None`: no country's.
fn canonical(digits: &str) -> Option<(String, bool)> {
    let number = PHONE_NUMBER_UTIL.parse(format!("+{digits}"), None).ok()?;
    let is_valid = PHONE_NUMBER_UTIL.is_valid_number(&number);
    Some((PHONE_NUMBER_UTIL.format(&number, PhoneNumberFormat::E164).into_owned(), is_valid))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_digit())
}

/// What was canonical once is read back, whatever the plans say by now: then it is no mobile's, and gets nothing.
impl TryFrom<String> for PhoneNumber {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        const NOT: AddressError = AddressError("is not canonical");
        let digits = text.strip_prefix('+').ok_or(NOT)?;
        if !(MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()) || !is_digits(digits) {
            return Err(NOT);
        }
        let number = PHONE_NUMBER_UTIL.parse(&text, None).map_err(|_| NOT)?;
        let code = usize::try_from(number.country_code.max(1).ilog10()).map_err(|_| NOT)? + 1;
        let region = PHONE_NUMBER_UTIL.get_region_for_number(&number);
        let country = region.and_then(|region| Country::from_region(region.as_region_str().as_ref()));
        let kind = PHONE_NUMBER_UTIL.get_number_type(&number);
        let is_mobile = matches!(kind, PhoneNumberType::Mobile | PhoneNumberType::FixedLineOrMobile);
        Ok(Self { text, code, country, is_mobile })
    }
}

impl From<PhoneNumber> for String {
    fn from(number: PhoneNumber) -> Self {
        number.text
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber([redacted])")
    }
}
