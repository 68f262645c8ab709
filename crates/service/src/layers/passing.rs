//! An answer on its way out through the layers.
//!
//! What a layer holds until the last byte of an answer goes along beside it, and the outermost watches the body for all
//! of them: one look at each frame, and no body around a body for each layer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use http::{HeaderMap, Response};
use tonic::Status;
use tonic::body::Body;

use super::Watch;
use super::deadline::Remaining;
use super::panic::Unwinding;
use super::shed::Permit;
use super::trace::Call;

/// An answer, and what is held until its end.
pub(super) struct Passing {
    pub(super) response: Response<Body>,
    pub(super) held: Held,
}

/// What layers hold: nothing, where a layer had nothing to hold or answered itself.
#[derive(Default)]
pub(super) struct Held {
    pub(super) permit: Option<Permit>,
    pub(super) remaining: Option<Remaining>,
    pub(super) unwinding: Option<Unwinding>,
}

impl From<Response<Body>> for Passing {
    fn from(response: Response<Body>) -> Self {
        Self { response, held: Held::default() }
    }
}

/// A call whose answer has begun.
pub(super) struct Passage {
    pub(super) call: Call,
    pub(super) held: Held,
}

impl Watch for Passage {
    fn cut(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        self.held.remaining.as_mut().map_or(Poll::Pending, |remaining| remaining.cut(cx))
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.call.end(trailers, None);
    }

    fn poll<T>(&mut self, poll: impl FnOnce() -> T) -> Result<T, Status> {
        let Some(unwinding) = &self.held.unwinding else { return Ok(self.call.within(poll)) };
        // As in the panic layer: what is left behind can be used.
        let polled = catch_unwind(AssertUnwindSafe(|| self.call.within(poll)));
        polled.map_err(|payload| self.call.span().in_scope(|| unwinding.status(payload)))
    }
}
