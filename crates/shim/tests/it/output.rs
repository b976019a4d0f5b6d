//! What the process wrote, and who reads it when.

use std::time::{Duration, Instant};

use gantry_shim_proto::{Launch, WaitStatus};

use crate::harness::{
    Pipe, Shim, detached, ends, eventually, is_readable, pattern, read_all, read_exact,
};

const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn unread_output_stays_until_it_is_read() {
    let (stdout, stderr) = (Pipe::new(), Pipe::new());
    let launch = Launch {
        stdout: stdout.name(),
        stderr: stderr.name(),
        ..detached("echo out; echo err >&2")
    };
    let mut shim = Shim::launch(launch);
    shim.server.hear_launched();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
    shim.ack();
    assert!(!shim.leaves_within(MOMENT));
    // It looks for a reader every 250 ms at last.
    eventually(|| shim.wakes_within(Duration::from_secs(1)) <= 6);
    assert_eq!(read_all(stdout.reader()), b"out\n");
    assert!(!shim.leaves_within(MOMENT), "stderr is unread");
    assert_eq!(read_all(stderr.reader()), b"err\n");
    shim.assert_leaves();
}

#[test]
fn unread_output_is_given_up_in_the_end() {
    const LINGER: Duration = Duration::from_millis(300);
    let stdout = Pipe::new();
    let command = "until test -e go; do sleep 0.01; done; echo out";
    let mut launch = Launch { stdout: stdout.name(), ..detached(command) };
    launch.linger_ms = u32::try_from(LINGER.as_millis()).unwrap();
    let mut shim = Shim::launch(launch);
    shim.server.hear_launched();
    let begin = Instant::now();
    std::fs::write(shim.path("go"), "").unwrap();
    shim.server.hear_exited();
    shim.ack();
    shim.assert_leaves();
    assert!(begin.elapsed() >= LINGER, "{:?}", begin.elapsed());
}

#[test]
fn unread_output_of_a_pipe_that_is_removed() {
    let stdout = Pipe::new();
    let launch = Launch { stdout: stdout.name(), ..detached("echo out") };
    let mut shim = Shim::launch(launch);
    shim.server.hear_launched();
    shim.server.hear_exited();
    shim.ack();
    assert!(!shim.leaves_within(MOMENT));
    drop(stdout);
    shim.assert_leaves();
}

#[test]
fn unread_output_without_any_time() {
    let stdout = Pipe::new();
    let launch = Launch { stdout: stdout.name(), linger_ms: 0, ..detached("echo out") };
    let mut shim = Shim::launch(launch);
    shim.server.hear_launched();
    shim.server.hear_exited();
    shim.ack();
    shim.assert_leaves();
}

#[test]
fn nothing_unread_is_nothing_to_wait_for() {
    let stdout = Pipe::new();
    let launch = Launch { stdout: stdout.name(), ..detached("exit 0") };
    let mut shim = Shim::launch(launch);
    shim.server.hear_launched();
    shim.server.hear_exited();
    shim.ack();
    shim.assert_leaves();
}

#[test]
fn a_reader_that_is_there_gets_all_and_the_end() {
    let stdout = Pipe::new();
    let reader = stdout.reader();
    let launch = Launch { stdout: stdout.name(), ..detached("head -c 60000 /dev/zero") };
    let mut shim = Shim::launch(launch);
    shim.server.hear_launched();
    shim.server.hear_exited();
    shim.ack();
    assert!(!shim.leaves_within(MOMENT), "they may go without having read it");
    assert_eq!(read_all(reader), vec![0; 60_000]);
    shim.assert_leaves();
}

#[test]
fn a_reader_that_left_with_output_unread() {
    let stdout = Pipe::new();
    let mut reader = stdout.reader();
    let command = "echo one; until test -e go; do sleep 0.01; done; echo two";
    let mut shim = Shim::launch(Launch { stdout: stdout.name(), ..detached(command) });
    shim.server.hear_launched();
    assert_eq!(read_exact(&mut reader, 4), b"one\n");
    assert!(!is_readable(&reader, MOMENT), "no end while the process lives");
    drop(reader);
    shim.hang_up();
    std::fs::write(shim.path("go"), "").unwrap();
    assert!(!shim.leaves_within(MOMENT));
    assert_eq!(shim.exit_file().status, WaitStatus::Code(0));
    assert_eq!(read_all(stdout.reader()), b"two\n");
    shim.assert_leaves();
}

#[test]
fn writing_into_the_void_hurts_nobody() {
    let stdout = Pipe::new();
    drop(stdout.reader());
    let command = "for i in 1 2 3; do echo $i || exit 1; sleep 0.02; done; exit 9";
    let shim = Shim::launch(Launch { stdout: stdout.name(), ..detached(command) });
    shim.server.hear_launched();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(9));
    assert_eq!(read_all(stdout.reader()), b"1\n2\n3\n");
}

#[test]
fn a_full_pipe_stops_the_process_and_not_the_shim() {
    let stdout = Pipe::new();
    let bytes = pattern(300_000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bytes");
    std::fs::write(&path, &bytes).unwrap();
    let command = format!("exec cat {}", path.display());
    let mut shim = Shim::launch(Launch { stdout: stdout.name(), ..detached(&command) });
    shim.server.hear_launched();
    assert!(shim.server.says_nothing_for(MOMENT));
    eventually(|| shim.is_idle_for(MOMENT));
    assert!(read_all(stdout.reader()) == bytes);
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
    shim.ack();
    shim.assert_leaves();
}

#[test]
fn one_pipe_for_both() {
    let both = Pipe::new();
    let launch =
        Launch { stdout: both.name(), stderr: both.name(), ..detached("echo out; echo err >&2") };
    let mut shim = Shim::launch(launch);
    shim.server.hear_launched();
    shim.server.hear_exited();
    shim.ack();
    assert!(!shim.leaves_within(MOMENT));
    assert_eq!(read_all(both.reader()), b"out\nerr\n");
    shim.assert_leaves();
}

#[test]
fn a_file_is_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, "before\n").unwrap();
    let name = path.to_str().unwrap().to_owned();
    let launch =
        Launch { stdout: name.clone(), stderr: name, ..detached("echo out; echo err >&2") };
    let mut shim = Shim::launch(launch);
    shim.server.hear_launched();
    shim.server.hear_exited();
    shim.ack();
    shim.assert_leaves();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "before\nout\nerr\n");
}

#[test]
fn a_background_child_does_not_hold_the_exit_back() {
    let stdout = Pipe::new();
    let mut reader = stdout.reader();
    let command = "(until test -e go; do sleep 0.01; done; echo late) & echo early; exit 2";
    let mut shim = Shim::launch(Launch { stdout: stdout.name(), ..detached(command) });
    let (_, pidfd) = shim.server.hear_launched();
    assert!(ends(&pidfd));
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(2));
    shim.ack();
    let go = shim.path("go");
    assert_eq!(read_exact(&mut reader, 6), b"early\n");
    shim.assert_leaves();
    std::fs::write(go, "").unwrap();
    assert_eq!(read_all(reader), b"late\n");
}
