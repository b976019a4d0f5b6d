use std::{collections::BTreeSet, time::Duration};

use gantry_measures::Histogram;
use gantry_runtime::{Outcome as Ended, RuntimeCalls, Verb};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
use tonic::Code;

use super::*;

fn snapshot() -> Snapshot {
    let durations = Histogram::default();
    durations.add(Duration::from_millis(3));
    let durations = durations.read();
    let runtime = RuntimeCalls::default();
    runtime.begin(Verb::Run).end(Ended::Late);
    let calls = [Code::Ok, Code::Internal].map(|code| MeasuredCalls {
        method: "types.API/State",
        code,
        durations,
    });
    Snapshot {
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(20),
        start: SystemTime::UNIX_EPOCH + Duration::from_secs(10),
        calls: calls.to_vec(),
        calls_under_way: 1,
        connections: MeasuredConnections::default(),
        supervisor: SupervisorMeasures {
            types: Default::default(),
            named: Default::default(),
            launches: Default::default(),
            calls: Default::default(),
            runtime: runtime.read(),
            reattachment: Default::default(),
            state_files: MeasuredThreads::default(),
            disks: MeasuredThreads::default(),
        },
        events: MeasuredEvents::default(),
        content: Some(MeasuredThreads::default()),
        snapshots: None,
        collections: MeasuredCollections::default(),
        process: MeasuredProcess::default(),
        exported: Some(MeasuredExports::default()),
    }
}

fn find<'a>(metrics: &'a [Metric], name: &str) -> &'a Metric {
    metrics.iter().find(|metric| metric.name == name).unwrap()
}

#[test]
fn names_are_unique_and_none_is_the_beginning_of_another() {
    let metrics = metrics::of_server(&snapshot());
    let names: BTreeSet<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names.len(), metrics.len());
    for name in &names {
        let below = format!("{name}.");
        assert!(!names.iter().any(|other| other.starts_with(&below)), "{name}");
    }
    assert!(metrics.iter().all(|metric| !metric.unit.is_empty() && metric.data.is_some()));
}

#[test]
fn durations_are_cumulative_histograms_in_seconds() {
    let metrics = metrics::of_server(&snapshot());
    let calls = find(&metrics, "rpc.server.call.duration");
    let Some(Data::Histogram(calls)) = &calls.data else { panic!("{calls:?}") };
    assert_eq!(calls.aggregation_temporality, 2);
    let [ok, internal] = calls.data_points.as_slice() else { panic!("{calls:?}") };
    assert_eq!((ok.start_time_unix_nano, ok.time_unix_nano), (10_000_000_000, 20_000_000_000));
    assert_eq!((ok.count, ok.sum), (1, Some(0.003)));
    assert_eq!(ok.bucket_counts.len(), ok.explicit_bounds.len() + 1);
    let at = ok.bucket_counts.iter().position(|count| *count == 1).unwrap();
    assert!(ok.explicit_bounds[at - 1] < 0.003 && 0.003 <= ok.explicit_bounds[at]);
    let keys = |point: &opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint| {
        point.attributes.iter().map(|it| it.key.clone()).collect::<Vec<_>>()
    };
    assert!(!keys(ok).contains(&"error.type".to_owned()));
    assert!(keys(internal).contains(&"error.type".to_owned()));
}

/// docs/metrics.md has a row for each metric.
#[test]
fn the_documentation_has_all_metrics() {
    let text = include_str!("../../../../../docs/metrics.md");
    let metrics = metrics::of_server(&snapshot());
    for Metric { name, unit, .. } in metrics.into_iter().chain(metrics::of_containers(&[])) {
        let row = format!("| `{name}` | `{unit}` |");
        assert!(text.contains(&row), "docs/metrics.md has no {row}");
    }
}
