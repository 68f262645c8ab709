//! Messages that wait to be sent, durably: accepted before the answer, sent after it.
//!
//! Neither the answer nor its time tells whether a message can be delivered, so nobody waits for a provider. What waits
//! is who is to get which verification's code, sealed; the code itself is nowhere: it is derived when the message
//! leaves. The queues ([`safeconduct_otp_domain::queue`]) are spread over [`SHARDS`] slots of the store, so that many
//! replicas find what is due by reading as many records, and seldom meet in one.

mod store;
mod worker;

use std::fmt;

use async_trait::async_trait;
use safeconduct_otp_domain::address::Address;
pub use safeconduct_otp_domain::challenge::Delivery;
use safeconduct_types::{Refusal, SecretText, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

pub use store::{SHARDS, StoreOutbox};
pub use worker::{Parts, Worker};

/// A code that is to be sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Whose contact it is for.
    pub workspace: WorkspaceId,
    /// Which verification's code.
    pub verification_id: String,
    /// Where to.
    pub to: Address,
    /// In which language: a BCP 47 tag, or empty for the workspace's own.
    pub locale: String,
    /// What for: a name that the workspace declares, or empty.
    pub purpose: String,
    /// When the code ends: from then on nothing is sent.
    pub expires: Timestamp,
    /// The how-manieth sending of this code it is, from 1.
    pub send_number: u32,
}

impl Message {
    /// Names this sending of this code. Not secret.
    fn id(&self) -> String {
        format!("{}-{}", self.verification_id, self.send_number)
    }
}

/// Shows no address.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("workspace", &self.workspace)
            .field("verification_id", &self.verification_id)
            .field("send_number", &self.send_number)
            .finish_non_exhaustive()
    }
}

/// Where messages are put.
#[async_trait]
pub trait Outbox: Send + Sync + fmt::Debug {
    /// Takes a message; it is durable when this comes back.
    async fn enqueue(&self, message: Message) -> Result<(), Refusal>;

    /// Takes a message that was perhaps taken before. However often and at once this is called, one more waits at most:
    /// nobody pays for these, so they must not add up.
    async fn enqueue_again(&self, message: Message) -> Result<(), Refusal>;
}

/// A message, ready to leave.
pub struct Content {
    /// The subject; empty for a text message.
    pub subject: String,
    /// Without markup.
    pub text: String,
    /// With markup; empty for a text message.
    pub html: String,
    /// The code alone.
    pub code: SecretText,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content([redacted])")
    }
}

/// What there is to do for a message.
#[derive(Debug)]
pub enum Due {
    /// It is to be sent.
    Send(Content),
    /// Nothing, because the verification is over, or because this very sending was reported as sent before its worker
    /// died.
    Nothing,
    /// It will never be sent, for this reason.
    Never(&'static str),
}

/// The verifications, as the outbox sees them.
#[async_trait]
pub trait Challenges: Send + Sync + fmt::Debug {
    /// What to send, with the code derived now.
    async fn content(&self, message: &Message) -> Result<Due, Refusal>;

    /// Notes what became of this sending. An older sending than the newest, and anything after `Sent`, changes nothing.
    async fn report(&self, message: &Message, delivery: Delivery) -> Result<(), Refusal>;
}

#[cfg(test)]
mod tests;
