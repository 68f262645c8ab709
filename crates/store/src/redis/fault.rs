//! What an error of the client means for a call and for the connection.

use std::error::Error;
use std::io;

use ::redis::{ErrorKind, RedisError};

use crate::StoreError;

/// An error of the client, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server answered, and it was no.
    Refused(StoreError),
    /// The server answered no, and will answer nothing else on this connection.
    Demoted(StoreError),
    /// The connection broke, whether before or after the server did what it was asked.
    Lost(StoreError),
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(error) | Fault::Demoted(error) | Fault::Lost(error) => error,
        }
    }
}

impl Fault {
    /// Reads codes and kinds; of the server's texts only whether a disk is full.
    pub(super) fn of(error: &RedisError) -> Self {
        match error.code() {
            Some(code) => Self::of_code(code, error.detail().unwrap_or_default()),
            None => Self::of_client(error),
        }
    }

    fn of_code(code: &str, detail: &str) -> Self {
        use StoreError::{Corrupt, Full, Unavailable, Unsafe};
        Self::Refused(match code {
            "LOADING" => Unavailable("Redis is loading its data".into()),
            "NOSCRIPT" => Unavailable("Redis forgets its scripts as soon as they are loaded".into()),
            "BUSY" => Unavailable("Redis is busy with somebody's long script".into()),
            "NOREPLICAS" => Unavailable("Redis has fewer replicas than it demands for a write".into()),
            "NOAUTH" | "WRONGPASS" => Unavailable("Redis does not accept the user or the password".into()),
            "NOPERM" => Unavailable("the Redis user lacks a permission that the store needs".into()),
            "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" => Unavailable("Redis has no master for the record".into()),
            "MOVED" | "ASK" => Unavailable("Redis is a cluster; this store speaks to one server".into()),
            "OOM" => Full("Redis has reached its maxmemory".into()),
            "MISCONF" if detail.contains("No space left") => Full("the disk of Redis has no space left".into()),
            "MISCONF" => Unsafe("Redis cannot write its data to disk".into()),
            "WRONGTYPE" | "CORRUPT" => Corrupt("Redis holds a record that the store did not write".into()),
            // A master that became a replica: only a new connection can find the new master.
            "READONLY" | "UNBLOCKED" => return Self::Demoted(Unavailable("this Redis is a replica".into())),
            _ => Unavailable(format!("Redis answered with the error {code}").into()),
        })
    }

    fn of_client(error: &RedisError) -> Self {
        if error.kind() == ErrorKind::AuthenticationFailed {
            return Self::Refused(StoreError::Unavailable("Redis does not accept the user or the password".into()));
        }
        let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        Self::Lost(StoreError::Unavailable(match cause {
            // The system's or the TLS library's words: no address, no secret.
            Some(cause) => format!("the connection to Redis failed: {cause}").into(),
            None => format!("the connection to Redis failed: {}", error.category()).into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_a_sick_server_is_named_for_what_it_is() {
        for (code, detail, name) in [
            ("LOADING", "", "unavailable"),
            ("NOSCRIPT", "", "unavailable"),
            ("READONLY", "", "unavailable"),
            ("NOPERM", "", "unavailable"),
            ("OOM", "", "full"),
            ("MISCONF", "Errors writing to the AOF file: No space left on device", "full"),
            ("MISCONF", "unable to persist to disk", "unsafe"),
            ("WRONGTYPE", "", "corrupt"),
            ("CORRUPT", "", "corrupt"),
            ("ERR", "", "unavailable"),
        ] {
            assert_eq!(StoreError::from(Fault::of_code(code, detail)).name(), name, "{code} {detail}");
        }
        assert!(matches!(Fault::of_code("READONLY", ""), Fault::Demoted(_)), "the link must look for the master");
    }

    #[test]
    fn a_broken_connection_is_lost() {
        let error = RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(Fault::of(&error), Fault::Lost(StoreError::Unavailable(_))));
    }
}
