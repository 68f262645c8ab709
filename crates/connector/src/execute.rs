//! `Execute`: the order in which a request is decided.
//!
//! assertion -> parse -> fingerprint -> look up the key (a hit answers), take the rates -> bind -> rehearse -> choices ->
//! admit, which takes the caps (the record is the execution from here on) -> send, conclude, settle (in [`crate::run`]) ->
//! render.
//!
//! Everything up to `admit` refuses with a status that says "no effect". From then on only an execution is answered.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{
    Admit, AdmitAnswer, Charge, Key, Lookup, LookupAnswer, Remaining, Take, TakeAnswer, Target, closed,
};
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
use safeconduct_types::{ContactId, Deadline, ExecutionId, MarkCheck, OperationId, Reason, Refusal};
use serde_json::Value;
use tracing::Instrument as _;

use crate::admit::{Begun, Prepared};
use crate::attempt::{Attempting, Before, SHORTEST_CALL};
use crate::contacts::view;
use crate::marks::{Heeded, Reading, Stakes, of_connector};
use crate::render::Seen;
use crate::vault::Owner;
use crate::wire::Asked;
use crate::workspaces::{Reachable, Tenant};
use crate::{Service, keys, limits};

/// All of a call, retries included (M12).
const CALL_BUDGET: Duration = Duration::from_secs(15);
/// The answer leaves this long before the caller's deadline, so that it arrives.
pub(crate) const ANSWER_MARGIN: Duration = Duration::from_millis(250);
/// Between the upstream's answer and ours: to conclude and to settle.
const SETTLE_MARGIN: Duration = Duration::from_millis(150);
/// The longest that admission holds a duplicate for the end of the first.
const LONGEST_JOIN: Duration = Duration::from_secs(15);
/// How long a record is kept that nobody can ask for again: it only holds what was reserved.
const KEYLESS_RETAIN: Duration = Duration::from_mins(1);

/// A request that is being decided.
pub(crate) struct Request {
    pub(crate) caller: Arc<Caller>,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) connector: Arc<Connector>,
    pub(crate) contact: ContactView,
    /// The marks that it must not meet.
    pub(crate) marks: Heeded,
    pub(crate) keys: Vec<Key>,
    pub(crate) fingerprint: Digest,
    /// When the caller stops listening.
    pub(crate) deadline: Deadline,
    /// How long the caller wants to wait for the end.
    pub(crate) max_wait: Option<Duration>,
}

/// What the look-up found.
enum Looked {
    /// An earlier execution.
    Found(Box<Seen>),
    /// Nothing; what is left of the rates.
    Absent(Vec<Remaining>),
    /// The store is gone, and the definition lets the request go ahead.
    WithoutStore(Vec<Remaining>),
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
        let mut marks = verified.marks();
        marks.extend(of_connector(tenant.id(), &connector));
        let marks = self.heed(marks, Stakes::of(&connector)).await?;
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
            marks,
            deadline,
            max_wait: asked.max_wait,
        };
        // A repeat is answered here, before anything else could refuse what was done long ago.
        let rates =
            bound.as_ref().map_or_else(|_| Ok(Vec::new()), |binding| limits::rates(&request.connector, binding))?;
        let (left, has_store) = match self.look_up(&request, rates).await? {
            Looked::Found(seen) => return self.wait_for_end(&request, *seen).await,
            Looked::Absent(left) => (left, true),
            Looked::WithoutStore(left) => (left, false),
        };
        let binding = bound?;
        let call_deadline = self.call_deadline(deadline)?;
        rehearse_request(&request, &binding)?;
        let inputs = self.check_choices(&request, binding, call_deadline).await?;
        let caps = limits::caps(&request.connector, &inputs)?;
        if !has_store || request.keys.is_empty() && caps.is_empty() {
            return self.read(&request, &inputs, &asked, (call_deadline, left)).await;
        }
        self.admit(request, inputs, asked, call_deadline, (caps, left)).await
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

    /// Whether it was asked for before; if not, its rates are taken.
    async fn look_up(self: &Arc<Self>, request: &Request, rates: Vec<Charge>) -> Result<Looked, Refusal> {
        if request.keys.is_empty() && rates.is_empty() && !request.marks.ask {
            return Ok(Looked::Absent(Vec::new()));
        }
        let contact = request.contact.id.clone();
        let target = if request.keys.is_empty() {
            Target::Nothing { contact: Some(contact) }
        } else {
            let fingerprint = Some(*request.fingerprint.as_bytes());
            Target::Keys { contact, keys: request.keys.clone(), fingerprint }
        };
        let asked = Lookup {
            workspace: request.tenant.id().clone(),
            operation: OperationId::generate(&*self.random),
            target,
            charges: rates.clone(),
            marks: request.marks.for_look_up(),
        };
        let found = match self.admission.lookup(asked, request.deadline).await {
            Ok(LookupAnswer::Absent(taken)) => return Ok(Looked::Absent(taken.remaining)),
            Ok(LookupAnswer::Replay(record) | LookupAnswer::Running(record)) => self.replay(request, record)?,
            Ok(LookupAnswer::Unknown(record)) => self.recall(request, record).await?,
            Ok(LookupAnswer::KeyReused) => return Err(key_reused()),
            Ok(LookupAnswer::Denied(denied)) => return Err(limits::denied(&denied)),
            Ok(LookupAnswer::Marked(mark)) => return Err(closed(&mark)),
            Err(refusal) => {
                return self.without_store(request, &request.connector, &rates, refusal).map(Looked::WithoutStore);
            }
        };
        Ok(Looked::Found(Box::new(found)))
    }

    /// After the store was found gone: what the definition says, under rates that this process counts by itself.
    fn without_store(
        &self,
        request: &Request,
        connector: &Connector,
        rates: &[Charge],
        refusal: Refusal,
    ) -> Result<Vec<Remaining>, Refusal> {
        if !limits::goes_ahead(connector, &refusal) {
            return Err(limits::hinted(refusal));
        }
        tracing::Span::current().record("safeconduct.decision", "without_store");
        let whose = (request.tenant.id(), &request.contact.id);
        self.local_rates.take(whose, rates, self.clock.instant()).map_err(|denied| limits::denied(&denied))
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
        let mut marks = request.marks.checks.to_vec();
        marks.extend(of_connector(request.tenant.id(), list));
        let stakes = Stakes::of_list(&request.connector, list);
        let marks = self.heed(marks, stakes).await?;
        let rates = limits::rates(list, &binding)?;
        let inputs = binding.complete()?;
        self.take(request, list, &marks, rates, limits::caps(list, &inputs)?).await?;
        let reading = self.reading(request, &marks.checks, stakes);
        let outcome = self.send_read(&request.tenant, list, &inputs, deadline, &reading).await?;
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

    /// A look-up is counted like any call, by the limits of the connector that it runs.
    async fn take(
        &self,
        request: &Request,
        list: &Connector,
        marks: &Heeded,
        rates: Vec<Charge>,
        caps: Vec<Charge>,
    ) -> Result<(), Refusal> {
        let marks = marks.for_look_up();
        if rates.is_empty() && caps.is_empty() && marks.is_empty() {
            return Ok(());
        }
        let asked = Take {
            workspace: request.tenant.id().clone(),
            contact: Some(request.contact.id.clone()),
            operation: OperationId::generate(&*self.random),
            charges: rates.iter().cloned().chain(caps).collect(),
            marks,
        };
        match self.admission.take(asked, request.deadline).await {
            Ok(TakeAnswer::Taken(_)) => Ok(()),
            Ok(TakeAnswer::Denied(denied)) => Err(limits::denied(&denied).with_metadata("list", list.name.as_str())),
            Ok(TakeAnswer::Marked(mark)) => Err(closed(&mark)),
            Err(refusal) => self.without_store(request, list, &rates, refusal).map(drop),
        }
    }

    fn reading<'a>(&'a self, request: &'a Request, marks: &'a [MarkCheck], stakes: Stakes) -> Reading<'a> {
        let (workspace, contact) = (request.tenant.id(), &request.contact.id);
        Reading { service: self, workspace, contact, marks, stakes }
    }

    async fn send_read(
        &self,
        tenant: &Tenant,
        connector: &Connector,
        inputs: &BoundInputs,
        deadline: Deadline,
        reading: &Reading<'_>,
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
        let outcome = attempting.run(&plan, reading).await;
        if !outcome.sent {
            // Nothing has left, so why it was withheld can be said.
            reading.check().await?;
        }
        Ok(outcome)
    }

    /// A read without key or cap changes nothing and is recorded nowhere.
    async fn read(
        &self,
        request: &Request,
        inputs: &BoundInputs,
        asked: &Asked,
        (deadline, left): (Deadline, Vec<Remaining>),
    ) -> Result<Seen, Refusal> {
        let intent = self.intent(request, inputs, asked, request.tenant.upstream(&request.connector)?);
        let reading = self.reading(request, &request.marks.checks, Stakes::of(&request.connector));
        let outcome = self.send_read(&request.tenant, &request.connector, inputs, deadline, &reading).await?;
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
            limits: left,
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
        (caps, left): (Vec<Charge>, Vec<Remaining>),
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
            retain: match &request.connector.idempotency {
                Some(one) => Some(one.retain),
                None => request.keys.is_empty().then_some(KEYLESS_RETAIN),
            },
            lease: self.settings.lease,
            resume: None,
            charges: caps,
            marks: request.marks.checks.to_vec(),
            wait: self.join_wait(&request),
            consume: Vec::new(),
        };
        let connector = Arc::clone(&request.connector);
        let read_anyway = (inputs.clone(), left.clone());
        let prepared = Prepared { connector, inputs, intent, credential, call_deadline, admit, limits: left };
        let begun = match self.begin(&request, prepared).await {
            // Its rates were taken by the store a moment ago.
            Err(refusal) if limits::goes_ahead(&request.connector, &refusal) => {
                let (inputs, left) = read_anyway;
                return self.read(&request, &inputs, &asked, (call_deadline, left)).await;
            }
            begun => begun.map_err(limits::hinted)?,
        };
        let answer = match begun {
            Begun::Made(seen) => return Ok(*seen),
            Begun::Answered(answer) => *answer,
        };
        match answer {
            AdmitAnswer::Replay(record) | AdmitAnswer::Running(record) => {
                let seen = self.replay(&request, record)?;
                self.wait_for_end(&request, seen).await
            }
            AdmitAnswer::Unknown(record) => self.recall(&request, record).await,
            AdmitAnswer::KeyReused => Err(key_reused()),
            AdmitAnswer::Denied(denied) => Err(limits::denied(&denied)),
            AdmitAnswer::Marked(mark) => Err(closed(&mark)),
            AdmitAnswer::Consumed { .. } => {
                Err(Refusal::new(Reason::ConfirmationStale, "what it was confirmed with was used for another request"))
            }
            AdmitAnswer::Admitted(_) => Err(Refusal::internal("an admission was not used")),
        }
    }

    /// How long admission may hold this request for the end of another one with its key: as long as the caller wants
    /// to wait, and then there is still time to say that it goes on.
    fn join_wait(&self, request: &Request) -> Duration {
        let left = request.deadline.sooner(ANSWER_MARGIN * 2).remaining(self.clock.instant());
        request.max_wait.unwrap_or(LONGEST_JOIN).min(left).min(LONGEST_JOIN)
    }

    fn describe(&self, workspace: &safeconduct_types::WorkspaceId, contact: &ContactId) {
        tracing::Span::current().record("safeconduct.workspace", workspace.as_str());
        self.trace_names.tell_span(workspace, contact.as_str());
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
