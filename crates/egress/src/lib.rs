//! Outbound HTTP that cannot be abused.
//!
//! **What it defends against.** A definition, a DNS answer, an upstream's redirect or an environment variable that
//! leads a request to where it must not go: the cloud's metadata service, the cluster's own network, the machine
//! itself; and an answer made to exhaust whoever reads it.
//!
//! **How.** A request names an [`Upstream`], never a URL of its own choice of host. Every address that the upstream's
//! name resolves to is checked against [`AddressPolicy`] and the connection goes to the checked address, so a name
//! that changes its mind between check and use gains nothing; IP literals take the same way. There are no redirects,
//! no proxies, no cookies, no decompression, and a body is read under a bound. Each upstream has a pool of its own,
//! because a pooled connection carries the policy under which it was opened.
//!
//! **What it says.** A failed call says whether a byte of the request may have left ([`CallError::sent`]): all that
//! Safeconduct promises about effects rests on that bit, and where it is not known, it is `true`.
//!
//! It refuses to own: retries, credentials, and what a status code means.

mod call;
mod connect;
mod error;
mod guard;
mod policy;
mod resolve;
mod target;
mod upstream;

pub use call::{Answer, Call};
pub use error::{BodyError, CallError, Cause};
pub use guard::Guard;
pub use policy::{AddressPolicy, PublicAddress, RefusedAddress};
pub use target::{Target, TargetError};
pub use upstream::{Upstream, UpstreamOptions, client_tls};

#[cfg(test)]
mod tests;
