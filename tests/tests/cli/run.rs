//! Containers that are run, looked at and ended.

use std::{io::Write, path::Path, process::Stdio};

use Runtime::{Crun, Runc};
use gantry_tests::{Runtime, processes, reading::Reading, terminal::Terminal};
use rstest::rstest;
use rustix::process::Signal;

use crate::{Bed, bed::BUNDLES, json_lines, output, stderr, stdout, succeeds, with_input};

#[rstest]
#[tokio::test]
async fn run_is_as_if_the_program_ran_here(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(bed) = Bed::make(runtime).await else { return };
    for status in [0, 1, 42, 255] {
        let script = format!("echo out; echo err >&2; exit {status}");
        let output = output(&bed.run(&["--rm"], "c", &["sh", "-c", &script]));
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert_eq!((stdout(&output), stderr(&output)), ("out\n", "err\n"));
    }
    bed.finish().await;
}

#[rstest]
#[tokio::test]
async fn standard_input_goes_through(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(bed) = Bed::make(runtime).await else { return };
    let input: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let output = with_input(bed.run(&["--rm", "-i"], "c", &["cat"]), input.clone());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(output.stdout == input, "{} of {} bytes", output.stdout.len(), input.len());
    // Without -i there is none.
    let output = with_input(bed.run(&["--rm"], "c", &["cat"]), b"not for it".to_vec());
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), ""));
    bed.finish().await;
}

#[rstest]
#[tokio::test]
async fn options_reach_the_container(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(bed) = Bed::make(runtime).await else { return };
    let options = [
        "--rm",
        "-e",
        "A=b c",
        "-e",
        "EMPTY=",
        "--cwd",
        "/tmp",
        "--user",
        "12:34",
        "--hostname",
        "a-host",
        "--memory",
        "64m",
    ];
    let script = "pwd; id -u; id -g; hostname; echo $A; env | grep EMPTY; ls /sys/class/net";
    let output = output(&bed.run(&options, "c", &["sh", "-c", script]));
    assert_eq!(stdout(&output), "/tmp\n12\n34\na-host\nb c\nEMPTY=\nlo\n", "{output:?}");
    let other = if runtime == Runc { "crun" } else { "runc" };
    // A hybrid host is no place for crun, unless the server has been kept from seeing it.
    if runtime == Crun || !Runtime::Crun.needs_pure_v1() {
        let state = ["--rm", "--runtime", other];
        let output = self::output(&bed.run(&state, "c", &["echo", "on another runtime"]));
        assert_eq!(stdout(&output), "on another runtime\n", "{output:?}");
    }
    bed.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_cannot_be_run_has_a_status_of_its_own(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(bed) = Bed::make(runtime).await else { return };
    let status = |program: &str| {
        let output = output(&bed.run(&["--rm"], "c", &[program]));
        assert!(stderr(&output).starts_with("gantry: "), "{output:?}");
        output.status.code()
    };
    assert_eq!(status("no-such-program"), Some(127));
    assert_eq!(status("/bin/no-such-program"), Some(127));
    assert_eq!(status("/etc/passwd"), Some(126));
    assert_eq!(status("/tmp"), Some(126));
    let nothing = output(&bed.run(&["--rm", "--rootfs", "/no/such"], "c", &["true"]));
    assert_eq!(nothing.status.code(), Some(125), "{nothing:?}");
    bed.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_container_in_the_background(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(bed) = Bed::make(runtime).await else { return };
    succeeds(&bed.run(&["-d"], "c", &["sleep", "1000000"]));
    let twice = output(&bed.run(&["-d"], "c", &["true"]));
    assert_eq!(twice.status.code(), Some(125), "{twice:?}");

    let rows = json_lines(&succeeds(&bed.gantry(&["ps", "--json"])));
    let [row] = rows.as_slice() else { panic!("one container: {rows:?}") };
    assert_eq!((&row["id"], &row["status"]), (&bed.id("c").into(), &"running".into()));
    assert!(succeeds(&bed.gantry(&["ps"])).contains(&bed.id("c")));
    assert!(succeeds(&bed.gantry(&["ps", "@c"])).contains("sleep 1000000"));

    let exec = output(&bed.gantry(&["exec", "@c", "sh", "-c", "echo in exec; echo e >&2; exit 5"]));
    assert_eq!(exec.status.code(), Some(5));
    assert_eq!((stdout(&exec), stderr(&exec)), ("in exec\n", "e\n"));
    let copied = with_input(bed.gantry(&["exec", "-i", "@c", "cat"]), b"through an exec".to_vec());
    assert_eq!(stdout(&copied), "through an exec");
    let missing = output(&bed.gantry(&["exec", "@c", "no-such-program"]));
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    succeeds(&bed.gantry(&["exec", "-d", "--pid", "side", "@c", "sleep", "1000000"]));
    assert!(succeeds(&bed.gantry(&["ps", "@c"])).contains("side"));

    succeeds(&bed.gantry(&["pause", "@c"]));
    assert!(succeeds(&bed.gantry(&["ps"])).contains("paused"));
    let frozen = output(&bed.gantry(&["exec", "@c", "true"]));
    assert_eq!(frozen.status.code(), Some(125), "{frozen:?}");
    succeeds(&bed.gantry(&["resume", "@c"]));

    succeeds(&bed.gantry(&["update", "-m", "64m", "--cpus", "0.5", "--pids-limit", "40", "@c"]));
    let stats = json_lines(&succeeds(&bed.gantry(&["stats", "--no-stream", "--json", "@c"])));
    assert_eq!(stats.len(), 1, "{stats:?}");
    assert!(stats[0].to_string().contains(&(64 << 20).to_string()), "{stats:?}");

    succeeds(&bed.gantry(&["kill", "-s", "KILL", "--pid", "side", "@c"]));
    succeeds(&bed.gantry(&["kill", "-s", "9", "@c"]));
    let service = &bed.server.service;
    assert_eq!(service.events.wait_exit(0, &bed.id("c"), "init").await, 137);
    let gone = output(&bed.gantry(&["exec", "@c", "true"]));
    assert!(stderr(&gone).contains("container not found"), "{gone:?}");
    let gone = output(&bed.gantry(&["kill", "@c"]));
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");

    let events = succeeds(&bed.gantry(&["events", "--since", "10m", "--stored", "--json"]));
    let events = json_lines(&events);
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types.first(), Some(&"start-container"));
    assert_eq!(types.iter().filter(|kind| **kind == "exit").count(), 4, "{types:?}");
    assert!(types.contains(&"pause") && types.contains(&"resume"), "{types:?}");
    bed.finish().await;
}

#[tokio::test]
async fn a_bundle_stays_unless_it_is_not_wanted() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let bundle = |id: &str| Path::new(BUNDLES).join(bed.id(id));
    succeeds(&bed.run(&[], "kept", &["true"]));
    assert!(bundle("kept").join("config.json").exists());
    succeeds(&bed.run(&["--rm"], "removed", &["true"]));
    assert!(!bundle("removed").exists());
    output(&bed.run(&["--rm"], "failed", &["no-such-program"]));
    assert!(!bundle("failed").exists());
    // What is kept is no hindrance to the next of the name.
    succeeds(&bed.run(&["--rm"], "kept", &["true"]));
    assert!(!bundle("kept").exists());
    bed.finish().await;
}

#[rstest]
#[tokio::test]
async fn signals_are_passed_on(#[values(Signal::TERM, Signal::INT, Signal::USR1)] signal: Signal) {
    let Some(bed) = Bed::make(Runc).await else { return };
    let script = "trap 'exit 33' TERM INT USR1; echo ready; while :; do sleep 0.02; done";
    let mut command = bed.run(&["--rm"], "c", &["sh", "-c", script]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    bed.server.service.events.wait_type(0, &bed.id("c"), "start-container").await;
    let mut child = Reading::of(child);
    child.until("ready\n").await;
    processes::signal(child.pid(), signal);
    assert_eq!(child.end().await, Some(33));
    bed.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_terminal_is_as_if_one_sat_in_it(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(bed) = Bed::make(runtime).await else { return };
    let mut terminal = Terminal::run(&bed.run(&["--rm", "-it"], "c", &["sh"]), 123, 45);
    terminal.type_in("stty size; tty\n").await;
    terminal.until("45 123\r\n").await;
    terminal.until("/dev/pts/0\r\n").await;
    terminal.resize(99, 33);
    let changed = "until [ \"$(stty size)\" = '33 99' ]; do sleep 0.02; done; echo re''sized\n";
    terminal.type_in(changed).await;
    terminal.until("resized\r\n").await;
    // An interrupt is for the program inside.
    terminal.type_in("sh -c 'echo sl\"\"eeps; exec sleep 1000000'\n").await;
    terminal.until("sleeps\r\n").await;
    terminal.type_in("\x03").await;
    terminal.type_in("echo status $?\n").await;
    terminal.until("status 130\r\n").await;

    let exec = bed.gantry(&["exec", "-it", "@c", "sh"]);
    let mut other = Terminal::run(&exec, 70, 20);
    other.type_in("stty size; exit 6\n").await;
    other.until("20 70\r\n").await;
    assert_eq!(other.end().await.code(), Some(6));

    terminal.type_in("exit 5\n").await;
    assert_eq!(terminal.end().await.code(), Some(5));
    bed.finish().await;
}

/// It goes on while the server is away.
#[tokio::test]
async fn events_are_followed_across_a_restart() {
    let Some(mut bed) = Bed::make(Runc).await else { return };
    let mut command = bed.gantry(&["events", "--since", "10m", "--json"]);
    let mut follower = Reading::of(command.stdout(Stdio::piped()).spawn().unwrap());
    succeeds(&bed.run(&["--rm"], "first", &["true"]));
    follower.until(&bed.id("first")).await;
    bed.server.kill().await;
    bed.server.start_again().await;
    succeeds(&bed.run(&["--rm"], "second", &["true"]));
    follower.until(&bed.id("second")).await;
    drop(follower);
    bed.finish().await;
}

#[tokio::test]
async fn a_run_survives_a_restart_of_the_server() {
    let Some(mut bed) = Bed::make(Runc).await else { return };
    let script = "echo before; read line; echo \"after $line\"; exit 9";
    let mut command = bed.run(&["--rm", "-i"], "c", &["sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut run = Reading::of(child);
    run.until("before\n").await;
    bed.server.kill().await;
    stdin.write_all(b"the restart\n").unwrap();
    run.until("after the restart\n").await;
    bed.server.start_again().await;
    assert_eq!(run.end().await, Some(9));
    bed.finish().await;
}

#[tokio::test]
async fn versions_of_both_are_printed() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let version = succeeds(&bed.gantry(&["version"]));
    assert!(
        version.lines().count() >= 2 && version.contains(env!("CARGO_PKG_VERSION")),
        "{version}"
    );
    bed.finish().await;
}
