//! What a server says about itself: whether it serves, whether it may be trusted, and whose past it continues.

use ::redis::aio::MultiplexedConnection;
use ::redis::cmd;

use super::fault::Fault;
use super::lineage::Lineage;
use crate::StoreError;

/// A master that serves.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) lineage: Lineage,
    /// What makes it unsafe to write to.
    pub(super) hazard: Option<StoreError>,
    /// Why it takes no writes for want of memory.
    pub(super) full: Option<StoreError>,
    /// How many replicas are connected.
    pub(super) replicas: u64,
}

/// Asks a server about itself: an error if it cannot serve. `place` is the hash of its address.
pub(super) async fn inspect(connection: &mut MultiplexedConnection, place: &str) -> Result<Server, StoreError> {
    let info: String =
        cmd("INFO").query_async(connection).await.map_err(|error| StoreError::from(Fault::of(&error)))?;
    let save = setting(connection, "save").await?;
    let fsync = setting(connection, "appendfsync").await?;
    judge(&info, save.as_deref(), fsync.as_deref(), place)
}

/// The replication id, if the server is still a master.
pub(super) async fn glance(connection: &mut MultiplexedConnection) -> Result<String, StoreError> {
    let info: String = cmd("INFO")
        .arg("replication")
        .query_async(connection)
        .await
        .map_err(|error| StoreError::from(Fault::of(&error)))?;
    if field(&info, "role") != "master" {
        return Err(replica());
    }
    Ok(field(&info, "master_replid").to_owned())
}

/// A setting, if it may be known: managed servers often deny CONFIG, and INFO then has to do.
async fn setting(connection: &mut MultiplexedConnection, name: &str) -> Result<Option<String>, StoreError> {
    match cmd("CONFIG").arg("GET").arg(name).query_async::<Vec<String>>(connection).await {
        Ok(pair) => Ok(pair.into_iter().nth(1)),
        Err(error) => Fault::of(&error).refusal().map(|_| None),
    }
}

fn field<'a>(info: &'a str, name: &str) -> &'a str {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':')).unwrap_or_default()
}

fn replica() -> StoreError {
    StoreError::Unavailable("this Redis is a replica".into())
}

/// `info` is the answer to INFO, `save` and `fsync` the settings `save` and `appendfsync` if they may be known.
fn judge(info: &str, save: Option<&str>, fsync: Option<&str>, place: &str) -> Result<Server, StoreError> {
    let field = |name: &str| field(info, name);
    if field("loading") == "1" {
        return Err(StoreError::Unavailable("Redis is loading its data".into()));
    }
    if field("role") != "master" {
        return Err(replica());
    }
    let logs = field("aof_enabled") == "1";
    let number = |name: &str| field(name).parse::<u64>().unwrap_or(0);
    // What the server itself compares, buffers to replicas and to its log left out.
    let used = number("used_memory").saturating_sub(number("mem_not_counted_for_evict"));
    let is_full = number("maxmemory") != 0 && used > number("maxmemory");
    let lineage = Lineage {
        id: field("master_replid").to_owned(),
        second: Some(field("master_replid2")).filter(|id| id.contains(|c| c != '0')).map(str::to_owned),
        run: field("run_id").to_owned(),
        place: place.to_owned(),
        logs,
        logs_at_once: logs && fsync == Some("always"),
    };
    Ok(Server {
        lineage,
        hazard: hazard(&field, logs, save).map(|why| StoreError::Unsafe(why.into())),
        full: is_full.then(|| StoreError::Full("Redis has reached its maxmemory".into())),
        replicas: number("connected_slaves"),
    })
}

fn hazard<'a>(field: &impl Fn(&str) -> &'a str, logs: bool, save: Option<&str>) -> Option<&'static str> {
    if field("maxmemory") != "0" && field("maxmemory_policy") != "noeviction" {
        return Some("Redis evicts records when memory is short; set maxmemory-policy to noeviction");
    }
    if logs {
        return None;
    }
    match save {
        Some("") => Some("Redis persists nothing; set appendonly to yes"),
        // -1: no snapshot was ever made by this process. Not proof that none ever will be, but none that one will.
        None if field("rdb_last_bgsave_time_sec").starts_with('-') => {
            Some("Redis seems to persist nothing; set appendonly to yes, or permit CONFIG GET")
        }
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(fields: &[(&str, &str)]) -> String {
        let mut all = vec![
            ("loading", "0"),
            ("role", "master"),
            ("maxmemory", "0"),
            ("maxmemory_policy", "noeviction"),
            ("aof_enabled", "0"),
            ("rdb_last_bgsave_time_sec", "-1"),
        ];
        for &(name, value) in fields {
            all.retain(|(known, _)| *known != name);
            all.push((name, value));
        }
        all.iter().flat_map(|(name, value)| [name, ":", value, "\r\n"]).collect()
    }

    #[test]
    fn a_server_that_may_lose_records_is_unsafe() {
        let eviction = [("maxmemory", "100"), ("maxmemory_policy", "volatile-lru"), ("aof_enabled", "1")];
        for (fields, save, safe) in [
            (&[("aof_enabled", "1")][..], None, true),
            (&[], Some("3600 1"), true),
            (&[("rdb_last_bgsave_time_sec", "0")], None, true),
            (&[("maxmemory", "100"), ("aof_enabled", "1")], None, true),
            (&[("maxmemory_policy", "allkeys-lru"), ("aof_enabled", "1")], None, true),
            (&[], Some(""), false),
            (&[], None, false),
            (&eviction, Some("3600 1"), false),
        ] {
            let verdict = judge(&info(fields), save, None, "here").unwrap().hazard;
            assert_eq!(verdict.is_none(), safe, "{fields:?} {save:?}: {verdict:?}");
            assert!(verdict.is_none_or(|hazard| hazard.name() == "unsafe"));
        }
    }

    #[test]
    fn a_replica_or_a_loading_server_does_not_serve() {
        for field in [("role", "slave"), ("loading", "1")] {
            assert_eq!(judge(&info(&[field]), Some("3600 1"), None, "here").unwrap_err().name(), "unavailable");
        }
    }

    #[test]
    fn a_server_without_memory_is_full_and_its_buffers_do_not_count() {
        let full = |used: &'static str| {
            let fields = [("maxmemory", "100"), ("used_memory", used), ("mem_not_counted_for_evict", "10")];
            judge(&info(&fields), Some("3600 1"), None, "here").unwrap().full
        };
        assert_eq!(full("110"), None);
        assert_eq!(full("111").map(|error| error.name()), Some("full"));
    }

    #[test]
    fn a_server_tells_its_history_and_how_well_it_keeps_it() {
        let id = "8c1b";
        let fields = [("master_replid", id), ("master_replid2", "0000"), ("run_id", "r"), ("aof_enabled", "1")];
        let lineage = |fsync| judge(&info(&fields), None, fsync, "here").unwrap().lineage;
        let (always, unknown) = (lineage(Some("always")), lineage(None));
        assert_eq!((always.id.as_str(), &always.second, always.run.as_str()), (id, &None, "r"));
        assert!(always.logs_at_once && unknown.logs && !unknown.logs_at_once);
        let promoted = judge(&info(&[("master_replid2", "0a00")]), None, None, "here").unwrap().lineage;
        assert_eq!(promoted.second.as_deref(), Some("0a00"));
    }
}
