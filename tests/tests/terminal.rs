//! Processes with a terminal.

use std::{fs, time::Duration};

use Runtime::{Crun, Runc};
use gantry_tests::{Runtime, Server, improves, pipes::PipePaths};
use rstest::rstest;
use rustix::pipe::fcntl_setpipe_size;
use serde_json::json;

/// The original hands a terminal's socket to crun as something else.
async fn start(runtime: Runtime) -> Option<Server> {
    if runtime == Crun && improves("a terminal on crun") {
        return None;
    }
    Server::start(runtime).await
}

#[rstest]
#[tokio::test]
async fn all_three_streams_are_the_terminal(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    let script = "for n in 0 1 2; do test -t $n && echo $n; done; echo error >&2; tty; \
        echo control > /dev/tty";
    let mut container = server.container("c").terminal().sh(script).create().await.unwrap();
    assert!(container.state().await.map_or(true, |state| state.processes[0].terminal));
    let output = container.init.pipes().stdout_text().await;
    assert_eq!(output, "0\r\n1\r\n2\r\nerror\r\n/dev/pts/0\r\ncontrol\r\n");
    assert_eq!(container.init.exit().await, 0);
    server.finish().await;
}

/// Also when the process exits at once, with its output still in the kernel's buffers.
#[rstest]
#[tokio::test]
async fn output_is_byte_exact(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    for exponent in [8, 10, 11, 12, 13, 15, 16, 17, 20] {
        let power = 2_usize.pow(exponent);
        for size in [power - 1, power, power + 1] {
            let script = format!("head -c {size} /dev/zero | tr '\\0' x");
            let container = server.container(&format!("c{size}")).terminal().sh(&script);
            let mut container = container.create().await.unwrap();
            let output = container.init.pipes().stdout().await;
            assert_eq!(output.len(), size);
            assert!(output.iter().all(|byte| *byte == b'x'));
            assert_eq!(container.init.exit().await, 0);
        }
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn output_is_in_the_pipe_by_the_exit(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    for round in 0..10 {
        let exec = container.exec(&format!("e{round}")).terminal(None).sh("echo last words");
        let mut exec = exec.start().await.unwrap();
        exec.exit().await;
        let mut buffer = [0; 100];
        let stdout = exec.pipes().stdout.as_mut().unwrap();
        let count = stdout.try_read(&mut buffer).expect("it is there without waiting");
        assert_eq!(&buffer[..count], b"last words\r\n");
    }
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn input_is_byte_exact(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    // Much more than a terminal holds, into a reader that begins late: it has to wait.
    const SIZE: usize = 300_000;
    let script = format!("stty raw -echo; echo ready; sleep 0.3; head -c {SIZE} | md5sum");
    let mut container = server.container("c").terminal().sh(&script).create().await.unwrap();
    let pipes = container.init.pipes();
    pipes.stdout_until("ready").await;
    let input: Vec<u8> = (0..=255).cycle().take(SIZE).collect();
    pipes.write(&input).await;
    let path = server.work().join("input");
    fs::write(&path, &input).unwrap();
    let expected = std::process::Command::new("md5sum").arg(&path).output().unwrap().stdout;
    let expected = String::from_utf8(expected).unwrap();
    pipes.stdout_until(&expected[..32]).await;
    assert_eq!(container.init.exit().await, 0);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_size_is_right_from_the_first_byte(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    let container = server.container("c").terminal().sh("stty size; cat").config(|config| {
        config["process"]["consoleSize"] = json!({ "width": 123, "height": 45 });
    });
    let mut container = container.create().await.unwrap();
    container.init.pipes().stdout_until("45 123\r\n").await;
    if !improves("the original has no way to ask for the size of an exec") {
        // crun 1.8 lets the program of an exec run before the terminal has a size: it comes soon.
        let script = match runtime {
            Runc => "stty size",
            Crun => "until [ \"$(stty size 2> /dev/null)\" ]; do :; done; stty size",
        };
        let exec = container.exec("e").terminal(Some((77, 33))).sh(script);
        let mut exec = exec.start().await.unwrap();
        assert_eq!(exec.pipes().stdout_text().await, "33 77\r\n");
        exec.exit().await;
    }
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_new_size_reaches_the_process(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut container = server.container("c").terminal().sh(script).create().await.unwrap();
    let mut exec = container.exec("e").terminal(None).sh(script).start().await.unwrap();
    for process in [&mut container.init, &mut exec] {
        process.pipes().stdout_until("ready\r\n").await;
        process.resize(100, 40).await.unwrap();
        process.pipes().stdout_until("40 100\r\n").await;
        process.resize(81, 25).await.unwrap();
        process.pipes().stdout_until("25 81\r\n").await;
        process.resize(999, 500).await.unwrap();
        process.pipes().stdout_until("500 999\r\n").await;
    }
    container.init.kill().await;
    server.finish().await;
}

/// A daemon passes a size on without knowing whether there is a terminal.
#[tokio::test]
async fn a_size_without_a_terminal_changes_nothing() {
    let Some(server) = Server::start(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    for process in [&container.init, &exec] {
        process.resize(100, 40).await.unwrap();
        process.resize(0, 0).await.unwrap();
        process.signal(0).await.unwrap();
    }
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn keys_do_what_they_do(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    let script = "trap 'echo interrupted' INT; echo ready; cat; cat; echo end; exit 6";
    let mut container = server.container("c").terminal().sh(script).create().await.unwrap();
    let pipes = container.init.pipes();
    pipes.stdout_until("ready\r\n").await;
    pipes.write(b"typed\n").await;
    // Once as the echo, once from cat.
    pipes.stdout_until("typed\r\ntyped\r\n").await;
    pipes.write(b"\x03").await;
    pipes.stdout_until("interrupted\r\n").await;
    pipes.write(b"second\n\x04").await;
    pipes.stdout_until("end\r\n").await;
    assert_eq!(container.init.exit().await, 6);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_end_of_stdin_is_the_end_of_input(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("on the original a terminal's reader never sees the end") {
        return;
    }
    let Some(server) = start(runtime).await else { return };
    let container = server.container("c").terminal().sh("cat; echo end; exit 3");
    let mut container = container.create().await.unwrap();
    container.init.pipes().write(b"text\n").await;
    container.init.close_stdin().await.unwrap();
    container.init.pipes().stdout_until("end\r\n").await;
    assert_eq!(container.init.exit().await, 3);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_caller_may_leave_and_come_back(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    let mut container = server.container("c").terminal().args(&["sh"]).create().await.unwrap();
    let pipes = container.init.pipes();
    for round in 1..4 {
        pipes.write(format!("echo $(({round} * 111))\n").as_bytes()).await;
        pipes.stdout_until(&format!("{}\r\n", round * 111)).await;
        pipes.hang_up();
        pipes.reopen();
    }
    assert!(!container.init.has_exited(), "no hang-up");
    container.init.pipes().write(b"exit 2\n").await;
    assert_eq!(container.init.exit().await, 2);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_writer_waits_for_its_reader(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
    let mut container = server.container("c").terminal().sh(script).create().await.unwrap();
    let pipes = container.init.pipes();
    let mut all = pipes.stdout_until("line 100\r\n").await;
    pipes.hang_up();
    assert!(!container.init.ends_within(Duration::from_millis(200)).await);
    let pipes = container.init.pipes();
    pipes.reopen();
    all += &pipes.stdout_text().await;
    let expected: String = (0..20000).map(|n| format!("line {n}\r\n")).collect();
    assert!(all == expected, "{} of {} bytes", all.len(), expected.len());
    assert_eq!(container.init.exit().await, 0);
    server.finish().await;
}

/// The process has ended, its last output does not fit into the pipe, and nobody reads: the exit is
/// published all the same, and the output stays readable for a while.
#[rstest]
#[tokio::test]
async fn an_exit_waits_for_no_reader(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original waits") {
        return;
    }
    // Whoever waited for a reader would wait longer than this test does.
    let setup = Server::setup(runtime).arguments(&["--linger", "10m"]);
    let Some(server) = setup.start().await else { return };
    // One page is in the pipe; the terminal holds the rest.
    const SIZE: usize = 4096 + 2000;
    let paths = PipePaths::make(&server.work().join("late"), "init");
    let mut pipes = paths.clone().open();
    fcntl_setpipe_size(pipes.stdout.as_ref().unwrap(), 4096).unwrap();
    let script = format!("head -c {SIZE} /dev/zero | tr '\\0' x; exit 5");
    let container = server.container("c").terminal().without_pipes().sh(&script);
    let container = container.request(|request| {
        request.stdin = paths.stdin.to_str().unwrap().to_owned();
        request.stdout = paths.stdout.to_str().unwrap().to_owned();
    });
    let container = container.create().await.unwrap();
    assert_eq!(container.init.exit().await, 5);
    assert_eq!(pipes.stdout().await.len(), SIZE);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_terminal_in_a_container_without_one(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").terminal(None).sh("read line; echo \"<$line>\"; exit 9");
    let mut exec = exec.start().await.unwrap();
    exec.pipes().write(b"hello\n").await;
    assert_eq!(exec.pipes().stdout_text().await, "hello\r\n<hello>\r\n");
    assert_eq!(exec.exit().await, 9);
    container.init.kill().await;
    server.finish().await;
}

/// A child that holds the terminal keeps neither the exit back nor the output open for ever.
#[rstest]
#[tokio::test]
async fn an_exit_waits_for_no_child_with_the_terminal(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original waits for the terminal's hang-up") {
        return;
    }
    let Some(server) = start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let script = "setsid sleep 1000000 & echo here; exit 4";
    let mut exec = container.exec("e").terminal(None).sh(script).start().await.unwrap();
    assert_eq!(exec.exit().await, 4);
    assert_eq!(exec.pipes().stdout_until("here\r\n").await, "here\r\n");
    container.init.kill().await;
    server.finish().await;
}
