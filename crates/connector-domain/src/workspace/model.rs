//! The typed workspace. Built by `load` alone, after every check has passed.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use safeconduct_types::{ConnectorName, Reason, Version, WorkspaceId};
use serde_json::Value;
use url::Url;

use crate::definition::{Connector, DefinitionDigest, SecretName, UpstreamName};
use crate::diagnostic::Place;

/// A tenant. What stands in here passed every check, all of it together.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// The IANA time zone in which its calendar days begin.
    pub timezone: String,
    /// How contacts are identified, not yet read: that rule belongs to identity.
    pub identity: Option<RawSection>,
    /// The attributes that contacts may have, not yet read: name -> settings.
    pub attributes: Option<RawSection>,
    /// How contacts prove addresses, not yet read: that rule belongs to otp.
    pub otp: Option<RawSection>,
    /// The APIs that its connectors may call.
    pub upstreams: BTreeMap<UpstreamName, Upstream>,
    /// What opens them.
    pub credentials: BTreeMap<SecretName, Credential>,
    /// Its connectors, all versions of a name together.
    pub connectors: BTreeMap<ConnectorName, Family>,
    /// Of all its documents as JSON: replicas that have the same one have the same workspace.
    pub digest: DefinitionDigest,
}

/// A part of the file that another crate reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSection {
    /// The sub-tree, as JSON.
    pub value: Value,
    /// Where it begins.
    pub place: Place,
}

/// All versions of one connector.
#[derive(Clone, Debug)]
pub struct Family {
    /// The versions, by name.
    pub versions: BTreeMap<Version, Arc<Connector>>,
    /// What an execution runs that names no version: what the release says, or else the only one. `None` if there
    /// are several and no release: nobody guesses.
    pub live: Option<Version>,
}

/// Why a connector is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// The workspace has no connector of this name.
    Connector,
    /// The connector has no such version.
    Version,
    /// There are several versions, none is released, and none was named.
    Release,
}

impl NotFound {
    /// The reason that a caller sees.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Connector => Reason::ConnectorUnknown,
            Self::Version | Self::Release => Reason::VersionUnknown,
        }
    }
}

impl Workspace {
    /// The named version of a connector, or the live one.
    pub fn connector(&self, name: &ConnectorName, version: Option<&Version>) -> Result<&Arc<Connector>, NotFound> {
        let family = self.connectors.get(name).ok_or(NotFound::Connector)?;
        let version = version.or(family.live.as_ref()).ok_or(NotFound::Release)?;
        family.versions.get(version).ok_or(NotFound::Version)
    }
}

/// An API that connectors may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Where it is: scheme, host, port and a path in front of every request's path.
    pub url: Url,
    /// Where its sandbox is.
    pub sandbox: Option<Url>,
    /// What opens it.
    pub credential: Option<SecretName>,
    /// Whether `http://` is allowed. Only for what never leaves the machine.
    pub insecure_http: bool,
    /// Addresses that are allowed although the policy would refuse them.
    pub allow_addresses: Vec<IpNet>,
}

/// What opens an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The same header in every request.
    Static(StaticCredential),
}

/// A header that holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticCredential {
    /// The header's lower-case name.
    pub header: String,
    /// What stands before the secret, `Bearer ` for instance.
    pub prefix: String,
    /// The secret's name.
    pub secret: SecretName,
}
