//! What a container uses, as the message that clients of containerd decode, which depends on the version of cgroups
//! that the container is in.

mod v1;
mod v2;

use gantry_api::containerd::to_any;
use gantry_supervisor::{ContainerMetrics, resources::CgroupMetrics};
use prost_types::Any;

/// `Metric.data`.
pub(super) fn metrics(metrics: ContainerMetrics) -> Any {
    match metrics.cgroup {
        CgroupMetrics::V1(cgroup) => to_any(&v1::message(*cgroup, metrics.interfaces)),
        CgroupMetrics::V2(cgroup) => to_any(&v2::message(*cgroup, metrics.interfaces)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use gantry_api::containerd::{cgroups_v1, cgroups_v2, from_any};

    use super::*;

    /// Clients expect parts of these two, whatever controllers the container has.
    #[test]
    fn a_container_without_anything() {
        let of = |cgroup| {
            let interfaces = Vec::new();
            metrics(ContainerMetrics { at: SystemTime::now(), cgroup, interfaces })
        };
        let v1 = of(CgroupMetrics::V1(Box::default()));
        assert_eq!(v1.type_url, "io.containerd.cgroups.v1.Metrics");
        let v1: cgroups_v1::Metrics = from_any(&v1).unwrap().unwrap();
        let cpu = v1.cpu.unwrap();
        assert_eq!(cpu.usage, Some(cgroups_v1::CpuUsage::default()));
        assert_eq!(cpu.throttling, Some(cgroups_v1::Throttle::default()));
        assert_eq!((v1.memory, v1.pids, v1.blkio, v1.rdma), (None, None, None, None));
        let v2 = of(CgroupMetrics::V2(Box::default()));
        assert_eq!(v2.type_url, "io.containerd.cgroups.v2.Metrics");
        let v2: cgroups_v2::Metrics = from_any(&v2).unwrap().unwrap();
        assert!(v2.cpu.is_some() && v2.memory.is_some() && v2.pids.is_some() && v2.io.is_some());
        assert_eq!(v2.memory_events, None);
    }
}
