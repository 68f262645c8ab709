//! The adapter: calls out and in, one repeat of what may have been lost, and a breaker.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::admission_service_client::AdmissionServiceClient;
use safeconduct_service::channel::{SisterChannel, with_deadline};
use safeconduct_service::status::{from_sister, refusal_in};
use safeconduct_service::wire::{timestamp, to_duration};
use safeconduct_types::{Clock, Deadline, Reason, Refusal};
use tonic::{Code, Response, Status};

use crate::answer::{AdmitAnswer, ExtendAnswer, Extended, LookupAnswer, Settled, TakeAnswer, Taken};
use crate::breaker::Breaker;
use crate::limit::{all_remaining, to_charge, to_limit};
use crate::mark::to_check;
use crate::request::{Admit, Extend, Lookup, Settle, Take, Usage};
use crate::wire::{self, admitted, denied, kinds, marked, record, unreadable};

/// The most bytes of an answer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// The most bytes of a request.
const MAX_REQUEST: usize = 1024 * 1024;
/// The longest that admission may take for an answer that it does not wait for. Its own waits are shorter.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Who was given less than this and got no answer says nothing about admission.
const FAIR_TIME: Duration = Duration::from_secs(1);

/// Admission over gRPC, in process or not. Clones share channel and breaker.
#[derive(Clone, Debug)]
pub struct GrpcAdmission {
    client: AdmissionServiceClient<SisterChannel>,
    breaker: Arc<Breaker>,
    clock: Arc<dyn Clock>,
}

impl GrpcAdmission {
    /// Admission at the other end of this channel.
    pub fn new(channel: SisterChannel) -> Self {
        let clock = Arc::clone(channel.clock());
        let client = AdmissionServiceClient::new(channel)
            .max_decoding_message_size(MAX_ANSWER)
            .max_encoding_message_size(MAX_REQUEST);
        Self { client, breaker: Arc::default(), clock }
    }

    /// Makes a call that admission itself does not hold longer than `wait`.
    pub(crate) async fn call<T, R, F>(
        &self,
        message: T,
        deadline: Deadline,
        wait: Duration,
        send: impl Fn(AdmissionServiceClient<SisterChannel>, tonic::Request<T>) -> F + Send + Sync,
    ) -> Result<R, Refusal>
    where
        T: Clone + Send + Sync,
        F: Future<Output = Result<Response<R>, Status>> + Send,
    {
        let begun = self.clock.instant();
        self.breaker.admit(begun)?;
        let bound = Deadline::within(begun, ANSWER_WITHIN + wait);
        let is_ours = bound.remaining(begun) < deadline.remaining(begun);
        let deadline = deadline.earlier(bound);
        let asked =
            Asked { breaker: &self.breaker, clock: &*self.clock, is_fair: deadline.remaining(begun) >= FAIR_TIME };
        let answered =
            once_more(message, |message| send(self.client.clone(), with_deadline(message, Some(deadline)))).await;
        asked.ended(&answered);
        answered.map(Response::into_inner).map_err(|status| {
            // The caller had time; it is admission that had not answered.
            if is_ours && status.code() == Code::DeadlineExceeded && refusal_in(&status).is_none() {
                from_sister(&Status::unavailable(""), "admission").with_retry_after(FAIR_TIME)
            } else {
                from_sister(&status, "admission")
            }
        })
    }
}

/// A call under way.
struct Asked<'a> {
    breaker: &'a Breaker,
    clock: &'a dyn Clock,
    is_fair: bool,
}

impl Asked<'_> {
    fn ended<R>(&self, answered: &Result<R, Status>) {
        // Who gave it too little time has learnt nothing about it.
        let silent = match answered.as_ref().err().filter(|status| refusal_in(status).is_none()).map(Status::code) {
            Some(Code::DeadlineExceeded) if !self.is_fair => return,
            code => matches!(code, Some(Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded)),
        };
        self.breaker.ended(!silent, self.clock.instant());
    }
}

#[async_trait]
impl crate::Admission for GrpcAdmission {
    async fn lookup(&self, asked: Lookup, deadline: Deadline) -> Result<LookupAnswer, Refusal> {
        use proto::lookup_response::Answer;

        let (request, kinds) = wire::lookup(asked);
        let send = |mut client: AdmissionServiceClient<_>, request| async move { client.lookup(request).await };
        match self.call(request, deadline, Duration::ZERO, send).await?.answer {
            Some(Answer::Absent(it)) => {
                Ok(LookupAnswer::Absent(Taken { remaining: all_remaining(it.remaining), store_epoch: it.store_epoch }))
            }
            Some(Answer::Replay(it)) => Ok(LookupAnswer::Replay(record(it, &kinds)?)),
            Some(Answer::Running(it)) => Ok(LookupAnswer::Running(record(it, &kinds)?)),
            Some(Answer::Unknown(it)) => Ok(LookupAnswer::Unknown(record(it, &kinds)?)),
            Some(Answer::KeyReused(_)) => Ok(LookupAnswer::KeyReused),
            Some(Answer::Denied(it)) => denied(it).map(LookupAnswer::Denied),
            Some(Answer::Marked(it)) => marked(it).map(LookupAnswer::Marked),
            None => Err(unreadable()),
        }
    }

    async fn admit(&self, asked: Admit, deadline: Deadline) -> Result<AdmitAnswer, Refusal> {
        use proto::admit_response::Decision;

        let (kinds, wait) = (kinds(&asked.keys), asked.wait);
        let execution = asked.execution.clone();
        let send = |mut client: AdmissionServiceClient<_>, request| async move { client.admit(request).await };
        match self.call(wire::admit(asked), deadline, wait, send).await?.decision {
            Some(Decision::Admitted(it)) => Ok(AdmitAnswer::Admitted(admitted(it, execution)?)),
            Some(Decision::Replay(it)) => Ok(AdmitAnswer::Replay(record(it, &kinds)?)),
            Some(Decision::Running(it)) => Ok(AdmitAnswer::Running(record(it, &kinds)?)),
            Some(Decision::Unknown(it)) => Ok(AdmitAnswer::Unknown(record(it, &kinds)?)),
            Some(Decision::KeyReused(_)) => Ok(AdmitAnswer::KeyReused),
            Some(Decision::Denied(it)) => denied(it).map(AdmitAnswer::Denied),
            Some(Decision::Marked(it)) => marked(it).map(AdmitAnswer::Marked),
            Some(Decision::Consumed(it)) => {
                Ok(AdmitAnswer::Consumed { place: it.consume_index, execution: it.execution_id.parse().ok() })
            }
            None => Err(unreadable()),
        }
    }

    async fn take(&self, asked: Take, deadline: Deadline) -> Result<TakeAnswer, Refusal> {
        use proto::admit_response::Decision;

        let send = |mut client: AdmissionServiceClient<_>, request| async move { client.admit(request).await };
        match self.call(wire::take(asked), deadline, Duration::ZERO, send).await?.decision {
            Some(Decision::Admitted(it)) => {
                Ok(TakeAnswer::Taken(Taken { remaining: all_remaining(it.remaining), store_epoch: it.store_epoch }))
            }
            Some(Decision::Denied(it)) => denied(it).map(TakeAnswer::Denied),
            Some(Decision::Marked(it)) => marked(it).map(TakeAnswer::Marked),
            Some(
                Decision::Replay(_)
                | Decision::Running(_)
                | Decision::Unknown(_)
                | Decision::KeyReused(_)
                | Decision::Consumed(_),
            )
            | None => Err(unreadable()),
        }
    }

    async fn extend(&self, asked: Extend, deadline: Deadline) -> Result<ExtendAnswer, Refusal> {
        use proto::extend_response::Decision;

        let request = proto::ExtendRequest {
            workspace_id: asked.workspace.into(),
            contact_id: asked.contact.into(),
            execution_id: asked.execution.into(),
            operation_id: asked.operation.to_string(),
            fencing_token: asked.token,
            lease: asked.lease.map(to_duration),
            checkpoint: asked.checkpoint.map(Into::into),
            charges: asked.charges.into_iter().map(to_charge).collect(),
            marks: asked.marks.into_iter().map(to_check).collect(),
        };
        let send = |mut client: AdmissionServiceClient<_>, request| async move { client.extend(request).await };
        match self.call(request, deadline, Duration::ZERO, send).await?.decision {
            Some(Decision::Extended(it)) => Ok(ExtendAnswer::Extended(Extended {
                lease_ends: it.lease_expire_time.and_then(|at| timestamp(&at)),
                revision: it.revision,
                taken: Taken { remaining: all_remaining(it.remaining), store_epoch: it.store_epoch },
            })),
            Some(Decision::Denied(it)) => denied(it).map(ExtendAnswer::Denied),
            Some(Decision::Marked(it)) => marked(it).map(ExtendAnswer::Marked),
            None => Err(unreadable()),
        }
    }

    async fn settle(&self, asked: Settle, deadline: Deadline) -> Result<Settled, Refusal> {
        let send = |mut client: AdmissionServiceClient<_>, request| async move { client.settle(request).await };
        let answer = self.call(wire::settle(asked), deadline, Duration::ZERO, send).await?;
        let record = record(answer.record.ok_or_else(unreadable)?, &[])?;
        Ok(Settled { record, remaining: all_remaining(answer.remaining) })
    }

    async fn usage(&self, asked: Usage, deadline: Deadline) -> Result<Taken, Refusal> {
        let request = proto::GetUsageRequest {
            workspace_id: asked.workspace.into(),
            contact_id: asked.contact.map(String::from).unwrap_or_default(),
            limits: asked.limits.into_iter().map(to_limit).collect(),
        };
        let send = |mut client: AdmissionServiceClient<_>, request| async move { client.get_usage(request).await };
        let answer = self.call(request, deadline, Duration::ZERO, send).await?;
        Ok(Taken { remaining: all_remaining(answer.remaining), store_epoch: answer.store_epoch })
    }
}

/// Sends the request and, if nobody can tell what became of it, once more: it carries its operation id, so it is
/// applied once. The deadline is the same; the channel refuses at once when nothing is left of it.
async fn once_more<T, R, F>(request: T, send: impl Fn(T) -> F) -> Result<Response<R>, Status>
where
    T: Clone,
    F: Future<Output = Result<Response<R>, Status>>,
{
    match send(request.clone()).await {
        Err(status) if may_be_repeated(&status) => {
            tracing::debug!("admission was not available, asking once more");
            send(request).await
        }
        answered => answered,
    }
}

/// A lost connection, or a replica that drains. A store that is gone is not back a moment later.
fn may_be_repeated(status: &Status) -> bool {
    status.code() == Code::Unavailable && refusal_in(status).is_none_or(|refusal| refusal.reason() == Reason::Draining)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use safeconduct_service::status::to_status;

    use super::*;

    /// What the other side was asked, when it answers the first time with `status`.
    async fn asked(status: Status) -> (Vec<u8>, Result<&'static str, Refusal>) {
        let requests = Mutex::new(Vec::new());
        let answer = once_more(7_u8, |request| {
            let mut requests = requests.lock().unwrap();
            requests.push(request);
            let answer = if requests.len() == 1 { Err(status.clone()) } else { Ok(Response::new("done")) };
            std::future::ready(answer)
        })
        .await;
        let answer = answer.map(Response::into_inner).map_err(|status| from_sister(&status, "admission"));
        (requests.into_inner().unwrap(), answer)
    }

    #[tokio::test]
    async fn a_call_whose_answer_was_lost_is_repeated_once_as_it_was() {
        assert_eq!(asked(Status::unavailable("connection lost")).await, (vec![7, 7], Ok("done")));
        let draining = to_status(&Refusal::new(Reason::Draining, ""));
        assert_eq!(asked(draining).await, (vec![7, 7], Ok("done")));
    }

    #[tokio::test]
    async fn a_store_that_is_gone_is_not_asked_again_at_once_nor_is_a_refusal_argued_with() {
        for reason in [Reason::StoreUnavailable, Reason::StoreUnsafe, Reason::LeaseLost, Reason::InputInvalid] {
            let (requests, answer) = asked(to_status(&Refusal::new(reason, ""))).await;
            assert_eq!((requests, answer.unwrap_err().reason()), (vec![7], reason));
        }
    }
}
