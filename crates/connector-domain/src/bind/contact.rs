//! Values that the contact's assertion vouches for.

use std::collections::BTreeSet;

use safeconduct_types::{Provenance, ProvenanceSet, Reason, Refusal, Timestamp};
use serde_json::Value;

use super::bound::Bound;
use crate::contact::{AttributeValue, ContactView};
use crate::definition::{ContactKind, Input, InputName, Source};
use crate::json;

/// Why a contact's value does not do.
#[derive(Clone, Copy)]
enum Lack {
    Missing,
    Unproven,
    TooOld,
}

/// The contact's value of an input; `None` for an optional one that the contact does not have.
pub(super) fn take(
    name: &InputName,
    input: &Input,
    contact: &ContactView,
    now: Timestamp,
) -> Result<Option<Bound>, Refusal> {
    let Some(found) = find(&input.source, contact) else {
        return if input.optional { Ok(None) } else { Err(verification_required(name, input, Lack::Missing)) };
    };
    if !input.accept.contains(found.provenance) {
        return Err(verification_required(name, input, Lack::Unproven));
    }
    if let Some(max_age) = input.max_age {
        // A proof without a time may be of any age.
        let fresh = found.proof_time.is_some_and(|proven| now.since(proven) <= max_age);
        if !fresh {
            return Err(verification_required(name, input, Lack::TooOld));
        }
    }
    let value = json::normalise(found.value)
        .map_err(|error| Refusal::internal(format!("the contact's value of inputs.{name} {error}")))?;
    Ok(Some(Bound::new(value, found.provenance)))
}

struct Found {
    value: Value,
    provenance: Provenance,
    proof_time: Option<Timestamp>,
}

fn find(source: &Source, contact: &ContactView) -> Option<Found> {
    match source {
        Source::ContactAttribute(name) => there(contact.attributes.get(name.as_str())?),
        Source::ProvenEmail => there(contact.proven.email.as_ref()?),
        Source::ProvenPhone => there(contact.proven.phone.as_ref()?),
        Source::ContactId => Some(contact_id(contact)),
        Source::Agent | Source::Caller | Source::Constant(_) => None,
    }
}

/// A value that says something.
fn there(found: &AttributeValue) -> Option<Found> {
    let there = !found.value.is_null() && found.value.as_str() != Some("");
    there.then(|| Found { value: found.value.clone(), provenance: found.provenance, proof_time: found.proof_time })
}

/// The contact's id is as strong as the proof that made the contact what it is, however strong its attributes are:
/// those may stem from other sessions. It is as old as the identifier that was proven with it.
fn contact_id(contact: &ContactView) -> Found {
    let provenance = contact.known_by.unwrap_or(Provenance::Client);
    let identifiers = [contact.attributes.get("user_id"), contact.attributes.get("email")];
    let proof_time = identifiers
        .into_iter()
        .chain([contact.proven.email.as_ref(), contact.proven.phone.as_ref()])
        .flatten()
        .find(|one| Some(one.provenance) == contact.known_by)
        .and_then(|one| one.proof_time);
    Found { value: Value::from(contact.id.as_str()), provenance, proof_time }
}

/// Refuses a contact that is known by a weaker proof than is needed, whatever its attributes are worth.
pub(super) fn check_proof(needs: Option<Provenance>, contact: &ContactView) -> Result<(), Refusal> {
    let Some(needs) = needs.filter(|needs| contact.known_by.is_none_or(|known_by| known_by < *needs)) else {
        return Ok(());
    };
    let enough = Provenance::ALL.into_iter().filter(|one| *one >= needs && *one != Provenance::Server).collect();
    let methods = methods(enough);
    Err(Refusal::new(
        Reason::VerificationRequired,
        format!(
            "this workspace takes writes only from who is known by a stronger proof; verify by {}",
            methods.join(" or ")
        ),
    )
    .with_metadata("attribute", "id")
    .with_metadata("methods", methods.join(","))
    .with_metadata("because", "UNPROVEN"))
}

/// Says which attribute, why, and which proofs would do.
fn verification_required(name: &InputName, input: &Input, lack: Lack) -> Refusal {
    let attribute = match &input.source {
        Source::ContactAttribute(attribute) => attribute.as_str(),
        Source::ProvenEmail => "email",
        Source::ProvenPhone => "phone",
        Source::ContactId | Source::Agent | Source::Caller | Source::Constant(_) => "id",
    };
    let methods = methods(input.accept);
    let (because, what) = match lack {
        Lack::Missing => ("MISSING", "is not known for this contact"),
        Lack::Unproven => ("UNPROVEN", "is known but not proven in a way that this connector accepts"),
        Lack::TooOld => ("TOO_OLD", "was proven too long ago for this connector"),
    };
    let refusal = Refusal::new(
        Reason::VerificationRequired,
        format!("the contact's {attribute} {what}; verify it by {}", methods.join(" or ")),
    )
    .with_metadata("input", name.as_str())
    .with_metadata("attribute", attribute)
    .with_metadata("methods", methods.join(","))
    .with_metadata("because", because);
    match (lack, input.max_age) {
        (Lack::TooOld, Some(max_age)) => refusal.with_metadata("max_age_seconds", max_age.as_secs().to_string()),
        _ => refusal,
    }
}

/// Refuses a contact of a kind that a proof would change: one that the connector is for.
pub(super) fn kind_required(kinds: &BTreeSet<ContactKind>) -> Refusal {
    let known_by = |provenance: Provenance| match provenance {
        Provenance::SignedToken | Provenance::SignedHash => kinds.contains(&ContactKind::User),
        Provenance::OtpEmail | Provenance::OtpSms => kinds.contains(&ContactKind::Lead),
        Provenance::Agent | Provenance::Caller | Provenance::Constant | Provenance::Client | Provenance::Server => {
            false
        }
    };
    let methods = methods(Provenance::ALL.into_iter().filter(|one| known_by(*one)).collect());
    let detail = format!("nobody knows yet who this contact is; verify them by {}", methods.join(" or "));
    Refusal::new(Reason::VerificationRequired, detail)
        .with_metadata("attribute", "id")
        .with_metadata("methods", methods.join(","))
        .with_metadata("because", "UNPROVEN")
}

/// The ways to prove that these provenances stand for, the best first: `VerificationMethod` of the contract, without
/// its prefix. What only the backend can say is no proof that anybody could be asked for.
fn methods(accept: ProvenanceSet) -> Vec<&'static str> {
    let accepted: Vec<_> = accept.iter().collect();
    let name = |one: &Provenance| match one {
        Provenance::SignedToken => Some("JWT"),
        Provenance::SignedHash => Some("USER_HASH"),
        Provenance::OtpEmail => Some("EMAIL_CODE"),
        Provenance::OtpSms => Some("SMS_CODE"),
        Provenance::Server => Some("BACKEND"),
        Provenance::Client | Provenance::Agent | Provenance::Caller | Provenance::Constant => None,
    };
    accepted.iter().rev().filter_map(name).collect()
}
