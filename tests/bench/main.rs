//! `make bench`: what a call costs, as ratios within one run (`identity` alone: only what verifying costs).
//!
//! Absolute numbers say little on a shared machine; the columns of one run were measured within minutes of each other,
//! against the same shop, each in three rounds of which the median counts. The load generator shares the cores with
//! what it measures, for every row alike.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a measuring program: it speaks on standard output, ends when something fails, and lives for minutes"
)]

mod by_hand;
mod cost;
mod echo;
mod identity;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use safeconduct_testkit::{Ask, Caller, Layout, Options, ShopUser, Store, Suite};
use serde_json::json;

use crate::cost::{cpu_seconds, median};

const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;
/// Calls under way at once, over all connections.
const CONCURRENCY: usize = 32;

#[derive(Clone, Copy)]
enum Work {
    /// The connector refuses an unknown connector after checking the assertion: the cost of being a service here.
    Refusal,
    /// A read without a key: one call of the upstream, no record.
    Read,
    /// A write that was done before: answered out of its record.
    Replay,
    /// A new write: list read, record made, call, record settled.
    Write,
}

impl Work {
    const ALL: [Self; 4] = [Self::Refusal, Self::Read, Self::Replay, Self::Write];

    const fn name(self) -> &'static str {
        match self {
            Self::Refusal => "refusal",
            Self::Read => "read",
            Self::Replay => "replay",
            Self::Write => "write",
        }
    }

    fn ask(self, assertion: &str, number: u64) -> Ask {
        match self {
            Self::Refusal => Ask::new(assertion, "no-such-connector", &json!({})),
            Self::Read => Ask::new(assertion, "list-orders", &json!({})),
            Self::Replay => Ask::new(assertion, "refund-order", &json!({"order_id": "ord_a1b2c3", "amount": 1})),
            Self::Write => {
                // Each amount and order is another refund; a note makes no difference to that.
                let order = match number % 3 {
                    0 => "ord_a1b2c3",
                    1 => "ord_d4e5f6",
                    _ => "ord_g7h8i9",
                };
                Ask::new(assertion, "refund-order", &json!({"order_id": order, "amount": 2 + number / 3 % 49_998}))
            }
        }
    }
}

struct Measured {
    per_second: f64,
    cpu_ms_per_1000: f64,
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let says = |word: &str| words.iter().any(|one| one == word);
    if says(echo::WORD) {
        return echo::serve().await;
    }
    if says(by_hand::WORD) {
        return by_hand::serve(words.last().expect("its directory").as_ref()).await;
    }
    if !says("identity") {
        measure_calls().await;
    }
    identity::measure().await;
}

async fn measure_calls() {
    println!("{CONCURRENCY} calls at once, {ROUNDS} rounds of {} s, medians\n", ROUND.as_secs());
    println!("{:<10} {:<9} {:<9} {:>6} {:>12} {:>14}", "work", "store", "runtime", "conns", "calls/s", "CPU ms/1,000");
    let mut costs = Vec::new();
    for store in [Store::Embedded, Store::Redis] {
        for runtime in ["per-core", "shared"] {
            let options = Options::new(Layout::All, store)
                .set("SAFECONDUCT_RUNTIME__KIND", runtime)
                .set("SAFECONDUCT_LIMITS__IN_FLIGHT", "4096");
            let suite = Suite::start(options).await.expect("the suite starts");
            let assertion = suite.assertion(ShopUser::Ada).await.expect("an assertion");
            let numbers = Arc::new(AtomicU64::new(0));
            for work in Work::ALL {
                for connections in [1, 4, 32] {
                    // Enough to see the store; what differs by connections does so on the embedded one.
                    if store == Store::Redis && connections != 4 {
                        continue;
                    }
                    let measured = measure(&suite, &assertion, work, connections, &numbers).await;
                    println!(
                        "{:<10} {:<9} {:<9} {:>6} {:>12.0} {:>14.1}",
                        work.name(),
                        format!("{store:?}").to_lowercase(),
                        runtime,
                        connections,
                        measured.per_second,
                        measured.cpu_ms_per_1000
                    );
                    costs.push(((work.name(), store, runtime, connections), measured));
                }
            }
        }
    }
    ratios(&costs);
}

type Case = (&'static str, Store, &'static str, usize);

fn ratios(costs: &[(Case, Measured)]) {
    let find = |case: Case| costs.iter().find(|(one, _)| *one == case).map(|(_, measured)| measured);
    println!("\nper-core against shared (below 1 is cheaper; above 1 is faster):");
    for work in Work::ALL {
        for connections in [1, 4, 32] {
            let of = |runtime| find((work.name(), Store::Embedded, runtime, connections));
            if let (Some(ours), Some(other)) = (of("per-core"), of("shared")) {
                println!(
                    "  {:<10} {connections:>3} connections: CPU {:.2}, calls/s {:.2}",
                    work.name(),
                    ours.cpu_ms_per_1000 / other.cpu_ms_per_1000,
                    ours.per_second / other.per_second
                );
            }
        }
    }
    println!("\nagainst a read (per-core, 4 connections), CPU of the suite:");
    for store in [Store::Embedded, Store::Redis] {
        let of = |work: Work| find((work.name(), store, "per-core", 4));
        if let Some(read) = of(Work::Read) {
            for work in Work::ALL {
                if let Some(one) = of(work) {
                    println!("  {:<10} {:<9?} {:.2}", work.name(), store, one.cpu_ms_per_1000 / read.cpu_ms_per_1000);
                }
            }
        }
    }
}

async fn measure(suite: &Suite, assertion: &str, work: Work, connections: usize, numbers: &Arc<AtomicU64>) -> Measured {
    let callers: Vec<Caller> = (0..connections).map(|_| suite.agent().expect("a caller")).collect();
    let process = suite.process_id(suite.executor()).expect("a running process");
    round(&callers, assertion, work, numbers, ROUND / 3).await;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (cpu, start) = (cpu_seconds(process), Instant::now());
        let calls = round(&callers, assertion, work, numbers, ROUND).await;
        let (cpu, elapsed) = (cpu_seconds(process) - cpu, start.elapsed().as_secs_f64());
        rounds.push((calls as f64 / elapsed, cpu * 1_000_000.0 / calls.max(1) as f64));
    }
    Measured {
        per_second: median(rounds.iter().map(|one| one.0).collect()),
        cpu_ms_per_1000: median(rounds.iter().map(|one| one.1).collect()),
    }
}

async fn round(callers: &[Caller], assertion: &str, work: Work, numbers: &Arc<AtomicU64>, length: Duration) -> u64 {
    let done = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + length;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..CONCURRENCY {
        let caller = callers.get(index % callers.len()).expect("a caller").clone();
        let (done, numbers, assertion) = (Arc::clone(&done), Arc::clone(numbers), assertion.to_owned());
        tasks.spawn(async move {
            while Instant::now() < end {
                let ask = work.ask(&assertion, numbers.fetch_add(1, Ordering::Relaxed));
                let answer = caller.execute(&ask).await;
                assert_eq!(answer.is_ok(), !matches!(work, Work::Refusal), "{}: {answer:?}", work.name());
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a caller of the bench ends well");
    }
    done.load(Ordering::Relaxed)
}
