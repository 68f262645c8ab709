//! Whether a server may be trusted with records.

use ::redis::aio::MultiplexedConnection;
use ::redis::cmd;

use super::fault::Fault;
use crate::StoreError;

/// Asks the server about itself: an error if it cannot serve, else what makes it unsafe to write to.
pub(super) async fn inspect(connection: &mut MultiplexedConnection) -> Result<Option<StoreError>, StoreError> {
    let info: String =
        cmd("INFO").query_async(connection).await.map_err(|error| StoreError::from(Fault::of(&error)))?;
    // Managed servers often deny CONFIG; INFO then has to do.
    let save = match cmd("CONFIG").arg("GET").arg("save").query_async::<Vec<String>>(connection).await {
        Ok(pair) => pair.into_iter().nth(1),
        Err(error) => match Fault::of(&error) {
            Fault::Lost(error) | Fault::Demoted(error) => return Err(error),
            Fault::Refused(_) => None,
        },
    };
    judge(&info, save.as_deref())
}

/// `info` is the answer to INFO, `save` the setting of that name if it may be known.
fn judge(info: &str, save: Option<&str>) -> Result<Option<StoreError>, StoreError> {
    let field = |name: &str| {
        info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':')).unwrap_or_default()
    };
    if field("loading") == "1" {
        return Err(StoreError::Unavailable("Redis is loading its data".into()));
    }
    if field("role") != "master" {
        return Err(StoreError::Unavailable("this Redis is a replica".into()));
    }
    let hazard = |why: &'static str| Ok(Some(StoreError::Unsafe(why.into())));
    if field("maxmemory") != "0" && field("maxmemory_policy") != "noeviction" {
        return hazard("Redis evicts records when memory is short; set maxmemory-policy to noeviction");
    }
    if field("aof_enabled") == "1" {
        return Ok(None);
    }
    match save {
        Some("") => hazard("Redis persists nothing; set appendonly to yes"),
        // -1: no snapshot was ever made by this process. Not proof that none ever will be, but none that one will.
        None if field("rdb_last_bgsave_time_sec").starts_with('-') => {
            hazard("Redis seems to persist nothing; set appendonly to yes, or permit CONFIG GET")
        }
        Some(_) | None => Ok(None),
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
            let verdict = judge(&info(fields), save).unwrap();
            assert_eq!(verdict.is_none(), safe, "{fields:?} {save:?}: {verdict:?}");
            assert!(verdict.is_none_or(|hazard| hazard.name() == "unsafe"));
        }
    }

    #[test]
    fn a_replica_or_a_loading_server_does_not_serve() {
        for field in [("role", "slave"), ("loading", "1")] {
            assert_eq!(judge(&info(&[field]), Some("3600 1")).unwrap_err().name(), "unavailable");
        }
    }
}
