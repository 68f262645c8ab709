//! The words that every part of Safeconduct shares: ids, secrets, time, provenance, and the one shape of a refusal.
//!
//! This crate owns meaning, not behaviour: values here are parsed once, at the edge, and cannot be wrong
//! afterwards. It does no I/O; the system's clock and random numbers are handed out behind traits so that the
//! rest of the workspace takes both as arguments.
//!
//! It refuses to own rules. A rule belongs to the domain crate of the service that applies it.

mod channel;
mod clock;
mod duration;
mod id;
mod mark;
mod provenance;
mod random;
mod reason;
mod refusal;
mod secret;

pub use channel::Channel;
pub use clock::{Clock, Deadline, ManualClock, SystemClock, Timestamp};
pub use duration::parse_duration;
pub use id::{
    CallerName, ConnectorName, ContactId, ExecutionId, IdError, OperationId, SessionId, Version, WorkspaceId,
};
pub use mark::{Mark, MarkCheck, MarkKey, ResourceDigest, Subject};
pub use provenance::{Provenance, ProvenanceSet, UnknownProvenance};
pub use random::{Random, SeededRandom, SystemRandom};
pub use reason::{Reason, StatusCode};
pub use refusal::{NextAction, Refusal, Violation};
pub use secret::{Secret, SecretText};
