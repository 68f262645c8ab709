//! Who calls the suite: typed clients with a token, and what a conversation does with them.

use std::time::Duration;

use aws_lc_rs::hmac;
use safeconduct_proto::admission::v1::admission_service_client::AdmissionServiceClient;
use safeconduct_proto::connector::v1 as connector;
use safeconduct_proto::connector::v1::connector_admin_service_client::ConnectorAdminServiceClient;
use safeconduct_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use safeconduct_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use safeconduct_proto::identity::v1 as identity;
use safeconduct_proto::identity::v1::identity_service_client::IdentityServiceClient;
use safeconduct_proto::otp::v1::otp_service_client::OtpServiceClient;
use serde_json::Value;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::site::{MESSENGER_SECRET, WORKSPACE};

/// Time for a call, if the test does not say: more than any call should need.
const TIME: Duration = Duration::from_secs(20);

/// The user hash that the sample's backend makes for this id.
pub fn user_hash(user_id: &str) -> String {
    user_hash_of(MESSENGER_SECRET, user_id)
}

/// The user hash that this secret makes for this id.
pub fn user_hash_of(secret: &str, user_id: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex::encode(hmac::sign(&key, user_id.as_bytes()))
}

/// A customer of the sample shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShopUser {
    /// Three orders: `ord_a1b2c3`, `ord_d4e5f6`, `ord_g7h8i9`.
    Ada,
    /// One order: `ord_z9y8x7`.
    Grace,
}

impl ShopUser {
    /// The id in the shop.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Ada => "cust_ada",
            Self::Grace => "cust_grace",
        }
    }
}

/// Adds a bearer token to every call.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A channel that shows a token.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// A caller with its token.
#[derive(Clone, Debug)]
pub struct Caller {
    identity: Authorized,
    connector: Authorized,
    admission: Authorized,
    otp: Option<Authorized>,
}

/// What an agent asks to be executed.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// For whom.
    pub assertion: String,
    /// What.
    pub connector: String,
    /// With what, as JSON text.
    pub inputs: String,
    /// The idempotency key; empty for none.
    pub key: String,
    /// How long the call may take; none: 20 seconds.
    pub timeout: Option<Duration>,
    /// How long to wait for one that is running already; none: as long as the call may take.
    pub max_wait: Option<Duration>,
}

impl Ask {
    /// This connector with these inputs.
    pub fn new(assertion: &str, connector: &str, inputs: &Value) -> Self {
        Self {
            assertion: assertion.to_owned(),
            connector: connector.to_owned(),
            inputs: inputs.to_string(),
            ..Self::default()
        }
    }

    /// With an idempotency key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// In so much time.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Without waiting for one that is running already.
    #[must_use]
    pub fn at_once(mut self) -> Self {
        self.max_wait = Some(Duration::ZERO);
        self
    }

    /// Waiting so long for one that is running already.
    #[must_use]
    pub fn patient(mut self, wait: Duration) -> Self {
        self.max_wait = Some(wait);
        self
    }

    fn request(&self) -> Request<connector::ExecuteRequest> {
        let message = connector::ExecuteRequest {
            assertion: self.assertion.clone(),
            connector: self.connector.clone(),
            inputs_json: self.inputs.clone(),
            idempotency_key: self.key.clone(),
            max_wait: self.max_wait.and_then(|wait| wait.try_into().ok()),
            ..connector::ExecuteRequest::default()
        };
        let mut request = Request::new(message);
        request.set_timeout(self.timeout.unwrap_or(TIME));
        request
    }
}

impl Caller {
    /// Somebody who shows this token (none if empty) to services at these addresses, connected on first use.
    pub(crate) fn new(token: &str, address: impl Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<Self> {
        let bearer = if token.is_empty() { None } else { Some(format!("Bearer {token}").parse()?) };
        let channel = |service: &str| {
            let endpoint = Endpoint::from_shared(format!("http://{}", address(service)?))?;
            anyhow::Ok(InterceptedService::new(endpoint.connect_lazy(), Bearer(bearer.clone())))
        };
        let (identity, connector) = (channel("identity")?, channel("connector")?);
        // Where a test has only some of the services, it calls only those.
        Ok(Self { identity, connector, admission: channel("admission")?, otp: channel("otp").ok() })
    }

    /// A client of identity.
    pub fn identity(&self) -> IdentityServiceClient<Authorized> {
        IdentityServiceClient::new(self.identity.clone())
    }

    /// A client of otp.
    ///
    /// # Panics
    /// If no process of the suite serves it.
    pub fn otp(&self) -> OtpServiceClient<Authorized> {
        match &self.otp {
            Some(channel) => OtpServiceClient::new(channel.clone()),
            None => panic!("no process of the suite serves otp"),
        }
    }

    /// A client of connector.
    pub fn connector(&self) -> ConnectorServiceClient<Authorized> {
        ConnectorServiceClient::new(self.connector.clone()).max_encoding_message_size(64 << 20)
    }

    /// A client of connector, for operators.
    pub fn operate(&self) -> ConnectorAdminServiceClient<Authorized> {
        ConnectorAdminServiceClient::new(self.connector.clone())
    }

    /// Envoy's rate limit service, which admission serves.
    pub fn rate_limits(&self) -> RateLimitServiceClient<Authorized> {
        RateLimitServiceClient::new(self.admission.clone())
    }

    /// A client of admission.
    pub fn admission(&self) -> AdmissionServiceClient<Authorized> {
        AdmissionServiceClient::new(self.admission.clone())
    }

    /// Proves a user by a hash; the assertion is for these presenters (none: the caller itself).
    pub async fn prove(
        &self,
        user_id: &str,
        hash: &str,
        presenters: &[&str],
    ) -> Result<identity::VerifyIdentityResponse, Status> {
        let proof = identity::UserHash {
            subject: Some(identity::user_hash::Subject::UserId(user_id.to_owned())),
            hash: hash.to_owned(),
        };
        let message = identity::VerifyIdentityRequest {
            workspace_id: WORKSPACE.to_owned(),
            proof: Some(identity::verify_identity_request::Proof::UserHash(proof)),
            presenters: presenters.iter().map(ToString::to_string).collect(),
            ..identity::VerifyIdentityRequest::default()
        };
        self.identity().verify_identity(in_time(message)).await.map(tonic::Response::into_inner)
    }

    /// Proves a customer rightly.
    pub async fn verify(&self, user: ShopUser, presenters: &[&str]) -> Result<String, Status> {
        Ok(self.prove(user.id(), &user_hash(user.id()), presenters).await?.assertion)
    }

    /// Executes.
    pub async fn execute(&self, ask: &Ask) -> Result<connector::Execution, Status> {
        execution(self.connector().execute(ask.request()).await?.into_inner().execution)
    }

    /// Executes as part of a trace (a `traceparent`).
    pub async fn execute_in(&self, ask: &Ask, traceparent: &str) -> Result<connector::Execution, Status> {
        let mut request = ask.request();
        let value = traceparent.parse().map_err(|_| Status::invalid_argument("no traceparent"))?;
        request.metadata_mut().insert("traceparent", value);
        execution(self.connector().execute(request).await?.into_inner().execution)
    }

    /// Reads an execution by its id.
    pub async fn get(&self, assertion: &str, execution_id: &str) -> Result<connector::Execution, Status> {
        let target = connector::ExecutionTarget {
            target: Some(connector::execution_target::Target::ExecutionId(execution_id.to_owned())),
        };
        let message = connector::GetExecutionRequest {
            target: Some(target),
            assertion: assertion.to_owned(),
            ..connector::GetExecutionRequest::default()
        };
        execution(self.connector().get_execution(in_time(message)).await?.into_inner().execution)
    }
}

fn in_time<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIME);
    request
}

fn execution(execution: Option<connector::Execution>) -> Result<connector::Execution, Status> {
    execution.ok_or_else(|| Status::internal("an answer without an execution"))
}
