//! Statistics from the controllers of cgroup v1.

use std::{collections::HashMap, path::Path};

use super::{
    BlkioEntry, BlkioStats, CpuStats, HugetlbStats, MemoryData, MemoryStats, Numbers,
    TICK_NANOSECONDS, huge_page_sizes, memory_stat,
};
use crate::cgroup::{
    CgroupError,
    file::{OpenDir, Reader, keyed},
};

/// cpuacct. The modes are from cpuacct.stat, whose sum the kernel makes agree with the total.
pub(super) fn cpu_usage(
    reader: &mut Reader,
    dir: &Path,
    stats: &mut CpuStats,
) -> Result<(), CgroupError> {
    let dir = OpenDir::open(dir)?;
    let percpu = "cpuacct.usage_percpu";
    let numbers = reader.piece(&dir, percpu)?.unwrap_or_default();
    let numbers: Result<_, _> = numbers.split_ascii_whitespace().map(str::parse).collect();
    stats.percpu_usage =
        numbers.map_err(|_| CgroupError::malformed(&dir.path_of(percpu), "not numbers"))?;
    // The kernel's cpuacct.usage is the same sum, but of another moment.
    stats.total_usage = match stats.percpu_usage.iter().sum() {
        0 => reader.number_of(&dir, "cpuacct.usage")?.unwrap_or(0),
        sum => sum,
    };
    let modes = reader.piece(&dir, "cpuacct.stat")?.unwrap_or_default();
    let ticks = |mode| keyed(modes, mode).unwrap_or(0) * TICK_NANOSECONDS;
    stats.usage_in_usermode = ticks("user");
    stats.usage_in_kernelmode = ticks("system");
    Ok(())
}

/// cpu.
pub(super) fn throttling(
    reader: &mut Reader,
    dir: &Path,
    stats: &mut CpuStats,
) -> Result<(), CgroupError> {
    let text = reader.piece(&OpenDir::open(dir)?, "cpu.stat")?.unwrap_or_default();
    let count = |key| keyed(text, key).unwrap_or(0);
    stats.periods = count("nr_periods");
    stats.throttled_periods = count("nr_throttled");
    stats.throttled_time = count("throttled_time");
    Ok(())
}

/// memory. Without swap accounting there are no memsw files.
pub(super) fn memory(reader: &mut Reader, dir: &Path) -> Result<MemoryStats, CgroupError> {
    let dir = OpenDir::open(dir)?;
    let stats = memory_stat(reader, &dir)?;
    let mut data = |prefix: &str| memory_data(reader, &dir, prefix);
    Ok(MemoryStats {
        cache: stats.get("cache").copied().unwrap_or(0),
        usage: data("memory")?,
        swap_usage: data("memory.memsw")?,
        kernel_usage: data("memory.kmem")?,
        stats,
    })
}

/// The files of one kind of memory.
pub(in crate::cgroup) fn memory_data(
    reader: &mut Reader,
    dir: &OpenDir<'_>,
    prefix: &str,
) -> Result<MemoryData, CgroupError> {
    let mut numbers = Numbers { reader, dir, prefix };
    Ok(MemoryData {
        usage: numbers.get("usage_in_bytes")?,
        max_usage: numbers.get("max_usage_in_bytes")?,
        failcnt: numbers.get("failcnt")?,
        limit: numbers.get("limit_in_bytes")?,
    })
}

/// blkio. What there is depends on the scheduler of the devices; only BFQ and CFQ (before Linux
/// 5.0) give more than the bytes and operations that throttling counts.
pub(super) fn blkio(reader: &mut Reader, dir: &Path) -> Result<BlkioStats, CgroupError> {
    let dir = OpenDir::open(dir)?;
    for prefix in ["blkio.bfq", "blkio"] {
        let mut read = |name: &str| {
            let entries = entries(reader, &dir, &format!("{prefix}.{name}_recursive"))?;
            Ok::<_, CgroupError>(entries.unwrap_or_default())
        };
        let serviced = read("io_serviced")?;
        if serviced.is_empty() {
            continue;
        }
        return Ok(BlkioStats {
            serviced,
            service_bytes: read("io_service_bytes")?,
            queued: read("io_queued")?,
            service_time: read("io_service_time")?,
            wait_time: read("io_wait_time")?,
            merged: read("io_merged")?,
            time: read("time")?,
            sectors: read("sectors")?,
        });
    }
    // Older kernels count these without nested cgroups only.
    let mut read = |name: &str| {
        let recursive = entries(reader, &dir, &format!("blkio.throttle.{name}_recursive"))?;
        match recursive {
            Some(recursive) => Ok::<_, CgroupError>(recursive),
            None => {
                Ok(entries(reader, &dir, &format!("blkio.throttle.{name}"))?.unwrap_or_default())
            }
        }
    };
    Ok(BlkioStats {
        service_bytes: read("io_service_bytes")?,
        serviced: read("io_serviced")?,
        ..BlkioStats::default()
    })
}

/// `None` without such a file.
fn entries(
    reader: &mut Reader,
    dir: &OpenDir<'_>,
    name: &str,
) -> Result<Option<Vec<BlkioEntry>>, CgroupError> {
    let Some(text) = reader.piece(dir, name)? else { return Ok(None) };
    // The sum of all devices at the end belongs to no device.
    let devices = text.lines().filter(|line| !line.starts_with("Total"));
    let malformed = |line| CgroupError::malformed(&dir.path_of(name), line);
    devices
        .map(|line| entry(line).ok_or_else(|| malformed(line)))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// "8:0 Read 4096" or "8:0 4096".
fn entry(line: &str) -> Option<BlkioEntry> {
    let (device, rest) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let (op, value) = rest.split_once(' ').unwrap_or(("", rest));
    Some(BlkioEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        op: op.to_owned(),
        value: value.trim_ascii().parse().ok()?,
    })
}

/// hugetlb.
pub(super) fn hugetlb(
    reader: &mut Reader,
    dir: &Path,
) -> Result<HashMap<String, HugetlbStats>, CgroupError> {
    let mut stats = HashMap::new();
    let dir = &OpenDir::open(dir)?;
    for size in huge_page_sizes() {
        let prefix = &format!("hugetlb.{size}");
        let mut numbers = Numbers { reader, dir, prefix };
        let of_size = HugetlbStats {
            usage: numbers.get("usage_in_bytes")?,
            max_usage: numbers.get("max_usage_in_bytes")?,
            failcnt: numbers.get("failcnt")?,
            limit: numbers.get("limit_in_bytes")?,
        };
        stats.insert(size, of_size);
    }
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::testing::files;

    fn of(major: u64, minor: u64, op: &str, value: u64) -> BlkioEntry {
        BlkioEntry { major, minor, op: op.to_owned(), value }
    }

    #[test]
    fn cpu_files() {
        let (dir, mut reader) = files(&[
            ("cpuacct.usage", "31415926535\n"),
            ("cpuacct.usage_percpu", "20000000000 11415926535 \n"),
            ("cpuacct.stat", "user 2900\nsystem 241\n"),
            ("cpu.stat", "nr_periods 7\nnr_throttled 3\nthrottled_time 123456789\n"),
        ]);
        let mut cpu = CpuStats::default();
        cpu_usage(&mut reader, dir.path(), &mut cpu).unwrap();
        throttling(&mut reader, dir.path(), &mut cpu).unwrap();
        let expected = CpuStats {
            total_usage: 31_415_926_535,
            percpu_usage: vec![20_000_000_000, 11_415_926_535],
            usage_in_kernelmode: 2_410_000_000,
            usage_in_usermode: 29_000_000_000,
            periods: 7,
            throttled_periods: 3,
            throttled_time: 123_456_789,
        };
        assert_eq!(cpu, expected);
    }

    #[test]
    fn memory_files_without_swap_accounting() {
        let (dir, mut reader) = files(&[
            ("memory.usage_in_bytes", "1000\n"),
            ("memory.max_usage_in_bytes", "2000\n"),
            ("memory.failcnt", "3\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.kmem.usage_in_bytes", "40\n"),
            ("memory.stat", "cache 500\nrss 400\ntotal_cache 501\n"),
        ]);
        let memory = memory(&mut reader, dir.path()).unwrap();
        let limit = 9_223_372_036_854_771_712;
        assert_eq!(memory.usage, MemoryData { usage: 1000, max_usage: 2000, failcnt: 3, limit });
        assert_eq!(memory.swap_usage, MemoryData::default());
        assert_eq!(memory.kernel_usage.usage, 40);
        assert_eq!((memory.cache, memory.stats["total_cache"]), (500, 501));
    }

    #[test]
    fn cfq_gives_everything() {
        let ops = "8:0 Read 1\n8:0 Write 2\n8:0 Sync 3\n8:0 Async 0\n8:0 Total 3\nTotal 3\n";
        let (dir, mut reader) = files(&[
            ("blkio.io_serviced_recursive", ops),
            ("blkio.io_service_bytes_recursive", "8:0 Read 4096\nTotal 4096\n"),
            ("blkio.sectors_recursive", "8:0 8\n"),
            ("blkio.time_recursive", "8:0 12\n253:1 5\n"),
            ("blkio.bfq.io_serviced_recursive", "Total 0\n"),
            ("blkio.throttle.io_serviced", "8:0 Read 77\nTotal 77\n"),
        ]);
        let blkio = blkio(&mut reader, dir.path()).unwrap();
        assert_eq!(blkio.serviced.len(), 5);
        assert_eq!(blkio.serviced[2], of(8, 0, "Sync", 3));
        assert_eq!(blkio.service_bytes, [of(8, 0, "Read", 4096)]);
        assert_eq!(blkio.sectors, [of(8, 0, "", 8)]);
        assert_eq!(blkio.time, [of(8, 0, "", 12), of(253, 1, "", 5)]);
    }

    #[test]
    fn throttling_counts_without_a_scheduler_that_does() {
        let (dir, mut reader) = files(&[
            ("blkio.bfq.io_serviced_recursive", "Total 0\n"),
            ("blkio.throttle.io_serviced_recursive", "253:0 Read 9\n253:0 Discard 0\nTotal 9\n"),
            ("blkio.throttle.io_serviced", "253:0 Read 4\nTotal 4\n"),
            ("blkio.throttle.io_service_bytes", "253:0 Read 16384\nTotal 16384\n"),
        ]);
        let blkio = blkio(&mut reader, dir.path()).unwrap();
        assert_eq!(blkio.serviced, [of(253, 0, "Read", 9), of(253, 0, "Discard", 0)]);
        assert_eq!(blkio.service_bytes, [of(253, 0, "Read", 16384)]);
    }

    #[test]
    fn nonsense_is_an_error_that_names_the_file() {
        let (dir, mut reader) = files(&[("blkio.throttle.io_serviced", "8:0 Read\n")]);
        let error = blkio(&mut reader, dir.path()).unwrap_err().to_string();
        assert!(error.contains("blkio.throttle.io_serviced"), "{error}");
    }
}
