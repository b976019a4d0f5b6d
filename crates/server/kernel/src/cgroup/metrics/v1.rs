//! All that the controllers of v1 report.

use std::{collections::HashMap, path::Path};

use super::{RdmaStats, rdma};
use crate::cgroup::{
    BlkioStats, Cgroup, CgroupError, CpuStats, HugetlbStats, MemoryData, MemoryStats, PidsStats,
    file::{OpenDir, Reader, keyed},
    stats,
};

/// A controller that the container does not have is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct V1Metrics {
    /// cpu and cpuacct; zeros without them.
    pub cpu: CpuStats,
    /// memory.
    pub memory: Option<MemoryStats>,
    /// memory.kmem.tcp: buffers of the network.
    pub kernel_tcp: MemoryData,
    /// memory.oom_control.
    pub oom_control: Option<MemoryOomControl>,
    /// blkio.
    pub blkio: Option<BlkioStats>,
    /// Names of block devices by major and minor number, as "vda": of all there are if `blkio` has any.
    pub devices: HashMap<(u64, u64), String>,
    /// hugetlb, by page size: "2MB", "1GB".
    pub hugetlb: HashMap<String, HugetlbStats>,
    /// pids.
    pub pids: Option<PidsStats>,
    /// rdma.
    pub rdma: Option<RdmaStats>,
}

/// What happens at the limit of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryOomControl {
    /// 1 if processes wait instead of being killed.
    pub oom_kill_disable: u64,
    /// 1 if they wait now.
    pub under_oom: u64,
    /// Processes that were killed.
    pub oom_kill: u64,
}

impl Cgroup {
    pub(super) fn v1_metrics(&self) -> Result<V1Metrics, CgroupError> {
        let stats = self.stats()?;
        let mut reader = Reader::default();
        let mut metrics = V1Metrics {
            cpu: stats.cpu,
            memory: self.there("memory", stats.memory),
            blkio: self.there("blkio", stats.blkio),
            hugetlb: stats.hugetlb,
            pids: self.there("pids", stats.pids),
            ..V1Metrics::default()
        };
        if let Some(dir) = self.v1.get("memory") {
            let dir = OpenDir::open(dir)?;
            metrics.kernel_tcp = stats::v1_memory_data(&mut reader, &dir, "memory.kmem.tcp")?;
            metrics.oom_control = oom_control(&mut reader, &dir)?;
        }
        if metrics.blkio.as_ref().is_some_and(|blkio| *blkio != BlkioStats::default()) {
            let path = Path::new("/proc/partitions");
            metrics.devices = devices(reader.read_present(path)?.unwrap_or_default());
        }
        if let Some(dir) = self.v1.get("rdma") {
            metrics.rdma = Some(rdma(&mut reader, dir)?);
        }
        self.member_dir().ok_or(CgroupError::Removed)?;
        Ok(metrics)
    }

    /// In v2 a controller is there if its files say anything.
    fn there<T: Default + PartialEq>(&self, controller: &str, stats: T) -> Option<T> {
        (self.v1.contains_key(controller) || stats != T::default()).then_some(stats)
    }
}

fn oom_control(
    reader: &mut Reader,
    dir: &OpenDir<'_>,
) -> Result<Option<MemoryOomControl>, CgroupError> {
    let Some(text) = reader.piece(dir, "memory.oom_control")? else { return Ok(None) };
    let value = |key| keyed(text, key).unwrap_or(0);
    Ok(Some(MemoryOomControl {
        oom_kill_disable: value("oom_kill_disable"),
        under_oom: value("under_oom"),
        oom_kill: value("oom_kill"),
    }))
}

/// A heading, and then "major minor #blocks name", see proc_partitions(5).
fn devices(partitions: &str) -> HashMap<(u64, u64), String> {
    let device = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let numbers = (columns.next()?.parse().ok()?, columns.next()?.parse().ok()?);
        Some((numbers, columns.nth(1)?.to_owned()))
    };
    partitions.lines().filter_map(device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::testing::files;

    #[test]
    fn files_that_only_details_are_of() {
        let (dir, _) = files(&[
            ("memory.usage_in_bytes", "1000\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.kmem.tcp.usage_in_bytes", "10\n"),
            ("memory.kmem.tcp.max_usage_in_bytes", "20\n"),
            ("memory.kmem.tcp.failcnt", "3\n"),
            ("memory.kmem.tcp.limit_in_bytes", "40\n"),
            ("memory.oom_control", "oom_kill_disable 1\nunder_oom 0\noom_kill 2\n"),
            ("pids.current", "4\n"),
            ("pids.max", "max\n"),
            ("rdma.current", "mlx4_0 hca_handle=1 hca_object=20\n"),
        ]);
        let dirs = ["memory", "pids", "rdma"].map(|name| (name.to_owned(), dir.path().to_owned()));
        let cgroup = Cgroup { v1: dirs.into(), unified: None };
        let metrics = cgroup.v1_metrics().unwrap();
        let tcp = MemoryData { usage: 10, max_usage: 20, failcnt: 3, limit: 40 };
        assert_eq!(metrics.kernel_tcp, tcp);
        let oom = MemoryOomControl { oom_kill_disable: 1, under_oom: 0, oom_kill: 2 };
        assert_eq!(metrics.oom_control, Some(oom));
        let memory = metrics.memory.unwrap();
        assert_eq!((memory.usage.usage, memory.usage.limit), (1000, 9_223_372_036_854_771_712));
        assert_eq!(metrics.pids, Some(PidsStats { current: 4, limit: 0 }));
        assert_eq!(metrics.rdma.unwrap().current.len(), 1);
        // Not its controllers.
        assert_eq!((metrics.blkio, metrics.devices.len()), (None, 0));
        assert_eq!(metrics.cpu, CpuStats::default());
    }

    #[test]
    fn a_controller_that_is_only_in_v2() {
        let (v1, _) = files(&[("pids.current", "4\n")]);
        let (v2, _) = files(&[
            ("memory.current", "10\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "file 5\n"),
        ]);
        let cgroup = Cgroup {
            v1: [("pids".to_owned(), v1.path().to_owned())].into(),
            unified: Some(v2.path().to_owned()),
        };
        let metrics = cgroup.v1_metrics().unwrap();
        let memory = metrics.memory.unwrap();
        assert_eq!((memory.usage.usage, memory.stats["cache"]), (10, 5));
        assert_eq!((metrics.oom_control, metrics.blkio), (None, None));
    }

    #[test]
    fn names_of_devices() {
        let text =
            "major minor  #blocks  name\n\n 254        0   10485760 vda\n   7    1  9 loop1\n";
        let devices = devices(text);
        assert_eq!(devices.len(), 2);
        assert_eq!((&*devices[&(254, 0)], &*devices[&(7, 1)]), ("vda", "loop1"));
    }
}
