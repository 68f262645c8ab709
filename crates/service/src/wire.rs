//! Small steps between protobuf and what the domain means: times, lengths of time, required fields, marks.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use safeconduct_types::{Refusal, Timestamp, Violation};

mod mark;

pub use mark::{UNSAID, parse_mark, parse_mark_check, parse_mark_key, to_mark, to_mark_check, to_mark_key};

/// A point in time as protobuf has it.
pub fn to_timestamp(at: Timestamp) -> prost_types::Timestamp {
    let millis = at.as_millis().rem_euclid(1000);
    prost_types::Timestamp { seconds: at.as_seconds(), nanos: i32::try_from(millis).unwrap_or_default() * 1_000_000 }
}

/// The point in time that protobuf says, to the millisecond before; `None` if it is not in the range that protobuf
/// defines (years 1 to 9999).
pub fn timestamp(at: &prost_types::Timestamp) -> Option<Timestamp> {
    const YEARS_1_TO_9999: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    let nanos = u32::try_from(at.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let seconds = YEARS_1_TO_9999.contains(&at.seconds).then_some(at.seconds)?;
    Some(Timestamp::from_millis(seconds * 1000 + i64::from(nanos / 1_000_000)))
}

/// A length of time as protobuf has it; saturates.
pub fn to_duration(length: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(length.subsec_nanos()).unwrap_or_default() }
}

/// The length of time that protobuf says; `None` if it is negative or malformed.
pub fn duration(length: &prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(length.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(length.seconds).ok()?, nanos))
}

/// Collects what is wrong with the fields of one request, so that all of it is told at once.
#[derive(Debug, Default)]
#[must_use = "call `finish`, or nothing is refused"]
pub struct Fields {
    violations: Vec<Violation>,
}

impl Fields {
    /// Nothing wrong so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that a field is wrong: say what would be right, never the value.
    pub fn wrong(&mut self, field: &str, description: impl Into<String>) {
        self.violations.push(Violation::new(field, description));
    }

    /// A message or other field that must be set.
    pub fn required<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.wrong(field, "is required");
        }
        value
    }

    /// A text that must be there and have its form.
    pub fn parse<T: FromStr<Err: fmt::Display>>(&mut self, field: &str, text: &str) -> Option<T> {
        if text.is_empty() {
            self.wrong(field, "is required");
            return None;
        }
        text.parse().map_err(|error: T::Err| self.wrong(field, error.to_string())).ok()
    }

    /// A text that may be empty, and otherwise must have its form.
    pub fn optional<T: FromStr<Err: fmt::Display>>(&mut self, field: &str, text: &str) -> Option<T> {
        if text.is_empty() { None } else { self.parse(field, text) }
    }

    /// A text of at most `most` bytes without control characters; may be empty.
    pub fn text(&mut self, field: &str, text: String, most: usize) -> String {
        if text.len() > most {
            self.wrong(field, format!("must have at most {most} bytes"));
        } else if text.chars().any(char::is_control) {
            self.wrong(field, "must have no control characters");
        }
        text
    }

    /// An enum value that this version knows and that is stated.
    pub fn known<T: TryFrom<i32> + Default + PartialEq>(&mut self, field: &str, value: i32) -> Option<T> {
        let known = T::try_from(value).ok().filter(|value| *value != T::default());
        if known.is_none() {
            self.wrong(field, "must be one of the values of the contract, and not unspecified");
        }
        known
    }

    /// Refuses if anything was wrong.
    pub fn finish(self) -> Result<(), Refusal> {
        if self.violations.is_empty() { Ok(()) } else { Err(Refusal::invalid(self.violations)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safeconduct_types::WorkspaceId;

    #[test]
    fn times_survive_the_wire_to_the_millisecond() {
        for millis in [0, 1, 999, -1, -1001, 1_763_844_000_123] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(timestamp(&to_timestamp(at)), Some(at));
        }
        let length = Duration::new(15, 250_000_000);
        assert_eq!(duration(&to_duration(length)), Some(length));
    }

    #[test]
    fn malformed_times_are_no_times() {
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0)] {
            assert_eq!(timestamp(&prost_types::Timestamp { seconds, nanos }), None);
        }
        for (seconds, nanos) in [(-1, 0), (0, -1), (1, 1_000_000_000)] {
            assert_eq!(duration(&prost_types::Duration { seconds, nanos }), None);
        }
    }

    #[test]
    fn all_wrong_fields_are_told_at_once_and_without_their_values() {
        let mut fields = Fields::new();
        assert_eq!(fields.parse::<WorkspaceId>("workspace_id", "Se/cret"), None);
        assert_eq!(fields.required::<()>("proof", None), None);
        assert_eq!(fields.optional::<WorkspaceId>("other", ""), None);
        fields.text("locale", "en\n".to_owned(), 10);
        let refusal = fields.finish().unwrap_err();
        let named: Vec<_> = refusal.violations().iter().map(|one| one.field.as_str()).collect();
        assert_eq!(named, ["workspace_id", "proof", "locale"]);
        assert!(!refusal.to_string().contains("Se/cret"), "{refusal}");
    }
}
