//! Names that mean something: parsed once, correct from then on.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::random::Random;

/// A text that is not the id it should be. Says what the id looks like, never what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {form}")]
pub struct IdError {
    what: &'static str,
    form: &'static str,
}

fn is_label(text: &str) -> bool {
    let mut chars = text.bytes();
    text.len() <= 48
        && chars.next().is_some_and(|first| first.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

fn is_version(text: &str) -> bool {
    let mut chars = text.bytes();
    text.len() <= 32
        && chars.next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.')
}

fn is_opaque(text: &str, prefix: &str) -> bool {
    text.len() <= 80
        && text
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_alphanumeric()))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $form:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(IdError { what: $what, form: $form }) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// A tenant.
    WorkspaceId, "a workspace id", "1 to 48 of a-z, 0-9 and `-`, starting with a letter", is_label
}
text_id! {
    /// The name of a connector: of all its versions, the family. A legal tool name for a model.
    ConnectorName, "a connector name", "1 to 48 of a-z, 0-9 and `-`, starting with a letter", is_label
}
text_id! {
    /// One version of a connector.
    Version, "a version", "1 to 32 of a-z, 0-9, `-` and `.`, starting with a letter or digit", is_version
}
text_id! {
    /// A service that calls the suite, by the name that the configuration gives it.
    CallerName, "a caller name", "1 to 48 of a-z, 0-9 and `-`, starting with a letter", is_label
}
text_id! {
    /// The person talking: opaque, the same for one proven identity over all sessions.
    ContactId, "a contact id", "`cnt_` and letters or digits, at most 80 characters", |text| is_opaque(text, "cnt_")
}
text_id! {
    /// A session, minted by identity.
    SessionId, "a session id", "`ses_` and letters or digits, at most 80 characters", |text| is_opaque(text, "ses_")
}
text_id! {
    /// One execution of a connector. Opaque to callers; it carries the route to the shard that holds its record.
    ExecutionId, "an execution id", "`exe_` and 48 hexadecimal digits", |text| {
        text.len() == 52
            && text.strip_prefix("exe_").is_some_and(|hex| hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')))
    }
}

impl ContactId {
    /// The id that stands for these bytes (a keyed hash of what was proven).
    pub fn from_digest(digest: &[u8; 16]) -> Self {
        Self(format!("cnt_{}", hex::encode(digest)))
    }
}

impl SessionId {
    /// A new id.
    pub fn generate(random: &dyn Random) -> Self {
        Self(format!("ses_{}", hex::encode(random.bytes::<16>())))
    }
}

/// Bytes of an execution id that lead to the contact's shard.
const ROUTE_LEN: usize = 8;

impl ExecutionId {
    /// A new id for an execution of this contact.
    pub fn generate(workspace: &WorkspaceId, contact: &ContactId, random: &dyn Random) -> Self {
        Self(format!("exe_{}{}", hex::encode(route(workspace, contact)), hex::encode(random.bytes::<16>())))
    }

    /// Which shard holds the record: equal for all executions of one contact.
    pub fn route(&self) -> &str {
        self.0.get(4..4 + 2 * ROUTE_LEN).unwrap_or_default()
    }

    /// The route that all executions of this contact carry.
    pub fn route_of(workspace: &WorkspaceId, contact: &ContactId) -> String {
        hex::encode(route(workspace, contact))
    }
}

fn route(workspace: &WorkspaceId, contact: &ContactId) -> [u8; ROUTE_LEN] {
    let mut context = Context::new(&SHA256);
    for part in [workspace.as_str(), contact.as_str()] {
        // Length first: no two pairs of parts read the same.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut route = [0; ROUTE_LEN];
    for (to, from) in route.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    route
}

/// One attempt of one service to change a record. Repeating an attempt with the same id changes nothing twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId([u8; 16]);

impl OperationId {
    /// A new id.
    pub fn generate(random: &dyn Random) -> Self {
        Self(random.bytes())
    }

    /// The id that these bytes are.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperationId({self})")
    }
}

impl FromStr for OperationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const WRONG: IdError = IdError { what: "an operation id", form: "32 hexadecimal digits" };
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| WRONG)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandom;

    #[test]
    fn an_execution_id_carries_the_route_of_its_contact() {
        let workspace: WorkspaceId = "acme".parse().unwrap();
        let contact = ContactId::from_digest(&[7; 16]);
        let random = SeededRandom::new(1);
        let first = ExecutionId::generate(&workspace, &contact, &random);
        let second = ExecutionId::generate(&workspace, &contact, &random);
        assert_ne!(first, second);
        assert_eq!(first.route(), second.route());
        assert_eq!(first.route(), ExecutionId::route_of(&workspace, &contact));
        assert_eq!(first.as_str().parse::<ExecutionId>(), Ok(first));
    }

    #[test]
    fn names_that_could_be_something_else_are_refused() {
        for bad in ["", "Acme", "-a", "a_b", "a/b", "a\u{301}", &"a".repeat(49)] {
            assert!(bad.parse::<WorkspaceId>().is_err(), "{bad}");
            assert!(bad.parse::<ConnectorName>().is_err(), "{bad}");
        }
        for bad in ["", "cnt_", "cnt_a/b", "ses_1", "cnt_ä"] {
            assert!(bad.parse::<ContactId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_operation_id_reads_back() {
        let id = OperationId::generate(&SeededRandom::new(3));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("+0000000000000000000000000000000".parse::<OperationId>().is_err());
    }
}
