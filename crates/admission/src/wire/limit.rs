//! Limits and charges, from protobuf.

use std::fmt::Arguments;
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
        let limit = parse_limit_at(fields, format_args!("charges[{place}].limit"), charge.limit, per_contact);
        let unit = told(fields, format_args!("charges[{place}]"), Unit::parse(&charge.unit));
        if let (Some(limit), Some(unit)) = (limit, unit) {
            let charge = Charge::parse(limit, charge.amount, unit);
            charges.extend(all_told(fields, format_args!("charges[{place}]"), charge));
        }
    }
    let charges = all_told(fields, format_args!(""), Charges::parse(charges))?;
    Some(charges.into_vec().into_iter().map(Arc::new).collect())
}

/// One limit.
pub(crate) fn parse_limit(
    fields: &mut Fields,
    at: &str,
    from: Option<proto::LimitSpec>,
    contact: bool,
) -> Option<Limit> {
    parse_limit_at(fields, format_args!("{at}"), from, contact)
}

/// As [`parse_limit`]. Where it is becomes a text only if something is wrong: this runs for every charge.
fn parse_limit_at(
    fields: &mut Fields,
    at: Arguments<'_>,
    from: Option<proto::LimitSpec>,
    contact: bool,
) -> Option<Limit> {
    let from = required(fields, at, from)?;
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
    let kind = match known::<common::LimitKind>(fields, format_args!("{at}.kind"), from.kind) {
        Some(common::LimitKind::Rate) => Some(Kind::Rate),
        Some(common::LimitKind::Count) => Some(Kind::Count),
        Some(common::LimitKind::Sum) => Some(Kind::Sum),
        Some(common::LimitKind::Unspecified) | None => None,
    };
    let shape = required(fields, format_args!("{at}.shape"), from.shape);
    let shape = shape.zip(kind).and_then(|(shape, kind)| parse_shape(fields, at, kind, shape));
    let (per_contact, shape) = (from.per_contact, shape?);
    Some(Limit { name: name?, scope: scope?, per_contact, dimensions: dimensions?, shape })
}

fn parse_scope(fields: &mut Fields, at: Arguments<'_>, scope: i32, family: &str) -> Option<Scope> {
    match known::<proto::LimitScope>(fields, format_args!("{at}.scope"), scope)? {
        proto::LimitScope::Family => {
            let name = family.parse().ok();
            name.or_else(|| fields.parse::<ConnectorName>(&format!("{at}.family"), family)).map(Scope::Family)
        }
        proto::LimitScope::Workspace if family.is_empty() => Some(Scope::Workspace),
        proto::LimitScope::Workspace => {
            fields.wrong(&format!("{at}.family"), "must be empty with scope WORKSPACE");
            None
        }
        proto::LimitScope::Unspecified => None,
    }
}

fn parse_shape(fields: &mut Fields, at: Arguments<'_>, kind: Kind, from: proto::limit_spec::Shape) -> Option<Shape> {
    use proto::limit_spec::Shape as Wire;
    match (kind, from) {
        (Kind::Rate, Wire::Rate(rate)) => {
            let period = rate.period.as_ref().and_then(duration);
            let Some(period) = period.and_then(|period| i64::try_from(period.as_micros()).ok()) else {
                fields.wrong(&format!("{at}.rate.period"), "must be between 1 ms and 31 days");
                return None;
            };
            let parsed = Rate::parse(rate.permits, period, rate.burst);
            all_told(fields, format_args!("{at}.rate"), parsed).map(Shape::Rate)
        }
        (Kind::Count, Wire::Cap(cap)) => parse_cap(fields, format_args!("{at}.cap"), CapKind::Count, cap),
        (Kind::Sum, Wire::Cap(cap)) => parse_cap(fields, format_args!("{at}.cap"), CapKind::Sum, cap),
        (Kind::Rate, Wire::Cap(_)) | (Kind::Count | Kind::Sum, Wire::Rate(_)) => {
            fields.wrong(&format!("{at}.shape"), "must be `rate` for RATE, and `cap` for COUNT and SUM");
            None
        }
    }
}

fn parse_cap(fields: &mut Fields, at: Arguments<'_>, kind: CapKind, from: proto::Cap) -> Option<Shape> {
    let window = match required(fields, format_args!("{at}.window"), from.window) {
        Some(proto::cap::Window::Rolling(length)) => {
            let length = duration(&length).and_then(|length| i64::try_from(length.as_millis()).ok());
            told(fields, at, Window::rolling(length.unwrap_or_default()))
        }
        Some(proto::cap::Window::Calendar(calendar)) => {
            let unit = format_args!("{at}.calendar.unit");
            let unit = match known::<proto::CalendarUnit>(fields, unit, calendar.unit) {
                Some(proto::CalendarUnit::Hour) => Some(CalendarUnit::Hour),
                Some(proto::CalendarUnit::Day) => Some(CalendarUnit::Day),
                Some(proto::CalendarUnit::Week) => Some(CalendarUnit::Week),
                Some(proto::CalendarUnit::Month) => Some(CalendarUnit::Month),
                Some(proto::CalendarUnit::Year) => Some(CalendarUnit::Year),
                Some(proto::CalendarUnit::Unspecified) | None => None,
            };
            unit.and_then(|unit| {
                told(fields, format_args!("{at}.calendar"), Window::calendar(unit, &calendar.time_zone))
            })
        }
        None => None,
    };
    let mut maxima = Vec::with_capacity(from.maxima.len());
    for (place, one) in from.maxima.iter().enumerate() {
        let unit = told(fields, format_args!("{at}.maxima[{place}]"), Unit::parse(&one.unit))?;
        maxima.push((unit, one.max));
    }
    all_told(fields, at, Cap::parse(kind, window?, maxima)).map(Shape::Cap)
}

fn required<T>(fields: &mut Fields, at: Arguments<'_>, value: Option<T>) -> Option<T> {
    value.or_else(|| fields.required(&at.to_string(), None))
}

fn known<T: TryFrom<i32> + Default + PartialEq>(fields: &mut Fields, at: Arguments<'_>, value: i32) -> Option<T> {
    let known = T::try_from(value).ok().filter(|value| *value != T::default());
    known.or_else(|| fields.known(&at.to_string(), value))
}

fn told<T>(fields: &mut Fields, at: Arguments<'_>, parsed: Result<T, LimitError>) -> Option<T> {
    all_told(fields, at, parsed.map_err(|error| vec![error]))
}

fn all_told<T>(fields: &mut Fields, at: Arguments<'_>, parsed: Result<T, Vec<LimitError>>) -> Option<T> {
    match parsed {
        Ok(parsed) => Some(parsed),
        Err(errors) => {
            let at = at.to_string();
            for error in errors {
                let field = if at.is_empty() { error.field } else { format!("{at}.{}", error.field) };
                fields.wrong(&field, error.problem);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use safeconduct_proto::admission::v1::limit_spec::Shape as Wire;

    use super::*;

    fn spec(kind: common::LimitKind, shape: Wire) -> proto::LimitSpec {
        proto::LimitSpec {
            name: "n".to_owned(),
            kind: kind.into(),
            scope: proto::LimitScope::Workspace.into(),
            shape: Some(shape),
            ..proto::LimitSpec::default()
        }
    }

    fn calendar(unit: proto::CalendarUnit, time_zone: &str) -> proto::cap::Window {
        let time_zone = time_zone.to_owned();
        proto::cap::Window::Calendar(proto::CalendarWindow { unit: unit.into(), time_zone })
    }

    fn cap(window: impl Into<Option<proto::cap::Window>>, unit: &str) -> proto::LimitSpec {
        let maxima = vec![proto::UnitMax { unit: unit.to_owned(), max: 1 }];
        spec(common::LimitKind::Sum, Wire::Cap(proto::Cap { window: window.into(), maxima }))
    }

    fn wrong(limit: Option<proto::LimitSpec>) -> Vec<String> {
        let mut fields = Fields::new();
        let charge = proto::Charge { limit, ..proto::Charge::default() };
        // What it answers does not matter: `finish` refuses.
        let _ = parse_charges(&mut fields, vec![charge], false);
        fields.finish().unwrap_err().violations().iter().map(|one| one.field.clone()).collect()
    }

    #[test]
    fn what_is_wrong_with_a_charge_is_told_by_its_place() {
        use common::LimitKind::{Rate, Unspecified};
        use proto::CalendarUnit::Day;
        let rate = |permits, period| spec(Rate, Wire::Rate(proto::Rate { permits, period, burst: 0 }));
        let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        let good = rate(1, second);
        let family = |family: &str| {
            let (scope, family) = (proto::LimitScope::Family.into(), family.to_owned());
            Some(proto::LimitSpec { scope, family, ..good.clone() })
        };
        for (limit, field) in [
            (None, "charges[0].limit"),
            (Some(proto::LimitSpec { name: String::new(), ..good.clone() }), "charges[0].limit.name"),
            (Some(proto::LimitSpec { kind: Unspecified.into(), ..good.clone() }), "charges[0].limit.kind"),
            (Some(proto::LimitSpec { shape: None, ..good.clone() }), "charges[0].limit.shape"),
            (Some(proto::LimitSpec { scope: 99, ..good.clone() }), "charges[0].limit.scope"),
            (Some(proto::LimitSpec { family: "f".to_owned(), ..good.clone() }), "charges[0].limit.family"),
            (family(""), "charges[0].limit.family"),
            (family("Not/One"), "charges[0].limit.family"),
            (Some(rate(0, second)), "charges[0].limit.rate.permits"),
            (Some(rate(1, None)), "charges[0].limit.rate.period"),
            (Some(cap(None, "EUR")), "charges[0].limit.cap.window"),
            (Some(cap(calendar(proto::CalendarUnit::Unspecified, "UTC"), "EUR")), "charges[0].limit.cap.calendar.unit"),
            (Some(cap(calendar(Day, "No/Where"), "EUR")), "charges[0].limit.cap.calendar.time_zone"),
            (Some(cap(calendar(Day, "UTC"), "E U R")), "charges[0].limit.cap.maxima[0].unit"),
            (Some(cap(calendar(Day, "UTC"), "EUR")), "charges[0].unit"),
        ] {
            assert_eq!(wrong(limit), [field]);
        }
    }
}
