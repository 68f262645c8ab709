//! What is wrong with a configuration, and how that is said: where, which key, what would be right.

use std::fmt;
use std::path::PathBuf;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The defaults in the binary.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable, by its name.
    Environment(String),
    /// The command line.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in defaults"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// One thing that is wrong. Never carries the value: it could be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub origin: Origin,
    /// Which key; empty if it is about the whole file.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// A configuration that cannot be used, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// With this exit code a process ends whose configuration is wrong (`EX_USAGE`).
    pub const EXIT_CODE: u8 = 64;

    /// The error of these problems.
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// One problem.
    pub fn one(origin: Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(vec![Problem { origin, key: key.into(), message: message.into() }])
    }

    /// What is wrong; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigError {}

/// The candidate that was probably meant: few edits away, or the same last word in another section.
pub(super) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    candidates
        .map(|candidate| {
            let edits = distance(given, candidate);
            let misplaced = last(candidate) == last(given);
            // Of two that are as near, the one with the same letters in another order.
            let foreign = last(candidate).chars().filter(|letter| !last(given).contains(*letter)).count();
            (if misplaced { edits.min(2) } else { edits }, edits, foreign, candidate)
        })
        .min()
        .filter(|(edits, _, _, candidate)| *edits <= 1.max(given.len().min(candidate.len()) / 3))
        .map(|(.., candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, b) in row.iter_mut().skip(1).zip(&right) {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = *cell;
            before = replaced.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_recognised_and_a_foreign_one_is_not() {
        let known = ["store.url", "store.tls", "limits.in_flight", "drain.grace"];
        assert_eq!(nearest("store.ulr", known.into_iter()), Some("store.url"));
        assert_eq!(nearest("limit.in_flight", known.into_iter()), Some("limits.in_flight"));
        assert_eq!(nearest("in_flight", known.into_iter()), Some("limits.in_flight"));
        assert_eq!(nearest("postgres.database", known.into_iter()), None);
    }

    #[test]
    fn the_distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
