//! The workspaces in force: their definitions, and a client for each of their upstreams.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use safeconduct_connector_domain::definition::{Connector, UpstreamName};
use safeconduct_connector_domain::workspace::{Credential, StaticCredential, Workspace};
use safeconduct_egress::{AddressPolicy, Target, TargetError, Upstream, UpstreamOptions, client_tls};
use safeconduct_service::secrets::Secrets;
use safeconduct_types::{Clock, ConnectorName, Reason, Refusal, Version, WorkspaceId};
use url::Url;
use zeroize::Zeroizing;

/// Why a workspace's upstreams cannot be called at all.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The machine has no usable trust roots.
    #[error("TLS cannot be set up: {0}; install the system's CA certificates")]
    Tls(String),
    /// An upstream's URL.
    #[error("upstream `{upstream}` of workspace `{workspace}`: {error}")]
    Target {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        upstream: String,
        /// What is wrong.
        error: TargetError,
    },
}

/// All workspaces.
#[derive(Debug)]
pub struct Workspaces {
    all: BTreeMap<WorkspaceId, Arc<Tenant>>,
}

/// One workspace in force.
#[derive(Debug)]
pub(crate) struct Tenant {
    workspace: Arc<Workspace>,
    upstreams: BTreeMap<UpstreamName, Reachable>,
    secrets: Arc<Secrets>,
}

/// An upstream, with what a request to it needs.
#[derive(Debug)]
pub(crate) struct Reachable {
    pub(crate) client: Upstream,
    pub(crate) base: Url,
    credential: Option<StaticCredential>,
}

/// The header that makes a request the workspace's own. Put on last; shown to nobody.
pub(crate) struct CredentialHeader {
    pub(crate) name: HeaderName,
    pub(crate) value: HeaderValue,
}

impl fmt::Debug for CredentialHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialHeader").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Workspaces {
    /// Sets up the upstreams of these workspaces.
    pub fn new(
        workspaces: impl IntoIterator<Item = Arc<Workspace>>,
        secrets: &Arc<Secrets>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, SetUpError> {
        let tls = client_tls().map_err(|error| SetUpError::Tls(error.to_string()))?;
        let mut all = BTreeMap::new();
        for workspace in workspaces {
            let mut upstreams = BTreeMap::new();
            for (name, upstream) in &workspace.upstreams {
                let wrong =
                    |error| SetUpError::Target { workspace: workspace.id.clone(), upstream: name.to_string(), error };
                let target = Target::parse(upstream.url.as_str(), upstream.insecure_http).map_err(wrong)?;
                let policy = AddressPolicy::allowing(upstream.allow_addresses.clone());
                let client = Upstream::new(target, policy, tls.clone(), UpstreamOptions::default(), Arc::clone(clock));
                let credential = upstream.credential.as_ref().and_then(|name| workspace.credentials.get(name));
                let credential = credential.map(|Credential::Static(one)| one.clone());
                upstreams.insert(name.clone(), Reachable { client, base: upstream.url.clone(), credential });
            }
            let id = workspace.id.clone();
            all.insert(id, Arc::new(Tenant { workspace, upstreams, secrets: Arc::clone(secrets) }));
        }
        Ok(Self { all })
    }

    /// Every version of every connector.
    pub(crate) fn connectors(&self) -> impl Iterator<Item = &Connector> {
        let families = self.all.values().flat_map(|tenant| tenant.workspace.connectors.values());
        families.flat_map(|family| family.versions.values()).map(AsRef::as_ref)
    }

    pub(crate) fn get(&self, id: &WorkspaceId) -> Result<&Arc<Tenant>, Refusal> {
        self.all.get(id).ok_or_else(|| {
            Refusal::new(
                Reason::WorkspaceUnknown,
                format!("there is no workspace `{id}` here; check its id and its files"),
            )
        })
    }
}

impl Tenant {
    pub(crate) fn id(&self) -> &WorkspaceId {
        &self.workspace.id
    }

    pub(crate) fn connector(
        &self,
        name: &ConnectorName,
        version: Option<&Version>,
    ) -> Result<&Arc<Connector>, Refusal> {
        self.workspace.connector(name, version).map_err(|missing| {
            let detail = match version {
                Some(version) => format!("the workspace has no connector `{name}` in version `{version}`"),
                None if missing.reason() == Reason::VersionUnknown => {
                    format!("`{name}` has several versions and no release says which one is live; name a version")
                }
                None => format!("the workspace has no connector `{name}`"),
            };
            Refusal::new(missing.reason(), detail)
        })
    }

    pub(crate) fn upstream(&self, connector: &Connector) -> Result<&Reachable, Refusal> {
        let name = &connector.request.upstream;
        self.upstreams.get(name).ok_or_else(|| Refusal::internal(format!("upstream `{name}` is not set up")))
    }

    /// The credential's header as it is now.
    pub(crate) fn credential(&self, upstream: &Reachable) -> Result<Option<CredentialHeader>, Refusal> {
        let Some(credential) = &upstream.credential else { return Ok(None) };
        // The message names file and variable: for the operator's log, not for the caller.
        let secret = self.secrets.get(self.id(), credential.secret.as_str()).map_err(|error| {
            tracing::error!(%error, "a credential is not to be had");
            Refusal::internal("the upstream's credential is not to be had; the operator finds the reason in the log")
        })?;
        let mut text = Zeroizing::new(credential.prefix.clone().into_bytes());
        text.extend_from_slice(secret.expose());
        let unusable = |_| Refusal::internal("the upstream's credential cannot be sent as a header");
        let name = HeaderName::from_bytes(credential.header.as_bytes())
            .map_err(|_| Refusal::internal("the upstream's credential names no header"))?;
        let mut value = HeaderValue::from_bytes(&text).map_err(unusable)?;
        value.set_sensitive(true);
        Ok(Some(CredentialHeader { name, value }))
    }
}
