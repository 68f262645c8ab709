//! Which service is calling, and what it may do.
//!
//! Threat model: anybody who reaches the port can send any metadata. So a [`Caller`] is only ever made from the
//! configuration, by [`Authenticator::authenticate`] out of a credential that verified, or by this process for
//! itself ([`crate::layers::InProcess`]). Nothing is allowed that is not listed. Tokens are in no message, log or debug output.

mod authenticate;
mod jwks;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use safeconduct_types::{CallerName, ConnectorName, Reason, Refusal, WorkspaceId};
use tonic::Status;

pub use authenticate::Authenticator;

/// What a caller may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// An AI runtime or a workflow: executes connectors for a contact. Excludes messenger, backend and operator.
    Agent,
    /// The channel to the person: may verify, update attributes as the client, confirm.
    Messenger,
    /// The customer's backend: its word on attributes counts as the server's.
    Backend,
    /// Operates the suite.
    Operator,
    /// A gateway that asks for rate limits.
    Gateway,
    /// One of the suite's own services.
    Service,
}

impl Role {
    /// Its name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Messenger => "messenger",
            Self::Backend => "backend",
            Self::Operator => "operator",
            Self::Gateway => "gateway",
            Self::Service => "service",
        }
    }
}

/// What an execution does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// It only reads.
    Read,
    /// It changes something.
    Write,
}

/// Which of many: all, or those that are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope<T> {
    /// All of them.
    All,
    /// These only.
    Only(BTreeSet<T>),
}

impl<T: Ord> Scope<T> {
    /// Whether `item` is in it.
    pub fn contains(&self, item: &T) -> bool {
        match self {
            Self::All => true,
            Self::Only(items) => items.contains(item),
        }
    }
}

/// A service that proved who it is. In the extensions of every request as `Arc<Caller>`.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(crate) name: CallerName,
    pub(crate) roles: BTreeSet<Role>,
    pub(crate) workspaces: Scope<WorkspaceId>,
    pub(crate) connectors: Scope<ConnectorName>,
    pub(crate) effects: BTreeSet<Effect>,
    pub(crate) domains: Scope<String>,
}

impl Caller {
    /// The suite's own service of this name, calling in process: role service, everywhere, and no connectors.
    fn sister(name: CallerName) -> Self {
        Self {
            name,
            roles: BTreeSet::from([Role::Service]),
            workspaces: Scope::All,
            connectors: Scope::Only(BTreeSet::new()),
            effects: BTreeSet::new(),
            domains: Scope::Only(BTreeSet::new()),
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &CallerName {
        &self.name
    }

    /// Whether it has this role.
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Refuses unless the caller has one of the roles and, if a workspace is named, may act in it. The refusal is
    /// the same whether the workspace exists or not.
    pub fn require(&self, any_of: &[Role], workspace: Option<&WorkspaceId>) -> Result<(), Refusal> {
        if !any_of.iter().any(|role| self.is(*role)) {
            let names: Vec<_> = any_of.iter().map(|role| role.as_str()).collect();
            return Err(self.refused(&format!("this call is for callers with role {}", names.join(" or "))));
        }
        match workspace {
            Some(workspace) if !self.workspaces.contains(workspace) => {
                Err(self.refused(&format!("it may not act in workspace `{workspace}`")))
            }
            _ => Ok(()),
        }
    }

    /// Whether this connector is among those that it may execute.
    pub fn may_use_connector(&self, connector: &ConnectorName) -> bool {
        self.connectors.contains(connector)
    }

    /// Whether its executions may do this.
    pub fn may_effect(&self, effect: Effect) -> bool {
        self.effects.contains(&effect)
    }

    /// Refuses unless the caller may execute this connector with this effect.
    pub fn require_connector(&self, connector: &ConnectorName, effect: Effect) -> Result<(), Refusal> {
        if !self.may_use_connector(connector) {
            return Err(self.refused(&format!("it may not use connector `{connector}`")));
        }
        if !self.may_effect(effect) {
            let what = match effect {
                Effect::Read => "reads",
                Effect::Write => "changes something",
            };
            return Err(self.refused(&format!("it may not use a connector that {what}")));
        }
        Ok(())
    }

    /// Refuses unless the caller is a gateway that may ask about this domain of limits. The refusal is the same whether
    /// there are limits for it or not.
    pub fn require_domain(&self, domain: &str) -> Result<(), Refusal> {
        self.require(&[Role::Gateway], None)?;
        let may = match &self.domains {
            Scope::All => true,
            Scope::Only(domains) => domains.contains(domain),
        };
        if may { Ok(()) } else { Err(self.refused("it may not ask about the limits of this domain")) }
    }

    fn refused(&self, why: &str) -> Refusal {
        let detail = format!("caller `{}`: {why}; its entry in [[callers]] says what it may do", self.name);
        Refusal::new(Reason::CallerNotAllowed, detail).with_metadata("caller", self.name.as_str())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The caller of a request, as the caller layer found it.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<&Arc<Caller>, Status> {
    request.extensions().get::<Arc<Caller>>().ok_or_else(|| {
        // No layer, no caller: a service that was mounted without its layers must not answer anybody.
        crate::status::to_status(&Refusal::new(Reason::CallerUnauthenticated, "the call has no authenticated caller"))
    })
}

#[cfg(test)]
mod tests;
