//! Bytes on their way to the process, and their end.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use gantry_shim_proto::{Launch, ToShim, WaitStatus};

use crate::harness::{
    Pipe, Shim, detached, detached_after, eventually, is_readable, pattern, read_all, read_exact,
};

const MOMENT: Duration = Duration::from_millis(100);

struct Process {
    shim: Shim,
    stdin: Pipe,
    output: File,
    _stdout: Pipe,
}

/// A process whose stdin and stdout are pipes of the caller.
fn start(command: &str) -> Process {
    let (stdin, stdout) = (Pipe::new(), Pipe::new());
    let output = stdout.reader();
    let launch = Launch { stdin: stdin.name(), stdout: stdout.name(), ..detached(command) };
    let shim = Shim::launch(launch);
    shim.server.hear_launched();
    Process { shim, stdin, output, _stdout: stdout }
}

#[test]
fn closing_delivers_everything_while_the_caller_still_writes() {
    let mut process = start("exec cat");
    let mut writer = process.stdin.writer();
    writer.write_all(b"all of it").unwrap();
    process.shim.server.say(&ToShim::CloseStdin);
    process.shim.server.say(&ToShim::CloseStdin);
    assert_eq!(process.shim.server.hear_exited(), WaitStatus::Code(0));
    assert_eq!(writer.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
    process.shim.ack();
    assert_eq!(read_all(process.output), b"all of it");
    process.shim.assert_leaves();
}

#[test]
fn input_does_not_end_when_the_caller_goes() {
    let mut process = start("exec cat");
    for word in [b"one", b"two"] {
        process.stdin.writer().write_all(word).unwrap();
        assert_eq!(read_exact(&mut process.output, 3), word);
        assert!(process.shim.server.says_nothing_for(MOMENT));
    }
    process.shim.hang_up();
    process.stdin.writer().write_all(b"six").unwrap();
    assert_eq!(read_exact(&mut process.output, 3), b"six");
    let server = process.shim.connect();
    server.hear_launched();
    server.say(&ToShim::CloseStdin);
    assert_eq!(server.hear_exited(), WaitStatus::Code(0));
}

#[test]
fn closing_before_the_process_is_there() {
    let (stdin, stdout) = (Pipe::new(), Pipe::new());
    let output = stdout.reader();
    let launch = Launch {
        stdin: stdin.name(),
        stdout: stdout.name(),
        ..detached_after("until test -e go; do sleep 0.01; done", "exec cat")
    };
    let shim = Shim::launch(launch);
    let mut writer = None;
    eventually(|| {
        writer = stdin.try_writer();
        writer.is_some()
    });
    let mut writer = writer.unwrap();
    writer.write_all(b"early").unwrap();
    shim.server.say(&ToShim::CloseStdin);
    assert!(shim.server.says_nothing_for(MOMENT));
    std::fs::write(shim.path("go"), "").unwrap();
    shim.server.hear_launched();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
    assert_eq!(read_all(output), b"early");
}

#[test]
fn a_process_that_does_not_read_slows_the_caller_down_and_nothing_is_lost() {
    let mut process = start("until test -e go; do sleep 0.01; done; exec cat");
    let bytes = pattern(1 << 20);
    let mut writer = process.stdin.writer();
    let writing = {
        let bytes = bytes.clone();
        std::thread::spawn(move || writer.write_all(&bytes))
    };
    // Once all is full, the shim has nothing to do.
    eventually(|| process.shim.is_idle_for(MOMENT));
    assert!(!writing.is_finished());
    std::fs::write(process.shim.path("go"), "").unwrap();
    assert!(read_exact(&mut process.output, bytes.len()) == bytes);
    writing.join().unwrap().unwrap();
    process.shim.server.say(&ToShim::CloseStdin);
    assert_eq!(process.shim.server.hear_exited(), WaitStatus::Code(0));
}

#[test]
fn closing_waits_for_a_slow_reader() {
    let mut process = start("until test -e go; do sleep 0.01; done; exec cat");
    let bytes = pattern(60_000);
    let mut writer = process.stdin.writer();
    writer.write_all(&bytes).unwrap();
    writer.write_all(&bytes).unwrap();
    process.shim.server.say(&ToShim::CloseStdin);
    eventually(|| process.shim.is_idle_for(MOMENT));
    std::fs::write(process.shim.path("go"), "").unwrap();
    let both = [&bytes[..], &bytes[..]].concat();
    assert!(read_exact(&mut process.output, both.len()) == both);
    assert_eq!(process.shim.server.hear_exited(), WaitStatus::Code(0));
}

#[test]
fn a_process_that_closes_its_input_is_left_in_peace() {
    let process = start("exec <&-; until test -e go; do sleep 0.01; done; exit 4");
    eventually(|| process.shim.is_idle_for(MOMENT));
    eventually(|| process.stdin.try_writer().is_none());
    process.shim.server.say(&ToShim::CloseStdin);
    std::fs::write(process.shim.path("go"), "").unwrap();
    assert_eq!(process.shim.server.hear_exited(), WaitStatus::Code(4));
}

#[test]
fn an_idle_shim_does_not_wake_up() {
    let process = start("exec cat");
    let _writer = process.stdin.writer();
    // Once it has come to rest.
    eventually(|| process.shim.is_idle_for(Duration::from_secs(1)));
    assert!(!is_readable(&process.output, Duration::ZERO));
}

#[test]
fn files_and_nothing_are_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("input");
    std::fs::write(&path, "from a file").unwrap();
    for (stdin, expected) in
        [(path.to_str().unwrap(), &b"from a file"[..]), ("/dev/null", b""), ("", b"")]
    {
        let stdout = Pipe::new();
        let output = stdout.reader();
        let launch =
            Launch { stdin: stdin.to_owned(), stdout: stdout.name(), ..detached("exec cat") };
        let mut shim = Shim::launch(launch);
        shim.server.hear_launched();
        shim.server.say(&ToShim::CloseStdin);
        assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
        shim.ack();
        assert_eq!(read_all(output), expected);
        shim.assert_leaves();
    }
}
