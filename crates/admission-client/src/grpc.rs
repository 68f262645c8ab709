//! The adapter: protobuf out, protobuf in, and one repeat of what may have been lost.

use std::future::Future;

use async_trait::async_trait;
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::admission_service_client::AdmissionServiceClient;
use safeconduct_service::channel::{SisterChannel, with_deadline};
use safeconduct_service::status::{from_sister, refusal_in};
use safeconduct_service::wire::{timestamp, to_duration};
use safeconduct_types::{Deadline, ExecutionId, Reason, Refusal, Timestamp, WorkspaceId};
use tonic::{Code, Response, Status};

use crate::answer::{AdmitAnswer, Admitted, Extended, LookupAnswer, Matched, Record, RecordState};
use crate::request::{Admit, Extend, Key, KeyKind, Lookup, Settle, Settlement, Target};

/// The most bytes of an answer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// The most bytes of a request.
const MAX_REQUEST: usize = 1024 * 1024;

/// Admission over gRPC, in process or not. Clones share the channel.
#[derive(Clone, Debug)]
pub struct GrpcAdmission {
    client: AdmissionServiceClient<SisterChannel>,
}

impl GrpcAdmission {
    /// Admission at the other end of this channel.
    pub fn new(channel: SisterChannel) -> Self {
        let client = AdmissionServiceClient::new(channel)
            .max_decoding_message_size(MAX_ANSWER)
            .max_encoding_message_size(MAX_REQUEST);
        Self { client }
    }
}

#[async_trait]
impl crate::Admission for GrpcAdmission {
    async fn lookup(&self, asked: Lookup, deadline: Deadline) -> Result<LookupAnswer, Refusal> {
        use proto::lookup_response::Answer;

        let (request, kinds) = lookup_request(asked);
        let send = |request| async { self.client.clone().lookup(with_deadline(request, Some(deadline))).await };
        match once_more(request, send).await?.answer {
            Some(Answer::Absent(_)) => Ok(LookupAnswer::Absent),
            Some(Answer::Replay(it)) => Ok(LookupAnswer::Replay(record(it, &kinds)?)),
            Some(Answer::Running(it)) => Ok(LookupAnswer::Running(record(it, &kinds)?)),
            Some(Answer::Unknown(it)) => Ok(LookupAnswer::Unknown(record(it, &kinds)?)),
            Some(Answer::KeyReused(_)) => Ok(LookupAnswer::KeyReused),
            Some(Answer::Denied(_) | Answer::Marked(_)) | None => Err(unreadable()),
        }
    }

    async fn admit(&self, asked: Admit, deadline: Deadline) -> Result<AdmitAnswer, Refusal> {
        use proto::admit_response::Decision;

        let kinds = kinds(&asked.keys);
        let execution = asked.execution.clone();
        let send = |request| async { self.client.clone().admit(with_deadline(request, Some(deadline))).await };
        match once_more(admit_request(asked), send).await?.decision {
            Some(Decision::Admitted(it)) => Ok(AdmitAnswer::Admitted(admitted(it, execution)?)),
            Some(Decision::Replay(it)) => Ok(AdmitAnswer::Replay(record(it, &kinds)?)),
            Some(Decision::Running(it)) => Ok(AdmitAnswer::Running(record(it, &kinds)?)),
            Some(Decision::Unknown(it)) => Ok(AdmitAnswer::Unknown(record(it, &kinds)?)),
            Some(Decision::KeyReused(_)) => Ok(AdmitAnswer::KeyReused),
            Some(Decision::Denied(_) | Decision::Marked(_) | Decision::Consumed(_)) | None => Err(unreadable()),
        }
    }

    async fn extend(&self, asked: Extend, deadline: Deadline) -> Result<Extended, Refusal> {
        use proto::extend_response::Decision;

        let request = proto::ExtendRequest {
            workspace_id: asked.workspace.into(),
            contact_id: asked.contact.into(),
            execution_id: asked.execution.into(),
            operation_id: asked.operation.to_string(),
            fencing_token: asked.token,
            lease: asked.lease.map(to_duration),
            checkpoint: asked.checkpoint.map(Into::into),
            charges: Vec::new(),
            marks: Vec::new(),
        };
        let send = |request| async { self.client.clone().extend(with_deadline(request, Some(deadline))).await };
        match once_more(request, send).await?.decision {
            Some(Decision::Extended(it)) => {
                Ok(Extended { lease_ends: it.lease_expire_time.and_then(|at| timestamp(&at)), revision: it.revision })
            }
            Some(Decision::Denied(_) | Decision::Marked(_)) | None => Err(unreadable()),
        }
    }

    async fn settle(&self, asked: Settle, deadline: Deadline) -> Result<Record, Refusal> {
        let request = settle_request(asked);
        let send = |request| async { self.client.clone().settle(with_deadline(request, Some(deadline))).await };
        let answer = once_more(request, send).await?;
        record(answer.record.ok_or_else(unreadable)?, &[])
    }
}

/// Sends the request and, if nobody can tell what became of it, once more: it carries its operation id, so it is
/// applied once. The deadline is the same; the channel refuses at once when nothing is left of it.
async fn once_more<T, R, F>(request: T, send: impl Fn(T) -> F) -> Result<R, Refusal>
where
    T: Clone,
    F: Future<Output = Result<Response<R>, Status>>,
{
    let answered = match send(request.clone()).await {
        Err(status) if may_be_repeated(&status) => {
            tracing::debug!("admission was not available, asking once more");
            send(request).await
        }
        answered => answered,
    };
    answered.map(Response::into_inner).map_err(|status| from_sister(&status, "admission"))
}

/// A lost connection, or a replica that drains. A store that is gone is not back a moment later.
fn may_be_repeated(status: &Status) -> bool {
    status.code() == Code::Unavailable && refusal_in(status).is_none_or(|refusal| refusal.reason() == Reason::Draining)
}

fn unreadable() -> Refusal {
    Refusal::internal("admission gave an answer that this version does not know")
}

fn lookup_request(asked: Lookup) -> (proto::LookupRequest, Vec<KeyKind>) {
    use proto::lookup_request::Target as Wire;

    let (contact, target, kinds) = match asked.target {
        Target::Keys { contact, keys, fingerprint } => {
            let kinds = kinds(&keys);
            let idempotency = proto::Idempotency {
                keys: keys.iter().map(to_key).collect(),
                fingerprint: fingerprint.map(|digest| digest.to_vec()).unwrap_or_default().into(),
                retain: None,
                lease: None,
            };
            (Some(contact), Wire::Idempotency(idempotency), kinds)
        }
        Target::Execution { execution, contact } => (contact, Wire::ExecutionId(execution.into()), Vec::new()),
    };
    let request = proto::LookupRequest {
        workspace_id: WorkspaceId::into(asked.workspace),
        contact_id: contact.map(String::from).unwrap_or_default(),
        operation_id: asked.operation.to_string(),
        target: Some(target),
        charges: Vec::new(),
        marks: Vec::new(),
    };
    (request, kinds)
}

fn admit_request(asked: Admit) -> proto::AdmitRequest {
    proto::AdmitRequest {
        workspace_id: asked.workspace.into(),
        contact_id: asked.contact.into(),
        execution_id: asked.execution.into(),
        operation_id: asked.operation.to_string(),
        idempotency: Some(proto::Idempotency {
            keys: asked.keys.iter().map(to_key).collect(),
            fingerprint: asked.fingerprint.to_vec().into(),
            retain: asked.retain.map(to_duration),
            lease: Some(to_duration(asked.lease)),
        }),
        charges: Vec::new(),
        marks: Vec::new(),
        intent: asked.intent.into(),
        wait: None,
        resume_execution_id: asked.resume.map(String::from).unwrap_or_default(),
        consume: Vec::new(),
    }
}

fn settle_request(asked: Settle) -> proto::SettleRequest {
    use proto::settle_request::Settlement as Wire;

    let settlement = match asked.settlement {
        Settlement::Completed { outcome, retain } => Wire::Completed(proto::Completed {
            outcome: outcome.into(),
            retain: retain.map(to_duration),
            actual: Vec::new(),
        }),
        Settlement::Released { bytes_sent, outcome, keep_for_caller_key, doubt_resolved } => {
            Wire::Released(proto::Released {
                bytes_sent,
                outcome: outcome.unwrap_or_default().into(),
                keep_for_caller_key,
                free_completed: false,
                doubt_resolved,
            })
        }
        Settlement::Unknown { outcome } => {
            Wire::Unknown(proto::Unknown { outcome: outcome.unwrap_or_default().into() })
        }
    };
    proto::SettleRequest {
        workspace_id: asked.workspace.into(),
        contact_id: asked.contact.into(),
        execution_id: asked.execution.into(),
        operation_id: asked.operation.to_string(),
        fencing_token: asked.token,
        settlement: Some(settlement),
    }
}

fn to_key(key: &Key) -> proto::IdempotencyKey {
    let kind = match key.kind {
        KeyKind::Caller => proto::IdempotencyKeyKind::Caller,
        KeyKind::Same => proto::IdempotencyKeyKind::Same,
    };
    proto::IdempotencyKey { kind: kind.into(), digest: key.digest.to_vec().into() }
}

fn kinds(keys: &[Key]) -> Vec<KeyKind> {
    keys.iter().map(|key| key.kind).collect()
}

/// `asked` is the id that a new execution was to get; one that was taken over has its own.
fn admitted(from: proto::Admitted, asked: ExecutionId) -> Result<Admitted, Refusal> {
    if from.fencing_token == 0 {
        return Err(unreadable());
    }
    let resumed = from.resumed.map(|it| record(it, &[])).transpose()?;
    Ok(Admitted {
        execution: resumed.as_ref().map_or(asked, |record| record.execution.clone()),
        token: from.fencing_token,
        generation: from.generation,
        lease_ends: from.lease_expire_time.and_then(|at| timestamp(&at)),
        resumed,
    })
}

/// `kinds`: of the keys that were asked with; empty where none was.
fn record(from: proto::ExecutionRecord, kinds: &[KeyKind]) -> Result<Record, Refusal> {
    let state = match from.state() {
        proto::RecordState::Running => RecordState::Running,
        proto::RecordState::Completed => RecordState::Completed,
        proto::RecordState::Released => RecordState::Released,
        proto::RecordState::Unknown => RecordState::Unknown,
        proto::RecordState::Unspecified | proto::RecordState::Reserving => return Err(unreadable()),
    };
    let place = usize::try_from(from.matched_key).map_err(|_| unreadable())?;
    let matched = match kinds.get(place) {
        Some(KeyKind::Caller) => Matched::CallerKey,
        Some(KeyKind::Same) => Matched::SameInputs,
        None if kinds.is_empty() => Matched::Id,
        None => return Err(unreadable()),
    };
    let time = |at: Option<_>| at.and_then(|at| timestamp(&at));
    Ok(Record {
        execution: from.execution_id.parse().map_err(|_| unreadable())?,
        state,
        token: from.fencing_token,
        generation: from.generation,
        intent: from.intent.into(),
        checkpoint: from.checkpoint.into(),
        outcome: from.outcome.into(),
        lease_ends: time(from.lease_expire_time),
        admitted: time(from.create_time).unwrap_or(Timestamp::from_millis(0)),
        settled: time(from.settle_time),
        expires: time(from.expire_time),
        revision: from.revision,
        matched,
    })
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

    #[test]
    fn a_record_in_a_state_that_this_version_does_not_know_is_no_answer() {
        let good = proto::ExecutionRecord {
            execution_id: format!("exe_{}", "0".repeat(48)),
            state: proto::RecordState::Running.into(),
            ..proto::ExecutionRecord::default()
        };
        assert!(record(good.clone(), &[]).is_ok());
        assert!(record(proto::ExecutionRecord { state: 99, ..good.clone() }, &[]).is_err());
        assert!(record(proto::ExecutionRecord { matched_key: 1, ..good }, &[KeyKind::Same]).is_err());
        assert!(admitted(proto::Admitted::default(), format!("exe_{}", "0".repeat(48)).parse().unwrap()).is_err());
    }

    #[test]
    fn nothing_sealed_is_printed() {
        let sealed = Settlement::Completed { outcome: b"hello".to_vec(), retain: None };
        let key = Key { kind: KeyKind::Same, digest: [104; 32] };
        let shown = format!("{sealed:?} {key:?}");
        assert!(!shown.contains("104"), "{shown}");
    }
}
