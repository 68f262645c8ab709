//! The part of an execution that has an effect: from the admission to the settled record.
//!
//! It runs in a task of its own. A caller that goes away, or whose deadline passes, must not leave an effect behind
//! that nobody settles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use safeconduct_admission_client::{Admitted, Extend, Settle, Settlement};
use safeconduct_connector_domain::bind::BoundInputs;
use safeconduct_connector_domain::definition::Connector;
use safeconduct_connector_domain::execution::{KeptKeys, State, StoredIntent, StoredOutcome};
use safeconduct_connector_domain::plan::{RequestPlan, plan};
use safeconduct_connector_domain::upstream_key;
use safeconduct_types::{ContactId, Deadline, ExecutionId, OperationId, Reason, Refusal, WorkspaceId};

use crate::Service;
use crate::attempt::Attempting;
use crate::execute::record_outcome;
use crate::render::Seen;
use crate::vault::Owner;
use crate::workspaces::{CredentialHeader, Tenant};

/// How long the last word on an execution is tried to be said.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
const SETTLE_PAUSE: Duration = Duration::from_millis(250);

/// An execution that was admitted and has yet to be sent and settled.
pub(crate) struct Job {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) connector: Arc<Connector>,
    pub(crate) contact: ContactId,
    pub(crate) inputs: BoundInputs,
    pub(crate) intent: StoredIntent,
    pub(crate) credential: Option<CredentialHeader>,
    pub(crate) admitted: Admitted,
    /// When the upstream must have answered.
    pub(crate) call_deadline: Deadline,
}

/// The key that the upstream sees, if the definition has one.
fn upstream_key(intent: &StoredIntent, contact: &ContactId, generation: u32) -> Option<String> {
    let repeat = intent.repeat.as_ref()?;
    Some(upstream_key::derive(&intent.connector, contact, &repeat.same, generation))
}

impl Job {
    fn plan(&self) -> Result<RequestPlan, Refusal> {
        let upstream = self.tenant.upstream(&self.connector)?;
        let key = upstream_key(&self.intent, &self.contact, self.admitted.generation);
        plan(&self.connector, &self.inputs, &upstream.base, key.as_deref())
    }
}

impl Service {
    /// Sends, concludes, settles. What it yields is what is known; the record says the same, or will read as unknown.
    pub(crate) async fn run(self: Arc<Self>, job: Job) -> Result<Seen, Refusal> {
        let lost = Arc::new(AtomicBool::new(false));
        let outcome = {
            let sending = self.send(&job, &lost);
            let holding = self.hold(&job, &lost);
            tokio::select! {
                outcome = sending => outcome,
                never = holding => match never {},
            }
        };
        record_outcome(&outcome);
        self.settle(job, outcome).await
    }

    async fn send(&self, job: &Job, lost: &AtomicBool) -> StoredOutcome {
        let (Ok(plan), Ok(upstream)) = (job.plan(), job.tenant.upstream(&job.connector)) else {
            // It was planned once before it was admitted, with the same inputs.
            return nothing_sent(self.clock.now());
        };
        let attempting = Attempting {
            connector: &job.connector,
            upstream,
            credential: job.credential.as_ref(),
            clock: &*self.clock,
            random: &*self.random,
            deadline: job.call_deadline,
        };
        attempting.run(&plan, || !lost.load(Ordering::Acquire)).await
    }

    /// Keeps the lease while the upstream takes its time; sets `lost` when somebody else has it.
    async fn hold(&self, job: &Job, lost: &AtomicBool) -> std::convert::Infallible {
        let lease = self.settings.lease;
        loop {
            tokio::time::sleep(lease / 3).await;
            let asked = Extend {
                workspace: job.tenant.id().clone(),
                contact: job.contact.clone(),
                execution: job.admitted.execution.clone(),
                operation: OperationId::generate(&*self.random),
                token: job.admitted.token,
                lease: Some(lease),
                checkpoint: None,
            };
            let deadline = Deadline::within(self.clock.instant(), lease / 3);
            if let Err(refusal) = self.admission.extend(asked, deadline).await {
                tracing::warn!(reason = refusal.reason().as_str(), "the lease was not extended");
                if refusal.reason() == Reason::LeaseLost {
                    lost.store(true, Ordering::Release);
                }
            }
        }
    }

    async fn settle(&self, job: Job, outcome: StoredOutcome) -> Result<Seen, Refusal> {
        let execution = job.admitted.execution.clone();
        let owner = Owner { workspace: job.tenant.id(), execution: &execution };
        let asked = Settle {
            workspace: job.tenant.id().clone(),
            contact: job.contact.clone(),
            execution: execution.clone(),
            operation: OperationId::generate(&*self.random),
            token: job.admitted.token,
            settlement: settlement(&job.connector, &outcome, self.vault.seal_outcome(owner, &outcome)?),
        };
        match self.say(asked).await {
            Ok(record) => {
                let seen = Seen::of(record, job.intent, Some(outcome), false);
                Ok(Seen { running: false, ..seen })
            }
            // Somebody took over and its word counts: show what the record says.
            Err(refusal) if refusal.reason() == Reason::LeaseLost => {
                tracing::warn!(execution = %execution, "another executor has settled this execution");
                let deadline = Deadline::within(self.clock.instant(), SETTLE_PAUSE * 4);
                self.find(job.tenant.id(), &execution, Some(&job.contact), deadline).await
            }
            Err(refusal) => {
                // What is known is told all the same; the record will read as unknown once the lease lapses.
                tracing::error!(execution = %execution, reason = refusal.reason().as_str(), "an outcome could not be recorded");
                Ok(self.unrecorded(&job, execution, outcome))
            }
        }
    }

    async fn say(&self, asked: Settle) -> Result<safeconduct_admission_client::Record, Refusal> {
        let end = Deadline::within(self.clock.instant(), SETTLE_WITHIN);
        loop {
            // The same operation each time: it counts once, however often it is said.
            match self.admission.settle(asked.clone(), end).await {
                Err(refusal) if is_passing(&refusal) && end.remaining(self.clock.instant()) > SETTLE_PAUSE => {
                    tokio::time::sleep(SETTLE_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    fn unrecorded(&self, job: &Job, execution: ExecutionId, outcome: StoredOutcome) -> Seen {
        let now = self.clock.now();
        Seen {
            execution,
            intent: job.intent.clone(),
            outcome: Some(outcome),
            running: false,
            revision: 0,
            created: job.intent.started,
            settled: Some(now),
            expires: None,
            replay: None,
            resent: job.admitted.resumed.is_some(),
        }
    }

    /// Gives back what may have been admitted although the answer was lost. Nothing was sent, and nothing will be.
    pub(crate) fn give_back(self: &Arc<Self>, asked: safeconduct_admission_client::Admit) {
        let service = Arc::clone(self);
        let end = Deadline::within(self.clock.instant(), self.settings.lease);
        drop(self.tasks.spawn(async move {
            use safeconduct_admission_client::AdmitAnswer;
            loop {
                match service.admission.admit(asked.clone(), end).await {
                    Ok(AdmitAnswer::Admitted(admitted)) => {
                        let settlement =
                            Settlement::Released { bytes_sent: false, outcome: None, keep_for_caller_key: false };
                        let released = service
                            .say(Settle {
                                workspace: asked.workspace.clone(),
                                contact: asked.contact.clone(),
                                execution: admitted.execution,
                                operation: OperationId::generate(&*service.random),
                                token: admitted.token,
                                settlement,
                            })
                            .await;
                        if let Err(refusal) = released {
                            tracing::warn!(
                                reason = refusal.reason().as_str(),
                                "an unused admission was not given back"
                            );
                        }
                        return;
                    }
                    Ok(_) => return,
                    Err(refusal) => {
                        if !is_passing(&refusal) || end.remaining(service.clock.instant()) <= SETTLE_PAUSE {
                            return;
                        }
                        tokio::time::sleep(SETTLE_PAUSE).await;
                    }
                }
            }
        }));
    }

    /// What a record says.
    pub(crate) async fn find(
        &self,
        workspace: &WorkspaceId,
        execution: &ExecutionId,
        contact: Option<&ContactId>,
        deadline: Deadline,
    ) -> Result<Seen, Refusal> {
        use safeconduct_admission_client::{Lookup, LookupAnswer, Target};
        let asked = Lookup {
            workspace: workspace.clone(),
            operation: OperationId::generate(&*self.random),
            target: Target::Execution { execution: execution.clone(), contact: contact.cloned() },
        };
        match self.admission.lookup(asked, deadline).await? {
            LookupAnswer::Replay(record) | LookupAnswer::Running(record) | LookupAnswer::Unknown(record) => {
                self.open(workspace, record, false)
            }
            LookupAnswer::Absent | LookupAnswer::KeyReused => Err(unknown_execution()),
        }
    }
}

/// The same answer for what never was and for what belongs to somebody else.
pub(crate) fn unknown_execution() -> Refusal {
    Refusal::new(Reason::ExecutionUnknown, "there is no such execution for this contact; it may have been forgotten")
}

/// Whether saying it again may help.
fn is_passing(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason(),
        Reason::StoreUnavailable
            | Reason::StoreUnsafe
            | Reason::Draining
            | Reason::Overloaded
            | Reason::DeadlineTooShort
    )
}

fn settlement(connector: &Connector, outcome: &StoredOutcome, sealed: Vec<u8>) -> Settlement {
    let retain = connector.idempotency.as_ref().map(|one| one.retain);
    if outcome.state == State::OutcomeUnknown {
        return Settlement::Unknown { outcome: Some(sealed) };
    }
    match outcome.kept_keys() {
        KeptKeys::All => Settlement::Completed { outcome: sealed, retain },
        KeptKeys::CallersOnly => {
            Settlement::Released { bytes_sent: outcome.sent, outcome: Some(sealed), keep_for_caller_key: true }
        }
        KeptKeys::None => {
            Settlement::Released { bytes_sent: outcome.sent, outcome: Some(sealed), keep_for_caller_key: false }
        }
    }
}

fn nothing_sent(now: safeconduct_types::Timestamp) -> StoredOutcome {
    use safeconduct_connector_domain::execution::{Effect, Failure, FailureClass};
    StoredOutcome {
        state: State::Failed,
        effect: Effect::None,
        output_json: None,
        output_error: None,
        untrusted: Vec::new(),
        truncated: Vec::new(),
        failure: Some(Failure {
            class: FailureClass::Rejected,
            http_status: None,
            retry_after_ms: None,
            problem: None,
            problem_untrusted: Vec::new(),
        }),
        sent: false,
        attempts: 0,
        ended: now,
    }
}
