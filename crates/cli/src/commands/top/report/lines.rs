//! A report as people see it.

use std::time::Duration;

use super::{Activity, Container, Method, Report};
use crate::{output, screen::fitted};

/// Calls and containers in a table for people.
const CALLS: usize = 5;
const CONTAINERS: usize = 50;

impl Report {
    /// For people, one below the other. Tables are no wider than that.
    pub(in super::super) fn lines(&self, width: usize) -> Vec<String> {
        let Self { process, launches, runtime_queue, .. } = self;
        let limit = process.file_descriptor_limit;
        let mut lines = vec![
            format!(
                "server      up {}, cpu {:.1}%, memory {}, files {} of {limit}, threads {}",
                output::age(Duration::try_from_secs_f64(self.uptime).unwrap_or_default()),
                process.cpu_percent,
                output::bytes(process.memory),
                process.file_descriptors,
                process.threads,
            ),
            format!("calls       {}, {} under way", self.calls.text(), self.calls_active),
            format!("runtime     {}", self.runtime.text()),
            format!("containers  {}", self.states()),
            format!(
                "launches    {} of {}, {} waiting; other runtime calls {} of {}, {} waiting",
                launches.active,
                launches.limit,
                launches.waiting,
                runtime_queue.active,
                runtime_queue.limit,
                runtime_queue.waiting,
            ),
            format!(
                "events      journal {} ({} records, {} unwritten), {} subscribers, {}",
                output::bytes(self.journal_bytes),
                self.journal_records,
                self.unwritten_records,
                self.subscribers,
                self.slowest_subscriber.as_ref().map_or("none behind".to_owned(), |slowest| {
                    let bytes = output::bytes(slowest.bytes);
                    format!("slowest {} events ({bytes}) behind", slowest.events)
                }),
            ),
            format!("connections {}", self.connections),
        ];
        let mut calls = vec![["CALL", "PER SECOND", "FAILED", "MEDIAN", "P99"].map(str::to_owned)];
        calls.extend(self.methods.iter().take(CALLS).map(Method::cells));
        let mut containers = vec![["CONTAINER", "CPU", "MEMORY", "PIDS"].map(str::to_owned)];
        containers.extend(self.busiest.iter().take(CONTAINERS).map(Container::cells));
        lines.push(String::new());
        lines.extend(fitted(&calls, width));
        lines.push(String::new());
        lines.extend(fitted(&containers, width));
        lines
    }

    /// How many there are in each state, those of both APIs together.
    fn states(&self) -> String {
        let of = |state: &str| {
            let those = self.containers.iter().filter(|those| those.state == state);
            those.map(|those| those.count).sum::<u64>()
        };
        let state = |state: &&str| format!("{} {state}", of(state));
        ["running", "paused", "created", "stopped", "starting"]
            .iter()
            .map(state)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl Activity {
    fn text(&self) -> String {
        let Self { per_second, failed_per_second, median, p99 } = self;
        let (median, p99) = (duration(*median), duration(*p99));
        format!("{per_second:.1}/s, {failed_per_second:.1}/s failed, median {median}, p99 {p99}")
    }
}

impl Method {
    fn cells(&self) -> [String; 5] {
        [
            self.method.clone(),
            format!("{:.1}", self.calls.per_second),
            format!("{:.1}", self.calls.failed_per_second),
            duration(self.calls.median),
            duration(self.calls.p99),
        ]
    }
}

impl Container {
    fn cells(&self) -> [String; 4] {
        let Self { namespace, id, cpu_percent, memory, pids, .. } = self;
        let name = if namespace.is_empty() { id.clone() } else { format!("{namespace}/{id}") };
        [name, format!("{cpu_percent:.1}%"), output::bytes(*memory), pids.to_string()]
    }
}

/// A duration in seconds, for people.
pub(super) fn duration(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 0.001 => format!("{:.0}us", seconds * 1e6),
        Some(seconds) if seconds < 1.0 => format!("{:.1}ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1}s"),
    }
}
