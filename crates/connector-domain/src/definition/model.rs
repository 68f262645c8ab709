//! The typed definition of a connector. Built by `load` alone, after every check has passed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use safeconduct_types::{ConnectorName, Provenance, ProvenanceSet, Version, WorkspaceId};
use serde_json::Value;
use serde_json_path::JsonPath;

use super::digest::DefinitionDigest;
use super::name::{AttributeName, InputName, UpstreamName};
use crate::limit::Limit;
use crate::projection::Projection;
use crate::schema::Schema;
use crate::template::{JsonTemplate, PathTemplate, ValueTemplate};

/// One version of one API call, as its file declares it. Every reference in it resolves.
#[derive(Clone, Debug)]
pub struct Connector {
    /// The tenant it belongs to.
    pub workspace: WorkspaceId,
    /// The family: all versions of this name.
    pub name: ConnectorName,
    /// Which version of the family.
    pub version: Version,
    /// What a person reads; the name if the file has none.
    pub title: String,
    /// What a model reads to decide; may be empty.
    pub description: String,
    /// Whether it changes something.
    pub effect: Effect,
    /// Whether it touches what belongs to somebody.
    pub sensitivity: Sensitivity,
    /// Who may use it.
    pub audience: Audience,
    /// The weakest proof of identity that it takes, whatever its inputs accept: the workspace's
    /// `identity.writes_need`, for a write.
    pub needs: Option<Provenance>,
    /// The purpose to start a one-time code for, a name in the workspace's `otp.purposes`.
    pub purpose: Option<String>,
    /// What goes in, by name.
    pub inputs: BTreeMap<InputName, Input>,
    /// How a repeat is recognised; always there for a write.
    pub idempotency: Option<Idempotency>,
    /// The limits that it is under, its own and those of the workspace that it uses, in the file's order.
    pub limits: Vec<Limit>,
    /// What becomes of a request while the store is gone.
    pub on_store_failure: OnStoreFailure,
    /// The call.
    pub request: Request,
    /// Which answers are asked for again, and how often.
    pub retry: Retry,
    /// What is made of the answer.
    pub response: Response,
    /// Recorded answers and what must come of them, for `safeconduct test`.
    pub examples: Vec<Example>,
    /// Of the canonical spec without title, description and examples.
    pub digest: DefinitionDigest,
}

impl Connector {
    /// The inputs that say whose objects the call is about.
    pub fn identifying(&self) -> impl Iterator<Item = (&InputName, &Input)> {
        self.inputs.iter().filter(|(_, input)| input.identifies)
    }

    /// The inputs that whoever asks supplies: from the agent, or from the calling service.
    pub fn supplied(&self) -> impl Iterator<Item = (&InputName, &Input)> {
        self.inputs.iter().filter(|(_, input)| matches!(input.source, Source::Agent | Source::Caller))
    }
}

/// Whether a connector changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It only looks.
    Read,
    /// It changes something.
    Write,
}

/// Whether a connector touches what belongs to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sensitivity {
    /// It does: it needs an identifying input.
    Private,
    /// It does not.
    Public,
}

/// What becomes of a request while the store is gone, so that nothing can be counted or recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnStoreFailure {
    /// It is refused.
    Deny,
    /// It goes ahead, under its rates as this process counts them, and without knowing what was revoked meanwhile.
    /// Reads only.
    Allow,
}

/// What is known of the person talking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContactKind {
    /// Nothing was proven.
    Visitor,
    /// An address was proven.
    Lead,
    /// The workspace's backend knows them.
    User,
}

impl ContactKind {
    /// Its name in files and contracts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Visitor => "visitor",
            Self::Lead => "lead",
            Self::User => "user",
        }
    }
}

impl std::fmt::Display for ContactKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who may use a connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience {
    /// The kinds that may; never empty.
    pub kinds: BTreeSet<ContactKind>,
}

/// One value that goes into the call.
#[derive(Clone, Debug)]
pub struct Input {
    /// Where the value is taken from.
    pub source: Source,
    /// Which provenances the value may have; never empty. Anything else is refused when it runs.
    pub accept: ProvenanceSet,
    /// How old the proof behind the value may be.
    pub max_age: Option<Duration>,
    /// Whether it says whose objects the call is about. Then `accept` holds verified provenances only.
    pub identifies: bool,
    /// Whether it may be absent. True also if there is a default.
    pub optional: bool,
    /// Whether it names no object, so that nobody has to own it.
    pub plain: bool,
    /// The value that stands for an absent one.
    pub default: Option<Value>,
    /// What the value must look like.
    pub schema: Option<Schema>,
    /// The contact's own list, out of which the value must be.
    pub choices: Option<Choices>,
}

/// Where an input's value is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `contact.attributes.NAME`, out of the assertion.
    ContactAttribute(AttributeName),
    /// `contact.id`: the suite's own id of the contact, as strong as the proof behind the session.
    ContactId,
    /// `contact.proven.email`: the address whose control a one-time password proved.
    ProvenEmail,
    /// `contact.proven.phone`: the number whose control a one-time password proved.
    ProvenPhone,
    /// `agent`: the inputs that the agent supplies.
    Agent,
    /// `caller`: the inputs that the calling service supplies itself.
    Caller,
    /// `constant`: the definition says it.
    Constant(Value),
}

/// A list of the contact's own, which another connector of the workspace reads.
#[derive(Clone, Debug)]
pub struct Choices {
    /// A private, identified read whose only required inputs come from the contact or are constants.
    pub connector: ConnectorName,
    /// Where the items are in that connector's shaped output.
    pub items: JsonPath,
    /// Where the value is in an item.
    pub value: JsonPath,
    /// The most items a list may have; a longer one counts as cut off. 1 to 1,000.
    pub max: u32,
}

/// How a repeat of a write is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The inputs that make two requests of one contact the same. Never empty for a write, empty for a read.
    pub same: Vec<InputName>,
    /// How long the outcome is kept, counted from the final state. One minute to 30 days.
    pub retain: Duration,
    /// How the upstream recognises a repeat, if it does.
    pub upstream_key: Option<UpstreamKey>,
}

/// How the upstream recognises a repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamKey {
    /// Where the key goes.
    pub place: KeyPlace,
    /// For how long after the first request the upstream still knows the key; nothing is resent later.
    /// `None`: for ever (a natural key only).
    pub honoured_for: Option<Duration>,
    /// Statuses that mean that the first request is still being worked on.
    pub in_progress: BTreeSet<u16>,
    /// Statuses that mean that the key was used for another request.
    pub mismatch: BTreeSet<u16>,
    /// Whether a repeat gets a failed answer again, instead of being tried anew.
    pub replays_errors: bool,
}

/// Where the upstream's key goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// A header, by its lower-case name.
    Header(String),
    /// A member of the JSON body: the member names on the way to it, never empty.
    Field(Vec<String>),
    /// Nowhere: the request itself can be repeated without a second effect.
    Natural,
}

/// The call.
#[derive(Clone, Debug)]
pub struct Request {
    /// An upstream of the workspace.
    pub upstream: UpstreamName,
    /// The method.
    pub method: Method,
    /// The path under the upstream's URL.
    pub path: PathTemplate,
    /// The query's parameters, in the file's order. Names are as written, not yet encoded.
    pub query: Vec<(String, QueryValue)>,
    /// Headers by lower-case name, in the file's order.
    pub headers: Vec<(String, ValueTemplate)>,
    /// The JSON body.
    pub body: Option<JsonTemplate>,
    /// The most time one attempt may take. At most 15 seconds.
    pub timeout: Duration,
}

/// What a query parameter says.
#[derive(Clone, Debug)]
pub enum QueryValue {
    /// Once.
    One(ValueTemplate),
    /// Once for each value.
    Many(Vec<ValueTemplate>),
}

impl QueryValue {
    /// The values, one or many.
    pub fn values(&self) -> &[ValueTemplate] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 6] = [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Which answers are asked for again, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The most attempts, the first included. 1 to 5; 1 for a write that the upstream would do twice.
    pub attempts: u8,
    /// The statuses that are asked for again: 429 and 5xx only.
    pub on: BTreeSet<u16>,
}

/// What is made of the answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// How deep the output may be.
    pub mode: Mode,
    /// How the body is read.
    pub format: Format,
    /// The most bytes of a body that are read. 1 to 1 MiB.
    pub max_bytes: usize,
    /// What is kept of a refusal.
    pub problem: Projection,
    /// What is kept of a success.
    pub output: Projection,
}

/// How deep the output may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// At most two levels.
    Simple,
    /// As deep as `max_bytes` allows.
    Task,
}

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// As JSON.
    Json,
}

/// A recorded answer and what must come of it; run by `safeconduct test`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Its name, unique in the definition.
    pub name: String,
    /// What goes in, as written.
    pub inputs: Value,
    /// The upstream's answer: `status`, `headers`, `body`.
    pub answer: Value,
    /// What the execution must say.
    pub expect: Value,
}
