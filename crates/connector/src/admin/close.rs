//! `DisableConnector` and `EnableConnector`: a mark on a version, a connector, or the whole workspace.

use safeconduct_admission_client::{ClearMark, SetMark};
use safeconduct_proto::connector::v1 as proto;
use safeconduct_service::caller::{Caller, Role};
use safeconduct_service::wire::Fields;
use safeconduct_types::{
    ConnectorName, Deadline, MarkKey, OperationId, Reason, Refusal, Subject, Timestamp, Version, WorkspaceId,
};

use super::Why;
use crate::Service;

/// What is closed or opened, and why.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    workspace: WorkspaceId,
    connector: Option<ConnectorName>,
    version: Option<Version>,
    why: Why,
}

pub(crate) fn parse_disable(request: proto::DisableConnectorRequest) -> Result<Closing, Refusal> {
    parse(&request.workspace_id, &request.connector, &request.version, request.reason)
}

pub(crate) fn parse_enable(request: proto::EnableConnectorRequest) -> Result<Closing, Refusal> {
    parse(&request.workspace_id, &request.connector, &request.version, request.reason)
}

fn parse(workspace: &str, connector: &str, version: &str, reason: String) -> Result<Closing, Refusal> {
    let mut wrong = Fields::new();
    let workspace = wrong.parse("workspace_id", workspace);
    if connector.is_empty() && !version.is_empty() {
        wrong.wrong("connector", "is required with `version`");
    }
    let connector = wrong.optional("connector", connector);
    let version = wrong.optional("version", version);
    let why = Why::parse(&mut wrong, reason);
    wrong.finish()?;
    let Some(workspace) = workspace else { return Err(Refusal::invalid_field("workspace_id", "is required")) };
    Ok(Closing { workspace, connector, version, why })
}

impl Service {
    /// Closes it for all replicas. When that is in force everywhere.
    pub(crate) async fn disable(
        &self,
        caller: &Caller,
        closing: Closing,
        deadline: Deadline,
    ) -> Result<Timestamp, Refusal> {
        let key = self.closed_by(caller, &closing)?;
        let asked = SetMark {
            key: key.clone(),
            effective: None,
            expires: None,
            reason: closing.why.as_str().to_owned(),
            actor: caller.name().to_string(),
            min_epoch: 0,
            operation: OperationId::generate(&*self.random),
        };
        let mark = self.marking.set_mark(asked, deadline).await?;
        audit("disable", caller, &key, &closing.why);
        Ok(mark.effective.after(EVERYWHERE_AFTER))
    }

    /// Opens it again. When that is known everywhere.
    pub(crate) async fn enable(
        &self,
        caller: &Caller,
        closing: Closing,
        deadline: Deadline,
    ) -> Result<Timestamp, Refusal> {
        let key = self.closed_by(caller, &closing)?;
        let operation = OperationId::generate(&*self.random);
        let asked = ClearMark { key: key.clone(), reason: closing.why.as_str().to_owned(), operation };
        self.marking.clear_mark(asked, deadline).await?;
        audit("enable", caller, &key, &closing.why);
        Ok(self.clock.now().after(EVERYWHERE_AFTER))
    }

    /// The mark that closes it.
    fn closed_by(&self, caller: &Caller, closing: &Closing) -> Result<MarkKey, Refusal> {
        caller.require(&[Role::Operator], Some(&closing.workspace))?;
        let tenant = self.workspaces.get(&closing.workspace)?;
        let subject = match (&closing.connector, &closing.version) {
            (None, _) => Subject::WorkspaceDisabled,
            (Some(connector), version) => {
                // Whatever is closed must be there: a name that is misspelt would close nothing.
                match tenant.connector(connector, version.as_ref()) {
                    // There are several, and all are meant.
                    Err(refusal) if version.is_none() && refusal.reason() == Reason::VersionUnknown => {}
                    found => drop(found?),
                }
                match version {
                    Some(version) => Subject::VersionDisabled(connector.clone(), version.clone()),
                    None => Subject::ConnectorDisabled(connector.clone()),
                }
            }
        };
        Ok(MarkKey::new(closing.workspace.clone(), subject))
    }
}

/// Every replica has heard of a mark by then, or knows that it has not.
const EVERYWHERE_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

fn audit(act: &'static str, caller: &Caller, key: &MarkKey, why: &Why) {
    tracing::info!(
        safeconduct.audit = act,
        safeconduct.actor = %caller.name(),
        safeconduct.workspace = %key.workspace,
        safeconduct.mark = ?key.subject,
        safeconduct.audit_reason = why.as_str(),
        "an operator acted"
    );
}
