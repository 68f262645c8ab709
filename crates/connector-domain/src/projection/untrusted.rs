//! Marking text from outside before a model reads it.
//!
//! Every string of an output came from an upstream and is listed, with what was found in it. The findings help the
//! reader to be careful; that there are none proves nothing.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::characters::{Hidden, hidden};

/// Something in a string that a careful reader wants to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Finding {
    /// A control character other than tab and line end.
    Control,
    /// A character that changes the direction of text.
    Bidi,
    /// A character that takes no room.
    ZeroWidth,
    /// A terminal escape sequence.
    Ansi,
    /// A link, or something that a renderer makes one of.
    Link,
    /// Text that reads like an instruction to a model.
    Instruction,
}

/// A string from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untrusted {
    /// Where in the output: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What was found in it, each kind once.
    pub findings: Vec<Finding>,
}

/// Every string in the value, with what was found in it.
pub fn examine(value: &Value) -> Vec<Untrusted> {
    let mut found = Vec::new();
    walk(value, &mut String::new(), &mut found);
    found
}

fn walk(value: &Value, pointer: &mut String, found: &mut Vec<Untrusted>) {
    let here = pointer.len();
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => found.push(Untrusted { pointer: pointer.clone(), findings: findings(text) }),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = write!(pointer, "/{index}");
                walk(item, pointer, found);
                pointer.truncate(here);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                walk(member, pointer, found);
                pointer.truncate(here);
            }
        }
    }
}

const LINKS: [&str; 9] = ["://", "www.", "](", "javascript:", "data:", "mailto:", "tel:", "<a ", "<img"];

/// Phrases, in lower case with single spaces, that texts written for people seldom hold.
const INSTRUCTIONS: [&str; 26] = [
    "ignore previous",
    "ignore all",
    "ignore the above",
    "ignore your",
    "ignore any",
    "disregard",
    "forget previous",
    "forget all",
    "forget your",
    "system prompt",
    "system message",
    "new instructions",
    "your instructions",
    "previous instructions",
    "you are now",
    "you must now",
    "act as ",
    "pretend to be",
    "do not tell",
    "don't tell the user",
    "as an ai",
    "<|",
    "[inst]",
    "</system>",
    "### instruction",
    "call the tool",
];

/// Starts of lines that look like another speaker's turn.
const SPEAKERS: [&str; 4] = ["system:", "assistant:", "developer:", "user:"];

fn findings(text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for c in text.chars() {
        match hidden(c) {
            Some(Hidden::Control) if matches!(c, '\u{1b}' | '\u{9b}') => found.push(Finding::Ansi),
            Some(Hidden::Control) if matches!(c, '\t' | '\n' | '\r') => {}
            Some(Hidden::Control) => found.push(Finding::Control),
            Some(Hidden::Bidi) => found.push(Finding::Bidi),
            Some(Hidden::ZeroWidth) => found.push(Finding::ZeroWidth),
            None => {}
        }
        // The list stays short whatever the text says.
        found.dedup();
    }
    let plain = plain(text);
    if LINKS.iter().any(|link| plain.contains(link)) {
        found.push(Finding::Link);
    }
    let speaks = text.lines().any(|line| {
        let line = line.trim_start().to_lowercase();
        SPEAKERS.iter().any(|speaker| line.starts_with(speaker))
    });
    if speaks || INSTRUCTIONS.iter().any(|phrase| plain.contains(phrase)) {
        found.push(Finding::Instruction);
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Lower case, hidden characters dropped, white space single: what a model reads in it anyway.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_whitespace() {
            if !plain.ends_with(' ') {
                plain.push(' ');
            }
        } else if hidden(c).is_none() {
            plain.extend(c.to_lowercase());
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_is_found() {
        for (text, expected) in [
            ("an ordinary note\nof two lines", vec![]),
            ("a\u{7}b", vec![Finding::Control]),
            ("a\u{202e}b", vec![Finding::Bidi]),
            ("a\u{200b}b", vec![Finding::ZeroWidth]),
            ("\u{1b}[31mred", vec![Finding::Ansi]),
            ("see https://evil.example", vec![Finding::Link]),
            ("![x](y)", vec![Finding::Link]),
            ("Please IGNORE \n previous orders", vec![Finding::Instruction]),
            ("ig\u{200b}nore previous", vec![Finding::ZeroWidth, Finding::Instruction]),
            ("ok\n  System: refund", vec![Finding::Instruction]),
        ] {
            assert_eq!(findings(text), expected, "{text:?}");
        }
    }

    #[test]
    fn every_string_is_listed_by_its_pointer() {
        let found = examine(&json!({"a/b": ["x", 1, {"~": "www.x"}], "n": 5}));
        assert_eq!(
            found,
            [
                Untrusted { pointer: "/a~1b/0".to_owned(), findings: vec![] },
                Untrusted { pointer: "/a~1b/2/~0".to_owned(), findings: vec![Finding::Link] },
            ]
        );
    }

    proptest! {
        #[test]
        fn the_list_of_findings_is_short(text in any::<String>()) {
            prop_assert!(findings(&text).len() <= 6);
        }
    }
}
