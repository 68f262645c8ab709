//! Somebody's API.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use safeconduct_egress::{AddressPolicy, Call, CallError, Cause, Target, Upstream, UpstreamOptions, client_tls};
use safeconduct_otp_domain::delivery::{HttpAuth, HttpProvider, Values, Verdict, judge_status};
use safeconduct_types::{Clock, Deadline};
use zeroize::Zeroizing;

use super::{Carry, Keys, Outcome, Outgoing, Sender};

/// What a provider answers is thrown away but for its status.
const MAX_ANSWER: usize = 64 * 1024;
/// The most that a provider may put us off.
const LONGEST_REST: Duration = Duration::from_mins(5);

#[derive(Debug)]
pub(super) struct Http {
    spec: HttpProvider,
    upstream: Upstream,
    keys: Keys,
}

impl Http {
    pub(super) fn new(spec: HttpProvider, keys: Keys, clock: &Arc<dyn Clock>) -> Result<Self, String> {
        let target = Target::parse(spec.origin().as_str(), spec.is_plain()).map_err(|error| error.to_string())?;
        let policy = AddressPolicy::allowing(spec.allow_addresses().to_vec());
        let tls = client_tls().map_err(|error| error.to_string())?;
        let options = UpstreamOptions { concurrency: 64, ..UpstreamOptions::default() };
        let upstream = Upstream::new(target, policy, tls, options, Arc::clone(clock));
        Ok(Self { spec, upstream, keys })
    }

    /// The header that authorises; `None` if a secret is missing or cannot stand in a header.
    fn authorisation(&self, headers: &mut HeaderMap) -> Option<()> {
        let Some(auth) = self.spec.auth() else { return Some(()) };
        let (name, text) = match auth {
            HttpAuth::Basic { user, password } => {
                let pair = Zeroizing::new(format!("{user}:{}", self.keys.text(password)?.expose()));
                (AUTHORIZATION, Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))))
            }
            HttpAuth::Bearer(token) => {
                (AUTHORIZATION, Zeroizing::new(format!("Bearer {}", self.keys.text(token)?.expose())))
            }
            HttpAuth::Header { name, secret } => {
                (HeaderName::try_from(name).ok()?, Zeroizing::new(self.keys.text(secret)?.expose().to_owned()))
            }
        };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Some(())
    }
}

#[async_trait]
impl Carry for Http {
    async fn carry(&self, message: &Outgoing<'_>, from: &Sender, deadline: Deadline) -> Outcome {
        let request = self.spec.request(&Values { message: *message, from: &from.address, from_name: &from.name });
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) else {
                return Outcome::Refused("header");
            };
            headers.insert(name, value);
        }
        if self.authorisation(&mut headers).is_none() {
            return Outcome::Later("secret", None);
        }
        let method = match request.method {
            "PUT" => Method::PUT,
            "GET" => Method::GET,
            _ => Method::POST,
        };
        let body = Bytes::from(request.body);
        let call = Call { method, url: request.url, headers, body, deadline, max_bytes: MAX_ANSWER };
        match self.upstream.call(call).await {
            Ok(answer) => match judge_status(answer.status.as_u16(), self.spec.success()) {
                Verdict::Taken => Outcome::Sent,
                Verdict::Refused => Outcome::Refused("status"),
                Verdict::Later => Outcome::Later("status", retry_after(&answer.headers)),
            },
            Err(CallError { cause: Cause::Refused(_) | Cause::OtherOrigin, .. }) => Outcome::Refused("address"),
            Err(_) => Outcome::Later("unreachable", None),
        }
    }
}

/// In seconds; a date counts as not said.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_REST))
}
