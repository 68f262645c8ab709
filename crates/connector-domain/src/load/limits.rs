//! `limits`, of a workspace and of a connector, read field by field. What they refer to is checked in `check`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use safeconduct_types::parse_duration;

use super::reader::{Fields, Reader, short};
use super::yaml::{Kind, Node};
use crate::definition::{InputName, LimitName};
use crate::diagnostic::{Code, Place};
use crate::limit::{Amount, CalendarUnit, MOST_AMOUNT, Per, Shape, Unit, Window};

/// The most limits of a workspace.
const MAX_SHARED: usize = 64;
/// The most limits of a connector: as many as admission takes at once.
const MAX_OF_CONNECTOR: usize = 32;
const MAX_UNITS: usize = 32;
const MAX_DIMENSIONS: usize = 8;
const MOST_PERMITS: i64 = 1_000_000;
const LONGEST_PERIOD: Duration = Duration::from_hours(31 * 24);

/// A limit of a workspace.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) per: Per,
    pub(super) shape: Shape,
    pub(super) place: Place,
}

/// A limit as a connector names it.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub(super) name: LimitName,
    pub(super) place: Place,
    pub(super) body: DeclaredBody,
    pub(super) amount: Option<(Amount, Place)>,
    pub(super) unit: Option<(Unit, Place)>,
}

#[derive(Clone, Debug)]
pub(super) enum DeclaredBody {
    /// One of the workspace.
    Use,
    /// The connector's own.
    Own { per: Per, shape: Shape },
}

/// The workspace's `limits`. `zone`: its time zone.
pub(super) fn shared(r: &mut Reader, node: &Node, zone: &str) -> Option<BTreeMap<LimitName, Shared>> {
    let members = r.members_up_to(node, "`limits`", MAX_SHARED)?;
    let read: Vec<_> = members
        .iter()
        .map(|member| {
            let name = member.name.parse::<LimitName>();
            let name = name.map_err(|error| r.report(Code::BadValue, &member.place, error.to_string())).ok();
            let fields = r.fields(
                &member.value,
                "a limit",
                &["per", "sum", "count", "rate", "burst", "unit", "max", "window"],
                &[],
            )?;
            let per = per(r, fields, true);
            if let Some(node) = fields.get("sum") {
                r.word(node, "`sum` of a limit of the workspace", &[("amount", ())], &[]);
            }
            let in_units = match fields.get("unit") {
                Some(node) => r.word(node, "`unit` of a limit of the workspace", &[("currency", true)], &[]),
                None => Some(false),
            };
            let shape = shape(r, fields, zone, in_units);
            Some((name?, Shared { per: per?, shape: shape?, place: member.place.clone() }))
        })
        .collect();
    read.into_iter().collect()
}

/// A connector's `limits`.
pub(super) fn declared(r: &mut Reader, node: &Node, zone: &str) -> Option<Vec<Declared>> {
    let items = r.items(node, "`limits`", MAX_OF_CONNECTOR)?;
    let read: Vec<_> = items.iter().map(|item| one(r, item, zone)).collect();
    let mut names = BTreeSet::new();
    for one in read.iter().flatten() {
        if !names.insert(&one.name) {
            let message = format!("limit `{}` stands here twice; remove one, or rename it", one.name);
            r.report(Code::DuplicateDefinition, &one.place, message);
        }
    }
    read.into_iter().collect()
}

fn one(r: &mut Reader, node: &Node, zone: &str) -> Option<Declared> {
    if node.get("use").is_some() {
        let fields = r.fields(node, "a used limit", &["use", "amount", "unit"], &[])?;
        let name = r.required(fields, "use").and_then(|node| r.parsed(node, "`use`", Code::BadValue));
        let amount = fields.get("amount").map(|node| amount(r, node, "`amount`"));
        let unit = fields.get("unit").map(|node| unit(r, node));
        return Some(Declared {
            name: name?,
            place: node.place.clone(),
            body: DeclaredBody::Use,
            amount: super::inputs::flatten(amount)?,
            unit: super::inputs::flatten(unit)?,
        });
    }
    let fields = r.fields(
        node,
        "a limit",
        &["name", "use", "per", "sum", "count", "rate", "burst", "unit", "max", "window"],
        &[],
    )?;
    let name = r.required(fields, "name").and_then(|node| r.parsed(node, "`name`", Code::BadValue));
    let per = per(r, fields, false);
    let amount = fields.get("sum").map(|node| amount(r, node, "`sum`"));
    let unit = fields.get("unit").map(|node| unit(r, node));
    let shape = shape(r, fields, zone, Some(unit.is_some()));
    Some(Declared {
        name: name?,
        place: node.place.clone(),
        body: DeclaredBody::Own { per: per?, shape: shape? },
        amount: super::inputs::flatten(amount)?,
        unit: super::inputs::flatten(unit)?,
    })
}

fn per(r: &mut Reader, fields: Fields<'_>, shared: bool) -> Option<Per> {
    let node = r.required(fields, "per")?;
    let items = r.items(node, "`per`", MAX_DIMENSIONS)?;
    if items.is_empty() {
        r.report(Code::BadValue, &node.place, "`per` names at least one of contact, connector, workspace, inputs.NAME");
        return None;
    }
    let mut per = Per::default();
    let mut whole = true;
    for item in items {
        let Some(text) = r.text(item, "`per`", 64) else {
            whole = false;
            continue;
        };
        match text {
            "contact" => per.contact = true,
            // A connector's own limit counts the connector's requests only, whatever else it says.
            "connector" => per.connector = shared,
            "workspace" if shared => {}
            "workspace" => {
                let message = "a limit of a connector counts this connector only; declare it in the workspace's \
                               `limits`, and say `use` here";
                r.report(Code::LimitInvalid, &item.place, message);
                whole = false;
            }
            _ => {
                if let Some(name) = input(text) {
                    per.inputs.insert(name);
                } else {
                    let message =
                        format!("`per` lists contact, connector, workspace or inputs.NAME; `{}` is none", short(text));
                    r.report(Code::BadValue, &item.place, message);
                    whole = false;
                }
            }
        }
    }
    whole.then_some(per)
}

fn input(text: &str) -> Option<InputName> {
    text.strip_prefix("inputs.")?.parse().ok()
}

fn amount(r: &mut Reader, node: &Node, what: &str) -> Option<(Amount, Place)> {
    let amount = if matches!(node.kind, Kind::Number(_)) {
        Amount::Fixed(r.wide(node, what, 0, MOST_AMOUNT)?)
    } else {
        let text = r.text(node, what, 64)?;
        let Some(name) = input(text) else {
            let message = format!("{what} is `inputs.NAME` or a whole number; `{}` is neither", short(text));
            r.report(Code::BadValue, &node.place, message);
            return None;
        };
        Amount::Input(name)
    };
    Some((amount, node.place.clone()))
}

fn unit(r: &mut Reader, node: &Node) -> Option<(Unit, Place)> {
    let text = r.text(node, "`unit`", 64)?;
    let unit = match input(text) {
        Some(name) => Unit::Input(name),
        None if is_unit(text) => Unit::Fixed(text.to_owned()),
        None => {
            let message = format!("`unit` is `inputs.NAME` or a currency code; `{}` is neither", short(text));
            r.report(Code::BadValue, &node.place, message);
            return None;
        }
    };
    Some((unit, node.place.clone()))
}

/// ISO 4217: three capital letters.
fn is_unit(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|c| c.is_ascii_uppercase())
}

/// How it counts. `in_units`: whether it says that its amounts have a unit; `None` if that could not be read.
fn shape(r: &mut Reader, fields: Fields<'_>, zone: &str, in_units: Option<bool>) -> Option<Shape> {
    let (sum, count, rate) = (fields.get("sum"), fields.get("count"), fields.get("rate"));
    let place = |r: &mut Reader, message: &str| r.report(Code::LimitInvalid, fields.place(), message);
    match (sum, count, rate) {
        (None, None, Some(node)) => {
            if fields.get("max").is_some() || fields.get("window").is_some() || fields.get("unit").is_some() {
                place(r, "a rate has `rate` and perhaps `burst`; `max`, `window` and `unit` are a cap's");
            }
            rate_of(r, fields, node)
        }
        (None, Some(node), None) => {
            if r.boolean(node, "`count`") == Some(false) {
                place(r, "`count` is `true`, or is left out");
            }
            if fields.get("burst").is_some() || fields.get("unit").is_some() {
                place(r, "a count has `max` and `window`; `burst` is a rate's and `unit` a sum's");
            }
            let max = r.required(fields, "max").and_then(|node| r.wide(node, "`max`", 0, MOST_AMOUNT));
            let window = r.required(fields, "window").and_then(|node| window(r, node, zone));
            Some(Shape::Count { window: window?, max: max? })
        }
        (Some(_), None, None) => {
            if fields.get("burst").is_some() {
                place(r, "a sum has `max` and `window`; `burst` is a rate's");
            }
            let maxima = r.required(fields, "max").and_then(|node| maxima(r, node, in_units));
            let window = r.required(fields, "window").and_then(|node| window(r, node, zone));
            Some(Shape::Sum { window: window?, maxima: maxima? })
        }
        _ => {
            place(r, "a limit has exactly one of `rate: 10/min`, `count: true` and `sum`");
            None
        }
    }
}

/// `10/min`, `5/s`, `100/15m`.
fn rate_of(r: &mut Reader, fields: Fields<'_>, node: &Node) -> Option<Shape> {
    let text = r.text(node, "`rate`", 32)?;
    let read = text.split_once('/').and_then(|(permits, period)| {
        let permits = permits.parse::<u32>().ok().filter(|n| (1..=MOST_PERMITS).contains(&i64::from(*n)))?;
        let period = match period {
            "s" | "sec" | "second" => Duration::from_secs(1),
            "m" | "min" | "minute" => Duration::from_mins(1),
            "h" | "hour" => Duration::from_hours(1),
            "d" | "day" => Duration::from_hours(24),
            text => parse_duration(text).filter(|it| !it.is_zero() && *it <= LONGEST_PERIOD)?,
        };
        Some((permits, period))
    });
    if read.is_none() {
        let message = "`rate` is a number from 1 to 1000000, `/` and `s`, `min`, `h`, `d` or a length of time of at \
                       most 31d: `10/min`, `100/15m`";
        r.report(Code::BadValue, &node.place, message);
    }
    let burst = fields.get("burst").map(|node| r.wide(node, "`burst`", 1, MOST_PERMITS));
    let (permits, period) = read?;
    let burst = match burst {
        None => permits,
        Some(burst) => u32::try_from(burst?).ok()?,
    };
    Some(Shape::Rate { permits, period, burst })
}

fn maxima(r: &mut Reader, node: &Node, in_units: Option<bool>) -> Option<BTreeMap<String, i64>> {
    let is_map = matches!(node.kind, Kind::Map(_));
    if in_units == Some(!is_map) {
        let message = "`max` of a sum with a `unit` names a maximum for each: `{EUR: 100000}`, in minor units; without \
                       a `unit` it is one number";
        r.report(Code::LimitUnit, &node.place, message);
        return None;
    }
    if !is_map {
        return r.wide(node, "`max`", 0, MOST_AMOUNT).map(|max| BTreeMap::from([(String::new(), max)]));
    }
    let members = r.members_up_to(node, "`max`", MAX_UNITS)?;
    if members.is_empty() {
        r.report(Code::LimitUnit, &node.place, "`max` names at least one unit, such as `{EUR: 100000}`");
        return None;
    }
    let read: Vec<_> = members
        .iter()
        .map(|member| {
            if !is_unit(&member.name) {
                let message = format!("`{}` is no currency code such as `EUR`", short(&member.name));
                r.report(Code::LimitUnit, &member.place, message);
                return None;
            }
            Some((member.name.clone(), r.wide(&member.value, "a maximum", 0, MOST_AMOUNT)?))
        })
        .collect();
    read.into_iter().collect()
}

fn window(r: &mut Reader, node: &Node, zone: &str) -> Option<Window> {
    let fields = r.fields(node, "`window`", &["calendar", "rolling"], &[])?;
    match (fields.get("calendar"), fields.get("rolling")) {
        (Some(node), None) => {
            let units = [
                ("hour", CalendarUnit::Hour),
                ("day", CalendarUnit::Day),
                ("week", CalendarUnit::Week),
                ("month", CalendarUnit::Month),
                ("year", CalendarUnit::Year),
            ];
            r.word(node, "`calendar`", &units, &[]).map(|unit| Window::Calendar(unit, zone.to_owned()))
        }
        (None, Some(node)) => r.duration(node, "`rolling`", "1s", "400d").map(Window::Rolling),
        _ => {
            let message = "`window` has exactly one of `calendar` (hour, day, week, month, year) and `rolling` (24h)";
            r.report(Code::LimitInvalid, &node.place, message);
            None
        }
    }
}
