//! The store that the configuration asks for.

use std::path::PathBuf;
use std::sync::Arc;

use safeconduct_types::Clock;

use crate::{EmbeddedStore, Pace, Records, RedisOptions, RedisRecords, RedisStore, Slot, StoreError};

/// Which store, and how.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one in a process, and not for long")]
pub enum StoreOptions {
    /// The embedded engine in this file, created if it is not there. One process at a time.
    Embedded {
        /// The file; its folder must exist.
        path: PathBuf,
        /// The store's clock.
        clock: Arc<dyn Clock>,
    },
    /// Redis.
    Redis(RedisOptions),
}

/// An open store. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Store {
    /// The embedded engine.
    Embedded(EmbeddedStore),
    /// Redis.
    Redis(RedisStore),
}

impl Store {
    /// Its records.
    pub fn records(&self) -> Arc<dyn Records> {
        match self {
            Self::Embedded(store) => Arc::new(store.clone()),
            Self::Redis(store) => Arc::new(RedisRecords::on(store.clone())),
        }
    }

    /// The estimate of its clock.
    pub fn pace(&self) -> &Pace {
        match self {
            Self::Embedded(store) => store.pace(),
            Self::Redis(store) => store.pace(),
        }
    }

    /// A short name of the history that the slot is written in; another one when what was acknowledged may be lost.
    pub fn epoch(&self, slot: &Slot) -> String {
        match self {
            Self::Embedded(store) => store.epoch(),
            Self::Redis(store) => store.epoch(slot),
        }
    }

    /// Whether the store answers and would take a write.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.ping().await,
            Self::Redis(store) => store.ping().await,
        }
    }
}

/// Opens the store. Must be called on a tokio runtime that lives as long as the store does.
pub async fn open(options: StoreOptions) -> Result<Store, StoreError> {
    Ok(match options {
        StoreOptions::Embedded { path, clock } => Store::Embedded(EmbeddedStore::open(path, clock).await?),
        StoreOptions::Redis(options) => Store::Redis(RedisStore::connect(options).await?),
    })
}
