//! What one decision costs: CPU of the service and of Redis apart, and latency at a fixed rate.
//!
//! `compare` measures (`only NAME` the rows with that in their names, for a profiler); `compare floor|limitador-redis|limitador-memory ...` are the services beside which ours is
//! measured, each a process of its own. All answer the same message over the same kind of server; rounds take turns, so
//! that a noisy minute hits every row, and the median round counts. Rows are ratios within one run.

mod cost;
mod load;
mod rows;
mod servers;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["floor", redis] => runtime.block_on(servers::floor(redis)),
        ["limitador-redis", redis] => runtime.block_on(servers::limitador_redis(redis)),
        ["limitador-memory"] => runtime.block_on(servers::limitador_memory()),
        [] => runtime.block_on(rows::measure_all(None)),
        ["only", name] => runtime.block_on(rows::measure_all(Some(name))),
        _ => anyhow::bail!("run it without arguments, or with `only` and a part of the names of rows"),
    }
}
