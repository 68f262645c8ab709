//! Limits: from definitions to what admission charges, and from its answers to refusals.

use std::time::Duration;

use safeconduct_admission_client::{
    CalendarUnit, Charge, Denied, Limit, LimitKind, LimitScope, Remaining, Shape, Window,
};
use safeconduct_connector_domain::bind::{Binding, BoundInputs};
use safeconduct_connector_domain::definition::{Connector, OnStoreFailure};
use safeconduct_connector_domain::limit;
use safeconduct_proto::common::v1 as common;
use safeconduct_service::wire::to_timestamp;
use safeconduct_types::{ConnectorName, Reason, Refusal};

/// What whoever met a store that is gone is told to wait, where the store does not say.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What a request takes before anything is fetched to decide.
pub(crate) fn rates(connector: &Connector, binding: &Binding) -> Result<Vec<Charge>, Refusal> {
    Ok(limit::rates(connector, binding)?.into_iter().map(|one| charge(one, &connector.name)).collect())
}

/// What a request takes when it is admitted.
pub(crate) fn caps(connector: &Connector, inputs: &BoundInputs) -> Result<Vec<Charge>, Refusal> {
    Ok(limit::caps(connector, inputs)?.into_iter().map(|one| charge(one, &connector.name)).collect())
}

/// The limits that a connector is under, each with the counter that can be asked about without a request; without one
/// if the limit is counted for each value of an input.
pub fn counters(connector: &Connector) -> impl Iterator<Item = (&limit::Limit, Option<Limit>)> {
    let counter = |one| Some(charge(limit::count(one, &connector.name)?, &connector.name).limit);
    connector.limits.iter().map(move |one| (one, counter(one)))
}

pub(crate) fn has_caps(connector: &Connector) -> bool {
    connector.limits.iter().any(|one| !one.shape.is_rate())
}

/// Whether requests of this connector go ahead while the store is gone: a read that says so, and that nothing but its
/// rates holds back.
pub(crate) fn goes_ahead(connector: &Connector, refusal: &Refusal) -> bool {
    refusal.reason() == Reason::StoreUnavailable
        && connector.on_store_failure == OnStoreFailure::Allow
        && !has_caps(connector)
}

fn charge(from: limit::Charge<'_>, family: &ConnectorName) -> Charge {
    let limit::Charge { limit, dimensions, amount, unit } = from;
    let limit = Limit {
        name: limit.name.to_string(),
        scope: match limit.scope {
            limit::Scope::Family => LimitScope::Family(family.clone()),
            limit::Scope::Workspace => LimitScope::Workspace,
        },
        per_contact: limit.per.contact,
        dimensions: dimensions.map(|digest| *digest.as_bytes()),
        shape: shape(&limit.shape),
    };
    Charge { limit, amount, unit }
}

fn shape(from: &limit::Shape) -> Shape {
    match from {
        limit::Shape::Rate { permits, period, burst } => {
            Shape::Rate { permits: *permits, period: *period, burst: *burst }
        }
        limit::Shape::Count { window: over, max } => Shape::Count { window: window(over), max: *max },
        limit::Shape::Sum { window: over, maxima } => {
            Shape::Sum { window: window(over), maxima: maxima.iter().map(|(unit, max)| (unit.clone(), *max)).collect() }
        }
    }
}

fn window(from: &limit::Window) -> Window {
    match from {
        limit::Window::Rolling(length) => Window::Rolling(*length),
        limit::Window::Calendar(unit, zone) => {
            let unit = match unit {
                limit::CalendarUnit::Hour => CalendarUnit::Hour,
                limit::CalendarUnit::Day => CalendarUnit::Day,
                limit::CalendarUnit::Week => CalendarUnit::Week,
                limit::CalendarUnit::Month => CalendarUnit::Month,
                limit::CalendarUnit::Year => CalendarUnit::Year,
            };
            Window::Calendar(unit, zone.clone())
        }
    }
}

/// The refusal of a request for which too little is left.
pub(crate) fn denied(from: &Denied) -> Refusal {
    let Denied { limit, retry_after, .. } = from;
    let resets = limit.resets.map(|at| to_timestamp(at).to_string());
    let refusal = match limit.kind {
        LimitKind::Rate => {
            let detail = format!("too many requests for limit `{}`; wait as long as told, then ask again", limit.name);
            Refusal::new(Reason::RateLimited, detail)
        }
        LimitKind::Count | LimitKind::Sum => {
            let until = resets.as_ref().map(|at| format!(" until {at}")).unwrap_or_default();
            let what = match (limit.kind, limit.unit.as_str()) {
                (LimitKind::Count | LimitKind::Rate, _) => "requests".to_owned(),
                (LimitKind::Sum, "") => "units".to_owned(),
                (LimitKind::Sum, unit) => format!("minor units of {unit}"),
            };
            let detail = format!(
                "limit `{}` has {} of {} {what} left{until}, which is less than this takes; say so, or hand over, and \
                 do not split the request",
                limit.name, limit.left, limit.max
            );
            Refusal::new(Reason::CapReached, detail)
        }
    };
    let refusal = refusal
        .with_metadata("limit", limit.name.clone())
        .with_metadata("left", limit.left.to_string())
        .with_metadata("unit", limit.unit.clone());
    let refusal = match resets {
        Some(at) => refusal.with_metadata("resets", at),
        None => refusal,
    };
    match retry_after {
        Some(after) => refusal.with_retry_after(*after),
        None => refusal,
    }
}

/// A store that is gone is worth another try soon, whoever noticed.
pub(crate) fn hinted(refusal: Refusal) -> Refusal {
    if refusal.reason() == Reason::StoreUnavailable && refusal.retry_after().is_none() {
        return refusal.with_retry_after(STORE_PAUSE);
    }
    refusal
}

/// What is left of a limit, as an execution shows it.
pub(crate) fn shown(from: &Remaining) -> common::LimitRemaining {
    let kind = match from.kind {
        LimitKind::Rate => common::LimitKind::Rate,
        LimitKind::Count => common::LimitKind::Count,
        LimitKind::Sum => common::LimitKind::Sum,
    };
    common::LimitRemaining {
        name: from.name.clone(),
        kind: kind.into(),
        unit: from.unit.clone(),
        left: from.left,
        max: from.max,
        reset_time: from.resets.map(to_timestamp),
    }
}

#[cfg(test)]
mod tests {
    use safeconduct_types::{NextAction, Timestamp};

    use super::*;

    fn remaining(kind: LimitKind, unit: &str) -> Denied {
        let limit = Remaining {
            name: "money-out".to_owned(),
            kind,
            unit: unit.to_owned(),
            left: 4900,
            max: 100_000,
            resets: Some(Timestamp::from_seconds(1_800_000_000)),
        };
        Denied { limit, retry_after: Some(Duration::from_secs(7)), remaining: Vec::new() }
    }

    #[test]
    fn a_refusal_names_the_limit_what_is_left_and_when_it_resets() {
        let refusal = denied(&remaining(LimitKind::Sum, "EUR"));
        assert_eq!((refusal.reason(), refusal.next_action()), (Reason::CapReached, NextAction::HandOver));
        assert_eq!(refusal.retry_after(), Some(Duration::from_secs(7)));
        assert!(
            refusal.detail().contains("4900 of 100000 minor units of EUR left until 2027-01-15T08:00:00Z"),
            "{refusal}"
        );
        let facts: Vec<_> = refusal.metadata().iter().map(|(key, value)| (&**key, value.as_str())).collect();
        let expected = [("limit", "money-out"), ("left", "4900"), ("unit", "EUR"), ("resets", "2027-01-15T08:00:00Z")];
        assert_eq!(facts, expected);
        let refusal = denied(&remaining(LimitKind::Rate, ""));
        assert_eq!((refusal.reason(), refusal.next_action()), (Reason::RateLimited, NextAction::Wait));
    }

    #[test]
    fn a_store_that_is_gone_comes_with_a_hint() {
        let gone = Refusal::new(Reason::StoreUnavailable, "");
        assert_eq!(hinted(gone.clone()).retry_after(), Some(STORE_PAUSE));
        assert_eq!(hinted(gone.with_retry_after(STORE_PAUSE * 3)).retry_after(), Some(STORE_PAUSE * 3));
        assert_eq!(hinted(Refusal::new(Reason::NotYours, "")).retry_after(), None);
    }
}
