//! From YAML to [`Rules`]: strict, everything that is wrong at once, each with its place.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, MergeKeyPolicy, Options, Spanned};

use super::pattern::Pattern;
use super::{Allowance, Domain, Label, Level, Limit, Node, Rules, Unit, Values};

/// The most bytes of one file.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
/// The most levels of a document; a level of descriptors takes two.
const MAX_DEPTH: usize = 40;
/// The most values of a file.
const MAX_NODES: usize = 400_000;
/// The longest text of a file, in bytes.
const MAX_TEXT: usize = 1024;
/// The longest `name`: it goes into a header of every answer.
const MAX_NAME: usize = 128;

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, for messages.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Something in a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: String,
    /// From 1; 0 if it is about the whole file.
    pub line: u64,
    /// From 1; 0 if it is about the whole file.
    pub column: u64,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}:{}: {}", self.path, self.column, self.message),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDomain {
    domain: Spanned<String>,
    #[serde(default)]
    descriptors: Vec<Spanned<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "the form of the file is not ours")]
struct RawDescriptor {
    key: Spanned<String>,
    #[serde(default)]
    value: Option<Spanned<String>>,
    #[serde(default)]
    rate_limit: Option<Spanned<RawLimit>>,
    #[serde(default)]
    descriptors: Vec<Spanned<RawDescriptor>>,
    #[serde(default)]
    shadow_mode: bool,
    #[serde(default)]
    share_threshold: bool,
    #[serde(default)]
    detailed_metric: bool,
    #[serde(default)]
    value_to_metric: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimit {
    #[serde(default)]
    unit: Option<Spanned<String>>,
    #[serde(default)]
    requests_per_unit: Option<u32>,
    #[serde(default)]
    burst: Option<Spanned<u32>>,
    #[serde(default)]
    unlimited: bool,
    #[serde(default)]
    name: Option<Spanned<String>>,
    #[serde(default)]
    replaces: Vec<RawReplaces>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReplaces {
    name: Spanned<String>,
}

pub(super) fn parse(sources: &[Source]) -> Result<Rules, Vec<Problem>> {
    let mut loading = Loading::default();
    for source in sources {
        loading.file(source);
    }
    let Loading { rules, problems, .. } = loading;
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_aliases: 256,
            max_anchors: 256,
            max_recorded_anchor_events: 4096,
            max_documents: 64,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 65_536,
            max_replay_stack_depth: 4,
            max_alias_expansions_per_anchor: 256,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

#[derive(Default)]
struct Loading {
    rules: Rules,
    problems: Vec<Problem>,
    path: String,
    /// Where each domain was first named.
    seen: HashMap<String, String>,
}

/// Where in a domain a list of descriptors stands.
struct Above {
    domain: String,
    keys: Vec<String>,
    /// As `key_value`.
    steps: Vec<String>,
}

impl Loading {
    fn wrong(&mut self, at: Location, message: impl Into<String>) {
        let problem = self.problem(at, message);
        self.problems.push(problem);
    }

    fn problem(&self, at: Location, message: impl Into<String>) -> Problem {
        Problem { path: self.path.clone(), line: at.line(), column: at.column(), message: message.into() }
    }

    fn file(&mut self, source: &Source) {
        self.path.clone_from(&source.path);
        let whole =
            |message: &str| Problem { path: source.path.clone(), line: 0, column: 0, message: message.to_owned() };
        if source.text.len() > MAX_FILE_BYTES {
            self.problems.push(whole("is longer than 4 MiB; split it, a domain a file"));
            return;
        }
        match serde_saphyr::from_multiple_with_options::<RawDomain>(&source.text, options()) {
            Ok(domains) if domains.is_empty() => self.problems.push(whole("is empty; it needs a `domain`")),
            Ok(domains) => domains.into_iter().for_each(|one| self.domain(one)),
            Err(error) => {
                let problem = self.refused(&error);
                self.problems.push(problem);
            }
        }
    }

    fn refused(&self, error: &Error) -> Problem {
        let text = error.without_snippet().to_string();
        let line = text.lines().next().unwrap_or_default();
        // Its own place comes at the end of the message; ours stands in front.
        let numbers = |tail: &str| tail.chars().all(|c| c.is_ascii_digit() || ", column".contains(c));
        let line = line.rsplit_once(" at line ").filter(|(_, tail)| numbers(tail)).map_or(line, |(head, _)| head);
        let (row, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        Problem { path: self.path.clone(), line: row, column, message: line.chars().take(300).collect() }
    }

    fn domain(&mut self, raw: RawDomain) {
        let at = raw.domain.referenced;
        let name = raw.domain.value;
        if name.is_empty() || name.len() > MAX_TEXT {
            self.wrong(at, "a domain must have 1 to 1024 bytes");
            return;
        }
        let here = format!("{}:{}", self.path, at.line());
        if let Some(first) = self.seen.get(&name) {
            let message = format!("domain `{name}` stands already in {first}; put all of its descriptors there");
            self.wrong(at, message);
            return;
        }
        self.seen.insert(name.clone(), here);
        let mut above = Above { domain: name.clone(), keys: Vec::new(), steps: Vec::new() };
        let top = self.level(raw.descriptors, &mut above);
        self.rules.domains.insert(name, Domain { top });
    }

    fn level(&mut self, raw: Vec<Spanned<RawDescriptor>>, above: &mut Above) -> Level {
        let mut level = Level::default();
        for one in raw {
            self.descriptor(one.value, above, &mut level);
        }
        level
    }

    fn descriptor(&mut self, raw: RawDescriptor, above: &mut Above, level: &mut Level) {
        let at = raw.key.referenced;
        let key = raw.key.value;
        // As in the reference service, an empty value is none.
        let value = raw.value.map(|value| value.value).filter(|value| !value.is_empty());
        if key.is_empty() || key.len() > MAX_TEXT || value.as_ref().is_some_and(|value| value.len() > MAX_TEXT) {
            self.wrong(at, "a key must have 1 to 1024 bytes, and a value at most as many");
            return;
        }
        let pattern = value.as_deref().and_then(Pattern::parse);
        if raw.share_threshold && pattern.is_none() {
            self.wrong(at, "`share_threshold` needs a value with `*`; remove it, or make the value a pattern");
        }
        if raw.detailed_metric || raw.value_to_metric {
            let message = "detailed_metric and value_to_metric have no effect: values are never in metrics";
            let note = self.problem(at, message);
            self.rules.notes.push(note);
        }
        if raw.shadow_mode && raw.rate_limit.is_none() {
            let note = self.problem(at, "shadow_mode has no effect without rate_limit, and is not inherited");
            self.rules.notes.push(note);
        }
        let step = value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}_{value}"));
        above.steps.push(step);
        above.keys.push(key.clone());
        let limit = raw.rate_limit.and_then(|limit| self.limit(limit, raw.shadow_mode, above));
        let next = self.level(raw.descriptors, above);
        above.steps.pop();
        above.keys.pop();
        let node = Node { limit: limit.map(Arc::new), next, share: raw.share_threshold };
        if let Some(twice) = insert(level.keys.entry(key).or_default(), value, pattern, node) {
            self.wrong(at, format!("this key and {twice} stand twice in one list; keep one of the two"));
        }
    }

    fn limit(&mut self, raw: Spanned<RawLimit>, shadow: bool, above: &Above) -> Option<Limit> {
        let at = raw.referenced;
        let raw = raw.value;
        let problems = self.problems.len();
        let (name, replaces) = self.names(&raw);
        let (unit, requests, burst) = if raw.unlimited {
            if raw.unit.is_some() || raw.requests_per_unit.is_some() || raw.burst.is_some() {
                self.wrong(at, "`unlimited` stands without unit, requests_per_unit and burst; remove them or it");
            }
            (Unit::Second, 0, 0)
        } else {
            let unit = raw.unit.as_ref().and_then(|unit| Unit::parse(&unit.value));
            if unit.is_none() {
                let place = raw.unit.as_ref().map_or(at, |unit| unit.referenced);
                self.wrong(place, "unit must be one of second, minute, hour, day, week, month, year");
            }
            if raw.requests_per_unit.is_none() {
                self.wrong(at, "requests_per_unit is required; 0 lets nothing through");
            }
            let requests = raw.requests_per_unit.unwrap_or_default();
            if let Some(burst) = raw.burst.as_ref().filter(|burst| burst.value == 0 || requests == 0) {
                self.wrong(burst.referenced, "burst must be at least 1, and stands beside requests of at least 1");
            }
            (unit.unwrap_or(Unit::Second), requests, raw.burst.map_or(requests, |burst| burst.value))
        };
        let allowance =
            if raw.unlimited { Some(Allowance::Unlimited) } else { Allowance::parse(requests, unit, burst) };
        if allowance.is_none() {
            let message = "requests_per_unit and burst are at most 1000000 each, and a burst must come back within a \
                           century; lower them, or take a longer unit";
            self.wrong(at, message);
        }
        let allowance = allowance.filter(|_| self.problems.len() == problems)?;
        let id = self.rules.limits.len();
        self.rules.limits.push(Label { domain: above.domain.clone(), path: above.steps.join(".") });
        let policy = if name.is_empty() { above.keys.join(".") } else { name.clone() };
        Some(Limit { id: Some(id), allowance, requests, unit, name, policy, replaces, shadow })
    }

    fn names(&mut self, raw: &RawLimit) -> (String, Vec<String>) {
        let name = raw.name.as_ref().map(|name| name.value.clone()).unwrap_or_default();
        if let Some(long) = raw.name.as_ref().filter(|_| name.len() > MAX_NAME) {
            self.wrong(long.referenced, "a name must have at most 128 bytes");
        }
        for replaced in &raw.replaces {
            if replaced.name.value.is_empty() {
                self.wrong(replaced.name.referenced, "what is replaced must have a name");
            } else if replaced.name.value == name {
                self.wrong(replaced.name.referenced, "a limit cannot replace itself; name another one");
            }
        }
        (name, raw.replaces.iter().map(|one| one.name.value.clone()).collect())
    }
}

/// Puts it where it belongs; what it met there, if something was.
fn insert(values: &mut Values, value: Option<String>, pattern: Option<Pattern>, node: Node) -> Option<&'static str> {
    match (value, pattern) {
        (_, Some(pattern)) => {
            let twice = values.patterns.iter().any(|(other, _)| *other == pattern);
            values.patterns.push((pattern, node));
            twice.then_some("pattern")
        }
        (Some(value), None) => values.exact.insert(value, node).map(|_| "value"),
        (None, None) => values.any.replace(Box::new(node)).map(|_| "no value"),
    }
}
