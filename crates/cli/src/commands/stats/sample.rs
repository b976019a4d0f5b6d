//! What a container uses, from whichever API tells it.

use gantry_api::{
    Timestamp,
    containerd::{cgroups_v1, cgroups_v2, from_any, types::Metric},
};
use gantry_client::types;

/// Above this a value means that no limit was set: cgroup v1 tells nearly the largest number of pages, v2 2^64-1.
const NO_LIMIT: u64 = 1 << 62;

/// A reading. Bytes, and nanoseconds of CPU time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sample {
    pub(super) namespace: Option<String>,
    pub(super) id: String,
    pub(super) time: Timestamp,
    /// Nothing runs in it any more, and it is not deleted.
    pub(super) stopped: bool,
    pub(super) cpu_total: u64,
    /// In use, without page cache that the kernel can drop.
    pub(super) memory: u64,
    pub(super) memory_limit: Option<u64>,
    pub(super) net_in: u64,
    pub(super) net_out: u64,
    pub(super) disk_in: u64,
    pub(super) disk_out: u64,
    pub(super) pids: u64,
}

impl Sample {
    /// Of a container of `types.API`.
    pub(super) fn of_response(id: &str, now: &types::StatsResponse) -> Sample {
        let net = |of: fn(&types::NetworkStats) -> u64| now.network_stats.iter().map(of).sum();
        let cgroup = now.cgroup_stats.as_ref();
        let cpu = cgroup.and_then(|it| it.cpu_stats.as_ref());
        let memory = cgroup.and_then(|it| it.memory_stats.as_ref());
        let usage = memory.and_then(|it| it.usage.as_ref());
        // cgroup v1 has both, and there only the total includes children.
        let inactive = memory.and_then(|memory| {
            ["total_inactive_file", "inactive_file"].iter().find_map(|key| memory.stats.get(*key))
        });
        let blkio = cgroup.and_then(|it| it.blkio_stats.as_ref());
        let entries = || blkio.iter().flat_map(|blkio| &blkio.io_service_bytes_recursive);
        let disk = |op: &str| entries().filter(|it| it.op == op).map(|it| it.value).sum();
        Sample {
            namespace: None,
            id: id.to_owned(),
            time: now.timestamp.unwrap_or_default(),
            stopped: false,
            cpu_total: cpu.and_then(|it| it.cpu_usage.as_ref()).map_or(0, |it| it.total_usage),
            memory: usage.map_or(0, |it| without(it.usage, inactive.copied())),
            memory_limit: usage.and_then(|it| limit(it.limit)),
            net_in: net(|it| it.rx_bytes),
            net_out: net(|it| it.tx_bytes),
            disk_in: disk("Read"),
            disk_out: disk("Write"),
            pids: cgroup.and_then(|it| it.pids_stats.as_ref()).map_or(0, |it| it.current),
        }
    }

    /// Of a container of a namespace; none if the machine's kind of metrics is not known.
    pub(super) fn of_metric(namespace: &str, metric: &Metric) -> Option<Sample> {
        let data = metric.data.as_ref()?;
        let sample = match (from_any(data), from_any(data)) {
            (Ok(Some(v1)), _) => of_v1(&v1),
            (_, Ok(Some(v2))) => of_v2(&v2),
            _ => return None,
        };
        Some(Sample {
            namespace: Some(namespace.to_owned()),
            id: metric.id.clone(),
            time: metric.timestamp.unwrap_or_default(),
            ..sample
        })
    }
}

fn of_v1(metrics: &cgroups_v1::Metrics) -> Sample {
    let net = |of: fn(&cgroups_v1::NetworkStat) -> u64| metrics.network.iter().map(of).sum();
    let entries = || metrics.blkio.iter().flat_map(|blkio| &blkio.io_service_bytes_recursive);
    let disk = |op: &str| entries().filter(|it| it.op == op).map(|it| it.value).sum();
    let usage = metrics.memory.as_ref().and_then(|it| it.usage.as_ref());
    let inactive = metrics.memory.as_ref().map(|it| it.total_inactive_file);
    Sample {
        cpu_total: metrics.cpu.as_ref().and_then(|it| it.usage.as_ref()).map_or(0, |it| it.total),
        memory: usage.map_or(0, |it| without(it.usage, inactive)),
        memory_limit: usage.and_then(|it| limit(it.limit)),
        net_in: net(|it| it.rx_bytes),
        net_out: net(|it| it.tx_bytes),
        disk_in: disk("Read"),
        disk_out: disk("Write"),
        pids: metrics.pids.as_ref().map_or(0, |it| it.current),
        ..Sample::default()
    }
}

fn of_v2(metrics: &cgroups_v2::Metrics) -> Sample {
    let net = |of: fn(&cgroups_v2::NetworkStat) -> u64| metrics.network.iter().map(of).sum();
    let disk = |of: fn(&cgroups_v2::IoEntry) -> u64| {
        metrics.io.iter().flat_map(|io| &io.usage).map(of).sum()
    };
    let memory = metrics.memory.as_ref();
    Sample {
        cpu_total: metrics.cpu.as_ref().map_or(0, |it| it.usage_usec.saturating_mul(1000)),
        memory: memory.map_or(0, |it| without(it.usage, Some(it.inactive_file))),
        memory_limit: memory.and_then(|it| limit(it.usage_limit)),
        net_in: net(|it| it.rx_bytes),
        net_out: net(|it| it.tx_bytes),
        disk_in: disk(|it| it.rbytes),
        disk_out: disk(|it| it.wbytes),
        pids: metrics.pids.as_ref().map_or(0, |it| it.current),
        ..Sample::default()
    }
}

fn without(usage: u64, inactive: Option<u64>) -> u64 {
    usage.saturating_sub(inactive.unwrap_or_default())
}

fn limit(limit: u64) -> Option<u64> {
    (1..NO_LIMIT).contains(&limit).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_api::containerd::to_any;

    #[test]
    fn types_api_tells_all() {
        let usage = types::CpuUsage { total_usage: 7, ..Default::default() };
        let cpu = types::CpuStats { cpu_usage: Some(usage), ..Default::default() };
        let data = types::MemoryData { usage: 100, limit: u64::MAX, ..Default::default() };
        let memory = types::MemoryStats {
            usage: Some(data),
            stats: [("inactive_file".to_owned(), 30)].into(),
            ..Default::default()
        };
        let cgroup = types::CgroupStats {
            cpu_stats: Some(cpu),
            memory_stats: Some(memory),
            ..Default::default()
        };
        let response = types::StatsResponse { cgroup_stats: Some(cgroup), ..Default::default() };
        let sample = Sample::of_response("web", &response);
        assert_eq!((sample.cpu_total, sample.memory, sample.memory_limit), (7, 70, None));
    }

    #[test]
    fn both_versions_of_cgroups_are_read() {
        let usage = cgroups_v1::CpuUsage { total: 5000, ..Default::default() };
        let cpu = cgroups_v1::CpuStat { usage: Some(usage), ..Default::default() };
        let usage = cgroups_v1::MemoryEntry { usage: 100, limit: 200, ..Default::default() };
        let memory = cgroups_v1::MemoryStat {
            usage: Some(usage),
            total_inactive_file: 1,
            ..Default::default()
        };
        let v1 = cgroups_v1::Metrics { cpu: Some(cpu), memory: Some(memory), ..Default::default() };
        let memory = cgroups_v2::MemoryStat {
            usage: 100,
            usage_limit: 200,
            inactive_file: 1,
            ..Default::default()
        };
        let v2 = cgroups_v2::Metrics {
            cpu: Some(cgroups_v2::CpuStat { usage_usec: 5, ..Default::default() }),
            memory: Some(memory),
            ..Default::default()
        };
        for data in [to_any(&v1), to_any(&v2)] {
            let metric = Metric { id: "web".into(), data: Some(data), ..Default::default() };
            let sample = Sample::of_metric("moby", &metric).unwrap();
            let expected = Sample {
                namespace: Some("moby".into()),
                id: "web".into(),
                cpu_total: 5000,
                memory: 99,
                memory_limit: Some(200),
                ..Sample::default()
            };
            assert_eq!(sample, expected);
        }
        assert_eq!(Sample::of_metric("moby", &Metric::default()), None);
    }
}
