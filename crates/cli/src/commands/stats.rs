//! `gantry stats`

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use gantry_client::{Client, Container, types};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    failure::{Failure, Outcome},
    output, parse,
};

/// Print the resource usage of containers
///
/// Of the given ones, or of all; once an interval until they have ended.
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Time between two readings
    #[arg(long, default_value = "1s", value_parser = parse::interval)]
    interval: Duration,
    /// Print one reading only
    #[arg(long)]
    no_stream: bool,
    /// Print JSON, one reading a line
    #[arg(long)]
    json: bool,
    /// Ids of the containers
    ids: Vec<String>,
}

const HEAD: [&str; 6] = ["ID", "CPU", "MEMORY / LIMIT", "NET IN / OUT", "DISK IN / OUT", "PIDS"];
const WIDTHS: [usize; 6] = [20, 8, 22, 22, 22, 6];
/// Above this a value of cgroup v1 means that no limit was set: it is near the largest number of pages.
const NO_LIMIT: u64 = 1 << 62;

/// A reading as it is printed. Bytes, and nanoseconds of CPU time.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    time: String,
    cpu_percent: f64,
    cpu_total: u64,
    memory: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_limit: Option<u64>,
    net_in: u64,
    net_out: u64,
    disk_in: u64,
    disk_out: u64,
    pids: u64,
}

impl Stats {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let mut ids = self.ids.clone();
        if ids.is_empty() {
            ids.extend(client.state().await?.containers.into_iter().map(|c| c.id));
            ids.sort_unstable();
        } else {
            for id in &ids {
                client.container(id).state().await?;
            }
        }
        if !self.json {
            output::line(columns(&HEAD.map(str::to_owned)))?;
        }
        let mut watches = JoinSet::new();
        let stats = Arc::new(self);
        for id in ids {
            watches.spawn(Arc::clone(&stats).watch(client.container(&id)));
        }
        while let Some(watched) = watches.join_next().await {
            watched.map_err(|e| Failure::new(format!("watch a container: {e}")))??;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints from the second reading on, as the use of CPU needs two.
    async fn watch(self: Arc<Self>, container: Container) -> Result<(), Failure> {
        let mut readings = container.stats_stream(self.interval);
        let mut before: Option<types::StatsResponse> = None;
        while let Some(now) = readings.next().await? {
            if let Some(before) = before {
                let row = Row::new(container.id(), &before, &now);
                if self.json {
                    output::json(&row)?;
                } else {
                    output::line(columns(&row.cells()))?;
                }
                if self.no_stream {
                    break;
                }
            }
            before = Some(now);
        }
        Ok(())
    }
}

impl Row {
    fn new(id: &str, before: &types::StatsResponse, now: &types::StatsResponse) -> Row {
        let net = |of: fn(&types::NetworkStats) -> u64| now.network_stats.iter().map(of).sum();
        let (memory, memory_limit) = memory(now);
        Row {
            id: id.to_owned(),
            time: now.timestamp.unwrap_or_default().to_string(),
            cpu_percent: cpu_percent(before, now),
            cpu_total: cpu_total(now),
            memory,
            memory_limit,
            net_in: net(|n| n.rx_bytes),
            net_out: net(|n| n.tx_bytes),
            disk_in: disk(now, "Read"),
            disk_out: disk(now, "Write"),
            pids: cgroup(now).and_then(|c| c.pids_stats.as_ref()).map_or(0, |p| p.current),
        }
    }

    fn cells(&self) -> [String; 6] {
        let pair = |a: u64, b: u64| format!("{} / {}", output::bytes(a), output::bytes(b));
        let limit = self.memory_limit.map_or("none".to_owned(), output::bytes);
        [
            self.id.clone(),
            format!("{:.1}%", self.cpu_percent),
            format!("{} / {limit}", output::bytes(self.memory)),
            pair(self.net_in, self.net_out),
            pair(self.disk_in, self.disk_out),
            self.pids.to_string(),
        ]
    }
}

fn columns(cells: &[String; 6]) -> String {
    let cells = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:<width$}"));
    cells.collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

fn cgroup(stats: &types::StatsResponse) -> Option<&types::CgroupStats> {
    stats.cgroup_stats.as_ref()
}

fn cpu_total(stats: &types::StatsResponse) -> u64 {
    let cpu = cgroup(stats).and_then(|c| c.cpu_stats.as_ref());
    cpu.and_then(|c| c.cpu_usage.as_ref()).map_or(0, |usage| usage.total_usage)
}

/// In percent of one processor.
fn cpu_percent(before: &types::StatsResponse, now: &types::StatsResponse) -> f64 {
    let time = |s: &types::StatsResponse| {
        let time = s.timestamp.unwrap_or_default();
        i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
    };
    let elapsed = time(now) - time(before);
    let used = cpu_total(now).saturating_sub(cpu_total(before));
    // One decimal is shown, so the precision that is lost does not matter.
    #[allow(clippy::cast_precision_loss)]
    if elapsed > 0 { used as f64 / elapsed as f64 * 100.0 } else { 0.0 }
}

/// In use, without page cache that the kernel can drop, and the limit.
fn memory(stats: &types::StatsResponse) -> (u64, Option<u64>) {
    let Some(memory) = cgroup(stats).and_then(|c| c.memory_stats.as_ref()) else {
        return (0, None);
    };
    let Some(usage) = &memory.usage else { return (0, None) };
    // cgroup v1 has both, and there only the total includes children.
    let inactive =
        ["total_inactive_file", "inactive_file"].iter().find_map(|k| memory.stats.get(*k));
    let limit = (1..NO_LIMIT).contains(&usage.limit).then_some(usage.limit);
    (usage.usage.saturating_sub(inactive.copied().unwrap_or_default()), limit)
}

fn disk(stats: &types::StatsResponse, op: &str) -> u64 {
    let entries = cgroup(stats).and_then(|c| c.blkio_stats.as_ref());
    let entries = entries.iter().flat_map(|blkio| &blkio.io_service_bytes_recursive);
    entries.filter(|entry| entry.op == op).map(|entry| entry.value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_client::Timestamp;

    fn reading(seconds: i64, cpu: u64) -> types::StatsResponse {
        let usage = types::CpuUsage { total_usage: cpu, ..Default::default() };
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
        types::StatsResponse {
            cgroup_stats: Some(cgroup),
            timestamp: Some(Timestamp { seconds, nanos: 0 }),
            ..Default::default()
        }
    }

    #[test]
    fn cpu_is_what_was_used_between_two_readings() {
        let row = Row::new("web", &reading(10, 1_000_000_000), &reading(12, 2_000_000_000));
        assert!((row.cpu_percent - 50.0).abs() < 0.001, "{}", row.cpu_percent);
        assert_eq!((row.memory, row.memory_limit), (70, None));
        assert_eq!(row.cells()[2], "70B / none");
    }

    #[test]
    fn two_readings_at_one_time_are_no_division_by_zero() {
        let row = Row::new("web", &reading(10, 1), &reading(10, 2));
        assert_eq!(row.cells()[1], "0.0%");
    }
}
