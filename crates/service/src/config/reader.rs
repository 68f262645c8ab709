//! Reads settings one by one and collects everything that is wrong. What nobody asked for is unknown: so the list of
//! known keys can't differ from the code that reads them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::{Table, Value};

use super::problem::{Origin, Problem, nearest};
use super::source::{Layer, find, leaves, parse};
use super::value;

/// The layers of a configuration, later ones winning, and what was found wrong so far. A wrong value reads as
/// `None` (or a stand-in): [`Reader::finish`] then refuses the whole.
#[derive(Debug)]
pub(super) struct Reader {
    layers: Vec<Layer>,
    prefix: String,
    known: RefCell<Vec<String>>,
    problems: RefCell<Vec<Problem>>,
}

impl Reader {
    pub(super) fn new(layers: Vec<Layer>) -> Self {
        Self { layers, prefix: String::new(), known: RefCell::default(), problems: RefCell::default() }
    }

    fn entry(origin: Origin, prefix: String, table: Table) -> Self {
        Self { prefix, ..Self::new(vec![Layer { origin, table }]) }
    }

    /// The value of a key in the layer that wins. Asking makes the key known.
    fn get(&self, key: &str) -> Option<(&Origin, &Value)> {
        self.known.borrow_mut().push(key.to_owned());
        self.layers.iter().rev().find_map(|layer| find(&layer.table, key).map(|value| (&layer.origin, value)))
    }

    /// Where a key's value comes from.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let set = self.layers.iter().rev().find(|layer| find(&layer.table, key).is_some());
        set.or(self.layers.last()).map_or(Origin::Default, |layer| layer.origin.clone())
    }

    /// Notes that a key's value is wrong.
    pub(super) fn wrong(&self, key: &str, message: impl Into<String>) {
        let problem = Problem { origin: self.origin(key), key: self.full(key), message: message.into() };
        self.problems.borrow_mut().push(problem);
    }

    fn full(&self, key: &str) -> String {
        match (self.prefix.as_str(), key) {
            ("", key) => key.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, key) => format!("{prefix}.{key}"),
        }
    }

    /// Whether nothing was wrong so far with any of these keys or with what is in them. A rule between settings asks
    /// first: what follows from a stand-in is no news.
    pub(super) fn is_right(&self, keys: &[&str]) -> bool {
        let problems = self.problems.borrow();
        !problems.iter().any(|problem| keys.iter().any(|key| problem.key.starts_with(&self.full(key))))
    }

    /// The value of a key, as `parse` makes it; `expected` says what would be right.
    fn read<T>(&self, key: &str, expected: &str, parse: impl FnOnce(&Value, bool) -> Option<T>) -> Option<T> {
        let Some((origin, value)) = self.get(key) else {
            self.wrong(key, format!("is missing; expected {expected}"));
            return None;
        };
        let parsed = parse(value, matches!(origin, Origin::Environment(_)));
        if parsed.is_none() {
            self.wrong(key, format!("expected {expected}"));
        }
        parsed
    }

    pub(super) fn text(&self, key: &str) -> String {
        self.read(key, "text", |value, _| value.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Text that is not empty and not absurdly long.
    pub(super) fn name(&self, key: &str) -> String {
        let expected = "text of 1 to 200 characters";
        self.read(key, expected, |value, _| {
            value.as_str().filter(|text| (1..=200).contains(&text.len())).map(str::to_owned)
        })
        .unwrap_or_default()
    }

    pub(super) fn parsed<T: FromStr>(&self, key: &str, expected: &str) -> Option<T> {
        self.read(key, expected, |value, _| value.as_str()?.parse().ok())
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.read(key, "true or false", |value, from_text| {
            let text = value.as_str().filter(|_| from_text);
            text.map_or_else(|| value.as_bool(), |text| text.parse().ok())
        })
        .unwrap_or_default()
    }

    pub(super) fn count(&self, key: &str, range: RangeInclusive<u32>) -> u32 {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let lowest = *range.start();
        self.read(key, &expected, |value, from_text| {
            let text = value.as_str().filter(|_| from_text);
            let number = text.map_or_else(|| value.as_integer(), |text| text.parse().ok());
            u32::try_from(number?).ok().filter(|number| range.contains(number))
        })
        .unwrap_or(lowest)
    }

    pub(super) fn size(&self, key: &str, range: RangeInclusive<u64>) -> usize {
        let expected = format!("a size from {} to {} bytes, such as \"64KiB\"", range.start(), range.end());
        let size = self.read(key, &expected, |value, _| {
            let size = value.as_str().map_or_else(|| u64::try_from(value.as_integer()?).ok(), value::size);
            size.filter(|size| range.contains(size))
        });
        size.and_then(|size| usize::try_from(size).ok()).unwrap_or_default()
    }

    pub(super) fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Duration {
        let (low, high) = (value::show(*range.start()), value::show(*range.end()));
        let expected = format!("a length of time from {low} to {high}, such as \"10s\"");
        let read = self.read(key, &expected, |value, _| {
            value::duration(value.as_str()?).filter(|duration| range.contains(duration))
        });
        read.unwrap_or(*range.start())
    }

    pub(super) fn address(&self, key: &str) -> Option<SocketAddr> {
        self.parsed(key, "an address and a port, such as \"127.0.0.1:50051\"")
    }

    /// A path, `None` if the text is empty.
    pub(super) fn optional_path(&self, key: &str) -> Option<PathBuf> {
        Some(self.text(key)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    /// A path that must be given.
    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.read(key, "a path", |value, _| value.as_str().filter(|text| !text.is_empty()).map(PathBuf::from))
            .unwrap_or_default()
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let expected = one_of(choices);
        self.read(key, &expected, |value, _| pick(value.as_str()?, choices))
    }

    /// A list of texts, or one text alone; from the environment separated by commas. A missing one is empty.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        if self.get(key).is_none() {
            return Vec::new();
        }
        let texts = self.read(key, "a list of texts", |value, from_text| match value.as_str() {
            Some(text) if from_text => Some(text.split(',').map(|part| part.trim().to_owned()).collect()),
            Some(text) => Some(vec![text.to_owned()]),
            None => value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        });
        texts.unwrap_or_default()
    }

    /// A list of things that are written as text.
    pub(super) fn parsed_list<T: FromStr<Err: std::fmt::Display>>(&self, key: &str) -> Vec<T> {
        let parse = |text: String| text.parse().map_err(|error| self.wrong(key, format!("{error}"))).ok();
        self.list(key).into_iter().filter_map(parse).collect()
    }

    /// A list of some of a few words.
    pub(super) fn choices<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Vec<T> {
        let texts = self.list(key);
        let picked: Option<Vec<T>> = texts.iter().map(|text| pick(text, choices)).collect();
        picked.unwrap_or_else(|| {
            self.wrong(key, format!("expected a list of {}", one_of(choices)));
            Vec::new()
        })
    }

    /// Whether a key that has no default is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Each table of an array of tables, read by `each`.
    pub(super) fn entries<T>(&self, key: &str, each: impl Fn(&Self) -> Option<T>) -> Vec<T> {
        let tables = self.read(key, "an array of tables", |value, from_text| match value.as_str() {
            Some(text) if from_text => array(&parse(Origin::Default, &format!("v = {text}")).ok()?.table),
            _ => value.as_array()?.iter().map(|item| item.as_table().cloned()).collect(),
        });
        let origin = self.origin(key);
        let read = tables.unwrap_or_default().into_iter().enumerate().map(|(index, table)| {
            let name = table.get("name").or(table.get("issuer")).and_then(Value::as_str).filter(|name| is_shown(name));
            let label = name.map_or_else(|| format!("number {}", index + 1), str::to_owned);
            let entry = Self::entry(origin.clone(), format!("{key}[{label}]"), table);
            let value = each(&entry);
            self.problems.borrow_mut().extend(entry.finish().err().unwrap_or_default());
            value
        });
        read.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// Everything that was wrong, keys that nobody asked for included.
    pub(super) fn finish(self) -> Result<(), Vec<Problem>> {
        let known = self.known.take();
        let mut problems = self.problems.take();
        for layer in &self.layers {
            let mut keys = Vec::new();
            leaves(&layer.table, "", &mut keys);
            for key in keys.into_iter().filter(|key| !is_known(key, &known)) {
                let message = unknown(&key, &known);
                let key = self.full(key.trim_end_matches('.'));
                problems.push(Problem { origin: layer.origin.clone(), key, message });
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> Vec<String> {
        self.known.borrow().clone()
    }
}

/// Names go into messages only if they look like names.
fn is_shown(name: &str) -> bool {
    name.len() <= 200 && !name.chars().any(char::is_control)
}

fn array(table: &Table) -> Option<Vec<Table>> {
    table.get("v")?.as_array()?.iter().map(|item| item.as_table().cloned()).collect()
}

fn pick<T: Copy>(text: &str, choices: &[(&str, T)]) -> Option<T> {
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

fn one_of<T>(choices: &[(&str, T)]) -> String {
    let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    format!("one of {}", names.join(", "))
}

/// A key is known if somebody asked for it, or (when its value is a table) for something in it, which then has
/// complained about what it found.
fn is_known(key: &str, known: &[String]) -> bool {
    if key.ends_with('.') {
        return known.iter().any(|one| one.starts_with(key));
    }
    known.iter().any(|one| one == key || key.strip_prefix(one.as_str()).is_some_and(|rest| rest.starts_with('.')))
}

fn unknown(key: &str, known: &[String]) -> String {
    let key = key.trim_end_matches('.');
    let section = format!("{key}.");
    if known.iter().any(|one| one.starts_with(&section)) {
        return "is a section, not a setting; name the setting in it".to_owned();
    }
    match nearest(key, known.iter().map(String::as_str)) {
        Some(meant) => format!("there is no such setting; `{meant}` may be what was meant"),
        None => "there is no such setting; remove it (config.default.toml lists all)".to_owned(),
    }
}
