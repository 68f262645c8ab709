//! The one form of refusals, for what tonic refuses before a handler sees it: a message that is too long, that is none
//! of the contract's, or in an encoding that is not served. Its status has no `ErrorInfo`, so a caller could not know
//! that nothing was done.

use http::{HeaderMap, Response};
use safeconduct_types::{Reason, Refusal};
use tonic::body::Body;
use tonic::{Code, Status};

/// The response, with our refusal in place of tonic's own. Only statuses in headers are looked at: those were made
/// before the first message of an answer. Handlers' statuses carry details, all of them.
pub(super) fn ours(response: Response<Body>) -> Response<Body> {
    match refusal(response.headers()) {
        Some(refusal) => super::refuse(&refusal),
        None => response,
    }
}

fn refusal(headers: &HeaderMap) -> Option<Refusal> {
    if !headers.contains_key(Status::GRPC_STATUS) {
        return None;
    }
    let status = Status::from_header_map(headers).filter(|status| status.details().is_empty())?;
    match status.code() {
        Code::OutOfRange => {
            Some(Refusal::new(Reason::InputInvalid, "the message is longer than this call takes; send less at once"))
        }
        Code::Internal => {
            Some(Refusal::new(Reason::InputInvalid, "the message cannot be read as the one that this call takes"))
        }
        Code::Unimplemented => {
            let detail = "this service does not serve that call, or not in that encoding; see its contract";
            Some(Refusal::new(Reason::Unimplemented, detail))
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{refusal_in, to_status};

    fn shown(status: Status) -> (Code, Option<Reason>) {
        let response = ours(status.into_http());
        let status = Status::from_header_map(response.headers()).unwrap();
        (status.code(), refusal_in(&status).map(|refusal| refusal.reason()))
    }

    #[test]
    fn what_tonic_refuses_by_itself_is_told_in_our_form() {
        for (code, told, reason) in [
            (Code::OutOfRange, Code::InvalidArgument, Reason::InputInvalid),
            (Code::Internal, Code::InvalidArgument, Reason::InputInvalid),
            (Code::Unimplemented, Code::Unimplemented, Reason::Unimplemented),
        ] {
            assert_eq!(shown(Status::new(code, "of tonic's")), (told, Some(reason)));
        }
    }

    #[test]
    fn what_a_handler_says_stays_as_it_is() {
        for reason in [Reason::Internal, Reason::Unimplemented, Reason::StoreUnavailable] {
            assert_eq!(shown(to_status(&Refusal::new(reason, ""))).1, Some(reason));
        }
        assert_eq!(shown(Status::unavailable("of somebody else's")), (Code::Unavailable, None));
        assert!(!ours(Response::new(Body::empty())).headers().contains_key(Status::GRPC_STATUS));
    }
}
