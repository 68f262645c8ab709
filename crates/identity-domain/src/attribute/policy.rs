//! Which attributes a workspace declares.

use std::collections::BTreeMap;

use safeconduct_types::Violation;
use serde::Deserialize;
use serde_json::Value;

use super::schema::Schema;

/// Most attributes of a workspace.
const MAX_DECLARED: usize = 128;
/// Longest name.
const MAX_NAME: usize = 48;
/// Names that mean something else: what names the contact, and the words of the expressions that use attributes.
const RESERVED: [&str; 8] = ["id", "contact_id", "user_id", "kind", "phone", "proven", "unverified", "attributes"];
/// Those among them that name the contact.
const IDENTIFIERS: [&str; 4] = ["id", "contact_id", "user_id", "kind"];

/// One attribute, as it is written and as it is meant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Rule {
    /// Only a signed token or the backend may change it.
    #[serde(default)]
    pub protected: bool,
    /// A browser or an app may set it, as long as nothing stronger has.
    #[serde(default)]
    pub client_writable: bool,
    /// What its values are like.
    #[serde(default)]
    pub schema: Schema,
}

/// The attributes of a workspace.
///
/// `email` and `name` are always known, because tokens carry them: protected, unless `name` is declared otherwise. An
/// email address leads to the contact, so that only who vouches for it may say it.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributePolicy {
    rules: BTreeMap<String, Rule>,
}

impl Default for AttributePolicy {
    fn default() -> Self {
        let text = |max| Rule { protected: true, schema: Schema::text(max), ..Rule::default() };
        Self { rules: [("email".to_owned(), text(254)), ("name".to_owned(), text(256))].into() }
    }
}

impl AttributePolicy {
    /// Takes `spec.attributes`. Each violation's field is a path below it.
    pub fn parse(section: &Value) -> Result<Self, Vec<Violation>> {
        let mut policy = Self::default();
        let mut wrong = Vec::new();
        let Value::Object(members) = section else {
            return Err(vec![Violation::new("", "must be a map of attribute names")]);
        };
        if members.len() > MAX_DECLARED {
            wrong.push(Violation::new("", "at most 128 attributes can be declared"));
        }
        for (name, rule) in members {
            let mut tell = |what: &str| wrong.push(Violation::new(name.clone(), what));
            if !is_name(name) {
                tell("an attribute's name is 1 to 48 of a-z, 0-9 and `_`, and starts with a letter");
                continue;
            }
            if RESERVED.contains(&name.as_str()) {
                tell("is a reserved name; choose another one");
                continue;
            }
            let rule: Rule = match serde_json::from_value(rule.clone()) {
                Ok(rule) => rule,
                Err(error) => {
                    tell(&error.to_string());
                    continue;
                }
            };
            if rule.protected && rule.client_writable {
                tell("cannot be protected and client_writable");
            }
            if name == "email" && (rule.client_writable || rule.schema != Schema::default()) {
                tell("is built in: protected, and an address of at most 254 bytes");
                continue;
            }
            if let Err(problem) = rule.schema.check() {
                wrong.push(Violation::new(format!("{name}.schema"), problem));
            }
            if name != "email" {
                policy.rules.insert(name.clone(), rule);
            }
        }
        if wrong.is_empty() { Ok(policy) } else { Err(wrong) }
    }

    /// What is said of this very name.
    pub fn get(&self, name: &str) -> Option<&Rule> {
        self.rules.get(name)
    }

    /// Whether the workspace knows the name.
    pub fn is_declared(&self, name: &str) -> bool {
        self.rules.contains_key(name)
    }

    /// Whether the name stands for who the contact is, which never changes.
    pub(super) fn is_identifier(name: &str) -> bool {
        IDENTIFIERS.contains(&name)
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}
