//! A decimal number as written: digits and a power of ten.

use serde_json::Number;

/// Characters that a number may have.
const MAX_CHARS: usize = 128;
/// The power of ten of the first digit stays within plus and minus this.
const MAX_MAGNITUDE: i32 = 300;
/// The longest plain form, in digits; beyond it the canonical form has an exponent.
const MAX_PLAIN: i32 = 40;

/// An exact decimal: `digits` times ten to the `exponent`. One value has one representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    /// ASCII digits without leading or trailing zeros; empty for zero.
    digits: String,
    exponent: i32,
}

impl Decimal {
    /// The value of this text, which follows the JSON grammar of a number. `None` if it does not, or lies outside
    /// the bounds that the module states.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_CHARS {
            return None;
        }
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, power) = match rest.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, parse_power(power)?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let all_digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
        if whole.is_empty()
            || (whole.len() > 1 && whole.starts_with('0'))
            || !all_digits(whole)
            || !all_digits(fraction)
        {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_end_matches('0');
        let dropped = i32::try_from(digits.len() - significant.len()).ok()?;
        let exponent = power.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(dropped)?;
        let digits = significant.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        let decimal = Self { negative, digits, exponent };
        (-MAX_MAGNITUDE..=MAX_MAGNITUDE).contains(&(decimal.len() + exponent)).then_some(decimal)
    }

    /// The value of a JSON number, if it is within the bounds.
    pub fn of(number: &Number) -> Option<Self> {
        Self::parse(number.as_str())
    }

    /// Whether it has no fraction.
    pub fn is_integer(&self) -> bool {
        self.exponent >= 0
    }

    /// The canonical text.
    pub fn canonical(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let digits = &self.digits;
        if digits.is_empty() {
            return "0".to_owned();
        }
        if self.exponent >= 0 && self.len() + self.exponent <= MAX_PLAIN {
            return format!("{sign}{digits}{}", zeros(self.exponent));
        }
        if self.exponent < 0 && self.exponent >= -MAX_PLAIN && self.len() <= MAX_PLAIN {
            let point = self.len() + self.exponent;
            if point <= 0 {
                return format!("{sign}0.{}{digits}", zeros(-point));
            }
            let (whole, fraction) =
                digits.split_at_checked(usize::try_from(point).unwrap_or(0)).unwrap_or((digits, ""));
            return format!("{sign}{whole}.{fraction}");
        }
        // The sign is written because `serde_json` writes it when it reads this text back.
        let plus = if self.exponent < 0 { "" } else { "+" };
        format!("{sign}{digits}e{plus}{}", self.exponent)
    }

    /// The value in units of ten to the minus `places`, as digits: `12.5` with two places is `1250`. `None` if that
    /// is no whole number (nothing is ever rounded) or does not fit 64 bits.
    pub fn minor(&self, places: u8) -> Option<i64> {
        let exponent = self.exponent.checked_add(i32::from(places))?;
        if self.digits.is_empty() {
            return Some(0);
        }
        if exponent < 0 || self.len() + exponent > 19 {
            return None;
        }
        let sign = if self.negative { "-" } else { "" };
        format!("{sign}{}{}", self.digits, zeros(exponent)).parse().ok()
    }

    fn len(&self) -> i32 {
        // At most 128 characters went in.
        i32::try_from(self.digits.len()).unwrap_or(i32::MAX)
    }
}

fn parse_power(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    // A power of many digits can only be one of zero or of something out of bounds.
    let power: i32 = digits
        .trim_start_matches('0')
        .get(..5)
        .map_or_else(|| digits.trim_start_matches('0').parse().ok().or(Some(0)), |_| None)?;
    Some(if text.starts_with('-') { -power } else { power })
}

fn zeros(count: i32) -> String {
    "0".repeat(usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn minor_units_are_exact_or_nothing() {
        let minor = |text: &str, places| Decimal::parse(text).and_then(|decimal| decimal.minor(places));
        assert_eq!(minor("12.34", 2), Some(1234));
        assert_eq!(minor("12.3", 2), Some(1230));
        assert_eq!(minor("12.340", 2), Some(1234));
        assert_eq!(minor("12.345", 2), None);
        assert_eq!(minor("-0.01", 2), Some(-1));
        assert_eq!(minor("0.1", 0), None);
        assert_eq!(minor("1e2", 2), Some(10000));
        assert_eq!(minor("90071992547409.93", 2), Some(9_007_199_254_740_993));
        assert_eq!(minor("92233720368547758.08", 2), None);
        assert_eq!(minor("-92233720368547758.08", 2), Some(i64::MIN));
        assert_eq!(minor("1e300", 2), None);
    }

    #[test]
    fn numbers_out_of_bounds_are_no_numbers() {
        for text in ["1e301", "1e99999999999", "1e-400", "01", "1.", ".1", "+1", "1e", "", "-", "1e+", "0x1", "NaN"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert_eq!(Decimal::parse(&"1".repeat(129)), None);
    }

    proptest! {
        #[test]
        fn an_amount_written_in_decimals_is_read_exactly(minor in -1_000_000_000_000_000_000i64..1_000_000_000_000_000_000, places in 0u8..=6) {
            let scale = 10i64.pow(u32::from(places));
            let sign = if minor < 0 { "-" } else { "" };
            let (whole, rest) = (minor.abs() / scale, minor.abs() % scale);
            let text = if places == 0 { minor.to_string() } else { format!("{sign}{whole}.{rest:0width$}", width = usize::from(places)) };
            prop_assert_eq!(Decimal::parse(&text).unwrap().minor(places), Some(minor), "{}", text);
        }

        #[test]
        fn the_canonical_text_has_the_same_value(digits in "-?[1-9][0-9]{0,60}", power in -150i32..150) {
            let decimal = Decimal::parse(&format!("{digits}e{power}")).unwrap();
            prop_assert_eq!(Decimal::parse(&decimal.canonical()), Some(decimal));
        }
    }
}
