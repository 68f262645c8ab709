//! What is remembered of a contact.
//!
//! The record is read when an assertion is issued and never when it is presented: what an assertion says travels in it.

use std::collections::BTreeMap;
use std::time::Duration;

use safeconduct_types::{Channel, NextAction, Provenance, Reason, Refusal, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::attribute::AttributePolicy;
use crate::contact::{Attribute, Attributes, ContactKind, Identifier, Identity, Proven};

/// One attribute, and which proof said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The attribute. The value is null if it was removed.
    #[serde(rename = "a")]
    pub attribute: Attribute,
    /// The key of the proof that said it, `backend` or `client`.
    #[serde(rename = "k")]
    pub proof: String,
}

impl Kept {
    /// The value, unless it was removed.
    pub fn value(&self) -> Option<&Value> {
        Some(&self.attribute.value).filter(|value| !value.is_null())
    }
}

/// What the contact is named by.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Named {
    /// Nothing: a visitor.
    Nothing,
    /// A user, by this identifier.
    User(Identifier, String),
    /// A lead, by an address.
    Lead(Channel, String),
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::User(..) => "User([redacted])",
            Self::Lead(..) => "Lead([redacted])",
        })
    }
}

impl Named {
    /// The user of this identity.
    pub fn user(identity: &Identity) -> Self {
        Self::User(identity.identifier(), identity.value().to_owned())
    }

    /// What kind of contact it names.
    pub const fn kind(&self) -> ContactKind {
        match self {
            Self::Nothing => ContactKind::Visitor,
            Self::User(..) => ContactKind::User,
            Self::Lead(..) => ContactKind::Lead,
        }
    }
}

/// A contact's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContactRecord {
    /// What names the contact. Erased with everything else.
    pub named: Named,
    /// What is known, by name; what was removed included.
    pub attributes: BTreeMap<String, Kept>,
    /// When the contact was first seen.
    pub created: Timestamp,
    /// When anything about it last changed.
    pub updated: Timestamp,
    /// Since when new proofs are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Timestamp>,
    /// Sessions that began at or before this are over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_out: Option<Timestamp>,
    /// Assertions issued at or before this are stale: a protected value has changed. In whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Timestamp>,
    /// Erased then: nothing personal is left in the record, and sessions that began at or before this are over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Timestamp>,
    /// Email addresses that led to the contact before and are yet to be forgotten by the index. Empty but for moments.
    #[serde(default, skip_serializing_if = "Addresses::is_empty")]
    pub former: Addresses,
}

/// Email addresses, of which no two are the same but for their case. Personal data: never printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Addresses(Vec<String>);

impl std::fmt::Debug for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} addresses", self.0.len())
    }
}

impl Addresses {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether this one is among them, in whatever case.
    pub fn has(&self, address: &str) -> bool {
        self.0.iter().any(|one| one.to_lowercase() == address.to_lowercase())
    }

    /// These without those.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        Self(self.0.iter().filter(|one| !others.has(one)).cloned().collect())
    }

    fn add(&mut self, address: &str) {
        if !self.has(address) {
            self.0.push(address.to_owned());
        }
    }
}

/// The first moment, in whole seconds, after everything that was issued up to `now` and in the second after it: as
/// long as a change takes to be stored.
fn next_second(now: Timestamp) -> Timestamp {
    Timestamp::from_seconds(now.as_seconds().saturating_add(1))
}

impl ContactRecord {
    /// A contact that is seen for the first time.
    pub fn new(named: Named, now: Timestamp) -> Self {
        Self {
            named,
            attributes: BTreeMap::new(),
            created: now,
            updated: now,
            blocked: None,
            signed_out: None,
            changed: None,
            erased: None,
            former: Addresses::default(),
        }
    }

    /// Whether the attribute is what names the contact.
    pub fn is_named_by(&self, attribute: &str) -> bool {
        matches!(&self.named, Named::User(identifier, _) if identifier.as_str() == attribute)
    }

    /// Refuses a proof of a contact that is blocked.
    pub fn admits_proofs(&self) -> Result<(), Refusal> {
        if self.blocked.is_none() {
            return Ok(());
        }
        let what = "the contact is blocked until an operator or the backend lifts that; a new proof does not help";
        Err(Refusal::new(Reason::AssertionRevoked, what).with_next_action(NextAction::Stop))
    }

    /// Refuses a session that was over when the contact was signed out or erased.
    pub fn admits_session(&self, started: Timestamp) -> Result<(), Refusal> {
        self.admits_proofs()?;
        // Assertions carry a session's start in whole seconds; here and in marks it is the same.
        let started = Timestamp::from_seconds(started.as_seconds());
        let over = |at: Option<Timestamp>| at.is_some_and(|at| started <= at);
        if over(self.erased) {
            return Err(Refusal::new(Reason::AssertionRevoked, "the contact was erased; start a new session"));
        }
        if over(self.signed_out) {
            let what = "the contact was signed out; start a new session and prove again";
            return Err(Refusal::new(Reason::AssertionRevoked, what));
        }
        Ok(())
    }

    /// Refuses an assertion from before a protected value changed.
    pub fn admits_issued(&self, issued: Timestamp) -> Result<(), Refusal> {
        if self.changed.is_none_or(|changed| issued > changed) {
            return Ok(());
        }
        Err(Refusal::new(Reason::AssertionStale, "a protected value has changed since; prove who the contact is again")
            .with_metadata("changed", "contact"))
    }

    /// When an assertion that is made now counts as issued: after the last change, which would end it otherwise.
    pub fn issues_at(&self, now: Timestamp) -> Timestamp {
        self.changed.map_or(now, |changed| now.max(next_second(changed)))
    }

    /// Makes older assertions stale. Whatever is issued with the old values until the record is stored counts as
    /// issued within a second from `now`.
    pub fn changes(&mut self, now: Timestamp) {
        self.changed = self.changed.max(Some(next_second(now)));
        self.updated = now;
    }

    /// Lets nothing personal stay. A contact that is blocked stays so; sessions from before stay over.
    pub fn erase(&mut self, now: Timestamp) {
        let blocked = self.blocked;
        *self = Self { blocked, erased: self.erased.max(Some(now)), created: now, ..Self::new(Named::Nothing, now) };
    }

    /// A contact that comes back after its record was erased is somebody new.
    pub fn revive(&mut self, named: &Named, now: Timestamp) -> bool {
        if self.named != Named::Nothing || *named == Named::Nothing {
            return false;
        }
        self.named = named.clone();
        self.created = now;
        self.updated = now;
        true
    }

    /// For how long an erased record has something to say: as long as there can be sessions from before.
    pub fn ends(&self, session_lifetime: Duration) -> Option<Timestamp> {
        match (self.erased, &self.named, self.blocked) {
            (Some(erased), Named::Nothing, None) => Some(erased.after(session_lifetime)),
            (_, _, _) => None,
        }
    }

    /// The attributes that travel in assertions: those on the list that are (still) declared. What a client said of
    /// a value that is protected by now is not among them.
    pub fn travelling(&self, list: &[String], policy: &AttributePolicy) -> Attributes {
        let travels = |name: &String| {
            let (rule, kept) = (policy.get(name)?, self.attributes.get(name)?);
            let stands = kept.value().is_some() && (!rule.protected || kept.attribute.provenance.is_verified());
            stands.then(|| (name.clone(), kept.attribute.clone()))
        };
        list.iter().filter_map(travels).collect()
    }

    /// The email addresses that lead to this contact.
    pub fn email(&self) -> Option<&str> {
        match &self.named {
            Named::User(Identifier::Email, address) | Named::Lead(Channel::Email, address) => Some(address),
            Named::User(Identifier::UserId, _) => self.attributes.get("email")?.value()?.as_str(),
            Named::Lead(Channel::Sms, _) | Named::Nothing => None,
        }
    }

    /// The addresses that lead to this contact, or did and may still be found by.
    pub fn addresses(&self) -> Addresses {
        let mut all = self.former.clone();
        if let Some(address) = self.email() {
            all.add(address);
        }
        all
    }

    /// Those of `before` that lead here no more. An erased record takes no note of them.
    pub fn leaves(&mut self, before: &Addresses) -> Addresses {
        let mut now = Addresses::default();
        if let Some(address) = self.email() {
            now.add(address);
        }
        let left = before.without(&now);
        self.former = if self.named == Named::Nothing { Addresses::default() } else { left.clone() };
        left
    }

    /// The proven addresses that (still) count: a proof ends when whoever vouches for the contact names another
    /// address since.
    pub fn still_proven(&self, proven: Proven) -> Proven {
        let Some(signed) = self.attributes.get("email").filter(|kept| kept.attribute.provenance >= Provenance::Server)
        else {
            return proven;
        };
        let same = |one: &Attribute| {
            let address = signed.value().and_then(Value::as_str).unwrap_or_default();
            one.value.as_str().is_some_and(|proven| proven.to_lowercase() == address.to_lowercase())
        };
        let email = proven.email.filter(|one| one.proof_time >= signed.attribute.proof_time || same(one));
        Proven { email, ..proven }
    }
}

#[cfg(test)]
mod tests;
