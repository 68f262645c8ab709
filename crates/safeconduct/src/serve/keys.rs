//! The key files of this process: made or completed when they may be, and followed while it serves.

use std::path::Path;
use std::sync::Arc;

use safeconduct_service::config::{Config, StoreConfig};
use safeconduct_service::keyring::{LiveKeyring, Wanting, complete_suite, create_suite};
use safeconduct_service::process::Process;
use safeconduct_types::{Clock, Random};

use crate::cli::Which;
use crate::exit::Failure;

/// The embedded store's folder, and in a suite of one process on a new embedded store the key files, are made when they
/// are missing. Beside a store that is there already they are not: records are found by a keyed hash, so with other
/// keys nothing that was done would be found, and all of it could be done again. Files of an earlier version get the
/// keys of the purposes that they lack.
pub(super) fn prepare(which: Which, config: &Config, random: &dyn Random) -> Result<(), Failure> {
    let keys = &config.keyring_dir;
    let missing = !keys.join("identity.keys").exists() || !keys.join("admission.keys").exists();
    let made_when_missing = match &config.store {
        StoreConfig::Embedded { dir } => {
            std::fs::create_dir_all(dir)
                .map_err(|error| Failure::unavailable(format!("{}: cannot be made ({error})", dir.display())))?;
            !["identity", "admission"].iter().any(|service| dir.join(format!("{service}.redb")).exists())
        }
        StoreConfig::Redis(_) => false,
    };
    if which != Which::All {
        return Ok(());
    }
    if !missing {
        // Only of an embedded store can it be said that no other process runs on these files' keys.
        if matches!(config.store, StoreConfig::Embedded { .. }) {
            let added = complete_suite(keys, Wanting::Refused, random).map_err(Failure::usage)?;
            for one in added {
                tracing::info!(file = %one.file.display(), purpose = %one.purpose, "added a key that the file lacked");
            }
        }
        return Ok(());
    }
    if !made_when_missing {
        return Err(Failure::usage(format!(
            "{}: the key files are missing, but there is a store that was written with some; restore them, or name their \
             folder (keyring_dir). For a new Redis make them once with `safeconduct keys init --dir {}` and give every \
             process the same",
            keys.display(),
            keys.display()
        )));
    }
    let made = create_suite(keys, random).map_err(Failure::usage)?;
    tracing::info!(directory = %keys.display(), files = made.len(), "made the suite's key files");
    Ok(())
}

/// The key files in use.
#[derive(Debug, Default)]
pub(super) struct KeyFiles(Vec<LiveKeyring>);

impl KeyFiles {
    /// The keys of a service, followed from now on.
    pub(super) fn open(
        &mut self,
        directory: &Path,
        service: &str,
        process: &Process,
        clock: &Arc<dyn Clock>,
    ) -> Result<LiveKeyring, Failure> {
        let path = directory.join(format!("{service}.keys"));
        let keyring = LiveKeyring::open(&path).map_err(|error| {
            if path.exists() {
                Failure::usage(error)
            } else {
                Failure::usage(format!(
                    "{}: there is no such key file; make the suite's key files once with `safeconduct keys init --dir \
                     {}` and give each service its own",
                    path.display(),
                    directory.display()
                ))
            }
        })?;
        keyring.watch(&process.tasks, Arc::clone(clock));
        self.0.push(keyring.clone());
        Ok(keyring)
    }

    /// Counts from now on what is taken of these files.
    pub(super) fn show(self, process: &Process) {
        let Self(files) = self;
        process.metrics.show(move |text| LiveKeyring::metrics(&files, text));
    }
}
