//! What a connector is once its file has been read and checked: typed, closed, and the same for every execution.

mod digest;
mod model;
mod name;

pub use digest::DefinitionDigest;
pub use model::{
    Audience, Choices, Connector, ContactKind, Effect, Example, Format, Idempotency, Input, KeyPlace, Method, Mode,
    OnStoreFailure, QueryValue, Request, Response, Retry, Sensitivity, Source, UpstreamKey,
};
pub use name::{AttributeName, InputName, LimitName, NameError, SecretName, UpstreamName};
