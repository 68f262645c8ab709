//! Values that were checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use safeconduct_types::{ConnectorName, Provenance, Refusal};
use serde_json::{Map, Value};

use crate::choices;
use crate::definition::{Choices, Connector, InputName};
use crate::execution::StoredIntent;
use crate::fingerprint::{self, Digest};
use crate::projection::Shaped;
use crate::template::{Reference, Scope};

/// A value and where it came from.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) value: Value,
    pub(super) provenance: Provenance,
    pub(super) is_default: bool,
}

impl Bound {
    pub(super) const fn new(value: Value, provenance: Provenance) -> Self {
        Self { value, provenance, is_default: false }
    }
}

/// Bound values of which some have yet to be found in the contact's own list.
#[must_use]
pub struct Binding {
    inputs: BoundInputs,
    pending: BTreeMap<InputName, Choices>,
}

/// A value that must be one of the contact's own.
#[derive(Clone)]
pub struct PendingChoice {
    /// The input.
    pub input: InputName,
    /// The list to read: with the contact's own assertion and no inputs.
    pub choices: Choices,
}

impl Binding {
    pub(super) fn new(connector: &Connector, values: BTreeMap<InputName, Bound>) -> Self {
        let pending = connector
            .inputs
            .iter()
            .filter(|(name, _)| values.contains_key(*name))
            .filter_map(|(name, input)| input.choices.clone().map(|choices| (name.clone(), choices)))
            .collect();
        Self { inputs: BoundInputs { family: connector.name.clone(), values }, pending }
    }

    /// What is still to be found in a list.
    pub fn pending(&self) -> Vec<PendingChoice> {
        self.pending
            .iter()
            .map(|(input, choices)| PendingChoice { input: input.clone(), choices: choices.clone() })
            .collect()
    }

    /// The list connectors that are to be run, each once.
    pub fn lists(&self) -> BTreeSet<&ConnectorName> {
        self.pending.values().map(|choices| &choices.connector).collect()
    }

    /// Checks every value that must be in this connector's list, now that it was read for this contact.
    pub fn check_list(&mut self, connector: &ConnectorName, list: &Shaped) -> Result<(), Refusal> {
        let mut left = BTreeMap::new();
        for (input, choices) in std::mem::take(&mut self.pending) {
            if choices.connector != *connector {
                left.insert(input, choices);
                continue;
            }
            if let Some(bound) = self.inputs.values.get(&input) {
                choices::check_member(&input, &choices, list, &bound.value)?;
            }
        }
        self.pending = left;
        Ok(())
    }

    /// The digest that makes a write the same as another of this contact; available before the lists are read.
    pub fn same(&self, inputs: &[InputName]) -> Digest {
        self.inputs.same(inputs)
    }

    /// The inputs as they are before their choices are proven: to see whether a request could be made of them at all.
    pub(crate) const fn unproven(&self) -> &BoundInputs {
        &self.inputs
    }

    /// The checked inputs, if nothing is left to be found in a list.
    pub fn complete(self) -> Result<BoundInputs, Refusal> {
        if self.pending.is_empty() {
            Ok(self.inputs)
        } else {
            Err(Refusal::internal("a declared choice was not looked up in its list"))
        }
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").field("pending", &self.pending.keys()).finish_non_exhaustive()
    }
}

/// The inputs of one execution, each checked: declared, of an accepted provenance, of the declared form, and found in
/// the contact's own list where one is declared.
#[derive(Clone, PartialEq, Eq)]
pub struct BoundInputs {
    family: ConnectorName,
    values: BTreeMap<InputName, Bound>,
}

impl BoundInputs {
    /// The value of an input; `None` if it is absent.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).map(|bound| &bound.value)
    }

    /// Where the value of an input came from.
    pub fn provenance(&self, name: &str) -> Option<Provenance> {
        self.values.get(name).map(|bound| bound.provenance)
    }

    /// The inputs of an execution that was admitted before, out of its own sealed intent: they were checked then, and
    /// checking them again could only make the repeat another request than the first. `None` if the intent is not of
    /// this very definition.
    pub fn from_intent(connector: &Connector, intent: &StoredIntent) -> Option<Self> {
        if connector.name != intent.connector || connector.digest.to_string() != intent.definition {
            return None;
        }
        let Ok(Value::Object(members)) = serde_json::from_str(&intent.inputs_json) else { return None };
        let values = members
            .into_iter()
            .map(|(name, value)| {
                let (name, _) = connector.inputs.get_key_value(name.as_str())?;
                // The weakest: where a value came from was judged when it was admitted.
                Some((name.clone(), Bound::new(value, Provenance::Agent)))
            })
            .collect::<Option<_>>()?;
        Some(Self { family: connector.name.clone(), values })
    }

    /// All of them as one JSON object.
    pub fn to_json(&self) -> Value {
        let members: Map<String, Value> =
            self.values.iter().map(|(name, bound)| (name.as_str().to_owned(), bound.value.clone())).collect();
        Value::Object(members)
    }

    /// The digest that makes a write the same as another of this contact.
    pub fn same(&self, inputs: &[InputName]) -> Digest {
        fingerprint::of_same(&self.family, inputs.iter().map(|name| (name.as_str(), self.get(name.as_str()))))
    }
}

impl Scope for BoundInputs {
    fn resolve(&self, reference: &Reference) -> Option<&Value> {
        match reference {
            Reference::Input(name) => self.get(name.as_str()),
            Reference::UpstreamKey => None,
        }
    }
}

impl fmt::Debug for BoundInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.values.iter().map(|(name, bound)| (name.as_str(), bound.provenance));
        f.debug_map().entries(shown).finish()
    }
}
