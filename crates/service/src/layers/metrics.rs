//! Counters of the calls of one process. Their labels come from the contracts, never from requests, so that a caller
//! cannot make them grow.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;

/// Status codes of gRPC: 0 to 16.
const CODES: usize = 17;

/// A method of the contracts, and what was counted about it.
#[derive(Debug)]
pub struct Method {
    service: String,
    name: String,
    span: String,
    streams: bool,
    calls: [AtomicU64; CODES],
    micros: AtomicU64,
    /// Nanoseconds of work a call takes, as a moving average.
    cost: AtomicU64,
    /// Calls that asked whether to be measured; goes round.
    turns: AtomicU32,
}

impl Method {
    fn new(service: &str, name: &str, streams: bool) -> Self {
        Self {
            service: service.to_owned(),
            name: name.to_owned(),
            span: format!("{service}/{name}"),
            streams,
            calls: Default::default(),
            micros: AtomicU64::new(0),
            cost: AtomicU64::new(0),
            turns: AtomicU32::new(0),
        }
    }

    /// The service's full name.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The method's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `package.Service/Method`.
    pub fn full_name(&self) -> &str {
        &self.span
    }

    /// Whether the answer is a stream, which may last as long as both sides like.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// How much work one call has been lately, waiting not counted.
    pub(crate) fn cost(&self) -> Duration {
        Duration::from_nanos(self.cost.load(Ordering::Relaxed))
    }

    /// For how many cheap calls this one stands: the first for those that follow, and most for none.
    pub(crate) fn sampled(&self) -> u32 {
        const ONE_IN: u32 = 8;
        // As below: a turn that is counted once for two calls is no loss.
        let turn = self.turns.load(Ordering::Relaxed);
        self.turns.store(turn.wrapping_add(1), Ordering::Relaxed);
        if turn.is_multiple_of(ONE_IN) { ONE_IN } else { 0 }
    }

    /// Notes how much work a call was.
    pub(crate) fn worked(&self, spent: Duration) {
        // Bounded, so that one call that was interrupted does not count for a hundred.
        let spent = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX).min(1_000_000);
        let before = self.cost.load(Ordering::Relaxed);
        // A lost update between two workers changes an estimate, nothing else.
        self.cost.store(before - before / 16 + spent / 16, Ordering::Relaxed);
    }

    pub(super) fn count(&self, code: Code, took: Duration) {
        if let Some(counter) = usize::try_from(i32::from(code)).ok().and_then(|code| self.calls.get(code)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Adds lines in the text format of Prometheus.
type Source = Box<dyn Fn(&mut String) + Send + Sync>;

/// What services of the process count themselves.
#[derive(Default)]
struct Sources(RwLock<Vec<Source>>);

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    methods: HashMap<String, Arc<Method>>,
    unknown: Arc<Method>,
    pub(super) in_flight: AtomicI64,
    pub(super) panics: AtomicU64,
    pub(super) shed: AtomicU64,
    pub(crate) connections: AtomicI64,
    sources: Sources,
}

impl Metrics {
    /// Counters for the methods in these encoded `FileDescriptorSet`s, and one for everything else.
    pub fn new(descriptors: &[&[u8]]) -> Result<Self, prost::DecodeError> {
        let mut methods = HashMap::new();
        let own = [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        for set in own.iter().chain(descriptors) {
            for file in FileDescriptorSet::decode(*set)?.file {
                for service in &file.service {
                    let full = match file.package() {
                        "" => service.name().to_owned(),
                        package => format!("{package}.{}", service.name()),
                    };
                    for method in &service.method {
                        let known = Method::new(&full, method.name(), method.server_streaming());
                        methods.insert(format!("/{}", known.full_name()), Arc::new(known));
                    }
                }
            }
        }
        Ok(Self {
            methods,
            unknown: Arc::new(Method::new("unknown", "unknown", false)),
            in_flight: AtomicI64::new(0),
            panics: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            connections: AtomicI64::new(0),
            sources: Sources::default(),
        })
    }

    /// The method behind a request's path.
    pub fn method(&self, path: &str) -> Arc<Method> {
        Arc::clone(self.methods.get(path).unwrap_or(&self.unknown))
    }

    /// Calls from the network and in process that have begun and not ended.
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.in_flight.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Shows besides, whenever somebody looks, what `source` adds in the text format of Prometheus. Its labels must not
    /// come from requests.
    pub fn show(&self, source: impl Fn(&mut String) + Send + Sync + 'static) {
        self.sources.0.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(source));
    }

    /// The counters in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut one = |name: &str, kind: &str, help: &str, value: i64| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        one("safeconduct_up", "gauge", "1 while the process runs.", 1);
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        one("safeconduct_calls_in_flight", "gauge", "Calls begun and not ended.", in_flight);
        let connections = self.connections.load(Ordering::Relaxed);
        one("safeconduct_connections", "gauge", "Connections from callers.", connections);
        let count = |counter: &AtomicU64| i64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        one("safeconduct_panics_total", "counter", "Calls that ended in a panic.", count(&self.panics));
        one("safeconduct_shed_total", "counter", "Calls refused because too many were in flight.", count(&self.shed));
        let name = "safeconduct_calls_total";
        let _ = writeln!(text, "# HELP {name} Calls ended, by status code.\n# TYPE {name} counter");
        let mut methods: Vec<_> = self.methods.values().chain([&self.unknown]).collect();
        methods.sort_by(|one, other| one.span.cmp(&other.span));
        for method in &methods {
            for (code, calls) in method.calls.iter().enumerate() {
                let calls = calls.load(Ordering::Relaxed);
                if calls > 0 {
                    let (service, call) = (&method.service, &method.name);
                    let _ = writeln!(text, "{name}{{service=\"{service}\",method=\"{call}\",code=\"{code}\"}} {calls}");
                }
            }
        }
        let name = "safeconduct_call_microseconds_total";
        let _ = writeln!(text, "# HELP {name} Time spent in calls that have ended.\n# TYPE {name} counter");
        for method in &methods {
            let micros = method.micros.load(Ordering::Relaxed);
            if micros > 0 {
                let (service, call) = (&method.service, &method.name);
                let _ = writeln!(text, "{name}{{service=\"{service}\",method=\"{call}\"}} {micros}");
            }
        }
        self.sources.0.read().unwrap_or_else(PoisonError::into_inner).iter().for_each(|source| source(&mut text));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_contract_has_adds_no_label() {
        let metrics = Metrics::new(&[]).expect("our own descriptors decode");
        metrics.method("/made.Up/Name").count(Code::Unimplemented, Duration::ZERO);
        metrics.method("/grpc.health.v1.Health/Check").count(Code::Ok, Duration::ZERO);
        let text = metrics.render();
        assert!(!text.contains("made"), "{text}");
        assert!(text.contains("{service=\"unknown\",method=\"unknown\",code=\"12\"} 1"), "{text}");
        assert!(text.contains("{service=\"grpc.health.v1.Health\",method=\"Check\",code=\"0\"} 1"), "{text}");
    }
}
