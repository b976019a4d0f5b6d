//! All that the controllers of v2 report, in their own terms.

use std::{collections::HashMap, path::Path};

use super::{
    RdmaStats,
    pressure::{Pressure, pressure},
    rdma,
};
use crate::cgroup::{
    CgroupError, PidsStats,
    file::{OpenDir, Reader, keyed},
    stats::{huge_page_sizes, memory_stat},
};

/// The values of a controller that the container does not have are zero. A limit of `u64::MAX` is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct V2Metrics {
    /// cpu.
    pub cpu: V2Cpu,
    /// memory.
    pub memory: V2Memory,
    /// memory.events, if the container has that controller.
    pub memory_events: Option<MemoryEvents>,
    /// io.
    pub io: V2Io,
    /// hugetlb, of each page size.
    pub hugetlb: Vec<V2Hugetlb>,
    /// pids.
    pub pids: PidsStats,
    /// rdma.
    pub rdma: RdmaStats,
}

/// Times in microseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct V2Cpu {
    /// Of all processors.
    pub usage_usec: u64,
    /// Outside of system calls.
    pub user_usec: u64,
    /// In system calls.
    pub system_usec: u64,
    /// Enforcement periods of the quota that have passed.
    pub nr_periods: u64,
    /// Those in which the quota was used up.
    pub nr_throttled: u64,
    /// How long tasks waited for their quota.
    pub throttled_usec: u64,
    /// Periods that used more than their quota from what earlier ones had left.
    pub nr_bursts: u64,
    /// How much more.
    pub burst_usec: u64,
    /// cpu.pressure.
    pub pressure: Option<Pressure>,
}

/// Bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct V2Memory {
    /// memory.stat.
    pub stat: HashMap<String, u64>,
    /// Now.
    pub usage: u64,
    /// The limit.
    pub usage_limit: u64,
    /// The most so far (Linux 5.19).
    pub max_usage: u64,
    /// Of swap, now.
    pub swap_usage: u64,
    /// The limit.
    pub swap_limit: u64,
    /// The most so far (Linux 6.5).
    pub swap_max_usage: u64,
    /// memory.pressure.
    pub pressure: Option<Pressure>,
}

/// How often each has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's names, see admin-guide/cgroup-v2.rst")]
pub struct MemoryEvents {
    pub low: u64,
    pub high: u64,
    pub max: u64,
    pub oom: u64,
    pub oom_kill: u64,
    pub oom_group_kill: u64,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct V2Io {
    /// io.stat.
    pub usage: Vec<IoEntry>,
    /// io.pressure.
    pub pressure: Option<Pressure>,
}

/// Bytes and operations of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's names, see admin-guide/cgroup-v2.rst")]
pub struct IoEntry {
    pub major: u64,
    pub minor: u64,
    pub rbytes: u64,
    pub wbytes: u64,
    pub rios: u64,
    pub wios: u64,
}

/// Of one page size, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct V2Hugetlb {
    /// As "2MB".
    pub page_size: String,
    /// Now.
    pub current: u64,
    /// The limit.
    pub max: u64,
    /// How often it was hit.
    pub failcnt: u64,
}

pub(super) fn read(reader: &mut Reader, dir: &Path) -> Result<V2Metrics, CgroupError> {
    let mut files = Files { reader, dir: OpenDir::open_existing(dir)? };
    Ok(V2Metrics {
        cpu: files.cpu()?,
        memory: files.memory()?,
        memory_events: files.memory_events()?,
        io: V2Io { usage: files.io()?, pressure: files.pressure("io.pressure")? },
        hugetlb: files.hugetlb()?,
        pids: PidsStats {
            current: files.number("pids.current")?,
            limit: files.number("pids.max")?,
        },
        rdma: rdma(files.reader, dir)?,
    })
}

struct Files<'a> {
    reader: &'a mut Reader,
    dir: OpenDir<'a>,
}

impl Files<'_> {
    fn read(&mut self, name: &str) -> Result<Option<&str>, CgroupError> {
        self.reader.piece(&self.dir, name)
    }

    /// Zero without such a file.
    fn number(&mut self, name: &str) -> Result<u64, CgroupError> {
        match self.reader.piece(&self.dir, name)?.map(str::trim_ascii_end) {
            None => Ok(0),
            Some("max") => Ok(u64::MAX),
            Some(text) => {
                text.parse().map_err(|_| CgroupError::malformed(&self.dir.path_of(name), text))
            }
        }
    }

    fn cpu(&mut self) -> Result<V2Cpu, CgroupError> {
        let pressure = self.pressure("cpu.pressure")?;
        let text = self.read("cpu.stat")?.unwrap_or_default();
        let value = |key| keyed(text, key).unwrap_or(0);
        Ok(V2Cpu {
            usage_usec: value("usage_usec"),
            user_usec: value("user_usec"),
            system_usec: value("system_usec"),
            nr_periods: value("nr_periods"),
            nr_throttled: value("nr_throttled"),
            throttled_usec: value("throttled_usec"),
            nr_bursts: value("nr_bursts"),
            burst_usec: value("burst_usec"),
            pressure,
        })
    }

    fn memory(&mut self) -> Result<V2Memory, CgroupError> {
        Ok(V2Memory {
            stat: memory_stat(self.reader, &self.dir)?,
            usage: self.number("memory.current")?,
            usage_limit: self.number("memory.max")?,
            max_usage: self.number("memory.peak")?,
            swap_usage: self.number("memory.swap.current")?,
            swap_limit: self.number("memory.swap.max")?,
            swap_max_usage: self.number("memory.swap.peak")?,
            pressure: self.pressure("memory.pressure")?,
        })
    }

    fn memory_events(&mut self) -> Result<Option<MemoryEvents>, CgroupError> {
        let Some(text) = self.read("memory.events")? else { return Ok(None) };
        let value = |key| keyed(text, key).unwrap_or(0);
        Ok(Some(MemoryEvents {
            low: value("low"),
            high: value("high"),
            max: value("max"),
            oom: value("oom"),
            oom_kill: value("oom_kill"),
            oom_group_kill: value("oom_group_kill"),
        }))
    }

    fn io(&mut self) -> Result<Vec<IoEntry>, CgroupError> {
        let path = self.dir.path_of("io.stat");
        let text = self.read("io.stat")?.unwrap_or_default();
        let entry = |line| io_entry(line).ok_or_else(|| CgroupError::malformed(&path, line));
        text.lines().map(entry).collect()
    }

    fn hugetlb(&mut self) -> Result<Vec<V2Hugetlb>, CgroupError> {
        let mut stats = Vec::new();
        for page_size in huge_page_sizes() {
            let name = |name: &str| format!("hugetlb.{page_size}.{name}");
            if !self.dir.path_of(&name("current")).exists() {
                continue;
            }
            let (current, max) = (self.number(&name("current"))?, self.number(&name("max"))?);
            let events = self.read(&name("events"))?;
            let failcnt = events.and_then(|text| keyed(text, "max")).unwrap_or(0);
            stats.push(V2Hugetlb { page_size, current, max, failcnt });
        }
        Ok(stats)
    }

    fn pressure(&mut self, name: &str) -> Result<Option<Pressure>, CgroupError> {
        pressure(self.reader, &self.dir.path_of(name))
    }
}

/// "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0". A device that is gone has no
/// values.
fn io_entry(line: &str) -> Option<IoEntry> {
    let (device, values) = line.split_once(' ').unwrap_or((line, ""));
    let (major, minor) = device.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    let mut entry = IoEntry { major, minor, ..IoEntry::default() };
    for (key, value) in values.split(' ').filter_map(|pair| pair.split_once('=')) {
        let field = match key {
            "rbytes" => &mut entry.rbytes,
            "wbytes" => &mut entry.wbytes,
            "rios" => &mut entry.rios,
            "wios" => &mut entry.wios,
            _ => continue,
        };
        *field = value.parse().ok()?;
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{metrics::PressureLine, testing::files};

    #[test]
    fn all_files() {
        let (dir, mut reader) = files(&[
            (
                "cpu.stat",
                "usage_usec 15\nuser_usec 10\nsystem_usec 5\nnice_usec 0\nnr_periods 9\n\
                 nr_throttled 4\nthrottled_usec 77\nnr_bursts 2\nburst_usec 3\n",
            ),
            (
                "cpu.pressure",
                "some avg10=0.50 avg60=1.25 avg300=0.00 total=1234\n\
                 full avg10=0.00 avg60=0.00 avg300=0.75 total=56\n",
            ),
            ("memory.current", "10485760\n"),
            ("memory.peak", "12582912\n"),
            ("memory.max", "max\n"),
            ("memory.events", "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n"),
            ("memory.swap.current", "4096\n"),
            ("memory.swap.peak", "8192\n"),
            ("memory.swap.max", "1048576\n"),
            ("memory.stat", "anon 8192000\nfile 1024000\npgfault 33\n"),
            ("io.stat", "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=7 dios=1\n8:0 \n"),
            ("pids.current", "5\n"),
            ("pids.max", "max\n"),
            ("rdma.max", "mlx4_0 hca_handle=2 hca_object=max\n"),
        ]);
        let metrics = read(&mut reader, dir.path()).unwrap();
        let pressure = Pressure {
            some: PressureLine { avg10: 0.5, avg60: 1.25, avg300: 0.0, total: 1234 },
            full: PressureLine { avg300: 0.75, total: 56, ..PressureLine::default() },
        };
        let cpu = V2Cpu {
            usage_usec: 15,
            user_usec: 10,
            system_usec: 5,
            nr_periods: 9,
            nr_throttled: 4,
            throttled_usec: 77,
            nr_bursts: 2,
            burst_usec: 3,
            pressure: Some(pressure),
        };
        assert_eq!(metrics.cpu, cpu);
        let stat = [("anon", 8_192_000), ("file", 1_024_000), ("pgfault", 33)];
        let memory = V2Memory {
            stat: stat.map(|(key, value)| (key.to_owned(), value)).into(),
            usage: 10_485_760,
            usage_limit: u64::MAX,
            max_usage: 12_582_912,
            swap_usage: 4096,
            swap_limit: 1_048_576,
            swap_max_usage: 8192,
            pressure: None,
        };
        assert_eq!(metrics.memory, memory);
        let events =
            MemoryEvents { low: 1, high: 2, max: 3, oom: 4, oom_kill: 5, oom_group_kill: 6 };
        assert_eq!(metrics.memory_events, Some(events));
        let io = IoEntry { major: 8, minor: 16, rbytes: 1, wbytes: 2, rios: 3, wios: 4 };
        let gone = IoEntry { major: 8, ..IoEntry::default() };
        assert_eq!(metrics.io.usage, [io, gone]);
        assert_eq!(metrics.pids, PidsStats { current: 5, limit: u64::MAX });
        assert_eq!((metrics.rdma.current.len(), metrics.rdma.limit.len()), (0, 1));
    }

    #[test]
    fn huge_pages() {
        // What there is depends on the host.
        let Some(size) = huge_page_sizes().pop() else { return };
        let [current, max, events] =
            ["current", "max", "events"].map(|name| format!("hugetlb.{size}.{name}"));
        let (dir, mut reader) =
            files(&[(&current, "2097152\n"), (&max, "max\n"), (&events, "max 3\n")]);
        let expected = V2Hugetlb { page_size: size, current: 2_097_152, max: u64::MAX, failcnt: 3 };
        assert_eq!(read(&mut reader, dir.path()).unwrap().hugetlb, [expected]);
    }

    #[test]
    fn without_files_everything_is_zero() {
        let (dir, mut reader) = files(&[]);
        assert_eq!(read(&mut reader, dir.path()).unwrap(), V2Metrics::default());
    }

    #[test]
    fn nonsense_is_an_error_that_names_the_file() {
        for (name, text) in [
            ("io.stat", "8:0 rbytes=x"),
            ("io.stat", "nonsense"),
            ("cpu.pressure", "some avg10=x"),
            ("memory.pressure", "some"),
            ("memory.max", "lots"),
            ("pids.max", "-1"),
        ] {
            let (dir, mut reader) = files(&[(name, text)]);
            let error = read(&mut reader, dir.path()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(text), "{error}");
        }
    }
}
