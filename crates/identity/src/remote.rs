//! Public keys that a workspace lets be fetched (`tokens.jwks`).
//!
//! They are fetched through the guarded client, one fetch at a time, at most every five seconds however many unknown
//! keys are named. They serve as long as their source says (`cache-control`), 5 s to 1 h, or 5 min: **a key that was
//! withdrawn stops verifying within that time** and the two seconds that a fetch may take, and within two hours where
//! its source cannot be reached; until then its being away is not noticed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use safeconduct_egress::{AddressPolicy, Call, Target, Upstream, UpstreamOptions, client_tls};
use safeconduct_identity_domain::token::{JwksSpec, KeySet, MAX_SET_LEN};
use safeconduct_service::jwks_cache::{Bounds, Fetched, JwksCache};
use safeconduct_telemetry::field;
use safeconduct_types::{Clock, Deadline, Reason, Refusal, WorkspaceId};
use url::Url;

/// How long fetched keys serve.
const BOUNDS: Bounds = Bounds {
    whose: "a workspace",
    refresh: Duration::from_mins(5),
    within: (Duration::from_secs(5), Duration::from_hours(1)),
    stale: Duration::from_hours(2),
};
/// How long one fetch may take.
const FETCH_WITHIN: Duration = Duration::from_secs(2);
/// When whoever met a source that does not answer may try again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The fetched keys of all workspaces.
#[derive(Debug)]
pub(crate) struct Remotes {
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<WorkspaceId, (JwksSpec, Remote)>>,
}

type Remote = Arc<JwksCache<KeySet>>;

impl Remotes {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// The workspace's keys, with that of `kid` if there is one to be had.
    pub(crate) async fn keys(
        &self,
        workspace: &WorkspaceId,
        spec: &JwksSpec,
        kid: Option<&str>,
    ) -> Result<Arc<KeySet>, Refusal> {
        let remote = self.of(workspace, spec)?;
        let keys = remote.current().await.map_err(|_| unreachable_source())?;
        match kid {
            Some(kid) if !keys.contains(kid) => Ok(remote.newer_than(&keys).await),
            Some(_) | None => Ok(keys),
        }
    }

    fn of(&self, workspace: &WorkspaceId, spec: &JwksSpec) -> Result<Remote, Refusal> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, remote)) = known.get(workspace).filter(|(before, _)| before == spec) {
            return Ok(Arc::clone(remote));
        }
        let remote = Arc::new(self.open(workspace, spec)?);
        known.insert(workspace.clone(), (spec.clone(), Arc::clone(&remote)));
        Ok(remote)
    }

    fn open(&self, workspace: &WorkspaceId, spec: &JwksSpec) -> Result<JwksCache<KeySet>, Refusal> {
        let wrong =
            |problem: String| Refusal::internal(format!("tokens.jwks of the workspace cannot be used: {problem}"));
        let target = Target::parse(&spec.url, spec.insecure_http).map_err(|error| wrong(error.to_string()))?;
        let url = Url::parse(&spec.url).map_err(|error| wrong(error.to_string()))?;
        let tls = client_tls().map_err(|error| wrong(error.to_string()))?;
        let policy = AddressPolicy::allowing(spec.allow_addresses.clone());
        let options = UpstreamOptions { concurrency: 2, ..UpstreamOptions::default() };
        let upstream = Upstream::new(target, policy, tls, options, Arc::clone(&self.clock));
        let clock = Arc::clone(&self.clock);
        let fetch = move || fetch(upstream.clone(), url.clone(), Deadline::within(clock.instant(), FETCH_WITHIN));
        let (workspace, algs) = (workspace.clone(), spec.algs.clone());
        let parse = move |text: &str| {
            let (keys, left_out) = KeySet::parse(text.as_bytes(), &algs).map_err(|problem| problem.to_string())?;
            for problem in left_out {
                tracing::info!({ field::WORKSPACE } = %workspace, %problem, "a fetched key is not used");
            }
            Ok(keys)
        };
        Ok(JwksCache::bounded(fetch, parse, Arc::clone(&self.clock), BOUNDS))
    }
}

async fn fetch(upstream: Upstream, url: Url, deadline: Deadline) -> Result<Fetched, Refusal> {
    let failed = |problem: String| Refusal::internal(format!("a workspace's key set was not fetched: {problem}"));
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
    let call = Call { method: Method::GET, url, headers, body: Bytes::new(), deadline, max_bytes: MAX_SET_LEN };
    let answer = upstream.call(call).await.map_err(|error| failed(error.to_string()))?;
    if answer.status != StatusCode::OK {
        return Err(failed(format!("it answered {}", answer.status.as_u16())));
    }
    let max_age = max_age(&answer.headers);
    let body = answer.body.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8(body.to_vec()).map_err(|_| failed("it is not UTF-8".to_owned()))?;
    Ok(Fetched { text, max_age })
}

/// How long the answer may be kept (RFC 9111, section 5.2.2); nothing if it does not say.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut found = None;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in value.to_str().ok()?.split(',') {
            let directive = directive.trim().to_ascii_lowercase();
            if directive == "no-store" || directive == "no-cache" {
                return Some(Duration::ZERO);
            }
            if let Some(seconds) = directive.strip_prefix("max-age=") {
                found = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
            }
        }
    }
    found
}

fn unreachable_source() -> Refusal {
    Refusal::new(
        Reason::UpstreamCircuitOpen,
        "the keys that tokens are verified with cannot be fetched; try again soon",
    )
    .with_retry_after(TRY_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_says_how_long_its_keys_serve() {
        let age = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(text));
            max_age(&headers)
        };
        assert_eq!(age("public, max-age=600"), Some(Duration::from_mins(10)));
        assert_eq!(age("Max-Age=\"60\", must-revalidate"), Some(Duration::from_mins(1)));
        assert_eq!(age("max-age=600, no-cache"), Some(Duration::ZERO));
        for silent in ["public", "max-age=", "max-age=-1", "s-maxage=5"] {
            assert_eq!(age(silent), None, "{silent}");
        }
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
