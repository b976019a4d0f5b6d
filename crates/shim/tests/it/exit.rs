//! The exit is known, whatever happens to servers and shims.

use std::time::Duration;

use gantry_shim_proto::{Identity, ToShim, WaitStatus};
use rustix::process::Signal;

use crate::harness::{PATIENCE, Pipe, Shim, detached, ends, eventually, read_all, script};

/// Too short for anything to happen that should not.
const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn codes_and_signals() {
    for (command, status) in [
        ("exit 0", WaitStatus::Code(0)),
        ("exit 42", WaitStatus::Code(42)),
        ("exit 255", WaitStatus::Code(255)),
        ("kill -9 $(exec sh -c 'echo $PPID')", WaitStatus::Signal(9)),
        ("kill -40 $(exec sh -c 'echo $PPID')", WaitStatus::Signal(40)),
    ] {
        let mut shim = Shim::launch(detached(command));
        let (pid, pidfd) = shim.server.hear_launched();
        assert!(ends(&pidfd));
        assert_eq!(shim.server.hear_exited(), status, "{command}");
        assert_eq!(shim.exit_file().status, status, "{command}");
        let started = std::fs::read_to_string(shim.path("started.json")).unwrap();
        let identity = Identity::from_json(&started).unwrap();
        assert_eq!(identity.pid, pid);
        assert_eq!(identity.pidfd_inode, rustix::fs::fstat(&pidfd).unwrap().st_ino);
        assert_ne!(identity.start_time, 0);
        assert!(!shim.leaves_within(Duration::from_millis(20)), "before the acknowledgement");
        shim.ack();
        shim.assert_leaves();
    }
}

#[test]
fn a_server_that_connects_later_gets_every_report() {
    let mut shim = Shim::launch(detached("until test -e go; do sleep 0.01; done; exit 5"));
    let (pid, _) = shim.server.hear_launched();
    shim.hang_up();
    assert!(!shim.leaves_within(MOMENT));
    let second = shim.connect();
    assert_eq!(second.hear_launched().0, pid);
    let third = shim.connect();
    assert_eq!(third.hear_launched().0, pid);
    std::fs::write(shim.path("go"), "").unwrap();
    assert_eq!(second.hear_exited(), WaitStatus::Code(5));
    assert_eq!(third.hear_exited(), WaitStatus::Code(5));
    let fourth = shim.connect();
    let (_, pidfd) = fourth.hear_launched();
    assert!(ends(&pidfd));
    assert_eq!(fourth.hear_exited(), WaitStatus::Code(5));
    drop((second, third));
    assert!(!shim.leaves_within(MOMENT));
    fourth.say(&ToShim::Ack);
    shim.assert_leaves();
}

#[test]
fn without_a_server_the_exit_is_on_disk() {
    let mut shim = Shim::launch(detached("until test -e go; do sleep 0.01; done; exit 5"));
    shim.server.hear_launched();
    shim.hang_up();
    std::fs::write(shim.path("go"), "").unwrap();
    shim.assert_leaves();
    assert_eq!(shim.exit_file().status, WaitStatus::Code(5));
    assert!(!shim.path("exit.json.tmp").exists());
}

/// A shim without a server, whose process has ended with 5 and whose exit.json cannot be written.
fn with_unwritten_exit() -> Shim {
    let mut shim = Shim::launch(detached("until test -e go; do sleep 0.01; done; exit 5"));
    shim.server.hear_launched();
    // A file cannot be renamed over a directory.
    std::fs::create_dir(shim.path("exit.json")).unwrap();
    std::fs::write(shim.path("go"), "").unwrap();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(5));
    shim.hang_up();
    shim
}

#[test]
fn an_exit_that_cannot_be_written_waits_for_a_server() {
    let mut shim = with_unwritten_exit();
    assert!(!shim.leaves_within(MOMENT));
    let server = shim.connect();
    server.hear_launched();
    assert_eq!(server.hear_exited(), WaitStatus::Code(5));
    server.say(&ToShim::Ack);
    shim.assert_leaves();
}

#[test]
fn an_exit_is_written_as_soon_as_there_is_room() {
    let mut shim = with_unwritten_exit();
    assert!(!shim.leaves_within(MOMENT));
    std::fs::remove_dir(shim.path("exit.json")).unwrap();
    shim.assert_leaves();
    assert_eq!(shim.exit_file().status, WaitStatus::Code(5));
}

#[test]
fn a_shim_that_nobody_can_reach_leaves() {
    let mut shim = with_unwritten_exit();
    std::fs::remove_dir_all(shim.path("")).unwrap();
    shim.assert_leaves();
}

#[test]
fn an_early_acknowledgement_counts_for_nothing() {
    let mut shim = Shim::launch(detached("until test -e go; do sleep 0.01; done"));
    shim.server.hear_launched();
    shim.ack();
    std::fs::write(shim.path("go"), "").unwrap();
    shim.server.hear_exited();
    assert!(!shim.leaves_within(MOMENT));
    shim.ack();
    shim.assert_leaves();
}

#[test]
fn no_signal_makes_a_shim_lose_the_exit() {
    let mut shim = Shim::launch(detached("until test -e go; do sleep 0.01; done; exit 5"));
    shim.server.hear_launched();
    for signal in [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::PIPE,
        Signal::ALARM,
        Signal::TERM,
        Signal::USR1,
        Signal::USR2,
        Signal::CHILD,
        Signal::TSTP,
        Signal::TTIN,
        Signal::TTOU,
    ] {
        shim.signal(signal);
    }
    assert!(!shim.leaves_within(MOMENT));
    // A stopped shim notices when it is continued.
    shim.signal(Signal::STOP);
    std::fs::write(shim.path("go"), "").unwrap();
    assert!(shim.server.says_nothing_for(MOMENT));
    shim.signal(Signal::CONT);
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(5));
    shim.ack();
    shim.assert_leaves();
}

#[test]
fn orphans_are_reaped() {
    let orphans = "for i in 1 2 3 4 5; do (sh -c 'sleep 0.02; echo x >> done' &); done; sleep 1000";
    let shim = Shim::launch(detached(orphans));
    let (pid, _) = shim.server.hear_launched();
    let done = || std::fs::read_to_string(shim.path("done")).unwrap_or_default();
    eventually(|| done().lines().count() == 5);
    let children = format!("/proc/{0}/task/{0}/children", shim.id());
    eventually(|| std::fs::read_to_string(&children).unwrap().trim() == pid.to_string());
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Signal(9));
}

#[test]
fn a_process_that_ended_before_its_runtime_did() {
    let mut shim =
        Shim::launch(script("sh -c 'sleep 0.05; exit 6' & echo $! > pid; exec sleep 0.2"));
    let (_, pidfd) = shim.server.hear_launched();
    assert!(ends(&pidfd));
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(6));
    shim.ack();
    shim.assert_leaves();
}

#[test]
fn records_of_a_later_version_are_skipped_and_nonsense_ends_the_connection() {
    let mut shim = Shim::launch(detached("until test -e go; do sleep 0.01; done; exit 5"));
    shim.server.hear_launched();
    shim.server.say_bytes(&[9, 200, 1, 2, 3]);
    assert!(shim.server.says_nothing_for(MOMENT));
    // A launch with a length that points nowhere.
    shim.server.say_bytes(&[1, 1, 255, 255, 255, 255]);
    assert!(shim.server.hear().is_none());
    let server = shim.connect();
    server.hear_launched();
    std::fs::write(shim.path("go"), "").unwrap();
    assert_eq!(server.hear_exited(), WaitStatus::Code(5));
    server.say(&ToShim::Ack);
    shim.assert_leaves();
}

#[test]
fn the_runtime_gets_a_clean_start() {
    let pipe = Pipe::new();
    let reader = pipe.reader();
    let text = "ls /proc/$$/fd; exec sed -n '/^Sig[BIC]/p' /proc/self/status";
    let launch = gantry_shim_proto::Launch { stdout: pipe.name(), ..script(text) };
    let shim = Shim::start_badly();
    shim.order(launch);
    let none = "0000000000000000";
    let expected = format!("0\n1\n2\nSigBlk:\t{none}\nSigIgn:\t{none}\nSigCgt:\t{none}\n");
    assert_eq!(String::from_utf8(read_all(reader)).unwrap(), expected);
}

#[test]
fn the_shim_bears_the_name_it_was_given() {
    let shim = Shim::start_as("/somewhere/containerd-shim-name");
    let comm = || std::fs::read_to_string(format!("/proc/{}/comm", shim.id())).unwrap();
    eventually(|| comm() == "containerd-shim\n");
    let mode = || rustix::fs::stat(shim.path("shim.sock")).map(|stat| stat.st_mode & 0o777);
    eventually(|| mode().is_ok_and(|mode| mode == 0o600));
    assert!(!shim.leaves_within(MOMENT));
}

#[test]
fn a_large_launch_fits() {
    // Linux takes arguments of up to 128 KiB each.
    let mut launch = detached("exit 3");
    launch.argv.push("x".repeat(100 * 1024));
    let mut shim = Shim::launch(launch);
    shim.server.hear_launched();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(3));
    shim.ack();
    shim.assert_leaves();
    assert!(shim.leaves_within(PATIENCE));
}
