//! Binding: every input gets its value, with where it came from, or the request is refused.
//!
//! [`Supplied`] is what was sent, read strictly; [`bind`] checks it against the definition and the contact and makes a
//! [`Binding`]; once every declared choice was found in the contact's own list, that becomes [`BoundInputs`], which
//! nothing else can make and which the plan of a request takes.

mod bound;
mod contact;
mod supplied;

use std::collections::BTreeMap;

use safeconduct_types::{NextAction, Provenance, Reason, Refusal, Timestamp, Violation};
use serde_json::Value;

pub use bound::{Binding, BoundInputs, PendingChoice};
pub use supplied::{CallerRole, Supplied};

use crate::contact::{ContactKind, ContactView};
use crate::definition::{Connector, Input, InputName, Source};
use crate::json;
use crate::schema::plain_word;
use bound::Bound;

/// Gives every input of the connector its value for this contact, at this time.
pub fn bind(
    connector: &Connector,
    contact: &ContactView,
    supplied: &Supplied,
    now: Timestamp,
) -> Result<Binding, Refusal> {
    bound(connector, contact, supplied, now).map_err(|refusal| with_purpose(connector, refusal))
}

fn bound(
    connector: &Connector,
    contact: &ContactView,
    supplied: &Supplied,
    now: Timestamp,
) -> Result<Binding, Refusal> {
    check_audience(connector, contact, now)?;
    contact::check_proof(connector.needs, contact)?;
    let mut values = BTreeMap::new();
    let mut violations = undeclared(connector, supplied);
    for (name, input) in &connector.inputs {
        let taken = match &input.source {
            Source::Agent => take(name, input, supplied.agent(), Provenance::Agent, &mut violations),
            Source::Caller => take(name, input, supplied.caller(), supplied.role().provenance(), &mut violations),
            Source::Constant(value) => Some(Bound::new(value.clone(), Provenance::Constant)),
            Source::ContactAttribute(_) | Source::ContactId | Source::ProvenEmail | Source::ProvenPhone => {
                contact::take(name, input, contact, now)?
            }
        };
        let Some(bound) = taken.or_else(|| default_of(input)) else { continue };
        if !bound.is_default && !input.accept.contains(bound.provenance) {
            return Err(not_accepted(name, input));
        }
        if let Some(schema) = &input.schema
            && matches!(input.source, Source::Agent | Source::Caller)
        {
            violations.extend(schema.check(&field(name), &bound.value));
        } else if let Some(schema) = &input.schema
            && !schema.accepts(&bound.value)
        {
            // Nothing that whoever asks could correct.
            let detail =
                format!("the value that {} takes from the contact does not have the declared form", field(name));
            return Err(Refusal::new(Reason::InputInvalid, detail).with_next_action(NextAction::HandOver));
        }
        values.insert(name.clone(), bound);
    }
    if violations.is_empty() { Ok(Binding::new(connector, values)) } else { Err(Refusal::invalid(violations)) }
}

fn field(name: &InputName) -> String {
    format!("inputs.{name}")
}

/// A contact of a kind that is not served. Where a proof would change that, what it lacks is said instead: the first
/// input that such a proof would give, or else the kind itself.
fn check_audience(connector: &Connector, contact: &ContactView, now: Timestamp) -> Result<(), Refusal> {
    let kinds = &connector.audience.kinds;
    if kinds.contains(&contact.kind) {
        return Ok(());
    }
    if kinds.iter().any(|kind| *kind > contact.kind) {
        let signed_only = !kinds.contains(&ContactKind::Lead);
        for (name, input) in &connector.inputs {
            let from_contact = matches!(
                input.source,
                Source::ContactAttribute(_) | Source::ContactId | Source::ProvenEmail | Source::ProvenPhone
            );
            let signed =
                input.accept.contains(Provenance::SignedHash) || input.accept.contains(Provenance::SignedToken);
            if from_contact && (signed || !signed_only) {
                contact::take(name, input, contact, now)?;
            }
        }
        return Err(contact::kind_required(kinds));
    }
    let known: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    Err(Refusal::new(
        Reason::AudienceMismatch,
        format!("the connector is for contacts of kind {}; this one is a {}", known.join(" or "), contact.kind),
    )
    .with_metadata("kinds", known.join(","))
    .with_metadata("kind", contact.kind.as_str()))
}

/// With what an agent needs to start the verification at once: what it is for.
fn with_purpose(connector: &Connector, refusal: Refusal) -> Refusal {
    match &connector.purpose {
        Some(purpose) if refusal.reason() == Reason::VerificationRequired => refusal.with_metadata("purpose", purpose),
        _ => refusal,
    }
}

/// What was sent and has no place: unknown names, and inputs that somebody else supplies.
fn undeclared(connector: &Connector, supplied: &Supplied) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (who, members, expected) in
        [("the agent", supplied.agent(), Source::Agent), ("the caller", supplied.caller(), Source::Caller)]
    {
        for name in members.keys() {
            // A name that was made up may say anything, so only a plain word is repeated.
            let shown = format!("inputs.{}", plain_word(name).unwrap_or("?"));
            match connector.inputs.get(name.as_str()) {
                None => violations.push(Violation::new(shown, "is no input of this connector; leave it out")),
                Some(input) if input.source != expected => {
                    violations.push(Violation::new(shown, format!("is not supplied by {who}; leave it out")));
                }
                Some(_) => {}
            }
        }
    }
    violations.truncate(MAX_UNDECLARED);
    violations
}

/// Violations that are reported for names that have no place.
const MAX_UNDECLARED: usize = 20;

fn take(
    name: &InputName,
    input: &Input,
    members: &serde_json::Map<String, Value>,
    provenance: Provenance,
    violations: &mut Vec<Violation>,
) -> Option<Bound> {
    let absent = |value: &&Value| {
        // Models write `null` for what they leave out.
        value.is_null() && input.optional && !input.schema.as_ref().is_some_and(|schema| schema.accepts(value))
    };
    let value = members.get(name.as_str()).filter(|value| !absent(value));
    if value.is_none() && !input.optional {
        violations.push(Violation::new(field(name), "is required"));
    }
    value.map(|value| Bound::new(value.clone(), provenance))
}

fn default_of(input: &Input) -> Option<Bound> {
    let value = json::normalise(input.default.clone()?).ok()?;
    Some(Bound { value, provenance: Provenance::Constant, is_default: true })
}

fn not_accepted(name: &InputName, input: &Input) -> Refusal {
    match input.source {
        Source::Caller => Refusal::new(
            Reason::CallerNotAllowed,
            format!("{} is supplied by callers of role backend only", field(name)),
        ),
        Source::Agent
        | Source::Constant(_)
        | Source::ContactAttribute(_)
        | Source::ContactId
        | Source::ProvenEmail
        | Source::ProvenPhone => {
            Refusal::internal(format!("{} accepts nothing that its source can give; check the definition", field(name)))
        }
    }
}

#[cfg(test)]
mod tests;
