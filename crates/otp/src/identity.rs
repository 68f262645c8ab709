//! The port through which a proven address becomes an assertion, and its gRPC adapter.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use safeconduct_otp_domain::address::{Address, Channel};
use safeconduct_otp_domain::challenge::VerificationId;
use safeconduct_proto::common::v1 as common;
use safeconduct_proto::identity::v1 as pb;
use safeconduct_proto::identity::v1::identity_service_client::IdentityServiceClient;
use safeconduct_service::channel::{SisterChannel, with_deadline};
use safeconduct_service::status::{from_sister, refusal_in};
use safeconduct_service::wire::{timestamp, to_duration, to_timestamp};
use safeconduct_types::{Clock, Deadline, Refusal, SecretText, Timestamp, WorkspaceId};
use tonic::Code;

/// The longest that identity may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What was proven, by whom, for what.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// Assertion of the session.
    pub assertion: SecretText,
    /// What was proven.
    pub address: Address,
    /// When the right code came in.
    pub at: Timestamp,
    /// For how long the workspace lets that count.
    pub lifetime: Duration,
    /// What the person was told it is for.
    pub purpose: String,
    /// Makes a repeat answer the same.
    pub verification: VerificationId,
}

/// What identity says then. Holds an assertion: not printed.
#[derive(Clone, PartialEq)]
pub struct Issued {
    /// The statement in which the address is proven.
    pub assertion: String,
    /// When the assertion ends.
    pub expires: Option<Timestamp>,
    /// Until when it can be renewed without a new proof.
    pub proof_expires: Option<Timestamp>,
    /// The contact that the session is bound to now.
    pub contact: String,
    /// Lead, or user after a step-up.
    pub kind: common::ContactKind,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Identity, as otp sees it.
#[async_trait]
pub trait IdentityPort: Send + Sync + fmt::Debug + 'static {
    /// Upgrades the session to the contact that this address proves, or adds the address to the user. May be repeated.
    async fn issue_assertion(&self, proven: Proven, deadline: Deadline) -> Result<Issued, Refusal>;
}

/// Identity over gRPC, in process or not.
#[derive(Clone, Debug)]
pub struct GrpcIdentity {
    client: IdentityServiceClient<SisterChannel>,
    clock: Arc<dyn Clock>,
}

impl GrpcIdentity {
    /// Identity at the other end of this channel.
    pub fn new(channel: SisterChannel) -> Self {
        let clock = Arc::clone(channel.clock());
        Self { client: IdentityServiceClient::new(channel), clock }
    }
}

#[async_trait]
impl IdentityPort for GrpcIdentity {
    async fn issue_assertion(&self, proven: Proven, deadline: Deadline) -> Result<Issued, Refusal> {
        let deadline = deadline.earlier(Deadline::within(self.clock.instant(), ANSWER_WITHIN));
        let message = request(proven);
        let mut client = self.client.clone();
        let answered = match client.issue_assertion(with_deadline(message.clone(), Some(deadline))).await {
            // The same operation: what was done is not done twice.
            Err(status) if status.code() == Code::Unavailable && refusal_in(&status).is_none() => {
                client.issue_assertion(with_deadline(message, Some(deadline))).await
            }
            other => other,
        };
        let answer = answered.map_err(|status| from_sister(&status, "identity"))?.into_inner();
        issued(answer).ok_or_else(|| Refusal::internal("identity answered something that cannot be read"))
    }
}

fn request(proven: Proven) -> pb::IssueAssertionRequest {
    let method = match proven.address.channel() {
        Channel::Email => common::VerificationMethod::EmailCode,
        Channel::Sms => common::VerificationMethod::SmsCode,
    };
    pb::IssueAssertionRequest {
        workspace_id: proven.workspace.into(),
        assertion: proven.assertion.expose().to_owned(),
        proven_address: Some(pb::ProvenAddress {
            method: method.into(),
            address: proven.address.as_str().to_owned(),
            prove_time: Some(to_timestamp(proven.at)),
        }),
        purpose: proven.purpose,
        operation_id: proven.verification.to_string(),
        proof_lifetime: Some(to_duration(proven.lifetime)),
    }
}

fn issued(answer: pb::IssueAssertionResponse) -> Option<Issued> {
    let contact = answer.contact?;
    if answer.assertion.is_empty() {
        return None;
    }
    Some(Issued {
        assertion: answer.assertion,
        expires: answer.expire_time.as_ref().and_then(timestamp),
        proof_expires: answer.proof_expire_time.as_ref().and_then(timestamp),
        kind: contact.kind(),
        contact: contact.contact_id,
    })
}
