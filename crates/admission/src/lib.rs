//! The admission service: one decision per request.
//!
//! A shell around `admission-domain`: it parses a request (`wire`), reads the records that the request names, lets the
//! domain decide, and commits what the decision changes with compare-and-set, again and again if others were faster
//! (`ledger`). One operation a file: `lookup`, `admit`, `extend`, `settle`, `list`.
//!
//! It owns the admission keyspace: one slot a contact, named by workspace and the route that every execution id of the
//! contact carries, so that an execution is found by its id alone. All times are the store's, never the process's, so
//! replicas with clocks of their own agree on when a lease lapses.
//!
//! Threat model: whoever may call it can admit and settle for any contact, so only the suite's own services may (role
//! service; in process that comes from the channel). Intents, checkpoints and outcomes arrive sealed and are never
//! opened here. Digests and ids are stored under a keyed hash only.
//!
//! What is not built yet refuses instead of pretending: a request that carries charges, marks, single-use ids or a
//! wait is `UNIMPLEMENTED`, never silently admitted without them.

mod admit;
mod envoy;
mod extend;
mod grpc;
mod ledger;
mod list;
mod lookup;
mod settle;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use safeconduct_proto::admission::v1::admission_service_server::AdmissionServiceServer;
use safeconduct_store::{Records, StoreError, StoreKeyer};

pub use envoy::{EnvoyGrpc, envoy_server};
pub use grpc::Grpc;

/// The most bytes of a request: a sealed value and what is around it.
const MAX_REQUEST: usize = 1024 * 1024;
/// The most bytes of an answer: one record, or a page that is cut off well before.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The admission service over one store. Clones share it.
#[derive(Clone, Debug)]
pub struct Admission {
    ledger: ledger::Ledger,
}

impl Admission {
    /// The service over these records; `keyer` has the service's `store-hashing` key.
    pub const fn new(records: Arc<dyn Records>, keyer: StoreKeyer) -> Self {
        Self { ledger: ledger::Ledger::new(records, keyer) }
    }

    /// Whether the store answers and would take a write: what health should say.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.ledger.ping().await
    }

    /// What a listener, or a sister's channel, serves. The layers around it say who calls.
    pub fn server(&self) -> AdmissionServiceServer<Grpc> {
        AdmissionServiceServer::new(Grpc::new(self.clone()))
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(MAX_ANSWER)
    }
}
