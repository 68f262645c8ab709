//! Scripts, what goes into them and what comes out.

use ::redis::{Cmd, Value};
use bytes::Bytes;

use crate::{RecordKey, StoreError};

/// A Lua script for [`RedisStore::run`](crate::RedisStore::run). It may touch the keys that it is given and no other,
/// and if it writes it must be idempotent: it is sent again when its answer was lost.
#[derive(Clone, Debug)]
pub struct Script {
    name: &'static str,
    source: String,
    sha: String,
}

impl Script {
    /// A script with this text.
    pub fn new(source: &str) -> Self {
        let sha = ::redis::Script::new(source).get_hash().to_owned();
        Self { name: "script", source: source.to_owned(), sha }
    }

    /// The same script under this name, which spans show.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Its name in spans.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The command that runs it if the server knows it.
    pub(super) fn call(&self, keys: &[RecordKey], args: &[Arg<'_>]) -> Cmd {
        Self::command("EVALSHA", &self.sha, keys, args)
    }

    /// The command that runs it and makes the server know it.
    pub(super) fn teach(&self, keys: &[RecordKey], args: &[Arg<'_>]) -> Cmd {
        Self::command("EVAL", &self.source, keys, args)
    }

    fn command(verb: &str, script: &str, keys: &[RecordKey], args: &[Arg<'_>]) -> Cmd {
        // Numbers of keys and integers: at most 20 digits.
        let bytes = verb.len()
            + script.len()
            + 20
            + keys.iter().map(|key| key.as_str().len()).sum::<usize>()
            + args.iter().map(Arg::most_bytes).sum::<usize>();
        let mut command = Cmd::with_capacity(3 + keys.len() + args.len(), bytes);
        command.arg(verb).arg(script).arg(keys.len());
        for key in keys {
            command.arg(key.as_str());
        }
        for arg in args {
            match *arg {
                Arg::Bytes(bytes) => command.arg(bytes),
                Arg::Int(number) => command.arg(number),
            };
        }
        command
    }
}

/// One word of a script's ARGV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg<'a> {
    /// As they are.
    Bytes(&'a [u8]),
    /// In decimal digits.
    Int(i64),
}

impl Arg<'_> {
    const fn most_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Int(_) => 20,
        }
    }
}

impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl From<i64> for Arg<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

/// What a script returned. Lua's `false` is [`Reply::Nil`], its numbers lose what is behind the point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Int(i64),
    /// A string, or the text of a status.
    Bytes(Bytes),
    /// A table.
    List(Vec<Reply>),
}

impl Reply {
    /// The reply in a value of the client. An error inside of a list is refused: a script that goes on after an error
    /// is not one of ours.
    pub(super) fn from_value(value: Value) -> Result<Self, StoreError> {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the client's enum is not exhaustive")]
        Ok(match value {
            Value::Nil => Self::Nil,
            Value::Int(number) => Self::Int(number),
            Value::BulkString(bytes) => Self::Bytes(bytes.into()),
            Value::SimpleString(text) => Self::Bytes(text.into()),
            Value::Okay => Self::Bytes(Bytes::from_static(b"OK")),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from_value).collect::<Result<_, _>>()?),
            _ => return Err(Self::strange()),
        })
    }

    /// The error for a reply that the script in question does not give.
    pub fn strange() -> StoreError {
        StoreError::Corrupt("Redis answered a script with something else than its result".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_the_script_by_its_hash_and_passes_every_word_as_it_is() {
        let script = Script::new("return 1").named("one");
        let packed = script.call(&[], &[Arg::Bytes(b"a\r\n"), Arg::Int(-7)]).get_packed_command();
        let sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        let expected = format!("*5\r\n$7\r\nEVALSHA\r\n$40\r\n{sha}\r\n$1\r\n0\r\n$3\r\na\r\n\r\n$2\r\n-7\r\n");
        assert_eq!(String::from_utf8(packed).unwrap(), expected);
        assert_eq!(script.name(), "one");
    }

    #[test]
    fn an_error_within_a_list_is_no_reply() {
        let list = Value::Array(vec![Value::Int(1), Value::Double(1.5)]);
        assert_eq!(Reply::from_value(list).unwrap_err().name(), "corrupt");
    }
}
