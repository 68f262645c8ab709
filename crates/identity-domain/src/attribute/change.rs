//! What becomes of a contact's attributes when somebody says something of them.

use safeconduct_types::{Provenance, Timestamp};
use serde_json::Value;

use super::policy::AttributePolicy;
use super::{Rule, fits};
use crate::contact::Attribute;
use crate::record::{ContactRecord, Kept};

/// Who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer<'a> {
    /// A browser or an app.
    Client,
    /// The customer's backend.
    Server,
    /// A token of the customer's backend, by the key of this id.
    Token(&'a str),
}

impl Writer<'_> {
    const fn provenance(self) -> Provenance {
        match self {
            Self::Client => Provenance::Client,
            Self::Server => Provenance::Server,
            Self::Token(_) => Provenance::SignedToken,
        }
    }

    /// Which proof it was, for the record.
    fn proof(self) -> String {
        match self {
            Self::Client => "client".to_owned(),
            Self::Server => "backend".to_owned(),
            Self::Token(key) => key.to_owned(),
        }
    }
}

/// One attribute that is to be changed: to this value, or removed.
pub type Change = (String, Option<Value>);

/// Why an attribute was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The workspace does not declare it.
    Unknown,
    /// Only a signed token or the backend may change it.
    Protected,
    /// Not protected, but not for clients either.
    NotWritable,
    /// The value does not fit the schema; what would.
    Invalid(String),
    /// Something stronger, or newer, said it already.
    Weaker,
    /// It names the contact.
    Identifier,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Applied {
    /// One for each attribute, by name.
    pub results: Vec<(String, Result<(), Refused>)>,
    /// Whether the record is another one now.
    pub changed: bool,
    /// Whether a protected value is another one now, which makes older assertions stale.
    pub protected_changed: bool,
}

/// Changes the record as far as `writer` may. `said` is when that was said: for a token, when it was made.
pub fn apply(
    record: &mut ContactRecord,
    policy: &AttributePolicy,
    writer: Writer<'_>,
    changes: impl IntoIterator<Item = Change>,
    said: Timestamp,
) -> Applied {
    let mut applied = Applied::default();
    for (name, value) in changes {
        let result = match permit(record, policy, writer, &name, value.as_ref(), said) {
            Ok(rule) => {
                let before = record.attributes.get(&name).and_then(Kept::value);
                let differs = before != value.as_ref();
                let restated = put(record, writer, &name, value, said);
                applied.changed |= differs || restated;
                applied.protected_changed |= differs && rule.protected;
                Ok(())
            }
            Err(refused) => Err(refused),
        };
        applied.results.push((name, result));
    }
    applied.results.sort_by(|a, b| a.0.cmp(&b.0));
    applied
}

fn permit<'p>(
    record: &ContactRecord,
    policy: &'p AttributePolicy,
    writer: Writer<'_>,
    name: &str,
    value: Option<&Value>,
    said: Timestamp,
) -> Result<&'p Rule, Refused> {
    if AttributePolicy::is_identifier(name) || record.is_named_by(name) {
        return Err(Refused::Identifier);
    }
    let rule = policy.get(name).ok_or(Refused::Unknown)?;
    if writer == Writer::Client {
        if rule.protected {
            return Err(Refused::Protected);
        }
        if !rule.client_writable {
            return Err(Refused::NotWritable);
        }
    }
    if let Some(value) = value {
        if !fits(value) {
            return Err(Refused::Invalid("must not be nested deeper than 8".to_owned()));
        }
        rule.schema.fits(value).map_err(Refused::Invalid)?;
    }
    match record.attributes.get(name).map(|kept| &kept.attribute) {
        Some(held) if !may_replace(held, writer, said) => Err(Refused::Weaker),
        Some(_) | None => Ok(rule),
    }
}

/// What is stronger stays, whatever the new value is: a client learns nothing of it by guessing. Backend and tokens
/// are equals, and the latest counts. A token of the second in which the backend spoke may be older than that. Of two
/// tokens made at the same time nobody can tell the later one: what was taken in first stays, so that whoever holds
/// both cannot have now one and now the other. Who makes several in a second writes `iat` with a fraction.
fn may_replace(held: &Attribute, writer: Writer<'_>, said: Timestamp) -> bool {
    match (writer, held.provenance) {
        (Writer::Client, provenance) => provenance <= Provenance::Client,
        (Writer::Token(_), Provenance::Server) => said.as_seconds() > held.proof_time.as_seconds(),
        (Writer::Token(_), Provenance::SignedToken) => said > held.proof_time,
        (Writer::Server | Writer::Token(_), _) => true,
    }
}

/// Whether more than the value is new: who vouches for it, or since when.
fn put(record: &mut ContactRecord, writer: Writer<'_>, name: &str, value: Option<Value>, said: Timestamp) -> bool {
    let value = match (value, writer) {
        (Some(value), _) => value,
        (None, Writer::Client) => return record.attributes.remove(name).is_some(),
        // Kept as removed, so that an older token does not bring it back.
        (None, Writer::Server | Writer::Token(_)) => Value::Null,
    };
    let attribute = Attribute { value, provenance: writer.provenance(), proof_time: said };
    let kept = Kept { attribute, proof: writer.proof() };
    let before = record.attributes.insert(name.to_owned(), kept.clone());
    before.is_none_or(|before| before != kept)
}
