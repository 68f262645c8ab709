//! Limits as their owners define them, and what a request takes from them.
//!
//! Admission keeps counts, not definitions: a limit comes along with each charge. Its *identity* (scope, name, kind,
//! window, time zone, unit, dimensions) names the counter; `max`, `permits`, `period` and `burst` are no part of it and
//! may change while the count goes on.

use std::borrow::Cow;
use std::fmt;

use safeconduct_types::{ConnectorName, Timestamp};

use crate::bounds::Digest;
use crate::calendar::{CalendarUnit, Calendars, Zone};
use crate::meter::{MAX_NUMBER, Meter, cap, rate};

/// The most charges of one request.
pub const MAX_CHARGES: usize = 32;
/// The most units that one cap may have a maximum for.
pub const MAX_UNITS: usize = 64;

/// A value that a limit can't have. Says where and what would be right, never what was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct LimitError {
    /// The field, as a path within what was parsed, such as `period` or `maxima[1].max`.
    pub field: String,
    /// What is wrong.
    pub problem: &'static str,
}

impl LimitError {
    fn new(field: impl Into<String>, problem: &'static str) -> Self {
        Self { field: field.into(), problem }
    }
}

const AMOUNT: &str = "must be between 0 and 9007199254740991 (2^53 - 1)";

/// Whose name space a limit belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A connector's: shared by all of its versions.
    Family(ConnectorName),
    /// The workspace's: shared by the connectors that use it.
    Workspace,
}

/// A limit's name within its scope: 1 to 64 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitName(String);

impl LimitName {
    /// The name that this text is.
    pub fn parse(text: &str) -> Result<Self, LimitError> {
        let length = text.chars().count();
        if (1..=64).contains(&length) && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(LimitError::new("name", "must have 1 to 64 characters, none of them a control character"))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The unit of an amount: a currency code for money (1 to 16 letters, digits, `-`, `_` or `.`), empty for counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit(String);

impl Unit {
    /// No unit: requests are counted.
    pub const NONE: Self = Self(String::new());

    /// The unit that this text is. Compared as it is: `eur` is not `EUR`.
    pub fn parse(text: &str) -> Result<Self, LimitError> {
        if text.len() <= 16 && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(LimitError::new("unit", "must be empty or 1 to 16 letters, digits, `-`, `_` or `.`"))
        }
    }

    /// The unit as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub const fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Requests in a short time, smoothed.
    Rate,
    /// Admitted requests in a window.
    Count,
    /// Amounts in a window, per unit.
    Sum,
}

impl Kind {
    /// Its name in keys, logs and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Count => "count",
            Self::Sum => "sum",
        }
    }
}

/// How a limit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Smoothed.
    Rate(Rate),
    /// In a window.
    Cap(Cap),
}

/// `permits` per `period`, and up to `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    permits: i64,
    period_us: i64,
    burst: i64,
}

impl Rate {
    /// The most permits in a period, and the largest burst.
    pub const MAX_PERMITS: i64 = 1_000_000;
    /// The shortest period, in microseconds: 1 ms.
    pub const MIN_PERIOD_US: i64 = 1_000;
    /// The longest period, in microseconds: 31 days.
    pub const MAX_PERIOD_US: i64 = 31 * 86_400_000_000;
    /// The longest period of a gateway's limit, in microseconds: 365 days.
    pub const MAX_YEAR_US: i64 = 365 * 86_400_000_000;
    /// The longest time that a used up burst may take to come back, in microseconds: 50 years.
    pub const MAX_FULL_US: i64 = 1_577_880_000_000_000;

    /// The rate of `permits` in `period_us` microseconds. A `burst` of 0 means `permits`.
    pub fn parse(permits: i64, period_us: i64, burst: i64) -> Result<Self, Vec<LimitError>> {
        Self::within(Self::MAX_PERIOD_US, "must be between 1 ms and 31 days", permits, period_us, burst)
    }

    /// As [`Rate::parse`], for periods of up to [`Rate::MAX_YEAR_US`]: gateways count by the year, too.
    pub fn of_a_gateway(permits: i64, period_us: i64, burst: i64) -> Result<Self, Vec<LimitError>> {
        Self::within(Self::MAX_YEAR_US, "must be between 1 ms and 365 days", permits, period_us, burst)
    }

    fn within(
        longest_us: i64,
        period: &'static str,
        permits: i64,
        period_us: i64,
        burst: i64,
    ) -> Result<Self, Vec<LimitError>> {
        let mut errors = Vec::new();
        if !(1..=Self::MAX_PERMITS).contains(&permits) {
            errors.push(LimitError::new("permits", "must be between 1 and 1000000"));
        }
        if !(Self::MIN_PERIOD_US..=longest_us).contains(&period_us) {
            errors.push(LimitError::new("period", period));
        }
        if !(0..=Self::MAX_PERMITS).contains(&burst) {
            errors.push(LimitError::new("burst", "must be between 1 and 1000000, or 0 for as much as `permits`"));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let burst = if burst == 0 { permits } else { burst };
        let product = |one: i64, other: i64| i128::from(one).saturating_mul(i128::from(other));
        if product(burst, period_us) > product(Self::MAX_FULL_US, permits) {
            return Err(vec![LimitError::new(
                "burst",
                "must come back within 50 years: burst x period / permits is longer",
            )]);
        }
        Ok(Self { permits, period_us, burst })
    }

    /// Requests in one period.
    pub const fn permits(&self) -> i64 {
        self.permits
    }

    /// The period, in microseconds.
    pub const fn period_us(&self) -> i64 {
        self.period_us
    }

    /// Requests that may come at once.
    pub const fn burst(&self) -> i64 {
        self.burst
    }
}

/// The window of a cap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// A unit of the calendar of a time zone.
    Calendar(CalendarUnit, Zone),
    /// The last so many milliseconds, 1 s to 400 days.
    Rolling(i64),
}

impl Window {
    /// The shortest rolling window, in milliseconds: 1 s.
    pub const MIN_ROLLING_MS: i64 = 1_000;
    /// The longest rolling window, in milliseconds: 400 days.
    pub const MAX_ROLLING_MS: i64 = 400 * 86_400_000;

    /// The rolling window of this length.
    pub fn rolling(length_ms: i64) -> Result<Self, LimitError> {
        if (Self::MIN_ROLLING_MS..=Self::MAX_ROLLING_MS).contains(&length_ms) {
            Ok(Self::Rolling(length_ms))
        } else {
            Err(LimitError::new("rolling", "must be between 1 s and 400 days"))
        }
    }

    /// The window of the calendar unit in the zone with this IANA name.
    pub fn calendar(unit: CalendarUnit, time_zone: &str) -> Result<Self, LimitError> {
        let zone = Zone::parse(time_zone);
        zone.map(|zone| Self::Calendar(unit, zone)).ok_or_else(|| {
            LimitError::new("time_zone", "must be the IANA name of a time zone, such as `Europe/Dublin`")
        })
    }

    /// The part of a counter that lies around `now`, as the caller estimates it.
    pub fn around(&self, now: Timestamp, calendars: &Calendars) -> cap::Window {
        match self {
            Self::Calendar(unit, zone) => cap::Window::Calendar(calendars.boundaries(*unit, zone, now)),
            Self::Rolling(length_ms) => cap::Window::Rolling { length_ms: *length_ms },
        }
    }

    /// Where something lies that was taken at `at`, by the store's clock.
    pub fn place(&self, at: Timestamp, calendars: &Calendars) -> cap::Place {
        match self {
            Self::Calendar(unit, zone) => {
                let (start_ms, end_ms) = calendars.boundaries(*unit, zone, at).present();
                cap::Place::Calendar { start_ms, end_ms }
            }
            Self::Rolling(length_ms) => cap::Place::Rolling { length_ms: *length_ms, at_ms: at.as_millis() },
        }
    }

    /// The parts that name it.
    fn identity(&self) -> [Cow<'_, str>; 2] {
        match self {
            Self::Calendar(unit, zone) => [unit.as_str().into(), zone.name().into()],
            Self::Rolling(length_ms) => [format!("{length_ms}ms").into(), "".into()],
        }
    }
}

/// A maximum within a window, per unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cap {
    kind: CapKind,
    window: Window,
    maxima: Vec<(Unit, i64)>,
}

/// What a cap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CapKind {
    /// Admitted requests.
    Count,
    /// Amounts, per unit.
    Sum,
}

impl Cap {
    /// The cap with these maxima: exactly one without a unit for a count, at least one for a sum.
    pub fn parse(kind: CapKind, window: Window, maxima: Vec<(Unit, i64)>) -> Result<Self, Vec<LimitError>> {
        let mut errors = Vec::new();
        // Only as many as there may be: each is compared with all before it.
        for (place, (unit, max)) in maxima.iter().take(MAX_UNITS).enumerate() {
            if !(0..=MAX_NUMBER).contains(max) {
                errors.push(LimitError::new(format!("maxima[{place}].max"), AMOUNT));
            }
            if maxima.iter().take(place).any(|(earlier, _)| earlier == unit) {
                errors.push(LimitError::new(format!("maxima[{place}].unit"), "must not be named twice"));
            }
        }
        let count = kind == CapKind::Count;
        if count && !matches!(maxima.as_slice(), [(unit, _)] if unit.is_none()) {
            errors.push(LimitError::new("maxima", "must be exactly one, with an empty unit, for COUNT"));
        }
        if !count && !(1..=MAX_UNITS).contains(&maxima.len()) {
            errors.push(LimitError::new("maxima", "must be between 1 and 64 for SUM"));
        }
        if errors.is_empty() { Ok(Self { kind, window, maxima }) } else { Err(errors) }
    }

    /// What it counts.
    pub const fn kind(&self) -> CapKind {
        self.kind
    }

    /// Its window.
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// The maxima, in the order given.
    pub fn maxima(&self) -> &[(Unit, i64)] {
        &self.maxima
    }

    /// The maximum in this unit.
    pub fn max(&self, unit: &Unit) -> Option<i64> {
        self.maxima.iter().find(|(one, _)| one == unit).map(|(_, max)| *max)
    }
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name within its scope.
    pub name: LimitName,
    /// Whose name space.
    pub scope: Scope,
    /// Whether each contact is counted apart: such a limit lives in the contact's slot, others are shared.
    pub per_contact: bool,
    /// Keyed digest of the values of the other dimensions, if it has any.
    pub dimensions: Option<Digest>,
    /// How it counts.
    pub shape: Shape,
}

impl Limit {
    /// What it counts.
    pub const fn kind(&self) -> Kind {
        match &self.shape {
            Shape::Rate(_) => Kind::Rate,
            Shape::Cap(Cap { kind: CapKind::Count, .. }) => Kind::Count,
            Shape::Cap(Cap { kind: CapKind::Sum, .. }) => Kind::Sum,
        }
    }

    /// Hands over the parts that name the counter of this limit in `unit`, within the workspace and, if per contact, the
    /// contact (which the caller puts in front). Always 9 parts, the empty ones included. Not among them, so that they
    /// may change while the count goes on: `max`, `permits`, `period`, `burst`.
    pub fn identified<R>(&self, unit: &Unit, by: impl FnOnce(&[&[u8]; 9]) -> R) -> R {
        let (scope, family) = match &self.scope {
            Scope::Family(family) => ("family", family.as_str()),
            Scope::Workspace => ("workspace", ""),
        };
        let [window, zone] = match &self.shape {
            Shape::Rate(_) => ["".into(), "".into()],
            Shape::Cap(cap) => cap.window.identity(),
        };
        let holder = if self.per_contact { "contact" } else { "shared" };
        let dimensions = self.dimensions.as_ref().map_or(&[][..], |digest| digest.as_bytes());
        let [name, kind] = [self.name.as_str(), self.kind().as_str()];
        let [one, two, three, four, five, six, seven, eight] =
            [scope, family, name, kind, holder, &window, &zone, unit.as_str()].map(str::as_bytes);
        by(&[one, two, three, four, five, six, seven, eight, dimensions])
    }
}

/// What a request takes from a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    limit: Limit,
    amount: i64,
    unit: Unit,
}

impl Charge {
    /// `amount` of `unit` from `limit`: 0 only asks. The unit must be one that the limit has a maximum for.
    pub fn parse(limit: Limit, amount: i64, unit: Unit) -> Result<Self, Vec<LimitError>> {
        let mut errors = Vec::new();
        if !(0..=MAX_NUMBER).contains(&amount) {
            errors.push(LimitError::new("amount", AMOUNT));
        }
        match &limit.shape {
            Shape::Cap(cap) if cap.kind == CapKind::Sum && cap.max(&unit).is_none() => {
                errors.push(LimitError::new("unit", "must be one that the limit has a maximum for"));
            }
            Shape::Rate(_) | Shape::Cap(Cap { kind: CapKind::Count, .. }) if !unit.is_none() => {
                errors.push(LimitError::new("unit", "must be empty for a rate or a count"));
            }
            Shape::Rate(_) | Shape::Cap(_) => {}
        }
        if errors.is_empty() { Ok(Self { limit, amount, unit }) } else { Err(errors) }
    }

    /// The limit.
    pub const fn limit(&self) -> &Limit {
        &self.limit
    }

    /// How much, `0..=MAX_NUMBER`.
    pub const fn amount(&self) -> i64 {
        self.amount
    }

    /// The unit of the amount.
    pub const fn unit(&self) -> &Unit {
        &self.unit
    }

    /// The maximum in force; for a rate, the burst.
    pub fn max(&self) -> i64 {
        match &self.limit.shape {
            Shape::Rate(rate) => rate.burst,
            Shape::Cap(cap) => cap.max(&self.unit).unwrap_or(0),
        }
    }

    /// Hands over the parts that name the counter: see [`Limit::identified`].
    pub fn identified<R>(&self, by: impl FnOnce(&[&[u8]; 9]) -> R) -> R {
        self.limit.identified(&self.unit, by)
    }

    /// Whether another charge is counted with this one.
    pub fn counts_with(&self, other: &Self) -> bool {
        self.identified(|one| other.identified(|another| one == another))
    }

    /// The meter that takes this charge at about `now`.
    pub fn meter(&self, now: Timestamp, calendars: &Calendars) -> Meter {
        match &self.limit.shape {
            Shape::Rate(rate) => Meter::Rate(rate::Params::new(rate, self.amount)),
            Shape::Cap(cap) => Meter::Take(cap::Take {
                window: cap.window.around(now, calendars),
                max: self.max(),
                amount: self.amount,
            }),
        }
    }
}

/// The charges of one request: at most 32, and none of a counter that another one names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges(Vec<Charge>);

impl Charges {
    /// The charges in this order.
    pub fn parse(charges: Vec<Charge>) -> Result<Self, Vec<LimitError>> {
        if charges.len() > MAX_CHARGES {
            return Err(vec![LimitError::new("charges", "must be at most 32")]);
        }
        let mut errors = Vec::new();
        for (place, charge) in charges.iter().enumerate() {
            if charges.iter().take(place).any(|earlier| earlier.counts_with(charge)) {
                errors.push(LimitError::new(format!("charges[{place}]"), "must not name a counter twice"));
            }
        }
        if errors.is_empty() { Ok(Self(charges)) } else { Err(errors) }
    }

    /// The charges.
    pub fn as_slice(&self) -> &[Charge] {
        &self.0
    }

    /// The charges, taken out.
    pub fn into_vec(self) -> Vec<Charge> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<T: fmt::Debug>(result: Result<T, Vec<LimitError>>) -> Vec<String> {
        result.unwrap_err().into_iter().map(|error| error.field).collect()
    }

    fn limit(shape: Shape) -> Limit {
        Limit {
            name: LimitName::parse("money-out").unwrap(),
            scope: Scope::Workspace,
            per_contact: true,
            dimensions: None,
            shape,
        }
    }

    fn eur(max: i64) -> Vec<(Unit, i64)> {
        vec![(Unit::parse("EUR").unwrap(), max)]
    }

    fn cap(window: Window, max: i64) -> Shape {
        Shape::Cap(Cap::parse(CapKind::Sum, window, eur(max)).unwrap())
    }

    fn day(zone: &str) -> Window {
        Window::calendar(CalendarUnit::Day, zone).unwrap()
    }

    fn parts(limit: &Limit, unit: &Unit) -> Vec<Vec<u8>> {
        limit.identified(unit, |parts| parts.map(<[u8]>::to_vec).to_vec())
    }

    #[test]
    fn a_rate_has_bounds_and_all_that_is_wrong_is_said_at_once() {
        assert_eq!(fields(Rate::parse(0, 999, -1)), ["permits", "period", "burst"]);
        assert_eq!(fields(Rate::parse(1_000_001, Rate::MAX_PERIOD_US + 1, 1_000_001)), ["permits", "period", "burst"]);
        assert_eq!(Rate::parse(7, 1_000, 0).unwrap().burst(), 7);
        // 590 bursts of 31 days are just over 50 years.
        assert!(Rate::parse(1, Rate::MAX_PERIOD_US, 589).is_ok());
        assert_eq!(fields(Rate::parse(1, Rate::MAX_PERIOD_US, 590)), ["burst"]);
        assert_eq!(fields(Rate::parse(1, Rate::MAX_PERIOD_US, 1_000_000)), ["burst"]);
        assert!(Rate::parse(1_000_000, Rate::MAX_PERIOD_US, 1_000_000).is_ok());
    }

    #[test]
    fn a_cap_has_bounds() {
        let none = || vec![(Unit::NONE, 3)];
        assert!(Cap::parse(CapKind::Count, day("UTC"), none()).is_ok());
        assert_eq!(fields(Cap::parse(CapKind::Count, day("UTC"), eur(3))), ["maxima"]);
        assert_eq!(fields(Cap::parse(CapKind::Count, day("UTC"), vec![])), ["maxima"]);
        assert_eq!(fields(Cap::parse(CapKind::Sum, day("UTC"), vec![])), ["maxima"]);
        assert_eq!(fields(Cap::parse(CapKind::Sum, day("UTC"), [eur(1), eur(2)].concat())), ["maxima[1].unit"]);
        assert_eq!(fields(Cap::parse(CapKind::Sum, day("UTC"), eur(-1))), ["maxima[0].max"]);
        assert_eq!(fields(Cap::parse(CapKind::Sum, day("UTC"), eur(MAX_NUMBER + 1))), ["maxima[0].max"]);
        assert!(Cap::parse(CapKind::Sum, day("UTC"), eur(0)).is_ok(), "closed");
        assert!(Window::calendar(CalendarUnit::Day, "Mars/Olympus").is_err());
        for (length, good) in [(999, false), (1_000, true), (400 * 86_400_000, true), (400 * 86_400_000 + 1, false)] {
            assert_eq!(Window::rolling(length).is_ok(), good, "{length}");
        }
    }

    #[test]
    fn a_charge_is_in_a_unit_of_its_limit_and_never_negative() {
        let limit = || limit(cap(day("UTC"), 5));
        let unit = |text: &str| Unit::parse(text).unwrap();
        assert!(Charge::parse(limit(), 7, unit("EUR")).is_ok());
        assert_eq!(fields(Charge::parse(limit(), 7, unit("USD"))), ["unit"]);
        assert_eq!(fields(Charge::parse(limit(), -1, unit("EUR"))), ["amount"]);
        assert_eq!(fields(Charge::parse(limit(), MAX_NUMBER + 1, Unit::NONE)), ["amount", "unit"]);
        let rate = Shape::Rate(Rate::parse(1, 1_000, 0).unwrap());
        assert_eq!(fields(Charge::parse(super::tests::limit(rate), 1, unit("EUR"))), ["unit"]);
    }

    #[test]
    fn names_and_units_are_short_and_plain() {
        assert!(LimitName::parse("").is_err() && LimitName::parse(&"x".repeat(65)).is_err());
        assert!(LimitName::parse("a\nb").is_err() && LimitName::parse(&"é".repeat(64)).is_ok());
        assert!(Unit::parse("EU R").is_err() && Unit::parse(&"E".repeat(17)).is_err());
    }

    #[test]
    fn what_may_change_live_is_no_part_of_the_identity_and_all_else_is() {
        let unit = Unit::parse("EUR").unwrap();
        let base = limit(cap(day("Europe/Dublin"), 5));
        let identity = parts(&base, &unit);
        assert_eq!(identity, parts(&limit(cap(day("Europe/Dublin"), 6)), &unit));
        let slow = limit(Shape::Rate(Rate::parse(1, 1_000, 0).unwrap()));
        let fast = limit(Shape::Rate(Rate::parse(2, 5_000, 9).unwrap()));
        assert_eq!(parts(&slow, &Unit::NONE), parts(&fast, &Unit::NONE));
        let count = Cap::parse(CapKind::Count, day("Europe/Dublin"), vec![(Unit::NONE, 5)]).unwrap();
        let hour = Window::calendar(CalendarUnit::Hour, "Europe/Dublin").unwrap();
        let others = [
            Limit { name: LimitName::parse("other").unwrap(), ..base.clone() },
            Limit { scope: Scope::Family("money-out".parse().unwrap()), ..base.clone() },
            Limit { scope: Scope::Family("other".parse().unwrap()), ..base.clone() },
            Limit { per_contact: false, ..base.clone() },
            Limit { dimensions: Some(Digest::new([1; 32])), ..base.clone() },
            Limit { dimensions: Some(Digest::new([2; 32])), ..base.clone() },
            limit(cap(day("Europe/London"), 5)),
            limit(cap(hour, 5)),
            limit(cap(Window::rolling(86_400_000).unwrap(), 5)),
            limit(cap(Window::rolling(86_400_001).unwrap(), 5)),
            limit(Shape::Cap(count)),
            slow,
        ];
        let mut all: Vec<_> = others.iter().map(|other| parts(other, &unit)).collect();
        all.extend([identity, parts(&base, &Unit::parse("USD").unwrap())]);
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(all.iter().all(|parts| parts.len() == 9));
    }

    #[test]
    fn a_request_names_a_counter_once_and_has_at_most_32_charges() {
        let charge = |max| Charge::parse(limit(cap(day("UTC"), max)), 1, Unit::parse("EUR").unwrap()).unwrap();
        assert!(Charges::parse(vec![charge(1)]).is_ok());
        assert_eq!(fields(Charges::parse(vec![charge(1), charge(2)])), ["charges[1]"]);
        assert_eq!(fields(Charges::parse(vec![charge(1); 33])), ["charges"]);
    }
}
