//! What every service shares at run time: configuration, keys, callers, server layers, channels, status rendering.
//!
//! Owns how a process starts, who may talk to it, how long a call may take, how it stops, and how a refusal looks on
//! the wire. Refuses to own any business rule, any store, and anything that only one service needs.
//!
//! Threat model. Whoever reaches a port can send any bytes and any metadata: callers are made from credentials that
//! verified ([`caller`]), limits are explicit ([`server`]), and nothing is allowed that is not listed ([`config`]).
//! Whoever reads the store, a log or a backup learns nothing without the key files ([`keyring`]). A status that
//! carries our `ErrorInfo` means that the call had no effect ([`status`]).

pub mod caller;
pub mod channel;
pub mod config;
mod file_stamp;
pub mod jwks_cache;
pub mod keyring;
pub mod layers;
mod ops;
pub mod process;
pub mod secrets;
pub mod server;
pub mod status;
pub mod tasks;
pub mod wire;
