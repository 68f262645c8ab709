//! Why something was refused: one stable name each, and the one table of what it means on the wire.

/// The gRPC status codes that refusals use, by their names in the gRPC specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum StatusCode {
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    FailedPrecondition,
    ResourceExhausted,
    Aborted,
    DeadlineExceeded,
    Unavailable,
    Unimplemented,
    Internal,
}

macro_rules! reasons {
    ($($variant:ident = $name:literal, $code:ident, $next:ident, $doc:literal;)*) => {
        /// A stable reason, as in the contract's `ErrorReason`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $doc] $variant,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in `ErrorInfo.reason`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The status code that carries it.
            pub const fn code(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$code,)* }
            }

            /// What the agent does next, unless the refusal says otherwise.
            pub const fn next_action(self) -> crate::NextAction {
                match self { $(Self::$variant => crate::NextAction::$next,)* }
            }

            /// What happened, in one sentence.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

reasons! {
    CallerUnauthenticated = "CALLER_UNAUTHENTICATED", Unauthenticated, Stop, "The calling service did not prove who it is.";
    AssertionMissing = "ASSERTION_MISSING", Unauthenticated, Verify, "The call needs an assertion and carries none.";
    AssertionInvalid = "ASSERTION_INVALID", Unauthenticated, Verify, "The assertion was not issued by this suite for this use.";
    AssertionExpired = "ASSERTION_EXPIRED", Unauthenticated, Verify, "The assertion has expired; renew it.";
    AssertionRevoked = "ASSERTION_REVOKED", Unauthenticated, Verify, "The session or the contact was revoked.";
    AssertionStale = "ASSERTION_STALE", Unauthenticated, Verify, "Something that the assertion states has changed since; get a new one.";
    ProofInvalid = "PROOF_INVALID", Unauthenticated, Verify, "The proof of identity does not verify.";
    CodeInvalid = "CODE_INVALID", Unauthenticated, FixInput, "The one-time code is wrong.";
    SessionBound = "SESSION_BOUND", Unauthenticated, Stop, "The session belongs to another contact; start a new one.";
    CallerNotAllowed = "CALLER_NOT_ALLOWED", PermissionDenied, Stop, "The calling service may not do this.";
    AudienceMismatch = "AUDIENCE_MISMATCH", PermissionDenied, Stop, "The connector is not for this kind of contact.";
    PolicyDenied = "POLICY_DENIED", PermissionDenied, HandOver, "A policy of the connector says no.";
    NotYours = "NOT_YOURS", PermissionDenied, Pick, "The named object is not among this contact's own.";
    InputInvalid = "INPUT_INVALID", InvalidArgument, FixInput, "The request or one of its inputs does not have the declared form.";
    IdempotencyKeyRequired = "IDEMPOTENCY_KEY_REQUIRED", InvalidArgument, FixInput, "The call needs an idempotency key.";
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", InvalidArgument, FixInput, "The idempotency key was used before, for another request.";
    ChoiceRequired = "CHOICE_REQUIRED", InvalidArgument, Pick, "The input must be picked from the contact's own list.";
    ChoiceExpired = "CHOICE_EXPIRED", InvalidArgument, Pick, "The choice is too old; list the choices again.";
    VerificationRequired = "VERIFICATION_REQUIRED", FailedPrecondition, Verify, "The connector needs a stronger proof of who the contact is.";
    AuthorizationRequired = "AUTHORIZATION_REQUIRED", FailedPrecondition, Authorize, "The contact has not yet granted access to the upstream.";
    ConfirmationRequired = "CONFIRMATION_REQUIRED", FailedPrecondition, Confirm, "A person has to confirm this first.";
    ConfirmationStale = "CONFIRMATION_STALE", FailedPrecondition, Confirm, "The confirmation was for something else, is used up or too old.";
    ApprovalPending = "APPROVAL_PENDING", FailedPrecondition, Wait, "Somebody still has to approve.";
    ConnectorDisabled = "CONNECTOR_DISABLED", FailedPrecondition, HandOver, "The connector is switched off.";
    ConnectorGone = "CONNECTOR_GONE", FailedPrecondition, Stop, "The upstream has ended what the connector calls.";
    ResourceGone = "RESOURCE_GONE", FailedPrecondition, Stop, "The upstream says that the object is gone for good.";
    VersionSunset = "VERSION_SUNSET", FailedPrecondition, Stop, "This version of the connector is no longer served.";
    VersionChanged = "VERSION_CHANGED", FailedPrecondition, None, "Another version is live since the request was prepared; prepare it again.";
    ChallengeOver = "CHALLENGE_OVER", FailedPrecondition, Verify, "The challenge is used, superseded or expired; start a new one.";
    RateLimited = "RATE_LIMITED", ResourceExhausted, Wait, "Too many requests; wait as long as told.";
    CapReached = "CAP_REACHED", ResourceExhausted, HandOver, "A limit on the number or the sum is reached.";
    Overloaded = "OVERLOADED", ResourceExhausted, Wait, "The service has more to do than it can; try again soon.";
    LeaseLost = "LEASE_LOST", Aborted, None, "Another executor has taken over; this one's word no longer counts.";
    ConnectorUnknown = "CONNECTOR_UNKNOWN", NotFound, FixInput, "The workspace has no such connector.";
    VersionUnknown = "VERSION_UNKNOWN", NotFound, FixInput, "The connector has no such version.";
    ExecutionUnknown = "EXECUTION_UNKNOWN", NotFound, FixInput, "There is no such execution for this contact.";
    WorkspaceUnknown = "WORKSPACE_UNKNOWN", NotFound, FixInput, "There is no such workspace.";
    ContactUnknown = "CONTACT_UNKNOWN", NotFound, FixInput, "There is no such contact.";
    DeadlineTooShort = "DEADLINE_TOO_SHORT", DeadlineExceeded, None, "The deadline leaves too little time to call the upstream and report; allow more.";
    StoreUnavailable = "STORE_UNAVAILABLE", Unavailable, Wait, "The store cannot be reached; nothing was done.";
    StoreUnsafe = "STORE_UNSAFE", Unavailable, HandOver, "The store could lose what it is told; writes are refused until that is mended.";
    UpstreamCircuitOpen = "UPSTREAM_CIRCUIT_OPEN", Unavailable, Wait, "The upstream is failing and gets a rest.";
    ChoicesIncomplete = "CHOICES_INCOMPLETE", Unavailable, HandOver, "The contact's list could not be read to its end, so membership is not known.";
    ConfigLagging = "CONFIG_LAGGING", Unavailable, Wait, "Not every replica has the configuration yet.";
    MarksLagging = "MARKS_LAGGING", Unavailable, Wait, "It is not known whether something was revoked in the last second.";
    Draining = "DRAINING", Unavailable, Wait, "The process is stopping; ask another one.";
    Internal = "INTERNAL", Internal, HandOver, "A fault of ours; the trace says more.";
    Unimplemented = "UNIMPLEMENTED", Unimplemented, Stop, "This version does not serve this call yet.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_reasons_share_a_name() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
