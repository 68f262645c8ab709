//! `Execute`: the order in which a request is decided.
//!
//! assertion -> parse -> fingerprint -> look up the key (a hit answers) -> bind -> rehearse -> choices -> admit (the
//! record is the execution from here on) -> send, conclude, settle (in [`crate::run`]) -> render.
//!
//! Everything up to `admit` refuses with a status that says "no effect". From then on only an execution is answered.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{Admit, AdmitAnswer, Key, Lookup, LookupAnswer, Target};
use safeconduct_connector_domain::bind::{Binding, BoundInputs, CallerRole, Supplied, bind};
use safeconduct_connector_domain::contact::ContactView;
use safeconduct_connector_domain::definition::{Connector, Effect};
use safeconduct_connector_domain::execution::{FailureClass, State, StoredIntent, StoredOutcome};
use safeconduct_connector_domain::fingerprint::Digest;
use safeconduct_connector_domain::plan::{plan, rehearse};
use safeconduct_connector_domain::projection::Shaped;
use safeconduct_connector_domain::upstream_key;
use safeconduct_service::caller::{Caller, Effect as CallerEffect, Role};
use safeconduct_telemetry::propagate;
use safeconduct_types::{ContactId, Deadline, ExecutionId, OperationId, Reason, Refusal};
use serde_json::Value;
use tracing::Instrument as _;

use crate::admit::{Begun, Prepared};
use crate::attempt::{Attempting, Before, SHORTEST_CALL};
use crate::contacts::view;
use crate::render::Seen;
use crate::vault::Owner;
use crate::wire::Asked;
use crate::workspaces::{Reachable, Tenant};
use crate::{Service, keys};

/// All of a call, retries included (M12).
const CALL_BUDGET: Duration = Duration::from_secs(15);
/// The answer leaves this long before the caller's deadline, so that it arrives.
pub(crate) const ANSWER_MARGIN: Duration = Duration::from_millis(250);
/// Between the upstream's answer and ours: to conclude and to settle.
const SETTLE_MARGIN: Duration = Duration::from_millis(150);
/// A request that is being decided.
pub(crate) struct Request {
    pub(crate) caller: Arc<Caller>,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) connector: Arc<Connector>,
    pub(crate) contact: ContactView,
    pub(crate) keys: Vec<Key>,
    pub(crate) fingerprint: Digest,
    /// When the caller stops listening.
    pub(crate) deadline: Deadline,
    /// How long the caller wants to wait for the end.
    pub(crate) max_wait: Option<Duration>,
}

impl Service {
    /// Executes a connector for the contact of the assertion.
    pub(crate) async fn execute(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        asked: Asked,
        deadline: Deadline,
    ) -> Result<Seen, Refusal> {
        let verified = self.contacts.verify(&asked.assertion, caller.name()).await?;
        let tenant = Arc::clone(self.workspaces.get(verified.workspace())?);
        self.describe(verified.workspace(), &verified.contact().id);
        caller.require(&[Role::Agent, Role::Backend], Some(tenant.id()))?;
        if asked.says_client_context && caller.is(Role::Agent) {
            let detail = "an agent does not see the device; leave out `client_context`";
            return Err(Refusal::new(Reason::CallerNotAllowed, detail));
        }
        let connector = Arc::clone(tenant.connector(&asked.connector, asked.version.as_ref())?);
        caller.require_connector(&connector.name, effect_of(&connector))?;
        let role = if caller.is(Role::Backend) { CallerRole::Backend } else { CallerRole::Other };
        let supplied = Supplied::parse(&asked.inputs, &asked.caller_inputs, role)?;
        let contact = view(&verified);
        let bound = bind(&connector, &contact, &supplied, self.clock.now());
        let same = match (&connector.idempotency, &bound) {
            (Some(idempotency), Ok(binding)) => Some(binding.same(&idempotency.same)),
            _ => None,
        };
        let request = Request {
            caller: Arc::clone(caller),
            keys: keys::of_request(&contact.id, &connector.name, asked.key.as_deref(), same.as_ref()),
            fingerprint: supplied.fingerprint(&connector.name),
            tenant,
            connector,
            contact,
            deadline,
            max_wait: asked.max_wait,
        };
        // A repeat is answered here, before anything else could refuse what was done long ago.
        if let Some(seen) = self.look_up(&request).await? {
            return Ok(self.wait_for_end(&request, seen).await);
        }
        let binding = bound?;
        let call_deadline = self.call_deadline(deadline)?;
        rehearse_request(&request, &binding)?;
        let inputs = self.check_choices(&request, binding, call_deadline).await?;
        if request.keys.is_empty() {
            return self.read(&request, &inputs, &asked, call_deadline).await;
        }
        self.admit(request, inputs, asked, call_deadline).await
    }

    /// When the upstream must have answered, so that there is time to say so.
    pub(crate) fn call_deadline(&self, deadline: Deadline) -> Result<Deadline, Refusal> {
        let now = self.clock.instant();
        let by = deadline.sooner(ANSWER_MARGIN + SETTLE_MARGIN).earlier(Deadline::within(now, CALL_BUDGET));
        if by.remaining(now) < SHORTEST_CALL {
            let detail = "the deadline leaves too little time to call the upstream; allow at least 1 s, better 16 s";
            return Err(Refusal::new(Reason::DeadlineTooShort, detail));
        }
        Ok(by)
    }

    async fn look_up(self: &Arc<Self>, request: &Request) -> Result<Option<Seen>, Refusal> {
        if request.keys.is_empty() {
            return Ok(None);
        }
        let asked = Lookup {
            workspace: request.tenant.id().clone(),
            operation: OperationId::generate(&*self.random),
            target: Target::Keys {
                contact: request.contact.id.clone(),
                keys: request.keys.clone(),
                fingerprint: Some(*request.fingerprint.as_bytes()),
            },
        };
        match self.admission.lookup(asked, request.deadline).await? {
            LookupAnswer::Absent => Ok(None),
            LookupAnswer::Replay(record) | LookupAnswer::Running(record) => self.replay(request, record).map(Some),
            LookupAnswer::Unknown(record) => self.recall(request, record).await.map(Some),
            LookupAnswer::KeyReused => Err(key_reused()),
        }
    }

    /// Reads the lists that the inputs must be picked from, for this contact, and holds the inputs against them.
    async fn check_choices(
        &self,
        request: &Request,
        mut binding: Binding,
        deadline: Deadline,
    ) -> Result<BoundInputs, Refusal> {
        let lists: Vec<_> = binding.lists().into_iter().cloned().collect();
        for name in lists {
            let list = Arc::clone(request.tenant.connector(&name, None)?);
            let span = tracing::info_span!("connector.choices", safeconduct.connector = %name);
            let shaped = self.list(request, &list, deadline).instrument(span).await?;
            binding.check_list(&name, &shaped)?;
        }
        binding.complete()
    }

    async fn list(&self, request: &Request, list: &Connector, deadline: Deadline) -> Result<Shaped, Refusal> {
        let binding = bind(list, &request.contact, &Supplied::nothing(), self.clock.now())?;
        let inputs = binding.complete()?;
        let outcome = self.send_read(&request.tenant, list, &inputs, deadline).await?;
        let output = outcome.output_json.as_deref().map(serde_json::from_str::<Value>);
        match (outcome.state, output) {
            (State::Succeeded, Some(Ok(output))) => Ok(Shaped { output, truncated: outcome.truncated }),
            _ => Err(Refusal::new(
                Reason::ChoicesIncomplete,
                format!("the contact's list `{}` could not be read, so nothing was decided; try again", list.name),
            )
            .with_retry_after(Duration::from_secs(1))
            .with_metadata("list", list.name.as_str())),
        }
    }

    async fn send_read(
        &self,
        tenant: &Tenant,
        connector: &Connector,
        inputs: &BoundInputs,
        deadline: Deadline,
    ) -> Result<StoredOutcome, Refusal> {
        let upstream = tenant.upstream(connector)?;
        let credential = tenant.credential(upstream)?;
        let plan = plan(connector, inputs, &upstream.base, None)?;
        let attempting = Attempting {
            connector,
            upstream,
            credential: credential.as_ref(),
            clock: &*self.clock,
            random: &*self.random,
            deadline,
            before: Before::NOTHING,
        };
        Ok(attempting.run(&plan, || true).await)
    }

    /// A read without a key changes nothing and is recorded nowhere.
    async fn read(
        &self,
        request: &Request,
        inputs: &BoundInputs,
        asked: &Asked,
        deadline: Deadline,
    ) -> Result<Seen, Refusal> {
        let intent = self.intent(request, inputs, asked, request.tenant.upstream(&request.connector)?);
        let outcome = self.send_read(&request.tenant, &request.connector, inputs, deadline).await?;
        record_outcome(&outcome);
        Ok(Seen {
            execution: ExecutionId::generate(request.tenant.id(), &request.contact.id, &*self.random),
            created: intent.started,
            intent,
            settled: Some(outcome.ended),
            outcome: Some(outcome),
            running: false,
            released: false,
            revision: 1,
            expires: None,
            replay: None,
            resent: false,
        })
    }

    fn intent(&self, request: &Request, inputs: &BoundInputs, asked: &Asked, upstream: &Reachable) -> StoredIntent {
        let label = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        StoredIntent {
            request_id: label(&asked.request_id),
            conversation_id: label(&asked.conversation_id),
            trace_id: propagate::current_trace_id(),
            ..StoredIntent::new(&request.connector, &request.contact.id, inputs, &upstream.base, self.clock.now())
        }
    }

    async fn admit(
        self: &Arc<Self>,
        request: Request,
        inputs: BoundInputs,
        asked: Asked,
        call_deadline: Deadline,
    ) -> Result<Seen, Refusal> {
        let execution = ExecutionId::generate(request.tenant.id(), &request.contact.id, &*self.random);
        let upstream = request.tenant.upstream(&request.connector)?;
        let intent = self.intent(&request, &inputs, &asked, upstream);
        let credential = request.tenant.credential(upstream)?;
        let owner = Owner { workspace: request.tenant.id(), execution: &execution };
        let admit = Admit {
            workspace: request.tenant.id().clone(),
            contact: request.contact.id.clone(),
            intent: self.vault.seal_intent(owner, &intent)?,
            execution,
            operation: OperationId::generate(&*self.random),
            keys: request.keys.clone(),
            fingerprint: *request.fingerprint.as_bytes(),
            retain: request.connector.idempotency.as_ref().map(|one| one.retain),
            lease: self.settings.lease,
            resume: None,
        };
        let connector = Arc::clone(&request.connector);
        let prepared = Prepared { connector, inputs, intent, credential, call_deadline, admit };
        let answer = match self.begin(&request, prepared).await? {
            Begun::Made(seen) => return Ok(*seen),
            Begun::Answered(answer) => *answer,
        };
        match answer {
            AdmitAnswer::Replay(record) | AdmitAnswer::Running(record) => {
                let seen = self.replay(&request, record)?;
                Ok(self.wait_for_end(&request, seen).await)
            }
            AdmitAnswer::Unknown(record) => self.recall(&request, record).await,
            AdmitAnswer::KeyReused => Err(key_reused()),
            AdmitAnswer::Admitted(_) => Err(Refusal::internal("an admission was not used")),
        }
    }

    fn describe(&self, workspace: &safeconduct_types::WorkspaceId, contact: &ContactId) {
        let span = tracing::Span::current();
        span.record("safeconduct.workspace", workspace.as_str());
        span.record("safeconduct.contact", self.trace_names.hash(workspace, contact.as_str()));
    }
}

/// Whatever the request could be refused for shows here, before anything is read or recorded.
fn rehearse_request(request: &Request, binding: &Binding) -> Result<(), Refusal> {
    let upstream = request.tenant.upstream(&request.connector)?;
    let idempotency = request.connector.idempotency.as_ref();
    let key = idempotency
        .filter(|one| one.upstream_key.is_some())
        .map(|one| upstream_key::derive(&request.connector.name, &request.contact.id, &binding.same(&one.same), 0));
    rehearse(&request.connector, binding, &upstream.base, key.as_deref())
}

pub(crate) fn record_outcome(outcome: &StoredOutcome) {
    let span = tracing::Span::current();
    span.record("safeconduct.state", tracing::field::debug(outcome.state));
    if let Some(class) = outcome.failure.as_ref().map(|failure: &_| class_name(failure.class)) {
        span.record("safeconduct.failure_class", class);
    }
}

const fn class_name(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Retryable => "RETRYABLE",
        FailureClass::Gone => "GONE",
        FailureClass::Unauthorized => "UNAUTHORIZED",
        FailureClass::Rejected => "REJECTED",
        FailureClass::InvalidResponse => "INVALID_RESPONSE",
        FailureClass::Timeout => "TIMEOUT",
    }
}

pub(crate) const fn effect_of(connector: &Connector) -> CallerEffect {
    match connector.effect {
        Effect::Read => CallerEffect::Read,
        Effect::Write => CallerEffect::Write,
    }
}

fn key_reused() -> Refusal {
    Refusal::new(
        Reason::IdempotencyKeyReused,
        "the idempotency key stands for another request; use a new key for a new request",
    )
}
