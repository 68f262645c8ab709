//! The port through which sisters see admission, and its gRPC adapter.
//!
//! [`Admission`] speaks in ids, keys and sealed bytes; no protobuf leaves this crate. [`GrpcAdmission`] is the one
//! adapter: in process or over TCP, it is the same generated client over a `SisterChannel`.
//!
//! A call that admission could not be reached with, or whose answer was lost, is repeated once with the same operation
//! id, so that it is applied once. After a few calls in a row that nobody answered, calls are refused at once
//! (`breaker.rs`). What an answer can't be read from is refused as internal: a go-ahead is only ever
//! what admission has said in so many words.

mod answer;
mod breaker;
mod erasing;
mod grpc;
mod limit;
mod mark;
mod marking;
mod mirror;
mod request;
mod wire;

use async_trait::async_trait;
use safeconduct_types::{Deadline, Refusal};

pub use answer::{
    AdmitAnswer, Admitted, ExtendAnswer, Extended, LookupAnswer, Matched, Record, RecordState, Settled, TakeAnswer,
    Taken,
};
pub use erasing::Erasing;
pub use grpc::GrpcAdmission;
pub use limit::{CalendarUnit, Charge, Denied, Limit, LimitKind, LimitScope, Remaining, Shape, Window};
pub use marking::{ClearMark, Marking, SetMark};
pub use mirror::{Mirror, MirrorAnswer, closed, lagging};
pub use request::{
    ActualAmount, Admit, Extend, Key, KeyKind, Lookup, Settle, Settlement, SingleUse, Take, Target, Usage,
};

/// Admission, as its sisters see it. Every call ends by its deadline.
#[async_trait]
pub trait Admission: Send + Sync + std::fmt::Debug {
    /// What is known of a request; if nothing is, its rates are taken. Admits nothing.
    async fn lookup(&self, asked: Lookup, deadline: Deadline) -> Result<LookupAnswer, Refusal>;

    /// Whether the request may go ahead. What was admitted must be settled.
    async fn admit(&self, asked: Admit, deadline: Deadline) -> Result<AdmitAnswer, Refusal>;

    /// Takes limits and leaves no record.
    async fn take(&self, asked: Take, deadline: Deadline) -> Result<TakeAnswer, Refusal>;

    /// More time for an executor that is still at it, and its checkpoint. `LEASE_LOST`: stop, another one has it.
    async fn extend(&self, asked: Extend, deadline: Deadline) -> Result<ExtendAnswer, Refusal>;

    /// How it ended. `LEASE_LOST`: another executor has it, and its word counts.
    async fn settle(&self, asked: Settle, deadline: Deadline) -> Result<Settled, Refusal>;

    /// What is left of limits, without taking anything: in the order asked, a sum once for each unit of its maxima.
    async fn usage(&self, asked: Usage, deadline: Deadline) -> Result<Taken, Refusal>;
}
