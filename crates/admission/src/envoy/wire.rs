//! What a gateway sends, checked; and the words of the protocol for ours.

use safeconduct_admission_domain::envoy::{Limit, Unit};
use safeconduct_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use safeconduct_proto::envoy::service::ratelimit::v3::RateLimitRequest;
use safeconduct_proto::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit as AnsweredUnit;
use safeconduct_proto::envoy::r#type::v3::RateLimitUnit;
use safeconduct_service::wire::Fields;
use safeconduct_types::Refusal;

/// The most descriptors of one request, and entries of one descriptor.
const MAX_DESCRIPTORS: usize = 64;
const MAX_ENTRIES: usize = 32;
/// The longest domain or key, and the longest value, in bytes.
const MAX_KEY: usize = 1024;
const MAX_VALUE: usize = 16 * 1024;

/// Refuses what is malformed, all of it at once.
pub(super) fn check(request: &RateLimitRequest) -> Result<(), Refusal> {
    let mut wrong = Fields::new();
    if !(1..=MAX_KEY).contains(&request.domain.len()) {
        wrong.wrong("domain", "must have 1 to 1024 bytes");
    }
    let descriptors = &request.descriptors;
    if !(1..=MAX_DESCRIPTORS).contains(&descriptors.len()) {
        wrong.wrong("descriptors", "must be 1 to 64");
    }
    // Those that are too many are not told one by one.
    for (index, descriptor) in descriptors.iter().enumerate().take(MAX_DESCRIPTORS) {
        if let Some((field, problem)) = problem(descriptor) {
            wrong.wrong(&format!("descriptors[{index}].{field}"), problem);
        }
    }
    wrong.finish()
}

fn problem(descriptor: &RateLimitDescriptor) -> Option<(&'static str, &'static str)> {
    if !(1..=MAX_ENTRIES).contains(&descriptor.entries.len()) {
        return Some(("entries", "must be 1 to 32"));
    }
    let fits = |key: &str, value: &str| (1..=MAX_KEY).contains(&key.len()) && value.len() <= MAX_VALUE;
    if descriptor.entries.iter().any(|entry| !fits(&entry.key, &entry.value)) {
        return Some(("entries", "must have keys of 1 to 1024 bytes and values of at most 16 KiB"));
    }
    if descriptor.is_negative_hits {
        return Some(("is_negative_hits", "is not served: what was admitted is not given back; leave it out"));
    }
    if descriptor.limit.is_some() && stated(descriptor).is_none() {
        return Some(("limit", "must have a unit and at most 1000000 requests in one unit"));
    }
    None
}

/// The limit that the gateway states for this descriptor, if it states a sound one.
pub(super) fn stated(descriptor: &RateLimitDescriptor) -> Option<Limit> {
    let limit = descriptor.limit.as_ref()?;
    let unit = match limit.unit() {
        RateLimitUnit::Unknown => return None,
        RateLimitUnit::Second => Unit::Second,
        RateLimitUnit::Minute => Unit::Minute,
        RateLimitUnit::Hour => Unit::Hour,
        RateLimitUnit::Day => Unit::Day,
        RateLimitUnit::Week => Unit::Week,
        RateLimitUnit::Month => Unit::Month,
        RateLimitUnit::Year => Unit::Year,
    };
    Limit::stated(limit.requests_per_unit, unit, descriptor.entries.iter().map(|entry| entry.key.as_str()))
}

/// How many hits a descriptor counts for. The request's own number means 1 where it is 0, a descriptor's does not.
pub(super) fn hits(request: &RateLimitRequest, descriptor: &RateLimitDescriptor) -> i64 {
    descriptor
        .hits_addend
        .map_or_else(|| i64::from(request.hits_addend.max(1)), |hits| i64::try_from(hits).unwrap_or(i64::MAX))
}

pub(super) const fn answered(unit: Unit) -> AnsweredUnit {
    match unit {
        Unit::Second => AnsweredUnit::Second,
        Unit::Minute => AnsweredUnit::Minute,
        Unit::Hour => AnsweredUnit::Hour,
        Unit::Day => AnsweredUnit::Day,
        Unit::Week => AnsweredUnit::Week,
        Unit::Month => AnsweredUnit::Month,
        Unit::Year => AnsweredUnit::Year,
    }
}
