//! What processes cost: processor time and memory, as Linux counts them under `/proc`.

use std::time::Duration;

use anyhow::Context;
use procfs::process::{Process, Stat, all_processes};

/// Processor time by now of a process and of its children, PostgreSQL's backends for one: those that
/// run and those that it has waited for.
///
/// # Errors
/// When there is no such process.
pub fn processor_time(id: u32) -> anyhow::Result<Duration> {
    let parent = process(id)?.stat()?;
    // One that ends while it is looked at is counted at its parent.
    let children = all_processes()?
        .filter_map(|process| process.ok()?.stat().ok())
        .filter(|stat| stat.ppid == parent.pid);
    Ok(time(&parent) + children.map(|stat| time(&stat)).sum::<Duration>())
}

/// The most memory that a process had resident at a time, in bytes.
///
/// # Errors
/// When there is no such process.
pub fn peak_memory(id: u32) -> anyhow::Result<u64> {
    let kib = process(id)?.status()?.vmhwm;
    Ok(kib.context("a process without memory has ended")? * 1024)
}

/// The memory that a process has resident by now, in bytes.
///
/// # Errors
/// When there is no such process.
pub fn memory(id: u32) -> anyhow::Result<u64> {
    let kib = process(id)?.status()?.vmrss;
    Ok(kib.context("a process without memory has ended")? * 1024)
}

/// How many file descriptors a process has open.
///
/// # Errors
/// When there is no such process.
pub fn descriptors(id: u32) -> anyhow::Result<usize> {
    Ok(process(id)?.fd_count()?)
}

fn process(id: u32) -> anyhow::Result<Process> {
    Process::new(i32::try_from(id)?).with_context(|| format!("look at process {id}"))
}

fn time(stat: &Stat) -> Duration {
    let waited_for = u64::try_from(stat.cutime + stat.cstime).unwrap_or_default();
    let ticks = stat.utime + stat.stime + waited_for;
    Duration::from_millis(ticks * 1_000 / procfs::ticks_per_second())
}
