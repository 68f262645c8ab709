//! Requests of who manages contacts and sessions.

use std::time::Duration;

use safeconduct_identity_domain::contact::{Identifier, Identity};
use safeconduct_identity_domain::record::{ContactRecord, Named};
use safeconduct_proto::common::v1 as common;
use safeconduct_proto::identity::v1 as pb;
use safeconduct_types::{Channel, ContactId, Refusal, SecretText, SessionId, Timestamp, WorkspaceId};

use super::{Violations, provenance};
use crate::issue_assertion::{IssueAssertion, ProvenAddress};
use crate::revoke_contact::Mode;

#[derive(Debug)]
pub(crate) enum ContactSubject {
    Contact(ContactId),
    User(Identity),
    Email(Identity),
}

/// Whom a request is about.
#[derive(Debug)]
pub(crate) struct AboutContact {
    pub(crate) workspace: WorkspaceId,
    pub(crate) subject: ContactSubject,
}

/// Whom, and why.
#[derive(Debug)]
pub(crate) struct ManageContact {
    pub(crate) about: AboutContact,
    pub(crate) reason: String,
}

#[derive(Debug)]
pub(crate) struct RevokeSession {
    pub(crate) target: SessionTarget,
    pub(crate) reason: String,
}

#[derive(Debug)]
pub(crate) enum SessionTarget {
    Session(WorkspaceId, SessionId),
    Assertion(SecretText),
}

/// Longest reason, in characters.
const MAX_REASON: usize = 256;
/// How long a proof of an address counts unless the request says otherwise, and at most.
const PROOF_LIFETIME: (Duration, Duration) = (Duration::from_mins(30), Duration::from_hours(24));
/// Longest name of a verification, in bytes.
const MAX_OPERATION: usize = 128;

impl Violations {
    pub(super) fn contact(&mut self, text: &str) -> Option<ContactId> {
        text.parse().map_err(|error| self.add("contact_id", format!("{error}"))).ok()
    }

    fn reason(&mut self, text: &str) -> String {
        let length = text.chars().count();
        if !(1..=MAX_REASON).contains(&length) || text.chars().any(char::is_control) {
            self.add("reason", "must have 1 to 256 characters, none of them a control character");
        }
        text.to_owned()
    }

    fn identity(&mut self, identifier: Identifier, text: &str) -> Option<Identity> {
        Identity::parse(identifier, text, identifier.as_str()).map_err(|violation| self.0.push(violation)).ok()
    }
}

/// Each request has an enum of its own for the same three subjects.
macro_rules! about {
    ($wrong:ident, $request:ident, $module:ident) => {{
        let workspace = $wrong.workspace(&$request.workspace_id);
        let subject = match &$request.subject {
            Some(pb::$module::Subject::ContactId(id)) => $wrong.contact(id).map(ContactSubject::Contact),
            Some(pb::$module::Subject::UserId(id)) => $wrong.identity(Identifier::UserId, id).map(ContactSubject::User),
            Some(pb::$module::Subject::Email(address)) => {
                $wrong.identity(Identifier::Email, address).map(ContactSubject::Email)
            }
            None => {
                $wrong.add("subject", "is required; send `contact_id`, `user_id` or `email`");
                None
            }
        };
        workspace.zip(subject).map(|(workspace, subject)| AboutContact { workspace, subject })
    }};
}

pub(crate) fn get_contact(request: &pb::GetContactRequest) -> Result<AboutContact, Refusal> {
    let mut wrong = Violations::default();
    let about = about!(wrong, request, get_contact_request);
    wrong.none(about)
}

pub(crate) fn export_contact(request: &pb::ExportContactRequest) -> Result<AboutContact, Refusal> {
    let mut wrong = Violations::default();
    let about = about!(wrong, request, export_contact_request);
    if !(0..=100).contains(&request.page_size) {
        wrong.add("page_size", "must be 0 to 100");
    }
    if !request.page_token.is_empty() {
        wrong.add("page_token", "is not one of this service's: there is one page");
    }
    wrong.none(about)
}

pub(crate) fn delete_contact(request: &pb::DeleteContactRequest) -> Result<ManageContact, Refusal> {
    let mut wrong = Violations::default();
    let about = about!(wrong, request, delete_contact_request);
    let reason = wrong.reason(&request.reason);
    wrong.none(about.map(|about| ManageContact { about, reason }))
}

pub(crate) fn unblock_contact(request: &pb::UnblockContactRequest) -> Result<ManageContact, Refusal> {
    let mut wrong = Violations::default();
    let about = about!(wrong, request, unblock_contact_request);
    let reason = wrong.reason(&request.reason);
    wrong.none(about.map(|about| ManageContact { about, reason }))
}

pub(crate) fn revoke_contact(request: &pb::RevokeContactRequest) -> Result<(ManageContact, Mode), Refusal> {
    let mut wrong = Violations::default();
    let about = about!(wrong, request, revoke_contact_request);
    let reason = wrong.reason(&request.reason);
    let mode = match pb::RevokeMode::try_from(request.mode) {
        Ok(pb::RevokeMode::SignOut) => Some(Mode::SignOut),
        Ok(pb::RevokeMode::Block) => Some(Mode::Block),
        Ok(pb::RevokeMode::Unspecified) | Err(_) => {
            wrong.add("mode", "must be SIGN_OUT or BLOCK");
            None
        }
    };
    wrong.none(about.zip(mode).map(|(about, mode)| (ManageContact { about, reason }, mode)))
}

pub(crate) fn revoke_session(request: pb::RevokeSessionRequest) -> Result<RevokeSession, Refusal> {
    use pb::revoke_session_request::Target;

    let mut wrong = Violations::default();
    let reason = wrong.reason(&request.reason);
    let target = match request.target {
        Some(Target::SessionId(id)) => {
            let session = id.parse().map_err(|error| wrong.add("session_id", format!("{error}"))).ok();
            let workspace = wrong.workspace(&request.workspace_id);
            workspace.zip(session).map(|(workspace, session)| SessionTarget::Session(workspace, session))
        }
        Some(Target::Assertion(assertion)) => Some(SessionTarget::Assertion(SecretText::new(assertion))),
        None => {
            wrong.add("target", "is required; send `session_id` or `assertion`");
            None
        }
    };
    wrong.none(target.map(|target| RevokeSession { target, reason }))
}

pub(crate) fn issue_assertion(request: pb::IssueAssertionRequest, now: Timestamp) -> Result<IssueAssertion, Refusal> {
    let mut wrong = Violations::default();
    let workspace = wrong.workspace(&request.workspace_id);
    if request.operation_id.is_empty() || request.operation_id.len() > MAX_OPERATION {
        wrong.add("operation_id", "must have 1 to 128 bytes: the verification's id");
    }
    let lifetime = match &request.proof_lifetime {
        None => Some(PROOF_LIFETIME.0),
        Some(given) => u64::try_from(given.seconds)
            .ok()
            .map(Duration::from_secs)
            .filter(|given| !given.is_zero() && *given <= PROOF_LIFETIME.1),
    };
    if lifetime.is_none() {
        wrong.add("proof_lifetime", "must be 1 s to 24 h");
    }
    let address = wrong.proven_address(request.proven_address, lifetime.unwrap_or_default(), now);
    wrong.none(workspace.zip(address).map(|(workspace, address)| IssueAssertion {
        workspace,
        assertion: SecretText::new(request.assertion),
        address,
        verification: request.operation_id,
    }))
}

impl Violations {
    fn proven_address(
        &mut self,
        given: Option<pb::ProvenAddress>,
        lifetime: Duration,
        now: Timestamp,
    ) -> Option<ProvenAddress> {
        let Some(given) = given else {
            self.add("proven_address", "is required");
            return None;
        };
        let channel = match given.method() {
            common::VerificationMethod::EmailCode => Some(Channel::Email),
            common::VerificationMethod::SmsCode => Some(Channel::Sms),
            common::VerificationMethod::Unspecified
            | common::VerificationMethod::None
            | common::VerificationMethod::UserHash
            | common::VerificationMethod::Jwt => {
                self.add("proven_address.method", "must be EMAIL_CODE or SMS_CODE");
                None
            }
        };
        let canonical = match channel {
            Some(Channel::Email) => {
                let address = &given.address;
                Identity::parse(Identifier::Email, address, "").is_ok() && address.to_lowercase() == *address
            }
            Some(Channel::Sms) => is_e164(&given.address),
            None => true,
        };
        if !canonical {
            self.add("proven_address.address", "must be canonical: a lower-case email address, or an E.164 number");
        }
        // Clocks of services differ a little; a proof of tomorrow is none.
        let proven = given
            .prove_time
            .and_then(|time| safeconduct_service::wire::timestamp(&time))
            .filter(|time| *time <= now.after(Duration::from_secs(30)))
            .map(|time| time.min(now));
        if proven.is_none() {
            self.add("proven_address.prove_time", "is required and must not lie in the future");
        }
        let (channel, proven) = (channel?, proven?);
        canonical.then_some(ProvenAddress { channel, address: given.address, proven, lifetime })
    }
}

/// ITU-T E.164: a plus, and 7 to 15 digits of which the first is no zero.
fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|c| c.is_ascii_digit())
    })
}

/// What is stored here, as documents: who it is, and each attribute with where it came from.
pub(crate) fn parts(record: &ContactRecord) -> Vec<String> {
    let named = match &record.named {
        Named::Nothing => serde_json::Value::Null,
        Named::User(identifier, value) => serde_json::json!({ identifier.as_str(): value }),
        Named::Lead(channel, address) => serde_json::json!({ channel.as_str(): address }),
    };
    let identity = serde_json::json!({"kind": "identity", "value": named});
    let attributes = record.attributes.iter().map(|(name, kept)| {
        let (value, from) = (&kept.attribute.value, provenance(kept.attribute.provenance));
        let value = serde_json::json!({
            "name": name, "value": value, "provenance": from.as_str_name(), "proof": kept.proof,
            "time_ms": kept.attribute.proof_time.as_millis(),
        });
        serde_json::json!({"kind": "attribute", "value": value})
    });
    let former = record.former.iter().map(|address| serde_json::json!({"kind": "former_address", "value": address}));
    std::iter::once(identity).chain(attributes).chain(former).map(|part| part.to_string()).collect()
}
