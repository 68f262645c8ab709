//! The layers a configuration is made of: built-in defaults, a file, the environment, the command line.

use std::path::Path;

use toml::{Table, Value};

use super::problem::{Origin, Problem};

const PREFIX: &str = "SAFECONDUCT_";
const SECRETS: &str = "SAFECONDUCT_SECRET_";

/// Names the configuration directory, as `--config` does.
pub(super) const CONFIG: &str = "SAFECONDUCT_CONFIG";

/// Settings of one origin.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) origin: Origin,
    pub(super) table: Table,
}

/// Parses TOML; says line and column of a mistake, and never shows the line: it could hold a secret.
pub(super) fn parse(origin: Origin, text: &str) -> Result<Layer, Problem> {
    match text.parse::<Table>() {
        Ok(table) => Ok(Layer { origin, table }),
        Err(error) => {
            let place = error.span().map_or_else(String::new, |span| place(text, span.start));
            let message = format!("{place}this is not TOML: {}", error.message());
            Err(Problem { origin, key: String::new(), message })
        }
    }
}

fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: ")
}

/// Reads a file, if there is one or if there must be one.
pub(super) fn file(path: &Path, required: bool) -> Result<Option<Layer>, Problem> {
    let origin = || Origin::File(path.to_owned());
    match std::fs::read_to_string(path) {
        Ok(text) => parse(origin(), &text).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => Ok(None),
        Err(error) => Err(Problem {
            origin: origin(),
            key: String::new(),
            message: format!("cannot be read ({}); name a file that exists and that this user may read", error.kind()),
        }),
    }
}

/// One layer a variable, so that each setting knows its own.
pub(super) fn environment(variables: &[(String, String)], problems: &mut Vec<Problem>) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (name, text) in variables {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        if name == CONFIG || name.starts_with(SECRETS) {
            continue;
        }
        let origin = Origin::Environment(name.clone());
        if is_service_link(key) {
            let message = "this looks like a link that Kubernetes sets for a Service of that name, not like a setting; \
                           set `enableServiceLinks: false` in the pod's spec";
            problems.push(Problem { origin, key: String::new(), message: message.to_owned() });
            continue;
        }
        // Lower case would let two spellings compete for one setting.
        if key.is_empty() || key.chars().any(|c| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')) {
            let message = "is no setting: after SAFECONDUCT_ there are capitals, digits and `_` only";
            problems.push(Problem { origin, key: String::new(), message: message.to_owned() });
            continue;
        }
        let key = key.to_ascii_lowercase();
        let mut value = Value::String(text.clone());
        for part in key.rsplit("__") {
            value = Value::Table(Table::from_iter([(part.to_owned(), value)]));
        }
        if let Value::Table(table) = value {
            layers.push(Layer { origin, table });
        }
    }
    layers
}

/// Whether Kubernetes makes up such names (`..._SERVICE_HOST`, `..._PORT_50051_TCP_ADDR`).
fn is_service_link(key: &str) -> bool {
    key.ends_with("_SERVICE_HOST")
        || key.contains("_SERVICE_PORT")
        || (!key.contains("__") && key.ends_with("_PORT"))
        || key.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The value at a dotted path.
pub(super) fn find<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        Some((first, rest)) => find(table.get(first)?.as_table()?, rest),
        None => table.get(path),
    }
}

/// The dotted paths of everything in a table that is not itself a table; an empty table's ends in a dot.
pub(super) fn leaves(table: &Table, prefix: &str, found: &mut Vec<String>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value.as_table() {
            Some(inner) if inner.is_empty() => found.push(path + "."),
            Some(inner) => leaves(inner, &path, found),
            None => found.push(path),
        }
    }
}
