//! Statistics from the controllers of cgroup v2, put into the terms of v1.

use std::{collections::HashMap, path::Path};

use super::{
    BlkioEntry, BlkioStats, CpuStats, HugetlbStats, MemoryData, MemoryStats, huge_page_sizes,
    memory_stat,
};
use crate::cgroup::{
    CgroupError,
    file::{Reader, keyed},
};

/// What v1 shows for "no limit" (`PAGE_COUNTER_MAX`, in pages of 4 KiB). Callers know it as a
/// limit above the host's memory.
const UNLIMITED: u64 = 0x7fff_ffff_ffff_f000;

/// cpu. There is no usage by processor in v2.
pub(super) fn cpu(
    reader: &mut Reader,
    dir: &Path,
    stats: &mut CpuStats,
) -> Result<(), CgroupError> {
    let text = reader.read_present(&dir.join("cpu.stat"))?.unwrap_or_default();
    let value = |key| keyed(text, key).unwrap_or(0);
    let nanoseconds = |key| value(key) * 1000;
    stats.total_usage = nanoseconds("usage_usec");
    stats.usage_in_usermode = nanoseconds("user_usec");
    stats.usage_in_kernelmode = nanoseconds("system_usec");
    stats.periods = value("nr_periods");
    stats.throttled_periods = value("nr_throttled");
    stats.throttled_time = nanoseconds("throttled_usec");
    Ok(())
}

/// memory.
pub(super) fn memory(reader: &mut Reader, dir: &Path) -> Result<MemoryStats, CgroupError> {
    let Some(usage) = data(reader, dir, "memory")? else { return Ok(MemoryStats::default()) };
    let swap = data(reader, dir, "memory.swap")?;
    let mut stats = memory_stat(reader, dir)?;
    add_v1_names(&mut stats);
    stats.insert("swap".to_owned(), swap.unwrap_or_default().usage);
    stats.insert("hierarchical_memory_limit".to_owned(), hierarchical_limit(reader, dir)?);
    Ok(MemoryStats {
        cache: stats.get("file").copied().unwrap_or(0),
        usage,
        swap_usage: swap.map_or(usage, |swap| together(usage, swap)),
        kernel_usage: MemoryData { usage: kernel(&stats), limit: UNLIMITED, ..Default::default() },
        stats,
    })
}

/// The files of memory or swap; `None` without the controller.
fn data(reader: &mut Reader, dir: &Path, prefix: &str) -> Result<Option<MemoryData>, CgroupError> {
    let path = |name: &str| dir.join(format!("{prefix}.{name}"));
    let Some(usage) = reader.number(&path("current"))? else { return Ok(None) };
    let max_usage = reader.number(&path("peak"))?.unwrap_or(0);
    let events = reader.read_present(&path("events"))?;
    let failcnt = events.and_then(|text| keyed(text, "max")).unwrap_or(0);
    let limit = reader.number(&path("max"))?.unwrap_or(UNLIMITED);
    Ok(Some(MemoryData { usage, max_usage, failcnt, limit }))
}

/// The least limit of the cgroup and those that it is in, up to the root, which has none.
fn hierarchical_limit(reader: &mut Reader, dir: &Path) -> Result<u64, CgroupError> {
    let mut least = UNLIMITED;
    for dir in dir.ancestors() {
        let path = dir.join("memory.max");
        if !path.exists() {
            break;
        }
        least = least.min(reader.number(&path)?.unwrap_or(UNLIMITED));
    }
    Ok(least)
}

/// v1 accounts memory and swap together. The maximum of the sum is not known; the sum of the
/// maxima is its upper bound.
fn together(memory: MemoryData, swap: MemoryData) -> MemoryData {
    MemoryData {
        usage: memory.usage + swap.usage,
        max_usage: memory.max_usage + swap.max_usage,
        failcnt: swap.failcnt,
        limit: memory.limit.saturating_add(swap.limit).min(UNLIMITED),
    }
}

/// What v1 counted as kernel memory; v2 has the sum since Linux 5.18.
fn kernel(stats: &HashMap<String, u64>) -> u64 {
    let bytes = |key: &str| stats.get(key).copied().unwrap_or(0);
    let parts = || ["slab", "kernel_stack", "pagetables", "percpu"].into_iter().map(bytes).sum();
    stats.get("kernel").copied().unwrap_or_else(parts)
}

/// v1's names for what v2 calls otherwise, or the same.
const V1_NAMES: [(&str, &str); 14] = [
    ("cache", "file"),
    ("rss", "anon"),
    ("rss_huge", "anon_thp"),
    ("shmem", "shmem"),
    ("mapped_file", "file_mapped"),
    ("dirty", "file_dirty"),
    ("writeback", "file_writeback"),
    ("pgfault", "pgfault"),
    ("pgmajfault", "pgmajfault"),
    ("inactive_anon", "inactive_anon"),
    ("active_anon", "active_anon"),
    ("inactive_file", "inactive_file"),
    ("active_file", "active_file"),
    ("unevictable", "unevictable"),
];

/// Adds the values under their v1 names. They include nested cgroups, as v1's `total_` do.
fn add_v1_names(stats: &mut HashMap<String, u64>) {
    for (v1, v2) in V1_NAMES {
        if let Some(&value) = stats.get(v2) {
            stats.insert(v1.to_owned(), value);
            stats.insert(format!("total_{v1}"), value);
        }
    }
}

/// io. v2 does not tell synchronous from asynchronous requests.
pub(super) fn io(reader: &mut Reader, dir: &Path) -> Result<BlkioStats, CgroupError> {
    let path = dir.join("io.stat");
    let mut stats = BlkioStats::default();
    for line in reader.read_present(&path)?.unwrap_or_default().lines() {
        let malformed = || CgroupError::malformed(&path, line);
        let (device, values) = line.split_once(' ').unwrap_or((line, ""));
        let (major, minor) = device.split_once(':').ok_or_else(malformed)?;
        let device = Device {
            major: major.parse().map_err(|_| malformed())?,
            minor: minor.parse().map_err(|_| malformed())?,
        };
        let value = |key: &str| -> u64 {
            let mut pairs = values.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| *name == key).and_then(|(_, v)| v.parse().ok()).unwrap_or(0)
        };
        device.add(&mut stats.service_bytes, ["rbytes", "wbytes", "dbytes"].map(value));
        device.add(&mut stats.serviced, ["rios", "wios", "dios"].map(value));
    }
    Ok(stats)
}

struct Device {
    major: u64,
    minor: u64,
}

impl Device {
    fn add(&self, entries: &mut Vec<BlkioEntry>, [read, write, discard]: [u64; 3]) {
        let total = read + write + discard;
        let ops = [("Read", read), ("Write", write), ("Discard", discard), ("Total", total)];
        entries.extend(ops.map(|(op, value)| BlkioEntry {
            major: self.major,
            minor: self.minor,
            op: op.to_owned(),
            value,
        }));
    }
}

/// hugetlb. v2 has no maximum of the usage.
pub(super) fn hugetlb(
    reader: &mut Reader,
    dir: &Path,
) -> Result<HashMap<String, HugetlbStats>, CgroupError> {
    let mut stats = HashMap::new();
    for size in huge_page_sizes() {
        let path = |name: &str| dir.join(format!("hugetlb.{size}.{name}"));
        let Some(usage) = reader.number(&path("current"))? else { continue };
        let events = reader.read_present(&path("events"))?;
        let failcnt = events.and_then(|text| keyed(text, "max")).unwrap_or(0);
        let limit = reader.number(&path("max"))?.unwrap_or(UNLIMITED);
        stats.insert(size, HugetlbStats { usage, max_usage: 0, failcnt, limit });
    }
    Ok(stats)
}
