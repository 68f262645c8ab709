//! The `Retry-After` header (RFC 9110, section 10.2.3).

use std::time::{Duration, UNIX_EPOCH};

use safeconduct_types::Timestamp;

/// The longest wait that is taken from an upstream.
const LONGEST: Duration = Duration::from_hours(24);

/// How long an upstream asks to be left alone: seconds, or an HTTP date; a date in the past is no wait. `None` for
/// anything else. At most a day.
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit()) {
        // Too many digits for a number are too many seconds anyway.
        return Some(value.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let seconds = date.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let until = Timestamp::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
    Some(until.since(now).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_and_dates_are_understood() {
        // 1994-11-06T08:49:37Z
        let now = Timestamp::from_seconds(784_111_777);
        for (value, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 3 ", Some(3)),
            ("99999999999999999999", Some(86_400)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun Nov  6 08:49:47 1994", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(parse_retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(value in any::<String>(), now in any::<i64>()) {
            let _ = parse_retry_after(&value, Timestamp::from_millis(now));
        }
    }
}
