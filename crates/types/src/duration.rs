//! Lengths of time as files write them.

use std::time::Duration;

/// A whole number with its unit: `ms`, `s`, `m`, `h` or `d` (24 h), such as `15m`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_a_number_and_a_unit() {
        assert_eq!(parse_duration("8s"), Some(Duration::from_secs(8)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("7d"), Some(Duration::from_hours(7 * 24)));
        for bad in ["", "s", "8", "8 s", "-8s", "8.5s", "8S", "1h30m", "99999999999999999999d", "213503982334602d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
