//! From the settings of the store to the store.

use std::sync::Arc;

use safeconduct_service::config::{RedisConfig, RedisServersConfig, StoreConfig};
use safeconduct_store::{Durability, RedisOptions, RedisServers, StoreOptions};
use safeconduct_types::Clock;

/// The store of this service: on the embedded engine it has a file of its own.
pub(super) fn options(config: &StoreConfig, service: &str, clock: &Arc<dyn Clock>) -> StoreOptions {
    match config {
        StoreConfig::Embedded { dir } => {
            StoreOptions::Embedded { path: dir.join(format!("{service}.redb")), clock: Arc::clone(clock) }
        }
        StoreConfig::Redis(config) => StoreOptions::Redis(redis(config)),
    }
}

fn redis(config: &RedisConfig) -> RedisOptions {
    let servers = match config.servers.clone() {
        RedisServersConfig::Standalone { url } => RedisServers::Standalone { url },
        RedisServersConfig::Sentinel { addresses, master, user, password, tls } => {
            RedisServers::Sentinel { addresses, master, user, password, tls }
        }
        RedisServersConfig::Cluster { addresses } => RedisServers::Cluster { addresses },
    };
    RedisOptions {
        user: config.user.clone(),
        password: config.password.clone(),
        tls: config.tls,
        ca_file: config.ca.clone(),
        certificate: config.certificate.clone(),
        connect_timeout: config.connect_timeout,
        reply_timeout: config.reply_timeout,
        durability: config
            .replicated
            .map_or(Durability::Local, |(replicas, timeout)| Durability::Replicated { replicas, timeout }),
        recovery_hold: config.recovery_hold,
        hold_after_restart: config.hold_after_restart,
        allow_unsafe: config.allow_unsafe,
        ..RedisOptions::of(servers)
    }
}
