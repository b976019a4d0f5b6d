//! Launches that fail leave nothing behind.

use std::path::Path;
use std::time::Duration;

use gantry_shim_proto::{FromShim, Launch, LaunchError, ToShim, WaitStatus};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::harness::{Pipe, Shim, eventually, is_gone, script, write};

/// A runtime that started things of all kinds and then hangs; their pids are in `pids`.
const HUNG: &str = "
    sleep 1000 & echo $! >> pids
    setsid sh -c 'echo $$ >> pids; sleep 1000 & echo $! >> pids; wait' &
    (sh -c 'trap \"\" TERM; echo $$ >> pids; sleep 1000; :' &)
    echo $$ >> pids
    while :; do sleep 1000; done";

fn failure(shim: &Shim) -> LaunchError {
    match shim.server.hear() {
        Some((FromShim::LaunchFailed(error), None)) => error,
        other => panic!("not failed: {other:?}"),
    }
}

/// The pids of what a hung runtime started.
fn pids(shim: &Shim) -> Vec<u32> {
    let read = || std::fs::read_to_string(shim.path("pids")).unwrap_or_default();
    eventually(|| read().lines().count() == 5);
    read().lines().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn the_runtime_works_where_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    // A directory that is not there is the runtime's to complain about.
    for (directory, is_entered) in [(place, true), ("", false), ("/no/such", false)] {
        let found = dir.path().join("found");
        let script = script(&format!("pwd -P >{}; exit 1", found.display()));
        let mut shim = Shim::launch(Launch { directory: directory.to_owned(), ..script });
        failure(&shim);
        shim.ack();
        let expected = if is_entered { dir.path().to_owned() } else { shim.path("") };
        let found = std::fs::read_to_string(found).unwrap();
        let found = std::path::Path::new(found.trim_end());
        assert_eq!(found, expected.canonicalize().unwrap(), "{directory}");
        shim.assert_leaves();
    }
}

#[test]
fn a_stdio_path_that_does_not_exist() {
    let mut shim = Shim::launch(Launch { stderr: "/no/such/pipe".into(), ..script("exit 0") });
    let errno = Errno::NOENT.raw_os_error();
    assert_eq!(failure(&shim), LaunchError::Stdio { path: "/no/such/pipe".into(), errno });
    shim.ack();
    shim.assert_leaves();
}

#[test]
fn a_runtime_that_cannot_be_executed() {
    let noent = Errno::NOENT.raw_os_error();
    let acces = Errno::ACCESS.raw_os_error();
    for (argv, errno) in [
        (vec!["/no/such/runtime".to_owned()], noent),
        (vec!["no-such-runtime".to_owned()], noent),
        (vec!["/etc/passwd".to_owned()], acces),
        (vec![], noent),
    ] {
        let mut shim = Shim::launch(Launch { argv, ..Launch::default() });
        assert_eq!(failure(&shim), LaunchError::Exec { errno });
        shim.hang_up();
        shim.assert_leaves();
    }
}

#[test]
fn a_runtime_that_fails() {
    for (text, status) in [
        ("exit 1", WaitStatus::Code(1)),
        ("kill -9 $$", WaitStatus::Signal(9)),
        ("(sleep 1000 & echo $! > left); exit 3", WaitStatus::Code(3)),
    ] {
        let mut shim = Shim::launch(script(text));
        let printed = String::new();
        assert_eq!(failure(&shim), LaunchError::Runtime { status, printed }, "{text}");
        if let Ok(left) = std::fs::read_to_string(shim.path("left")) {
            assert!(is_gone(left.trim().parse().unwrap()));
        }
        assert!(!shim.path("started.json").exists());
        assert!(!shim.leaves_within(Duration::from_millis(50)), "before the acknowledgement");
        shim.ack();
        shim.assert_leaves();
    }
}

#[test]
fn a_runtime_that_names_no_process() {
    for text in ["exit 0", "echo > pid", "echo 12x > pid", "echo 0 > pid", "echo -5 > pid"] {
        let mut shim = Shim::launch(script(text));
        match failure(&shim) {
            LaunchError::System { what, .. } => assert_eq!(what, "read the pid file", "{text}"),
            other => panic!("{text}: {other:?}"),
        }
        shim.ack();
        shim.assert_leaves();
    }
}

#[test]
fn a_runtime_that_brings_no_terminal() {
    let mut shim = Shim::launch(Launch {
        terminal: true,
        ..script("test -S console.sock || exit 1; sleep 1000 & echo $! > pid")
    });
    match failure(&shim) {
        LaunchError::System { what, .. } => assert_eq!(what, "receive the terminal"),
        other => panic!("{other:?}"),
    }
    let pid = std::fs::read_to_string(shim.path("pid")).unwrap();
    assert!(is_gone(pid.trim().parse().unwrap()));
    shim.ack();
    shim.assert_leaves();
}

#[test]
fn an_aborted_launch_leaves_no_process() {
    let mut shim = Shim::launch(script(HUNG));
    let pids = pids(&shim);
    shim.server.say(&ToShim::Abort);
    assert_eq!(failure(&shim), LaunchError::Aborted);
    for pid in pids {
        assert!(is_gone(pid));
    }
    shim.ack();
    shim.assert_leaves();
}

#[test]
fn a_launch_whose_server_dies_leaves_nothing() {
    let mut shim = Shim::launch(script(HUNG));
    let pids = pids(&shim);
    shim.hang_up();
    shim.assert_leaves();
    for pid in pids {
        assert!(is_gone(pid));
    }
    assert!(!shim.path("exit.json").exists());
}

#[test]
fn a_server_that_connects_while_a_launch_is_given_up_gets_the_failure() {
    let mut shim = Shim::launch(script(HUNG));
    let _ = pids(&shim);
    // It waits to be accepted before the first server goes.
    shim.signal(Signal::STOP);
    let server = shim.connect();
    shim.server.say(&ToShim::Abort);
    shim.hang_up();
    shim.signal(Signal::CONT);
    assert_eq!(server.hear().unwrap().0, FromShim::LaunchFailed(LaunchError::Aborted));
    server.say(&ToShim::Ack);
    shim.assert_leaves();
}

#[test]
fn a_shim_that_dies_takes_the_runtime_along() {
    let mut shim = Shim::launch(script("echo $$ > pids; exec sleep 1000"));
    eventually(|| std::fs::read_to_string(shim.path("pids")).is_ok_and(|pid| pid.ends_with('\n')));
    let pid = std::fs::read_to_string(shim.path("pids")).unwrap();
    shim.signal(Signal::KILL);
    assert!(shim.leaves_within(crate::harness::PATIENCE));
    // It becomes another's child, who may take its time to reap it.
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    eventually(|| stat().map_or(true, |stat| stat.contains(") Z ")));
    shim.hang_up();
}

#[test]
fn a_shim_without_an_order_exits_with_its_server() {
    let mut shim = Shim::start();
    assert!(!shim.leaves_within(Duration::from_millis(50)));
    shim.hang_up();
    shim.assert_leaves();
}

#[test]
fn a_directory_that_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("shim.sock"), "");
    let shim = Shim::start_in(dir);
    match failure(&shim) {
        LaunchError::System { what, errno } => {
            assert_eq!(what, "listen on shim.sock");
            assert_eq!(errno, Errno::ADDRINUSE.raw_os_error());
        }
        other => panic!("{other:?}"),
    }
    shim.ack();
    assert!(shim.leaves_within(crate::harness::PATIENCE));
    assert!(shim.path("shim.sock").exists(), "another's socket stays");
}

#[test]
fn pipes_of_a_failed_launch_are_closed() {
    let pipe = Pipe::new();
    let reader = pipe.reader();
    let mut shim = Shim::launch(Launch { stdout: pipe.name(), ..script("echo words; exit 1") });
    assert!(matches!(failure(&shim), LaunchError::Runtime { .. }));
    assert_eq!(crate::harness::read_all(reader), b"words\n");
    assert!(Path::new(&pipe.name()).exists());
    shim.ack();
    shim.assert_leaves();
}
