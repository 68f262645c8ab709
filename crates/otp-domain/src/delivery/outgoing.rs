//! What is handed to a provider.

use std::fmt;

use safeconduct_types::SecretText;

/// A message that is to leave now.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// The same for all attempts, so that an API can recognise a repeat: letters, digits and `-`. Not secret.
    pub id: &'a str,
    /// The canonical address.
    pub to: &'a str,
    /// The subject; empty for a text message.
    pub subject: &'a str,
    /// The message without markup.
    pub text: &'a str,
    /// The message with markup; empty for a text message.
    pub html: &'a str,
    /// The code alone, for an API that has templates of its own.
    pub code: &'a SecretText,
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("id", &self.id).finish_non_exhaustive()
    }
}
