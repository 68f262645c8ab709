//! Talking to a running suite from the command line.

use std::path::Path;
use std::time::Duration;

use safeconduct_proto::common::v1::guidance::Detail;
use safeconduct_proto::common::v1::{Guidance, VerificationNeeded};
use safeconduct_proto::connector::v1::connector_admin_service_client::ConnectorAdminServiceClient;
use safeconduct_proto::connector::v1::connector_service_client::ConnectorServiceClient;
use safeconduct_proto::identity::v1::identity_service_client::IdentityServiceClient;
use safeconduct_proto::otp::v1::otp_service_client::OtpServiceClient;
use safeconduct_types::SecretText;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::exit::Failure;

/// Long enough for an upstream that takes all of its 15 s.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Puts the caller's token and the time allowed on each request.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        request.set_timeout(TIMEOUT);
        Ok(request)
    }
}

pub(crate) type Authenticated = InterceptedService<Channel, Bearer>;

/// A channel that shows this token.
pub(crate) fn connect(address: &str, token: &SecretText, ca: Option<&Path>) -> Result<Authenticated, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{address}: {error}"));
    let mut endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|_| wrong(&"expected http://host:port or https://host:port"))?
        .connect_timeout(Duration::from_secs(5));
    if let Some(path) = ca {
        let pem = std::fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        endpoint = endpoint.tls_config(tls).map_err(|error| wrong(&error))?;
    }
    let mut header: MetadataValue<Ascii> = format!("Bearer {}", token.expose())
        .parse()
        .map_err(|_| Failure::usage("the token is not one line of text"))?;
    header.set_sensitive(true);
    Ok(InterceptedService::new(endpoint.connect_lazy(), Bearer(header)))
}

pub(crate) fn connector(channel: &Authenticated) -> ConnectorServiceClient<Authenticated> {
    ConnectorServiceClient::new(channel.clone())
}

pub(crate) fn admin(channel: &Authenticated) -> ConnectorAdminServiceClient<Authenticated> {
    ConnectorAdminServiceClient::new(channel.clone())
}

pub(crate) fn identity(channel: &Authenticated) -> IdentityServiceClient<Authenticated> {
    IdentityServiceClient::new(channel.clone())
}

pub(crate) fn otp(channel: &Authenticated) -> OtpServiceClient<Authenticated> {
    OtpServiceClient::new(channel.clone())
}

/// What would have to be verified, if that is why a call was refused.
pub(crate) fn verification_needed(status: &Status) -> Option<VerificationNeeded> {
    match safeconduct_service::status::guidance_in(status)?.detail? {
        Detail::Verification(needed) => Some(needed),
        Detail::Confirmation(_)
        | Detail::Authorization(_)
        | Detail::Limit(_)
        | Detail::Choices(_)
        | Detail::Violations(_) => None,
    }
}

/// A file's text without the line break at its end.
pub(crate) fn read_text(path: &Path) -> Result<SecretText, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("{}: cannot be read ({error})", path.display())))?;
    Ok(SecretText::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Why a call was refused, for people: the reason, what to do, and where to read more.
pub(crate) fn explain(status: &Status) -> String {
    let (code, message) = (status.code(), status.message());
    match reason(status) {
        Some(reason) => {
            format!("refused: {reason} ({code:?})\n  {message}\n  `safeconduct errors {reason}` says more")
        }
        None => {
            format!("failed: {code:?}\n  {message}\n  Nothing is said about the effect: ask again with the same key.")
        }
    }
}

/// The stable reason, if the answer carries one of ours.
pub(crate) fn reason(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == safeconduct_service::status::DOMAIN).then_some(info.reason)
}

/// What the suite says may be done next.
pub(crate) fn agent_text(guidance: Option<&Guidance>) -> &str {
    guidance.map(|guidance| guidance.agent_text.as_str()).unwrap_or_default()
}
