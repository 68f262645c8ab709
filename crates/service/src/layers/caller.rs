//! Right before the routes: behind it, every handler knows who calls. Health is open, because a probe has no credentials;
//! reflection is open on loopback only.

use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{Extensions, Request};
use safeconduct_types::{Reason, Refusal};
use tonic::body::Body;
use tracing::Span;

use super::{Passing, Routes, Serve, form, is_health, refuse};

/// Says who calls. Asked once for every call, so it must be quick.
pub trait Authenticate: Send + Sync + 'static {
    /// Whoever presents this certificate (the leaf, DER, already verified against the listener's authority) and this
    /// `authorization` header.
    fn authenticate(
        &self,
        peer_certificate: Option<&[u8]>,
        authorization: Option<&str>,
    ) -> Result<CallerExtension, Refusal>;

    /// The sister service of this name, calling in process.
    fn in_process(&self, service: &'static str) -> CallerExtension;
}

/// The caller as handlers will find it among the request's extensions.
pub struct CallerExtension {
    name: Arc<str>,
    insert: Box<dyn FnOnce(&mut Extensions) + Send>,
}

impl CallerExtension {
    /// The caller called `name` (for traces), which handlers find as a `T`.
    pub fn new<T: Clone + Send + Sync + 'static>(name: impl Into<Arc<str>>, caller: T) -> Self {
        let insert = Box::new(move |extensions: &mut Extensions| {
            extensions.insert(caller);
        });
        Self { name: name.into(), insert }
    }
}

impl fmt::Debug for CallerExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallerExtension").field(&self.name).finish()
    }
}

/// Marks a call from a sister in the same process. Only [`crate::channel::SisterChannel`] can make one, and nothing
/// that arrives over a socket becomes one.
#[derive(Clone, Copy, Debug)]
pub struct InProcess {
    service: &'static str,
}

impl InProcess {
    pub(crate) const fn new(service: &'static str) -> Self {
        Self { service }
    }

    /// Which service calls.
    pub const fn service(self) -> &'static str {
        self.service
    }
}

/// The certificate that the peer of a connection proved to own (the leaf, DER).
#[derive(Clone, Debug)]
pub struct PeerCertificate(pub(crate) Arc<[u8]>);

pub(super) struct Authenticated {
    routes: Routes,
    authenticator: Arc<dyn Authenticate>,
    open_reflection: bool,
}

impl Authenticated {
    pub(super) fn new(routes: Routes, authenticator: Arc<dyn Authenticate>, open_reflection: bool) -> Self {
        Self { routes, authenticator, open_reflection }
    }

    fn is_open(&self, request: &Request<Body>) -> bool {
        is_health(request) || (self.open_reflection && request.uri().path().starts_with("/grpc.reflection."))
    }

    /// Has handlers find who calls.
    fn identify(&self, request: &mut Request<Body>) -> Result<(), Refusal> {
        let caller = self.caller(request)?;
        Span::current().record("safeconduct.caller", &*caller.name);
        (caller.insert)(request.extensions_mut());
        Ok(())
    }

    fn caller(&self, request: &Request<Body>) -> Result<CallerExtension, Refusal> {
        if let Some(sister) = request.extensions().get::<InProcess>() {
            return Ok(self.authenticator.in_process(sister.service()));
        }
        let unreadable = || Refusal::new(Reason::CallerUnauthenticated, "give one readable `authorization` header");
        let mut values = request.headers().get_all(AUTHORIZATION).iter();
        let authorization = values.next().map(|value| value.to_str()).transpose().map_err(|_| unreadable())?;
        if values.next().is_some() {
            return Err(unreadable());
        }
        let certificate = request.extensions().get::<PeerCertificate>();
        self.authenticator.authenticate(certificate.map(|certificate| &*certificate.0), authorization)
    }
}

impl Serve for Authenticated {
    fn serve(&self, mut request: Request<Body>) -> impl Future<Output = Passing> + Send + use<> {
        let open = self.is_open(&request);
        let known = if open { Ok(()) } else { self.identify(&mut request) };
        // The credential has done its work; what no handler gets, no handler can leak.
        request.headers_mut().remove(AUTHORIZATION);
        let answer = known.map(|()| self.routes.serve(request));
        async move {
            let response = match answer {
                Ok(answer) => answer.await.unwrap_or_else(|never| match never {}),
                Err(refusal) => return refuse(&refusal).into(),
            };
            // Health and reflection are tonic's own, in their own form.
            if open { response } else { form::ours(response) }.into()
        }
    }
}
