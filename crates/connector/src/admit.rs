//! From a request that may be made to one that is being made.
//!
//! Admission and what follows run in one task. The caller may hang up at any moment: before the admission is answered,
//! then nothing is sent and what was admitted is given back; after it, then the execution goes on without a listener.
//! Which of the two it is, is settled by handing over what the caller will be shown: whoever is there to take it
//! answers for it.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{Admit, AdmitAnswer, Lookup, LookupAnswer, Remaining, Settle, Settlement, Target};
use safeconduct_connector_domain::bind::BoundInputs;
use safeconduct_connector_domain::definition::Connector;
use safeconduct_connector_domain::execution::{StoredIntent, StoredOutcome};
use safeconduct_types::{Deadline, OperationId, Reason, Refusal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::Service;
use crate::execute::{ANSWER_MARGIN, Request};
use crate::lease::Lease;
use crate::render::Seen;
use crate::run::Job;
use crate::vault::Owner;
use crate::workspaces::CredentialHeader;

/// How often, and after which pauses, an admission whose answer was lost is looked for.
const LOOK_AFTER: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(10)];
/// How many are looked for at once. More than that are left to lapse, which is safe.
pub(crate) const GIVE_BACKS: usize = 64;

/// What is to be done once it is admitted.
pub(crate) struct Prepared {
    pub(crate) connector: Arc<Connector>,
    pub(crate) inputs: BoundInputs,
    pub(crate) intent: StoredIntent,
    pub(crate) credential: Option<CredentialHeader>,
    pub(crate) call_deadline: Deadline,
    pub(crate) admit: Admit,
    /// What is left of the rates.
    pub(crate) limits: Vec<Remaining>,
}

/// What came of asking for admission.
pub(crate) enum Begun {
    /// It was made, or is being made.
    Made(Box<Seen>),
    /// Admission had another answer: somebody else has it, or had it before.
    Answered(Box<AdmitAnswer>),
}

impl Service {
    /// Asks for admission and, if it is given, makes the call. Waits as long as the caller does. A refusal means that
    /// nothing was sent and nothing will be.
    pub(crate) async fn begin(self: &Arc<Self>, request: &Request, prepared: Prepared) -> Result<Begun, Refusal> {
        let (hand_over, handed) = oneshot::channel();
        let service = Arc::clone(self);
        let tenant = Arc::clone(&request.tenant);
        let contact = request.contact.id.clone();
        let marks = Arc::clone(&request.marks.checks);
        let admit_by = request.deadline.sooner(ANSWER_MARGIN);
        let task = self.tasks.spawn(async move {
            let Prepared { connector, inputs, intent, credential, call_deadline, admit, limits } = prepared;
            let asked = service.clock.instant();
            let admitted = match service.admission.admit(admit.clone(), admit_by).await {
                Ok(AdmitAnswer::Admitted(admitted)) => admitted,
                Ok(answer) => return Ok(Begun::Answered(Box::new(answer))),
                Err(refusal) => {
                    service.give_back_if_admitted(&admit, &refusal);
                    return Err(refusal);
                }
            };
            tracing::Span::current().record("safeconduct.decision", "admitted");
            let lease = Lease::from(asked, admit.lease);
            let job = Job {
                tenant,
                connector,
                contact,
                marks,
                inputs,
                intent,
                credential,
                admitted,
                lease,
                call_deadline,
                limits,
            };
            if hand_over.send(job.under_way()).is_err() {
                service.give_back(&admit, &job).await;
                return Err(caller_left());
            }
            Ok(Begun::Made(Box::new(service.run(job).await)))
        });
        self.listen(request, task, handed).await
    }

    /// Waits for admission as long as the deadline allows, and for the end as long as the caller wants to.
    async fn listen(
        &self,
        request: &Request,
        mut task: JoinHandle<Result<Begun, Refusal>>,
        mut handed: oneshot::Receiver<Seen>,
    ) -> Result<Begun, Refusal> {
        let left = || request.deadline.sooner(ANSWER_MARGIN).remaining(self.clock.instant());
        let under_way = match tokio::time::timeout(left(), &mut handed).await {
            Ok(Ok(under_way)) => under_way,
            // It ended without being handed over: nothing was sent.
            Ok(Err(_)) => {
                return task.await.unwrap_or_else(|_| Err(Refusal::internal("admission broke; nothing was sent")));
            }
            Err(_) => {
                // From here on nobody is there to take it; unless it was handed over in this very moment.
                handed.close();
                handed.try_recv().map_err(|_| caller_left())?
            }
        };
        let patience = request.max_wait.map_or_else(left, |wait| wait.min(left()));
        match tokio::time::timeout(patience, &mut task).await {
            Ok(Ok(begun)) => begun,
            // It goes on, or it broke; the record will say which. A status would claim that nothing happened.
            Ok(Err(_)) | Err(_) => Ok(Begun::Made(Box::new(under_way))),
        }
    }

    /// Nothing was sent, and nothing will be: the key is free again.
    async fn give_back(&self, admit: &Admit, job: &Job) {
        if job.admitted.resumed.is_some() {
            // The doubt is the first executor's, and stays.
            return;
        }
        self.release_unused(admit, job.admitted.token).await;
    }

    async fn release_unused(&self, admit: &Admit, token: u64) {
        let owner = Owner { workspace: &admit.workspace, execution: &admit.execution };
        let outcome = self.vault.seal_outcome(owner, &StoredOutcome::nothing_sent(self.clock.now())).ok();
        let released = self
            .say(Settle {
                workspace: admit.workspace.clone(),
                contact: admit.contact.clone(),
                execution: admit.execution.clone(),
                operation: OperationId::generate(&*self.random),
                token,
                settlement: Settlement::Released {
                    bytes_sent: false,
                    outcome,
                    keep_for_caller_key: false,
                    doubt_resolved: false,
                },
            })
            .await;
        if let Err(refusal) = released {
            tracing::warn!(reason = refusal.reason().as_str(), "an unused admission was not given back");
        }
    }

    /// After an answer that was lost: what may have been admitted is found and given back, for nothing was sent. It
    /// only looks; it never admits what had not been.
    fn give_back_if_admitted(self: &Arc<Self>, admit: &Admit, refusal: &Refusal) {
        let is_doubtful = matches!(
            refusal.reason(),
            Reason::StoreUnavailable | Reason::Internal | Reason::DeadlineTooShort | Reason::Draining
        );
        let Ok(place) = Arc::clone(&self.give_backs).try_acquire_owned() else { return };
        if !is_doubtful || admit.resume.is_some() {
            return;
        }
        let (service, admit) = (Arc::clone(self), admit.clone());
        drop(self.tasks.spawn_background(|stop| async move {
            let _place = place;
            for pause in LOOK_AFTER {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                let target =
                    Target::Execution { execution: admit.execution.clone(), contact: Some(admit.contact.clone()) };
                let operation = OperationId::generate(&*service.random);
                let asked = Lookup::only(admit.workspace.clone(), operation, target);
                let deadline = Deadline::within(service.clock.instant(), Duration::from_secs(2));
                if let Ok(LookupAnswer::Running(record) | LookupAnswer::Unknown(record)) =
                    service.admission.lookup(asked, deadline).await
                {
                    service.release_unused(&admit, record.token).await;
                    return;
                }
            }
        }));
    }
}

fn caller_left() -> Refusal {
    Refusal::new(
        Reason::DeadlineTooShort,
        "the deadline passed before the request was admitted, so nothing was sent; allow at least 1 s, better 16 s",
    )
}
