//! The server and the channel from outside, over real sockets.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests and their fixtures"
)]

mod drain;
mod echo;
mod layers;
mod mtls;
mod sister;
mod suite;
mod tracing_context;
