//! The strict reader.

use std::fmt;

use serde_json::{Map, Value};

use super::{Decimal, MAGIC_MEMBER};

/// How much JSON is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Size of the text in bytes.
    pub max_bytes: usize,
    /// Arrays and objects within each other. At most 128: the reader calls itself once per level.
    pub max_depth: u8,
}

impl Bounds {
    /// What a caller may send as inputs.
    pub const INPUTS: Self = Self { max_bytes: 64 * 1024, max_depth: 32 };

    /// What an upstream may answer, within the definition's own `max_bytes`.
    pub const fn answer(max_bytes: usize) -> Self {
        Self { max_bytes, max_depth: 64 }
    }
}

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonProblem {
    /// It is longer than allowed.
    TooLarge,
    /// It is nested deeper than allowed.
    TooDeep,
    /// It is not UTF-8.
    NotUtf8,
    /// It does not follow the grammar of RFC 8259.
    Syntax,
    /// Something follows the value.
    Trailing,
    /// An object has two members of one name.
    DuplicateMember,
    /// A member has a name that is reserved.
    ReservedMember,
    /// A number is too long or out of range.
    Number,
}

/// Why a text is not taken, and where: never what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    problem: JsonProblem,
    offset: Option<usize>,
}

impl JsonError {
    pub(super) const fn of(problem: JsonProblem) -> Self {
        Self { problem, offset: None }
    }

    /// What is wrong.
    pub const fn problem(self) -> JsonProblem {
        self.problem
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.problem {
            JsonProblem::TooLarge => "is larger than allowed",
            JsonProblem::TooDeep => "is nested deeper than allowed",
            JsonProblem::NotUtf8 => "is not UTF-8",
            JsonProblem::Syntax => "is not JSON",
            JsonProblem::Trailing => "has something after its JSON value",
            JsonProblem::DuplicateMember => "has two members of one name in one object",
            JsonProblem::ReservedMember => "has a member with a reserved name",
            JsonProblem::Number => "has a number of more than 128 characters or outside 10^-300 to 10^300",
        })?;
        self.offset.map_or(Ok(()), |offset| write!(f, ", at byte {offset}"))
    }
}

impl std::error::Error for JsonError {}

/// Reads one JSON value out of bytes.
pub fn parse_bytes(bytes: &[u8], bounds: Bounds) -> Result<Value, JsonError> {
    if bytes.len() > bounds.max_bytes {
        return Err(JsonError::of(JsonProblem::TooLarge));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text, bounds),
        Err(_) => Err(JsonError::of(JsonProblem::NotUtf8)),
    }
}

/// Reads one JSON value out of text. Numbers stay as they are written.
pub fn parse(text: &str, bounds: Bounds) -> Result<Value, JsonError> {
    if text.len() > bounds.max_bytes {
        return Err(JsonError::of(JsonProblem::TooLarge));
    }
    let mut reader = Reader { text, at: 0 };
    reader.space();
    let value = reader.value(bounds.max_depth.min(128))?;
    reader.space();
    if reader.at == text.len() { Ok(value) } else { Err(reader.error(JsonProblem::Trailing)) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, problem: JsonProblem) -> JsonError {
        JsonError { problem, offset: Some(self.at) }
    }

    fn syntax<T>(&self) -> Result<T, JsonError> {
        Err(self.error(JsonProblem::Syntax))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if !self.rest().starts_with(word) {
            return self.syntax();
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: u8) -> Result<Value, JsonError> {
        match self.peek() {
            Some(b'{') => self.object(self.deeper(depth)?),
            Some(b'[') => self.array(self.deeper(depth)?),
            Some(b'"') => self.string().map(Value::String),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.syntax(),
        }
    }

    fn deeper(&self, depth: u8) -> Result<u8, JsonError> {
        depth.checked_sub(1).ok_or_else(|| self.error(JsonProblem::TooDeep))
    }

    fn array(&mut self, depth: u8) -> Result<Value, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.eat(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            self.space();
            items.push(self.value(depth)?);
            self.space();
            if self.eat(b']') {
                return Ok(Value::Array(items));
            }
            if !self.eat(b',') {
                return self.syntax();
            }
        }
    }

    fn object(&mut self, depth: u8) -> Result<Value, JsonError> {
        self.at += 1;
        let mut members = Map::new();
        self.space();
        if self.eat(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.syntax();
            }
            let name = self.string()?;
            if name == MAGIC_MEMBER {
                return Err(self.error(JsonProblem::ReservedMember));
            }
            self.space();
            if !self.eat(b':') {
                return self.syntax();
            }
            self.space();
            let member = self.value(depth)?;
            if members.insert(name, member).is_some() {
                return Err(self.error(JsonProblem::DuplicateMember));
            }
            self.space();
            if self.eat(b'}') {
                return Ok(Value::Object(members));
            }
            if !self.eat(b',') {
                return self.syntax();
            }
        }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let length =
            self.rest().bytes().take_while(|c| matches!(c, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')).count();
        let text = self.rest().get(..length).unwrap_or("");
        // Serde decides what the grammar allows, our own decimal what the bounds allow.
        let Ok(number) = text.parse() else { return self.syntax() };
        if Decimal::parse(text).is_none() {
            return Err(self.error(JsonProblem::Number));
        }
        self.at += length;
        Ok(Value::Number(number))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let plain = self.rest().bytes().take_while(|c| !matches!(c, b'"' | b'\\' | 0..=0x1f)).count();
            text.push_str(self.rest().get(..plain).unwrap_or(""));
            self.at += plain;
            if self.eat(b'"') {
                return Ok(text);
            }
            if !self.eat(b'\\') {
                return self.syntax();
            }
            let escape = self.peek();
            self.at += usize::from(escape.is_some());
            text.push(match escape {
                Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
                Some(b'b') => '\u{8}',
                Some(b'f') => '\u{c}',
                Some(b'n') => '\n',
                Some(b'r') => '\r',
                Some(b't') => '\t',
                Some(b'u') => self.code_point()?,
                _ => return self.syntax(),
            });
        }
    }

    fn code_point(&mut self) -> Result<char, JsonError> {
        let first = self.code_unit()?;
        let scalar = if (0xd800..0xdc00).contains(&first) {
            if !(self.eat(b'\\') && self.eat(b'u')) {
                return self.syntax();
            }
            let second = self.code_unit()?;
            if !(0xdc00..0xe000).contains(&second) {
                return self.syntax();
            }
            0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        // A lone second surrogate is no character.
        char::from_u32(scalar).ok_or_else(|| self.error(JsonProblem::Syntax))
    }

    fn code_unit(&mut self) -> Result<u32, JsonError> {
        let digits = self.rest().get(..4).unwrap_or("");
        if digits.len() != 4 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return self.syntax();
        }
        let unit = u32::from_str_radix(digits, 16);
        self.at += 4;
        unit.or_else(|_| self.syntax())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> JsonProblem {
        parse(text, Bounds::INPUTS).unwrap_err().problem()
    }

    #[test]
    fn a_repeated_member_is_refused_however_it_is_spelled() {
        assert_eq!(problem(r#"{"a":1,"a":2}"#), JsonProblem::DuplicateMember);
        assert_eq!(problem(r#"{"a":1,"\u0061":2}"#), JsonProblem::DuplicateMember);
    }

    #[test]
    fn the_magic_member_is_refused_however_it_is_spelled() {
        assert_eq!(problem(r#"{"$serde_json::private::Number":"1"}"#), JsonProblem::ReservedMember);
        assert_eq!(problem(r#"{"\u0024serde_json::private::Number":"1"}"#), JsonProblem::ReservedMember);
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let bounds = Bounds { max_bytes: 8, max_depth: 2 };
        assert!(parse("[[1]]", bounds).is_ok());
        assert_eq!(parse("[[[1]]]", bounds).unwrap_err().problem(), JsonProblem::TooDeep);
        assert_eq!(parse("[1,2,3,4]", bounds).unwrap_err().problem(), JsonProblem::TooLarge);
        assert_eq!(problem(&"[".repeat(60_000)), JsonProblem::TooDeep);
    }

    #[test]
    fn numbers_stay_verbatim() {
        for text in ["12345678901234567890.120", "1.0", "-0"] {
            assert_eq!(parse(text, Bounds::INPUTS).unwrap().to_string(), text);
        }
        assert_eq!(problem("1e999"), JsonProblem::Number);
        assert_eq!(problem(&"9".repeat(200)), JsonProblem::Number);
    }

    #[test]
    fn what_the_grammar_lacks_is_refused() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            "'a'",
            "\"\n\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "nul",
            "\u{feff}1",
        ] {
            assert_eq!(problem(text), JsonProblem::Syntax, "{text}");
        }
        assert_eq!(problem("1 2"), JsonProblem::Trailing);
        assert_eq!(parse_bytes(b"\"\xff\"", Bounds::INPUTS).unwrap_err().problem(), JsonProblem::NotUtf8);
    }

    #[test]
    fn an_error_says_where_and_not_what() {
        let shown = parse(r#"{"secret": hunter2}"#, Bounds::INPUTS).unwrap_err().to_string();
        assert_eq!(shown, "is not JSON, at byte 11");
    }
}
