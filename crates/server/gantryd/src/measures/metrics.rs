//! A snapshot as metrics of OpenTelemetry. Names and units are those of its semantic conventions where there are such,
//! and begin with `gantry.` otherwise; docs/metrics.md has a table of them.

use gantry_events::MeasuredSubscribers;
use gantry_supervisor::{ContainerUsage, MeasuredContainers, Outcome};
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};

use super::{
    Snapshot,
    points::{Span, counter, gauge, histogram, level},
};
use crate::rpc::{is_fault, name_of_code};

/// All metrics of the server.
pub(super) fn of_server(snapshot: &Snapshot) -> Vec<Metric> {
    let span = Span::new(snapshot.start, snapshot.time);
    let mut metrics = vec![calls(span, snapshot), runtime_calls(span, snapshot)];
    metrics.extend(connections(span, snapshot));
    metrics.extend(containers(span, snapshot));
    metrics.extend(queues(span, snapshot));
    metrics.extend(events(span, snapshot));
    metrics.extend(collections(span, snapshot));
    metrics.extend(process(span, snapshot));
    metrics.extend(telemetry(span, snapshot));
    metrics
}

fn calls(span: Span, snapshot: &Snapshot) -> Metric {
    let points = snapshot.calls.iter().map(|calls| {
        let code = name_of_code(calls.code);
        let mut attributes = vec![
            ("rpc.system.name", "grpc"),
            ("rpc.method", calls.method),
            ("rpc.response.status_code", code),
        ];
        if is_fault(calls.code) {
            attributes.push(("error.type", code));
        }
        span.distribution(&attributes, &calls.durations)
    });
    histogram("rpc.server.call.duration", points.collect())
}

fn runtime_calls(span: Span, snapshot: &Snapshot) -> Metric {
    let points = snapshot.supervisor.runtime.iter().map(|calls| {
        let mut attributes = vec![("gantry.runtime.command", calls.verb.name())];
        let failure = match calls.outcome {
            Outcome::Done => None,
            Outcome::Failed => Some("failed"),
            Outcome::Late => Some("timeout"),
            Outcome::GivenUp => Some("cancelled"),
        };
        attributes.extend(failure.map(|failure| ("error.type", failure)));
        span.distribution(&attributes, &calls.durations)
    });
    histogram("gantry.runtime.call.duration", points.collect())
}

fn connections(span: Span, snapshot: &Snapshot) -> [Metric; 3] {
    let now = |named, count| level(named, vec![span.count(&[], count)]);
    [
        now(("gantry.calls.active", "{call}"), snapshot.calls_under_way),
        now(("gantry.connections.open", "{connection}"), snapshot.connections.open),
        now(("gantry.requests.memory", "By"), snapshot.connections.request_bytes),
    ]
}

fn containers(span: Span, snapshot: &Snapshot) -> [Metric; 4] {
    let of = |api: &'static str, measured: &MeasuredContainers| {
        let MeasuredContainers { starting, created, running, paused, stopped } = *measured;
        let states = [
            ("starting", starting),
            ("created", created),
            ("running", running),
            ("paused", paused),
            ("stopped", stopped),
        ];
        states.map(|(state, count)| {
            span.count(&[("gantry.api", api), ("gantry.container.state", state)], count)
        })
    };
    let supervisor = &snapshot.supervisor;
    let all = [of("types", &supervisor.types), of("containerd", &supervisor.named)].concat();
    let reattachment = supervisor.reattachment;
    let unit = "{container}";
    let reattached = |name, count| gauge((name, unit), vec![span.count(&[], count)]);
    [
        level(("gantry.containers", unit), all),
        gauge(("gantry.reattach.duration", "s"), vec![span.seconds(&[], reattachment.took)]),
        reattached("gantry.reattach.found", reattachment.found),
        reattached("gantry.reattach.pending", reattachment.pending),
    ]
}

fn queues(span: Span, snapshot: &Snapshot) -> [Metric; 5] {
    let supervisor = &snapshot.supervisor;
    let queues = [("launches", supervisor.launches), ("runtime", supervisor.calls)];
    let of_queues = |name, of: fn(&gantry_supervisor::MeasuredTurns) -> usize| {
        let points = queues
            .iter()
            .map(|(queue, turns)| span.count(&[("gantry.queue", queue)], of(turns) as u64));
        level((name, "{call}"), points.collect())
    };
    let disks = [
        ("state", Some(supervisor.state_files)),
        ("callers", Some(supervisor.disks)),
        ("content", snapshot.content),
        ("snapshots", snapshot.snapshots),
    ];
    let of_disks = |named, of: fn(&gantry_disk::MeasuredThreads) -> usize| {
        let points = disks.iter().filter_map(|(files, threads)| {
            Some(span.count(&[("gantry.disk.use", files)], of(threads.as_ref()?) as u64))
        });
        level(named, points.collect())
    };
    [
        of_queues("gantry.queue.active", |turns| turns.taken),
        of_queues("gantry.queue.waiting", |turns| turns.waiting),
        of_queues("gantry.queue.limit", |turns| turns.bound),
        of_disks(("gantry.disk.busy", "{thread}"), |threads| threads.busy),
        of_disks(("gantry.disk.waiting", "{operation}"), |threads| threads.waiting),
    ]
}

fn events(span: Span, snapshot: &Snapshot) -> [Metric; 6] {
    let events = &snapshot.events;
    let kinds = [("types", events.types), ("containerd", events.named), ("watch", events.watchers)];
    let of_kinds = |of: fn(&MeasuredSubscribers) -> u64| -> Vec<_> {
        let point = |(kind, subscribers): &(&str, MeasuredSubscribers)| {
            span.count(&[("gantry.subscriber.kind", kind)], of(subscribers))
        };
        kinds.iter().map(point).collect()
    };
    let now = |named, count| level(named, vec![span.count(&[], count)]);
    [
        now(("gantry.journal.size", "By"), events.journal_bytes),
        now(("gantry.journal.records", "{record}"), events.journal_records),
        now(("gantry.journal.unwritten", "{record}"), events.unwritten_records),
        level(("gantry.subscribers", "{subscriber}"), of_kinds(|it| it.count)),
        gauge(("gantry.subscriber.lag.events", "{event}"), of_kinds(|it| it.slowest.events)),
        gauge(("gantry.subscriber.lag.size", "By"), of_kinds(|it| it.slowest.bytes)),
    ]
}

fn collections(span: Span, snapshot: &Snapshot) -> [Metric; 3] {
    let collections = &snapshot.collections;
    let ended = vec![
        span.count(&[], collections.done),
        span.count(&[("error.type", "failed")], collections.failed),
    ];
    [
        counter(("gantry.collections", "{collection}"), ended),
        counter(
            ("gantry.collection.removed", "{record}"),
            vec![span.count(&[], collections.removed)],
        ),
        gauge(("gantry.collection.duration", "s"), vec![span.seconds(&[], collections.last)]),
    ]
}

fn process(span: Span, snapshot: &Snapshot) -> [Metric; 6] {
    let process = &snapshot.process;
    let now = |named, count| level(named, vec![span.count(&[], count)]);
    let uptime = snapshot.time.duration_since(snapshot.start).unwrap_or_default();
    let times = vec![
        span.seconds(&[("cpu.mode", "user")], process.user_time),
        span.seconds(&[("cpu.mode", "system")], process.system_time),
    ];
    [
        now(("process.memory.usage", "By"), process.memory),
        now(("process.unix.file_descriptor.count", "{file_descriptor}"), process.descriptors),
        now(
            ("gantry.process.file_descriptor.limit", "{file_descriptor}"),
            process.descriptor_limit,
        ),
        now(("process.thread.count", "{thread}"), process.threads),
        counter(("process.cpu.time", "s"), times),
        gauge(("process.uptime", "s"), vec![span.seconds(&[], uptime)]),
    ]
}

fn telemetry(span: Span, snapshot: &Snapshot) -> Option<Metric> {
    let exported = snapshot.exported?;
    let point = |what, outcome, count| {
        span.count(
            &[("gantry.telemetry.signal", what), ("gantry.telemetry.outcome", outcome)],
            count,
        )
    };
    let points = vec![
        point("spans", "sent", exported.spans),
        point("spans", "dropped", exported.dropped_spans),
        point("metrics", "sent", exported.metric_exports),
        point("metrics", "dropped", exported.failed_metric_exports),
    ];
    Some(counter(("gantry.telemetry.items", "{item}"), points))
}

/// A number of what a container uses, if the container has that.
type PointOf<'a> =
    dyn Fn(Span, &[(&'static str, &str)], &ContainerUsage) -> Option<NumberDataPoint> + 'a;

/// Metrics of containers. When they were made is not known here, so that their counters have no start.
pub(super) fn of_containers(used: &[ContainerUsage]) -> Vec<Metric> {
    let unknown = std::time::UNIX_EPOCH;
    let points = |point: &PointOf<'_>| {
        let points = used.iter().filter_map(|used| {
            let (id, namespace) = (used.key.id.as_str(), &used.key.namespace);
            let namespace = if namespace.is_types_api() { "" } else { namespace.name() };
            let attributes = [("container.id", id), ("gantry.namespace", namespace)];
            point(Span::new(unknown, used.at), &attributes, used)
        });
        points.collect::<Vec<_>>()
    };
    vec![
        counter(
            ("container.cpu.time", "s"),
            points(&|span, attributes, used| {
                let time = std::time::Duration::from_nanos(used.usage.cpu);
                Some(span.seconds(attributes, time))
            }),
        ),
        level(
            ("container.memory.usage", "By"),
            points(&|span, attributes, used| Some(span.count(attributes, used.usage.memory))),
        ),
        level(
            ("gantry.container.memory.limit", "By"),
            points(&|span, attributes, used| {
                Some(span.count(attributes, used.usage.memory_limit?))
            }),
        ),
        level(
            ("gantry.container.pids", "{process}"),
            points(&|span, attributes, used| Some(span.count(attributes, used.usage.pids))),
        ),
    ]
}
