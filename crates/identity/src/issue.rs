//! Making the assertion at the end of a use case.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_identity_domain::assertion::{Claims, SignError, Validity, sign};
use safeconduct_identity_domain::attribute::AttributePolicy;
use safeconduct_identity_domain::contact::{Attributes, Contact, Method, Proven};
use safeconduct_identity_domain::record::ContactRecord;
use safeconduct_identity_domain::session::Session;
use safeconduct_telemetry::field;
use safeconduct_types::{CallerName, ContactId, Refusal, Timestamp};

use crate::Identity;

/// What an assertion is made of.
#[derive(Debug)]
pub(crate) struct Making {
    pub(crate) session: Session,
    pub(crate) contact: ContactId,
    /// The identifier that was proven, as an attribute; nothing for who is no user.
    pub(crate) named: Attributes,
    /// What is known of the contact; nothing of most visitors.
    pub(crate) record: Option<ContactRecord>,
    pub(crate) method: Method,
    /// The mark of the key that proved the contact; nothing for who was proven by no key.
    pub(crate) proven_by: Option<String>,
    pub(crate) presenters: Vec<CallerName>,
    pub(crate) proof_expires: Timestamp,
}

/// An assertion and what its caller is told besides.
pub(crate) struct Issued {
    pub(crate) assertion: String,
    pub(crate) contact: Contact,
    pub(crate) session: Session,
    pub(crate) validity: Validity,
    pub(crate) record: Option<ContactRecord>,
    pub(crate) policy: Arc<AttributePolicy>,
}

/// Whoever sees the assertion could present it.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("session", self.session.id())
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Says who the contact of the session is, until the proof ends or the assertion's time is over.
    pub(crate) fn issue(&self, making: Making, now: Timestamp) -> Result<Issued, Refusal> {
        let Making { session, contact, named, record, method, proven_by, presenters, proof_expires } = making;
        let workspace = session.workspace();
        let policy = self.ports.workspaces.attribute_policy(workspace);
        let rules = self.ports.workspaces.identity_policy(workspace).ok_or_else(crate::verify::unknown_workspace)?;
        let issued = record.as_ref().map_or(now, |record| record.issues_at(now));
        let mut attributes = match &record {
            Some(record) => record.travelling(rules.assertion_attributes(), &policy),
            None => Attributes::new(),
        };
        attributes.extend(named.clone());
        let (proven, proven_until) = proven(&session, record.as_ref(), issued);
        // An address is said to be proven for as long as its proof counts and no longer.
        let lifetime = self.settings.assertion_lifetime;
        let lifetime = proven_until.map_or(lifetime, |until| lifetime.min(until.since(issued)));
        let validity = Validity::new(issued, lifetime, proof_expires);
        let kind = record.as_ref().map(|record| record.named.kind());
        let mut claims = Claims {
            issuer: self.settings.issuer.clone(),
            audience: self.settings.audience.clone(),
            presenters,
            workspace: workspace.clone(),
            session: session.id().clone(),
            session_start: session.started(),
            epoch: session.epoch(),
            contact: Contact { id: contact, kind: kind.unwrap_or(method.kind()), attributes, proven },
            method,
            proven_by,
            validity,
        };
        let signing = self.signing.get();
        let assertion = loop {
            match sign(&claims, signing.signing(), &*self.seal) {
                Err(SignError::TooLong) if leave_out(&mut claims.contact.attributes, &named) => {
                    tracing::warn!(
                        { field::WORKSPACE } = %claims.workspace,
                        "an attribute does not fit into an assertion and is left out; shorten it or the list"
                    );
                }
                made => break made.map_err(|error| Refusal::internal(format!("no assertion was made: {error}")))?,
            }
        };
        Ok(Issued { assertion, contact: claims.contact, session, validity, record, policy })
    }
}

/// The addresses that count as proven for at least another second, and until when all of them do.
fn proven(session: &Session, record: Option<&ContactRecord>, issued: Timestamp) -> (Proven, Option<Timestamp>) {
    let (proven, until) = session.proven(issued.after(Duration::from_secs(1)));
    let proven = match record {
        Some(record) => record.still_proven(proven),
        None => proven,
    };
    let until = until.filter(|_| !proven.is_empty());
    (proven, until)
}

/// Leaves the largest of the weakest attributes out; never what names the contact. Whether there was one.
fn leave_out(attributes: &mut Attributes, named: &Attributes) -> bool {
    let size = |value: &serde_json::Value| value.to_string().len();
    let least = attributes
        .iter()
        .filter(|(name, _)| !named.contains_key(*name))
        .min_by_key(|(_, one)| (one.provenance.is_verified(), std::cmp::Reverse(size(&one.value))))
        .map(|(name, _)| name.clone());
    least.is_some_and(|name| attributes.remove(&name).is_some())
}
