//! The one shape of a refusal.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::reason::Reason;

/// What whoever was refused can do next; as in the contract's `Guidance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NextAction {
    /// Prove who the contact is.
    Verify,
    /// Let the contact grant access to the upstream.
    Authorize,
    /// Have a person confirm.
    Confirm,
    /// Pick from the contact's own list.
    Pick,
    /// Correct the request.
    FixInput,
    /// Wait, then ask again with the same key.
    Wait,
    /// Hand the conversation to a person.
    HandOver,
    /// Do not try again.
    Stop,
    /// Nothing; ask again if still wanted.
    None,
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as a path of the request (`inputs.order_id`).
    pub field: String,
    /// What is wrong and what would be right. Never the value itself.
    pub description: String,
}

impl Violation {
    /// `field` is wrong as `description` says.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

/// A refusal: this call had no effect. It carries a stable reason and what to do next, and neither a secret nor
/// personal data: everything in it may be logged and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Refusal {
    inner: Box<Inner>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    reason: Reason,
    detail: String,
    next_action: NextAction,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    metadata: Vec<(Cow<'static, str>, String)>,
}

impl Refusal {
    /// A refusal for this reason, with what this case adds to it: a sentence that says what to do.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                reason,
                detail: detail.into(),
                next_action: reason.next_action(),
                violations: Vec::new(),
                retry_after: None,
                metadata: Vec::new(),
            }),
        }
    }

    /// Inputs that do not have the declared form, all of them at once.
    pub fn invalid(violations: Vec<Violation>) -> Self {
        let detail =
            violations.iter().map(|one| format!("{}: {}", one.field, one.description)).collect::<Vec<_>>().join("; ");
        Self::new(Reason::InputInvalid, detail).with_violations(violations)
    }

    /// One field that does not have the declared form.
    pub fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::invalid(vec![Violation::new(field, description)])
    }

    /// A fault of ours. `detail` is for operators and must not carry personal data.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(Reason::Internal, detail)
    }

    /// With field violations.
    pub fn with_violations(mut self, violations: Vec<Violation>) -> Self {
        self.inner.violations = violations;
        self
    }

    /// With the time after which asking again makes sense.
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.inner.retry_after = Some(after);
        self
    }

    /// With another next action than the reason's own.
    pub fn with_next_action(mut self, next: NextAction) -> Self {
        self.inner.next_action = next;
        self
    }

    /// With a fact for `ErrorInfo.metadata`: key in `lower_snake_case`, value fit for a log.
    pub fn with_metadata(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.inner.metadata.push((key.into(), value.into()));
        self
    }

    /// The stable reason.
    pub fn reason(&self) -> Reason {
        self.inner.reason
    }

    /// What this case adds; may be empty.
    pub fn detail(&self) -> &str {
        &self.inner.detail
    }

    /// What to do next.
    pub fn next_action(&self) -> NextAction {
        self.inner.next_action
    }

    /// The fields that are wrong.
    pub fn violations(&self) -> &[Violation] {
        &self.inner.violations
    }

    /// After which time asking again makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// Facts for `ErrorInfo.metadata`.
    pub fn metadata(&self) -> &[(Cow<'static, str>, String)] {
        &self.inner.metadata
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inner.detail.is_empty() {
            f.write_str(self.inner.reason.summary())
        } else {
            f.write_str(&self.inner.detail)
        }
    }
}

impl std::error::Error for Refusal {}
