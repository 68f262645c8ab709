//! What a process used, and the middle of several.

use std::fs;

/// Clock ticks of `/proc/PID/stat` in a second (`getconf CLK_TCK`).
const TICKS: f64 = 100.0;

/// CPU that the process has used so far, in user and system mode.
pub(crate) fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    // Fields 14 and 15 of proc(5), counted from the state, which is the third.
    let ticks = |at: usize| after_name.split_whitespace().nth(at - 3).and_then(|text| text.parse::<f64>().ok());
    (ticks(14).unwrap_or_default() + ticks(15).unwrap_or_default()) / TICKS
}

/// CPU that the thread has used so far, in nanoseconds: waiting for a core does not count.
pub(crate) fn cpu_nanos_of_thread() -> f64 {
    let times = fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts");
    times.split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number")
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
