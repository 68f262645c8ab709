//! Limits: what a definition says of them, and what one request takes.
//!
//! Built by `load` alone. A connector holds the limits it is under as one list, those of the workspace resolved, so
//! that a request only has to supply the values: [`rates`] before anything is fetched, [`caps`] once the inputs are
//! proven. Counting is admission's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use safeconduct_types::{ConnectorName, Refusal};
use serde_json::Value;

use crate::bind::{Binding, BoundInputs};
use crate::definition::{Connector, InputName, LimitName};
use crate::fingerprint::Digest;
use crate::json;

/// The largest amount that is counted: what every JSON reader can still tell from its neighbours.
pub const MOST_AMOUNT: i64 = (1 << 53) - 1;

/// A limit that a connector is under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name, unique in the connector.
    pub name: LimitName,
    /// Where it is declared, and so who shares it.
    pub scope: Scope,
    /// What has a count of its own.
    pub per: Per,
    /// How it counts.
    pub shape: Shape,
    /// What one request takes.
    pub takes: Takes,
}

/// Where a limit is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the connector; all its versions share it.
    Family,
    /// In the workspace; all connectors that use it share it.
    Workspace,
}

/// What has a count of its own: each combination of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Per {
    /// Each contact.
    pub contact: bool,
    /// Each connector (in a limit of the workspace; one of a connector is the connector's anyway).
    pub connector: bool,
    /// Each value of these inputs.
    pub inputs: BTreeSet<InputName>,
}

impl Per {
    /// Whether there is one count over all contacts and all values.
    pub fn is_wide(&self) -> bool {
        !self.contact && self.inputs.is_empty()
    }
}

/// How a limit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Requests, smoothed: `permits` in a `period`, up to `burst` at once.
    Rate {
        /// 1 to 1,000,000.
        permits: u32,
        /// 1 ms to 31 days.
        period: Duration,
        /// 1 to 1,000,000.
        burst: u32,
    },
    /// Admitted requests within a window.
    Count {
        /// The window.
        window: Window,
        /// How many.
        max: i64,
    },
    /// A sum of amounts within a window.
    Sum {
        /// The window.
        window: Window,
        /// How much in each unit (a currency code), in minor units; the only unit is empty where none is named.
        maxima: BTreeMap<String, i64>,
    },
}

impl Shape {
    /// Whether it is a rate: not durable, taken before anything is fetched.
    pub const fn is_rate(&self) -> bool {
        matches!(self, Self::Rate { .. })
    }
}

/// The time over which a cap counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// A unit of the calendar in the workspace's time zone (an IANA name).
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

/// What one request takes of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One.
    One,
    /// An amount, in a unit.
    Amount(Amount, Unit),
}

/// How much a request takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Always this.
    Fixed(i64),
    /// What this input says: an integer that is never negative, always there.
    Input(InputName),
}

/// The unit of an amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Always this; empty for none.
    Fixed(String),
    /// What this input says: one of the units that the limit has a maximum for, always there.
    Input(InputName),
}

/// What a request takes of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge<'a> {
    /// The limit.
    pub limit: &'a Limit,
    /// A digest of the dimensions other than the contact, if there are any.
    pub dimensions: Option<Digest>,
    /// How much, 0 to [`MOST_AMOUNT`].
    pub amount: i64,
    /// In which unit; empty for none.
    pub unit: String,
}

/// What a request takes of the rates, before its choices are proven: whoever is too fast is told before anything is
/// fetched.
pub fn rates<'a>(connector: &'a Connector, binding: &Binding) -> Result<Vec<Charge<'a>>, Refusal> {
    charges(connector, binding.unproven(), true)
}

/// What a request takes of the caps.
pub fn caps<'a>(connector: &'a Connector, inputs: &BoundInputs) -> Result<Vec<Charge<'a>>, Refusal> {
    charges(connector, inputs, false)
}

fn charges<'a>(connector: &'a Connector, inputs: &BoundInputs, rates: bool) -> Result<Vec<Charge<'a>>, Refusal> {
    let wanted = connector.limits.iter().filter(|limit| limit.shape.is_rate() == rates);
    wanted.map(|limit| charge(limit, &connector.name, inputs)).collect()
}

fn charge<'a>(limit: &'a Limit, family: &ConnectorName, inputs: &BoundInputs) -> Result<Charge<'a>, Refusal> {
    let (amount, unit) = match &limit.takes {
        Takes::One => (1, String::new()),
        Takes::Amount(amount, unit) => (amount_of(amount, inputs)?, unit_of(unit, inputs)?),
    };
    let value = |name: &InputName| inputs.get(name.as_str()).map(json::canonical);
    Ok(Charge { limit, dimensions: dimensions(&limit.per, family, value), amount, unit })
}

/// The count of a limit without taking from it, where no input tells one count from another: `None` for a limit that
/// is counted for each value of an input.
pub fn count<'a>(limit: &'a Limit, family: &ConnectorName) -> Option<Charge<'a>> {
    let dimensions = limit.per.inputs.is_empty().then(|| dimensions(&limit.per, family, |_| None))?;
    Some(Charge { limit, dimensions, amount: 0, unit: String::new() })
}

fn amount_of(amount: &Amount, inputs: &BoundInputs) -> Result<i64, Refusal> {
    let name = match amount {
        Amount::Fixed(amount) => return Ok(*amount),
        Amount::Input(name) => name,
    };
    let value = match inputs.get(name.as_str()) {
        // The shortest form: `1.0` and `10e-1` are 1.
        Some(value @ Value::Number(_)) => json::canonical(value).parse().ok(),
        Some(Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    value.filter(|amount| (0..=MOST_AMOUNT).contains(amount)).ok_or_else(|| {
        let description = format!("must be a whole number from 0 to {MOST_AMOUNT}: a limit counts it");
        Refusal::invalid_field(format!("inputs.{name}"), description)
    })
}

fn unit_of(unit: &Unit, inputs: &BoundInputs) -> Result<String, Refusal> {
    let name = match unit {
        Unit::Fixed(unit) => return Ok(unit.clone()),
        Unit::Input(name) => name,
    };
    match inputs.get(name.as_str()) {
        Some(Value::String(unit)) => Ok(unit.clone()),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) | None => {
            Err(Refusal::invalid_field(format!("inputs.{name}"), "must name the unit that a limit counts in"))
        }
    }
}

/// Names come with their values, so that two limits of the same name in different shapes never share a count.
fn dimensions(per: &Per, family: &ConnectorName, value: impl Fn(&InputName) -> Option<String>) -> Option<Digest> {
    if !per.connector && per.inputs.is_empty() {
        return None;
    }
    let mut parts: Vec<Vec<u8>> = Vec::new();
    if per.connector {
        parts.extend([b"connector".to_vec(), family.as_str().as_bytes().to_vec()]);
    }
    for name in &per.inputs {
        parts.push(format!("inputs.{name}").into_bytes());
        // No JSON text is empty: an absent input is different from any value.
        parts.push(value(name).unwrap_or_default().into_bytes());
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Some(Digest::of("safeconduct/limit-dimensions/v1", &parts))
}
