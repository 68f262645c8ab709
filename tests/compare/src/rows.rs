//! What is compared, and the table.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use safeconduct_proto::admission::v1 as admission;
use safeconduct_proto::admission::v1::admission_service_client::AdmissionServiceClient;
use safeconduct_proto::admission::v1::{admit_response, lookup_response};
use safeconduct_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use safeconduct_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use safeconduct_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use safeconduct_proto::envoy::service::ratelimit::v3::{RateLimitRequest, rate_limit_response};
use safeconduct_testkit::admission::{admit, contact, daily, lookup, rate};
use safeconduct_testkit::{Layout, Options, Store, Suite, token};
use safeconduct_types::ContactId;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::cost::{cpu_seconds, median};
use crate::load::{latency, saturate};

const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;
const CONNECTIONS: usize = 4;
/// Contacts that take turns: each has counters of its own.
const CONTACTS: u64 = 1000;
const GATEWAY: &str = "
domain: bench
descriptors:
  - key: contact
    rate_limit: {unit: second, requests_per_unit: 1000000}
";

/// What is asked.
#[derive(Clone, Copy)]
enum Work {
    /// One rate.
    Rate,
    /// The whole admission of a write: its key, two rates and a cap. Each is a new one.
    Write,
    /// One rate, asked as Envoy asks.
    Gateway,
}

/// One line of the table.
pub struct Row {
    /// What it is called.
    pub name: &'static str,
    work: Work,
    process: u32,
    /// Over Redis: its CPU counts too.
    redis: bool,
    channels: Vec<Channel>,
    token: MetadataValue<Ascii>,
}

impl Row {
    fn new(name: &'static str, work: Work, process: u32, redis: bool, address: &str) -> anyhow::Result<Arc<Self>> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let channels = (0..CONNECTIONS).map(|_| endpoint.connect_lazy()).collect();
        let token = if matches!(work, Work::Gateway) { token::GATEWAY } else { token::SISTER };
        let token = format!("Bearer {token}").parse()?;
        Ok(Arc::new(Self { name, work, process, redis, channels, token }))
    }

    /// One call, which must be let pass.
    pub async fn call(&self, worker: usize, number: u64) -> Result<(), Status> {
        let channel = self.channels.get(worker % CONNECTIONS).cloned().ok_or_else(|| Status::internal("no channel"))?;
        let contact = contact(number % CONTACTS);
        let passed = match self.work {
            Work::Rate => {
                let answer =
                    AdmissionServiceClient::new(channel).lookup(self.request(lookup(&contact, vec![burst()]))).await?;
                matches!(answer.into_inner().answer, Some(lookup_response::Answer::Absent(_)))
            }
            Work::Write => {
                let write = write(&contact, number).map_err(|error| Status::internal(error.to_string()))?;
                let answer = AdmissionServiceClient::new(channel).admit(self.request(write)).await?;
                matches!(answer.into_inner().decision, Some(admit_response::Decision::Admitted(_)))
            }
            Work::Gateway => {
                let answer =
                    RateLimitServiceClient::new(channel).should_rate_limit(self.request(gateway(&contact))).await?;
                answer.into_inner().overall_code == rate_limit_response::Code::Ok as i32
            }
        };
        if passed { Ok(()) } else { Err(Status::internal("the decision was not `go ahead`")) }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request.set_timeout(Duration::from_secs(10));
        request
    }
}

fn burst() -> admission::Charge {
    rate("burst", true, 1_000_000, Duration::from_secs(1), 0)
}

/// The key, two rates and a cap.
fn write(contact: &ContactId, number: u64) -> anyhow::Result<admission::AdmitRequest> {
    let steady = rate("steady", true, 1_000_000, Duration::from_mins(1), 0);
    admit(contact, number, vec![burst(), steady, daily("money-out", true, 500, 1 << 50)])
}

fn gateway(contact: &ContactId) -> RateLimitRequest {
    let entry = Entry { key: "contact".to_owned(), value: contact.to_string() };
    let descriptor = RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() };
    RateLimitRequest { domain: "bench".to_owned(), descriptors: vec![descriptor], ..RateLimitRequest::default() }
}

/// A server of this program in a process of its own; ends with this value.
async fn start(arguments: &[&str]) -> anyhow::Result<(Child, u32, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.args(arguments).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let output = child.stdout.take().context("no output")?;
    let address = BufReader::new(output).lines().next_line().await?.context("it said no address")?;
    let process = child.id().context("it has ended")?;
    Ok((child, process, address))
}

fn options(store: Store, gateway: &std::path::Path) -> anyhow::Result<Options> {
    let gateway = gateway.to_str().context("a path that is text")?;
    // An append-only file that is synced each second, as most run it: what is compared is the work, not the disk.
    Ok(Options::new(Layout::Only("admission"), store)
        .set("SAFECONDUCT_LIMITS__IN_FLIGHT", "4096")
        .set("SAFECONDUCT_ADMISSION__ENVOY__DESCRIPTORS", gateway))
}

struct Measured {
    per_second: f64,
    service: f64,
    redis: f64,
    half: f64,
    most: f64,
}

/// Starts all that is compared, measures in turns, prints.
pub async fn measure_all(only: Option<&str>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let descriptors = folder.path().join("gateway.yaml");
    std::fs::write(&descriptors, GATEWAY)?;
    let over_redis = Suite::start(options(Store::Redis, &descriptors)?).await?;
    let embedded = Suite::start(options(Store::Embedded, &descriptors)?).await?;
    let redis = over_redis.redis_url().context("the suite has a Redis")?;
    let counter = redis::Client::open(redis.as_str())?.get_multiplexed_async_connection().await?;
    let appendfsync = redis::cmd("CONFIG").arg("SET").arg("appendfsync").arg("everysec").to_owned();
    appendfsync.query_async::<()>(&mut counter.clone()).await?;

    let (_floor, floor, floor_at) = start(&["floor", &redis]).await?;
    let (_library, library, library_at) = start(&["limitador-redis", &redis]).await?;
    let (_memory, memory, memory_at) = start(&["limitador-memory"]).await?;
    let ours = over_redis.process_id("admission").context("admission runs")?;
    let ours_at = over_redis.address("admission")?;
    let local = embedded.process_id("admission").context("admission runs")?;
    let local_at = embedded.address("admission")?;
    let rows = [
        Row::new("floor: one script call", Work::Rate, floor, true, &floor_at)?,
        Row::new("ours, Redis, one rate", Work::Rate, ours, true, &ours_at)?,
        Row::new("ours, Redis, whole write", Work::Write, ours, true, &ours_at)?,
        Row::new("ours, Redis, Envoy's API", Work::Gateway, ours, true, &ours_at)?,
        Row::new("limitador, Redis, one limit", Work::Rate, library, true, &library_at)?,
        Row::new("ours, embedded, one rate", Work::Rate, local, false, &local_at)?,
        Row::new("ours, embedded, whole write", Work::Write, local, false, &local_at)?,
        Row::new("limitador, memory, one limit", Work::Rate, memory, false, &memory_at)?,
        Row::new("floor: a write's script call", Work::Write, floor, true, &floor_at)?,
    ];
    let rows: Vec<_> = rows.into_iter().filter(|row| only.is_none_or(|part| row.name.contains(part))).collect();
    for row in &rows {
        eprintln!("{}: process {}", row.name, row.process);
    }
    let numbers = Arc::new(AtomicU64::new(0));
    let mut costs: Vec<Vec<Measured>> = rows.iter().map(|_| Vec::new()).collect();
    for row in &rows {
        saturate(row, &numbers, ROUND / 3).await?;
    }
    for round in 0..ROUNDS {
        for (row, costs) in rows.iter().zip(&mut costs) {
            costs.push(measure(row, &numbers, &counter).await?);
        }
        eprintln!("round {} of {ROUNDS}", round + 1);
    }
    table(&rows, &costs);
    if only.is_none() { ratios(&costs) } else { Ok(()) }
}

async fn redis_cpu(connection: &redis::aio::MultiplexedConnection) -> anyhow::Result<f64> {
    let info: String = redis::cmd("INFO").arg("cpu").query_async(&mut connection.clone()).await?;
    let of = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    Ok(of("used_cpu_user:").context("no user time")? + of("used_cpu_sys:").context("no system time")?)
}

async fn measure(
    row: &Arc<Row>,
    numbers: &Arc<AtomicU64>,
    counter: &redis::aio::MultiplexedConnection,
) -> anyhow::Result<Measured> {
    let before = (cpu_seconds(row.process)?, redis_cpu(counter).await?);
    let (calls, seconds) = saturate(row, numbers, ROUND).await?;
    ensure!(calls > 0, "{}: no call was answered", row.name);
    let after = (cpu_seconds(row.process)?, redis_cpu(counter).await?);
    let per_1000 = |used: f64| used * 1_000_000.0 / calls as f64;
    let (half, most) = latency(row, numbers, Duration::from_secs(2)).await?;
    Ok(Measured {
        per_second: calls as f64 / seconds,
        service: per_1000(after.0 - before.0),
        redis: if row.redis { per_1000(after.1 - before.1) } else { 0.0 },
        half,
        most,
    })
}

fn table(rows: &[Arc<Row>], costs: &[Vec<Measured>]) {
    println!("{ROUNDS} rounds of {} s in turns, medians; CPU in ms per 1,000 decisions\n", ROUND.as_secs());
    println!(
        "{:<30} {:>10} {:>9} {:>7} {:>7} {:>11} {:>11}",
        "", "decisions/s", "service", "Redis", "total", "half under", "99% under"
    );
    let of = |costs: &[Measured], field: fn(&Measured) -> f64| median(costs.iter().map(field).collect());
    for (row, costs) in rows.iter().zip(costs) {
        println!(
            "{:<30} {:>10.0} {:>9.1} {:>7.1} {:>7.1} {:>8.0} us {:>8.0} us",
            row.name,
            of(costs, |one| one.per_second),
            of(costs, |one| one.service),
            of(costs, |one| one.redis),
            of(costs, |one| one.service + one.redis),
            of(costs, |one| one.half),
            of(costs, |one| one.most),
        );
    }
}

fn ratios(costs: &[Vec<Measured>]) -> anyhow::Result<()> {
    // Round by round: neighbours in time, so that a noisy minute is in both.
    let ratio = |of: usize, to: usize, field: fn(&Measured) -> f64| {
        let pairs = costs.get(of)?.iter().zip(costs.get(to)?);
        Some(median(pairs.map(|(one, other)| field(one) / field(other)).collect()))
    };
    let total: fn(&Measured) -> f64 = |one| one.service + one.redis;
    println!("\nratios (the goal):");
    for (text, value) in [
        ("one rate to the floor, total CPU (at most 1.35)", ratio(1, 0, total)),
        ("one rate to the floor, Redis CPU (at most 1.1)", ratio(1, 0, |one| one.redis)),
        ("whole write to one rate, total CPU (at most 1.6)", ratio(2, 1, total)),
        ("whole write to a write's floor, total CPU", ratio(2, 8, total)),
        ("a write's floor to one rate's floor, total CPU", ratio(8, 0, total)),
        ("Envoy's API to one rate, total CPU", ratio(3, 1, total)),
        ("limitador over Redis to the floor, total CPU", ratio(4, 0, total)),
        ("embedded rate to limitador in memory (at most 1)", ratio(5, 7, total)),
    ] {
        println!("  {text:<52} {:.2}", value.context("a ratio of nothing")?);
    }
    Ok(())
}
