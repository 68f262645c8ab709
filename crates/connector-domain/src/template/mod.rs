//! Templates: fixed text with references, where a value can never leave the place that the author gave it.
//!
//! `${inputs.order_id}` and `${execution.upstream_key}` are all there is; `$${` stands for a literal `${`. Each kind
//! of template encodes values for the place where they land:
//! - [`PathTemplate`]: one path segment;
//! - [`ValueTemplate`]: one query value or one header value;
//! - [`JsonTemplate`]: one JSON value, never text that is parsed again.
//!
//! Encoding alone does not help in a path: URL parsers take `%2e%2e` for `..`, and some servers decode twice. A value
//! that is a dot segment, or hides a separator, under any number of decodings is refused.

mod body;
mod part;
mod path;
mod text;

use std::fmt;

use safeconduct_types::{Refusal, Violation};
use serde_json::Value;

pub use body::JsonTemplate;
pub use path::PathTemplate;
pub use text::{MAX_HEADER_VALUE, ValueTemplate, check_header_name, encode_query};

use crate::definition::InputName;

/// What a template refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// `${inputs.NAME}`
    Input(InputName),
    /// `${execution.upstream_key}`: the key by which the upstream recognises a repeat.
    UpstreamKey,
}

impl Reference {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        match text.split_once('.') {
            Some(("inputs", name)) => name
                .parse()
                .map(Self::Input)
                .map_err(|_| TemplateError::new("`${inputs.NAME}` needs the name of an input, and nothing after it")),
            Some(("execution", "upstream_key")) => Ok(Self::UpstreamKey),
            _ => Err(TemplateError::new("a reference is `${inputs.NAME}` or `${execution.upstream_key}`")),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(name) => write!(f, "inputs.{name}"),
            Self::UpstreamKey => f.write_str("execution.upstream_key"),
        }
    }
}

/// Why a text is no template, and what would be one. Operator-written text only, so it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    message: String,
    pointer: String,
}

impl TemplateError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), pointer: String::new() }
    }

    fn at(mut self, pointer: &str) -> Self {
        pointer.clone_into(&mut self.pointer);
        self
    }

    /// Where, as a JSON pointer into the value that was given; empty for all of it.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}

/// What references stand for in one execution.
pub trait Scope {
    /// The value; `None` for an optional one that is absent.
    fn resolve(&self, reference: &Reference) -> Option<&Value>;
}

/// Why a value has no place where the template puts it. Names the reference, never the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderError {
    reference: Option<Reference>,
    problem: &'static str,
}

impl RenderError {
    fn new(reference: Option<&Reference>, problem: &'static str) -> Self {
        Self { reference: reference.cloned(), problem }
    }
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            Some(reference) => write!(f, "{reference} {}", self.problem),
            None => f.write_str(self.problem),
        }
    }
}

impl std::error::Error for RenderError {}

impl From<RenderError> for Refusal {
    fn from(error: RenderError) -> Self {
        let field = error.reference.map_or_else(|| "inputs".to_owned(), |reference| reference.to_string());
        Self::invalid(vec![Violation::new(field, error.problem)])
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::collections::BTreeMap;

    use super::{Reference, Scope};
    use serde_json::Value;

    /// A scope out of a JSON object of inputs.
    pub(crate) struct Inputs(BTreeMap<String, Value>);

    impl Inputs {
        pub(crate) fn of(value: Value) -> Self {
            let Value::Object(members) = value else { panic!("an object of inputs") };
            Self(members.into_iter().collect())
        }
    }

    impl Scope for Inputs {
        fn resolve(&self, reference: &Reference) -> Option<&Value> {
            match reference {
                Reference::Input(name) => self.0.get(name.as_str()),
                Reference::UpstreamKey => None,
            }
        }
    }
}
