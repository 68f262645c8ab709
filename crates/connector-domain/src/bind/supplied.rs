//! What was sent with a request, read strictly.

use std::fmt;

use safeconduct_types::{ConnectorName, Provenance, Refusal, Violation};
use serde_json::{Map, Value};

use crate::characters::{Hidden, hidden};
use crate::fingerprint::{self, Digest};
use crate::json::{self, Bounds};
use crate::schema::plain_word;

/// What the calling service's own word is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerRole {
    /// A caller of role backend: the customer's own system of record.
    Backend,
    /// Any other caller.
    Other,
}

impl CallerRole {
    /// Where values come from that such a caller supplies.
    pub const fn provenance(self) -> Provenance {
        match self {
            Self::Backend => Provenance::Server,
            Self::Other => Provenance::Caller,
        }
    }
}

/// The inputs of a request, from the agent and from the calling service: within bounds, in NFC, numbers in their
/// canonical form, and (the agent's) without characters that nobody sees.
#[derive(Clone, PartialEq, Eq)]
pub struct Supplied {
    agent: Map<String, Value>,
    caller: Map<String, Value>,
    role: CallerRole,
}

impl fmt::Debug for Supplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supplied").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Supplied {
    /// Nothing at all: for a list that is read for a contact to decide on another request.
    pub fn nothing() -> Self {
        Self { agent: Map::new(), caller: Map::new(), role: CallerRole::Other }
    }

    /// Reads `inputs_json` and `caller_inputs_json`; an empty text is an empty object.
    pub fn parse(inputs: &str, caller_inputs: &str, role: CallerRole) -> Result<Self, Refusal> {
        let agent = object("inputs_json", inputs);
        let caller = object("caller_inputs_json", caller_inputs);
        let (agent, caller) = match (agent, caller) {
            (Ok(agent), Ok(caller)) => (agent, caller),
            (agent, caller) => return Err(Refusal::invalid(agent.err().into_iter().chain(caller.err()).collect())),
        };
        let mut violations = Vec::new();
        for (name, value) in &agent {
            let problem = hidden_in(name).or_else(|| hidden_within(value));
            if let Some(problem) = problem {
                violations
                    .push(Violation::new(format!("inputs.{}", plain_word(name).unwrap_or("?")), describe(problem)));
            }
        }
        if violations.is_empty() { Ok(Self { agent, caller, role }) } else { Err(Refusal::invalid(violations)) }
    }

    /// What the agent supplied.
    pub const fn agent(&self) -> &Map<String, Value> {
        &self.agent
    }

    /// What the calling service supplied itself.
    pub const fn caller(&self) -> &Map<String, Value> {
        &self.caller
    }

    /// What the calling service's word is worth.
    pub const fn role(&self) -> CallerRole {
        self.role
    }

    /// The digest by which a repeat of this request of this family is known.
    pub fn fingerprint(&self, family: &ConnectorName) -> Digest {
        fingerprint::of_request(family, &Value::Object(self.agent.clone()), &Value::Object(self.caller.clone()))
    }
}

fn object(field: &str, text: &str) -> Result<Map<String, Value>, Violation> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    match json::parse(text, Bounds::INPUTS).and_then(json::normalise) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Violation::new(field, "must be a JSON object with the inputs by name")),
        Err(error) => Err(Violation::new(field, error.to_string())),
    }
}

fn hidden_in(text: &str) -> Option<Hidden> {
    text.chars().find_map(hidden)
}

fn hidden_within(value: &Value) -> Option<Hidden> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
        Value::String(text) => hidden_in(text),
        Value::Array(items) => items.iter().find_map(hidden_within),
        Value::Object(members) => {
            members.iter().find_map(|(name, member)| hidden_in(name).or_else(|| hidden_within(member)))
        }
    }
}

const fn describe(problem: Hidden) -> &'static str {
    match problem {
        Hidden::Control => "must not contain control characters, line ends included",
        Hidden::Bidi => "must not contain characters that change the direction of text",
        Hidden::ZeroWidth => "must not contain invisible characters",
    }
}

#[cfg(test)]
mod tests {
    use safeconduct_types::Reason;
    use serde_json::json;

    use super::*;

    fn parse(inputs: &str) -> Result<Supplied, Refusal> {
        Supplied::parse(inputs, "", CallerRole::Other)
    }

    #[test]
    fn what_the_agent_hides_is_refused_and_not_repeated() {
        for bad in ["a\\u0000b", "a\\u202eb", "a\\u200bb", "a\\r\\nb", "\\u001b[31m", "\\ufeff", "\u{e0041}"] {
            let refusal = parse(&format!(r#"{{"note": ["x", {{"deep": "{bad}"}}]}}"#)).unwrap_err();
            assert_eq!(refusal.reason(), Reason::InputInvalid, "{bad}");
            assert_eq!(refusal.violations()[0].field, "inputs.note");
        }
        let refusal = parse("{\"no\u{202e}te\": 1}").unwrap_err();
        assert_eq!(refusal.violations()[0].field, "inputs.?");
    }

    #[test]
    fn strings_and_numbers_come_out_in_one_form() {
        let supplied = parse("{\"a\": \"e\u{301}\", \"n\": 10e-1}").unwrap();
        assert_eq!(Value::Object(supplied.agent().clone()), json!({"a": "\u{e9}", "n": 1}));
        let family = "f".parse().unwrap();
        let same = parse("{\"n\":1.0,\"a\":\"\u{e9}\"}").unwrap();
        assert_eq!(supplied.fingerprint(&family), same.fingerprint(&family));
    }

    #[test]
    fn both_texts_are_named_if_both_are_wrong() {
        let refusal = Supplied::parse("[1]", "{", CallerRole::Other).unwrap_err();
        let fields: Vec<_> = refusal.violations().iter().map(|one| one.field.as_str()).collect();
        assert_eq!(fields, ["inputs_json", "caller_inputs_json"]);
        assert_eq!(parse("").unwrap(), parse("{}").unwrap());
    }

    #[test]
    fn only_a_backends_word_is_the_servers() {
        assert_eq!(CallerRole::Backend.provenance(), Provenance::Server);
        assert_eq!(CallerRole::Other.provenance(), Provenance::Caller);
    }
}
