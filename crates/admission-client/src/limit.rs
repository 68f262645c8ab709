//! Limits as they travel with a request, and what is left of them. Admission keeps counts, not definitions.

use std::fmt;
use std::time::Duration;

use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::common::v1 as common;
use safeconduct_service::wire::{duration, timestamp, to_duration};
use safeconduct_types::{ConnectorName, Timestamp};

/// Whose name space a limit belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitScope {
    /// Declared in this connector; shared by all of its versions.
    Family(ConnectorName),
    /// Declared in the workspace; shared by the connectors that use it.
    Workspace,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Requests in a short time, smoothed.
    Rate,
    /// Admitted requests within a window.
    Count,
    /// A sum of amounts within a window.
    Sum,
}

/// A limit, with the counter of it that is meant.
#[derive(Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its name within its scope, 1 to 64 characters.
    pub name: String,
    /// Whose name space.
    pub scope: LimitScope,
    /// Counted per contact; others are shared over contacts.
    pub per_contact: bool,
    /// A digest of the values of the other dimensions, if there are any.
    pub dimensions: Option<[u8; 32]>,
    /// How it counts.
    pub shape: Shape,
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("name", &self.name)
            .field("scope", &self.scope)
            .field("per_contact", &self.per_contact)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// How a limit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A smoothed rate: `permits` in a `period`, up to `burst` at once.
    Rate {
        /// 1 to 1,000,000.
        permits: u32,
        /// 1 ms to 31 days.
        period: Duration,
        /// 1 to 1,000,000.
        burst: u32,
    },
    /// A maximum number of requests within a window.
    Count {
        /// The window.
        window: Window,
        /// The maximum, 0 (closed) or more.
        max: i64,
    },
    /// A maximum sum within a window.
    Sum {
        /// The window.
        window: Window,
        /// The maximum for each unit, in minor units, 0 (closed) or more. At least one.
        maxima: Vec<(String, i64)>,
    },
}

/// The time over which a cap counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// A unit of the calendar of this time zone (an IANA name).
    Calendar(CalendarUnit, String),
    /// The last so much time, 1 s to 400 days.
    Rolling(Duration),
}

/// A unit of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarUnit {
    /// A clock hour.
    Hour,
    /// Midnight to midnight.
    Day,
    /// From Monday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// What a request takes from a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The limit.
    pub limit: Limit,
    /// How much, in minor units or requests; 0 only asks.
    pub amount: i64,
    /// The unit of a sum; empty otherwise.
    pub unit: String,
}

/// What is left of a limit, at the moment of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Its name.
    pub name: String,
    /// What it counts.
    pub kind: LimitKind,
    /// The unit of a sum; empty otherwise.
    pub unit: String,
    /// What may still be taken.
    pub left: i64,
    /// The maximum in force; of a rate, the burst.
    pub max: i64,
    /// When `left` is `max` again if nothing else is taken. None where nothing is taken.
    pub resets: Option<Timestamp>,
}

/// That a limit is used up: nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The limit that denied.
    pub limit: Remaining,
    /// When the same may pass if nothing else is taken. None: waiting does not help.
    pub retry_after: Option<Duration>,
    /// What is left of each charged limit, as far as it was looked at.
    pub remaining: Vec<Remaining>,
}

pub(crate) fn to_charge(from: Charge) -> proto::Charge {
    proto::Charge { limit: Some(to_limit(from.limit)), amount: from.amount, unit: from.unit }
}

pub(crate) fn to_limit(from: Limit) -> proto::LimitSpec {
    use proto::limit_spec::Shape as Wire;

    let (scope, family) = match from.scope {
        LimitScope::Family(family) => (proto::LimitScope::Family, family.to_string()),
        LimitScope::Workspace => (proto::LimitScope::Workspace, String::new()),
    };
    let (kind, shape) = match from.shape {
        Shape::Rate { permits, period, burst } => {
            let period = Some(to_duration(period));
            let rate = proto::Rate { permits: permits.into(), period, burst: burst.into() };
            (common::LimitKind::Rate, Wire::Rate(rate))
        }
        Shape::Count { window, max } => {
            (common::LimitKind::Count, Wire::Cap(cap(window, vec![proto::UnitMax { unit: String::new(), max }])))
        }
        Shape::Sum { window, maxima } => {
            let maxima = maxima.into_iter().map(|(unit, max)| proto::UnitMax { unit, max }).collect();
            (common::LimitKind::Sum, Wire::Cap(cap(window, maxima)))
        }
    };
    proto::LimitSpec {
        name: from.name,
        scope: scope.into(),
        family,
        per_contact: from.per_contact,
        dimensions_digest: from.dimensions.map(|digest| digest.to_vec()).unwrap_or_default().into(),
        kind: kind.into(),
        shape: Some(shape),
    }
}

fn cap(window: Window, maxima: Vec<proto::UnitMax>) -> proto::Cap {
    use proto::cap::Window as Wire;

    let window = match window {
        Window::Calendar(unit, time_zone) => {
            let unit = match unit {
                CalendarUnit::Hour => proto::CalendarUnit::Hour,
                CalendarUnit::Day => proto::CalendarUnit::Day,
                CalendarUnit::Week => proto::CalendarUnit::Week,
                CalendarUnit::Month => proto::CalendarUnit::Month,
                CalendarUnit::Year => proto::CalendarUnit::Year,
            };
            Wire::Calendar(proto::CalendarWindow { unit: unit.into(), time_zone })
        }
        Window::Rolling(length) => Wire::Rolling(to_duration(length)),
    };
    proto::Cap { window: Some(window), maxima }
}

/// What is left of limits of a kind that this version does not know is left out.
pub(crate) fn all_remaining(from: Vec<common::LimitRemaining>) -> Vec<Remaining> {
    from.into_iter().filter_map(remaining).collect()
}

pub(crate) fn remaining(from: common::LimitRemaining) -> Option<Remaining> {
    let kind = match from.kind() {
        common::LimitKind::Rate => LimitKind::Rate,
        common::LimitKind::Count => LimitKind::Count,
        common::LimitKind::Sum => LimitKind::Sum,
        common::LimitKind::Unspecified => return None,
    };
    Some(Remaining {
        name: from.name,
        kind,
        unit: from.unit,
        left: from.left.max(0),
        max: from.max,
        resets: from.reset_time.and_then(|at| timestamp(&at)),
    })
}

/// `None`: it does not say which limit.
pub(crate) fn denied(from: proto::Denied) -> Option<Denied> {
    Some(Denied {
        limit: remaining(from.limit?)?,
        retry_after: from.retry_after.and_then(|after| duration(&after)),
        remaining: all_remaining(from.remaining),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_goes_out_whole() {
        let limit = Limit {
            name: "money-out".to_owned(),
            scope: LimitScope::Workspace,
            per_contact: true,
            dimensions: Some([9; 32]),
            shape: Shape::Sum {
                window: Window::Calendar(CalendarUnit::Day, "Europe/Dublin".to_owned()),
                maxima: vec![("EUR".to_owned(), 100_000)],
            },
        };
        let sent = to_limit(limit.clone());
        assert_eq!((sent.scope(), sent.kind()), (proto::LimitScope::Workspace, common::LimitKind::Sum));
        assert!(sent.per_contact && sent.family.is_empty() && sent.dimensions_digest.len() == 32);
        match sent.shape {
            Some(proto::limit_spec::Shape::Cap(cap)) => assert_eq!(cap.maxima[0].max, 100_000),
            other => panic!("{other:?}"),
        }
        let shown = format!("{limit:?}");
        assert!(!shown.contains("[9"), "{shown}");
    }

    #[test]
    fn a_denial_that_names_no_limit_is_no_answer() {
        assert!(denied(proto::Denied::default()).is_none());
        let limit = common::LimitRemaining { kind: 99, ..common::LimitRemaining::default() };
        assert!(denied(proto::Denied { limit: Some(limit), ..proto::Denied::default() }).is_none());
    }
}
