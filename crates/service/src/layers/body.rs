//! A response body with somebody watching: who sees how it ends, may end it early, and learns if nobody wants it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// Looks at a body as it passes. Dropped with the body.
pub(crate) trait Watch: Send + Unpin + 'static {
    /// Asked while the body has more to say or nothing yet: a status ends it at once with that status.
    fn cut(&mut self, _: &mut Context<'_>) -> Poll<Status> {
        Poll::Pending
    }

    /// The trailers, which carry the status of the call.
    fn trailers(&mut self, _: &HeaderMap) {}

    /// Runs one poll of the body.
    fn poll<T>(&mut self, poll: impl FnOnce() -> T) -> Result<T, Status> {
        Ok(poll())
    }
}

/// A body watched by `W`, until its end.
pub(crate) struct Watched<W> {
    body: Option<Body>,
    watch: W,
    begun: bool,
}

impl<W: Watch> Watched<W> {
    /// The response with its body watched. A response that has no body ends here, and so does the watch.
    pub(crate) fn response(response: http::Response<Body>, watch: W) -> http::Response<Body> {
        if response.body().is_end_stream() {
            return response;
        }
        response.map(|body| Body::new(Self { body: Some(body), watch, begun: false }))
    }

    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.body = None;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from_static("13"));
        }
        self.watch.trailers(&trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl<W: Watch> HttpBody for Watched<W> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let Some(body) = this.body.as_mut() else { return Poll::Ready(None) };
        let polled = match this.watch.poll(|| Pin::new(body).poll_frame(cx)) {
            Ok(polled) => polled,
            Err(status) => return this.end(&status),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.watch.trailers(trailers);
                } else if this.begun
                    && let Poll::Ready(status) = this.watch.cut(cx)
                {
                    // Asked from the second message on: an answer of one message, which most are, sets no timer.
                    return this.end(&status);
                }
                this.begun = true;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => match this.watch.cut(cx) {
                Poll::Ready(status) => this.end(&status),
                Poll::Pending => Poll::Pending,
            },
            other @ Poll::Ready(_) => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // Unknown: the watch may end it early.
        SizeHint::default()
    }
}
