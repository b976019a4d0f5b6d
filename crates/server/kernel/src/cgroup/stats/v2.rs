//! Statistics from the controllers of cgroup v2, converted to the terms of v1.

use std::{collections::HashMap, path::Path};

use super::{
    BlkioEntry, BlkioStats, CpuStats, HugetlbStats, MemoryData, MemoryStats, huge_page_sizes,
    memory_stat,
};
use crate::cgroup::{
    CgroupError,
    file::{OpenDir, Reader, keyed},
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
    let mut stats = memory_stat(reader, &OpenDir::open(dir)?)?;
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

/// io. v2 does not distinguish synchronous from asynchronous requests.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::testing::files;

    #[test]
    fn cpu_times_are_nanoseconds() {
        let (dir, mut reader) = files(&[(
            "cpu.stat",
            "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnice_usec 0\n\
             nr_periods 9\nnr_throttled 4\nthrottled_usec 77\nnr_bursts 0\nburst_usec 0\n",
        )]);
        let mut stats = CpuStats::default();
        cpu(&mut reader, dir.path(), &mut stats).unwrap();
        let expected = CpuStats {
            total_usage: 1_500_000,
            percpu_usage: Vec::new(),
            usage_in_kernelmode: 500_000,
            usage_in_usermode: 1_000_000,
            periods: 9,
            throttled_periods: 4,
            throttled_time: 77_000,
        };
        assert_eq!(stats, expected);
    }

    #[test]
    fn memory_in_v1_terms() {
        let (dir, mut reader) = files(&[
            ("memory.current", "10485760\n"),
            ("memory.peak", "12582912\n"),
            ("memory.max", "16777216\n"),
            ("memory.events", "low 0\nhigh 0\nmax 21\noom 2\noom_kill 1\noom_group_kill 0\n"),
            ("memory.swap.current", "4096\n"),
            ("memory.swap.peak", "8192\n"),
            ("memory.swap.max", "1048576\n"),
            ("memory.swap.events", "high 0\nmax 5\nfail 0\n"),
            ("memory.stat", "anon 8192000\nfile 1024000\nkernel 65536\nslab 1\npgfault 33\n"),
        ]);
        let memory = memory(&mut reader, dir.path()).unwrap();
        let usage =
            MemoryData { usage: 10_485_760, max_usage: 12_582_912, failcnt: 21, limit: 16_777_216 };
        let swap_usage =
            MemoryData { usage: 10_489_856, max_usage: 12_591_104, failcnt: 5, limit: 17_825_792 };
        assert_eq!((memory.usage, memory.swap_usage), (usage, swap_usage));
        assert_eq!((memory.kernel_usage.usage, memory.kernel_usage.limit), (65_536, UNLIMITED));
        assert_eq!(memory.cache, 1_024_000);
        let stats = |key: &str| memory.stats.get(key).copied();
        assert_eq!(stats("cache"), stats("total_cache"));
        assert_eq!((stats("rss"), stats("anon")), (Some(8_192_000), Some(8_192_000)));
        assert_eq!((stats("swap"), stats("total_pgfault")), (Some(4096), Some(33)));
        assert_eq!(
            (stats("hierarchical_memory_limit"), stats("mapped_file")),
            (Some(16 << 20), None)
        );
    }

    #[test]
    fn no_limit_and_an_older_kernel() {
        let (outer, mut reader) = files(&[("memory.max", "4096\n")]);
        let dir = outer.path().join("a");
        std::fs::create_dir(&dir).unwrap();
        for (name, text) in [
            ("memory.current", "100\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "0\n"),
            ("memory.swap.max", "max\n"),
            ("memory.stat", "kernel_stack 16\npagetables 4\npercpu 2\nslab 30\nsock 1000\n"),
        ] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let memory = memory(&mut reader, &dir).unwrap();
        assert_eq!(memory.usage, MemoryData { usage: 100, limit: UNLIMITED, ..Default::default() });
        assert_eq!(memory.swap_usage.limit, UNLIMITED);
        assert_eq!(memory.kernel_usage.usage, 52);
        assert_eq!(memory.stats["hierarchical_memory_limit"], 4096);
    }

    #[test]
    fn without_the_controllers_everything_is_zero() {
        let (dir, mut reader) = files(&[]);
        assert_eq!(memory(&mut reader, dir.path()).unwrap(), MemoryStats::default());
        assert_eq!(io(&mut reader, dir.path()).unwrap(), BlkioStats::default());
        assert_eq!(hugetlb(&mut reader, dir.path()).unwrap(), HashMap::new());
    }

    #[test]
    fn io_by_device() {
        let (dir, mut reader) = files(&[(
            "io.stat",
            "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=7 dios=1\n8:0 \n",
        )]);
        let io = io(&mut reader, dir.path()).unwrap();
        let values = |entries: &[BlkioEntry]| -> Vec<(u64, String, u64)> {
            entries.iter().map(|entry| (entry.minor, entry.op.clone(), entry.value)).collect()
        };
        let expected = [("Read", 192), ("Write", 353), ("Discard", 1), ("Total", 546)];
        let expected = expected.map(|(op, value)| (16, op.to_owned(), value));
        assert_eq!(values(&io.serviced)[..4], expected);
        assert_eq!(values(&io.service_bytes)[0], (16, "Read".to_owned(), 1_459_200));
        assert_eq!(io.service_bytes.len(), 8);

        let (dir, mut reader) = files(&[("io.stat", "nonsense\n")]);
        let error = super::io(&mut reader, dir.path()).unwrap_err().to_string();
        assert!(error.contains("io.stat") && error.contains("nonsense"), "{error}");
    }
}
