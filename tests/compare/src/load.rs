//! Calls: as many as go, to see what one costs; at a fixed rate, to see how long one takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;
use tonic::Status;

use crate::rows::Row;

/// Calls under way at once, over all connections.
const CONCURRENCY: usize = 32;
/// Calls a second when latency is measured: far below what any row can do, so that no queue is measured.
const RATE: u64 = 500;

/// Calls of `row` for `length`, as many as go. Yields how many were answered, and in what time.
pub async fn saturate(row: &Arc<Row>, numbers: &Arc<AtomicU64>, length: Duration) -> anyhow::Result<(u64, f64)> {
    let start = Instant::now();
    let end = start + length;
    let mut tasks = JoinSet::new();
    for worker in 0..CONCURRENCY {
        let (row, numbers) = (Arc::clone(row), Arc::clone(numbers));
        tasks.spawn(async move {
            let mut done = 0_u64;
            while Instant::now() < end {
                row.call(worker, numbers.fetch_add(1, Ordering::Relaxed)).await?;
                done += 1;
            }
            Ok::<_, Status>(done)
        });
    }
    let mut done = 0;
    while let Some(ended) = tasks.join_next().await {
        done += ended?.with_context(|| format!("{}: a call failed", row.name))?;
    }
    Ok((done, start.elapsed().as_secs_f64()))
}

/// Microseconds of one call at [`RATE`] a second: half of them took less than the first, 99 of 100 less than the second.
/// A call is timed from when it was due, so that a stall is not hidden by the calls that it kept from starting.
pub async fn latency(row: &Arc<Row>, numbers: &Arc<AtomicU64>, length: Duration) -> anyhow::Result<(f64, f64)> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    let calls = RATE * length.as_secs();
    for index in 0..calls {
        let due = start + Duration::from_micros(index * 1_000_000 / RATE);
        tokio::time::sleep_until(due.into()).await;
        let (row, numbers) = (Arc::clone(row), Arc::clone(numbers));
        tasks.spawn(async move {
            row.call(usize::try_from(index).unwrap_or_default(), numbers.fetch_add(1, Ordering::Relaxed)).await?;
            Ok::<_, Status>(due.elapsed().as_secs_f64() * 1_000_000.0)
        });
    }
    let mut took = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        took.push(ended?.with_context(|| format!("{}: a call failed", row.name))?);
    }
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
    Ok((at(50), at(99)))
}
