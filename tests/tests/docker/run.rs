//! `docker run`: output, exit codes, terminals, stdin, and starts that fail.

use std::{io::Write, process::Stdio};

use gantry_tests::terminal::Terminal;

use crate::{
    dockerd::{Docker, IMAGE},
    host,
};

#[tokio::test]
async fn run_prints_and_ends_with_the_exit_code() {
    let docker = Docker::start().await;
    let script = "echo out; echo err >&2; exit 7";
    let output = docker.output(&["run", "--rm", IMAGE, "sh", "-c", script]);
    assert_eq!(host::code(&output), 7);
    assert_eq!(
        (host::text(output.stdout), host::text(output.stderr)),
        ("out\n".into(), "err\n".into())
    );
    assert_eq!(docker.ok(&["run", "--rm", IMAGE, "echo", "hello"]), "hello");
    assert_eq!(docker.ok(&["ps", "--all", "--quiet"]), "", "--rm removes them");
    let id = docker.ok(&["run", "--detach", IMAGE, "sh", "-c", "echo later; exit 3"]);
    assert_eq!(docker.ok(&["wait", &id]), "3");
    assert_eq!(docker.ok(&["logs", &id]), "later");
    docker.ok(&["start", &id]);
    assert_eq!(docker.ok(&["wait", &id]), "3");
    assert_eq!(docker.ok(&["logs", &id]), "later\nlater", "it can be started again");
    docker.finish().await;
}

#[tokio::test]
async fn all_of_much_output_arrives() {
    let docker = Docker::start().await;
    let script = "seq 1 100000; seq 1 50000 >&2";
    let output = docker.output(&["run", "--name", "much", IMAGE, "sh", "-c", script]);
    let lines = |count: u32| (1..=count).map(|n| format!("{n}\n")).collect::<String>();
    assert!(host::text(output.stdout) == lines(100_000), "all of stdout");
    assert!(host::text(output.stderr) == lines(50_000), "all of stderr");
    let logs = docker.output(&["logs", "much"]);
    assert!(host::text(logs.stdout) == lines(100_000), "all of stdout is in the log");
    assert!(host::text(logs.stderr) == lines(50_000), "all of stderr is in the log");
    docker.finish().await;
}

#[tokio::test]
async fn a_failed_start_is_reported_with_code_and_text() {
    let docker = Docker::start().await;
    for (name, program, code, says) in [
        ("missing", "nosuch", "127", r#"exec: "nosuch": executable file not found in $PATH"#),
        ("nopath", "/no/such", "127", "no such file or directory"),
        ("directory", "/etc", "126", "permission denied"),
    ] {
        let (status, text) = docker.fails(&["run", "--name", name, IMAGE, program]);
        assert_eq!(status.to_string(), code, "{text}");
        assert!(text.contains(says) && text.contains("OCI runtime create failed"), "{text}");
        assert_eq!(docker.exit_code(name), format!("created {code}"));
        let error = docker.inspect(name, "{{.State.Error}}");
        assert!(error.contains(says), "{error}");
        let (_, again) = docker.fails(&["start", name]);
        assert!(again.contains(says), "{again}");
    }
    // The daemon and its server work on.
    assert_eq!(docker.ok(&["run", "--rm", IMAGE, "echo", "well"]), "well");
    docker.finish().await;
}

#[tokio::test]
async fn run_with_a_terminal_is_interactive() {
    let docker = Docker::start().await;
    let script = "trap 'echo size; stty size' WINCH; echo ready; \
                  while :; do read line && [ \"$line\" = bye ] && break; done; exit 4";
    let run = docker.docker(&[
        "run",
        "--interactive",
        "--tty",
        "--name",
        "shell",
        IMAGE,
        "sh",
        "-c",
        script,
    ]);
    let mut terminal = Terminal::run(&run, 97, 31);
    terminal.until("ready").await;
    let exec = ["exec", "--tty", "shell", "sh", "-c", "tty; test -t 1"];
    assert_eq!(docker.ok(&exec).trim_end(), "/dev/pts/1");
    terminal.resize(83, 29);
    terminal.until("29 83").await;
    // What leaves a container with a terminal to itself.
    terminal.type_in("\x10\x11").await;
    assert!(terminal.end().await.success());
    assert_eq!(docker.running(), ["shell"]);
    let mut terminal = Terminal::run(&docker.docker(&["attach", "shell"]), 80, 24);
    terminal.until("24 80").await;
    terminal.type_in("bye\n").await;
    assert_eq!(terminal.end().await.code(), Some(4));
    assert_eq!(docker.exit_code("shell"), "exited 4");
    docker.finish().await;
}

#[tokio::test]
async fn stdin_is_passed_through_to_its_end() {
    let docker = Docker::start().await;
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    for arguments in [
        vec!["run", "--rm", "--interactive", IMAGE, "cat"],
        vec!["exec", "--interactive", "service", "cat"],
    ] {
        if arguments[0] == "exec" {
            docker.run_service("service", &[]).await;
        }
        let mut command = docker.docker(&arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("run docker");
        let mut stdin = child.stdin.take().expect("a pipe");
        let written = input.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&written));
        let output = child.wait_with_output().expect("wait for docker");
        writer.join().expect("no panic").expect("write all");
        assert!(output.status.success() && output.stdout == input, "{arguments:?}");
    }
    docker.finish().await;
}
