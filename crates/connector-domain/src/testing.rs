//! A small definition for this crate's tests to change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use safeconduct_types::{Provenance, ProvenanceSet};
use serde_json::Value;

use crate::definition::{
    Audience, Connector, ContactKind, DefinitionDigest, Effect, Format, Idempotency, Input, KeyPlace, Method, Mode,
    OnStoreFailure, Request, Response, Retry, Sensitivity, Source, UpstreamKey,
};
use crate::projection::Projection;
use crate::template::PathTemplate;

/// `GET /orders` for anybody, which keeps nothing.
pub(crate) fn connector() -> Connector {
    Connector {
        workspace: "acme".parse().unwrap(),
        name: "some-connector".parse().unwrap(),
        version: "v1".parse().unwrap(),
        title: "t".to_owned(),
        description: String::new(),
        effect: Effect::Read,
        sensitivity: Sensitivity::Private,
        audience: Audience { kinds: BTreeSet::from([ContactKind::Visitor, ContactKind::Lead, ContactKind::User]) },
        needs: None,
        purpose: None,
        inputs: BTreeMap::new(),
        idempotency: None,
        limits: Vec::new(),
        on_store_failure: OnStoreFailure::Deny,
        request: Request {
            upstream: "shop".parse().unwrap(),
            method: Method::Get,
            path: PathTemplate::parse("/orders").unwrap(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            timeout: Duration::from_secs(8),
        },
        retry: Retry { attempts: 3, on: BTreeSet::from([429, 500, 502, 503, 504]) },
        response: Response {
            mode: Mode::Simple,
            format: Format::Json,
            max_bytes: 65_536,
            problem: Projection::default(),
            output: Projection::default(),
        },
        examples: Vec::new(),
        digest: DefinitionDigest::of(&Value::Null),
    }
}

/// `POST /orders`.
pub(crate) fn write() -> Connector {
    let mut connector = connector();
    connector.effect = Effect::Write;
    connector.request.method = Method::Post;
    connector.idempotency = Some(Idempotency { same: Vec::new(), retain: Duration::from_hours(1), upstream_key: None });
    connector
}

/// The same connector with a key for the upstream.
pub(crate) fn keyed(mut connector: Connector, place: KeyPlace) -> Connector {
    if let Some(idempotency) = &mut connector.idempotency {
        idempotency.upstream_key = Some(UpstreamKey {
            place,
            honoured_for: Some(Duration::from_hours(24)),
            in_progress: BTreeSet::from([409]),
            mismatch: BTreeSet::from([422]),
            replays_errors: true,
        });
    }
    connector
}

/// A required input from this source, which accepts anything.
pub(crate) fn input(source: Source) -> Input {
    Input {
        source,
        accept: Provenance::ALL.into_iter().collect::<ProvenanceSet>(),
        max_age: None,
        identifies: false,
        optional: false,
        plain: false,
        default: None,
        schema: None,
        choices: None,
    }
}
