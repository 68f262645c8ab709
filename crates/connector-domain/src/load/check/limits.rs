//! Limits against what they refer to: the workspace's, the inputs, the other versions, and what the workspace demands.

use std::collections::{BTreeMap, BTreeSet};

use safeconduct_types::Version;
use serde_json::Value;

use super::{Read, undeclared};
use crate::definition::{Connector, Effect, Input, InputName, LimitName, OnStoreFailure, Sensitivity, Source};
use crate::diagnostic::{Code, Place};
use crate::limit::{Amount, CalendarUnit, Limit, MOST_AMOUNT, Per, Scope, Shape, Takes, Unit, Window};
use crate::load::limits::{Declared, DeclaredBody, Shared};
use crate::load::reader::{Reader, nearest};
use crate::load::workspace::Settings;

/// The inputs that limits refer to.
pub(super) fn used(limits: &[Declared]) -> BTreeSet<InputName> {
    let mut used = BTreeSet::new();
    for limit in limits {
        if let DeclaredBody::Own { per, .. } = &limit.body {
            used.extend(per.inputs.iter().cloned());
        }
        if let Some((Amount::Input(name), _)) = &limit.amount {
            used.insert(name.clone());
        }
        if let Some((Unit::Input(name), _)) = &limit.unit {
            used.insert(name.clone());
        }
    }
    used
}

/// What one definition alone says of the store's failure.
pub(super) fn alone(r: &mut Reader, Read { connector, spec, .. }: &Read) {
    if connector.on_store_failure == OnStoreFailure::Allow && connector.effect == Effect::Write {
        let message = "a write that nobody can record could happen twice; only a read may say `allow`";
        r.report(Code::StoreFailureWrite, spec.place_of(&["on_store_failure"]), message);
    }
}

/// The limits that this connector is under, those of the workspace resolved.
pub(in crate::load) fn resolve(r: &mut Reader, read: &Read, settings: &Settings) -> Vec<Limit> {
    let limits: Vec<_> = read.limits.iter().filter_map(|one| resolve_one(r, read, one, settings)).collect();
    if limits.len() == read.limits.len() {
        demanded(r, read, &limits, settings);
    }
    limits
}

fn resolve_one(r: &mut Reader, read: &Read, one: &Declared, settings: &Settings) -> Option<Limit> {
    let connector = &read.connector;
    let (scope, per, shape) = match &one.body {
        DeclaredBody::Own { per, shape } => (Scope::Family, per, shape),
        DeclaredBody::Use => {
            let Some(shared) = settings.limits.get(&one.name) else {
                let near = nearest(one.name.as_str(), settings.limits.keys().map(LimitName::as_str)).map_or_else(
                    || "declare it under `limits` of the workspace".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                let message = format!("the workspace has no limit `{}`; {near}", one.name);
                r.report(Code::LimitUnknown, &one.place, message);
                return None;
            };
            (Scope::Workspace, &shared.per, &shared.shape)
        }
    };
    let mut whole = true;
    for name in per.inputs.iter().filter(|name| !connector.inputs.contains_key(*name)) {
        undeclared(r, &one.place, "`per`", name, connector);
        whole = false;
    }
    let takes = takes(r, connector, one, shape);
    let limit = Limit { name: one.name.clone(), scope, per: per.clone(), shape: shape.clone(), takes: takes? };
    whole.then_some(limit)
}

fn takes(r: &mut Reader, connector: &Connector, one: &Declared, shape: &Shape) -> Option<Takes> {
    let Shape::Sum { maxima, .. } = shape else {
        if let Some(place) = one.amount.as_ref().map(|(_, place)| place).or(one.unit.as_ref().map(|(_, place)| place)) {
            let message = format!("`{}` counts requests; `amount` and `unit` are for sums. Remove them", one.name);
            r.report(Code::LimitInvalid, place, message);
            return None;
        }
        return Some(Takes::One);
    };
    let Some((amount, amount_place)) = &one.amount else {
        let message = format!("`{}` is a sum: say `amount: inputs.NAME`", one.name);
        r.report(Code::LimitAmount, &one.place, message);
        return None;
    };
    let amount = known_amount(r, connector, amount, amount_place);
    let wants_unit = !maxima.contains_key("");
    let unit = match (&one.unit, wants_unit) {
        (None, false) => Some(Unit::Fixed(String::new())),
        (None, true) => {
            let units: Vec<_> = maxima.keys().map(|unit| format!("`{unit}`")).collect();
            let message = format!("`{}` counts in {}: say `unit`", one.name, units.join(", "));
            r.report(Code::LimitUnit, &one.place, message);
            None
        }
        (Some((_, place)), false) => {
            r.report(Code::LimitUnit, place, format!("`{}` counts without a unit; remove `unit`", one.name));
            None
        }
        (Some((unit, place)), true) => known_unit(r, connector, unit, maxima, place),
    };
    Some(Takes::Amount(amount?, unit?))
}

fn known_amount(r: &mut Reader, connector: &Connector, amount: &Amount, place: &Place) -> Option<Amount> {
    let Amount::Input(name) = amount else { return Some(amount.clone()) };
    let Some(input) = connector.inputs.get(name) else {
        undeclared(r, place, "a limit", name, connector);
        return None;
    };
    if !is_always_there(input) || !is_countable(input) {
        let message = format!(
            "`inputs.{name}` cannot be counted: its schema needs `type: integer` and a `minimum` of 0 or more (a \
             negative amount would give back what others took), and it must not be left out"
        );
        r.report(Code::LimitAmount, place, message);
        return None;
    }
    if let Source::Constant(value) = &input.source {
        return integer(value).map(Amount::Fixed);
    }
    Some(amount.clone())
}

/// Whether there is always a value: what may be left out has a default.
fn is_always_there(input: &Input) -> bool {
    !input.optional || input.default.is_some()
}

fn is_countable(input: &Input) -> bool {
    let counts = |value: &Value| integer(value).is_some();
    if let Source::Constant(value) = &input.source {
        return counts(value);
    }
    let schema = input.schema.as_ref().map(crate::schema::Schema::as_value);
    let field = |name: &str| schema.and_then(|schema| schema.get(name));
    let default = input.default.as_ref().is_none_or(counts);
    if let Some(Value::Array(values)) = field("enum") {
        return default && !values.is_empty() && values.iter().all(counts);
    }
    let at_least = |name, least: i64| field(name).and_then(Value::as_i64).is_some_and(|one| one >= least);
    let is_integer = field("type").and_then(Value::as_str) == Some("integer");
    default && is_integer && (at_least("minimum", 0) || at_least("exclusiveMinimum", -1))
}

fn integer(value: &Value) -> Option<i64> {
    value.as_i64().filter(|one| (0..=MOST_AMOUNT).contains(one))
}

fn known_unit(
    r: &mut Reader,
    connector: &Connector,
    unit: &Unit,
    maxima: &BTreeMap<String, i64>,
    place: &Place,
) -> Option<Unit> {
    let (name, units) = match unit {
        Unit::Fixed(unit) => (None, Some(vec![unit.as_str()])),
        Unit::Input(name) => {
            let Some(input) = connector.inputs.get(name) else {
                undeclared(r, place, "a limit", name, connector);
                return None;
            };
            (Some(name), is_always_there(input).then(|| units_of(input)).flatten())
        }
    };
    let Some(units) = units else {
        let name = name.map_or_else(String::new, ToString::to_string);
        let message = format!(
            "the unit in `inputs.{name}` must be known beforehand: a constant, or an input with an `enum` of the units \
             that is not left out"
        );
        r.report(Code::LimitUnit, place, message);
        return None;
    };
    let missing: Vec<_> =
        units.iter().filter(|unit| !maxima.contains_key(**unit)).map(|one| format!("`{one}`")).collect();
    if !missing.is_empty() {
        let message =
            format!("the limit has no `max` for {}; without one such a request is always refused", missing.join(", "));
        r.report(Code::LimitUnit, place, message);
        return None;
    }
    match units.as_slice() {
        [only] => Some(Unit::Fixed((*only).to_owned())),
        _ => Some(unit.clone()),
    }
}

/// Every text that an input can be, if that is known.
fn units_of(input: &Input) -> Option<Vec<&str>> {
    if let Source::Constant(value) = &input.source {
        return value.as_str().map(|unit| vec![unit]);
    }
    let schema = input.schema.as_ref()?.as_value();
    if let Some(value) = schema.get("const") {
        return value.as_str().map(|unit| vec![unit]);
    }
    schema.get("enum")?.as_array()?.iter().map(Value::as_str).collect()
}

/// What the workspace, or the open door of a connector, demands of its limits.
fn demanded(r: &mut Reader, Read { connector, spec, .. }: &Read, limits: &[Limit], settings: &Settings) {
    if connector.effect == Effect::Read {
        return;
    }
    if settings.guardrails.writes_need_limit && limits.is_empty() {
        let message = "the workspace's guardrails say that every write is under a limit; add one to `limits`";
        r.report(Code::WriteUnlimited, spec.place_of(&["limits"]), message);
    }
    if connector.sensitivity == Sensitivity::Private {
        return;
    }
    if !settings.guardrails.public_writes {
        let message = "a public write acts for somebody whom nobody has identified; the workspace must say \
                       `guardrails: {public_writes: true}`, or say `sensitivity: private` here";
        r.report(Code::PublicWrite, spec.place_of(&["sensitivity"]), message);
    } else if !limits.iter().any(|limit| !limit.shape.is_rate() && limit.per.is_wide()) {
        let message = "a public write needs a cap (`count` or `sum`) over the whole connector or workspace: whoever \
                       begins a new session is a new contact";
        r.report(Code::PublicWrite, spec.place_of(&["limits"]), message);
    }
}

/// Versions of a connector share the counts of its limits, so a limit of one name counts the same thing in each.
pub(in crate::load) fn family(r: &mut Reader, versions: &BTreeMap<Version, Option<Read>>) {
    let mut first: BTreeMap<&LimitName, (&Version, &Per, &Shape)> = BTreeMap::new();
    for (version, read) in versions.iter().filter_map(|(version, read)| Some((version, read.as_ref()?))) {
        for limit in &read.limits {
            let DeclaredBody::Own { per, shape } = &limit.body else { continue };
            let Some((other, their_per, theirs)) = first.get(&limit.name) else {
                first.insert(&limit.name, (version, per, shape));
                continue;
            };
            // Twice in one version is told by itself.
            if version != *other && (per != *their_per || !counts_alike(shape, theirs)) {
                let message = format!(
                    "limit `{}` counts something else than in version {other}: `per`, what is counted and `window` are \
                     the same in all versions, for they share the count; rename it, or make them agree",
                    limit.name
                );
                r.report(Code::LimitDisagrees, &limit.place, message);
            }
        }
    }
}

/// Whether two shapes share a count. How much is allowed may differ.
fn counts_alike(one: &Shape, other: &Shape) -> bool {
    match (one, other) {
        (Shape::Rate { .. }, Shape::Rate { .. }) => true,
        (Shape::Count { window, .. }, Shape::Count { window: other, .. })
        | (Shape::Sum { window, .. }, Shape::Sum { window: other, .. }) => window == other,
        (Shape::Rate { .. } | Shape::Count { .. } | Shape::Sum { .. }, _) => false,
    }
}

/// What the workspace's own limits leave to wonder about.
pub(in crate::load) fn of_workspace<'a>(
    r: &mut Reader,
    limits: &BTreeMap<LimitName, Shared>,
    says_timezone: bool,
    reads: impl Iterator<Item = &'a Read>,
    all_read: bool,
) {
    let mut used = BTreeSet::new();
    for read in reads {
        for limit in &read.limits {
            match &limit.body {
                DeclaredBody::Use => {
                    used.insert(&limit.name);
                }
                DeclaredBody::Own { shape, .. } => zoned(r, shape, &limit.place, says_timezone),
            }
        }
    }
    for (name, limit) in limits {
        zoned(r, &limit.shape, &limit.place, says_timezone);
        if all_read && !used.contains(name) {
            let message = format!("no connector uses limit `{name}`, so it holds nothing back; use it, or remove it");
            r.report(Code::LimitUnused, &limit.place, message);
        }
    }
}

fn zoned(r: &mut Reader, shape: &Shape, place: &Place, says_timezone: bool) {
    let window = match shape {
        Shape::Rate { .. } => return,
        Shape::Count { window, .. } | Shape::Sum { window, .. } => window,
    };
    // An hour begins in nearly all zones when it does in UTC.
    let depends = matches!(window, Window::Calendar(unit, _) if *unit != CalendarUnit::Hour);
    if depends && !says_timezone {
        let message = "the window begins at midnight in UTC, because the workspace names no `timezone`; name one, \
                       `UTC` if that is meant";
        r.report(Code::TimezoneMissing, place, message);
    }
}
