//! `Stats`: what the kernel counts, as messages.

use gantry_api::{Timestamp, types};
use gantry_supervisor::{
    ContainerStats,
    resources::{
        BlkioEntry, BlkioStats, CgroupStats, CpuStats, HugetlbStats, Interface, MemoryData,
        MemoryStats, PidsStats,
    },
};

pub(super) fn response(stats: ContainerStats) -> types::StatsResponse {
    types::StatsResponse {
        network_stats: stats.interfaces.into_iter().map(network).collect(),
        cgroup_stats: Some(cgroup_stats(stats.cgroup, stats.system_usage)),
        timestamp: Some(Timestamp::from(stats.at)),
    }
}

fn network(interface: Interface) -> types::NetworkStats {
    types::NetworkStats {
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

fn cgroup_stats(stats: CgroupStats, system_usage: u64) -> types::CgroupStats {
    types::CgroupStats {
        cpu_stats: Some(cpu(stats.cpu, system_usage)),
        memory_stats: Some(memory(stats.memory)),
        blkio_stats: Some(blkio(stats.blkio)),
        hugetlb_stats: stats.hugetlb.into_iter().map(|(size, of)| (size, hugetlb(of))).collect(),
        pids_stats: Some(pids(stats.pids)),
    }
}

fn cpu(stats: CpuStats, system_usage: u64) -> types::CpuStats {
    types::CpuStats {
        cpu_usage: Some(types::CpuUsage {
            total_usage: stats.total_usage,
            percpu_usage: stats.percpu_usage,
            usage_in_kernelmode: stats.usage_in_kernelmode,
            usage_in_usermode: stats.usage_in_usermode,
        }),
        throttling_data: Some(types::ThrottlingData {
            periods: stats.periods,
            throttled_periods: stats.throttled_periods,
            throttled_time: stats.throttled_time,
        }),
        system_usage,
    }
}

fn memory(stats: MemoryStats) -> types::MemoryStats {
    types::MemoryStats {
        cache: stats.cache,
        usage: Some(memory_data(&stats.usage)),
        swap_usage: Some(memory_data(&stats.swap_usage)),
        kernel_usage: Some(memory_data(&stats.kernel_usage)),
        stats: stats.stats,
    }
}

fn memory_data(data: &MemoryData) -> types::MemoryData {
    types::MemoryData {
        usage: data.usage,
        max_usage: data.max_usage,
        failcnt: data.failcnt,
        limit: data.limit,
    }
}

fn blkio(stats: BlkioStats) -> types::BlkioStats {
    types::BlkioStats {
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

fn entries(entries: Vec<BlkioEntry>) -> Vec<types::BlkioStatsEntry> {
    let convert =
        |BlkioEntry { major, minor, op, value }| types::BlkioStatsEntry { major, minor, op, value };
    entries.into_iter().map(convert).collect()
}

fn hugetlb(stats: HugetlbStats) -> types::HugetlbStats {
    types::HugetlbStats {
        usage: stats.usage,
        max_usage: stats.max_usage,
        failcnt: stats.failcnt,
        limit: stats.limit,
    }
}

fn pids(stats: PidsStats) -> types::PidsStats {
    types::PidsStats { current: stats.current, limit: stats.limit }
}
