//! How a one-time code travels.

use serde::{Deserialize, Serialize};

use crate::Provenance;

/// How a one-time code travels, and so what kind of address it proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Email.
    Email,
    /// Text message.
    Sms,
}

impl Channel {
    /// Its name in files, records, keys and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
        }
    }

    /// The provenance of an address that was proven through it.
    pub const fn proves(self) -> Provenance {
        match self {
            Self::Email => Provenance::OtpEmail,
            Self::Sms => Provenance::OtpSms,
        }
    }
}
