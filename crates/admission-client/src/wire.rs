//! From requests to the wire, and from the wire to answers.

use safeconduct_proto::admission::v1 as proto;
use safeconduct_service::wire::{timestamp, to_duration, to_timestamp};
use safeconduct_types::{ExecutionId, Mark, Refusal, Timestamp};

use crate::answer::{Admitted, Matched, Record, RecordState, Taken};
use crate::limit::{self, Denied, all_remaining, to_charge};
use crate::mark::{self, to_check};
use crate::request::{Admit, Key, KeyKind, Lookup, Settle, Settlement, Take, Target};

pub(crate) fn unreadable() -> Refusal {
    Refusal::internal("admission gave an answer that this version does not know")
}

pub(crate) fn lookup(asked: Lookup) -> (proto::LookupRequest, Vec<KeyKind>) {
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
            (Some(contact), Some(Wire::Idempotency(idempotency)), kinds)
        }
        Target::Execution { execution, contact } => (contact, Some(Wire::ExecutionId(execution.into())), Vec::new()),
        Target::Nothing { contact } => (contact, None, Vec::new()),
    };
    let request = proto::LookupRequest {
        workspace_id: asked.workspace.into(),
        contact_id: contact.map(String::from).unwrap_or_default(),
        operation_id: asked.operation.to_string(),
        target,
        charges: asked.charges.into_iter().map(to_charge).collect(),
        marks: asked.marks.into_iter().map(to_check).collect(),
    };
    (request, kinds)
}

pub(crate) fn admit(asked: Admit) -> proto::AdmitRequest {
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
        charges: asked.charges.into_iter().map(to_charge).collect(),
        marks: asked.marks.into_iter().map(to_check).collect(),
        intent: asked.intent.into(),
        wait: (!asked.wait.is_zero()).then(|| to_duration(asked.wait)),
        resume_execution_id: asked.resume.map(String::from).unwrap_or_default(),
        consume: asked
            .consume
            .into_iter()
            .map(|one| proto::SingleUse {
                digest: one.digest.to_vec().into(),
                expire_time: Some(to_timestamp(one.expires)),
            })
            .collect(),
    }
}

pub(crate) fn take(asked: Take) -> proto::AdmitRequest {
    proto::AdmitRequest {
        workspace_id: asked.workspace.into(),
        contact_id: asked.contact.map(String::from).unwrap_or_default(),
        operation_id: asked.operation.to_string(),
        charges: asked.charges.into_iter().map(to_charge).collect(),
        marks: asked.marks.into_iter().map(to_check).collect(),
        ..proto::AdmitRequest::default()
    }
}

pub(crate) fn settle(asked: Settle) -> proto::SettleRequest {
    use proto::settle_request::Settlement as Wire;

    let settlement = match asked.settlement {
        Settlement::Completed { outcome, retain, actual } => Wire::Completed(proto::Completed {
            outcome: outcome.into(),
            retain: retain.map(to_duration),
            actual: actual
                .into_iter()
                .map(|one| proto::ActualAmount { charge_index: one.charge, amount: one.amount })
                .collect(),
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
        Settlement::Freed { outcome } => Wire::Released(proto::Released {
            bytes_sent: true,
            outcome: outcome.unwrap_or_default().into(),
            keep_for_caller_key: false,
            free_completed: true,
            doubt_resolved: true,
        }),
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

pub(crate) fn kinds(keys: &[Key]) -> Vec<KeyKind> {
    keys.iter().map(|key| key.kind).collect()
}

/// `asked` is the id that a new execution was to get; one that was taken over has its own.
pub(crate) fn admitted(from: proto::Admitted, asked: ExecutionId) -> Result<Admitted, Refusal> {
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
        taken: Taken { remaining: all_remaining(from.remaining), store_epoch: from.store_epoch },
    })
}

/// `kinds`: of the keys that were asked with; empty where none was.
pub(crate) fn record(from: proto::ExecutionRecord, kinds: &[KeyKind]) -> Result<Record, Refusal> {
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

pub(crate) fn denied(from: proto::Denied) -> Result<Denied, Refusal> {
    limit::denied(from).ok_or_else(unreadable)
}

pub(crate) fn marked(from: proto::Marked) -> Result<Mark, Refusal> {
    from.mark.and_then(mark::mark).ok_or_else(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let sealed = Settlement::Completed { outcome: b"hello".to_vec(), retain: None, actual: Vec::new() };
        let key = Key { kind: KeyKind::Same, digest: [104; 32] };
        let shown = format!("{sealed:?} {key:?}");
        assert!(!shown.contains("104"), "{shown}");
    }
}
