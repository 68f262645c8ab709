//! The file: how it is opened, and how its errors read.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use safeconduct_types::{Random, SystemRandom};

use super::tables::{self, Moment};
use crate::StoreError;

/// What is known of the file itself.
const META: TableDefinition<&str, &str> = TableDefinition::new("meta");

/// The layout of the tables.
const LAYOUT: &str = "2";

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
    database: RwLock<Result<Opened, StoreError>>,
    epoch: String,
}

/// An open database.
struct Opened {
    /// As it was after the last commit; none until somebody reads. Goes before the database, which it holds on to.
    latest: Mutex<Option<Arc<Moment>>>,
    database: Database,
}

impl Opened {
    fn of(database: Database) -> Self {
        Self { latest: Mutex::new(None), database }
    }

    /// As it is now. Begun once for all who read before the next commit.
    fn latest(&self) -> Result<Arc<Moment>, StoreError> {
        // Held while a moment begins: one from before a commit would otherwise be kept after it.
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(moment) = &*latest {
            return Ok(Arc::clone(moment));
        }
        let moment = Arc::new(Moment::new(self.database.begin_read().map_err(fault)?));
        *latest = Some(Arc::clone(&moment));
        Ok(moment)
    }
}

/// Ends the moment that was the latest, however the writing ends: it may have been committed.
struct Outdated<'d>(&'d Opened);

impl Drop for Outdated<'_> {
    fn drop(&mut self) {
        let outdated = self.0.latest.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Not while it is locked: letting go of it takes locks of the engine.
        drop(outdated);
    }
}

impl Disk {
    pub(super) fn open(opener: Opener) -> Result<Self, StoreError> {
        let (database, epoch) = opened(&opener, Opening::First)?;
        Ok(Self { opener, database: RwLock::new(Ok(Opened::of(database))), epoch })
    }

    /// Told from every other file by this.
    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Writes to the database; whoever reads afterwards sees it.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // A panic inside leaves the database itself whole: its transaction was not committed.
        let opened = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let opened = opened.as_ref().map_err(Clone::clone)?;
        let _outdated = Outdated(opened);
        work(&opened.database)
    }

    /// Reads the database as it is after the last commit. Any number of threads do at a time.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Moment) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let opened = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let moment = opened.as_ref().map_err(Clone::clone)?.latest()?;
        work(&moment)
    }

    /// Whether [`Self::read`] would have to wait, for the file to be opened again.
    pub(super) fn is_busy(&self) -> bool {
        self.database.try_read().is_err()
    }

    /// Closes and opens the file. After an error of the disk redb does nothing more until then.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // First let go of the file: it is locked.
        *database = Err(StoreError::Unavailable("the file of the store is being opened again".into()));
        *database = opened(&self.opener, Opening::Again).and_then(|(database, epoch)| {
            let same = epoch == self.epoch;
            same.then(|| Opened::of(database)).ok_or(StoreError::Corrupt("the file of the store was replaced".into()))
        });
        database.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.database.read().unwrap_or_else(PoisonError::into_inner).is_err()
    }
}

/// The database and its epoch. What is empty becomes a store; what is something else is refused.
fn opened(opener: &Opener, opening: Opening) -> Result<(Database, String), StoreError> {
    let database = opener(opening).map_err(fault)?;
    let transaction = database.begin_write().map_err(fault)?;
    let empty = transaction.list_tables().map_err(fault)?.count() == 0;
    let epoch = {
        let mut meta = transaction.open_table(META).map_err(fault)?;
        if empty {
            let mut id = [0; 16];
            SystemRandom.fill(&mut id);
            meta.insert("layout", LAYOUT).map_err(fault)?;
            meta.insert("epoch", hex::encode(id).as_str()).map_err(fault)?;
        }
        let layout = meta.get("layout").map_err(fault)?.map(|layout| layout.value().to_owned());
        if layout.as_deref() != Some(LAYOUT) {
            return Err(StoreError::Corrupt(
                "the file of the store is of another version; begin with an empty data_dir".into(),
            ));
        }
        let epoch = meta.get("epoch").map_err(fault)?.map(|epoch| epoch.value().to_owned());
        epoch.ok_or(StoreError::Corrupt("the file of the store has no epoch".into()))?
    };
    if empty {
        // Readers find the tables from the first moment on.
        tables::create(&transaction).map_err(fault)?;
        transaction.commit().map_err(fault)?;
    } else {
        transaction.abort().map_err(fault)?;
    }
    Ok((database, epoch))
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
