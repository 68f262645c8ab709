//! What became of proofs, and when each key was last used: on that evidence a key is retired.
//!
//! Counted in the process and shown as metrics; the last use of a key is also written to the store, beside the answer
//! and at most once a minute for each key of each process, so that it outlives the process and every process can tell
//! it of all (`ListProofKeys`).

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use safeconduct_service::tasks::Tasks;
use safeconduct_store::{Change, Committed, Ends, Expected, RecordKey, Records, Slot, StoreKeyer, Write};
use safeconduct_telemetry::field;
use safeconduct_types::{OperationId, Random, Reason, Refusal, Timestamp, WorkspaceId};

/// Between two writes of the same key's last use.
const WRITE_EVERY: Duration = Duration::from_mins(1);
/// How long the last use of a key is remembered.
const KEPT: Duration = Duration::from_hours(400 * 24);

/// Most attempts to write it against other processes that write it.
const ATTEMPTS: usize = 8;
/// Between two lines in the log about proofs of a workspace that ended alike: a flood of them fills no log.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Most keys of a workspace that are counted at a time: fetched keys come and go.
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
    verdicts: Mutex<BTreeMap<(WorkspaceId, Kind, Verdict), Ended>>,
    uses: Mutex<HashMap<WorkspaceId, BTreeMap<String, Use>>>,
}

/// Proofs that ended alike.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    count: u64,
    /// How many of them the log knows of, and since when.
    told: Option<(u64, Timestamp)>,
}

impl Ended {
    /// Counts one; how many there are that the log does not know of, when it is time to tell.
    fn one_more(&mut self, now: Timestamp) -> Option<u64> {
        self.count = self.count.saturating_add(1);
        let (known, since) = self.told.unwrap_or_default();
        // A clock that was set back silences nobody.
        let is_due = self.told.is_none() || now < since || now.since(since) >= TELL_EVERY;
        is_due.then(|| {
            self.told = Some((self.count, now));
            self.count.saturating_sub(known)
        })
    }
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

    /// Counts a proof that was checked; the log hears of those that were not accepted, now and then.
    pub(crate) fn count(&self, workspace: &WorkspaceId, kind: Kind, verdict: Verdict, now: Timestamp) {
        let mut all = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let due = all.entry((workspace.clone(), kind, verdict)).or_default().one_more(now);
        drop(all);
        if let Some(proofs) = due.filter(|_| verdict != Verdict::Verified) {
            tracing::info!(
                { field::WORKSPACE } = %workspace, proof = kind.as_str(), verdict = verdict.as_str(), proofs,
                "proofs were not accepted; told once in 10 s at most"
            );
        }
    }

    /// Takes note that a key verified a proof.
    pub(crate) fn used(self: &Arc<Self>, workspace: &WorkspaceId, key: &str, now: Timestamp) {
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
        make_room(of_workspace);
        tracing::info!({ field::WORKSPACE } = %workspace, key, "a key verified its first proof in this process");
        of_workspace.insert(key.to_owned(), Use { count: 1, last: now, written: now });
        true
    }

    fn write_later(self: &Arc<Self>, workspace: &WorkspaceId, key: &str, now: Timestamp) {
        let (slot, record) = self.place(workspace, key);
        let (evidence, workspace, key) = (Arc::clone(self), workspace.clone(), key.to_owned());
        drop(self.tasks.spawn(async move {
            if let Err(error) = write(&*evidence.records, &slot, &record, &*evidence.random, now).await {
                tracing::debug!(%error, "the last use of a key was not written; the next one is");
                evidence.unwritten(&workspace, &key);
            }
        }));
    }

    /// The next use is written, however soon it comes.
    fn unwritten(&self, workspace: &WorkspaceId, key: &str) {
        let mut all = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = all.get_mut(workspace).and_then(|keys| keys.get_mut(key)) {
            one.written = Timestamp::default();
        }
    }

    /// When the key last verified a proof: in this process, or in any by what they have written.
    pub(crate) async fn last_use(&self, workspace: &WorkspaceId, key: &str) -> Result<Option<Timestamp>, Refusal> {
        let stored = self.stored(workspace, key).await?;
        let all = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let here = all.get(workspace).and_then(|keys| keys.get(key)).map(|one| one.last);
        Ok(stored.max(here).filter(|last| *last > Timestamp::default()))
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
        if of_workspace.contains_key(&key) || of_workspace.len() < MOST_KEYS {
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
            let (kind, verdict, count) = (kind.as_str(), verdict.as_str(), count.count);
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

/// The key that was not used for longest goes; when that was, the store knows.
fn make_room(keys: &mut BTreeMap<String, Use>) {
    if keys.len() >= MOST_KEYS
        && let Some(oldest) = keys.iter().min_by_key(|(_, one)| one.last).map(|(key, _)| key.clone())
    {
        keys.remove(&oldest);
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

/// Writes the time, if none that is later stands there.
async fn write(
    records: &dyn Records,
    slot: &Slot,
    key: &RecordKey,
    random: &dyn Random,
    now: Timestamp,
) -> Result<(), Refusal> {
    let value = now.as_seconds().to_string().into_bytes();
    for _ in 0..ATTEMPTS {
        let found = read(records, slot, key).await?;
        if found.is_some_and(|(_, at)| at.is_some_and(|at| at.as_seconds() >= now.as_seconds())) {
            return Ok(());
        }
        let expected = found.map_or(Expected::Absent, |(expected, _)| expected);
        let write = Write::put(value.clone(), Ends::After(KEPT));
        let change = [Change { key: key.clone(), expected, write }];
        if records.commit(slot, OperationId::generate(random), &change).await? == Committed::Done {
            return Ok(());
        }
    }
    Err(Refusal::new(Reason::Overloaded, "many processes write the last use of a key at once"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_was_not_used_for_longest_makes_room_for_a_new_one() {
        let used =
            |second| Use { count: 1, last: Timestamp::from_seconds(second), written: Timestamp::from_seconds(second) };
        let mut keys: BTreeMap<String, Use> =
            (0..256).map(|n: i64| (format!("k{n}"), used(if n == 77 { 1 } else { 1000 + n }))).collect();
        make_room(&mut keys);
        assert_eq!((keys.len(), keys.contains_key("k77")), (255, false));
        make_room(&mut keys);
        assert_eq!(keys.len(), 255, "there is room");
    }

    #[test]
    fn a_flood_of_failed_proofs_is_told_once_in_ten_seconds_and_counted_in_full() {
        let mut ended = Ended::default();
        let at = |millis: i64| Timestamp::from_millis(1_000_000 + millis);
        assert_eq!(ended.one_more(at(0)), Some(1), "the first at once");
        let told: Vec<u64> = (1..=30_000).filter_map(|millis| ended.one_more(at(millis))).collect();
        assert_eq!(told, [10_000, 10_000, 10_000]);
        assert_eq!(ended.count, 30_001);
        assert_eq!(ended.one_more(at(-5_000)), Some(1), "a clock that was set back");
        assert_eq!(ended.one_more(at(-4_000)), None);
    }
}
