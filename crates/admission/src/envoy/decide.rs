//! Which limits count for a request, what the store says to each, and what is answered.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::try_join_all;
use safeconduct_admission_domain::envoy::{Allowance, Domain, Limit};
use safeconduct_admission_domain::meter::{self, Meter, rate};
use safeconduct_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use safeconduct_proto::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus, RateLimit};
use safeconduct_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use safeconduct_service::wire::to_duration;
use safeconduct_types::{OperationId, Reason, Refusal};
use tracing::Span;

use super::files::Live;
use super::headers::{self, Standing};
use super::{Gateway, wire};
use crate::engine::{Step, Stepped};

/// The limit that counts for a descriptor.
struct Counted<'a> {
    limit: Chosen<'a>,
    shared: Vec<(usize, &'a str)>,
    hits: i64,
}

enum Chosen<'a> {
    Configured(&'a Limit),
    Stated(Box<Limit>),
}

impl Counted<'_> {
    fn limit(&self) -> &Limit {
        match &self.limit {
            Chosen::Configured(limit) => limit,
            Chosen::Stated(limit) => limit,
        }
    }
}

/// How a limit stands after the request.
#[derive(Clone, Copy)]
struct Measured {
    over: bool,
    left: u32,
    reset: Option<Duration>,
    retry: Option<Duration>,
}

impl Gateway {
    #[tracing::instrument(name = "should_rate_limit", skip_all, fields(safeconduct.decision))]
    pub(super) async fn decide(&self, request: RateLimitRequest) -> Result<RateLimitResponse, Refusal> {
        wire::check(&request)?;
        if self.path().is_none() {
            let detail = "no limits of gateways are configured; name their file in admission.envoy.descriptors";
            return Err(Refusal::new(Reason::Unimplemented, detail));
        }
        let live = self.live();
        let Some(domain) = live.rules.domain(&request.domain) else {
            return Ok(self.answer(&live, &vec![None; request.descriptors.len()]));
        };
        let counted = counted(domain, &request);
        let asked = counted.iter().zip(&request.descriptors).map(|(counted, descriptor)| async {
            let Some(counted) = counted else { return Ok(None) };
            let measured = self.measure(&request.domain, descriptor, counted).await?;
            Ok::<_, Refusal>(Some((counted.limit(), measured)))
        });
        let measured = try_join_all(asked).await?;
        Ok(self.answer(&live, &measured))
    }

    async fn measure(
        &self,
        domain: &str,
        descriptor: &RateLimitDescriptor,
        counted: &Counted<'_>,
    ) -> Result<Measured, Refusal> {
        let rate = match counted.limit().allowance {
            Allowance::Unlimited => {
                return Ok(Measured { over: false, left: u32::MAX, reset: None, retry: None });
            }
            Allowance::Closed => return Ok(Measured { over: true, left: 0, reset: None, retry: None }),
            Allowance::Rate(rate) => rate,
        };
        let slot = self.keyer.slot(&parts(domain, descriptor, counted));
        let key = self.keyer.key(&slot, "rate", &[]);
        let meter = Meter::Rate(rate::Params::new(&rate, counted.hits));
        let step = Step {
            // Rates are remembered under no operation.
            operation: OperationId::from_bytes([0; 16]),
            changes: Vec::new(),
            meters: vec![(key, meter.clone())],
            index: Vec::new(),
        };
        let (now, readings) = match self.engine.step(&slot, step).await.map_err(crate::refusal)? {
            Stepped::Done { now, readings, .. } | Stepped::Denied { now, readings, .. } => (now, readings),
            Stepped::Conflict { .. } | Stepped::Outside { .. } => {
                return Err(Refusal::internal("a rate that conflicts"));
            }
        };
        let reading = readings.first().ok_or_else(|| Refusal::internal("a rate without a reading"))?;
        let remaining = meter::remaining(&meter, reading);
        // What only asks is over where nothing more could come.
        let over = !reading.passed() || counted.hits == 0 && remaining.left == 0;
        Ok(Measured {
            over,
            left: u32::try_from(remaining.left).unwrap_or(u32::MAX),
            reset: remaining.resets.map(|at| at.since(now)),
            retry: remaining.retry.map(|at| at.since(now)),
        })
    }

    fn answer(&self, live: &Live, measured: &[Option<(&Limit, Measured)>]) -> RateLimitResponse {
        let mut over = false;
        let mut standings = Vec::with_capacity(measured.len());
        let mut retry: Option<Duration> = None;
        let mut statuses = Vec::with_capacity(measured.len());
        for one in measured {
            let Some((limit, found)) = one else {
                statuses.push(DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() });
                continue;
            };
            count(live, limit, found.over);
            let refused = found.over && !limit.shadow;
            over |= refused;
            if refused {
                retry = retry.max(found.retry);
            }
            if !limit.shadow && limit.allowance != Allowance::Unlimited {
                standings.push(Standing { limit, left: found.left, reset: found.reset });
            }
            statuses.push(status(limit, *found, refused));
        }
        Span::current().record("safeconduct.decision", if over { "over_limit" } else { "ok" });
        RateLimitResponse {
            overall_code: if over { Code::OverLimit.into() } else { Code::Ok.into() },
            statuses,
            response_headers_to_add: headers::of(self.headers, &standings, retry),
            ..RateLimitResponse::default()
        }
    }
}

/// The limit of each descriptor, without those that another one of the request replaces.
fn counted<'a>(domain: &'a Domain, request: &RateLimitRequest) -> Vec<Option<Counted<'a>>> {
    let mut counted: Vec<_> = request
        .descriptors
        .iter()
        .map(|descriptor| {
            let hits = wire::hits(request, descriptor);
            if let Some(limit) = wire::stated(descriptor) {
                return Some(Counted { limit: Chosen::Stated(Box::new(limit)), shared: Vec::new(), hits });
            }
            let entries = descriptor.entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
            let found = domain.find(entries)?;
            Some(Counted { limit: Chosen::Configured(found.limit), shared: found.shared, hits })
        })
        .collect();
    let replaced: Vec<String> = counted.iter().flatten().flat_map(|one| one.limit().replaces.iter().cloned()).collect();
    if !replaced.is_empty() {
        for one in &mut counted {
            if one.as_ref().is_some_and(|one| replaced.contains(&one.limit().name)) {
                *one = None;
            }
        }
    }
    counted
}

/// What names the counter: the entries as they were sent, and the unit; never how many are allowed. Which entries are
/// counted under their pattern stands in front, so that no value can pass for one.
fn parts<'a>(domain: &'a str, descriptor: &'a RateLimitDescriptor, counted: &'a Counted<'_>) -> Vec<&'a [u8]> {
    let mut parts: Vec<&[u8]> = Vec::with_capacity(4 + 2 * descriptor.entries.len());
    parts.extend([b"envoy".as_slice(), domain.as_bytes(), counted.limit().unit.as_str().as_bytes()]);
    parts.extend(counted.shared.iter().map(|(_, pattern)| pattern.as_bytes()));
    parts.push(b"");
    for (index, entry) in descriptor.entries.iter().enumerate() {
        let shared = counted.shared.iter().any(|(place, _)| *place == index);
        // An entry without its value is one part shorter than any other.
        parts.push(if shared { b"*" } else { b"=" });
        parts.push(entry.key.as_bytes());
        if !shared {
            parts.push(entry.value.as_bytes());
        }
    }
    parts
}

fn count(live: &Live, limit: &Limit, over: bool) {
    let Some(counts) = limit.id.and_then(|id| live.counts(id)) else { return };
    let counter = match (over, limit.shadow) {
        (false, _) => &counts.passed,
        (true, false) => &counts.over,
        (true, true) => &counts.shadowed,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    if over && limit.shadow {
        tracing::debug!(limit = limit.policy, "over a limit in shadow mode: answered as within it");
    }
}

fn status(limit: &Limit, found: Measured, refused: bool) -> DescriptorStatus {
    let current = RateLimit {
        name: limit.name.clone(),
        requests_per_unit: limit.requests,
        unit: wire::answered(limit.unit).into(),
    };
    let unlimited = limit.allowance == Allowance::Unlimited;
    DescriptorStatus {
        code: if refused { Code::OverLimit.into() } else { Code::Ok.into() },
        current_limit: (!unlimited).then_some(current),
        limit_remaining: found.left,
        duration_until_reset: found.reset.map(to_duration),
        quota: None,
    }
}
