//! JSON in which every member has one meaning.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Parses an object in which no member, at any depth, occurs twice. Two parsers that disagree about which of two
/// members counts are two meanings of one signature.
pub(crate) fn object<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    // A derived struct would also be read from an array, member by member.
    if text.first() != Some(&b'{') {
        return Err(serde_json::Error::custom("not an object"));
    }
    serde_json::from_slice::<Unique>(text)?;
    serde_json::from_slice(text)
}

struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E: Error>(self) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Unique, A::Error> {
        while seq.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            // With arbitrary precision a number arrives as a map of one member, whose value is not an object.
            if name == NUMBER {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value::<Unique>()?;
            }
            if !seen.insert(name) {
                return Err(A::Error::custom("a member occurs twice"));
            }
        }
        Ok(Unique)
    }
}

/// The name under which `serde_json` hands out a number verbatim.
const NUMBER: &str = "$serde_json::private::Number";

#[cfg(test)]
mod tests {
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
    fn an_array_is_not_an_object() {
        assert!(object::<One>(b"[1]").is_err());
        assert!(object::<One>(b"").is_err());
        assert!(object::<One>(b"{\"a\":1} {}").is_err());
    }
}
