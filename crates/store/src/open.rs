//! The store that the configuration asks for.

use std::path::PathBuf;
use std::sync::Arc;

use safeconduct_types::Clock;

use crate::{EmbeddedRecords, Records, RedisOptions, RedisRecords, StoreError};

/// Which store, and how.
#[derive(Clone, Debug)]
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

/// Opens the store. Must be called on a tokio runtime that lives as long as the store does.
pub async fn open(options: StoreOptions) -> Result<Arc<dyn Records>, StoreError> {
    Ok(match options {
        StoreOptions::Embedded { path, clock } => Arc::new(EmbeddedRecords::open(path, clock).await?),
        StoreOptions::Redis(options) => Arc::new(RedisRecords::connect(options).await?),
    })
}
