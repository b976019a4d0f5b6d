//! What the server has done between two readings, for people and as JSON.

mod lines;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use gantry_api::{
    Timestamp,
    v1::{Api, GetMeasuresResponse, QueueMeasures, RuntimeOutcome, State, SubscriberKind},
};
use serde::Serialize;

use super::{quantile::Between, reading::Reading};

/// Codes that no fault is meant by: OK, and what a client does that goes away.
const NO_FAILURE: [u32; 2] = [0, 1];

/// Bytes, seconds, and numbers.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    time: String,
    uptime: f64,
    process: Process,
    connections: u64,
    calls_active: u64,
    calls: Activity,
    runtime: Activity,
    methods: Vec<Method>,
    containers: Vec<Containers>,
    launches: Queue,
    runtime_queue: Queue,
    journal_bytes: u64,
    journal_records: u64,
    unwritten_records: u64,
    subscribers: u64,
    slowest_subscriber: Option<Slowest>,
    busiest: Vec<Container>,
}

#[derive(Debug, Serialize)]
struct Process {
    cpu_percent: f64,
    memory: u64,
    file_descriptors: u64,
    file_descriptor_limit: u64,
    threads: u64,
}

/// Calls that have ended between the readings.
#[derive(Debug, Serialize)]
struct Activity {
    per_second: f64,
    failed_per_second: f64,
    /// None without calls.
    median: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Method {
    method: String,
    #[serde(flatten)]
    calls: Activity,
}

#[derive(Debug, Serialize)]
struct Containers {
    api: &'static str,
    state: &'static str,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Queue {
    active: u64,
    waiting: u64,
    limit: u64,
}

#[derive(Debug, Serialize)]
struct Slowest {
    kind: &'static str,
    events: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Container {
    namespace: String,
    id: String,
    cpu_percent: f64,
    memory: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_limit: Option<u64>,
    pids: u64,
}

/// Durations, and how many of them were of calls that have failed.
#[derive(Default)]
struct Calls {
    all: Between,
    failed: u64,
}

impl Calls {
    fn add(&mut self, between: &Between, has_failed: bool) {
        self.all.add(between);
        self.failed += if has_failed { between.count() } else { 0 };
    }

    // So many calls were never counted that precision would be lost.
    #[allow(clippy::cast_precision_loss)]
    fn activity(&self, bounds: &[f64], seconds: f64) -> Activity {
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        Activity {
            per_second: per_second(self.all.count()),
            failed_per_second: per_second(self.failed),
            median: self.all.quantile(bounds, 0.5),
            p99: self.all.quantile(bounds, 0.99),
        }
    }
}

impl Report {
    pub(super) fn new(before: &Reading, now: &Reading) -> Self {
        let measures = &now.measures;
        let seconds = since(before.measures.time, measures.time);
        // One that was started again in the meantime has begun to count at zero.
        let zero = GetMeasuresResponse::default();
        let is_same = before.measures.start_time == measures.start_time;
        let then = if is_same { &before.measures } else { &zero };
        let bounds = &measures.duration_bounds;
        let by_method = calls(then, measures);
        let mut all = Calls::default();
        by_method.values().for_each(|calls| {
            all.all.add(&calls.all);
            all.failed += calls.failed;
        });
        let methods = by_method.into_iter().filter(|(_, calls)| calls.all.count() > 0);
        let method = |(method, calls): (&str, Calls)| Method {
            method: method.to_owned(),
            calls: calls.activity(bounds, seconds),
        };
        let mut methods: Vec<_> = methods.map(method).collect();
        methods.sort_by(|a, b| {
            let by_rate = b.calls.per_second.total_cmp(&a.calls.per_second);
            by_rate.then_with(|| a.method.cmp(&b.method))
        });
        let connections = measures.connections.unwrap_or_default();
        let events = measures.events.clone().unwrap_or_default();
        let slowest = events.subscribers.iter().max_by_key(|kind| kind.slowest_events);
        Self {
            time: measures.time.unwrap_or_default().to_string(),
            uptime: since(measures.start_time, measures.time),
            process: process(then, measures, seconds),
            connections: connections.open,
            calls_active: connections.calls,
            calls: all.activity(bounds, seconds),
            runtime: runtime(then, measures).activity(bounds, seconds),
            methods,
            containers: containers(measures),
            launches: queue(measures.launches),
            runtime_queue: queue(measures.runtime_queue),
            journal_bytes: events.journal_bytes,
            journal_records: events.journal_records,
            unwritten_records: events.unwritten_records,
            subscribers: events.subscribers.iter().map(|kind| kind.count).sum(),
            slowest_subscriber: slowest.filter(|kind| kind.slowest_events > 0).map(|kind| {
                Slowest {
                    kind: match kind.kind() {
                        SubscriberKind::Unspecified => "unknown",
                        SubscriberKind::Types => "types",
                        SubscriberKind::Containerd => "containerd",
                        SubscriberKind::Watch => "watch",
                    },
                    events: kind.slowest_events,
                    bytes: kind.slowest_bytes,
                }
            }),
            busiest: busiest(before, now),
        }
    }
}

/// Calls of each method between two readings.
fn calls<'a>(then: &GetMeasuresResponse, now: &'a GetMeasuresResponse) -> HashMap<&'a str, Calls> {
    let buckets = |measured: &GetMeasuresResponse| -> HashMap<(String, u32), Vec<u64>> {
        let calls = measured.calls.iter();
        calls
            .filter_map(|it| {
                Some(((it.method.clone(), it.code), it.durations.as_ref()?.buckets.clone()))
            })
            .collect()
    };
    let old = buckets(then);
    let mut methods = HashMap::<&str, Calls>::new();
    for calls in &now.calls {
        let Some(durations) = &calls.durations else { continue };
        let before = old.get(&(calls.method.clone(), calls.code)).map_or(&[][..], Vec::as_slice);
        let between = Between::new(before, &durations.buckets);
        let has_failed = !NO_FAILURE.contains(&calls.code);
        methods.entry(calls.method.as_str()).or_default().add(&between, has_failed);
    }
    methods
}

/// Calls of runtimes between two readings.
fn runtime(then: &GetMeasuresResponse, now: &GetMeasuresResponse) -> Calls {
    let mut all = Calls::default();
    for calls in &now.runtime_calls {
        let Some(durations) = &calls.durations else { continue };
        let is_same = |it: &&gantry_api::v1::RuntimeMeasures| {
            it.command == calls.command && it.outcome == calls.outcome
        };
        let before = then.runtime_calls.iter().find(is_same);
        let before = before.and_then(|it| it.durations.as_ref());
        let before = before.map_or(&[][..], |durations| &durations.buckets);
        let has_failed = calls.outcome() != RuntimeOutcome::Done;
        all.add(&Between::new(before, &durations.buckets), has_failed);
    }
    all
}

fn process(then: &GetMeasuresResponse, now: &GetMeasuresResponse, seconds: f64) -> Process {
    let (then, now) = (then.process.unwrap_or_default(), now.process.unwrap_or_default());
    let time = |process: gantry_api::v1::ProcessMeasures| {
        nanoseconds(process.user_time) + nanoseconds(process.system_time)
    };
    Process {
        cpu_percent: percent(time(now) - time(then), seconds),
        memory: now.memory_bytes,
        file_descriptors: now.file_descriptors,
        file_descriptor_limit: now.file_descriptor_limit,
        threads: now.threads,
    }
}

fn containers(now: &GetMeasuresResponse) -> Vec<Containers> {
    let of = |those: &gantry_api::v1::ContainerMeasures| Containers {
        api: match those.api() {
            Api::Unspecified => "unknown",
            Api::Types => "types",
            Api::Containerd => "containerd",
        },
        state: match those.state() {
            State::Unspecified => "starting",
            State::Created => "created",
            State::Running => "running",
            State::Paused => "paused",
            State::Stopped => "stopped",
        },
        count: those.count,
    };
    now.containers.iter().map(of).collect()
}

fn queue(measured: Option<QueueMeasures>) -> Queue {
    let QueueMeasures { active, waiting, limit } = measured.unwrap_or_default();
    Queue { active, waiting, limit }
}

/// Those that have used most of the processors first, and then of the memory.
fn busiest(before: &Reading, now: &Reading) -> Vec<Container> {
    let key = |it: &gantry_api::v1::ContainerUsage| (it.namespace.clone(), it.container_id.clone());
    let old: HashMap<_, _> = before.usage.iter().map(|it| (key(it), it)).collect();
    let of = |used: &gantry_api::v1::ContainerUsage| {
        // One that was not there has used nothing that is known.
        let then = old.get(&key(used)).copied().unwrap_or(used);
        let time = nanoseconds(used.cpu_time) - nanoseconds(then.cpu_time);
        Container {
            namespace: used.namespace.clone(),
            id: used.container_id.clone(),
            cpu_percent: percent(time, since(then.time, used.time)),
            memory: used.memory_bytes,
            memory_limit: used.memory_limit_bytes,
            pids: used.pids,
        }
    };
    let mut all: Vec<_> = now.usage.iter().map(of).collect();
    all.sort_by(|a, b| {
        let by_cpu = b.cpu_percent.total_cmp(&a.cpu_percent);
        by_cpu.then(b.memory.cmp(&a.memory)).then_with(|| a.id.cmp(&b.id))
    });
    all
}

fn nanoseconds(duration: Option<prost_types::Duration>) -> i128 {
    let duration = duration.unwrap_or_default();
    i128::from(duration.seconds) * 1_000_000_000 + i128::from(duration.nanos)
}

// Few digits are shown, so the precision that is lost does not matter.
#[allow(clippy::cast_precision_loss)]
fn since(then: Option<Timestamp>, now: Option<Timestamp>) -> f64 {
    let time = |time: Option<Timestamp>| {
        let time = time.unwrap_or_default();
        i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
    };
    (time(now) - time(then)).max(0) as f64 / 1e9
}

/// Of one processor. A container or server that has begun again has used less than before.
#[allow(clippy::cast_precision_loss)]
fn percent(used: i128, seconds: f64) -> f64 {
    if seconds > 0.0 { used.max(0) as f64 / 1e7 / seconds } else { 0.0 }
}
