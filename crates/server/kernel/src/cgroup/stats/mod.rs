//! What a container uses, in the terms of cgroup v1; docs/stats.md has the source of each value.

mod v1;
mod v2;

use std::{collections::HashMap, fs, path::Path};

use super::{
    Cgroup, CgroupError, Dir,
    file::{OpenDir, Reader, pairs},
};
pub(super) use v1::memory_data as v1_memory_data;

/// Everything about one container. Values that the kernel or the cgroup does not report are zero or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupStats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Block devices.
    pub blkio: BlkioStats,
    /// By page size: "2MB", "1GB".
    pub hugetlb: HashMap<String, HugetlbStats>,
    /// Tasks: processes and their threads.
    pub pids: PidsStats,
}

/// Times in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Of all processors.
    pub total_usage: u64,
    /// By processor.
    pub percpu_usage: Vec<u64>,
    /// In system calls.
    pub usage_in_kernelmode: u64,
    /// Outside of system calls.
    pub usage_in_usermode: u64,
    /// Enforcement periods of the quota that have passed.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled_periods: u64,
    /// How long tasks waited for their quota.
    pub throttled_time: u64,
}

/// Bytes, and counts of failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryData {
    /// Now.
    pub usage: u64,
    /// The most so far.
    pub max_usage: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
    /// The limit; the largest number there is for none.
    pub limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
/// Memory of a container.
pub struct MemoryStats {
    /// Page cache, in bytes.
    pub cache: u64,
    /// Memory.
    pub usage: MemoryData,
    /// Memory and swap together.
    pub swap_usage: MemoryData,
    /// Of the kernel, on the container's behalf.
    pub kernel_usage: MemoryData,
    /// memory.stat.
    pub stats: HashMap<String, u64>,
}

/// A value of one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioEntry {
    /// Of the device's number.
    pub major: u64,
    /// Of the device's number.
    pub minor: u64,
    /// "Read", "Write", "Sync", "Async", "Discard" or "Total"; empty where there is one value.
    pub op: String,
    /// In the unit of the list that it is in.
    pub value: u64,
}

/// Nested cgroups included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioStats {
    /// Bytes.
    pub service_bytes: Vec<BlkioEntry>,
    /// Operations.
    pub serviced: Vec<BlkioEntry>,
    /// Operations that wait.
    pub queued: Vec<BlkioEntry>,
    /// Nanoseconds.
    pub service_time: Vec<BlkioEntry>,
    /// Nanoseconds.
    pub wait_time: Vec<BlkioEntry>,
    /// Operations.
    pub merged: Vec<BlkioEntry>,
    /// Milliseconds.
    pub time: Vec<BlkioEntry>,
    /// Of 512 bytes.
    pub sectors: Vec<BlkioEntry>,
}

/// Bytes, and a count of failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugetlbStats {
    /// Now.
    pub usage: u64,
    /// The most so far.
    pub max_usage: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
    /// The limit.
    pub limit: u64,
}

/// Tasks; a limit of zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The limit.
    pub limit: u64,
}

impl Cgroup {
    /// What the container uses now.
    pub fn stats(&self) -> Result<CgroupStats, CgroupError> {
        self.member_dir().ok_or(CgroupError::Removed)?;
        let mut reader = Reader::default();
        let mut stats = CgroupStats::default();
        match self.controller("cpu") {
            Some(Dir::V1(dir)) => v1::throttling(&mut reader, dir, &mut stats.cpu)?,
            Some(Dir::V2(dir)) => v2::cpu(&mut reader, dir, &mut stats.cpu)?,
            None => {}
        }
        if let Some(Dir::V1(dir)) = self.controller("cpuacct") {
            v1::cpu_usage(&mut reader, dir, &mut stats.cpu)?;
        }
        match self.controller("memory") {
            Some(Dir::V1(dir)) => stats.memory = v1::memory(&mut reader, dir)?,
            Some(Dir::V2(dir)) => stats.memory = v2::memory(&mut reader, dir)?,
            None => {}
        }
        match self.controller("blkio") {
            Some(Dir::V1(dir)) => stats.blkio = v1::blkio(&mut reader, dir)?,
            Some(Dir::V2(dir)) => stats.blkio = v2::io(&mut reader, dir)?,
            None => {}
        }
        match self.controller("hugetlb") {
            Some(Dir::V1(dir)) => stats.hugetlb = v1::hugetlb(&mut reader, dir)?,
            Some(Dir::V2(dir)) => stats.hugetlb = v2::hugetlb(&mut reader, dir)?,
            None => {}
        }
        // The two files have the same names and meaning in v1 and v2.
        if let Some(dir) = self.controller("pids") {
            stats.pids = pids(&mut reader, dir.path())?;
        }
        // The files of one that was removed meanwhile read as zeros.
        self.member_dir().ok_or(CgroupError::Removed)?;
        Ok(stats)
    }
}

fn pids(reader: &mut Reader, dir: &Path) -> Result<PidsStats, CgroupError> {
    let dir = OpenDir::open(dir)?;
    Ok(PidsStats {
        current: reader.number_of(&dir, "pids.current")?.unwrap_or(0),
        limit: reader.number_of(&dir, "pids.max")?.unwrap_or(0),
    })
}

/// Clock ticks a second in files for users: `USER_HZ`, 100 on every architecture that we run on.
const TICK_NANOSECONDS: u64 = 1_000_000_000 / 100;

/// The time that the host's processors spent, in nanoseconds: the first seven columns (user to
/// softirq, idle included) of `cpu` in /proc/stat.
pub fn system_usage() -> Result<u64, CgroupError> {
    let path = Path::new("/proc/stat");
    let mut reader = Reader::default();
    let text = reader.read(path)?;
    system_ticks(text)
        .map(|ticks| ticks * TICK_NANOSECONDS)
        .ok_or_else(|| CgroupError::malformed(path, text.lines().next().unwrap_or_default()))
}

fn system_ticks(stat: &str) -> Option<u64> {
    let columns = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> =
        columns.split_ascii_whitespace().take(7).map_while(|ticks| ticks.parse().ok()).collect();
    (ticks.len() == 7).then(|| ticks.iter().sum())
}

/// The huge page sizes of the host, as the files of the controller spell them.
pub(super) fn huge_page_sizes() -> Vec<String> {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let names = sizes.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| huge_page_size(&name)).collect()
}

/// "hugepages-2048kB" to "2MB", as `mem_fmt` in mm/hugetlb_cgroup.c.
fn huge_page_size(directory: &str) -> Option<String> {
    let kib: u64 = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kib {
        1_048_576.. => format!("{}GB", kib >> 20),
        1024.. => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    })
}

/// A directory of memory.stat, or empty if there is none.
pub(super) fn memory_stat(
    reader: &mut Reader,
    dir: &OpenDir<'_>,
) -> Result<HashMap<String, u64>, CgroupError> {
    let text = reader.piece(dir, "memory.stat")?.unwrap_or_default();
    Ok(pairs(text).map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Reads numbers that belong together: files with the same beginning of their names.
struct Numbers<'a> {
    reader: &'a mut Reader,
    dir: &'a OpenDir<'a>,
    prefix: &'a str,
}

impl Numbers<'_> {
    /// Zero without such a file.
    fn get(&mut self, name: &str) -> Result<u64, CgroupError> {
        let name = format!("{}.{name}", self.prefix);
        Ok(self.reader.number_of(self.dir, &name)?.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::cgroup::testing::{TestCgroup, until};

    #[test]
    fn a_container_that_works() {
        let Some(test) = TestCgroup::new("stats") else { return };
        test.limit_memory("64M");
        let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let path = file.path().display();
        let mut child = test.sh(&format!(
            "dd if=/dev/zero of={path} bs=1M count=8 conv=fsync 2>/dev/null; exec sleep 100"
        ));
        // The file is written, and the process sleeps again.
        until(|| file.as_file().metadata().unwrap().len() == 8 << 20);
        until(|| {
            std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() == "sleep\n"
        });
        let stats = test.cgroup.stats().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!((1..10_000_000_000).contains(&stats.cpu.total_usage), "{:?}", stats.cpu);
        let memory = &stats.memory;
        assert!((4 << 20..=64 << 20).contains(&memory.cache), "{memory:?}");
        assert!((memory.cache..=64 << 20).contains(&memory.usage.usage), "{memory:?}");
        assert!(memory.usage.max_usage >= memory.usage.usage, "{memory:?}");
        assert_eq!(memory.usage.limit, 64 << 20);
        assert!(memory.stats["total_cache"] > 0 && memory.stats["pgfault"] > 0, "{memory:?}");
        assert_eq!(stats.pids, PidsStats { current: 1, limit: 0 });
        until(|| test.cgroup.remove().is_ok());
        assert!(matches!(test.cgroup.stats(), Err(CgroupError::Removed)));
    }

    /// Statistics may take 300 microseconds of the server's time, a list of the processes 10.
    #[test]
    #[ignore = "a measurement, for a release build"]
    fn cost() {
        let Some(test) = TestCgroup::new("cost") else { return };
        let mut child = test.sh("sleep 100 & sleep 100");
        let median = |call: &dyn Fn()| {
            let mut times = [Duration::ZERO; 999];
            for time in &mut times {
                let begin = Instant::now();
                call();
                *time = begin.elapsed();
            }
            times.sort_unstable();
            times[times.len() / 2]
        };
        let stats = median(&|| {
            test.cgroup.stats().unwrap();
            system_usage().unwrap();
            crate::net_dev::interfaces(child.id()).unwrap();
        });
        let pids = median(&|| drop(test.cgroup.pids().unwrap()));
        println!("statistics {stats:?}, pids {pids:?}");
        assert!(stats < Duration::from_micros(300) && pids < Duration::from_micros(10));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_first_seven_columns_count() {
        let stat = "cpu  10 20 30 400 5 6 7 80 90 100\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 5\n";
        assert_eq!(system_ticks(stat), Some(478));
        assert_eq!(system_ticks("cpu  1 2 3 4 5 6\n"), None);
        assert_eq!(system_ticks("cpu  1 2 x 4 5 6 7 8\n"), None);
        let (first, second) = (system_usage().unwrap(), system_usage().unwrap());
        assert!(0 < first && first <= second);
    }

    #[test]
    fn huge_pages_are_spelled_as_in_the_files() {
        assert_eq!(huge_page_size("hugepages-64kB").unwrap(), "64KB");
        assert_eq!(huge_page_size("hugepages-2048kB").unwrap(), "2MB");
        assert_eq!(huge_page_size("hugepages-1048576kB").unwrap(), "1GB");
        assert_eq!(huge_page_size("hugepages-16777216kB").unwrap(), "16GB");
        assert_eq!(huge_page_size("something"), None);
    }
}
