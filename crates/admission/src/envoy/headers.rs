//! What clients are told in headers: the fields of the IETF draft (`draft-ietf-httpapi-ratelimit-headers`, the form
//! that stands since its version 8), the three fields of its old versions that `envoyproxy/ratelimit` sends, and
//! `Retry-After`.

use std::fmt::Write as _;
use std::time::Duration;

use safeconduct_admission_domain::envoy::Limit;
use safeconduct_proto::envoy::config::core::v3::HeaderValue;
use safeconduct_service::config::GatewayHeaders;

/// How one limit stands after the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing<'a> {
    pub(super) limit: &'a Limit,
    pub(super) left: u32,
    /// Until the limit is whole again; none where nothing is taken, or where it never is.
    pub(super) reset: Option<Duration>,
}

/// The headers for these limits, which are those that count for the request.
pub(super) fn of(style: GatewayHeaders, standings: &[Standing<'_>], retry: Option<Duration>) -> Vec<HeaderValue> {
    let mut headers = Vec::new();
    if style == GatewayHeaders::None || standings.is_empty() {
        return headers;
    }
    let mut add =
        |key: &str, value: String| headers.push(HeaderValue { key: key.to_owned(), value, ..HeaderValue::default() });
    if matches!(style, GatewayHeaders::Draft | GatewayHeaders::Both) {
        let (policy, state) = draft(standings);
        add("ratelimit-policy", policy);
        add("ratelimit", state);
    }
    if matches!(style, GatewayHeaders::Legacy | GatewayHeaders::Both) {
        // Those headers have room for one: the limit that is used up first.
        if let Some(least) = standings.iter().min_by_key(|one| one.left) {
            add("ratelimit-limit", legacy_limit(least.limit, standings));
            add("ratelimit-remaining", least.left.to_string());
            add("ratelimit-reset", least.reset.map_or(0, seconds).to_string());
        }
    }
    if let Some(retry) = retry {
        add("retry-after", seconds(retry).max(1).to_string());
    }
    headers
}

fn draft(standings: &[Standing<'_>]) -> (String, String) {
    let (mut policy, mut state) = (String::with_capacity(64), String::with_capacity(64));
    for (index, one) in standings.iter().enumerate() {
        let twins = standings.iter().take(index).filter(|other| other.limit.policy == one.limit.policy).count();
        let comma = if index == 0 { "" } else { ", " };
        let name = name(&one.limit.policy, twins);
        // Writing to a string does not fail.
        let _ = write!(policy, "{comma}{name};q={};w={}", one.limit.requests, one.limit.unit.seconds());
        let _ = write!(state, "{comma}{name};r={}", one.left);
        if let Some(reset) = one.reset {
            let _ = write!(state, ";t={}", seconds(reset));
        }
    }
    (policy, state)
}

/// A string of structured fields (RFC 9651): what it can't hold becomes `_`. Names that stand twice are numbered, so
/// that the two fields can be matched.
fn name(policy: &str, twins: usize) -> String {
    let mut text = String::with_capacity(policy.len() + 4);
    text.push('"');
    for c in policy.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            ' '..='~' => text.push(c),
            _ => text.push('_'),
        }
    }
    if twins > 0 {
        let _ = write!(text, "#{}", twins + 1);
    }
    text.push('"');
    text
}

fn legacy_limit(least: &Limit, standings: &[Standing<'_>]) -> String {
    let mut text = least.requests.to_string();
    for one in standings {
        let _ = write!(text, ", {};w={}", one.limit.requests, one.limit.unit.seconds());
        if !one.limit.name.is_empty() {
            let _ = write!(text, ";name={}", name(&one.limit.name, 0));
        }
    }
    text
}

/// Whole seconds, rounded up: who comes back then is not too early.
fn seconds(length: Duration) -> u64 {
    length.as_secs().saturating_add(u64::from(length.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use safeconduct_admission_domain::envoy::Unit;

    use super::*;

    fn limit(requests: u32, unit: Unit, policy: &str) -> Limit {
        Limit::stated(requests, unit, [policy]).unwrap()
    }

    fn shown(headers: &[HeaderValue]) -> Vec<String> {
        headers.iter().map(|one| format!("{}: {}", one.key, one.value)).collect()
    }

    #[test]
    fn the_drafts_fields_name_each_policy_and_how_it_stands() {
        let (burst, daily) = (limit(100, Unit::Minute, "burst"), limit(1000, Unit::Day, "daily"));
        let standings = [
            Standing { limit: &burst, left: 99, reset: Some(Duration::from_millis(601)) },
            Standing { limit: &daily, left: 0, reset: Some(Duration::from_hours(24)) },
        ];
        assert_eq!(
            shown(&of(GatewayHeaders::Draft, &standings, Some(Duration::from_millis(86_399)))),
            [
                r#"ratelimit-policy: "burst";q=100;w=60, "daily";q=1000;w=86400"#,
                r#"ratelimit: "burst";r=99;t=1, "daily";r=0;t=86400"#,
                "retry-after: 87",
            ]
        );
    }

    #[test]
    fn the_old_fields_tell_of_the_limit_that_is_used_up_first() {
        let (burst, daily) = (limit(100, Unit::Minute, "burst"), limit(1000, Unit::Day, "daily"));
        let standings =
            [Standing { limit: &burst, left: 9, reset: None }, Standing { limit: &daily, left: 8, reset: None }];
        assert_eq!(
            shown(&of(GatewayHeaders::Legacy, &standings, None)),
            ["ratelimit-limit: 1000, 100;w=60, 1000;w=86400", "ratelimit-remaining: 8", "ratelimit-reset: 0"]
        );
        assert_eq!(of(GatewayHeaders::Both, &standings, None).len(), 5);
        assert!(of(GatewayHeaders::None, &standings, Some(Duration::from_secs(1))).is_empty());
        assert!(of(GatewayHeaders::Both, &[], None).is_empty());
    }

    #[test]
    fn a_name_cannot_break_out_of_its_field() {
        let odd = limit(1, Unit::Second, "a\"b\\c\r\nd\u{e9}");
        let standing = Standing { limit: &odd, left: 1, reset: None };
        let headers = shown(&of(GatewayHeaders::Draft, &[standing, standing], None));
        assert_eq!(headers[1], r#"ratelimit: "a\"b\\c__d_";r=1, "a\"b\\c__d_#2";r=1"#);
    }
}
