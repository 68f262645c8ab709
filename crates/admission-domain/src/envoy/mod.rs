//! Limits for a gateway that speaks Envoy's rate limit protocol: which descriptor has which limit.
//!
//! [`Rules::parse`] reads files in the form that `envoyproxy/ratelimit` reads (`load.rs`), [`Rules::domain`] and
//! [`Domain::find`] then match what a gateway sends, by maps that were made at load. Nothing is counted here.
//!
//! Matching is that of the reference service: a descriptor has a limit only if its entries lead, one level each, to a
//! node with one. At each level the exact value wins, then the first pattern of the file, then the key alone. What a
//! descriptor is counted under are its own entries, whichever node they matched; a pattern with `share_threshold`
//! stands in for its value.

mod load;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::limit::Rate;
use pattern::Pattern;

pub use load::{MAX_FILE_BYTES, Problem, Source};

/// The length of time that a number of requests refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One second.
    Second,
    /// One minute.
    Minute,
    /// One hour.
    Hour,
    /// 24 hours.
    Day,
    /// 7 days.
    Week,
    /// 30 days.
    Month,
    /// 365 days.
    Year,
}

impl Unit {
    const ALL: [Self; 7] = [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// Its name in a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// How long it is.
    pub const fn seconds(self) -> u64 {
        const DAY: u64 = 24 * 60 * 60;
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 60 * 60,
            Self::Day => DAY,
            Self::Week => 7 * DAY,
            Self::Month => 30 * DAY,
            Self::Year => 365 * DAY,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str().eq_ignore_ascii_case(text))
    }
}

/// What a limit lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Everything; nothing is counted.
    Unlimited,
    /// Nothing (`requests_per_unit: 0`).
    Closed,
    /// A smoothed rate.
    Rate(Rate),
}

impl Allowance {
    /// So many requests in one unit, and `burst` of them at once. `None` if either is above a million, or if a burst
    /// takes longer than a century to come back.
    pub fn parse(requests: u32, unit: Unit, burst: u32) -> Option<Self> {
        if requests == 0 {
            return Some(Self::Closed);
        }
        let period_us = i64::try_from(unit.seconds()).ok()?.checked_mul(1_000_000)?;
        Rate::of_a_gateway(requests.into(), period_us, burst.into()).ok().map(Self::Rate)
    }
}

/// A limit of the files, or one that a gateway states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its place among the limits of its [`Rules`], from 0. `None` for one that a gateway stated.
    pub id: Option<usize>,
    /// What it lets through.
    pub allowance: Allowance,
    /// Requests in one unit, as configured.
    pub requests: u32,
    /// The unit. Of an unlimited one, a second.
    pub unit: Unit,
    /// The name in the file; empty if it has none.
    pub name: String,
    /// What it is called where people see it: its name, or the keys that lead to it. Never a value.
    pub policy: String,
    /// Names of limits that do not count for a request for which this one does.
    pub replaces: Vec<String>,
    /// Counted, but nothing is refused for it.
    pub shadow: bool,
}

impl Limit {
    /// The limit that a gateway states for a descriptor with these keys, in place of the configured one. `None` above
    /// a million requests.
    pub fn stated<'a>(requests: u32, unit: Unit, keys: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        Some(Self {
            id: None,
            allowance: Allowance::parse(requests, unit, requests)?,
            requests,
            unit,
            name: String::new(),
            policy: keys.into_iter().collect::<Vec<_>>().join("."),
            replaces: Vec::new(),
            shadow: false,
        })
    }
}

/// What a descriptor matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The limit.
    pub limit: &'a Arc<Limit>,
    /// Entries that are counted under a pattern instead of their value: place and pattern.
    pub shared: Vec<(usize, &'a str)>,
}

/// The domains of all files.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    domains: HashMap<String, Domain>,
    limits: Vec<Label>,
    notes: Vec<Problem>,
}

/// Names a limit for counters and people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// The domain.
    pub domain: String,
    /// Keys and configured values that lead to the limit, as `key_value.key`.
    pub path: String,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.domain, self.path)
    }
}

impl Rules {
    /// Reads the files, or says everything that is wrong with them.
    pub fn parse(sources: &[Source]) -> Result<Self, Vec<Problem>> {
        load::parse(sources)
    }

    /// The limits of a domain; none if no file has it.
    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.get(name)
    }

    /// How many domains there are.
    pub fn domains(&self) -> usize {
        self.domains.len()
    }

    /// The limits' labels; [`Limit::id`] is the place.
    pub fn limits(&self) -> &[Label] {
        &self.limits
    }

    /// What was accepted and has no effect here.
    pub fn notes(&self) -> &[Problem] {
        &self.notes
    }
}

/// One domain.
#[derive(Clone, Debug, Default)]
pub struct Domain {
    top: Level,
}

impl Domain {
    /// The limit of a descriptor with these entries (key and value), outermost first.
    pub fn find<'a, 'b>(&'a self, entries: impl IntoIterator<Item = (&'b str, &'b str)>) -> Option<Found<'a>> {
        let mut shared = Vec::new();
        let mut level = Some(&self.top);
        let mut limit = None;
        for (index, (key, value)) in entries.into_iter().enumerate() {
            // An entry more than the files have levels: no limit is meant for it.
            let (node, pattern) = level?.keys.get(key)?.find(value)?;
            shared.extend(pattern.map(|pattern| (index, pattern)));
            limit = node.limit.as_ref();
            level = Some(&node.next);
        }
        limit.map(|limit| Found { limit, shared })
    }
}

/// The descriptors of one list, by key.
#[derive(Clone, Debug, Default)]
struct Level {
    keys: HashMap<String, Values>,
}

/// The descriptors of one list with one key.
#[derive(Clone, Debug, Default)]
struct Values {
    exact: HashMap<String, Node>,
    /// In the file's order: the first that matches counts.
    patterns: Vec<(Pattern, Node)>,
    any: Option<Box<Node>>,
}

impl Values {
    fn find(&self, value: &str) -> Option<(&Node, Option<&str>)> {
        if let Some(node) = self.exact.get(value) {
            return Some((node, None));
        }
        let matched = self.patterns.iter().find(|(pattern, _)| pattern.matches(value));
        match matched {
            Some((pattern, node)) => Some((node, node.share.then_some(pattern.as_str()))),
            None => self.any.as_deref().map(|node| (node, None)),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Node {
    limit: Option<Arc<Limit>>,
    next: Level,
    share: bool,
}
