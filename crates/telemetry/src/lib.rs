//! Traces and logs: exporter set-up, trace context in and out, the names of our fields, and a small trace receiver.
//!
//! This crate owns how what happened is told: one `tracing` subscriber with two independent branches, log lines
//! (filtered by level) and exported spans (never filtered by the log level). It owns the names of our own span
//! attributes, so that one fact has one name everywhere, and the keyed hash under which a contact may appear.
//!
//! It refuses to own what may be told. Whoever opens a span answers for its fields: never a secret, a code, an
//! assertion, an input or output value, or an address of a person.
//!
//! Nothing here needs an async runtime of the caller: exporting and receiving run on threads of their own, so that
//! a process with several current-thread runtimes exports the same way as one with a shared runtime, and a dead
//! collector costs nobody a thread that serves calls.

pub mod collector;
mod contact;
mod export;
pub mod field;
mod init;
mod json;
pub mod propagate;

pub use contact::ContactHasher;
pub use init::{Guard, InitError, LogFormat, Options, build, init};

#[cfg(test)]
mod tests;
