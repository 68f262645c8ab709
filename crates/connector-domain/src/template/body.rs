//! The JSON body of a request.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::part::{self, Part};
use super::{Reference, RenderError, Scope, TemplateError};
use crate::json::MAGIC_MEMBER;

/// Deepest tree.
const MAX_DEPTH: usize = 32;

/// A JSON tree whose string leaves may refer to values. A leaf that is one reference takes the value with its type;
/// a reference within a longer string is put in as text. Values are put into the tree, never into JSON text, so they
/// cannot change its structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonTemplate {
    root: Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Fixed(Value),
    Text(Vec<Part>),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl JsonTemplate {
    /// Reads the tree as the definition has it. Member names are fixed text.
    pub fn parse(value: &Value) -> Result<Self, TemplateError> {
        Ok(Self { root: Node::parse(value, &mut String::new(), 0)? })
    }

    /// What it refers to.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.texts().into_iter().flatten().filter_map(Part::reference)
    }

    /// The references that share their string with something else.
    pub fn embedded(&self) -> impl Iterator<Item = &Reference> {
        self.texts().into_iter().filter(|parts| parts.len() > 1).flatten().filter_map(Part::reference)
    }

    /// Whether every rendering is an object.
    pub const fn is_object(&self) -> bool {
        matches!(self.root, Node::Object(_))
    }

    /// The tree with its values; `None` if all of it is one absent reference. Absent optionals drop out of objects
    /// and arrays.
    pub fn render(&self, scope: &dyn Scope) -> Result<Option<Value>, RenderError> {
        self.root.render(scope)
    }

    fn texts(&self) -> Vec<&[Part]> {
        let mut texts = Vec::new();
        self.root.collect(&mut texts);
        texts
    }
}

impl Node {
    fn parse(value: &Value, pointer: &mut String, depth: usize) -> Result<Self, TemplateError> {
        if depth > MAX_DEPTH {
            return Err(TemplateError::new("a body is nested at most 32 levels deep").at(pointer));
        }
        let here = pointer.len();
        let node = match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Fixed(value.clone()),
            Value::String(text) => {
                let parts = part::parse(text).map_err(|error| error.at(pointer))?;
                match parts.as_slice() {
                    [] => Self::Fixed(Value::String(String::new())),
                    [Part::Text(text)] => Self::Fixed(Value::String(text.clone())),
                    _ => Self::Text(parts),
                }
            }
            Value::Array(items) => {
                let mut nodes = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    // Writing to a string cannot fail.
                    let _ = write!(pointer, "/{index}");
                    nodes.push(Self::parse(item, pointer, depth + 1)?);
                    pointer.truncate(here);
                }
                Self::Array(nodes)
            }
            Value::Object(members) => {
                let mut nodes = Vec::with_capacity(members.len());
                for (name, member) in members {
                    pointer.push('/');
                    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                    if name == MAGIC_MEMBER || name.contains("${") {
                        return Err(TemplateError::new("a member's name is fixed text without `${`").at(pointer));
                    }
                    nodes.push((name.clone(), Self::parse(member, pointer, depth + 1)?));
                    pointer.truncate(here);
                }
                Self::Object(nodes)
            }
        };
        Ok(node)
    }

    fn render(&self, scope: &dyn Scope) -> Result<Option<Value>, RenderError> {
        Ok(match self {
            Self::Fixed(value) => Some(value.clone()),
            Self::Text(parts) => match parts.as_slice() {
                [Part::Reference(reference)] => scope.resolve(reference).cloned(),
                parts => part::join(parts, scope)?.map(Value::String),
            },
            Self::Array(nodes) => {
                let mut items = Vec::with_capacity(nodes.len());
                for node in nodes {
                    items.extend(node.render(scope)?);
                }
                Some(Value::Array(items))
            }
            Self::Object(nodes) => {
                let mut members = Map::new();
                for (name, node) in nodes {
                    if let Some(member) = node.render(scope)? {
                        members.insert(name.clone(), member);
                    }
                }
                Some(Value::Object(members))
            }
        })
    }

    fn collect<'a>(&'a self, texts: &mut Vec<&'a [Part]>) {
        match self {
            Self::Fixed(_) => {}
            Self::Text(parts) => texts.push(parts),
            Self::Array(nodes) => nodes.iter().for_each(|node| node.collect(texts)),
            Self::Object(nodes) => nodes.iter().for_each(|(_, node)| node.collect(texts)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::testing::Inputs;
    use super::*;

    fn render(template: &Value, inputs: Value) -> Option<Value> {
        JsonTemplate::parse(template).unwrap().render(&Inputs::of(inputs)).unwrap()
    }

    #[test]
    fn a_reference_alone_keeps_its_type_and_one_in_text_becomes_text() {
        let template = json!({"amount": "${inputs.n}", "note": "n=${inputs.n}", "fixed": [1, "$${x}"]});
        assert_eq!(render(&template, json!({"n": 5})), Some(json!({"amount": 5, "note": "n=5", "fixed": [1, "${x}"]})));
    }

    #[test]
    fn absent_optionals_drop_out_and_null_does_not() {
        let template = json!({"a": "${inputs.x}", "b": ["${inputs.x}", 1], "c": "x ${inputs.x}"});
        assert_eq!(render(&template, json!({})), Some(json!({"b": [1]})));
        assert_eq!(render(&json!({"a": "${inputs.x}"}), json!({"x": null})), Some(json!({"a": null})));
        assert_eq!(render(&json!("${inputs.x}"), json!({})), None);
    }

    #[test]
    fn a_mistake_is_pointed_at() {
        let error = JsonTemplate::parse(&json!({"a/b": [1, "${x}"]})).unwrap_err();
        assert_eq!(error.pointer(), "/a~1b/1");
        assert!(JsonTemplate::parse(&json!({"${inputs.x}": 1})).is_err());
    }

    proptest! {
        #[test]
        fn no_text_changes_the_structure(value in any::<String>()) {
            let body = render(&json!({"a": "${inputs.x}", "b": "<${inputs.x}>", "c": 1}), json!({ "x": value.clone() })).unwrap();
            let read: Value = serde_json::from_str(&body.to_string()).unwrap();
            prop_assert_eq!(read, json!({"a": value.clone(), "b": format!("<{value}>"), "c": 1}));
        }
    }
}
