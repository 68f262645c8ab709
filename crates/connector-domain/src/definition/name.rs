//! Names that a definition gives to its parts: parsed once, correct from then on.

use std::fmt;
use std::str::FromStr;

/// A text that is not the name it should be. Says what the name looks like, never what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {form}")]
pub struct NameError {
    what: &'static str,
    form: &'static str,
}

fn is_word(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 48
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

fn is_label(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 63
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && bytes.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $form:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.into())) } else { Err(NameError { what: $what, form: $form }) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The name of an input: also the name of a tool's parameter, and what `${inputs.NAME}` says.
    InputName, "an input's name", "1 to 48 letters, digits and `_`, starting with a letter", is_word
}
name! {
    /// The name of a contact's attribute.
    AttributeName, "an attribute's name", "1 to 48 letters, digits and `_`, starting with a letter", is_word
}
name! {
    /// The name of an upstream in its workspace.
    UpstreamName, "an upstream's name", "1 to 63 of a-z, 0-9 and `-`, starting with a letter or digit", is_label
}
name! {
    /// The name of a secret in the workspace's own secrets folder, or of a credential. Never the secret itself.
    SecretName, "a secret's name", "1 to 63 of a-z, 0-9 and `-`, starting with a letter or digit", is_label
}

name! {
    /// The name of a limit, in its connector or in its workspace.
    LimitName, "a limit's name", "1 to 63 of a-z, 0-9 and `-`, starting with a letter or digit", is_label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_folder_is_none() {
        for bad in ["", "../up", "a/b", "a.b", "-a", "A", "a b", "a\0", &"a".repeat(64)] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
        assert_eq!("messenger-2026".parse::<SecretName>().unwrap().as_str(), "messenger-2026");
    }

    #[test]
    fn an_input_has_a_name_that_a_reference_can_say() {
        for bad in ["", "a.b", "1a", "a-b", "_a", "a}", "é", &"a".repeat(49)] {
            assert!(bad.parse::<InputName>().is_err(), "{bad}");
        }
        assert!("order_id".parse::<InputName>().is_ok() && "orderId".parse::<AttributeName>().is_ok());
    }
}
