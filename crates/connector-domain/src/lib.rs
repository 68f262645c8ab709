//! Definitions of connectors and everything about executing one that can be decided without I/O.
//!
//! Owns: reading a workspace's files into a typed, checked model (`load`), binding values with their provenance,
//! templates that cannot change a request's shape, the fingerprint of a request, the plan of a call, the
//! classification of its answer, and the projection of what may leave.
//!
//! Refuses to own: reading files, opening sockets, secrets themselves (only their names), assertions, storage.
//!
//! Threat model. The author of a definition is trusted to mean well, not to make no mistakes: whatever could let one
//! contact act for another is an error when the file is read. What an agent, a contact's browser or an upstream says
//! is hostile: it is bounded, parsed strictly, bound with where it came from, and encoded for the one place where it
//! lands. A feature that this build does not execute is refused by name, never ignored.

pub mod bind;
mod characters;
pub mod choices;
pub mod classify;
pub mod conclude;
pub mod contact;
pub mod definition;
pub mod diagnostic;
pub mod execution;
pub mod fingerprint;
pub mod json;
pub mod limit;
pub mod load;
pub mod plan;
pub mod projection;
pub mod schema;
pub mod template;
#[cfg(test)]
mod testing;
pub mod upstream_key;
pub mod workspace;
