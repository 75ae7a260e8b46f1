//! What a process and its descendants cost: CPU time and memory, from `/proc`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// `USER_HZ`, the unit of the times in `/proc/PID/stat`: 100 on every architecture that matters, whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);

/// CPU time and memory of a process and its descendants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time, of children that have left too; in steps of 10 ms.
    pub cpu: Duration,
    /// Resident bytes, pages shared between the processes counted in each.
    pub rss_bytes: u64,
    /// Resident bytes, shared pages divided among those who share them.
    pub pss_bytes: u64,
    /// Live processes.
    pub processes: usize,
    /// Open file descriptors.
    pub descriptors: usize,
}

/// The usage of `root` and everything below it.
///
/// # Errors
/// When `root` has gone.
pub fn of_tree(root: u32) -> Result<Usage> {
    let mut total = Usage::default();
    for pid in tree(root) {
        // One that leaves meanwhile is counted by its parent.
        let Some(stat) = Stat::read(pid) else { continue };
        total.cpu += stat.cpu;
        total.processes += 1;
        let (rss, pss) = memory(pid);
        total.rss_bytes += rss;
        total.pss_bytes += pss;
        total.descriptors += fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or_default();
    }
    Stat::read(root).with_context(|| format!("process {root} has gone"))?;
    Ok(total)
}

/// CPU time alone of `root` and everything below it: cheaper than [`of_tree`].
#[must_use]
pub fn cpu_of_tree(root: u32) -> Duration {
    tree(root).into_iter().filter_map(Stat::read).map(|stat| stat.cpu).sum()
}

/// `root` and its descendants, parents before children.
#[must_use]
pub fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(stat) = Stat::read(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let (mut found, mut next, mut seen) = (Vec::new(), vec![root], HashSet::new());
    while let Some(pid) = next.pop() {
        if seen.insert(pid) {
            found.push(pid);
            next.extend(children.remove(&pid).unwrap_or_default());
        }
    }
    found
}

struct Stat {
    parent: u32,
    cpu: Duration,
}

impl Stat {
    /// `None` when the process has gone.
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may itself contain any byte; proc_pid_stat(5) counts fields from 1, with state as the third.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u32>().ok();
        let ticks = number(14)? + number(15)? + number(16)? + number(17)?;
        Some(Self { parent: number(4)?, cpu: TICK * ticks })
    }
}

/// RSS and PSS in bytes; zero for one that has gone or may not be looked at.
fn memory(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok()).unwrap_or_default()
    };
    (kib("Rss:") * 1024, kib("Pss:") * 1024)
}
