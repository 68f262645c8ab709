//! YAML text to a tree in which every value knows its place. Nothing is interpreted here.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, MergeKeyPolicy, Options, Spanned};

use crate::diagnostic::{Code, Diagnostic, Place};

/// The most levels of a document.
const MAX_DEPTH: usize = 32;
/// The most values of a document.
const MAX_NODES: usize = 20_000;

/// A value of a document, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// In the file's order; a name can stand in it twice.
    Map(Vec<Member>),
}

/// A member of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// Where the name stands.
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Node {
    /// What it is, for messages.
    pub(super) const fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing (null)",
            Kind::Bool(_) => "a boolean",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// The member of this name, if this is a mapping that has one.
    pub(super) fn get(&self, name: &str) -> Option<&Member> {
        match &self.kind {
            Kind::Map(members) => members.iter().find(|member| member.name == name),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) => None,
        }
    }

    /// The place of what this path of member names leads to, or of the last thing on the way that is there: of a
    /// member, where its name stands.
    pub(super) fn place_of(&self, path: &[&str]) -> &Place {
        self.walk(path).0
    }

    /// As `place_of`; of a member, where its value stands.
    pub(super) fn value_place_of(&self, path: &[&str]) -> &Place {
        &self.walk(path).1.place
    }

    fn walk(&self, path: &[&str]) -> (&Place, &Self) {
        let mut place = &self.place;
        let mut node = self;
        for name in path {
            let next = match &node.kind {
                Kind::Map(_) => node.get(name).map(|member| (&member.place, &member.value)),
                Kind::List(items) => {
                    name.parse::<usize>().ok().and_then(|n| items.get(n)).map(|item| (&item.place, item))
                }
                Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => None,
            };
            let Some((found, value)) = next else { break };
            (place, node) = (found, value);
        }
        (place, node)
    }

    /// The place of what this JSON pointer leads to.
    pub(super) fn place_at(&self, pointer: &str) -> &Place {
        let names: Vec<String> =
            pointer.split('/').skip(1).map(|name| name.replace("~1", "/").replace("~0", "~")).collect();
        self.place_of(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same value as JSON: of a name that stands twice, the last counts (which was refused before).
    pub(super) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(value) => Value::Number(value.clone()),
            Kind::Text(value) => Value::String(value.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Map(members) => Value::Object(
                members.iter().map(|member| (member.name.clone(), member.value.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }
}

/// The documents of a file, each by itself: one that cannot be read does not hide the others.
pub(super) fn documents(path: &Arc<str>, text: &str) -> Vec<Result<Node, (Diagnostic, String)>> {
    split(text)
        .into_iter()
        .flat_map(|(first_line, part)| match serde_saphyr::from_multiple_with_options::<Raw>(part, options()) {
            Ok(roots) => {
                let source = Source { path, text: part, first_line };
                roots.into_iter().map(|raw| Ok(source.node(raw))).collect::<Vec<_>>()
            }
            Err(error) => vec![Err((refused(path, first_line, &error), part.to_owned()))],
        })
        .collect()
}

/// Where documents begin. `---` at the start of a line means that everywhere in YAML, even inside a text block.
fn split(text: &str) -> Vec<(u32, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut offset, mut line) = (0, 0, 0, 0);
    for piece in text.split_inclusive('\n') {
        let marker =
            piece.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker && offset > start {
            parts.push((start_line, text.get(start..offset).unwrap_or_default()));
            (start, start_line) = (offset, line);
        }
        offset += piece.len();
        line += 1;
    }
    parts.push((start_line, text.get(start..).unwrap_or_default()));
    parts
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_aliases: 32,
            max_anchors: 32,
            max_recorded_anchor_events: 4096,
            max_documents: 8,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 4096,
            max_replay_stack_depth: 4,
            max_alias_expansions_per_anchor: 32,
        },
        // Told apart here, so that every one of them gets its place and the rest of the file is still checked.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn refused(path: &Arc<str>, first_line: u32, error: &Error) -> Diagnostic {
    let place = error.location().map_or_else(
        || Place { file: path.clone(), line: first_line + 1, column: 1 },
        |location| place(path, first_line, location),
    );
    // A parser's message can quote the text; a line of it does.
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    // Its own line number counts from the document's start; ours, from the file's, stands in front.
    let numbers = |tail: &str| tail.chars().all(|c| c.is_ascii_digit() || ", column".contains(c));
    let line = line.rsplit_once(" at line ").filter(|(_, tail)| numbers(tail)).map_or(line, |(head, _)| head);
    let message = line.chars().take(300).collect();
    Diagnostic { place, code: Code::YamlSyntax, message }
}

fn place(path: &Arc<str>, first_line: u32, location: Location) -> Place {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Place {
        file: path.clone(),
        line: number(location.line()).saturating_add(first_line),
        column: number(location.column()),
    }
}

struct Source<'a> {
    path: &'a Arc<str>,
    text: &'a str,
    first_line: u32,
}

impl Source<'_> {
    fn node(&self, Raw(spanned): Raw) -> Node {
        let kind = match spanned.value {
            RawKind::Null => Kind::Null,
            RawKind::Bool(value) => Kind::Bool(value),
            RawKind::Number(value) => Kind::Number(self.verbatim(spanned.defined).unwrap_or(value)),
            RawKind::Text(value) => Kind::Text(value),
            RawKind::List(items) => Kind::List(items.into_iter().map(|item| self.node(item)).collect()),
            RawKind::Map(members) => Kind::Map(
                members
                    .into_iter()
                    .map(|(name, value)| Member {
                        place: self.place(name.referenced),
                        name: name.value,
                        value: self.node(value),
                    })
                    .collect(),
            ),
        };
        Node { place: self.place(spanned.referenced), kind }
    }

    fn place(&self, location: Location) -> Place {
        place(self.path, self.first_line, location)
    }

    /// The number as it is written, if JSON writes it that way too: `0.10` and 64-bit ids stay what they are.
    fn verbatim(&self, location: Location) -> Option<Number> {
        let span = location.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        serde_json::from_str(self.text.get(start..end)?.trim()).ok()
    }
}

struct Raw(Spanned<RawKind>);

enum RawKind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for RawKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }

    fn visit_none<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawKind, D::Error> {
        RawKind::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawKind, E> {
        Ok(RawKind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawKind, E> {
        Ok(RawKind::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawKind, E> {
        Ok(RawKind::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<RawKind, E> {
        Number::from_f64(value).map(RawKind::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawKind, E> {
        Ok(RawKind::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<RawKind, E> {
        Ok(RawKind::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawKind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(RawKind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawKind, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key()? {
            let name: Spanned<String> = name;
            // serde_json would read an object of this one member as a number.
            if name.value == crate::json::MAGIC_MEMBER {
                return Err(serde::de::Error::custom("a name that is reserved; rename the member"));
            }
            members.push((name, map.next_value()?));
        }
        Ok(RawKind::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Result<Node, (Diagnostic, String)>> {
        documents(&Arc::from("a.yaml"), text)
    }

    fn one(text: &str) -> Node {
        let mut all = all(text);
        assert_eq!(all.len(), 1);
        all.remove(0).unwrap()
    }

    #[test]
    fn every_value_knows_its_line_and_column() {
        let node = one("# a comment\nspec:\n  timezone: Europe/Dublin\n  list: [1, {é: 2, b: 3}]\n");
        assert_eq!(node.place_of(&["spec", "timezone"]).to_string(), "a.yaml:3:3");
        assert_eq!(node.place_of(&["spec", "list", "1", "b"]).to_string(), "a.yaml:4:20");
        assert_eq!(node.place_of(&["spec", "nothing", "more"]).to_string(), "a.yaml:2:1");
        assert_eq!(node.get("spec").unwrap().value.get("timezone").unwrap().value.place.column, 13);
    }

    #[test]
    fn places_count_from_the_top_of_the_file_in_every_document() {
        let all = all("a: 1\n---\nb: 2\n--- # third\nc:\n  - d: 3\n");
        let lines: Vec<_> = all.iter().map(|one| one.as_ref().unwrap().place.line).collect();
        assert_eq!(lines, [1, 3, 5]);
        assert_eq!(all[2].as_ref().unwrap().place_of(&["c", "0", "d"]).to_string(), "a.yaml:6:5");
    }

    #[test]
    fn a_broken_document_does_not_hide_the_next() {
        let all = all("a: [1\n---\nb: 2\n");
        assert!(all[0].is_err() && all[1].is_ok(), "{all:?}");
        let (diagnostic, _) = documents(&Arc::from("a.yaml"), "b: 2\n---\n\na: !secret 1\n").remove(1).unwrap_err();
        assert_eq!(diagnostic.to_string(), "a.yaml:4:12: error[YAML_SYNTAX]: unsupported tag `!secret`");
    }

    #[test]
    fn numbers_stay_as_they_are_written() {
        let node = one("a: 0.10\nb: 123456789012345678901234567890\nc: 007\nd: 1_000\ne: -3\n");
        assert_eq!(
            serde_json::to_string(&node.to_json()).unwrap(),
            r#"{"a":0.10,"b":123456789012345678901234567890,"c":"007","d":"1_000","e":-3}"#
        );
    }

    #[test]
    fn a_number_behind_other_letters_and_lines_is_still_verbatim() {
        let all = all("# é\r\n---\r\né: [ü, 0.10]\r\nb: &x 2.50\r\nc: *x\r\n");
        let shown: Vec<_> = all.into_iter().map(|one| one.unwrap().to_json().to_string()).collect();
        assert_eq!(shown.len(), 1);
        assert!(
            shown[0].contains("0.10") && shown[0].contains(r#""b":2.5"#) && shown[0].contains(r#""c":2.5"#),
            "{shown:?}"
        );
    }

    #[test]
    fn yes_and_no_are_texts() {
        assert_eq!(one("[yes, no, on, true]").to_json(), serde_json::json!(["yes", "no", "on", true]));
    }

    #[test]
    fn a_name_that_stands_twice_is_seen_twice() {
        let Kind::Map(members) = one("a: 1\na: 2\n").kind else { panic!("a mapping") };
        assert_eq!(members.iter().map(|member| member.place.line).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_multiplies_or_nests_too_much_is_refused() {
        let laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c]\n";
        assert!(all(laughs)[0].is_err());
        assert!(all(&"[".repeat(100_000))[0].is_err());
        assert!(all(&format!("{}1", "- ".repeat(5000)))[0].is_err());
        assert!(all("a: &a {x: 1}\nb:\n  <<: *a\n")[0].is_err());
        assert!(all("a: !secret hunter2\n")[0].is_err());
    }
}
