//! Records with compare-and-set and expiry, over Redis and the embedded engine.
//!
//! A record is a key, some bytes, a revision and perhaps an end. Records that change together live in one
//! [`Slot`]; [`Records::commit`] changes any number of them at once, if each is still as expected. That is all:
//! what the bytes mean, and what may follow what, belongs to the service that owns the keyspace.
//!
//! What both stores promise, and the conformance suite checks:
//!
//! - **All or nothing.** A commit is seen whole or not at all, and it is durable before it is answered.
//! - **Once.** The revision of a record is the [`OperationId`] that wrote it. Each record remembers its last
//!   [`REVISIONS`] revisions (deleted ones too, for [`GRACE`]), and a commit is all or nothing, so if any record
//!   that it would write remembers the operation, all of it was done: repeating it answers [`Committed::Done`] and
//!   changes nothing. Only when each of them was written [`REVISIONS`] times since is it forgotten, and then the
//!   repeat is an ordinary commit: it answers [`Committed::Conflict`] if the records are no longer as expected.
//!   A record that is only kept ([`Write::Keep`]) remembers nothing.
//!   An operation id belongs to one set of changes; after a conflict it may be used for another one.
//! - **The store's clock decides expiry.** A record whose end has come reads as absent, whether or not its bytes
//!   were collected. Bytes are collected [`GRACE`] later, so that a clock set wrong and right again within that
//!   time costs nothing. No process follows a clock that jumps by more than [`STEP`]: see [`Pace`].
//! - **No endless waiting.** Every call ends within the reply time-out; while the store is known to be gone,
//!   calls fail at once.
//!
//! Keys are keyed hashes of length-prefixed parts ([`StoreKeyer`]): nobody reads a contact off the store, and no
//! two lists of parts meet in one key. Values are the caller's to seal. Neither is ever in a span, log or error.

mod embedded;
pub mod envelope;
mod error;
mod key;
mod open;
mod pace;
mod record;
mod redis;
#[cfg(test)]
mod tests;
mod trace;

use std::fmt::Debug;

use async_trait::async_trait;
use safeconduct_types::OperationId;

pub use embedded::{EmbeddedStore, Ephemeral, Small, Txn, View};
pub use envelope::{GRACE, REVISIONS};
pub use error::StoreError;
pub use key::{KeyName, RecordKey, Slot, StoreKeyer};
pub use open::{Store, StoreOptions, open};
pub use pace::{Band, Pace, STEP};
pub use record::{Change, Committed, Ends, Expected, MAX_RECORDS, MAX_VALUE, Record, Revision, Snapshot, Write};
pub use redis::{
    Arg, Durability, LinkHealth, RedisOptions, RedisRecords, RedisServers, RedisStore, Reply, Script, Use,
};

/// Records of one keyspace, on whichever store.
#[async_trait]
pub trait Records: Send + Sync + Debug {
    /// These records of one slot as they are at one moment, in the order of `keys` (1 to [`MAX_RECORDS`]), and
    /// what time it then was.
    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError>;

    /// As [`Records::read`], but what is found is as durable as after a commit before it is answered, whoever wrote it:
    /// for answers that stand for something written. With [`Durability::Replicated`] it waits for replicas if there is
    /// something to find, and fails while they do not keep up; elsewhere it is a plain read.
    async fn read_firm(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        self.read(slot, keys).await
    }

    /// Makes all of these changes (1 to [`MAX_RECORDS`], each of another record of `slot`), durably, if every
    /// record is as expected; else none. May be repeated with the same operation id when the answer was lost.
    async fn commit(&self, slot: &Slot, operation: OperationId, changes: &[Change]) -> Result<Committed, StoreError>;

    /// Whether the store answers and would take a write.
    async fn ping(&self) -> Result<(), StoreError>;
}
