//! Output that a program reads, a shell script here.

use std::time::{Duration, Instant};

use gantry_shim_proto::{Launch, ToShim, WaitStatus};
use rustix::process::Signal;

use crate::bundle::Bundle;
use crate::harness::{
    Pipe, Shim, detached, ends_somewhere, eventually, is_gone, pattern, read_all,
};

const MOMENT: Duration = Duration::from_millis(100);

/// Copies what it reads to files in its first argument, the shim's directory, and leaves its pid.
pub(crate) const COPY: &str = "cd $1; echo $$ > logger
    cat <&3 >out 5>&- & cat <&4 >err 5>&- & exec 5>&-; wait; echo over >> over";

/// A program of this scheme that runs a shell script, whose first argument is the shim's directory.
pub(crate) fn program(scheme: &str, shim: &Shim, text: &str) -> String {
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let dir = shim.path("").display().to_string();
    format!("{scheme}:///bin/sh?-c={}&.={}", encode(text), encode(&dir))
}

pub(crate) fn logger(shim: &Shim, text: &str) -> String {
    program("binary", shim, text)
}

/// As [`detached`], by a "runtime" that takes its time.
pub(crate) fn slowly(command: &str) -> Launch {
    crate::harness::detached_after("sleep 0.5", command)
}

/// A shim with an order to launch, with a logger of this script for both streams.
pub(crate) fn start(text: &str, launch: Launch) -> Shim {
    let shim = Shim::start();
    let stdout = logger(&shim, text);
    shim.order(Launch { stderr: stdout.clone(), stdout, ..launch });
    shim
}

fn read(shim: &Shim, name: &str) -> String {
    String::from_utf8(std::fs::read(shim.path(name)).unwrap()).unwrap()
}

/// The pid in a file, once it is there.
pub(crate) fn pid(shim: &Shim, name: &str) -> u32 {
    eventually(|| std::fs::read_to_string(shim.path(name)).is_ok_and(|pid| pid.ends_with('\n')));
    read(shim, name).trim().parse().unwrap()
}

#[test]
fn it_reads_all_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = dir.path().join("bytes");
    std::fs::write(&bytes, pattern(300_000)).unwrap();
    let command = format!("cat {}; echo err >&2; exit 3", bytes.display());
    let mut shim = start(COPY, detached(&command));
    shim.server.hear_launched();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(3));
    shim.ack();
    // Not before its logger.
    shim.assert_leaves();
    assert!(std::fs::read(shim.path("out")).unwrap() == pattern(300_000));
    assert_eq!((read(&shim, "err"), read(&shim, "over")), ("err\n".into(), "over\n".into()));
    assert!(is_gone(pid(&shim, "logger")));
}

#[test]
fn what_it_is_given() {
    let shim = Shim::start();
    let text = "pwd -P >$1/cwd; cd $1; tr '\\0' '\\n' </proc/$$/environ >env
        echo \"$0:$1:$2:$3:$4:$5:$#\" >arguments;
        # A shell that starts a program blocks signals meanwhile.
        while read name mask; do case $name in Sig[BI]*) echo $name $mask; esac; done \\
            </proc/$$/status >signals
        exec >fds; ls /proc/$$/fd; exec >links; readlink /proc/$$/fd/*; exec 5>&-; cat <&3";
    let stdout = format!("{}&z=last&a%2Fb=", logger(&shim, text));
    let logger_env = ["CONTAINER_ID=c", "CONTAINER_NAMESPACE=n"].map(str::to_owned).to_vec();
    shim.order(Launch { stdout, logger_env, ..detached("exit 0") });
    shim.server.hear_launched();
    shim.server.hear_exited();
    let mut env: Vec<String> = read(&shim, "env").lines().map(str::to_owned).collect();
    env.retain(|line| !line.starts_with("PATH="));
    assert_eq!(env, ["CONTAINER_ID=c", "CONTAINER_NAMESPACE=n"]);
    assert_eq!(read(&shim, "fds"), "0\n1\n2\n3\n4\n5\n");
    let links = read(&shim, "links");
    let count = |prefix| links.lines().filter(|link| link.starts_with(prefix)).count();
    assert_eq!((count("/dev/null"), count("pipe:[")), (2, 3), "{links}");
    let arguments = format!(".:{}:a/b::z:last:5\n", shim.path("").display());
    assert_eq!((read(&shim, "arguments"), read(&shim, "cwd")), (arguments, "/\n".to_owned()));
    let none = "0000000000000000";
    assert_eq!(read(&shim, "signals"), format!("SigBlk: {none}\nSigIgn: {none}\n"));
}

#[test]
fn the_process_waits_until_it_is_ready() {
    for (scheme, ready) in [
        ("binary", "exec 5>&-"),
        ("binary", "echo >&5"),
        ("binary-v2", "echo >&5"),
        ("BINARY-V2", "printf 1 >&5; exec 5>&-"),
    ] {
        let shim = Shim::start();
        let text = format!("cd $1; until test -e go; do sleep 0.01; done; {ready}; cat <&3 >out");
        let stdout = program(scheme, &shim, &text);
        shim.order(Launch { stdout, ..detached("touch ran; echo out") });
        assert!(shim.server.says_nothing_for(MOMENT));
        assert!(!shim.path("ran").exists());
        std::fs::write(shim.path("go"), "").unwrap();
        shim.server.hear_launched();
        assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
        eventually(|| read(&shim, "out") == "out\n");
    }
}

#[test]
fn one_that_leaves_another_to_read() {
    let text = "cd $1; cat <&3 >out 5>&- & exit 0";
    let mut shim = start(text, slowly("echo out"));
    shim.server.hear_launched();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
    shim.ack();
    shim.assert_leaves();
    eventually(|| read(&shim, "out") == "out\n");
}

#[test]
fn it_outlives_the_server() {
    let command = "echo one; until test -e go; do sleep 0.01; done; echo two";
    let mut shim = start(COPY, detached(command));
    shim.server.hear_launched();
    shim.hang_up();
    eventually(|| read(&shim, "out") == "one\n");
    std::fs::write(shim.path("go"), "").unwrap();
    shim.assert_leaves();
    assert_eq!(shim.exit_file().status, WaitStatus::Code(0));
    assert_eq!((read(&shim, "out"), read(&shim, "over")), ("one\ntwo\n".into(), "over\n".into()));
}

#[test]
fn it_outlives_the_shim() {
    let command = "echo one; until test -e go; do sleep 0.01; done; echo two";
    let shim = start(COPY, detached(command));
    shim.server.hear_launched();
    eventually(|| read(&shim, "out") == "one\n");
    shim.signal(Signal::KILL);
    assert!(shim.leaves_within(crate::harness::PATIENCE));
    std::fs::write(shim.path("go"), "").unwrap();
    eventually(|| shim.path("over").exists());
    assert_eq!(read(&shim, "out"), "one\ntwo\n");
}

#[test]
fn what_others_write_after_the_exit() {
    let command = "(until test -e go; do sleep 0.01; done; echo late) & echo early; exit 2";
    let mut shim = start(COPY, detached(command));
    shim.server.hear_launched();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(2));
    shim.ack();
    assert!(!shim.leaves_within(MOMENT));
    std::fs::write(shim.path("go"), "").unwrap();
    shim.assert_leaves();
    assert_eq!(read(&shim, "out"), "early\nlate\n");
}

/// How long a shim waits for a program that does not end.
fn time_to_leave(text: &str) -> (Shim, Duration) {
    let mut shim = start(text, detached("exit 0"));
    shim.server.hear_launched();
    let begin = Instant::now();
    shim.server.hear_exited();
    shim.ack();
    shim.assert_leaves();
    assert!(is_gone(pid(&shim, "logger")));
    (shim, begin.elapsed())
}

#[test]
fn one_that_does_not_end_is_asked_to() {
    let text = "cd $1; trap 'echo asked >asked; exit' TERM; echo $$ >logger; exec 5>&-
        while :; do sleep 0.1; done";
    let (shim, time) = time_to_leave(text);
    assert_eq!(read(&shim, "asked"), "asked\n");
    assert!(time > Duration::from_secs(9), "{time:?}");
}

#[test]
fn one_that_does_not_end_when_it_is_asked_to_is_killed() {
    let text = "cd $1; trap '' TERM; sleep 1000 & echo $! >child; echo $$ >logger; exec 5>&-
        while :; do sleep 1; done";
    let (shim, time) = time_to_leave(text.replace("1000 &", "1000 5>&- &").as_str());
    // The signal to the group was sent, and only the logger itself was waited for.
    assert!(ends_somewhere(pid(&shim, "child")));
    assert!(time > Duration::from_secs(11), "{time:?}");
}

#[test]
fn a_process_whose_logger_has_gone() {
    let text = "exec 5>&-; until test -e $1/end; do sleep 0.01; done";
    let command = "while echo words; do sleep 0.01; done 2>/dev/null; exit 4";
    let mut shim = start(text, detached(&format!("trap '' PIPE; {command}")));
    shim.server.hear_launched();
    std::fs::write(shim.path("end"), "").unwrap();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(4));
    shim.ack();
    shim.assert_leaves();
}

#[test]
fn one_stream_alone() {
    let pipe = Pipe::new();
    let reader = pipe.reader();
    let command = "echo out; echo err >&2";
    let shim = Shim::start();
    let program = logger(&shim, COPY);
    shim.order(Launch { stdout: program, stderr: pipe.name(), ..detached(command) });
    shim.server.hear_launched();
    shim.server.hear_exited();
    assert_eq!(read_all(reader), b"err\n");
    eventually(|| shim.path("over").exists());
    assert_eq!((read(&shim, "out"), read(&shim, "err")), ("out\n".into(), String::new()));

    let shim = Shim::start();
    let stderr = logger(&shim, COPY);
    shim.order(Launch { stdout: "/dev/null".into(), stderr, ..detached(command) });
    shim.server.hear_launched();
    shim.server.hear_exited();
    eventually(|| shim.path("over").exists());
    assert_eq!((read(&shim, "out"), read(&shim, "err")), (String::new(), "err\n".into()));
}

#[test]
fn stdout_s_program_reads_stderr_too() {
    let mut shim = Shim::start();
    let stdout = logger(&shim, COPY);
    shim.order(Launch { stdout, ..detached("echo out; echo err >&2") });
    shim.server.hear_launched();
    shim.server.hear_exited();
    shim.ack();
    shim.assert_leaves();
    assert_eq!((read(&shim, "out"), read(&shim, "err")), ("out\n".into(), "err\n".into()));
}

#[test]
fn a_terminal_s_output() {
    let bundle = Bundle::new("stty -opost; echo err >&2; cat; head -c 300000 /dev/zero", true);
    let (mut shim, stdin) = (Shim::start(), Pipe::new());
    let stdout = logger(&shim, COPY);
    shim.order(Launch { stdin: stdin.name(), stdout, ..bundle.run(&shim) });
    shim.server.hear_launched();
    shim.server.say(&ToShim::CloseStdin);
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
    shim.ack();
    shim.assert_leaves();
    assert_eq!((read(&shim, "out").len(), read(&shim, "err")), (300_004, String::new()));
    assert_eq!(read(&shim, "over"), "over\n");
}

#[test]
fn a_terminal_whose_logger_has_gone() {
    let command = "until test -e /go; do sleep 0.01; done; head -c 300000 /dev/zero; exit 7";
    let bundle = Bundle::new(command, true);
    let mut shim = Shim::start();
    let stdout = logger(&shim, "exec 5>&-; until test -e $1/end; do sleep 0.01; done");
    shim.order(Launch { stdout, ..bundle.run(&shim) });
    shim.server.hear_launched();
    std::fs::write(shim.path("end"), "").unwrap();
    // The process is its only child, and the shim does not poll a pipe that nobody reads.
    let children = format!("/proc/{0}/task/{0}/children", shim.id());
    eventually(|| std::fs::read_to_string(&children).unwrap().split_whitespace().count() == 1);
    eventually(|| shim.is_idle_for(MOMENT));
    std::fs::write(bundle.path("rootfs/go"), "").unwrap();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(7));
    shim.ack();
    shim.assert_leaves();
}
