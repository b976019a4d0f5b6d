use gantry_api::v1::{CallMeasures, ContainerUsage, Durations};

use super::{lines::duration, *};

fn reading(seconds: i64, calls: &[(&str, u32, [u64; 3])], cpu: &[(&str, i64)]) -> Reading {
    let time = Some(Timestamp { seconds, nanos: 0 });
    let calls = calls.iter().map(|(method, code, buckets)| CallMeasures {
        method: (*method).to_owned(),
        code: *code,
        durations: Some(Durations { buckets: buckets.to_vec(), sum: None }),
    });
    let usage = cpu.iter().map(|(id, seconds)| ContainerUsage {
        container_id: (*id).to_owned(),
        time,
        cpu_time: Some(prost_types::Duration { seconds: *seconds, nanos: 0 }),
        ..ContainerUsage::default()
    });
    let measures = GetMeasuresResponse {
        time,
        start_time: Some(Timestamp { seconds: 0, nanos: 0 }),
        duration_bounds: vec![0.001, 0.01],
        calls: calls.collect(),
        ..GetMeasuresResponse::default()
    };
    Reading { measures, usage: usage.collect() }
}

#[test]
fn what_was_done_between_two_readings_is_shown() {
    let before = reading(10, &[("a/A", 0, [3, 0, 0]), ("a/A", 5, [1, 0, 0])], &[("idle", 1)]);
    let now = reading(
        12,
        &[("a/A", 0, [3, 4, 0]), ("a/A", 5, [2, 0, 0]), ("b/B", 1, [0, 0, 20])],
        &[("idle", 1), ("busy", 9), ("quick", 7)],
    );
    let mut before = before;
    before.usage.extend(reading(10, &[], &[("quick", 6)]).usage);
    let report = Report::new(&before, &now);
    assert_eq!((report.calls.per_second, report.calls.failed_per_second), (12.5, 0.5));
    assert_eq!(report.uptime, 12.0);
    let methods: Vec<_> = report.methods.iter().map(|it| it.method.as_str()).collect();
    assert_eq!(methods, ["b/B", "a/A"]);
    assert_eq!(report.methods[1].calls.p99.map(|p99| p99 > 0.009), Some(true));
    let used: Vec<_> = report.busiest.iter().map(|it| (it.id.as_str(), it.cpu_percent)).collect();
    assert_eq!(used, [("quick", 50.0), ("busy", 0.0), ("idle", 0.0)]);
    let lines = report.lines(usize::MAX);
    assert!(lines.iter().any(|line| line.starts_with("b/B")), "{lines:?}");
}

#[test]
fn a_long_id_hides_no_number() {
    let id = "0123456789abcdef".repeat(4);
    let mut reading = reading(10, &[], &[(&id, 1)]);
    (reading.usage[0].namespace, reading.usage[0].pids) = ("moby".to_owned(), 4321);
    let lines = Report::new(&reading, &reading).lines(80);
    let line = lines.iter().find(|line| line.starts_with("moby/0123456789abcdef")).unwrap();
    assert!(line.ends_with(" 4321") && line.len() == 80, "{line}");
}

#[test]
fn a_server_that_was_started_again_has_done_all_that_it_has_counted() {
    let before = reading(10, &[("a/A", 0, [3, 0, 0])], &[]);
    let mut now = reading(12, &[("a/A", 0, [4, 0, 0])], &[]);
    assert_eq!(Report::new(&before, &now).calls.per_second, 0.5);
    now.measures.start_time = Some(Timestamp { seconds: 11, nanos: 0 });
    let report = Report::new(&before, &now);
    assert_eq!((report.calls.per_second, report.uptime), (2.0, 1.0));
}

#[test]
fn nothing_done_is_no_division_by_zero() {
    let reading = reading(10, &[("a/A", 0, [3, 0, 0])], &[("idle", 1)]);
    let report = Report::new(&reading, &reading);
    assert_eq!((report.calls.per_second, report.calls.median), (0.0, None));
    assert_eq!((report.busiest[0].cpu_percent, report.methods.len()), (0.0, 0));
}

#[test]
fn durations_have_units() {
    let shown = [None, Some(0.000_05), Some(0.0123), Some(2.5)].map(duration);
    assert_eq!(shown, ["-", "50us", "12.3ms", "2.5s"]);
}
