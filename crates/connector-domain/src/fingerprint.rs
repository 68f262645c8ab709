//! Digests that tell whether two requests are the same.
//!
//! Every digest is SHA-256 over parts that each carry their length in front, the first part naming the use: no two
//! different lists of parts read the same, and a digest for one use never equals one for another.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use safeconduct_types::ConnectorName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these parts for this use.
    pub fn of(usage: &str, parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in std::iter::once(usage.as_bytes()).chain(parts.iter().copied()) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(digest)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its bytes as lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.to_hex())
    }
}

/// What was asked for: the family and the inputs that the agent and the caller supplied. Never the version,
/// defaults, attributes or tokens, so that a retry after a migration or a new assertion is the same request.
pub fn of_request(family: &ConnectorName, agent: &Value, caller: &Value) -> Digest {
    let (agent, caller) = (json::canonical(agent), json::canonical(caller));
    Digest::of("safeconduct/request/v1", &[family.as_str().as_bytes(), agent.as_bytes(), caller.as_bytes()])
}

/// What makes two writes of a contact the same write: the family and the values of the inputs that the definition
/// selects, by name. An absent optional input is different from any value.
pub fn of_same<'a>(family: &ConnectorName, inputs: impl IntoIterator<Item = (&'a str, Option<&'a Value>)>) -> Digest {
    let mut named: Vec<_> = inputs.into_iter().collect();
    named.sort_by_key(|(name, _)| *name);
    let mut parts = vec![family.as_str().as_bytes().to_vec()];
    for (name, value) in named {
        parts.push(name.as_bytes().to_vec());
        // No JSON text is empty.
        parts.push(value.map(json::canonical).unwrap_or_default().into_bytes());
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Digest::of("safeconduct/same/v1", &parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn family(name: &str) -> ConnectorName {
        name.parse().unwrap()
    }

    #[test]
    fn the_way_a_request_is_written_does_not_matter() {
        let one = json::parse(r#"{"a":1.0,"b":"x"}"#, json::Bounds::INPUTS).unwrap();
        let other = json::parse(r#"{ "b":"\u0078", "a":10e-1 }"#, json::Bounds::INPUTS).unwrap();
        assert_eq!(of_request(&family("f"), &one, &json!({})), of_request(&family("f"), &other, &json!({})));
    }

    #[test]
    fn who_supplied_an_input_and_the_family_matter() {
        let given = json!({"a": 1});
        let base = of_request(&family("f"), &given, &json!({}));
        assert_ne!(base, of_request(&family("g"), &given, &json!({})));
        assert_ne!(base, of_request(&family("f"), &json!({}), &given));
        assert_ne!(base, of_request(&family("f"), &json!({"a": "1"}), &json!({})));
    }

    #[test]
    fn an_absent_input_is_no_value() {
        let value = json!("");
        let null = json!(null);
        let all = [
            of_same(&family("f"), [("a", None)]),
            of_same(&family("f"), [("a", Some(&value))]),
            of_same(&family("f"), [("a", Some(&null))]),
            of_same(&family("f"), []),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one));
        }
    }

    #[test]
    fn the_digest_of_known_parts_is_known() {
        // SHA-256 of the length-prefixed use and part, worked out with another tool.
        assert_eq!(Digest::of("", &[]).to_hex(), "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc");
    }

    proptest! {
        #[test]
        fn parts_never_run_into_each_other(a in prop::collection::vec(any::<Vec<u8>>(), 0..4), b in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
            let digest = |parts: &[Vec<u8>]| Digest::of("t", &parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(digest(&a) == digest(&b), a == b);
        }
    }
}
