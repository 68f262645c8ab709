//! A tenant as its files describe it: upstreams, credentials by name, and connectors.

mod model;

pub use model::{Credential, Family, NotFound, RawSection, StaticCredential, Upstream, Workspace};
