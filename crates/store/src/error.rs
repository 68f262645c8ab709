//! How a store fails.

use std::borrow::Cow;

use safeconduct_types::{Reason, Refusal};

/// Why the store did not do what it was asked. The texts are for operators and carry no key, value or secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be used now. Nothing was written.
    #[error("the store is not available: {0}")]
    Unavailable(Cow<'static, str>),
    /// The commit was sent and its answer did not come: it may have been written. Repeating it with the same
    /// operation id tells.
    #[error("the store did not answer: {0}")]
    Unanswered(Cow<'static, str>),
    /// The store could lose what it is told. Nothing was written.
    #[error("the store is not safe to write to: {0}")]
    Unsafe(Cow<'static, str>),
    /// The store has no room left. Nothing was written.
    #[error("the store is full: {0}")]
    Full(Cow<'static, str>),
    /// What the store holds is not what was written to it.
    #[error("the store is damaged: {0}")]
    Corrupt(Cow<'static, str>),
    /// The call or the settings are wrong; no store could do this.
    #[error("the store was asked wrongly: {0}")]
    Invalid(Cow<'static, str>),
}

impl StoreError {
    /// A short stable name, for `error.type` of spans and for metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Unanswered(_) => "unanswered",
            Self::Unsafe(_) => "unsafe",
            Self::Full(_) => "full",
            Self::Corrupt(_) => "corrupt",
            Self::Invalid(_) => "invalid",
        }
    }

    /// The same for a call that changed nothing that matters, or that cannot have been carried out.
    pub(crate) fn without_doubt(self) -> Self {
        if let Self::Unanswered(why) = self { Self::Unavailable(why) } else { self }
    }

    /// The same for a call that may have been carried out unseen.
    pub(crate) fn in_doubt(self) -> Self {
        if let Self::Unavailable(why) = self { Self::Unanswered(why) } else { self }
    }

    /// The reason that callers of the suite are given.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Unavailable(_) | Self::Unanswered(_) | Self::Full(_) => Reason::StoreUnavailable,
            Self::Unsafe(_) => Reason::StoreUnsafe,
            Self::Corrupt(_) | Self::Invalid(_) => Reason::Internal,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}
