//! Whether a proof proves a contact, and the assertions that say so.
//!
//! Owns: the check of a user hash ([`user_hash`]), what a contact is ([`contact`]), the life of a session
//! ([`session`]), the signing and the checking of assertions ([`assertion`]), and the identity part of a workspace
//! file ([`workspace`]). Refuses to own: storage, transport, key files, rates. Time, keys and chance are arguments.
//!
//! # Threat model
//!
//! The caller of a service may be prompted by an attacker, and everything in a request may be chosen by one. Held
//! here, each by tests beside the rule:
//!
//! - Nobody acts as a user without the workspace's secret: the hash is compared in constant time, over the exact
//!   bytes of exactly one identifier, and a secret has one use (a user hash over `header.payload` would otherwise be
//!   a signature over that token).
//! - Nobody makes, bends or prolongs an assertion: one algorithm, decided by the key; one serialisation; no header
//!   member beyond the three that are needed; one decoding of base64url; no duplicate members.
//! - A stolen assertion is worth nothing to a caller that it was not issued for, and shows nobody the attributes.
//! - A session never changes hands: the second contact that tries to bind to it is refused.
//!
//! Not held here: an attacker who has the workspace's secret or identity's signing key; how fast guesses may come
//! (admission counts them); revocation before an assertion's end (marks).

pub mod assertion;
pub mod attribute;
pub mod contact;
pub mod key_schedule;
pub mod record;
pub mod secrets;
pub mod session;
mod strict_json;
pub mod token;
pub mod user_hash;
pub mod workspace;
