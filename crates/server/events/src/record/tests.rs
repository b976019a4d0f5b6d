//! Lines of the journal, byte for byte.

use std::path::{Path, PathBuf};

use gantry_domain::{
    ContainerId, ContainerKey, Created, EventKind, Exit, ExitStatus, Generation, Labels, Mount,
    Namespace, ProcessId, Stdio,
};

use super::*;
use crate::published::Publication;

fn event(kind: EventKind) -> Event {
    let id = ContainerId::parse("web-1").unwrap();
    let container = ContainerKey { namespace: Namespace::TYPES_API, id };
    Event {
        at: Timestamp(1_500_000_000_000_000_001),
        container,
        generation: Generation(7),
        labels: Labels::default(),
        kind,
    }
}

fn exited(status: ExitStatus) -> EventKind {
    EventKind::Exited {
        process: ProcessId::parse("sh.2").unwrap(),
        generation: Generation(9),
        pid: 0,
        exit: Exit { status, at: Timestamp(1_500_000_000_000_000_000) },
    }
}

/// A line of this JSON.
fn line(json: &str) -> String {
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
}

/// The event is written as this line, and the line is read as the event.
fn check_golden(event: Event, line: &str) {
    assert_eq!(String::from_utf8(encode(&event, Marks::default()).unwrap()).unwrap(), line);
    let lines = Lines { events: vec![event], ..Lines::default() };
    assert_eq!(recover(line.as_bytes()), lines);
}

/// Records of servers without containerd's services are still in journals, so their form does not change; and
/// those servers can read today's records, of which they ignore `host`.
#[test]
fn records_are_written_and_read_as_ever() {
    let process = ProcessId::init();
    for (kind, text) in [
        (EventKind::ContainerStarted { pid: 0 }, r#""type":"start-container""#),
        (
            EventKind::ProcessStarted { process, generation: Generation(u64::MAX), pid: 0 },
            r#""type":"start-process","pid":"init","plife":18446744073709551615"#,
        ),
        (
            exited(ExitStatus::Code(0)),
            r#""type":"exit","pid":"sh.2","plife":9,"code":0,"exited":1500000000000000000"#,
        ),
        (
            exited(ExitStatus::Signal(9)),
            r#""type":"exit","pid":"sh.2","plife":9,"signal":9,"exited":1500000000000000000"#,
        ),
        (
            exited(ExitStatus::Unknown),
            r#""type":"exit","pid":"sh.2","plife":9,"exited":1500000000000000000"#,
        ),
        (EventKind::Paused, r#""type":"pause""#),
        (EventKind::Resumed, r#""type":"resume""#),
        (EventKind::OutOfMemory, r#""type":"oom""#),
    ] {
        let head = r#"{"at":1500000000000000001,"ns":"types","id":"web-1","life":7,"#;
        check_golden(event(kind), &line(&format!("{head}{text}}}")));
    }
}

fn created() -> Created {
    Created {
        pid: 42,
        bundle: PathBuf::from("/run/b \"1\""),
        rootfs: vec![Mount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: vec!["lowerdir=/a:/b".to_owned(), "ro".to_owned()],
        }],
        stdio: Stdio { stdin: None, stdout: Some("/f/out".into()), stderr: Some("/f/é".into()) },
        terminal: true,
        checkpoint: Some("/c".into()),
    }
}

/// Of containers that are created and started in two steps.
#[test]
fn records_of_tasks_are_written_and_read() {
    let process = ProcessId::parse("sh.2").unwrap();
    let exit = |status| Exit { status, at: Timestamp(1_500_000_000_000_000_000) };
    let generation = Generation(9);
    for (kind, text) in [
        (
            EventKind::Created(Box::new(created())),
            concat!(
                r#""type":"create","created":{"pid":42,"bundle":"/run/b \"1\"","rootfs":[{"kind":"overlay","#,
                r#""source":"overlay","target":"","options":["lowerdir=/a:/b","ro"]}],"#,
                r#""stdio":{"stdin":null,"stdout":"/f/out","stderr":"/f/é"},"terminal":true,"checkpoint":"/c"}"#,
            ),
        ),
        (EventKind::ContainerStarted { pid: 42 }, r#""type":"start-container","host":42"#),
        (
            EventKind::ProcessAdded { process: process.clone() },
            r#""type":"add-process","pid":"sh.2""#,
        ),
        (
            EventKind::ProcessStarted { process: process.clone(), generation, pid: 43 },
            r#""type":"start-process","pid":"sh.2","plife":9,"host":43"#,
        ),
        (
            EventKind::Exited { process, generation, pid: 43, exit: exit(ExitStatus::Signal(9)) },
            r#""type":"exit","pid":"sh.2","plife":9,"host":43,"signal":9,"exited":1500000000000000000"#,
        ),
        (
            EventKind::Checkpointed { path: "/images/a b".into() },
            r#""type":"checkpoint","path":"/images/a b""#,
        ),
        (
            EventKind::Deleted { pid: 42, exit: exit(ExitStatus::Code(3)) },
            r#""type":"delete","host":42,"code":3,"exited":1500000000000000000"#,
        ),
        (
            EventKind::Deleted { pid: 0, exit: exit(ExitStatus::Unknown) },
            r#""type":"delete","exited":1500000000000000000"#,
        ),
    ] {
        let mut event = event(kind);
        event.container.namespace = Namespace::named("moby").unwrap();
        let head = r#"{"at":1500000000000000001,"ns":"@moby","id":"web-1","life":7,"#;
        check_golden(event, &line(&format!("{head}{text}}}")));
    }
}

#[test]
fn records_have_the_labels_of_their_container() {
    let with = |labels| Event { labels, ..event(EventKind::Paused) };
    let known: std::sync::Arc<[String]> = ["app=\"web\"".to_owned(), "é".to_owned()].into();
    let head = r#"{"at":1500000000000000001,"ns":"types","id":"web-1","life":7,"type":"pause","#;
    let text = r#""labels":["app=\"web\"","é"]}"#;
    check_golden(with(Labels::Known(known)), &line(&format!("{head}{text}")));
    check_golden(with(Labels::TooLong), &line(&format!(r#"{head}"labels_left_out":true}}"#)));
}

#[test]
fn events_of_a_container_share_its_labels() {
    let labels: std::sync::Arc<[String]> = ["app=web".to_owned()].into();
    let with = |at, generation| Event {
        at: Timestamp(at),
        generation: Generation(generation),
        labels: Labels::of(&labels),
        ..event(EventKind::Paused)
    };
    let events = [with(1, 7), with(2, 8), with(3, 7)];
    let journal = events.map(|event| encode(&event, Marks::default()).unwrap()).concat();
    let lines = recover(&journal);
    let [Labels::Known(first), Labels::Known(other), Labels::Known(last)] =
        [0, 1, 2].map(|index| lines.events[index].labels.clone())
    else {
        panic!("{:?}", lines.events)
    };
    assert!(std::sync::Arc::ptr_eq(&first, &last) && !std::sync::Arc::ptr_eq(&first, &other));
}

/// A bundle can have a name that is no UTF-8: such an event is not journalled, and does not panic.
#[test]
fn a_path_that_json_cannot_hold_is_an_error() {
    use std::os::unix::ffi::OsStrExt as _;
    let path = Path::new(std::ffi::OsStr::from_bytes(b"/\xff")).to_owned();
    let event = event(EventKind::Checkpointed { path });
    assert!(encode(&event, Marks::default()).is_err());
}

#[test]
fn what_is_published_is_written_and_read() {
    let published = |at, happened, value: &[u8]| Published {
        at: Timestamp(at),
        publication: Publication {
            namespace: Namespace::named("moby").unwrap(),
            topic: "/a/b".to_owned(),
            type_url: "x \"y\"".to_owned(),
            value: value.to_owned(),
            happened,
        },
    };
    let all = [
        (
            published(1, None, b""),
            r#"{"at":1,"ns":"@moby","topic":"/a/b","url":"x \"y\"","value":""}"#,
        ),
        (
            published(2, Some((-62_135_596_800, 999_999_999)), b"\0\xffZ"),
            concat!(
                r#"{"at":2,"ns":"@moby","topic":"/a/b","url":"x \"y\"","value":"00ff5a","#,
                r#""happened":[-62135596800,999999999]}"#,
            ),
        ),
    ];
    let mut journal = String::new();
    for (published, json) in &all {
        let encoded = String::from_utf8(encode_published(published).unwrap()).unwrap();
        assert_eq!(encoded, line(json));
        journal += &encoded;
    }
    let lines = recover(journal.as_bytes());
    assert_eq!(lines.published, all.map(|(published, _)| published));
    assert_eq!((lines.count(), lines.last()), (2, Timestamp(2)));
    for bad in ["0", "0g", "0G", "é"] {
        let json = format!(r#"{{"at":1,"ns":"@moby","topic":"/a","url":"","value":"{bad}"}}"#);
        assert_eq!(recover(line(&json).as_bytes()).damage[0].fault, Fault::Unknown, "{bad}");
    }
    // Of one time, whatever they are of.
    let before = encode(&Event { at: Timestamp(2), ..event(EventKind::Paused) }, Marks::default());
    let lines = recover(&[before.unwrap(), journal.into_bytes()].concat());
    assert_eq!(lines.damage.len(), 2);
}

/// Receipts in named namespaces are written one by one: a range of time could hold events of a namespace that
/// nobody listens to.
#[test]
fn receipts_of_named_namespaces_are_written() {
    let named = |at| {
        let mut event = Event { at: Timestamp(at), ..event(EventKind::OutOfMemory) };
        event.container.namespace = Namespace::named("moby").unwrap();
        event
    };
    let mut journal = encode(&named(1), Marks { delivered: true, ..Marks::default() }).unwrap();
    assert!(String::from_utf8(journal.clone()).unwrap().ends_with("\"oom\",\"told\":true}\n"));
    for at in 2..5 {
        journal.extend(encode(&named(at), Marks::default()).unwrap());
    }
    let delivered = encode_delivered(&[Timestamp(4), Timestamp(2)]).unwrap();
    assert_eq!(String::from_utf8(delivered.clone()).unwrap(), line(r#"{"told":[4,2]}"#));
    journal.extend(delivered);
    let delivered_range = Marks { delivered_range: Some(DeliveredRange(0, 5)), ..Marks::default() };
    journal.extend(
        encode(&Event { at: Timestamp(6), ..event(EventKind::Paused) }, delivered_range).unwrap(),
    );
    let lines = recover(&journal);
    assert_eq!(lines.count(), 6);
    assert!(lines.damage.is_empty());
    let delivered: Vec<_> = lines.events.iter().map(|event| lines.was_delivered(event)).collect();
    assert_eq!(delivered, [true, true, false, true, false]);
}

#[test]
fn an_intact_line_that_makes_no_sense_is_damage() {
    let head = r#"{"at":1,"ns":"types","id":"a","life":1,"#;
    for json in [
        "",
        "null",
        r#"{"at":1,"ns":"types","id":"../a","life":1,"type":"pause"}"#,
        r#"{"at":1,"ns":"other","id":"a","life":1,"type":"pause"}"#,
        r#"{"at":9223372036854775807,"ns":"types","id":"a","life":1,"type":"pause"}"#,
        &format!(r#"{head}"type":"exit","plife":1,"code":0}}"#),
        &format!(r#"{head}"type":"exit","pid":"init","code":0}}"#),
        &format!(r#"{head}"type":"exit","pid":"init","plife":1,"code":0,"signal":9}}"#),
        &format!(r#"{head}"type":"exit","pid":"init","plife":1,"code":256}}"#),
        &format!(r#"{head}"type":"no-such"}}"#),
    ] {
        let line = line(json);
        let damage = Damage { offset: 0, length: line.len(), fault: Fault::Unknown };
        let lines = Lines { damage: vec![damage], ends_damaged: true, ..Lines::default() };
        assert_eq!(recover(line.as_bytes()), lines, "{json}");
    }
}

#[test]
fn a_field_of_a_later_version_is_passed_over() {
    let line = line(r#"{"at":1,"more":[1],"ns":"types","id":"a","life":1,"type":"oom"}"#);
    assert_eq!(recover(line.as_bytes()).events[0].kind, EventKind::OutOfMemory);
}

#[test]
fn marks_are_written_and_the_latest_count() {
    let marks = |from, to, gone| Marks {
        delivered_range: Some(DeliveredRange(from, to)),
        gone: Some(Timestamp(gone)).filter(|gone| gone.0 > 0),
        lost: None,
        delivered: false,
    };
    let at = |at| Event { at: Timestamp(at), ..event(EventKind::Paused) };
    let only =
        Marks { delivered_range: Some(DeliveredRange::only(Timestamp(10))), ..Marks::default() };
    let mut journal = Vec::new();
    for (event, marks) in [
        (at(10), only),
        (at(20), Marks::default()),
        (at(30), marks(20, 29, 5)),
        (at(40), marks(20, 32, 0)),
        (at(50), Marks::default()),
    ] {
        journal.extend(encode(&event, marks).unwrap());
    }
    let text = String::from_utf8(journal.clone()).unwrap();
    assert!(text.lines().nth(2).unwrap().ends_with(r#""type":"pause","had":[20,29],"gone":5}"#));
    let delivered = |lines: &Lines| {
        let delivered = lines.events.iter().filter(|event| lines.was_delivered(event));
        delivered.map(|event| event.at.0).collect::<Vec<_>>()
    };
    let lines = recover(&journal);
    assert_eq!((delivered(&lines), lines.gone), (vec![10, 30], Timestamp(5)));
    // What was damaged is gone: the fourth line.
    let fourth = text.match_indices('\n').nth(2).unwrap().0 + 20;
    journal[fourth] ^= 1;
    let lines = recover(&journal);
    assert_eq!((delivered(&lines), lines.gone), (vec![10], Timestamp(49)));
    for nonsense in [r#""had":[0,9]"#, r#""had":[1,1]"#, r#""gone":9"#] {
        let json = format!(r#"{{"at":1,"ns":"types","id":"a","life":1,"type":"oom",{nonsense}}}"#);
        let lines = recover(line(&json).as_bytes());
        assert_eq!((delivered(&lines), lines.gone), (vec![], Timestamp(0)), "{json}");
    }
}

#[test]
fn a_repeated_line_is_damage() {
    let line = encode(&event(EventKind::Paused), Marks::default()).unwrap();
    let Lines { events, damage, .. } = recover(&line.repeat(2));
    assert_eq!(events.len(), 1);
    let fault = Fault::OutOfOrder;
    assert_eq!(damage, [Damage { offset: line.len(), length: line.len(), fault }]);
}

#[test]
fn a_line_of_an_earlier_version_has_no_time_of_exit() {
    let line =
        line(r#"{"at":5,"ns":"types","id":"a","life":1,"type":"exit","pid":"init","plife":1}"#);
    let exit = Exit { status: ExitStatus::Unknown, at: Timestamp(5) };
    let [event] = &recover(line.as_bytes()).events[..] else { panic!("one event") };
    let kind =
        EventKind::Exited { process: ProcessId::init(), generation: Generation(1), pid: 0, exit };
    assert_eq!(event.kind, kind);
    assert!(
        !String::from_utf8(encode(event, Marks::default()).unwrap()).unwrap().contains("exited")
    );
}

#[test]
fn a_namespace_is_part_of_a_line() {
    let mut event = event(EventKind::Paused);
    event.container.namespace = Namespace::named("moby").unwrap();
    let line = encode(&event, Marks::default()).unwrap();
    assert!(String::from_utf8(line.clone()).unwrap().contains(r#""ns":"@moby""#));
    assert_eq!(recover(&line).events, [event]);
}
