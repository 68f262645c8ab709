//! CPU seconds that a process has used.

use std::fs;

use anyhow::Context as _;

/// Clock ticks of `/proc/PID/stat` in a second (`getconf CLK_TCK`).
const TICKS: f64 = 100.0;

/// CPU seconds of this process so far, user and system.
pub fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("the process has ended")?;
    // The name may hold spaces and brackets; the fields after it are counted from the state, which is the third.
    let (_, after_name) = stat.rsplit_once(')').context("a stat line without a name")?;
    let ticks = |at: usize| after_name.split_whitespace().nth(at - 3).and_then(|text| text.parse::<f64>().ok());
    Ok((ticks(14).context("no user time")? + ticks(15).context("no system time")?) / TICKS)
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
