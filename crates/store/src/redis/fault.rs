//! What an error of the client means for a call and for the connection.

use std::error::Error;
use std::io;

use ::redis::{ErrorKind, RedisError};

use super::options::Address;
use crate::StoreError;

const NO_PERMISSION: &str = "the Redis user lacks a permission that the store needs; deploy/README.md lists them all";

/// An error of the client, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server answered, and it was no.
    Refused(StoreError),
    /// The server answered no, and will answer nothing else on this connection.
    Demoted(StoreError),
    /// The connection broke, whether before or after the server did what it was asked.
    Lost(StoreError),
    /// It was done, but replicas do not have it.
    Alone(StoreError),
    /// The slot is another server's now. Nothing was done.
    Moved(Address),
    /// The slot is on its way to another server, which is to be asked about this one call. Nothing was done.
    Ask(Address),
    /// The slot is on its way to another server, and its keys are on both. Nothing was done.
    Between,
    /// The cluster has no master for the slot. Nothing was done.
    Masterless(StoreError),
}

/// Whether a server said that the slot is another one's, or on its way there. In a pipeline it names none.
pub(super) fn is_elsewhere(error: &RedisError) -> bool {
    matches!(error.code(), Some("MOVED" | "ASK"))
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(error)
            | Fault::Demoted(error)
            | Fault::Lost(error)
            | Fault::Alone(error)
            | Fault::Masterless(error) => error,
            Fault::Moved(_) | Fault::Ask(_) => {
                Self::Unavailable("Redis is a cluster, and the record is on another server; name it as one".into())
            }
            Fault::Between => Self::Unavailable("the records are being moved to another server".into()),
        }
    }
}

impl Fault {
    /// A plain no, on a connection and a server that go on; else the error.
    pub(super) fn refusal(self) -> Result<StoreError, StoreError> {
        if let Self::Refused(why) = self { Ok(why) } else { Err(self.into()) }
    }

    /// Reads codes and kinds; of the server's texts only where a slot is, whether a disk is full, and whether a script
    /// may not do what it does.
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
            "NOPERM" => Unavailable(NO_PERMISSION.into()),
            // Of a command within a script: Redis, then Valkey.
            "ERR" if detail.contains("user executing the script can't") || detail.contains("ACL failure in script") => {
                Unavailable(NO_PERMISSION.into())
            }
            "MOVED" | "ASK" => {
                let Some(address) = detail.split(' ').nth(1).and_then(Address::redirected) else {
                    return Self::Refused(Unavailable("Redis is a cluster that names no server for the record".into()));
                };
                return if code == "ASK" { Self::Ask(address) } else { Self::Moved(address) };
            }
            "TRYAGAIN" => return Self::Between,
            "MASTERDOWN" | "CLUSTERDOWN" => {
                return Self::Masterless(Unavailable("Redis has no master for the record".into()));
            }
            "CROSSSLOT" => StoreError::Invalid("a script was given keys of several slots".into()),
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
            ("CLUSTERDOWN", "Hash slot not served", "unavailable"),
            ("TRYAGAIN", "", "unavailable"),
            ("MOVED", "3999 127.0.0.1:6381", "unavailable"),
            ("MOVED", "3999", "unavailable"),
        ] {
            assert_eq!(StoreError::from(Fault::of_code(code, detail)).name(), name, "{code} {detail}");
        }
        assert!(matches!(Fault::of_code("READONLY", ""), Fault::Demoted(_)), "the link must look for the master");
        assert_eq!(Fault::of_code("MOVED", "3999 127.0.0.1:6381"), Fault::Moved(Address::new("127.0.0.1", 6381)));
        assert_eq!(Fault::of_code("ASK", "3999 ::1:6381"), Fault::Ask(Address::new("::1", 6381)));
    }

    #[test]
    fn a_broken_connection_is_lost() {
        let error = RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(Fault::of(&error), Fault::Lost(StoreError::Unavailable(_))));
    }
}
