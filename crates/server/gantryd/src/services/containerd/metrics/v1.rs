//! Metrics of cgroup v1.

use std::collections::HashMap;

use gantry_api::containerd::cgroups_v1::{
    BlkIoEntry, BlkIoStat, CpuStat, CpuUsage, HugetlbStat, MemoryEntry, MemoryOomControl,
    MemoryStat, Metrics, NetworkStat, PidsStat, RdmaEntry, RdmaStat, Throttle,
};
use gantry_supervisor::resources::{
    self, BlkioStats, CpuStats, HugetlbStats, Interface, MemoryData, MemoryStats, V1Metrics,
};

pub(super) fn message(metrics: V1Metrics, interfaces: Vec<Interface>) -> Metrics {
    let V1Metrics { devices, kernel_tcp, .. } = metrics;
    Metrics {
        hugetlb: hugetlb(metrics.hugetlb),
        pids: metrics.pids.map(|pids| PidsStat { current: pids.current, limit: pids.limit }),
        cpu: Some(cpu(metrics.cpu)),
        memory: metrics.memory.map(|memory| MemoryStat {
            kernel_tcp: Some(memory_entry(&kernel_tcp)),
            ..memory_stat(&memory)
        }),
        blkio: metrics.blkio.map(|blkio| blkio_stat(blkio, &devices)),
        rdma: metrics.rdma.map(|rdma| RdmaStat {
            current: rdma.current.into_iter().map(rdma_entry).collect(),
            limit: rdma.limit.into_iter().map(rdma_entry).collect(),
        }),
        network: interfaces.into_iter().map(network).collect(),
        // Tasks by state, which containerd reads from another interface of the kernel, if configured to.
        cgroup_stats: None,
        memory_oom_control: metrics.oom_control.map(|oom| MemoryOomControl {
            oom_kill_disable: oom.oom_kill_disable,
            under_oom: oom.under_oom,
            oom_kill: oom.oom_kill,
        }),
    }
}

fn cpu(stats: CpuStats) -> CpuStat {
    CpuStat {
        usage: Some(CpuUsage {
            total: stats.total_usage,
            kernel: stats.usage_in_kernelmode,
            user: stats.usage_in_usermode,
            per_cpu: stats.percpu_usage,
        }),
        throttling: Some(Throttle {
            periods: stats.periods,
            throttled_periods: stats.throttled_periods,
            throttled_time: stats.throttled_time,
        }),
    }
}

fn memory_stat(memory: &MemoryStats) -> MemoryStat {
    let stat = |key: &str| memory.stats.get(key).copied().unwrap_or(0);
    MemoryStat {
        cache: stat("cache"),
        rss: stat("rss"),
        rss_huge: stat("rss_huge"),
        mapped_file: stat("mapped_file"),
        dirty: stat("dirty"),
        writeback: stat("writeback"),
        pg_pg_in: stat("pgpgin"),
        pg_pg_out: stat("pgpgout"),
        pg_fault: stat("pgfault"),
        pg_maj_fault: stat("pgmajfault"),
        inactive_anon: stat("inactive_anon"),
        active_anon: stat("active_anon"),
        inactive_file: stat("inactive_file"),
        active_file: stat("active_file"),
        unevictable: stat("unevictable"),
        hierarchical_memory_limit: stat("hierarchical_memory_limit"),
        hierarchical_swap_limit: stat("hierarchical_memsw_limit"),
        total_cache: stat("total_cache"),
        total_rss: stat("total_rss"),
        total_rss_huge: stat("total_rss_huge"),
        total_mapped_file: stat("total_mapped_file"),
        total_dirty: stat("total_dirty"),
        total_writeback: stat("total_writeback"),
        total_pg_pg_in: stat("total_pgpgin"),
        total_pg_pg_out: stat("total_pgpgout"),
        total_pg_fault: stat("total_pgfault"),
        total_pg_maj_fault: stat("total_pgmajfault"),
        total_inactive_anon: stat("total_inactive_anon"),
        total_active_anon: stat("total_active_anon"),
        total_inactive_file: stat("total_inactive_file"),
        total_active_file: stat("total_active_file"),
        total_unevictable: stat("total_unevictable"),
        usage: Some(memory_entry(&memory.usage)),
        swap: Some(memory_entry(&memory.swap_usage)),
        kernel: Some(memory_entry(&memory.kernel_usage)),
        kernel_tcp: None,
    }
}

fn memory_entry(data: &MemoryData) -> MemoryEntry {
    MemoryEntry { limit: data.limit, usage: data.usage, max: data.max_usage, failcnt: data.failcnt }
}

fn blkio_stat(stats: BlkioStats, devices: &HashMap<(u64, u64), String>) -> BlkIoStat {
    let entry = |entry: resources::BlkioEntry| BlkIoEntry {
        op: entry.op,
        device: match devices.get(&(entry.major, entry.minor)) {
            Some(name) => format!("/dev/{name}"),
            None => String::new(),
        },
        major: entry.major,
        minor: entry.minor,
        value: entry.value,
    };
    let entries = |list: Vec<resources::BlkioEntry>| list.into_iter().map(entry).collect();
    BlkIoStat {
        io_service_bytes_recursive: entries(stats.service_bytes),
        io_serviced_recursive: entries(stats.serviced),
        io_queued_recursive: entries(stats.queued),
        io_service_time_recursive: entries(stats.service_time),
        io_wait_time_recursive: entries(stats.wait_time),
        io_merged_recursive: entries(stats.merged),
        io_time_recursive: entries(stats.time),
        sectors_recursive: entries(stats.sectors),
    }
}

fn hugetlb(stats: HashMap<String, HugetlbStats>) -> Vec<HugetlbStat> {
    let of_size = |(pagesize, of): (String, HugetlbStats)| HugetlbStat {
        usage: of.usage,
        max: of.max_usage,
        failcnt: of.failcnt,
        pagesize,
    };
    let mut sizes: Vec<_> = stats.into_iter().map(of_size).collect();
    sizes.sort_by(|a, b| a.pagesize.cmp(&b.pagesize));
    sizes
}

fn rdma_entry(entry: resources::RdmaEntry) -> RdmaEntry {
    RdmaEntry {
        device: entry.device,
        hca_handles: entry.hca_handles,
        hca_objects: entry.hca_objects,
    }
}

fn network(interface: Interface) -> NetworkStat {
    NetworkStat {
        name: interface.name,
        rx_bytes: interface.rx_bytes,
        rx_packets: interface.rx_packets,
        rx_errors: interface.rx_errors,
        rx_dropped: interface.rx_dropped,
        tx_bytes: interface.tx_bytes,
        tx_packets: interface.tx_packets,
        tx_errors: interface.tx_errors,
        tx_dropped: interface.tx_dropped,
    }
}

#[cfg(test)]
mod tests {
    use gantry_supervisor::resources::{PidsStats, RdmaStats};

    use super::*;

    const UNLIMITED: u64 = 9_223_372_036_854_771_712;

    fn data(usage: u64) -> MemoryData {
        MemoryData { usage, max_usage: usage + 1, failcnt: usage + 2, limit: UNLIMITED }
    }

    fn entry(usage: u64) -> MemoryEntry {
        MemoryEntry { usage, max: usage + 1, failcnt: usage + 2, limit: UNLIMITED }
    }

    #[test]
    fn nothing_is_lost() {
        // Each value of memory.stat has the number of its field.
        let stat = [
            "cache",
            "rss",
            "rss_huge",
            "mapped_file",
            "dirty",
            "writeback",
            "pgpgin",
            "pgpgout",
            "pgfault",
            "pgmajfault",
            "inactive_anon",
            "active_anon",
            "inactive_file",
            "active_file",
            "unevictable",
            "hierarchical_memory_limit",
            "hierarchical_memsw_limit",
            "total_cache",
            "total_rss",
            "total_rss_huge",
            "total_mapped_file",
            "total_dirty",
            "total_writeback",
            "total_pgpgin",
            "total_pgpgout",
            "total_pgfault",
            "total_pgmajfault",
            "total_inactive_anon",
            "total_active_anon",
            "total_inactive_file",
            "total_active_file",
            "total_unevictable",
        ];
        let stats = (1..).zip(stat).map(|(number, key)| (key.to_owned(), number)).collect();
        let memory = MemoryStats {
            cache: 1,
            usage: data(100),
            swap_usage: data(200),
            kernel_usage: data(300),
            stats,
        };
        let message = message(
            V1Metrics { memory: Some(memory), kernel_tcp: data(400), ..V1Metrics::default() },
            Vec::new(),
        );
        let memory = message.memory.unwrap();
        assert_eq!(memory.usage, Some(entry(100)));
        assert_eq!(memory.swap, Some(entry(200)));
        assert_eq!(memory.kernel, Some(entry(300)));
        assert_eq!(memory.kernel_tcp, Some(entry(400)));
        // A field of the message is two bytes, or three from the 16th on: tag, then value.
        let encoded = prost::Message::encode_to_vec(&MemoryStat {
            usage: None,
            swap: None,
            kernel: None,
            kernel_tcp: None,
            ..memory
        });
        let expected: Vec<u8> = (1..=32_u8)
            .flat_map(|number| match number {
                16.. => vec![0x80 | number << 3, number >> 4, number],
                _ => vec![number << 3, number],
            })
            .collect();
        assert_eq!(encoded, expected);
    }

    #[test]
    fn processors_devices_and_tasks() {
        let io = |op: &str, value| resources::BlkioEntry {
            major: 254,
            minor: 0,
            op: op.to_owned(),
            value,
        };
        let handles = |hca_handles| resources::RdmaEntry {
            device: "mlx4_0".to_owned(),
            hca_handles,
            hca_objects: u32::MAX,
        };
        let huge = |usage| HugetlbStats { usage, max_usage: 5, failcnt: 6, limit: UNLIMITED };
        let metrics = V1Metrics {
            cpu: CpuStats {
                total_usage: 30,
                percpu_usage: vec![10, 20],
                usage_in_kernelmode: 1,
                usage_in_usermode: 2,
                periods: 3,
                throttled_periods: 4,
                throttled_time: 5,
            },
            blkio: Some(BlkioStats {
                service_bytes: vec![io("Read", 1), io("Total", 2)],
                serviced: vec![io("Write", 3)],
                queued: vec![io("Sync", 4)],
                service_time: vec![io("Async", 5)],
                wait_time: vec![io("Discard", 6)],
                merged: vec![io("Total", 7)],
                time: vec![io("", 8)],
                sectors: vec![resources::BlkioEntry { major: 8, ..io("", 9) }],
            }),
            devices: [((254, 0), "vda".to_owned())].into(),
            hugetlb: [("2MB".to_owned(), huge(1)), ("1GB".to_owned(), huge(2))].into(),
            pids: Some(PidsStats { current: 7, limit: 0 }),
            rdma: Some(RdmaStats { current: vec![handles(1)], limit: vec![handles(2)] }),
            oom_control: Some(resources::MemoryOomControl {
                oom_kill_disable: 0,
                under_oom: 1,
                oom_kill: 2,
            }),
            ..V1Metrics::default()
        };
        let interface = Interface { name: "eth0".to_owned(), rx_bytes: 1, ..Interface::default() };
        let message = message(metrics, vec![interface]);
        let usage = CpuUsage { total: 30, kernel: 1, user: 2, per_cpu: vec![10, 20] };
        let throttling = Throttle { periods: 3, throttled_periods: 4, throttled_time: 5 };
        let cpu = CpuStat { usage: Some(usage), throttling: Some(throttling) };
        assert_eq!(message.cpu, Some(cpu));
        let of = |op: &str, value| BlkIoEntry {
            op: op.to_owned(),
            device: "/dev/vda".to_owned(),
            major: 254,
            minor: 0,
            value,
        };
        let blkio = BlkIoStat {
            io_service_bytes_recursive: vec![of("Read", 1), of("Total", 2)],
            io_serviced_recursive: vec![of("Write", 3)],
            io_queued_recursive: vec![of("Sync", 4)],
            io_service_time_recursive: vec![of("Async", 5)],
            io_wait_time_recursive: vec![of("Discard", 6)],
            io_merged_recursive: vec![of("Total", 7)],
            io_time_recursive: vec![of("", 8)],
            sectors_recursive: vec![BlkIoEntry { major: 8, device: String::new(), ..of("", 9) }],
        };
        assert_eq!(message.blkio, Some(blkio));
        let huge = |pagesize: &str, usage| HugetlbStat {
            usage,
            max: 5,
            failcnt: 6,
            pagesize: pagesize.to_owned(),
        };
        assert_eq!(message.hugetlb, [huge("1GB", 2), huge("2MB", 1)]);
        assert_eq!(message.pids, Some(PidsStat { current: 7, limit: 0 }));
        let rdma = message.rdma.unwrap();
        assert_eq!((rdma.current[0].hca_handles, rdma.limit[0].hca_handles), (1, 2));
        assert_eq!(rdma.limit[0].hca_objects, u32::MAX);
        let oom = MemoryOomControl { oom_kill_disable: 0, under_oom: 1, oom_kill: 2 };
        assert_eq!(message.memory_oom_control, Some(oom));
        assert_eq!((&*message.network[0].name, message.network[0].rx_bytes), ("eth0", 1));
    }
}
