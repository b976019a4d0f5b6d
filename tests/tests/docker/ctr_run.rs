//! `ctr run --rootfs`.

use std::{fs, io::Write, process::Stdio};

use gantry_tests::{runtime::write_script, terminal::Terminal};

use crate::{
    ctr_tasks,
    host::{Host, code, eventually, fails, succeeds},
};

/// Arguments that run a shell script.
fn run<'a>(options: &[&'a str], rootfs: &'a str, id: &'a str, script: &'a str) -> Vec<&'a str> {
    let fixed = ["run", "--env", "PATH=/bin", "--rootfs"];
    [&fixed[..], options, &[rootfs, id, "sh", "-c", script]].concat()
}

#[tokio::test]
async fn run_prints_ends_with_the_exit_code_and_removes_the_container() {
    let host = Host::make().await;
    let rootfs = host.text("rootfs");
    let script = "echo out; echo err >&2; exit 4";
    let output = host.ctr(&run(&["--rm"], &rootfs, "one", script)).output().expect("run ctr");
    assert_eq!(code(&output), 4);
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    let options =
        ["--rm", "--env", "MORE=x", "--cwd", "/tmp", "--runtime", "io.containerd.runc.v1"];
    let output = succeeds(host.ctr(&run(&options, &rootfs, "one", "pwd; echo $MORE")));
    assert_eq!(output, "/tmp\nx\n");
    let root = host.text("runc-root");
    let options = ["--rm", "--runc-binary", "/usr/sbin/runc", "--runc-root", &root];
    let output = succeeds(host.ctr(&run(&options, &rootfs, "one", "sleep 0.1; echo other root")));
    assert_eq!(output, "other root\n");
    assert!(host.path("runc-root").exists(), "runc was given its root");
    let options = ["--rm", "--null-io"];
    assert_eq!(succeeds(host.ctr(&run(&options, &rootfs, "one", "echo nothing"))), "");
    host.finish().await;
}

#[tokio::test]
async fn a_run_that_fails_leaves_no_task() {
    let host = Host::make().await;
    let fixed = ["run", "--rm", "--rootfs", "--env", "PATH=/bin"];
    let rootfs = host.text("rootfs");
    let (_, text) = fails(host.ctr(&[&fixed[..], &[&rootfs, "one", "nosuch"]].concat()));
    let says = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start \
                container process: exec: \"nosuch\": executable file not found in $PATH: unknown";
    assert!(text.contains(says), "{text}");
    let runtime = ["--runtime", "io.containerd.nosuch.v1", &rootfs, "one", "true"];
    let (_, text) = fails(host.ctr(&[&fixed[..], &runtime].concat()));
    assert!(text.contains("io.containerd.nosuch.v1"), "{text}");
    let missing = host.text("no-rootfs");
    fails(host.ctr(&[&fixed[..], &[&missing, "one", "true"]].concat()));
    host.finish().await;
}

#[tokio::test]
async fn a_detached_run_leaves_a_task_and_its_pid() {
    let host = Host::make().await;
    let (rootfs, file) = (host.text("rootfs"), host.text("pid"));
    let options = ["--detach", "--pid-file", &file];
    succeeds(host.ctr(&run(&options, &rootfs, "one", ctr_tasks::WAITS)));
    let (pid, status) = ctr_tasks::task(&host, "one").expect("a task");
    assert_eq!(status, "RUNNING");
    assert_eq!(fs::read_to_string(&file).expect("a pid file"), pid.to_string());
    ctr_tasks::remove(&host, "one").await;
    host.finish().await;
}

#[tokio::test]
async fn run_with_a_terminal_is_interactive() {
    let host = Host::make().await;
    let rootfs = host.text("rootfs");
    // ctr sizes the terminal at some time after the start.
    let script = "tty; echo ready; read line; until [ \"$(stty size)\" = '33 91' ]; do sleep 0.05; done; \
                  echo \"got $line\"; exit 6";
    let command = host.ctr(&run(&["--rm", "--tty"], &rootfs, "one", script));
    let mut terminal = Terminal::run(&command, 91, 33);
    let shown = terminal.until("ready").await;
    assert!(shown.contains("/dev/pts/0"), "{shown}");
    terminal.type_in("hello\n").await;
    terminal.until("got hello").await;
    assert_eq!(terminal.end().await.code(), Some(6));
    host.finish().await;
}

#[tokio::test]
async fn what_is_piped_in_arrives() {
    let host = Host::make().await;
    let rootfs = host.text("rootfs");
    let script = "while read line && [ \"$line\" != end ]; do echo \"got $line\"; done";
    let mut command = host.ctr(&run(&["--rm"], &rootfs, "one", script));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run ctr");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"one\ntwo\nend\n").expect("write");
    let output = child.wait_with_output().expect("wait for ctr");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "got one\ngot two\n");
    host.finish().await;
}

#[tokio::test]
async fn output_can_go_to_a_file_or_a_logger() {
    let host = Host::make().await;
    let rootfs = host.text("rootfs");
    let script = "echo out; echo err >&2";
    let file = host.path("logs/one.log");
    let uri = format!("file://{}", file.display());
    succeeds(host.ctr(&run(&["--detach", "--log-uri", &uri], &rootfs, "one", script)));
    ctr_tasks::becomes(&host, "one", "STOPPED").await;
    ctr_tasks::remove(&host, "one").await;
    assert_eq!(fs::read_to_string(&file).expect("the log"), "out\nerr\n");
    // stdout and stderr are descriptors 3 and 4 of the logger; closing 5 says that it is ready.
    // containerd sends it SIGTERM at the end, which it may ignore until it has read all.
    let logged = host.path("logged");
    let text = format!(
        "#!/bin/sh\ntrap '' TERM\nexec 5>&-\n{{ echo \"$CONTAINER_NAMESPACE $CONTAINER_ID $*\"; cat <&3; cat <&4; \
         echo end; }} > {}\n",
        logged.display()
    );
    let logger = host.path("logger");
    write_script(&logger, &text);
    let uri = format!("binary://{}?key=value", logger.display());
    succeeds(host.ctr(&run(&["--detach", "--log-uri", &uri], &rootfs, "two", script)));
    ctr_tasks::becomes(&host, "two", "STOPPED").await;
    ctr_tasks::remove(&host, "two").await;
    let expected = format!("{} two key value\nout\nerr\nend\n", host.name());
    let written = || fs::read_to_string(&logged).unwrap_or_default();
    eventually("the logger sees the end", || written().ends_with("end\n")).await;
    assert_eq!(written(), expected);
    host.finish().await;
}
