//! The part of an execution that has an effect: from the admission to the settled record.
//!
//! It runs in a task of its own. A caller that goes away, or whose deadline passes, must not leave an effect behind
//! that nobody settles, nor an admission that nobody uses.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{
    Admitted, Extend, ExtendAnswer, MirrorAnswer, Remaining, Settle, Settled, Settlement,
};
use safeconduct_connector_domain::bind::BoundInputs;
use safeconduct_connector_domain::definition::Connector;
use safeconduct_connector_domain::execution::{KeptKeys, State, StoredIntent, StoredOutcome};
use safeconduct_connector_domain::plan::{RequestPlan, plan};
use safeconduct_connector_domain::upstream_key;
use safeconduct_types::{ContactId, Deadline, MarkCheck, OperationId, Reason, Refusal};

use crate::Service;
use crate::attempt::{Allowed, Attempting, Before};
use crate::execute::record_outcome;
use crate::lease::Lease;
use crate::marks::Stakes;
use crate::render::Seen;
use crate::vault::Owner;
use crate::workspaces::{CredentialHeader, Tenant};

/// How long the last word on an execution is tried to be said.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
const SETTLE_PAUSE: Duration = Duration::from_millis(250);
/// The longest sealed outcome that admission keeps.
const LONGEST_OUTCOME: usize = 256 * 1024;

/// An execution that was admitted and has yet to be sent and settled.
pub(crate) struct Job {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) connector: Arc<Connector>,
    pub(crate) contact: ContactId,
    /// The marks that it must not meet.
    pub(crate) marks: Arc<[MarkCheck]>,
    pub(crate) inputs: BoundInputs,
    pub(crate) intent: StoredIntent,
    pub(crate) credential: Option<CredentialHeader>,
    pub(crate) admitted: Admitted,
    pub(crate) lease: Lease,
    /// When the upstream must have answered.
    pub(crate) call_deadline: Deadline,
    /// What is left of the rates.
    pub(crate) limits: Vec<Remaining>,
}

impl Job {
    fn plan(&self) -> Result<RequestPlan, Refusal> {
        let upstream = self.tenant.upstream(&self.connector)?;
        let key = self.intent.repeat.as_ref().map(|repeat| {
            upstream_key::derive(&self.intent.connector, &self.contact, &repeat.same, self.admitted.generation)
        });
        plan(&self.connector, &self.inputs, &upstream.base, key.as_deref())
    }

    /// A write that somebody else has begun: what it did is not known.
    fn before(&self) -> Before {
        if self.intent.write && self.admitted.resumed.is_some() { Before::DOUBT } else { Before::NOTHING }
    }

    /// What is left of the rates and of these caps.
    fn left(&self, caps: &[Remaining]) -> Vec<Remaining> {
        self.limits.iter().chain(caps).cloned().collect()
    }

    /// What is known while it runs.
    pub(crate) fn under_way(&self) -> Seen {
        Seen {
            execution: self.admitted.execution.clone(),
            intent: self.intent.clone(),
            outcome: None,
            running: true,
            released: false,
            revision: self.admitted.resumed.as_ref().map_or(1, |record| record.revision),
            created: self.admitted.resumed.as_ref().map_or(self.intent.started, |record| record.admitted),
            settled: None,
            expires: None,
            replay: None,
            resent: self.admitted.resumed.is_some(),
            limits: self.left(&self.admitted.taken.remaining),
        }
    }
}

/// An execution before its next attempt.
struct Sending<'a> {
    service: &'a Service,
    job: &'a Job,
}

#[tonic::async_trait]
impl Allowed for Sending<'_> {
    async fn attempt(&self) -> bool {
        self.service.may_send(self.job).await
    }
}

impl Service {
    /// Sends, concludes, settles. What it yields is what is known; the record says the same, or will read as unknown.
    pub(crate) async fn run(&self, job: Job) -> Seen {
        let whole = async {
            let outcome = self.send(&job).await;
            record_outcome(&outcome);
            self.settle(&job, outcome).await
        };
        // Held until the last word is said: the upstream may take its time, and so may the store.
        tokio::select! {
            seen = whole => seen,
            never = self.hold(&job) => match never {},
        }
    }

    async fn send(&self, job: &Job) -> StoredOutcome {
        let (Ok(plan), Ok(upstream)) = (job.plan(), job.tenant.upstream(&job.connector)) else {
            // It was rehearsed before it was admitted, with the same inputs; only a repeat can come here.
            let mut outcome = StoredOutcome::nothing_sent(self.clock.now());
            if job.before().sent {
                (outcome.state, outcome.effect, outcome.sent) = (State::OutcomeUnknown, Before::DOUBT.effect, true);
            }
            return outcome;
        };
        let attempting = Attempting {
            connector: &job.connector,
            upstream,
            credential: job.credential.as_ref(),
            clock: &*self.clock,
            random: &*self.random,
            deadline: job.call_deadline,
            before: job.before(),
        };
        attempting.run(&plan, &Sending { service: self, job }).await
    }

    /// Whether the next attempt may be made: the lease is held, and no mark has closed the way. If the mirror cannot
    /// say, admission can.
    async fn may_send(&self, job: &Job) -> bool {
        let now = self.clock.instant();
        if !job.lease.holds(now) {
            return false;
        }
        let met = match self.mirror.check(&job.marks, now) {
            MirrorAnswer::Clear => return true,
            MirrorAnswer::Lagging(None) if Stakes::of(&job.connector) == Stakes::GoesOn => return true,
            MirrorAnswer::Met(mark) => Some(mark.key.subject.kind()),
            MirrorAnswer::Lagging(_) => {
                let asked = Extend { marks: job.marks.to_vec(), ..self.extend(job, None) };
                match self.admission.extend(asked, job.call_deadline).await {
                    // The question may have taken as long as what was left of the lease.
                    Ok(ExtendAnswer::Extended(_)) => return job.lease.holds(self.clock.instant()),
                    Ok(ExtendAnswer::Marked(mark)) => Some(mark.key.subject.kind()),
                    Ok(ExtendAnswer::Denied(_)) | Err(_) => None,
                }
            }
        };
        tracing::info!(execution = %job.admitted.execution, mark = met, "no further attempt: the way is closed");
        false
    }

    fn extend(&self, job: &Job, lease: Option<Duration>) -> Extend {
        Extend {
            workspace: job.tenant.id().clone(),
            contact: job.contact.clone(),
            execution: job.admitted.execution.clone(),
            operation: OperationId::generate(&*self.random),
            token: job.admitted.token,
            lease,
            checkpoint: None,
            charges: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Keeps the lease while the upstream takes its time.
    async fn hold(&self, job: &Job) -> Infallible {
        let length = self.settings.lease;
        loop {
            tokio::time::sleep(length / 3).await;
            let now = self.clock.instant();
            let asked = self.extend(job, Some(length));
            match self.admission.extend(asked, Deadline::within(now, length / 3)).await {
                Ok(ExtendAnswer::Extended(_)) => job.lease.extend(now),
                // Nothing was asked for that could be denied; the old lease still runs.
                Ok(ExtendAnswer::Denied(_) | ExtendAnswer::Marked(_)) => {}
                Err(refusal) => {
                    tracing::warn!(reason = refusal.reason().as_str(), "the lease was not extended");
                    if refusal.reason() == Reason::LeaseLost {
                        job.lease.lose();
                    }
                }
            }
        }
    }

    async fn settle(&self, job: &Job, outcome: StoredOutcome) -> Seen {
        let execution = &job.admitted.execution;
        let (outcome, said) = match self.say_outcome(job, outcome.clone()).await {
            // Whatever it is that cannot be kept, what is known of the effect must be.
            Err(refusal) if refusal.reason() == Reason::InputInvalid => {
                let short = outcome.without_answer();
                (short.clone(), self.say_outcome(job, short).await)
            }
            said => (outcome, said),
        };
        match said {
            Ok((settled, kept)) => {
                let limits = job.left(&settled.remaining);
                let seen = Seen::of(settled.record, job.intent.clone(), Some(kept), false);
                Seen { running: false, resent: job.admitted.resumed.is_some(), limits, ..seen }
            }
            // Somebody took over and its word counts: show what the record says.
            Err(refusal) if refusal.reason() == Reason::LeaseLost => {
                tracing::warn!(execution = %execution, "another executor has taken over this execution");
                let deadline = Deadline::within(self.clock.instant(), SETTLE_PAUSE * 4);
                let found = self.find(job.tenant.id(), execution, Some(&job.contact), deadline).await;
                found.unwrap_or_else(|_| job.under_way())
            }
            Err(refusal) => {
                // What is known is told all the same; the record will read as unknown once the lease lapses.
                let reason = refusal.reason().as_str();
                tracing::error!(execution = %execution, reason, "an outcome could not be recorded");
                let settled = Some(outcome.ended);
                Seen { running: false, outcome: Some(outcome), settled, ..job.under_way() }
            }
        }
    }

    async fn say_outcome(&self, job: &Job, outcome: StoredOutcome) -> Result<(Settled, StoredOutcome), Refusal> {
        let owner = Owner { workspace: job.tenant.id(), execution: &job.admitted.execution };
        let mut outcome = outcome;
        let mut sealed = self.vault.seal_outcome(owner, &outcome)?;
        if sealed.len() > LONGEST_OUTCOME {
            outcome = outcome.without_answer();
            sealed = self.vault.seal_outcome(owner, &outcome)?;
        }
        let asked = Settle {
            workspace: job.tenant.id().clone(),
            contact: job.contact.clone(),
            execution: job.admitted.execution.clone(),
            operation: OperationId::generate(&*self.random),
            token: job.admitted.token,
            settlement: settlement(job, &outcome, sealed),
        };
        self.say(asked).await.map(|settled| (settled, outcome))
    }

    pub(crate) async fn say(&self, asked: Settle) -> Result<Settled, Refusal> {
        let end = Deadline::within(self.clock.instant(), SETTLE_WITHIN);
        loop {
            // The same operation each time: it counts once, however often it is said.
            match self.admission.settle(asked.clone(), end).await {
                Err(refusal) if !is_final(&refusal) && end.remaining(self.clock.instant()) > SETTLE_PAUSE => {
                    tokio::time::sleep(SETTLE_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }
}

/// What admission will say again however often it is asked.
fn is_final(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason(),
        Reason::LeaseLost | Reason::ExecutionUnknown | Reason::InputInvalid | Reason::CallerNotAllowed
    )
}

/// The same answer for what never was and for what belongs to somebody else.
pub(crate) fn unknown_execution() -> Refusal {
    Refusal::new(Reason::ExecutionUnknown, "there is no such execution for this contact; it may have been forgotten")
}

fn settlement(job: &Job, outcome: &StoredOutcome, sealed: Vec<u8>) -> Settlement {
    let retain = job.connector.idempotency.as_ref().map(|one| one.retain);
    if outcome.state == State::OutcomeUnknown {
        return Settlement::Unknown { outcome: Some(sealed) };
    }
    let keep_for_caller_key = match outcome.kept_keys() {
        KeptKeys::All => return Settlement::Completed { outcome: sealed, retain, actual: Vec::new() },
        KeptKeys::CallersOnly => true,
        KeptKeys::None => false,
    };
    // A resumed write comes here only if the upstream itself has said, knowing the key, that it did nothing.
    let doubt_resolved = job.admitted.resumed.is_some();
    Settlement::Released { bytes_sent: outcome.sent, outcome: Some(sealed), keep_for_caller_key, doubt_resolved }
}
