//! The port through which sisters see admission, and its gRPC adapter.
//!
//! [`Admission`] speaks in ids, keys and sealed bytes; no protobuf leaves this crate. [`GrpcAdmission`] is the one
//! adapter: in process or over TCP, it is the same generated client over a `SisterChannel`.
//!
//! A call that admission could not be reached with, or whose answer was lost, is repeated once with the same operation
//! id, so that it is applied once. What an answer can't be read from is refused as internal: a go-ahead is only ever
//! what admission has said in so many words.

mod answer;
mod grpc;
mod request;

use async_trait::async_trait;
use safeconduct_types::{Deadline, Refusal};

pub use answer::{AdmitAnswer, Admitted, Extended, LookupAnswer, Matched, Record, RecordState};
pub use grpc::GrpcAdmission;
pub use request::{Admit, Extend, Key, KeyKind, Lookup, Settle, Settlement, Target};

/// Admission, as its sisters see it. Every call ends by its deadline.
#[async_trait]
pub trait Admission: Send + Sync + std::fmt::Debug {
    /// What is known of a request. Admits nothing.
    async fn lookup(&self, asked: Lookup, deadline: Deadline) -> Result<LookupAnswer, Refusal>;

    /// Whether the request may go ahead. What was admitted must be settled.
    async fn admit(&self, asked: Admit, deadline: Deadline) -> Result<AdmitAnswer, Refusal>;

    /// More time for an executor that is still at it, and its checkpoint. `LEASE_LOST`: stop, another one has it.
    async fn extend(&self, asked: Extend, deadline: Deadline) -> Result<Extended, Refusal>;

    /// How it ended. `LEASE_LOST`: another executor has it, and its word counts.
    async fn settle(&self, asked: Settle, deadline: Deadline) -> Result<Record, Refusal>;
}
