//! What a container uses, with everything that its version of cgroups reports. [`CgroupStats`] is cheaper to
//! read, and in the terms of v1 whatever the version.
//!
//! [`CgroupStats`]: super::CgroupStats

mod pressure;
mod v1;
mod v2;

use std::path::Path;

pub use pressure::{Pressure, PressureLine};
pub use v1::{MemoryOomControl, V1Metrics};
pub use v2::{IoEntry, MemoryEvents, V2Cpu, V2Hugetlb, V2Io, V2Memory, V2Metrics};

use super::{Cgroup, CgroupError, file::Reader};

/// What a container uses.
#[derive(Clone, Debug, PartialEq)]
pub enum CgroupMetrics {
    /// The container has controllers of v1. Those that are available only in v2 are converted to the terms of v1.
    V1(Box<V1Metrics>),
    /// The container has controllers of v2 only.
    V2(Box<V2Metrics>),
}

impl Cgroup {
    /// What the container uses now, with all details.
    pub fn metrics(&self) -> Result<CgroupMetrics, CgroupError> {
        // A hierarchy with a name is without controllers.
        let is_v1 = self.v1.keys().any(|controller| !controller.starts_with("name="));
        match &self.unified {
            Some(dir) if !is_v1 => {
                let metrics = v2::read(&mut Reader::default(), dir)?;
                // The files of one that was removed meanwhile read as zeros.
                if !dir.is_dir() {
                    return Err(CgroupError::Removed);
                }
                Ok(CgroupMetrics::V2(Box::new(metrics)))
            }
            _ => Ok(CgroupMetrics::V1(Box::new(self.v1_metrics()?))),
        }
    }
}

/// Of all devices for RDMA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdmaStats {
    /// Now.
    pub current: Vec<RdmaEntry>,
    /// The limits.
    pub limit: Vec<RdmaEntry>,
}

/// Of one device for RDMA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    /// As "mlx4_0".
    pub device: String,
    /// Handles; the largest number there is for no limit.
    pub hca_handles: u32,
    /// Objects; the largest number there is for no limit.
    pub hca_objects: u32,
}

/// rdma, whose files are the same in both versions.
fn rdma(reader: &mut Reader, dir: &Path) -> Result<RdmaStats, CgroupError> {
    let mut entries = |name: &str| -> Result<Vec<RdmaEntry>, CgroupError> {
        let path = dir.join(name);
        let text = reader.read_present(&path)?.unwrap_or_default();
        let entry = |line| rdma_entry(line).ok_or_else(|| CgroupError::malformed(&path, line));
        text.lines().map(entry).collect()
    };
    Ok(RdmaStats { current: entries("rdma.current")?, limit: entries("rdma.max")? })
}

/// "mlx4_0 hca_handle=2 hca_object=max".
fn rdma_entry(line: &str) -> Option<RdmaEntry> {
    let (device, values) = line.split_once(' ')?;
    let mut entry = RdmaEntry { device: device.to_owned(), ..RdmaEntry::default() };
    for (key, value) in values.split_ascii_whitespace().filter_map(|pair| pair.split_once('=')) {
        let value = match value {
            "max" => u32::MAX,
            value => value.parse().ok()?,
        };
        match key {
            "hca_handle" => entry.hca_handles = value,
            "hca_object" => entry.hca_objects = value,
            _ => {}
        }
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::testing::{TestCgroup, files, until};

    #[test]
    fn devices_for_rdma() {
        let (dir, mut reader) = files(&[
            ("rdma.current", "mlx4_0 hca_handle=1 hca_object=20\nocrdma1 hca_handle=1 \n"),
            ("rdma.max", "mlx4_0 hca_handle=2 hca_object=max\n"),
        ]);
        let rdma = rdma(&mut reader, dir.path()).unwrap();
        let entry = |device: &str, hca_handles, hca_objects| RdmaEntry {
            device: device.to_owned(),
            hca_handles,
            hca_objects,
        };
        assert_eq!(rdma.current, [entry("mlx4_0", 1, 20), entry("ocrdma1", 1, 0)]);
        assert_eq!(rdma.limit, [entry("mlx4_0", 2, u32::MAX)]);
        let (dir, mut reader) = files(&[("rdma.max", "mlx4_0 hca_handle=many\n")]);
        let error = super::rdma(&mut reader, dir.path()).unwrap_err().to_string();
        assert!(error.contains("rdma.max") && error.contains("many"), "{error}");
    }

    /// In the version that the container is in, and as the other statistics have it.
    #[test]
    fn a_container_that_works() {
        for test in TestCgroup::both("metrics") {
            let mut child = test.sh("exec sleep 100");
            until(|| {
                std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() == "sleep\n"
            });
            let (stats, metrics) = (test.cgroup.stats().unwrap(), test.cgroup.metrics().unwrap());
            match metrics {
                CgroupMetrics::V1(metrics) => {
                    assert!(!test.cgroup.v1.is_empty());
                    assert_eq!(metrics.pids.unwrap().current, 1);
                    assert_eq!(metrics.memory.unwrap().usage.limit, stats.memory.usage.limit);
                    assert_eq!(metrics.oom_control.unwrap(), MemoryOomControl::default());
                    assert!(metrics.cpu.total_usage >= stats.cpu.total_usage);
                }
                CgroupMetrics::V2(metrics) => {
                    assert!(test.cgroup.v1.is_empty());
                    assert!(metrics.cpu.usage_usec * 1000 >= stats.cpu.total_usage);
                    // The kernel may not have counted anything yet.
                    until(|| match test.cgroup.metrics().unwrap() {
                        CgroupMetrics::V1(_) => false,
                        CgroupMetrics::V2(metrics) => metrics.cpu.usage_usec > 0,
                    });
                }
            }
            child.kill().unwrap();
            child.wait().unwrap();
            until(|| test.cgroup.remove().is_ok());
            assert!(matches!(test.cgroup.metrics(), Err(CgroupError::Removed)));
        }
    }
}
