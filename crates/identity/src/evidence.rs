//! What became of proofs, and when each key was last used: on that evidence a key is retired.
//!
//! Counted in the process and shown as metrics; the last use of a key is also written to the store, beside the answer
//! and at most once a minute for each key of each process, so that it outlives the process.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use safeconduct_service::tasks::Tasks;
use safeconduct_store::{Change, Ends, Expected, RecordKey, Records, Slot, StoreKeyer, Write};
use safeconduct_telemetry::field;
use safeconduct_types::{OperationId, Random, Refusal, Timestamp, WorkspaceId};

/// Between two writes of the same key's last use.
const WRITE_EVERY: Duration = Duration::from_mins(1);
/// How long the last use of a key is remembered.
const KEPT: Duration = Duration::from_hours(400 * 24);

/// Most keys of a workspace that are counted: fetched keys come and go.
const MOST_KEYS: usize = 256;

/// How a proof ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// It proves who it says.
    Verified,
    /// It does not, and was refused.
    Rejected,
    /// It does not, and was let through as a visitor.
    Reported,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Rejected => "rejected",
            Self::Reported => "reported",
        }
    }
}

/// Which proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    UserHash,
    Token,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::UserHash => "user_hash",
            Self::Token => "token",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Evidence {
    records: Arc<dyn Records>,
    keyer: StoreKeyer,
    random: Arc<dyn Random>,
    tasks: Tasks,
    verdicts: Mutex<BTreeMap<(WorkspaceId, Kind, Verdict), u64>>,
    uses: Mutex<HashMap<WorkspaceId, BTreeMap<String, Use>>>,
}

#[derive(Clone, Copy, Debug)]
struct Use {
    count: u64,
    last: Timestamp,
    written: Timestamp,
}

impl Evidence {
    pub(crate) fn new(records: Arc<dyn Records>, keyer: StoreKeyer, random: Arc<dyn Random>, tasks: Tasks) -> Self {
        Self { records, keyer, random, tasks, verdicts: Mutex::default(), uses: Mutex::default() }
    }

    pub(crate) fn count(&self, workspace: &WorkspaceId, kind: Kind, verdict: Verdict) {
        let mut all = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry((workspace.clone(), kind, verdict)).or_default();
        *count = count.saturating_add(1);
    }

    /// Takes note that a key verified a proof.
    pub(crate) fn used(&self, workspace: &WorkspaceId, key: &str, now: Timestamp) {
        if self.note(workspace, key, now) {
            self.write_later(workspace, key, now);
        }
    }

    /// Whether it is time to write.
    fn note(&self, workspace: &WorkspaceId, key: &str, now: Timestamp) -> bool {
        let mut all = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let of_workspace = match all.get_mut(workspace) {
            Some(found) => found,
            None => all.entry(workspace.clone()).or_default(),
        };
        if let Some(one) = of_workspace.get_mut(key) {
            if one.count == 0 {
                tracing::info!({ field::WORKSPACE } = %workspace, key, "a key verified its first proof in this process");
            }
            one.count = one.count.saturating_add(1);
            one.last = one.last.max(now);
            let is_due = now.since(one.written) >= WRITE_EVERY;
            if is_due {
                one.written = now;
            }
            return is_due;
        }
        if of_workspace.len() >= MOST_KEYS {
            return false;
        }
        tracing::info!({ field::WORKSPACE } = %workspace, key, "a key verified its first proof in this process");
        of_workspace.insert(key.to_owned(), Use { count: 1, last: now, written: now });
        true
    }

    fn write_later(&self, workspace: &WorkspaceId, key: &str, now: Timestamp) {
        let (slot, record) = self.place(workspace, key);
        let (records, random) = (Arc::clone(&self.records), Arc::clone(&self.random));
        drop(self.tasks.spawn(async move {
            if let Err(error) = write(&*records, &slot, record, &*random, now).await {
                tracing::debug!(%error, "the last use of a key was not written; it is again in a minute");
            }
        }));
    }

    /// Looks up, beside the call that asks, when these keys last verified a proof in any process, so that the metrics
    /// tell it of all keys of a workspace, and of one that nobody uses that nobody does.
    pub(crate) fn recall(self: &Arc<Self>, workspace: &WorkspaceId, keys: impl IntoIterator<Item = String>) {
        let (evidence, workspace) = (Arc::clone(self), workspace.clone());
        let keys: Vec<String> = keys.into_iter().collect();
        drop(self.tasks.spawn(async move {
            for key in keys {
                match evidence.stored(&workspace, &key).await {
                    Ok(last) => evidence.remember(&workspace, key, last.unwrap_or_default()),
                    Err(error) => tracing::debug!(%error, "the last use of a key was not read"),
                }
            }
        }));
    }

    async fn stored(&self, workspace: &WorkspaceId, key: &str) -> Result<Option<Timestamp>, Refusal> {
        let (slot, record) = self.place(workspace, key);
        Ok(read(&*self.records, &slot, &record).await?.and_then(|(_, at)| at))
    }

    fn remember(&self, workspace: &WorkspaceId, key: String, last: Timestamp) {
        let mut all = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let of_workspace = all.entry(workspace.clone()).or_default();
        if of_workspace.len() < MOST_KEYS {
            let one = of_workspace.entry(key).or_insert(Use { count: 0, last, written: last });
            one.last = one.last.max(last);
        }
    }

    fn place(&self, workspace: &WorkspaceId, key: &str) -> (Slot, RecordKey) {
        let slot = self.keyer.slot(&[b"key-use", workspace.as_str().as_bytes(), key.as_bytes()]);
        let record = self.keyer.key(&slot, "key-use", &[]);
        (slot, record)
    }

    /// Adds what was counted in the text format of Prometheus. The labels are of the workspaces' files.
    pub(crate) fn metrics(&self, text: &mut String) {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        head(text, "safeconduct_identity_proofs_total", "counter", "Proofs that were checked, by how they ended.");
        for ((workspace, kind, verdict), count) in verdicts {
            let (kind, verdict) = (kind.as_str(), verdict.as_str());
            let _ = writeln!(
                text,
                "safeconduct_identity_proofs_total{{workspace=\"{workspace}\",proof=\"{kind}\",verdict=\"{verdict}\"}} {count}"
            );
        }
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        head(text, "safeconduct_identity_key_uses_total", "counter", "Proofs that a key verified in this process.");
        let rows = |text: &mut String, name: &str, value: fn(&Use) -> i64| {
            for (workspace, keys) in &uses {
                for (key, one) in keys {
                    let _ = writeln!(text, "{name}{{workspace=\"{workspace}\",key=\"{}\"}} {}", label(key), value(one));
                }
            }
        };
        rows(text, "safeconduct_identity_key_uses_total", |one| i64::try_from(one.count).unwrap_or(i64::MAX));
        let name = "safeconduct_identity_key_last_use_seconds";
        head(text, name, "gauge", "When a key last verified a proof, in seconds since 1970; 0: not known to.");
        rows(text, name, |one| one.last.as_seconds());
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// The id of a fetched key is what its source wrote.
fn label(key: &str) -> String {
    key.chars().map(|c| if matches!(c, '"' | '\\' | '\n') { '_' } else { c }).collect()
}

async fn read(
    records: &dyn Records,
    slot: &Slot,
    key: &RecordKey,
) -> Result<Option<(Expected, Option<Timestamp>)>, Refusal> {
    let snapshot = records.read(slot, std::slice::from_ref(key)).await?;
    Ok(snapshot.records.into_iter().next().flatten().map(|record| {
        let seconds = std::str::from_utf8(&record.value).ok().and_then(|text| text.parse().ok());
        (Expected::At(record.revision), seconds.map(Timestamp::from_seconds))
    }))
}

/// Writes the time, if none that is later stands there. Whoever loses a race against another process writes again in
/// a minute.
async fn write(
    records: &dyn Records,
    slot: &Slot,
    key: RecordKey,
    random: &dyn Random,
    now: Timestamp,
) -> Result<(), Refusal> {
    let found = read(records, slot, &key).await?;
    if found.is_some_and(|(_, at)| at.is_some_and(|at| at >= now)) {
        return Ok(());
    }
    let expected = found.map_or(Expected::Absent, |(expected, _)| expected);
    let value = now.as_seconds().to_string().into_bytes();
    let change = [Change { key, expected, write: Write::put(value, Ends::After(KEPT)) }];
    records.commit(slot, OperationId::generate(random), &change).await.map(drop)?;
    Ok(())
}
