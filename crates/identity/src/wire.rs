//! Requests into what they mean, or into everything that is wrong with them; answers into messages.

pub(crate) mod attributes;
pub(crate) mod contacts;
pub(crate) mod proof_keys;

use std::net::IpAddr;
use std::time::Duration;

use safeconduct_identity_domain::assertion::MAX_PRESENTERS;
use safeconduct_identity_domain::contact::{Attribute, Contact, ContactKind, Identifier, Identity};
use safeconduct_identity_domain::token;
use safeconduct_proto::common::v1 as common;
use safeconduct_proto::identity::v1 as pb;
use safeconduct_types::{CallerName, Provenance, Refusal, SecretText, Timestamp, Violation, WorkspaceId};

use crate::issue::Issued;

#[derive(Debug)]
pub(crate) struct StartSession {
    pub(crate) workspace: WorkspaceId,
    pub(crate) presenters: Presenters,
    /// Whether the caller says anything of the person's device. What it says is checked and goes no further yet.
    pub(crate) states_device: bool,
}

#[derive(Debug)]
pub(crate) struct VerifyIdentity {
    pub(crate) workspace: WorkspaceId,
    pub(crate) session_assertion: Option<SecretText>,
    pub(crate) proof: Proof,
    pub(crate) presenters: Presenters,
    pub(crate) states_device: bool,
    /// Where the person's device is, as far as the caller says.
    pub(crate) network: Option<IpAddr>,
}

#[derive(Debug)]
pub(crate) enum Proof {
    UserHash { claimed: Identity, hash: SecretText },
    Token(SecretText),
}

/// Who may present the assertion, as asked; nobody named means the caller itself.
#[derive(Debug)]
pub(crate) struct Presenters(Vec<CallerName>);

impl Presenters {
    pub(crate) fn or_else_caller(self, caller: &CallerName) -> Vec<CallerName> {
        if self.0.is_empty() { vec![caller.clone()] } else { self.0 }
    }
}

/// Collects what is wrong, so that a caller is told once.
#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation::new(field, description));
    }

    fn workspace(&mut self, text: &str) -> Option<WorkspaceId> {
        text.parse().map_err(|error| self.add("workspace_id", format!("{error}"))).ok()
    }

    fn presenters(&mut self, names: &[String]) -> Presenters {
        if names.len() > MAX_PRESENTERS {
            self.add("presenters", format!("must have at most {MAX_PRESENTERS} names"));
            return Presenters(Vec::new());
        }
        let mut presenters = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            match name.parse::<CallerName>() {
                Ok(name) if presenters.contains(&name) => self.add(format!("presenters[{index}]"), "is listed twice"),
                Ok(name) => presenters.push(name),
                Err(error) => self.add(format!("presenters[{index}]"), error.to_string()),
            }
        }
        Presenters(presenters)
    }

    fn device(&mut self, context: Option<&common::ClientContext>) -> bool {
        let Some(context) = context else { return false };
        if !context.ip_address.is_empty() && context.ip_address.parse::<IpAddr>().is_err() {
            self.add("client_context.ip_address", "must be an IPv4 or IPv6 address in text form");
        }
        !context.ip_address.is_empty() || !context.user_agent.is_empty()
    }

    fn proof(&mut self, proof: Option<pb::verify_identity_request::Proof>) -> Option<Proof> {
        match proof {
            Some(pb::verify_identity_request::Proof::UserHash(proof)) => self.user_hash(proof),
            Some(pb::verify_identity_request::Proof::Jwt(jwt)) => {
                if jwt.is_empty() || jwt.len() > token::MAX_LEN {
                    self.add("jwt", "must be a compact token of at most 8192 bytes");
                }
                Some(Proof::Token(SecretText::new(jwt)))
            }
            None => {
                self.add("proof", "is required; send `user_hash` or `jwt`");
                None
            }
        }
    }

    fn user_hash(&mut self, proof: pb::UserHash) -> Option<Proof> {
        let (identifier, value) = match proof.subject {
            Some(pb::user_hash::Subject::UserId(value)) => (Identifier::UserId, value),
            Some(pb::user_hash::Subject::Email(value)) => (Identifier::Email, value),
            None => {
                self.add("user_hash.subject", "is required; send `user_id` or `email`, as the workspace hashes it");
                return None;
            }
        };
        if proof.hash.len() != 64 || !proof.hash.bytes().all(|c| c.is_ascii_hexdigit()) {
            self.add("user_hash.hash", "must be 64 hexadecimal digits");
        }
        let field = format!("user_hash.{}", identifier.as_str());
        match Identity::parse(identifier, &value, &field) {
            Ok(claimed) => Some(Proof::UserHash { claimed, hash: SecretText::new(proof.hash) }),
            Err(violation) => {
                self.0.push(violation);
                None
            }
        }
    }

    /// What was parsed, if nothing was wrong. `None` without a violation cannot be: each parser that gives `None` adds
    /// one.
    fn none<T>(self, parsed: Option<T>) -> Result<T, Refusal> {
        match parsed {
            Some(parsed) if self.0.is_empty() => Ok(parsed),
            Some(_) | None => Err(Refusal::invalid(self.0)),
        }
    }
}

pub(crate) fn start_session(request: &pb::StartSessionRequest) -> Result<StartSession, Refusal> {
    let mut wrong = Violations::default();
    let workspace = wrong.workspace(&request.workspace_id);
    let presenters = wrong.presenters(&request.presenters);
    let states_device = wrong.device(request.client_context.as_ref());
    wrong.none(workspace.map(|workspace| StartSession { workspace, presenters, states_device }))
}

pub(crate) fn verify_identity(request: pb::VerifyIdentityRequest) -> Result<VerifyIdentity, Refusal> {
    let mut wrong = Violations::default();
    let workspace = wrong.workspace(&request.workspace_id);
    let presenters = wrong.presenters(&request.presenters);
    let states_device = wrong.device(request.client_context.as_ref());
    let network = request.client_context.as_ref().and_then(|context| context.ip_address.parse().ok());
    let proof = wrong.proof(request.proof);
    let session_assertion = (!request.session_assertion.is_empty()).then(|| SecretText::new(request.session_assertion));
    wrong.none(workspace.zip(proof).map(|(workspace, proof)| VerifyIdentity {
        workspace,
        session_assertion,
        proof,
        presenters,
        states_device,
        network,
    }))
}

pub(crate) fn session_started(issued: Issued) -> pb::StartSessionResponse {
    pb::StartSessionResponse {
        assertion: issued.assertion,
        session_id: issued.session.id().as_str().to_owned(),
        expire_time: Some(timestamp(issued.validity.expires())),
    }
}

pub(crate) fn identity_verified(issued: Issued) -> pb::VerifyIdentityResponse {
    pb::VerifyIdentityResponse {
        contact: Some(contact(&issued)),
        assertion: issued.assertion,
        expire_time: Some(timestamp(issued.validity.expires())),
        proof_expire_time: Some(timestamp(issued.validity.proof_expires())),
        session_id: issued.session.id().as_str().to_owned(),
    }
}

pub(crate) fn jwks(json: &str, max_age: Duration) -> pb::GetJwksResponse {
    let seconds = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
    pb::GetJwksResponse { jwks_json: json.to_owned(), max_age: Some(prost_types::Duration { seconds, nanos: 0 }) }
}

pub(crate) fn assertion_renewed(issued: Issued) -> pb::RenewAssertionResponse {
    let pb::VerifyIdentityResponse { assertion, contact, expire_time, proof_expire_time, session_id } =
        identity_verified(issued);
    pb::RenewAssertionResponse { assertion, contact, expire_time, proof_expire_time, session_id }
}

pub(crate) fn assertion_issued(issued: Issued) -> pb::IssueAssertionResponse {
    let pb::VerifyIdentityResponse { assertion, contact, expire_time, proof_expire_time, session_id } =
        identity_verified(issued);
    pb::IssueAssertionResponse { assertion, contact, expire_time, proof_expire_time, session_id }
}

/// The contact as its assertion shows it: with the attributes that travel in it.
fn contact(issued: &Issued) -> pb::Contact {
    let Contact { id, kind: of_kind, attributes, .. } = &issued.contact;
    let user_id = attributes.get(Identifier::UserId.as_str()).and_then(|one| one.value.as_str());
    // What is not declared is the identifier, which names the contact; nothing changes it.
    let is_protected = |name: &str| issued.policy.get(name).is_none_or(|rule| rule.protected);
    let record = issued.record.as_ref();
    pb::Contact {
        contact_id: id.as_str().to_owned(),
        kind: kind(*of_kind).into(),
        user_id: user_id.unwrap_or_default().to_owned(),
        attributes: attributes.iter().map(|(name, one)| (name.clone(), attribute(one, is_protected(name)))).collect(),
        create_time: record.map(|record| timestamp(record.created)),
        update_time: record.map(|record| timestamp(record.updated)),
        blocked: false,
    }
}

fn attribute(attribute: &Attribute, protected: bool) -> pb::Attribute {
    pb::Attribute {
        value_json: attribute.value.to_string(),
        provenance: provenance(attribute.provenance).into(),
        prove_time: Some(timestamp(attribute.proof_time)),
        protected,
    }
}

fn kind(kind: ContactKind) -> common::ContactKind {
    match kind {
        ContactKind::Visitor => common::ContactKind::Visitor,
        ContactKind::Lead => common::ContactKind::Lead,
        ContactKind::User => common::ContactKind::User,
    }
}

fn provenance(provenance: Provenance) -> common::Provenance {
    match provenance {
        Provenance::Agent => common::Provenance::Agent,
        Provenance::Client => common::Provenance::Client,
        Provenance::Caller => common::Provenance::Caller,
        Provenance::Constant => common::Provenance::Constant,
        Provenance::OtpSms => common::Provenance::OtpSms,
        Provenance::OtpEmail => common::Provenance::OtpEmail,
        Provenance::Server => common::Provenance::Server,
        Provenance::SignedHash => common::Provenance::SignedHash,
        Provenance::SignedToken => common::Provenance::SignedToken,
    }
}

pub(crate) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let millis = i32::try_from(time.as_millis().rem_euclid(1000)).unwrap_or_default();
    prost_types::Timestamp { seconds: time.as_seconds(), nanos: millis.saturating_mul(1_000_000) }
}
