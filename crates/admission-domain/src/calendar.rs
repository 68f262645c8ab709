//! Windows of the calendar: hours, days, weeks, months and years as the clocks of a time zone show them.
//!
//! A window begins at the first moment at which the zone's clock shows its beginning *or anything later*. So windows
//! follow each other without gap or overlap whatever the clock does: a day of 23 or 25 hours is one whole day, an hour
//! that the clock shows twice is one window of two hours, a midnight that the clock leaps over is the moment of the
//! leap, and a day that the zone skips altogether has no window.

use std::collections::HashMap;
use std::fmt;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp as Moment, ToSpan};
use safeconduct_types::Timestamp;

use crate::meter::MAX_NOW;

/// A unit of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CalendarUnit {
    /// An hour, as the clock shows it.
    Hour,
    /// A day, midnight to midnight.
    Day,
    /// A week, from Monday (ISO 8601).
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl CalendarUnit {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// Its name in keys and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The longest that one can be, in any zone: with what a zone may put its clock back by within it, up to a day.
    pub const fn longest(self) -> Duration {
        let days = match self {
            Self::Hour => 0,
            Self::Day => 1,
            Self::Week => 7,
            Self::Month => 31,
            Self::Year => 366,
        };
        Duration::from_hours(24 * (days + 1))
    }

    /// The unit with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == text)
    }

    /// The beginning of the unit that the clock shows at `local`.
    fn beginning(self, local: DateTime) -> Option<DateTime> {
        let date = local.date();
        let midnight = |date: Date| date.to_datetime(jiff::civil::Time::midnight());
        match self {
            Self::Hour => local.with().minute(0).second(0).subsec_nanosecond(0).build().ok(),
            Self::Day => Some(midnight(date)),
            Self::Week => {
                let since = i64::from(date.weekday().to_monday_zero_offset());
                date.checked_sub(since.days()).ok().map(midnight)
            }
            Self::Month => Some(midnight(date.first_of_month())),
            Self::Year => Some(midnight(date.first_of_year())),
        }
    }

    fn times(self, count: i64) -> Span {
        match self {
            Self::Hour => count.hours(),
            Self::Day => count.days(),
            Self::Week => count.weeks(),
            Self::Month => count.months(),
            Self::Year => count.years(),
        }
    }
}

/// A time zone of the IANA database that is built into the program: what the machine has installed does not matter.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone with this IANA name, such as `Europe/Dublin`; upper and lower case mean the same.
    pub fn parse(name: &str) -> Option<Self> {
        static BUNDLED: OnceLock<TimeZoneDatabase> = OnceLock::new();
        let zone = BUNDLED.get_or_init(TimeZoneDatabase::bundled).get(name).ok()?;
        zone.iana_name().is_some().then_some(Self(zone))
    }

    /// Its IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    fn shown(&self, at: Timestamp) -> Option<DateTime> {
        Moment::from_millisecond(at.as_millis()).ok().map(|moment| self.0.to_datetime(moment))
    }

    /// The first moment at which the clock shows `local` or anything later.
    fn first(&self, local: DateTime) -> Option<i64> {
        let ambiguous = self.0.to_ambiguous_timestamp(local);
        let moment = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok()?,
            // The clock shows it twice: the first time counts.
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok()?,
            // The clock leaps over it: the moment of the leap, which is the first change after a time before it.
            AmbiguousOffset::Gap { after, .. } => {
                let earlier = after.to_timestamp(local).ok()?;
                self.0.following(earlier.checked_sub(1.nanosecond()).ok()?).next()?.timestamp()
            }
        };
        Some(moment.as_millisecond())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name())
    }
}

/// The beginnings of four windows that follow each other, in milliseconds since the epoch: of the previous one, the one
/// that holds the time they were made for, the next one, and the one after that. A previous window that lies before the
/// epoch is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundaries([i64; 4]);

impl Boundaries {
    /// These boundaries. They must rise (the first two may be equal), and none may be negative.
    pub fn parse(boundaries: [i64; 4]) -> Option<Self> {
        let [a, b, c, d] = boundaries;
        (0 <= a && a <= b && b < c && c < d).then_some(Self(boundaries))
    }

    /// The boundaries, rising.
    pub const fn as_array(&self) -> &[i64; 4] {
        &self.0
    }

    /// Beginning and end of the window that holds the time they were made for.
    pub const fn present(&self) -> (i64, i64) {
        let [_, start, end, _] = self.0;
        (start, end)
    }

    /// Beginning and end of the window that holds `now_ms`, if it is one of the three.
    pub fn window(&self, now_ms: i64) -> Option<(i64, i64)> {
        let [a, b, c, d] = self.0;
        [(a, b), (b, c), (c, d)].into_iter().find(|(start, end)| (*start..*end).contains(&now_ms))
    }
}

/// How many units the search for a boundary goes either way: where a zone skips a whole day, 24 hours begin in the same
/// moment.
const REACH: i64 = 30;

/// The boundaries of the windows of `unit` in `zone` around `at` (clamped to the times that meters reckon with).
pub fn boundaries(unit: CalendarUnit, zone: &Zone, at: Timestamp) -> Boundaries {
    let at = at.as_millis().clamp(0, MAX_NOW / 1000);
    zoned(unit, zone, at).unwrap_or_else(|| {
        // Out of reach: within the clamped times every zone has its windows. Days of UTC are better than none.
        let day = at.div_euclid(86_400_000).saturating_mul(86_400_000);
        let plus = |days: i64| day.saturating_add(days.saturating_mul(86_400_000));
        Boundaries([plus(-1).max(0), day, plus(1), plus(2)])
    })
}

fn zoned(unit: CalendarUnit, zone: &Zone, at: i64) -> Option<Boundaries> {
    let shown = unit.beginning(zone.shown(Timestamp::from_millis(at))?)?;
    let nth = |count: i64| zone.first(shown.checked_add(unit.times(count)).ok()?);
    // The window that holds `at` may be a later one than the clock shows: it was set back over a beginning. So both
    // searches start one unit off.
    let after = distinct((-1..=REACH).map_while(nth).filter(|moment| *moment > at))?;
    let before = distinct((-1..=REACH).map_while(|count| nth(-count)).filter(|moment| *moment <= at))?;
    let ((start, previous), (end, next)) = (before, after);
    // Nothing is counted before the epoch.
    Some(Boundaries([previous, start, end, next].map(|moment| moment.max(0))))
}

/// The first two that differ.
fn distinct(mut moments: impl Iterator<Item = i64>) -> Option<(i64, i64)> {
    let first = moments.next()?;
    moments.find(|moment| *moment != first).map(|second| (first, second))
}

/// A memory of boundaries, so that a request does not ask the time zone again while now lies in the same window.
#[derive(Debug, Default)]
pub struct Calendars(RwLock<HashMap<(CalendarUnit, String), Boundaries>>);

impl Calendars {
    /// An empty memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`boundaries`]; asked of the time zone only if `at` lies outside the window that was last asked for.
    pub fn boundaries(&self, unit: CalendarUnit, zone: &Zone, at: Timestamp) -> Boundaries {
        let key = (unit, zone.name().to_owned());
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some(known) = known.filter(|known| {
            let (start, end) = known.present();
            (start..end).contains(&at.as_millis())
        }) {
            return known;
        }
        let fresh = boundaries(unit, zone, at);
        // As many as there are zones, times five: the database bounds it.
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, fresh);
        fresh
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<Moment>().unwrap().as_millisecond())
    }

    fn zone(name: &str) -> Zone {
        Zone::parse(name).unwrap()
    }

    fn present(unit: CalendarUnit, name: &str, when: &str) -> [String; 2] {
        let (start, end) = boundaries(unit, &zone(name), at(when)).present();
        [start, end].map(|moment| Moment::from_millisecond(moment).unwrap().to_string())
    }

    #[test]
    fn windows_follow_the_clock_of_the_zone() {
        use CalendarUnit::{Day, Hour, Month, Week, Year};
        #[rustfmt::skip]
        let table = [
            // A day of 23 hours, one of 25, and the hour that the clock shows twice.
            (Day, "Europe/Dublin", "2026-03-29T12:00:00Z", "2026-03-29T00:00:00Z", "2026-03-29T23:00:00Z"),
            (Day, "Europe/Dublin", "2026-10-25T12:00:00Z", "2026-10-24T23:00:00Z", "2026-10-26T00:00:00Z"),
            (Hour, "Europe/Dublin", "2026-10-25T01:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"),
            // Half an hour twice.
            (Hour, "Australia/Lord_Howe", "2026-04-04T15:10:00Z", "2026-04-04T14:00:00Z", "2026-04-04T15:30:00Z"),
            (Hour, "Asia/Kathmandu", "2026-04-04T15:10:00Z", "2026-04-04T14:15:00Z", "2026-04-04T15:15:00Z"),
            // Midnight is leapt over; midnight comes twice.
            (Day, "America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"),
            (Day, "America/Sao_Paulo", "2018-02-18T02:30:00Z", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"),
            (Day, "Asia/Beirut", "2022-03-27T12:00:00Z", "2022-03-26T22:00:00Z", "2022-03-27T21:00:00Z"),
            // The clock went back from 00:01 to 23:01: the day that had begun goes on.
            (Day, "America/St_Johns", "2010-11-07T03:00:00Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"),
            // The 30th of December 2011 never was.
            (Day, "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
            (Day, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
            (Hour, "Pacific/Apia", "2011-12-30T09:30:00Z", "2011-12-30T09:00:00Z", "2011-12-30T10:00:00Z"),
            (Week, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-26T10:00:00Z", "2012-01-01T10:00:00Z"),
            (Week, "UTC", "2026-11-22T23:59:59.999Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            (Week, "UTC", "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Month, "Europe/Dublin", "2026-03-31T23:00:00Z", "2026-03-31T23:00:00Z", "2026-04-30T23:00:00Z"),
            (Month, "UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Year, "America/New_York", "2026-01-01T04:59:59Z", "2025-01-01T05:00:00Z", "2026-01-01T05:00:00Z"),
        ];
        for (unit, name, when, start, end) in table {
            assert_eq!(present(unit, name, when), [start, end], "{unit:?} in {name} at {when}");
        }
    }

    #[test]
    fn only_names_of_the_database_are_zones() {
        assert_eq!(zone("europe/dublin").name(), "Europe/Dublin");
        for name in ["", "Europe/Nowhere", "+02:00", "Local", "../etc/passwd", "EST5EDT,M3.2.0,M11.1.0"] {
            assert!(Zone::parse(name).is_none(), "{name}");
        }
    }

    #[test]
    fn boundaries_rise_and_are_not_negative() {
        assert!(Boundaries::parse([0, 1, 2, 3]).is_some());
        assert!(Boundaries::parse([-1, 1, 2, 3]).is_none());
        assert!(Boundaries::parse([0, 2, 2, 3]).is_none());
    }

    #[test]
    fn what_is_remembered_is_asked_anew_when_the_window_is_over() {
        let (calendars, dublin) = (Calendars::new(), zone("Europe/Dublin"));
        for when in ["2026-03-28T12:00:00Z", "2026-03-28T23:59:59Z", "2026-03-29T00:00:00Z", "2026-03-28T23:59:59Z"] {
            let known = calendars.boundaries(CalendarUnit::Day, &dublin, at(when));
            assert_eq!(known, boundaries(CalendarUnit::Day, &dublin, at(when)), "{when}");
        }
    }

    /// What the clock shows, cut to the unit, as something that can be compared.
    fn shown(unit: CalendarUnit, zone: &Zone, moment: i64) -> DateTime {
        unit.beginning(zone.shown(Timestamp::from_millis(moment)).unwrap()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn windows_are_whole_and_leave_no_gap(
            unit in prop::sample::select(&CalendarUnit::ALL[..]),
            name in prop::sample::select(jiff_names()),
            at in prop_oneof![100_000_000_000..4_000_000_000_000_i64, 1_000_000_000_000..1_900_000_000_000_i64],
        ) {
            let zone = zone(name);
            let around = boundaries(unit, &zone, Timestamp::from_millis(at));
            let [previous, start, end, next] = *around.as_array();
            prop_assert!(previous < start && start <= at && at < end && end < next);
            for moment in [start, end - 1] {
                let same = boundaries(unit, &zone, Timestamp::from_millis(moment));
                prop_assert_eq!(same.present(), (start, end), "the same from within");
            }
            prop_assert_eq!(boundaries(unit, &zone, Timestamp::from_millis(end)).present(), (end, next));
            prop_assert_eq!(boundaries(unit, &zone, Timestamp::from_millis(start - 1)).present(), (previous, start));
            // At a boundary the clock shows something that it has not shown before.
            for boundary in [start, end, next] {
                let before = (1..200).map(|step| shown(unit, &zone, boundary - step * 60_000)).max();
                prop_assert!(Some(shown(unit, &zone, boundary)) > before);
            }
            // And nothing new within.
            let first = shown(unit, &zone, start);
            for step in 0..200 {
                let moment = start + (end - start) / 200 * step;
                prop_assert!(shown(unit, &zone, moment) <= first);
            }
        }
    }

    fn jiff_names() -> Vec<&'static str> {
        vec![
            "UTC",
            "Europe/Dublin",
            "America/Sao_Paulo",
            "America/St_Johns",
            "America/Caracas",
            "America/Scoresbysund",
            "Antarctica/Troll",
            "Antarctica/Casey",
            "Africa/Casablanca",
            "Africa/Cairo",
            "Asia/Beirut",
            "Asia/Gaza",
            "Asia/Kathmandu",
            "Asia/Pyongyang",
            "Asia/Tehran",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "Pacific/Chatham",
            "Pacific/Kwajalein",
            "Pacific/Kiritimati",
        ]
    }
}
