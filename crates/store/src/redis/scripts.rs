//! The scripts: what goes in and what comes out.

use ::redis::{Script, ScriptInvocation, Value};
use bytes::Bytes;
use safeconduct_types::{Clock, OperationId, Timestamp};

use crate::steady::Steady;
use crate::stored::{self, digits};
use crate::{CLOCK_STEP, Change, Committed, Expected, GRACE, REVISIONS, RecordKey, Snapshot, StoreError, Write};

pub(super) struct Scripts {
    read: Script,
    commit: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self { read: Script::new(include_str!("read.lua")), commit: Script::new(include_str!("commit.lua")) }
    }

    pub(super) fn read(&self, keys: &[RecordKey], clock: Option<&dyn Clock>) -> ScriptInvocation<'_> {
        let mut script = self.read.prepare_invoke();
        for key in keys {
            script.key(key.as_str());
        }
        script.arg(time(clock));
        script
    }

    pub(super) fn commit(
        &self,
        operation: OperationId,
        changes: &[Change],
        clock: Option<&dyn Clock>,
        steady: &Steady,
    ) -> ScriptInvocation<'_> {
        let mut script = self.commit.prepare_invoke();
        let latest = Some(steady.latest()).filter(|latest| latest.as_millis() != i64::MIN);
        script
            .arg(time(clock))
            .arg(latest.map(|latest| latest.as_millis().to_string()).unwrap_or_default())
            .arg(CLOCK_STEP.as_millis().to_string())
            .arg(GRACE.as_millis().to_string())
            .arg(REVISIONS)
            .arg(operation.as_bytes());
        for change in changes {
            let expected: &[u8] = match &change.expected {
                Expected::Absent => &[],
                Expected::At(revision) => &revision.0,
            };
            let (kind, expires, value): (_, _, &[u8]) = match &change.write {
                Write::Put { value, expires } => ("V", digits(*expires), value),
                Write::Delete => ("D", 0, &[]),
            };
            script.key(change.key.as_str()).arg(expected).arg(kind).arg(format!("{expires:016}")).arg(value);
        }
        script
    }
}

fn time(clock: Option<&dyn Clock>) -> String {
    clock.map(|clock| clock.now().as_millis().to_string()).unwrap_or_default()
}

fn strange() -> StoreError {
    StoreError::Corrupt("Redis answered a script with something else than its result".into())
}

/// The result of `read.lua`.
pub(super) fn snapshot(answer: Value, asked: usize, steady: &Steady) -> Result<Snapshot, StoreError> {
    let Value::Array(items) = answer else { return Err(strange()) };
    let mut items = items.into_iter();
    let Some(Value::Int(now)) = items.next() else { return Err(strange()) };
    let now = steady.at(Timestamp::from_millis(now));
    let records = items
        .map(|item| {
            if let Value::BulkString(bytes) = item {
                stored::visible(&Bytes::from(bytes), now)
            } else if item == Value::Nil {
                Ok(None)
            } else {
                Err(strange())
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    if records.len() != asked {
        return Err(strange());
    }
    Ok(Snapshot { now, records })
}

/// The result of `commit.lua`.
pub(super) fn committed(answer: Value, steady: &Steady) -> Result<Committed, StoreError> {
    let Value::Array(items) = answer else { return Err(strange()) };
    let [Value::Int(done @ (0 | 1)), Value::Int(now)] = items.as_slice() else { return Err(strange()) };
    steady.at(Timestamp::from_millis(*now));
    Ok(if *done == 1 { Committed::Done } else { Committed::Conflict })
}
