//! The format, byte by byte: what is written here must be read by every later version.
#![allow(clippy::unwrap_used, reason = "a test panics")]

use gantry_shim_proto::{
    DecodeError, ExitFile, FromShim, Identity, Launch, LaunchError, ToShim, WaitStatus,
};

fn launch() -> Launch {
    Launch {
        argv: vec!["runc".into(), String::new(), "run".into()],
        terminal: true,
        stdin: "/in".into(),
        stdout: "/oüt".into(),
        stderr: String::new(),
        width: 0x0102,
        height: 0x0304,
        linger_ms: 0x0506_0708,
        env: vec!["A=b".into()],
        title: vec!["shim".into(), "id".into()],
        oom_score_adj: "-7".into(),
        logger_env: vec!["C=d".into()],
        io_uid: 0x0001_86a0,
        io_gid: 0x0001_86a1,
        directory: "/b".into(),
    }
}

const LAUNCH: &[u8] = b"\x01\x01\
    \x03\0\0\0\x04\0\0\0runc\0\0\0\0\x03\0\0\0run\
    \x01\
    \x03\0\0\0/in\
    \x05\0\0\0/o\xc3\xbct\
    \0\0\0\0\
    \x02\x01\x04\x03\
    \x08\x07\x06\x05\
    \x01\0\0\0\x03\0\0\0A=b\
    \x02\0\0\0\x04\0\0\0shim\x02\0\0\0id\
    \x02\0\0\0-7\
    \x01\0\0\0\x03\0\0\0C=d\
    \xa0\x86\x01\0\xa1\x86\x01\0\
    \x02\0\0\0/b";

fn to_shim() -> Vec<(ToShim, &'static [u8])> {
    vec![
        (ToShim::Launch(Box::new(launch())), LAUNCH),
        (ToShim::Abort, b"\x01\x02"),
        (ToShim::CloseStdin, b"\x01\x03"),
        (ToShim::Resize { width: 80, height: 0x1234 }, b"\x01\x04\x50\0\x34\x12"),
        (ToShim::Ack, b"\x01\x05"),
    ]
}

fn from_shim() -> Vec<(FromShim, &'static [u8])> {
    let stdio = LaunchError::Stdio { path: "/a".into(), errno: 2 };
    let system = LaunchError::System { what: "fork".into(), errno: -1 };
    let runtime = |status, printed: &str| {
        FromShim::LaunchFailed(LaunchError::Runtime { status, printed: printed.to_owned() })
    };
    let uri = LaunchError::Uri { uri: "x:".into(), why: "no".into() };
    let exited = |status| FromShim::Exited { status, at: 0x0102_0304_0506_0708 };
    vec![
        (FromShim::Launched { pid: 4_194_304 }, b"\x01\x41\0\0\x40\0"),
        (FromShim::LaunchFailed(LaunchError::Aborted), b"\x01\x42\0"),
        (FromShim::LaunchFailed(stdio), b"\x01\x42\x01\x02\0\0\0\x02\0\0\0/a"),
        (FromShim::LaunchFailed(system), b"\x01\x42\x02\xff\xff\xff\xff\x04\0\0\0fork"),
        (FromShim::LaunchFailed(LaunchError::Exec { errno: 13 }), b"\x01\x42\x03\x0d\0\0\0"),
        (runtime(WaitStatus::Code(1), ""), b"\x01\x42\x04\0\x01\0\0\0\0"),
        (runtime(WaitStatus::Signal(9), "no"), b"\x01\x42\x04\x01\x09\x02\0\0\0no"),
        (FromShim::LaunchFailed(uri), b"\x01\x42\x05\x02\0\0\0x:\x02\0\0\0no"),
        (exited(WaitStatus::Code(255)), b"\x01\x43\0\xff\x08\x07\x06\x05\x04\x03\x02\x01"),
        (exited(WaitStatus::Signal(64)), b"\x01\x43\x01\x40\x08\x07\x06\x05\x04\x03\x02\x01"),
    ]
}

#[test]
fn records_to_the_shim() {
    for (record, packet) in to_shim() {
        assert_eq!(record.encode(), packet, "{record:?}");
        assert_eq!(ToShim::decode(packet), Ok(record));
    }
}

#[test]
fn records_from_the_shim() {
    for (record, packet) in from_shim() {
        assert_eq!(record.encode(), packet, "{record:?}");
        assert_eq!(FromShim::decode(packet), Ok(record));
    }
}

#[test]
fn a_later_version_may_append_fields() {
    for (record, packet) in to_shim() {
        assert_eq!(ToShim::decode(&[packet, b"\x07later"].concat()), Ok(record));
    }
    for (record, packet) in from_shim() {
        assert_eq!(FromShim::decode(&[packet, b"\x07later"].concat()), Ok(record));
    }
    let mut packet = LAUNCH.to_vec();
    packet[0] = 200;
    assert_eq!(ToShim::decode(&packet), Ok(ToShim::Launch(Box::new(launch()))));
}

#[test]
fn an_earlier_version_may_leave_fields_out() {
    let before_directory = Launch { directory: String::new(), ..launch() };
    let without_directory = &LAUNCH[..LAUNCH.len() - 6];
    let expected = ToShim::Launch(Box::new(before_directory.clone()));
    assert_eq!(ToShim::decode(without_directory), Ok(expected));
    let before_owner = Launch { io_uid: 0, io_gid: 0, ..before_directory };
    let without_owner = &without_directory[..without_directory.len() - 8];
    assert_eq!(ToShim::decode(without_owner), Ok(ToShim::Launch(Box::new(before_owner.clone()))));
    let before_logger = Launch { logger_env: Vec::new(), ..before_owner };
    let without_logger = &without_owner[..without_owner.len() - 11];
    assert_eq!(ToShim::decode(without_logger), Ok(ToShim::Launch(Box::new(before_logger.clone()))));
    let before_title = Launch { title: Vec::new(), oom_score_adj: String::new(), ..before_logger };
    let without_title = &without_logger[..without_logger.len() - 24];
    assert_eq!(ToShim::decode(without_title), Ok(ToShim::Launch(Box::new(before_title.clone()))));
    let without_env = &without_title[..without_title.len() - 11];
    let expected = Launch { env: Vec::new(), ..before_title.clone() };
    assert_eq!(ToShim::decode(without_env), Ok(ToShim::Launch(Box::new(expected))));
    let without_linger = &without_env[..without_env.len() - 4];
    let expected = Launch { env: Vec::new(), linger_ms: 0, ..before_title };
    assert_eq!(ToShim::decode(without_linger), Ok(ToShim::Launch(Box::new(expected))));
    assert_eq!(ToShim::decode(b"\x01\x01"), Ok(ToShim::Launch(Box::default())));
    assert_eq!(ToShim::decode(b"\x01\x04"), Ok(ToShim::Resize { width: 0, height: 0 }));
    assert_eq!(FromShim::decode(b"\x01\x41"), Ok(FromShim::Launched { pid: 0 }));
    let (status, printed) = (WaitStatus::Code(1), String::new());
    let failed = FromShim::LaunchFailed(LaunchError::Runtime { status, printed });
    assert_eq!(FromShim::decode(b"\x01\x42\x04\0\x01"), Ok(failed));
}

#[test]
fn records_of_a_later_version() {
    for kind in [0, 6, 64, 68, 255] {
        assert_eq!(ToShim::decode(&[2, kind, 1, 2, 3]), Err(DecodeError::UnknownKind(kind)));
        assert_eq!(FromShim::decode(&[2, kind, 1, 2, 3]), Err(DecodeError::UnknownKind(kind)));
    }
    // Either side's records are unknown to itself.
    assert_eq!(ToShim::decode(b"\x01\x41"), Err(DecodeError::UnknownKind(0x41)));
    assert_eq!(FromShim::decode(LAUNCH), Err(DecodeError::UnknownKind(1)));
}

#[test]
fn damaged_packets() {
    for packet in [&b""[..], b"\x01"] {
        assert_eq!(ToShim::decode(packet), Err(DecodeError::Short));
        assert_eq!(FromShim::decode(packet), Err(DecodeError::Short));
    }
    for packet in [
        // Within an integer.
        &b"\x01\x01\x01\0\0"[..],
        // A list that claims to be longer than the packet.
        b"\x01\x01\xff\xff\xff\xff",
        b"\x01\x01\x02\0\0\0\0\0\0\0",
        // A string longer than the packet.
        b"\x01\x01\x01\0\0\0\x05\0\0\0runc",
        b"\x01\x01\x01\0\0\0\xff\xff\xff\xffrunc",
        b"\x01\x04\x50\0\x34",
    ] {
        assert_eq!(ToShim::decode(packet), Err(DecodeError::Length), "{packet:?}");
    }
    // An exit without a status is not an exit with 0.
    for packet in [&b"\x01\x43"[..], b"\x01\x43\0", b"\x01\x42\x04", b"\x01\x42\x04\0"] {
        assert_eq!(FromShim::decode(packet), Err(DecodeError::Length), "{packet:?}");
    }
    let not_utf8 = b"\x01\x01\x01\0\0\0\x01\0\0\0\xff";
    assert_eq!(ToShim::decode(not_utf8), Err(DecodeError::Utf8));
}

/// Whatever is cut off, a reader neither panics nor reads what was not there.
#[test]
fn truncated_packets() {
    for length in 0..LAUNCH.len() {
        if let Ok(ToShim::Launch(read)) = ToShim::decode(&LAUNCH[..length]) {
            let whole = launch();
            assert!(read.argv.is_empty() || read.argv == whole.argv);
            assert!(read.stdin.is_empty() || read.stdin == whole.stdin);
            assert!(read.stdout.is_empty() || read.stdout == whole.stdout);
        }
    }
    for (_, packet) in from_shim() {
        for length in 0..packet.len() {
            let _ = FromShim::decode(&packet[..length]);
        }
    }
}

#[test]
fn the_started_file() {
    let identity =
        Identity { pid: 4711, start_time: 18_446_744_073_709_551_615, pidfd_inode: 12_345 };
    let text =
        "{\"version\":1,\"pid\":4711,\"start_time\":18446744073709551615,\"pidfd_inode\":12345}\n";
    assert_eq!(identity.to_json(), text);
    assert_eq!(Identity::from_json(text), Some(identity));
    let later = "{ \"version\": 2, \"new\": 1,\n  \"pidfd_inode\": 12345, \"pid\": 4711, \
                 \"start_time\": 18446744073709551615 }";
    assert_eq!(Identity::from_json(later), Some(identity));
    assert_eq!(Identity::from_json(&text.replace("4711", "-1")), None);
    assert_eq!(Identity::from_json(&text.replace("4711", "4294967296")), None);
    assert_eq!(Identity::from_json(&text.replace("start_time", "begin_time")), None);
}

#[test]
fn the_exit_file() {
    let code = ExitFile { status: WaitStatus::Code(127), at: 1_700_000_000_123_456_789 };
    let text = "{\"version\":1,\"code\":127,\"at\":1700000000123456789}\n";
    assert_eq!(code.to_json(), text);
    assert_eq!(ExitFile::from_json(text), Some(code));
    let signal = ExitFile { status: WaitStatus::Signal(64), at: 1 };
    let text = "{\"version\":1,\"signal\":64,\"at\":1}\n";
    assert_eq!(signal.to_json(), text);
    assert_eq!(ExitFile::from_json(text), Some(signal));
    assert_eq!(ExitFile::from_json(&text.replace("64", "256")), None);
    assert_eq!(ExitFile::from_json(&text.replace("signal", "reason")), None);
}

/// What a power failure leaves.
#[test]
fn damaged_files() {
    let text = ExitFile { status: WaitStatus::Code(127), at: 1_700_000_000 }.to_json();
    let whole = text.trim_end().len();
    for length in 0..whole {
        assert_eq!(ExitFile::from_json(&text[..length]), None, "{length}");
    }
    assert_eq!(ExitFile::from_json(&"\0".repeat(text.len())), None);
    assert_eq!(ExitFile::from_json("null"), None);
    assert_eq!(Identity::from_json("{}"), None);
}
