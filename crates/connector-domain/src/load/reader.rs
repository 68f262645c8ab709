//! Reads typed values out of a tree and keeps every finding, so that one mistake does not hide the next.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use safeconduct_types::parse_duration;

use super::yaml::{Kind, Member, Node};
use crate::diagnostic::{Code, Diagnostic, Place};

/// Collects what is wrong. A method that answers `None` has said why.
#[derive(Debug, Default)]
pub(super) struct Reader {
    found: Vec<Diagnostic>,
}

/// The members of a mapping, after those that have no place in it were reported.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n> {
    node: &'n Node,
    what: &'static str,
}

impl<'n> Fields<'n> {
    /// Where the mapping stands.
    pub(super) const fn place(&self) -> &'n Place {
        &self.node.place
    }

    /// The value of this field, if it is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        self.node.get(name).map(|member| &member.value).filter(|value| !matches!(value.kind, Kind::Null))
    }
}

impl Reader {
    pub(super) fn into_found(self) -> Vec<Diagnostic> {
        self.found
    }

    /// Keeps a finding.
    pub(super) fn report(&mut self, code: Code, place: &Place, message: impl Into<String>) {
        self.found.push(Diagnostic { place: place.clone(), code, message: message.into() });
    }

    /// The node as a mapping with these fields. `later` are fields of the format that this version does not execute.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        what: &'static str,
        known: &[&str],
        later: &[&str],
    ) -> Option<Fields<'n>> {
        let members = self.members(node, what)?;
        for member in members {
            let name = member.name.as_str();
            if known.contains(&name) {
                // A field without its value reads like a control and would be none.
                if matches!(member.value.kind, Kind::Null) {
                    let message = format!("`{name}` of {what} has no value; write one, or remove the field");
                    self.report(Code::WrongType, &member.place, message);
                }
            } else if later.contains(&name) {
                self.not_yet(&member.place, &format!("`{name}` of {what}"));
            } else {
                let hint = nearest(name, known.iter().chain(later).copied())
                    .map_or_else(|| format!("known are {}", list(known)), |near| format!("did you mean `{near}`?"));
                self.report(
                    Code::UnknownField,
                    &member.place,
                    format!("{what} has no field `{}`; {hint}", short(name)),
                );
            }
        }
        Some(Fields { node, what })
    }

    /// The members of a mapping whose names the file chooses; a name that stands twice is reported.
    pub(super) fn members<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Member]> {
        let Kind::Map(members) = &node.kind else {
            self.wrong_type(node, what, "a mapping");
            return None;
        };
        let mut names = std::collections::BTreeSet::new();
        for member in members {
            if !names.insert(member.name.as_str()) {
                self.report(
                    Code::DuplicateField,
                    &member.place,
                    format!("`{}` stands twice in {what}; remove one", short(&member.name)),
                );
            }
        }
        Some(members)
    }

    /// As `members`, with an upper bound.
    pub(super) fn members_up_to<'n>(&mut self, node: &'n Node, what: &str, most: usize) -> Option<&'n [Member]> {
        let members = self.members(node, what)?;
        self.within(node, what, members.len(), most).then_some(members)
    }

    /// The items of a list.
    pub(super) fn items<'n>(&mut self, node: &'n Node, what: &str, most: usize) -> Option<&'n [Node]> {
        let Kind::List(items) = &node.kind else {
            self.wrong_type(node, what, "a list");
            return None;
        };
        self.within(node, what, items.len(), most).then_some(items)
    }

    fn within(&mut self, node: &Node, what: &str, count: usize, most: usize) -> bool {
        if count > most {
            self.report(
                Code::LimitExceeded,
                &node.place,
                format!("{what} has {count} entries; at most {most} are read"),
            );
        }
        count <= most
    }

    /// The required field.
    pub(super) fn required<'n>(&mut self, fields: Fields<'n>, name: &str) -> Option<&'n Node> {
        let found = fields.get(name);
        if found.is_none() {
            self.report(Code::MissingField, &fields.node.place, format!("{} needs `{name}`", fields.what));
        }
        found
    }

    /// A text of at most `most` characters.
    pub(super) fn text<'n>(&mut self, node: &'n Node, what: &str, most: usize) -> Option<&'n str> {
        let Kind::Text(text) = &node.kind else {
            let quotes = matches!(node.kind, Kind::Number(_) | Kind::Bool(_));
            self.wrong_type(node, what, if quotes { "a text: put it in quotes" } else { "a text" });
            return None;
        };
        if text.chars().nth(most).is_some() {
            self.report(Code::LimitExceeded, &node.place, format!("{what} is too long; at most {most} characters"));
            return None;
        }
        Some(text)
    }

    /// A text that reads as a `T`; `code` says what it is if it does not.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, node: &Node, what: &str, code: Code) -> Option<T> {
        let text = self.text(node, what, 2048)?;
        self.ok(text.parse(), node, what, code)
    }

    /// The good side of a result, the other one reported.
    pub(super) fn ok<T>(&mut self, result: Result<T, impl Display>, node: &Node, what: &str, code: Code) -> Option<T> {
        result.map_err(|error| self.report(code, &node.place, format!("{what}: {error}"))).ok()
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        if let Kind::Bool(value) = node.kind {
            return Some(value);
        }
        self.wrong_type(node, what, "`true` or `false`");
        None
    }

    /// An absent one is `false`.
    pub(super) fn flag(&mut self, fields: Fields<'_>, name: &str) -> Option<bool> {
        fields.get(name).map_or(Some(false), |node| self.boolean(node, &format!("`{name}`")))
    }

    /// A whole number within bounds.
    pub(super) fn whole(&mut self, node: &Node, what: &str, least: u32, most: u32) -> Option<u32> {
        let Kind::Number(number) = &node.kind else {
            self.wrong_type(node, what, "a number");
            return None;
        };
        let value = number.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (least..=most).contains(n));
        if value.is_none() {
            self.report(Code::BadValue, &node.place, format!("{what} is a whole number from {least} to {most}"));
        }
        value
    }

    /// A whole number within bounds that may be wide.
    pub(super) fn wide(&mut self, node: &Node, what: &str, least: i64, most: i64) -> Option<i64> {
        let Kind::Number(number) = &node.kind else {
            self.wrong_type(node, what, "a number");
            return None;
        };
        let value = number.as_i64().filter(|n| (least..=most).contains(n));
        if value.is_none() {
            self.report(Code::BadValue, &node.place, format!("{what} is a whole number from {least} to {most}"));
        }
        value
    }

    /// HTTP statuses of failures.
    pub(super) fn statuses(&mut self, node: &Node, what: &str) -> Option<std::collections::BTreeSet<u16>> {
        let items = self.items(node, what, 100)?;
        let read: Vec<_> = items.iter().map(|item| self.whole(item, what, 400, 599)).collect();
        read.into_iter().map(|status| u16::try_from(status?).ok()).collect()
    }

    /// A length of time such as `500ms`, `8s`, `30m`, `24h`, `7d`, within bounds.
    pub(super) fn duration(&mut self, node: &Node, what: &str, least: &str, most: &str) -> Option<Duration> {
        let text = match &node.kind {
            Kind::Text(text) => text.as_str(),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::List(_) | Kind::Map(_) => "",
        };
        let bounds = parse_duration(least).zip(parse_duration(most));
        let value =
            parse_duration(text).filter(|value| bounds.is_none_or(|(least, most)| (least..=most).contains(value)));
        if value.is_none() {
            self.report(
                Code::BadValue,
                &node.place,
                format!("{what} is a length of time from {least} to {most}: a number and `ms`, `s`, `m`, `h` or `d`"),
            );
        }
        value
    }

    /// One of these words. `later` are words of the format that this version does not execute.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, what: &str, known: &[(&str, T)], later: &[&str]) -> Option<T> {
        let text = self.text(node, what, 64)?;
        if let Some((_, value)) = known.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        if later.contains(&text) {
            self.not_yet(&node.place, &format!("`{text}` as {what}"));
        } else {
            let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
            let near = nearest(text, words.iter().copied())
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            self.report(Code::BadValue, &node.place, format!("{what} is one of {}{near}", list(&words)));
        }
        None
    }

    pub(super) fn not_yet(&mut self, place: &Place, what: &str) {
        self.report(
            Code::NotYetSupported,
            place,
            format!("{what} is part of the format, and this version does not carry it out; remove it"),
        );
    }

    fn wrong_type(&mut self, node: &Node, what: &str, wanted: &str) {
        self.report(Code::WrongType, &node.place, format!("{what} is {}; it must be {wanted}", node.type_name()));
    }
}

/// The known name that was most likely meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(64).map(|c| c.to_ascii_lowercase()).collect();
    known
        .map(|one| (distance(&name, one), one))
        .filter(|(distance, one)| *distance <= (one.len().max(name.len()) / 3).max(1))
        .min()
        .map(|(_, one)| one)
}

/// How many letters have to be added, removed or replaced.
fn distance(from: &[char], to: &str) -> usize {
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (n, letter) in to.chars().enumerate() {
        let mut next = vec![n + 1];
        for (m, (own, pair)) in from.iter().zip(row.windows(2)).enumerate() {
            let &[diagonal, above] = pair else { continue };
            let left = next.get(m).copied().unwrap_or_default();
            next.push((above.min(left) + 1).min(diagonal + usize::from(*own != letter)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// A name from the file, short enough for a message.
pub(super) fn short(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(48).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        let known = ["inputs", "idempotency", "request", "response", "retry"];
        for (typo, meant) in
            [("input", "inputs"), ("idempotancy", "idempotency"), ("reqeust", "request"), ("Retry", "retry")]
        {
            assert_eq!(nearest(typo, known.into_iter()), Some(meant), "{typo}");
        }
        assert_eq!(nearest("colour", known.into_iter()), None);
    }
}
