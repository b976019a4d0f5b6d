//! A snapshot as a message.

use gantry_api::v1::{self, Api, DiskUse, RuntimeOutcome, State, SubscriberKind};
use gantry_events::{MeasuredEvents, MeasuredSubscribers};
use gantry_supervisor::{MeasuredContainers, MeasuredTurns, Outcome, SupervisorMeasures};

use crate::{
    measures::{MeasuredProcess, Snapshot},
    services::time::nearest_duration,
};

pub(super) fn response(snapshot: &Snapshot) -> v1::GetMeasuresResponse {
    let calls = snapshot.calls.iter().map(|calls| v1::CallMeasures {
        method: calls.method.to_owned(),
        code: u32::from(calls.code as u8),
        durations: Some(durations(&calls.durations)),
    });
    let SupervisorMeasures { types, named, launches, calls: others, runtime, reattachment, .. } =
        &snapshot.supervisor;
    let runtime_calls = runtime.iter().map(|calls| v1::RuntimeMeasures {
        command: calls.verb.name().to_owned(),
        outcome: outcome(calls.outcome).into(),
        durations: Some(durations(&calls.durations)),
    });
    let collections = &snapshot.collections;
    v1::GetMeasuresResponse {
        time: Some(snapshot.time.into()),
        start_time: Some(snapshot.start.into()),
        duration_bounds: gantry_measures::bounds_in_seconds().collect(),
        calls: calls.collect(),
        connections: Some(v1::ConnectionMeasures {
            open: snapshot.connections.open,
            calls: snapshot.calls_under_way,
            request_bytes: snapshot.connections.request_bytes,
        }),
        containers: containers(Api::Types, types)
            .chain(containers(Api::Containerd, named))
            .collect(),
        launches: Some(queue(launches)),
        runtime_queue: Some(queue(others)),
        runtime_calls: runtime_calls.collect(),
        events: Some(events(&snapshot.events)),
        disks: disks(snapshot),
        reattach: Some(v1::ReattachMeasures {
            found: reattachment.found,
            pending: reattachment.pending,
            duration: Some(nearest_duration(reattachment.took)),
        }),
        collections: Some(v1::CollectionMeasures {
            done: collections.done,
            failed: collections.failed,
            removed: collections.removed,
            last_duration: Some(nearest_duration(collections.last)),
        }),
        process: Some(process(&snapshot.process)),
        export: snapshot.exported.map(|exported| v1::ExportMeasures {
            spans: exported.spans,
            dropped_spans: exported.dropped_spans,
            metric_exports: exported.metric_exports,
            failed_metric_exports: exported.failed_metric_exports,
        }),
    }
}

fn durations(measured: &gantry_measures::Distribution) -> v1::Durations {
    v1::Durations { buckets: measured.buckets.to_vec(), sum: Some(nearest_duration(measured.sum)) }
}

/// Of each state.
fn containers(
    api: Api,
    measured: &MeasuredContainers,
) -> impl Iterator<Item = v1::ContainerMeasures> + use<> {
    let MeasuredContainers { starting, created, running, paused, stopped } = *measured;
    let states = [
        (State::Unspecified, starting),
        (State::Created, created),
        (State::Running, running),
        (State::Paused, paused),
        (State::Stopped, stopped),
    ];
    states.into_iter().map(move |(state, count)| v1::ContainerMeasures {
        api: api.into(),
        state: state.into(),
        count,
    })
}

fn queue(turns: &MeasuredTurns) -> v1::QueueMeasures {
    v1::QueueMeasures {
        active: turns.taken as u64,
        waiting: turns.waiting as u64,
        limit: turns.bound as u64,
    }
}

fn outcome(outcome: Outcome) -> RuntimeOutcome {
    match outcome {
        Outcome::Done => RuntimeOutcome::Done,
        Outcome::Failed => RuntimeOutcome::Failed,
        Outcome::Late => RuntimeOutcome::Late,
        Outcome::GivenUp => RuntimeOutcome::GivenUp,
    }
}

fn events(measured: &MeasuredEvents) -> v1::EventMeasures {
    let of = |kind: SubscriberKind, subscribers: &MeasuredSubscribers| v1::SubscriberMeasures {
        kind: kind.into(),
        count: subscribers.count,
        slowest_events: subscribers.slowest.events,
        slowest_bytes: subscribers.slowest.bytes,
    };
    v1::EventMeasures {
        journal_bytes: measured.journal_bytes,
        journal_records: measured.journal_records,
        unwritten_records: measured.unwritten_records,
        subscribers: vec![
            of(SubscriberKind::Types, &measured.types),
            of(SubscriberKind::Containerd, &measured.named),
            of(SubscriberKind::Watch, &measured.watchers),
        ],
    }
}

/// Of each kind that there is already.
fn disks(snapshot: &Snapshot) -> Vec<v1::DiskMeasures> {
    let all = [
        (DiskUse::State, Some(snapshot.supervisor.state_files)),
        (DiskUse::Callers, Some(snapshot.supervisor.disks)),
        (DiskUse::Content, snapshot.content),
        (DiskUse::Snapshots, snapshot.snapshots),
    ];
    let there = all.into_iter().filter_map(|(of, threads)| {
        let threads = threads?;
        let (busy, waiting) = (threads.busy as u64, threads.waiting as u64);
        Some(v1::DiskMeasures { r#use: of.into(), busy, waiting })
    });
    there.collect()
}

fn process(measured: &MeasuredProcess) -> v1::ProcessMeasures {
    v1::ProcessMeasures {
        memory_bytes: measured.memory,
        file_descriptors: measured.descriptors,
        file_descriptor_limit: measured.descriptor_limit,
        threads: measured.threads,
        user_time: Some(nearest_duration(measured.user_time)),
        system_time: Some(nearest_duration(measured.system_time)),
    }
}
