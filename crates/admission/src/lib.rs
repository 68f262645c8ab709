//! The admission service: one decision per request.
//!
//! A shell around `admission-domain`: it parses a request (`wire`), lets the domain decide from what is known of the
//! records that the request names, and commits what that changes, together with what it counts, in one stroke of the
//! store (`ledger`). For most requests nothing is known, so the first try supposes that nothing is there, and the store
//! says if that is wrong. One operation a file: `lookup`, `admit`, `take`, `extend`, `settle`, `wait`, `usage`, `list`,
//! `erase`; `shared` has the protocol for limits that are shared over contacts.
//!
//! It owns the admission keyspace: one slot a contact, named by workspace and the route that every execution id of the
//! contact carries, so that an execution is found by its id alone; one slot a workspace for what is counted over its
//! contacts; one for the marks. All times are the store's, never the process's, so replicas with clocks of their own
//! agree on when a lease lapses.
//!
//! Threat model: whoever may call it can admit and settle for any contact, so only the suite's own services may (role
//! service; in process that comes from the channel). Intents, checkpoints and outcomes arrive sealed and are never
//! opened here. Digests and ids are stored under a keyed hash only.

mod admit;
mod cache;
mod counts;
mod engine;
mod envoy;
mod erase;
mod extend;
mod grpc;
mod healing;
mod keys;
mod ledger;
mod list;
mod lookup;
mod marks;
mod settle;
mod shared;
mod take;
#[cfg(test)]
#[allow(
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "what was not expected fails the test, and tests wait for what they spawn"
)]
mod tests;
mod usage;
mod view;
mod wait;
mod wire;

use std::sync::Arc;

use safeconduct_proto::admission::v1::admission_service_server::AdmissionServiceServer;
use safeconduct_service::config::{ConfigError, EnvoyConfig};
use safeconduct_store::{EmbeddedStore, Records, RedisRecords, RedisStore, StoreError, StoreKeyer};
use safeconduct_types::Clock;
use tokio_util::sync::CancellationToken;

use crate::engine::{EmbeddedEngine, Engine, RedisEngine};
use crate::ledger::{Ledger, refusal};
use crate::marks::Marks;
use crate::wait::Waiters;

pub use envoy::{Gateway, check_descriptors};
pub use grpc::Grpc;

/// The most bytes of a request: two sealed values and what is around them.
const MAX_REQUEST: usize = 1024 * 1024;
/// The most bytes of an answer: one record, or a page that is cut off well before.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The admission service over one store. Clones share it.
#[derive(Clone, Debug)]
pub struct Admission {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) marks: Marks,
    pub(crate) waiters: Arc<Waiters>,
}

impl Admission {
    /// The service on the embedded store; `keyer` has the service's `store-hashing` key.
    pub fn embedded(store: EmbeddedStore, keyer: StoreKeyer, clock: Arc<dyn Clock>) -> Self {
        let records = Arc::new(store.clone());
        Self::over(Arc::new(EmbeddedEngine::new(store)), records, keyer, clock)
    }

    /// The service on a Redis; `keyer` has the service's `store-hashing` key.
    pub fn redis(store: RedisStore, keyer: StoreKeyer, clock: Arc<dyn Clock>) -> Self {
        let records = Arc::new(RedisRecords::on(store.clone()));
        Self::over(Arc::new(RedisEngine::new(store)), records, keyer, clock)
    }

    pub(crate) fn over(
        engine: Arc<dyn Engine>,
        records: Arc<dyn Records>,
        keyer: StoreKeyer,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let marks = Marks::new(records, keyer.clone(), clock);
        Self { ledger: Arc::new(Ledger::new(engine, keyer)), marks, waiters: Arc::new(Waiters::new()) }
    }

    /// Follows the marks until `stop`; every process that serves admission runs it.
    pub async fn follow_marks(self, stop: CancellationToken) {
        self.marks.follow(stop).await;
    }

    /// Whether the store answers and would take a write: what health should say.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.ledger.engine.ping().await
    }

    /// What a listener, or a sister's channel, serves. The layers around it say who calls.
    pub fn server(&self) -> AdmissionServiceServer<Grpc> {
        AdmissionServiceServer::new(Grpc::new(self.clone()))
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(MAX_ANSWER)
    }

    /// Envoy's rate limit service over the same store, with the limits that the configuration names.
    pub fn gateway(&self, config: &EnvoyConfig) -> Result<Arc<Gateway>, ConfigError> {
        Gateway::new(config, Arc::clone(&self.ledger.engine), self.ledger.keyer.clone())
    }
}
