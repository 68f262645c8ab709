//! `GetExecution`: what is known of an execution.

use std::time::Duration;

use safeconduct_admission_client::Target;
use safeconduct_service::caller::{Caller, Role};
use safeconduct_types::{ContactId, Deadline, MarkCheck, Refusal, WorkspaceId};

use crate::execute::{ANSWER_MARGIN, Request};
use crate::marks::Stakes;
use crate::render::Seen;
use crate::run::unknown_execution;
use crate::wire::{Wanted, Which};
use crate::{Service, keys};

/// Between two looks at a record that is waited for.
const PAUSE: Duration = Duration::from_millis(50);

/// Who looks.
struct Looking {
    workspace: WorkspaceId,
    contact: Option<ContactId>,
    /// The marks that end the right to look.
    marks: Vec<MarkCheck>,
}

impl Service {
    /// Shows an execution: to a caller with an assertion of its contact, in any session, and to backend and operator.
    pub(crate) async fn get(&self, caller: &Caller, wanted: Wanted, deadline: Deadline) -> Result<Seen, Refusal> {
        let Looking { workspace, contact, marks } = self.whose(caller, &wanted).await?;
        let patience = Deadline::within(self.clock.instant(), wanted.max_wait.unwrap_or_default())
            .earlier(deadline.sooner(ANSWER_MARGIN));
        loop {
            let seen = self.get_once(&workspace, contact.as_ref(), &wanted.which, deadline).await?;
            // What an agent may not use is not there for it.
            if caller.is(Role::Agent) && !caller.may_use_connector(&seen.intent.connector) {
                return Err(unknown_execution());
            }
            let is_news = wanted.max_wait.is_none()
                || !seen.running
                || seen.revision > wanted.after_revision && wanted.after_revision > 0;
            if is_news || patience.remaining(self.clock.instant()) <= PAUSE {
                return Ok(seen);
            }
            tokio::time::sleep(PAUSE).await;
            if !marks.is_empty() {
                self.heed(marks.clone(), Stakes::Private).await?;
            }
        }
    }

    /// An execution that another request began, waited for as long as this caller wants to wait for its end. The
    /// record is looked at; nothing is lost if nobody looks. Who was shut out meanwhile is told nothing more; what was
    /// closed besides ends nothing that is under way.
    pub(crate) async fn wait_for_end(&self, request: &Request, mut seen: Seen) -> Result<Seen, Refusal> {
        let patience = Deadline::within(self.clock.instant(), request.max_wait.unwrap_or_default())
            .earlier(request.deadline.sooner(ANSWER_MARGIN));
        if !seen.running {
            return Ok(seen);
        }
        let checks: Vec<_> = request.marks.checks.iter().filter(|one| one.key.subject.shuts_out()).cloned().collect();
        while seen.running && patience.remaining(self.clock.instant()) > PAUSE {
            tokio::time::sleep(PAUSE).await;
            let heeded = self.heed(checks.clone(), Stakes::of(&request.connector)).await?;
            if heeded.ask {
                // Nobody here can say whether this caller may still hear of it.
                return Ok(seen);
            }
            let found = self.find(request.tenant.id(), &seen.execution, Some(&request.contact.id), patience).await;
            match found {
                Ok(found) => seen = Seen { replay: seen.replay, ..found },
                // What was seen last is still true.
                Err(_) => return Ok(seen),
            }
        }
        Ok(seen)
    }

    async fn whose(&self, caller: &Caller, wanted: &Wanted) -> Result<Looking, Refusal> {
        if wanted.assertion.is_empty() && (caller.is(Role::Backend) || caller.is(Role::Operator)) {
            let Some(workspace) = wanted.workspace.clone() else {
                return Err(Refusal::invalid_field("workspace_id", "is required where there is no assertion"));
            };
            caller.require(&[Role::Backend, Role::Operator], Some(&workspace))?;
            return Ok(Looking { workspace, contact: wanted.contact.clone(), marks: Vec::new() });
        }
        let verified = self.contacts.verify(&wanted.assertion, caller.name()).await?;
        self.heed(verified.marks(), Stakes::Private).await?;
        caller.require(&[Role::Agent, Role::Backend, Role::Operator], Some(verified.workspace()))?;
        let (workspace, contact) = (verified.workspace(), &verified.contact().id);
        let differs = |field: &'static str| Refusal::invalid_field(field, "differs from the assertion's; leave it out");
        if wanted.workspace.as_ref().is_some_and(|named| named != workspace) {
            return Err(differs("workspace_id"));
        }
        if wanted.contact.as_ref().is_some_and(|named| named != contact) {
            return Err(differs("contact_id"));
        }
        Ok(Looking { workspace: workspace.clone(), contact: Some(contact.clone()), marks: verified.marks() })
    }

    async fn get_once(
        &self,
        workspace: &WorkspaceId,
        contact: Option<&ContactId>,
        which: &Which,
        deadline: Deadline,
    ) -> Result<Seen, Refusal> {
        let (family, key) = match which {
            Which::Id(execution) => return self.find(workspace, execution, contact, deadline).await,
            Which::Key(family, key) => (family, key),
        };
        let Some(contact) = contact else {
            return Err(Refusal::invalid_field("contact_id", "is required to find an execution by its key"));
        };
        let target = Target::Keys {
            contact: contact.clone(),
            keys: vec![keys::of_caller(contact, family, key)],
            fingerprint: None,
        };
        self.look(workspace, Some(contact), target, deadline).await
    }
}
