//! Requests about attributes, and what became of them.

use std::collections::BTreeMap;
use std::fmt;

use safeconduct_identity_domain::attribute::{Applied, AttributePolicy, Change, MAX_CHANGES, Refused, parse_value};
use safeconduct_identity_domain::contact::{Identifier, Identity};
use safeconduct_identity_domain::record::{ContactRecord, Named};
use safeconduct_proto::identity::v1 as pb;
use safeconduct_types::{ContactId, Refusal, SecretText, WorkspaceId};

use super::{Violations, attribute, kind, timestamp};

pub(crate) struct UpdateAttributes {
    pub(crate) assertion: SecretText,
    pub(crate) changes: Vec<Change>,
}

pub(crate) struct SetAttributes {
    pub(crate) workspace: WorkspaceId,
    pub(crate) subject: AttributeSubject,
    pub(crate) changes: Vec<Change>,
}

#[derive(Debug)]
pub(crate) enum AttributeSubject {
    Contact(ContactId),
    User(Identity),
}

/// What is said of a person is personal.
impl fmt::Debug for UpdateAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpdateAttributes").finish_non_exhaustive()
    }
}

impl fmt::Debug for SetAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetAttributes").field("workspace", &self.workspace).finish_non_exhaustive()
    }
}

/// The longest name that is read; one that is declared is shorter.
const MAX_NAME: usize = 256;

impl Violations {
    fn changes(&mut self, attributes: BTreeMap<String, String>) -> Vec<Change> {
        if attributes.is_empty() || attributes.len() > MAX_CHANGES {
            self.add("attributes", "must have 1 to 64 entries");
            return Vec::new();
        }
        let mut changes = Vec::with_capacity(attributes.len());
        for (index, (name, text)) in attributes.into_iter().enumerate() {
            if name.len() > MAX_NAME {
                self.add(format!("attributes[{index}]"), "has a name of more than 256 bytes");
                continue;
            }
            // The name may be anything that somebody typed: the field says which by its place in the order of names.
            match parse_value(&text, &format!("attributes[{index}]")) {
                Ok(value) => changes.push((name, value)),
                Err(violation) => self.0.push(violation),
            }
        }
        changes
    }

    fn user(&mut self, user_id: &str) -> Option<Identity> {
        Identity::parse(Identifier::UserId, user_id, "user_id").map_err(|violation| self.0.push(violation)).ok()
    }
}

pub(crate) fn update_attributes(request: pb::UpdateAttributesRequest) -> Result<UpdateAttributes, Refusal> {
    let mut wrong = Violations::default();
    let changes = wrong.changes(request.attributes);
    wrong.none(Some(UpdateAttributes { assertion: SecretText::new(request.assertion), changes }))
}

pub(crate) fn set_attributes(request: pb::SetAttributesRequest) -> Result<SetAttributes, Refusal> {
    use pb::set_attributes_request::Subject;

    let mut wrong = Violations::default();
    let workspace = wrong.workspace(&request.workspace_id);
    let subject = match request.subject {
        Some(Subject::ContactId(id)) => wrong.contact(&id).map(AttributeSubject::Contact),
        Some(Subject::UserId(id)) => wrong.user(&id).map(AttributeSubject::User),
        None => {
            wrong.add("subject", "is required; send `contact_id` or `user_id`");
            None
        }
    };
    let changes = wrong.changes(request.attributes);
    wrong.none(workspace.zip(subject).map(|(workspace, subject)| SetAttributes { workspace, subject, changes }))
}

pub(crate) fn attributes_updated(applied: Applied) -> pb::UpdateAttributesResponse {
    pb::UpdateAttributesResponse { results: results(applied) }
}

pub(crate) fn attributes_set(
    applied: Applied,
    contact: &ContactId,
    record: &ContactRecord,
    policy: &AttributePolicy,
) -> pb::SetAttributesResponse {
    pb::SetAttributesResponse { results: results(applied), contact: Some(whole(contact, record, policy)) }
}

fn results(applied: Applied) -> Vec<pb::AttributeResult> {
    let result = |(name, result): (String, Result<(), Refused>)| {
        let (refusal, description) = match &result {
            Ok(()) => (pb::AttributeRefusal::Unspecified, String::new()),
            Err(refused) => told(refused),
        };
        pb::AttributeResult { name, applied: result.is_ok(), refusal: refusal.into(), description }
    };
    applied.results.into_iter().map(result).collect()
}

fn told(refused: &Refused) -> (pb::AttributeRefusal, String) {
    use pb::AttributeRefusal as Wire;

    match refused {
        Refused::Unknown => (Wire::Unknown, "declare it under `spec.attributes`; names are exact".to_owned()),
        Refused::Protected => {
            (Wire::Protected, "only a signed token or the backend (SetAttributes) may change it".to_owned())
        }
        Refused::NotWritable => {
            (Wire::NotWritable, "the workspace's file must say `client_writable: true` of it".to_owned())
        }
        Refused::Invalid(what) => (Wire::Invalid, what.clone()),
        Refused::Weaker => {
            (Wire::WeakerProvenance, "a stronger or newer source has set it; that source must change it".to_owned())
        }
        Refused::Identifier => (Wire::Identifier, "it names the contact and never changes".to_owned()),
    }
}

/// A contact with all that is known, for who manages contacts.
pub(crate) fn whole(contact: &ContactId, record: &ContactRecord, policy: &AttributePolicy) -> pb::Contact {
    let user_id = match &record.named {
        Named::User(Identifier::UserId, id) => id.clone(),
        Named::User(Identifier::Email, _) | Named::Lead(..) | Named::Nothing => String::new(),
    };
    let is_protected = |name: &str| policy.get(name).is_none_or(|rule| rule.protected);
    let there = record.attributes.iter().filter(|(_, kept)| kept.value().is_some());
    pb::Contact {
        contact_id: contact.as_str().to_owned(),
        kind: kind(record.named.kind()).into(),
        user_id,
        attributes: there.map(|(name, kept)| (name.clone(), attribute(&kept.attribute, is_protected(name)))).collect(),
        create_time: Some(timestamp(record.created)),
        update_time: Some(timestamp(record.updated)),
        blocked: record.blocked.is_some(),
    }
}
