//! Lines of the journal, byte for byte.

use super::*;

fn event(kind: EventKind) -> Event {
    let id = ContainerId::parse("web-1").unwrap();
    let container = ContainerKey { namespace: Namespace::TYPES_API, id };
    Event { at: Timestamp(1_500_000_000_000_000_001), container, generation: Generation(7), kind }
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

/// These are in journals, so they stay as they are.
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
        let line = line(&format!("{head}{text}}}"));
        let event = event(kind);
        assert_eq!(String::from_utf8(encode(&event, Marks::default()).unwrap()).unwrap(), line);
        let lines = Lines { events: vec![event], ..Lines::default() };
        assert_eq!(recover(line.as_bytes()), lines);
    }
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
        let lines = Lines { damage: vec![damage], ..Lines::default() };
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
        had: Some(Had(from, to)),
        gone: Some(Timestamp(gone)).filter(|gone| gone.0 > 0),
    };
    let at = |at| Event { at: Timestamp(at), ..event(EventKind::Paused) };
    let only = Marks { had: Some(Had::only(Timestamp(10))), gone: None };
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
    let had = |lines: &Lines| {
        let had = lines.events.iter().filter(|event| lines.was_had(event));
        had.map(|event| event.at.0).collect::<Vec<_>>()
    };
    let lines = recover(&journal);
    assert_eq!((had(&lines), lines.gone), (vec![10, 30], Timestamp(5)));
    // What was damaged is gone: the fourth line.
    let fourth = text.match_indices('\n').nth(2).unwrap().0 + 20;
    journal[fourth] ^= 1;
    let lines = recover(&journal);
    assert_eq!((had(&lines), lines.gone), (vec![10], Timestamp(49)));
    for nonsense in [r#""had":[0,9]"#, r#""had":[1,1]"#, r#""gone":9"#] {
        let json = format!(r#"{{"at":1,"ns":"types","id":"a","life":1,"type":"oom",{nonsense}}}"#);
        let lines = recover(line(&json).as_bytes());
        assert_eq!((had(&lines), lines.gone), (vec![], Timestamp(0)), "{json}");
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
