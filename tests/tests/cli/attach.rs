//! `gantry attach`, and what it must not harm.

use std::{
    io::Write,
    process::{ChildStdin, Command, Stdio},
};

use Runtime::Runc;
use gantry_tests::{Runtime, processes, reading::Reading};
use rstest::rstest;
use rustix::process::Signal;

use crate::{Bed, output, stderr, succeeds};

/// Says what it reads, and whether its input or a signal has come to an end.
const ECHO: &str = "trap 'exit 33' INT; echo ready; \
                    while read line; do echo \"got $line\"; done; echo ended; sleep 1000000";

/// Starts a command whose input stays open as long as the second is kept.
fn start(mut command: Command) -> (Reading, ChildStdin) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    (Reading::of(child), stdin)
}

async fn is_running(bed: &Bed) -> bool {
    bed.server.service.state(&bed.id("c")).await.is_ok_and(|state| state.status == "running")
}

async fn kill(bed: Bed) {
    succeeds(&bed.gantry(&["kill", "-s", "KILL", "@c"]));
    bed.server.service.events.wait_exit(0, &bed.id("c"), "init").await;
    bed.finish().await;
}

#[tokio::test]
async fn the_end_of_its_input_is_not_the_containers() {
    let Some(bed) = Bed::make(Runc).await else { return };
    succeeds(&bed.run(&["-d", "-i", "--rm"], "c", &["sh", "-c", ECHO]));
    let mut awaited = "ready\n";
    for line in ["a", "b", "c"] {
        let (mut attach, mut stdin) = start(bed.gantry(&["attach", "@c"]));
        attach.until(awaited).await;
        awaited = "";
        writeln!(stdin, "{line}").unwrap();
        drop(stdin);
        attach.until(&format!("got {line}\n")).await;
        processes::signal(attach.pid(), Signal::HUP);
        assert_eq!(attach.end().await, Some(129));
        assert!(!attach.has_read("ended"), "the container's input has ended");
    }
    assert!(is_running(&bed).await);
    // The one that has started it owns its input.
    let (mut run, stdin) = start(bed.run(&["-i", "--rm"], "o", &["sh", "-c", "cat; exit 3"]));
    drop(stdin);
    assert_eq!(run.end().await, Some(3));
    kill(bed).await;
}

/// A process without streams is not waited for, and gets no signal.
#[rstest]
#[tokio::test]
async fn what_has_no_streams_is_refused(#[values(false, true)] tty: bool) {
    let Some(bed) = Bed::make(Runc).await else { return };
    let options: &[&str] = if tty { &["-d", "-t", "--rm"] } else { &["-d", "--rm"] };
    succeeds(&bed.run(options, "c", &["sleep", "1000000"]));
    let refused = output(&bed.gantry(&["attach", "@c"]));
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(stderr(&refused).contains("no streams to attach to"), "{refused:?}");
    let unknown = output(&bed.gantry(&["attach", "--pid", "nobody", "@c"]));
    assert!(stderr(&unknown).contains("has no process nobody"), "{unknown:?}");
    assert!(is_running(&bed).await);
    kill(bed).await;
}

/// Whoever has started it reads its output.
#[tokio::test]
async fn another_ones_container_is_refused() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let container = bed.server.container("c").sh("cat").create().await.unwrap();
    let mut attach = bed.gantry(&["attach"]);
    attach.arg(&container.id);
    let refused = output(&attach);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(stderr(&refused).contains("was not started by this user's gantry"), "{refused:?}");
    container.init.kill().await;
    bed.finish().await;
}

#[tokio::test]
async fn a_second_one_is_refused_until_the_first_has_gone() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let run = bed.run(&["-i", "--rm"], "c", &["sh", "-c", ECHO]);
    let (mut first, _stdin) = start(run);
    first.until("ready\n").await;
    for _ in 0..2 {
        let refused = output(&bed.gantry(&["attach", "@c"]));
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(stderr(&refused).contains("another gantry command is attached"), "{refused:?}");
        // Its lock dies with it, however it ends.
        processes::signal(first.pid(), Signal::KILL);
        assert_eq!(first.end().await, None);
        let (next, mut stdin) = start(bed.gantry(&["attach", "@c"]));
        first = next;
        writeln!(stdin, "hello").unwrap();
        first.until("got hello\n").await;
    }
    assert!(is_running(&bed).await);
    drop(first);
    kill(bed).await;
}

#[tokio::test]
async fn signals_are_passed_on_or_end_it() {
    let Some(bed) = Bed::make(Runc).await else { return };
    succeeds(&bed.run(&["-d", "-i", "--rm"], "c", &["sh", "-c", ECHO]));
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let (mut attach, mut stdin) = start(bed.gantry(&["attach", "--sig-proxy=false", "@c"]));
        writeln!(stdin, "{code}").unwrap();
        attach.until(&format!("got {code}\n")).await;
        processes::signal(attach.pid(), signal);
        assert_eq!(attach.end().await, Some(code));
        assert!(is_running(&bed).await, "{signal:?}");
    }
    let (mut attach, mut stdin) = start(bed.gantry(&["attach", "@c"]));
    writeln!(stdin, "last").unwrap();
    attach.until("got last\n").await;
    processes::signal(attach.pid(), Signal::INT);
    // Once its reading is interrupted, the shell takes the signal.
    let _ = writeln!(stdin, "end");
    assert_eq!(attach.end().await, Some(33));
    bed.server.service.events.wait_exit(0, &bed.id("c"), "init").await;
    bed.finish().await;
}

/// It leaves, but does not kill as `gantry run` does.
#[tokio::test]
async fn nobody_reading_its_output_is_no_reason_to_kill() {
    let Some(bed) = Bed::make(Runc).await else { return };
    succeeds(&bed.run(&["-d", "-i", "--rm"], "c", &["sh", "-c", ECHO]));
    let mut attach = bed.gantry(&["attach", "@c"]);
    let mut child = attach.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    drop(stdout);
    writeln!(stdin, "unread").unwrap();
    assert!(processes::ends_within(child.id(), gantry_tests::PATIENCE).await);
    assert_eq!(child.wait().unwrap().code(), Some(141));
    assert!(is_running(&bed).await);
    kill(bed).await;
}
