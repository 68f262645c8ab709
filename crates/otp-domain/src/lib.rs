//! The life of a one-time password challenge.
//!
//! Owns: what a challenge may become ([`challenge`]), how its code is derived and compared ([`code`]), the one form of
//! an address ([`address`]), what a workspace says ([`policy`]), what a person reads ([`message`]) and how much of
//! everything there is ([`budget`]). Refuses to own: storage, delivery, counting, key files. Time, keys and chance are
//! arguments.
//!
//! # Threat model
//!
//! Whoever asks may be anybody: sessions cost nothing, addresses are guessed, requests come by the thousand at once.
//! Held here, each by tests beside the rule:
//!
//! - A code is found nowhere but in the message: it is derived from a key, bound to workspace, session, channel,
//!   address, purpose and form, equally likely to be any, and compared in constant time.
//! - A code allows so many guesses and is good once. A guess is part of the challenge's next state, so it is counted by
//!   whoever learns what it was.
//! - One mailbox is one key, however its address is written; what cannot be normalised is refused.
//! - No text message goes anywhere but to the countries that were named, and to no number that costs extra.
//! - A message holds words of the workspace and the code, escaped for where they land, and nothing of a request.
//!
//! Not held here: that all of it is counted over sessions and replicas (admission and the store), who reads the mailbox.

pub mod address;
pub mod budget;
pub mod challenge;
pub mod code;
pub mod delivery;
pub mod message;
pub mod policy;
pub mod queue;
pub mod unquoted;
