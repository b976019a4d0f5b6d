//! Metrics of cgroup v2.

use gantry_api::containerd::cgroups_v2::{
    CpuStat, HugeTlbStat, IoEntry, IoStat, MemoryEvents, MemoryStat, Metrics, NetworkStat,
    PidsStat, PsiData, PsiStats, RdmaEntry, RdmaStat,
};
use gantry_supervisor::resources::{
    self, Interface, Pressure, PressureLine, RdmaStats, V2Cpu, V2Hugetlb, V2Memory, V2Metrics,
};

/// All parts are there, as in containerd: clients look into them without asking.
pub(super) fn message(metrics: V2Metrics, interfaces: Vec<Interface>) -> Metrics {
    Metrics {
        pids: Some(PidsStat { current: metrics.pids.current, limit: metrics.pids.limit }),
        cpu: Some(cpu(&metrics.cpu)),
        memory: Some(memory(&metrics.memory)),
        rdma: Some(rdma(metrics.rdma)),
        io: Some(IoStat {
            usage: metrics.io.usage.iter().map(io_entry).collect(),
            psi: metrics.io.pressure.map(psi),
        }),
        hugetlb: metrics.hugetlb.into_iter().map(hugetlb).collect(),
        memory_events: metrics.memory_events.map(|events| MemoryEvents {
            low: events.low,
            high: events.high,
            max: events.max,
            oom: events.oom,
            oom_kill: events.oom_kill,
            oom_group_kill: events.oom_group_kill,
        }),
        network: interfaces.into_iter().map(network).collect(),
    }
}

fn cpu(cpu: &V2Cpu) -> CpuStat {
    CpuStat {
        usage_usec: cpu.usage_usec,
        user_usec: cpu.user_usec,
        system_usec: cpu.system_usec,
        nr_periods: cpu.nr_periods,
        nr_throttled: cpu.nr_throttled,
        throttled_usec: cpu.throttled_usec,
        psi: cpu.pressure.map(psi),
        nr_bursts: cpu.nr_bursts,
        burst_usec: cpu.burst_usec,
    }
}

fn memory(memory: &V2Memory) -> MemoryStat {
    let stat = |key: &str| memory.stat.get(key).copied();
    let of = |key: &str| stat(key).unwrap_or(0);
    // Since Linux 5.9 there are two of each.
    let both = |key: &str| {
        let parts = || of(&format!("{key}_anon")) + of(&format!("{key}_file"));
        stat(key).unwrap_or_else(parts)
    };
    MemoryStat {
        anon: of("anon"),
        file: of("file"),
        kernel_stack: of("kernel_stack"),
        slab: of("slab"),
        sock: of("sock"),
        shmem: of("shmem"),
        file_mapped: of("file_mapped"),
        file_dirty: of("file_dirty"),
        file_writeback: of("file_writeback"),
        anon_thp: of("anon_thp"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        slab_reclaimable: of("slab_reclaimable"),
        slab_unreclaimable: of("slab_unreclaimable"),
        pgfault: of("pgfault"),
        pgmajfault: of("pgmajfault"),
        workingset_refault: both("workingset_refault"),
        workingset_activate: both("workingset_activate"),
        workingset_nodereclaim: of("workingset_nodereclaim"),
        pgrefill: of("pgrefill"),
        pgscan: of("pgscan"),
        pgsteal: of("pgsteal"),
        pgactivate: of("pgactivate"),
        pgdeactivate: of("pgdeactivate"),
        pglazyfree: of("pglazyfree"),
        pglazyfreed: of("pglazyfreed"),
        thp_fault_alloc: of("thp_fault_alloc"),
        thp_collapse_alloc: of("thp_collapse_alloc"),
        usage: memory.usage,
        usage_limit: memory.usage_limit,
        swap_usage: memory.swap_usage,
        swap_limit: memory.swap_limit,
        max_usage: memory.max_usage,
        swap_max_usage: memory.swap_max_usage,
        psi: memory.pressure.map(psi),
    }
}

fn psi(pressure: Pressure) -> PsiStats {
    let data = |line: PressureLine| PsiData {
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
        total: line.total,
    };
    PsiStats { some: Some(data(pressure.some)), full: Some(data(pressure.full)) }
}

fn io_entry(entry: &resources::IoEntry) -> IoEntry {
    IoEntry {
        major: entry.major,
        minor: entry.minor,
        rbytes: entry.rbytes,
        wbytes: entry.wbytes,
        rios: entry.rios,
        wios: entry.wios,
    }
}

fn hugetlb(stats: V2Hugetlb) -> HugeTlbStat {
    HugeTlbStat {
        current: stats.current,
        max: stats.max,
        pagesize: stats.page_size,
        failcnt: stats.failcnt,
    }
}

fn rdma(stats: RdmaStats) -> RdmaStat {
    let entry = |entry: resources::RdmaEntry| RdmaEntry {
        device: entry.device,
        hca_handles: entry.hca_handles,
        hca_objects: entry.hca_objects,
    };
    RdmaStat {
        current: stats.current.into_iter().map(entry).collect(),
        limit: stats.limit.into_iter().map(entry).collect(),
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
    use gantry_supervisor::resources::{PidsStats, V2Io};

    use super::*;

    #[test]
    fn memory_of_which_nothing_is_lost() {
        // Each value of memory.stat has the number of its field; 20 and 21 are sums.
        let keys = [
            "anon",
            "file",
            "kernel_stack",
            "slab",
            "sock",
            "shmem",
            "file_mapped",
            "file_dirty",
            "file_writeback",
            "anon_thp",
            "inactive_anon",
            "active_anon",
            "inactive_file",
            "active_file",
            "unevictable",
            "slab_reclaimable",
            "slab_unreclaimable",
            "pgfault",
            "pgmajfault",
            "workingset_refault_anon",
            "workingset_activate_anon",
            "workingset_nodereclaim",
            "pgrefill",
            "pgscan",
            "pgsteal",
            "pgactivate",
            "pgdeactivate",
            "pglazyfree",
            "pglazyfreed",
            "thp_fault_alloc",
            "thp_collapse_alloc",
        ];
        let mut stat: std::collections::HashMap<String, u64> =
            (1..).zip(keys).map(|(number, key)| (key.to_owned(), number)).collect();
        stat.insert("workingset_refault_anon".to_owned(), 13);
        stat.insert("workingset_refault_file".to_owned(), 7);
        let of = V2Memory {
            stat,
            usage: 32,
            usage_limit: 33,
            swap_usage: 34,
            swap_limit: 35,
            max_usage: 36,
            swap_max_usage: 37,
            pressure: None,
        };
        let memory = memory(&of);
        // A field of the message is two bytes, or three from the 16th on: tag, then value.
        let encoded = prost::Message::encode_to_vec(&memory);
        let expected: Vec<u8> = (1..=37_u8)
            .flat_map(|number| match number {
                16.. => vec![0x80 | number << 3, number >> 4, number],
                _ => vec![number << 3, number],
            })
            .collect();
        assert_eq!(encoded, expected);
        // Kernels before 5.9 have one.
        let mut of = of;
        of.stat.insert("workingset_refault".to_owned(), 5);
        assert_eq!(super::memory(&of).workingset_refault, 5);
    }

    #[test]
    fn processors_devices_and_tasks() {
        let line = |total| PressureLine { avg10: 0.5, avg60: 1.0, avg300: 2.0, total };
        let pressure = Pressure { some: line(1), full: line(2) };
        let metrics = V2Metrics {
            cpu: V2Cpu {
                usage_usec: 1,
                user_usec: 2,
                system_usec: 3,
                nr_periods: 4,
                nr_throttled: 5,
                throttled_usec: 6,
                nr_bursts: 8,
                burst_usec: 9,
                pressure: Some(pressure),
            },
            memory: V2Memory { pressure: Some(pressure), ..V2Memory::default() },
            memory_events: Some(resources::MemoryEvents {
                low: 1,
                high: 2,
                max: 3,
                oom: 4,
                oom_kill: 5,
                oom_group_kill: 6,
            }),
            io: V2Io {
                usage: vec![resources::IoEntry {
                    major: 1,
                    minor: 2,
                    rbytes: 3,
                    wbytes: 4,
                    rios: 5,
                    wios: 6,
                }],
                pressure: None,
            },
            hugetlb: vec![V2Hugetlb {
                page_size: "2MB".to_owned(),
                current: 1,
                max: u64::MAX,
                failcnt: 3,
            }],
            pids: PidsStats { current: 1, limit: u64::MAX },
            rdma: RdmaStats::default(),
        };
        let interface = Interface { name: "eth0".to_owned(), tx_bytes: 1, ..Interface::default() };
        let message = message(metrics, vec![interface]);
        let data = |total| PsiData { avg10: 0.5, avg60: 1.0, avg300: 2.0, total };
        let psi = Some(PsiStats { some: Some(data(1)), full: Some(data(2)) });
        let cpu = CpuStat {
            usage_usec: 1,
            user_usec: 2,
            system_usec: 3,
            nr_periods: 4,
            nr_throttled: 5,
            throttled_usec: 6,
            psi,
            nr_bursts: 8,
            burst_usec: 9,
        };
        assert_eq!(message.cpu, Some(cpu));
        assert_eq!(message.memory, Some(MemoryStat { psi, ..MemoryStat::default() }));
        let events =
            MemoryEvents { low: 1, high: 2, max: 3, oom: 4, oom_kill: 5, oom_group_kill: 6 };
        assert_eq!(message.memory_events, Some(events));
        let io = IoEntry { major: 1, minor: 2, rbytes: 3, wbytes: 4, rios: 5, wios: 6 };
        assert_eq!(message.io, Some(IoStat { usage: vec![io], psi: None }));
        let huge =
            HugeTlbStat { current: 1, max: u64::MAX, pagesize: "2MB".to_owned(), failcnt: 3 };
        assert_eq!(message.hugetlb, [huge]);
        assert_eq!(message.pids, Some(PidsStat { current: 1, limit: u64::MAX }));
        assert_eq!((&*message.network[0].name, message.network[0].tx_bytes), ("eth0", 1));
    }
}
