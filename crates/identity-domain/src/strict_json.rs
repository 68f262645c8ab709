//! JSON in which every member has one meaning.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Parses an object in which no member, at any depth, occurs twice. Two parsers that disagree about which of two
/// members counts are two meanings of one signature.
pub(crate) fn object<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    // A derived struct would also be read from an array, member by member.
    if text.first() != Some(&b'{') {
        return Err(serde_json::Error::custom("not an object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    Unique { text }.deserialize(&mut reader)?;
    reader.end()?;
    serde_json::from_slice(text)
}

/// A value out of `text` in which no member occurs twice.
#[derive(Clone, Copy)]
struct Unique<'t> {
    text: &'t [u8],
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key_seed(Name { text: self.text })? {
            match name {
                Some(name) if name == NUMBER => return Err(A::Error::custom("a member has a reserved name")),
                Some(name) => {
                    map.next_value_seed(self)?;
                    if !seen.insert(name) {
                        return Err(A::Error::custom("a member occurs twice"));
                    }
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The name under which `serde_json`, with arbitrary precision, hands out a number: as a map of one member. An object
/// that really has such a member would be read as a number afterwards.
const NUMBER: &str = "$serde_json::private::Number";

/// A member's name; none if it is not out of the text, but stands for a number.
struct Name<'t> {
    text: &'t [u8],
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Name<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    /// Borrowed: out of the text, or the library's own.
    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Option<String>, E> {
        let is_number = name == NUMBER && !self.text.as_ptr_range().contains(&name.as_ptr());
        Ok((!is_number).then(|| name.to_owned()))
    }

    /// Put together from a text with escapes.
    fn visit_str<E: Error>(self, name: &str) -> Result<Option<String>, E> {
        Ok(Some(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct One {
        #[allow(dead_code, reason = "only whether it parses matters")]
        a: i64,
    }

    #[test]
    fn a_member_that_occurs_twice_is_refused_at_any_depth_and_in_any_spelling() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"a":1,"x":{"b":1,"b":2}}"#,
            r#"{"a":1,"x":[{"b":1,"b":2}]}"#,
            r#"{"a":1,"x":null,"x":1.5}"#,
        ] {
            assert!(object::<One>(bad.as_bytes()).is_err(), "{bad}");
        }
        for good in [r#"{"a":1}"#, r#"{"a":1,"x":{"a":1.50},"y":[{"a":true},{"a":null}]}"#] {
            assert!(object::<One>(good.as_bytes()).is_ok(), "{good}");
        }
    }

    #[test]
    fn an_object_is_never_taken_for_a_number() {
        for bad in [
            r#"{"a":{"$serde_json::private::Number":"1"}}"#,
            r#"{"a":{"\u0024serde_json::private::Number":"1"}}"#,
            r#"{"a":1,"x":[{"$serde_json::private::Number":{"b":1,"b":2}}]}"#,
        ] {
            assert!(object::<One>(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_array_is_not_an_object() {
        assert!(object::<One>(b"[1]").is_err());
        assert!(object::<One>(b"").is_err());
        assert!(object::<One>(b"{\"a\":1} {}").is_err());
    }
}
