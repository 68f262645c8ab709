//! The file: its tables, how it is opened, and how its errors read.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, TableDefinition};

use crate::{RecordKey, StoreError};

/// Key of the record -> its bytes, as in `stored.rs`.
pub(crate) const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("records");

/// When the bytes of a record may be collected (milliseconds), and which record.
pub(super) const COLLECTED: TableDefinition<(i64, &str), ()> = TableDefinition::new("collected");

/// Pages that are kept in memory, in bytes; redb's own 1 GiB is more than a small machine has.
const CACHE: usize = 64 * 1024 * 1024;

/// Why the database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The process starts: it is created if it is not there.
    First,
    /// After an error: it was there, and an empty one in its place would forget everything.
    Again,
}

/// Opens the database.
pub(crate) type Opener = Box<dyn Fn(Opening) -> Result<Database, DatabaseError> + Send + Sync>;

/// Opens the file, for the owner only.
pub(super) fn open(path: &Path, opening: Opening) -> Result<Database, DatabaseError> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(opening == Opening::First).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?;
    Database::builder().set_cache_size(CACHE).create(path)
}

/// The database, or why there is none just now.
pub(super) struct Disk {
    opener: Opener,
    database: RwLock<Result<Database, StoreError>>,
}

impl Disk {
    pub(super) fn open(opener: Opener) -> Result<Self, StoreError> {
        let database = opened(&opener, Opening::First)?;
        Ok(Self { opener, database: RwLock::new(Ok(database)) })
    }

    /// Does something with the database. Any number of threads do at a time.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // A panic inside leaves the database itself whole: its transaction was not committed.
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        work(database.as_ref().map_err(Clone::clone)?)
    }

    /// The bytes of these records, all of one moment.
    pub(super) fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.with(|database| {
            let transaction = database.begin_read().map_err(fault)?;
            let records = transaction.open_table(RECORDS).map_err(fault)?;
            keys.iter()
                .map(|key| {
                    let bytes = records.get(key.as_str()).map_err(fault)?;
                    Ok(bytes.map(|bytes| Bytes::copy_from_slice(bytes.value())))
                })
                .collect()
        })
    }

    /// Closes and opens the file. After an error of the disk redb does nothing more until then.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // First let go of the file: it is locked.
        *database = Err(StoreError::Unavailable("the file of the store is being opened again".into()));
        *database = opened(&self.opener, Opening::Again);
        database.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.database.read().unwrap_or_else(PoisonError::into_inner).is_err()
    }
}

fn opened(opener: &Opener, opening: Opening) -> Result<Database, StoreError> {
    let database = opener(opening).map_err(fault)?;
    // Readers find the tables from the first moment on.
    let transaction = database.begin_write().map_err(fault)?;
    let exists = transaction.list_tables().map_err(fault)?.count() == 2;
    if exists {
        transaction.abort().map_err(fault)?;
    } else {
        transaction.open_table(RECORDS).map_err(fault)?;
        transaction.open_table(COLLECTED).map_err(fault)?;
        transaction.commit().map_err(fault)?;
    }
    Ok(database)
}

/// What an error of redb means to a caller, if nothing was written.
pub(super) fn fault(error: impl Into<redb::Error>) -> StoreError {
    use redb::Error;
    let error = error.into();
    if let Error::Io(error) = &error {
        return io_fault(error);
    }
    if matches!(error, Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch) {
        return StoreError::Unavailable(
            "another process has the file of the store open; stop it, or give this one its own data_dir".into(),
        );
    }
    let damaged = matches!(
        error,
        Error::Corrupted(_)
            | Error::TableTypeMismatch { .. }
            | Error::TableIsMultimap(_)
            | Error::TypeDefinitionChanged { .. }
            | Error::UpgradeRequired(_)
    );
    if damaged {
        return StoreError::Corrupt("the file of the store cannot be read; restore it from a backup".into());
    }
    StoreError::Unavailable("the file of the store cannot be used".into())
}

/// What an error while making a transaction durable means: except for a full disk, it may have been written.
pub(super) fn commit_fault(error: redb::CommitError) -> StoreError {
    let error = fault(error);
    if let StoreError::Unavailable(why) = error { StoreError::Unanswered(why) } else { error }
}

fn io_fault(error: &std::io::Error) -> StoreError {
    let kind = error.kind();
    if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) {
        StoreError::Full("no space left for the file of the store".into())
    } else if kind == ErrorKind::InvalidData {
        StoreError::Corrupt("the file is not a store of Safeconduct".into())
    } else {
        StoreError::Unavailable(format!("the file of the store: {error}").into())
    }
}
