//! Values that the contact's assertion vouches for.

use safeconduct_types::{Provenance, ProvenanceSet, Reason, Refusal, Timestamp};
use serde_json::Value;

use super::bound::Bound;
use crate::contact::{ContactKind, ContactView};
use crate::definition::{Input, InputName, Source};
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
    let Some(found) = find(&input.source, input.accept, contact) else {
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

fn find(source: &Source, accept: ProvenanceSet, contact: &ContactView) -> Option<Found> {
    match source {
        Source::ContactAttribute(name) => attribute(contact, name.as_str(), |_| true),
        Source::ProvenEmail => attribute(contact, "email", |one| one == Provenance::OtpEmail),
        Source::ProvenPhone => attribute(contact, "phone", |one| one == Provenance::OtpSms),
        Source::ContactId => Some(contact_id(contact, accept)),
        Source::Agent | Source::Caller | Source::Constant(_) => None,
    }
}

fn attribute(contact: &ContactView, name: &str, counts: impl Fn(Provenance) -> bool) -> Option<Found> {
    let found = contact.attributes.get(name)?;
    let there = !found.value.is_null() && found.value.as_str() != Some("") && counts(found.provenance);
    there.then(|| Found { value: found.value.clone(), provenance: found.provenance, proof_time: found.proof_time })
}

/// The contact's id is as strong as the proof that made the contact what it is: a signature for a user, a one-time
/// password for a lead, nothing for a visitor. Of several such proofs the newest accepted one counts.
fn contact_id(contact: &ContactView, accept: ProvenanceSet) -> Found {
    let made_by: &[Provenance] = match contact.kind {
        ContactKind::User => &[Provenance::SignedToken, Provenance::SignedHash],
        ContactKind::Lead => &[Provenance::OtpEmail, Provenance::OtpSms],
        ContactKind::Visitor => &[],
    };
    let proof = contact
        .attributes
        .values()
        .filter(|one| made_by.contains(&one.provenance))
        .max_by_key(|one| (accept.contains(one.provenance), one.proof_time))
        .map(|one| (one.provenance, one.proof_time));
    // Without an attribute that tells more, the weakest proof that makes such a contact.
    let weakest = made_by.iter().copied().min().unwrap_or(Provenance::Client);
    let (provenance, proof_time) = proof.unwrap_or((weakest, None));
    Found { value: Value::from(contact.id.as_str()), provenance, proof_time }
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

/// The ways to prove that these provenances stand for.
fn methods(accept: ProvenanceSet) -> Vec<&'static str> {
    accept
        .iter()
        .map(|one| match one {
            Provenance::SignedToken => "JWT",
            Provenance::SignedHash => "USER_HASH",
            Provenance::Server => "BACKEND",
            Provenance::OtpEmail => "OTP_EMAIL",
            Provenance::OtpSms => "OTP_SMS",
            Provenance::Client => "CLIENT",
            Provenance::Agent | Provenance::Caller | Provenance::Constant => "NONE",
        })
        .collect()
}
