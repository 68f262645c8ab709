//! Limits and charges, from protobuf.

use std::sync::Arc;

use safeconduct_admission_domain::Digest;
use safeconduct_admission_domain::calendar::CalendarUnit;
use safeconduct_admission_domain::limit::{
    Cap, CapKind, Charge, Charges, Kind, Limit, LimitError, LimitName, MAX_CHARGES, Rate, Scope, Shape, Unit, Window,
};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::common::v1 as common;
use safeconduct_service::wire::{Fields, duration};
use safeconduct_types::ConnectorName;

/// The charges of a request. `per_contact` says whether a contact is named, for limits that count each apart.
pub(crate) fn parse_charges(
    fields: &mut Fields,
    from: Vec<proto::Charge>,
    per_contact: bool,
) -> Option<Vec<Arc<Charge>>> {
    if from.is_empty() {
        return Some(Vec::new());
    }
    if from.len() > MAX_CHARGES {
        fields.wrong("charges", "must be at most 32");
        return None;
    }
    let mut charges = Vec::with_capacity(from.len());
    for (place, charge) in from.into_iter().enumerate() {
        let at = format!("charges[{place}]");
        let limit = parse_limit(fields, &format!("{at}.limit"), charge.limit, per_contact);
        let unit = told(fields, &at, Unit::parse(&charge.unit));
        if let (Some(limit), Some(unit)) = (limit, unit) {
            charges.extend(all_told(fields, &at, Charge::parse(limit, charge.amount, unit)));
        }
    }
    let charges = all_told(fields, "", Charges::parse(charges))?;
    Some(charges.into_vec().into_iter().map(Arc::new).collect())
}

/// One limit.
pub(crate) fn parse_limit(
    fields: &mut Fields,
    at: &str,
    from: Option<proto::LimitSpec>,
    contact: bool,
) -> Option<Limit> {
    let from = fields.required(at, from)?;
    let name = told(fields, at, LimitName::parse(&from.name));
    let scope = parse_scope(fields, at, from.scope, &from.family);
    if from.per_contact && !contact {
        fields.wrong("contact_id", "is required for a limit that is counted per contact");
    }
    let dimensions = if from.dimensions_digest.is_empty() {
        Some(None)
    } else {
        let digest = Digest::parse(&from.dimensions_digest);
        digest.map_err(|error| fields.wrong(&format!("{at}.dimensions_digest"), error.to_string())).ok().map(Some)
    };
    let kind = match fields.known::<common::LimitKind>(&format!("{at}.kind"), from.kind) {
        Some(common::LimitKind::Rate) => Some(Kind::Rate),
        Some(common::LimitKind::Count) => Some(Kind::Count),
        Some(common::LimitKind::Sum) => Some(Kind::Sum),
        Some(common::LimitKind::Unspecified) | None => None,
    };
    let shape = fields.required(&format!("{at}.shape"), from.shape);
    let shape = shape.zip(kind).and_then(|(shape, kind)| parse_shape(fields, at, kind, shape));
    let (per_contact, shape) = (from.per_contact, shape?);
    Some(Limit { name: name?, scope: scope?, per_contact, dimensions: dimensions?, shape })
}

fn parse_scope(fields: &mut Fields, at: &str, scope: i32, family: &str) -> Option<Scope> {
    let field = format!("{at}.family");
    match fields.known::<proto::LimitScope>(&format!("{at}.scope"), scope)? {
        proto::LimitScope::Family => fields.parse::<ConnectorName>(&field, family).map(Scope::Family),
        proto::LimitScope::Workspace if family.is_empty() => Some(Scope::Workspace),
        proto::LimitScope::Workspace => {
            fields.wrong(&field, "must be empty with scope WORKSPACE");
            None
        }
        proto::LimitScope::Unspecified => None,
    }
}

fn parse_shape(fields: &mut Fields, at: &str, kind: Kind, from: proto::limit_spec::Shape) -> Option<Shape> {
    use proto::limit_spec::Shape as Wire;
    match (kind, from) {
        (Kind::Rate, Wire::Rate(rate)) => {
            let at = format!("{at}.rate");
            let period = rate.period.as_ref().and_then(duration);
            let Some(period) = period.and_then(|period| i64::try_from(period.as_micros()).ok()) else {
                fields.wrong(&format!("{at}.period"), "must be between 1 ms and 31 days");
                return None;
            };
            all_told(fields, &at, Rate::parse(rate.permits, period, rate.burst)).map(Shape::Rate)
        }
        (Kind::Count, Wire::Cap(cap)) => parse_cap(fields, &format!("{at}.cap"), CapKind::Count, cap),
        (Kind::Sum, Wire::Cap(cap)) => parse_cap(fields, &format!("{at}.cap"), CapKind::Sum, cap),
        (Kind::Rate, Wire::Cap(_)) | (Kind::Count | Kind::Sum, Wire::Rate(_)) => {
            fields.wrong(&format!("{at}.shape"), "must be `rate` for RATE, and `cap` for COUNT and SUM");
            None
        }
    }
}

fn parse_cap(fields: &mut Fields, at: &str, kind: CapKind, from: proto::Cap) -> Option<Shape> {
    let window = match fields.required(&format!("{at}.window"), from.window) {
        Some(proto::cap::Window::Rolling(length)) => {
            let length = duration(&length).and_then(|length| i64::try_from(length.as_millis()).ok());
            told(fields, at, Window::rolling(length.unwrap_or_default()))
        }
        Some(proto::cap::Window::Calendar(calendar)) => {
            let at = format!("{at}.calendar");
            let unit = match fields.known::<proto::CalendarUnit>(&format!("{at}.unit"), calendar.unit) {
                Some(proto::CalendarUnit::Hour) => Some(CalendarUnit::Hour),
                Some(proto::CalendarUnit::Day) => Some(CalendarUnit::Day),
                Some(proto::CalendarUnit::Week) => Some(CalendarUnit::Week),
                Some(proto::CalendarUnit::Month) => Some(CalendarUnit::Month),
                Some(proto::CalendarUnit::Year) => Some(CalendarUnit::Year),
                Some(proto::CalendarUnit::Unspecified) | None => None,
            };
            unit.and_then(|unit| told(fields, &at, Window::calendar(unit, &calendar.time_zone)))
        }
        None => None,
    };
    let mut maxima = Vec::with_capacity(from.maxima.len());
    for (place, one) in from.maxima.iter().enumerate() {
        let unit = told(fields, &format!("{at}.maxima[{place}]"), Unit::parse(&one.unit))?;
        maxima.push((unit, one.max));
    }
    all_told(fields, at, Cap::parse(kind, window?, maxima)).map(Shape::Cap)
}

fn told<T>(fields: &mut Fields, at: &str, parsed: Result<T, LimitError>) -> Option<T> {
    all_told(fields, at, parsed.map_err(|error| vec![error]))
}

fn all_told<T>(fields: &mut Fields, at: &str, parsed: Result<T, Vec<LimitError>>) -> Option<T> {
    match parsed {
        Ok(parsed) => Some(parsed),
        Err(errors) => {
            for error in errors {
                let field = if at.is_empty() { error.field } else { format!("{at}.{}", error.field) };
                fields.wrong(&field, error.problem);
            }
            None
        }
    }
}
